"""Labels over images: every plane is what the arrays say, whatever way round they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr

from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.widgets.overlays import labels
from dicomlake.widgets.overlays.kept import Kept
from tests.widgets.overlay_support import OnlyOverlays, image_on, turned

SHAPE = (7, 9, 11)
PLANES = ("axial", "coronal", "sagittal")
_SIZE = {"id": "o1", "plane": "oblique", "rows": 5, "cols": 5, "spacing_mm": 1}
_LEVEL = _SIZE | {"center_mm": [0, 0, 0], "u": [1, 0, 0], "v": [0, 1, 0]}


def _displayed(viewer: OnlyOverlays, plane: str, volume: np.ndarray, number: int) -> np.ndarray:
    """The plane of a volume by brute force: every pixel taken through `to_index`."""
    meta = viewer.stack_source.planes[plane]
    out = np.empty((meta.rows, meta.cols), volume.dtype)
    for row in range(meta.rows):
        for col in range(meta.cols):
            z, y, x, _ = np.rint(meta.to_index @ [number, row, col, 1]).astype(int)
            out[row, col] = volume[z, y, x]
    return out


@pytest.mark.parametrize("way", range(0, 24, 5))
def test_planes_of_overlapping_masks_are_slices_of_the_arrays(way: int) -> None:
    rng = np.random.default_rng(way)
    viewer = OnlyOverlays(image_on(turned(rng, (3, 1, 2), way), np.zeros(SHAPE, np.int16)))
    masks = {name: rng.random(SHAPE) > 0.6 for name in ("one", "two", "three")}
    id_ = viewer.add(masks)
    for plane in PLANES:
        number = int(rng.integers(viewer.stack_source.planes[plane].count))
        for value, mask in enumerate(masks.values(), 1):
            expected = _displayed(viewer, plane, mask, number)
            assert np.array_equal(viewer.labels_at(id_, plane, number, value), expected)


def test_numbers_of_a_label_array_arrive_as_they_are_also_negative_ones() -> None:
    rng = np.random.default_rng(3)
    values = rng.choice(np.array([-5, 0, 0, 1, 300, 70_000], np.int32), SHAPE)
    viewer = OnlyOverlays(image_on(turned(rng, (1, 1, 1)), np.zeros(SHAPE, np.int16)))
    id_ = viewer.add(values)
    shown = [one["value"] for one in viewer.overlay(id_).state["labels"]]
    assert shown == [-5, 1, 300, 70_000]
    for value in shown:
        expected = _displayed(viewer, "coronal", values == value, 4)
        assert np.array_equal(viewer.labels_at(id_, "coronal", 4, value), expected)


def test_more_than_255_labels_are_told_apart() -> None:
    values = np.arange(7 * 9 * 11, dtype=np.int32).reshape(SHAPE) % 600
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    id_ = viewer.add(values)
    for value in (1, 255, 256, 257, 599):
        z = int(np.argwhere(values == value)[0][0])
        assert np.array_equal(
            viewer.labels_at(id_, "axial", z, value), _displayed(viewer, "axial", values == value, z)
        )


def test_an_array_with_the_values_of_an_image_is_no_mask() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros((12, 20, 20), np.int16)))
    with pytest.raises(DicomlakeError, match="taken for an image"):
        viewer.add(np.arange(12 * 20 * 20, dtype=np.int32).reshape(12, 20, 20))


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_on_another_grid_is_what_simpleitk_takes_as_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = turned(rng, (2.5, 0.9, 1.1), seed * 7)
    image = image_on(affine, np.zeros((8, 20, 24), np.int16))
    other = turned(rng, (1.7, 2.1, 1.3), seed * 7)
    middle = affine @ [4, 10, 12, 1] + rng.normal(0, 2, 4)
    other[:3, 3] = middle[:3] - other[:3, :3] @ [5, 6, 7]
    mask = image_on(other, rng.integers(0, 4, (10, 12, 14)).astype(np.uint8))
    viewer = OnlyOverlays(image)
    id_ = viewer.add(mask)
    expected = sitk.GetArrayFromImage(
        sitk.Resample(
            mask.dicom.to_sitk(), image.dicom.to_sitk(), sitk.Transform(), sitk.sitkNearestNeighbor, 0
        )
    )
    assert 0.05 < (expected > 0).mean() < 0.95
    for plane in PLANES:
        number = viewer.stack_source.planes[plane].count // 2
        for value in (1, 2, 3):
            assert np.array_equal(
                viewer.labels_at(id_, plane, number, value),
                _displayed(viewer, plane, expected == value, number),
            )


def test_an_oblique_plane_through_voxels_shows_the_nearest() -> None:
    rng = np.random.default_rng(8)
    mask = rng.random(SHAPE) > 0.5
    viewer = OnlyOverlays(image_on(np.diag([-1.0, 1, 1, 1]), np.zeros(SHAPE, np.int16)))
    id_ = viewer.add(mask)
    affine = viewer.stack_source.affine
    ask = {
        "center_mm": (affine @ [3, 4, 5, 1])[:3].tolist(),
        "u": affine[:3, 2].tolist(),
        "v": affine[:3, 1].tolist(),
    }
    data, buffers = viewer.ask(id=id_, plane="oblique", spacing_mm=1.0, rows=9, cols=11, **ask)
    assert np.array_equal(np.frombuffer(buffers[0], np.uint8).reshape(9, 11) > 0, mask[3])
    assert (data["rows"], data["cols"]) == (9, 11)


def test_a_mask_in_another_frame_of_reference_is_refused_unless_told() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    stranger = image_on(np.eye(4), np.ones(SHAPE, bool), frame="1.2.3")
    with pytest.raises(GeometryError, match=r"1\.2\.3.*anyway=True"):
        viewer.add(stranger)
    assert viewer.overlays == []
    assert viewer.labels_at(viewer.add(stranger, anyway=True), "axial", 2, 1).all()


def test_a_transform_moves_a_mask_as_registration_says() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4)[[0, 1, 2, 3]], np.zeros(SHAPE, np.int16)))
    values = np.zeros(SHAPE, bool)
    values[3, 4, 5] = True
    shift = np.eye(4)
    shift[:3, 3] = viewer.stack_source.affine[:3, 1]  # one row on, in mm
    for transform in (shift, sitk.TranslationTransform(3, shift[:3, 3].tolist()), lambda p: p + shift[:3, 3]):
        id_ = viewer.add(values, transform=transform)
        found = [
            viewer.labels_at(id_, "axial", n, 1) for n in range(viewer.stack_source.planes["axial"].count)
        ]
        expected = np.zeros(SHAPE, bool)
        expected[3, 3, 5] = True
        assert np.array_equal(found, [_displayed(viewer, "axial", expected, n) for n in range(len(found))])


def test_a_mask_of_another_shape_without_geometry_is_refused() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    with pytest.raises(GeometryError, match="shape"):
        viewer.add(np.zeros((7, 9, 10), bool))


def test_an_image_without_geometry_takes_masks_of_its_shape() -> None:
    rng = np.random.default_rng(1)
    viewer = OnlyOverlays(xr.DataArray(rng.integers(0, 9, (3, 8, 10), np.uint8), dims=("frame", "y", "x")))
    mask = rng.random((3, 8, 10)) > 0.5
    assert np.array_equal(viewer.labels_at(viewer.add(mask), "frame", 2, 1), mask[2])


def test_nothing_is_read_before_a_plane_is_asked_for() -> None:
    import dask.array as da

    reads: list[int] = []

    def read(block: np.ndarray) -> np.ndarray:
        reads.append(1)
        return block

    lazy = da.zeros(SHAPE, dtype=bool, chunks=SHAPE).map_blocks(
        read, dtype=bool, meta=np.empty((0, 0, 0), bool)
    )
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    id_ = viewer.add(xr.DataArray(lazy, dims=("z", "y", "x")))
    assert reads == []
    viewer.labels_at(id_, "axial", 0, 1)
    viewer.labels_at(id_, "coronal", 0, 1)
    assert reads == [1]


def test_codes_stand_for_every_combination_that_occurs_and_no_other() -> None:
    rng = np.random.default_rng(0)
    masks = [(value, rng.random((5, 6, 7)) > 0.7) for value in (4, 9, 2, 30)]
    codes = labels.joined((5, 6, 7), masks)
    for place in np.ndindex(5, 6, 7):
        expected = {value for value, mask in masks if mask[place]}
        assert set(codes.sets[codes.volume[place]]) == expected


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    kept = Kept(limit=1000)
    for key in ("a", "b"):
        kept.get((key,), lambda: np.zeros(400, np.uint8))
    kept.get(("a",), lambda: pytest.fail("it is here"))
    kept.get(("c",), lambda: np.zeros(400, np.uint8))
    assert (("a",) in kept, ("b",) in kept, ("c",) in kept) == (True, False, True)
    assert kept.nbytes == 800


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"id": "o9", "plane": "axial", "start": 0},
        {"id": "o1", "plane": "diagonal", "start": 0},
        {"id": "o1", "plane": "axial", "start": "x"},
        {"id": "o1", "plane": "axial", "start": float("nan")},
        {"id": "o1", "plane": "axial", "start": 0, "extra": "no"},
        {"id": "o1", "plane": "axial", "start": 0, "levels": [1] * 99},
        {"id": "o1", "plane": "oblique", "rows": 10**6, "cols": 10**6, "spacing_mm": 1},
        {"id": "o1", "plane": "oblique", "rows": 5, "cols": 5, "spacing_mm": 0},
        _LEVEL | {"u": [0, 0, 0]},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(args: dict[str, Any]) -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    viewer.add(np.ones(SHAPE, bool))
    answer, _ = viewer.asked(**args)
    assert "see last_exception" not in answer["failed"]


def test_a_run_never_reaches_beyond_the_planes() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    id_ = viewer.add(np.ones(SHAPE, bool))
    count = viewer.stack_source.planes["axial"].count
    data, buffers = viewer.ask(id=id_, plane="axial", start=count - 2, count=10**9)
    assert (data["count"], len(buffers)) == (2, 2)
    data, buffers = viewer.ask(id=id_, plane="axial", start=-50, count=10**9)
    assert len(buffers) == min(count, 8)


def test_a_mask_that_fails_to_be_read_says_so_and_can_be_tried_again() -> None:
    import dask.array as da

    broken = [True]

    def read(block: np.ndarray) -> np.ndarray:
        if broken:
            raise DicomlakeError("the store is gone: build it again")
        return ~block

    lazy = da.zeros(SHAPE, dtype=bool, chunks=SHAPE).map_blocks(
        read, dtype=bool, meta=np.empty((0, 0, 0), bool)
    )
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros(SHAPE, np.int16)))
    id_ = viewer.add(xr.DataArray(lazy, dims=("z", "y", "x")))
    answer, _ = viewer.asked(id=id_, plane="axial", start=0)
    assert "build it again" in answer["failed"]
    broken.clear()
    assert viewer.labels_at(id_, "axial", 0, 1).all()
