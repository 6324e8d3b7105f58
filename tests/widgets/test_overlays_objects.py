"""Segmentations, structure sets, doses and second images over the CT that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr

import dicomlake as dl
from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.objects import polygons
from dicomlake.objects.segmentation import read_segmentation
from tests.seg import phantom
from tests.widgets.overlay_support import OnlyOverlays, image_on, turned

SLICES = 6


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The chest CT as a series, with its segmentation, structure set and dose in the same lake."""
    folders = [
        dl.datasets.make(name, tmp_path_factory.mktemp(name), slices=SLICES)
        for name in ("chest-ct", "chest-rt")
    ]
    with dl.open(tmp_path_factory.mktemp("lake") / "lake", create=True) as lake:
        lake.ingest(*folders, progress=False)
        yield lake.query(Modality="CT")[0]


@pytest.fixture(scope="module")
def image(ct: Any) -> xr.DataArray:
    found: xr.DataArray = ct.open().image
    return found


@pytest.fixture
def viewer(ct: Any, image: xr.DataArray) -> OnlyOverlays:
    return OnlyOverlays(image, ct)


# ---- segmentation ----


def test_segments_over_the_ct_are_their_masks_with_names_and_colours(ct: Any, viewer: OnlyOverlays) -> None:
    segmentation = ct.segmentations()[0]
    id_ = viewer.add(segmentation)
    for shown, segment in zip(viewer.overlay(id_).state["labels"], segmentation.segments, strict=True):
        assert (shown["value"], shown["name"]) == (segment.number, segment.label)
        if segment.rgb is not None:
            assert shown["color"] == "#{:02x}{:02x}{:02x}".format(*segment.rgb)
        mask = segmentation.mask(segment.number, viewer.stack_source.image.dicom.grid).values
        for n in range(SLICES):
            assert np.array_equal(viewer.labels_at(id_, "axial", n, segment.number), mask[n])


# ---- structures ----


def test_contours_drawn_on_slices_enclose_the_mask(ct: Any, viewer: OnlyOverlays) -> None:
    structures = ct.structures()[0]
    id_ = viewer.add(structures)
    grid = viewer.stack_source.image.dicom.grid
    for region in structures.regions:
        if not region.drawable:
            continue
        mask = structures.mask(region.number, grid, skip_flawed=True).values
        assert mask.any()
        for n in range(SLICES):
            loops = [points for label, points in viewer.lines_at(id_, "axial", n) if label == region.number]
            assert np.array_equal(polygons.fill(loops, mask.shape[1:]), mask[n])


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_the_cut_of_structures_in_other_planes_encloses_their_masks(
    ct: Any, viewer: OnlyOverlays, plane: str
) -> None:
    structures = ct.structures()[0]
    id_ = viewer.add(structures)
    shown = viewer.stack_source.planes[plane]
    number = shown.count // 3
    met = 0
    for region in structures.regions:
        if not region.drawable:
            continue
        mask = structures.mask(region.number, viewer.stack_source.image.dicom.grid, skip_flawed=True).values
        expected = shown.displayed(mask[shown.box(number, number + 1)])[0]
        lines = viewer.lines_at(id_, plane, number)
        loops = [points[:-1] for label, points in lines if label == region.number]
        assert np.array_equal(polygons.fill(loops, expected.shape), expected)
        met += bool(expected.any())
    assert met > 0


def test_contours_turned_by_a_transform_are_cut_by_slices(ct: Any, viewer: OnlyOverlays) -> None:
    structures = ct.structures()[0]
    move = np.eye(4)
    move[:3, 3] = [12.0, -6.0, 0.0]
    ids = viewer.add(structures), viewer.add(structures, transform=move)
    plain, moved = (viewer.lines_at(id_, "axial", 2) for id_ in ids)
    spacing = viewer.stack_source.planes["axial"]
    shift = np.array([6.0 / spacing.row_mm, -12.0 / spacing.col_mm])
    assert len(plain) == len(moved) > 0
    for (one, points), (other, elsewhere) in zip(plain, moved, strict=True):
        assert one == other
        assert np.allclose(points + shift, elsewhere, atol=1e-6)


def test_structures_of_another_frame_of_reference_are_refused(ct: Any, viewer: OnlyOverlays) -> None:
    structures = ct.structures()[0]
    regions = tuple(replace(r, frame_of_reference_uid="1.2.3") for r in structures.regions)
    with pytest.raises(GeometryError, match=r"ROI .* 1\.2\.3"):
        viewer.add(replace(structures, regions=regions))


# ---- dose ----

_MIDDLE = np.array([3.0, -4.0, 5.0])


def _round_dose(step: float = 2.0) -> xr.DataArray:
    """60 Gy falling by 1 Gy a mm around a point: the isodose of D Gy is a sphere of radius 60 - D mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, ::-1] * step
    affine[:3, 3] = -60
    n = int(120 / step) + 1
    index = np.indices((n, n, n)).reshape(3, -1).T
    r = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - _MIDDLE, axis=1)
    return image_on(affine, np.maximum(60 - r, 0).reshape(n, n, n).astype(np.float32), units="Gy")


@pytest.mark.parametrize("way", [0, 9, 17])
def test_isodose_lines_lie_on_spheres(way: int) -> None:
    rng = np.random.default_rng(way)
    affine = turned(rng, (3, 1, 1.5), way)
    affine[:3, 3] = _MIDDLE - affine[:3, :3] @ [10, 40, 25]
    viewer = OnlyOverlays(image_on(affine, np.zeros((20, 80, 50), np.int16)))
    id_ = viewer.add(_round_dose(), levels=[50, 40, 30])
    for plane in ("axial", "coronal", "sagittal"):
        meta = viewer.stack_source.planes[plane]
        number = meta.count // 2 + 1
        lines = viewer.lines_at(id_, plane, number)
        assert {label for label, _ in lines} == {50.0, 40.0, 30.0}
        for level, points in lines:
            place = np.column_stack([np.full(len(points), number), points, np.ones(len(points))])
            radius = np.linalg.norm((place @ meta.to_lps.T)[:, :3] - _MIDDLE, axis=1)
            assert np.abs(radius - (60 - level)).max() < 0.2


def test_levels_are_in_gy_or_in_percent_of_maximum_or_prescription() -> None:
    dose = _round_dose(4.0)
    viewer = OnlyOverlays(dose)
    highest = float(dose.max())

    def levels(given: Any) -> list[float]:
        return [one["value"] for one in viewer.overlay(viewer.add(dose, levels=given)).state["labels"]]

    assert levels([20, 50.5]) == [50.5, 20]
    assert levels(["50%"]) == [pytest.approx(highest / 2, abs=1e-4)]
    assert levels({"prescribed_gy": 50, "percent": [95, 50]}) == [47.5, 25]
    state = viewer.overlay(viewer.add(dose, levels={"prescribed_gy": 50, "percent": [95]})).state
    assert state["labels"][0]["name"] == "47.5 Gy (95 %)"
    for wrong in ([], [0], ["x"], [-3], {"percents": [3]}):
        with pytest.raises(DicomlakeError):
            viewer.add(dose, levels=wrong)


def test_levels_edited_in_the_browser_are_named_and_coloured_by_python() -> None:
    viewer = OnlyOverlays(_round_dose(4.0))
    id_ = viewer.add(_round_dose(4.0), levels={"prescribed_gy": 50, "percent": [95, 50]})
    state = viewer.overlay(id_).state
    state["labels"] = [*state["labels"], {"value": 10}, {"value": -1}, {"value": "x"}, {"value": 1e9}]
    viewer.set_state({"overlays": [state]})
    found = viewer.overlay(id_).state["labels"]
    assert [one["name"] for one in found] == ["47.5 Gy (95 %)", "25 Gy (50 %)", "10 Gy (20 %)"]
    assert len({one["color"] for one in found}) == 3
    data, _ = viewer.ask(id=id_, plane="axial", start=15, levels=[10.0])
    assert {line["label"] for line in data["planes"][0]} == {10.0}


# ---- fusion ----


@pytest.mark.parametrize("seed", range(3))
def test_a_fused_image_is_what_simpleitk_interpolates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine, other = turned(rng, (2.5, 0.9, 1.1), seed * 7), turned(rng, (4, 3, 3.5), seed * 5)
    image = image_on(affine, np.zeros((9, 22, 26), np.int16))
    other[:3, 3] = (affine @ [4, 11, 13, 1])[:3] - other[:3, :3] @ [3, 3.5, 4]
    second = image_on(other, (rng.random((6, 7, 8)) * 1000 - 200).astype(np.float32))
    viewer = OnlyOverlays(image)
    id_ = viewer.add(second)
    expected = sitk.GetArrayFromImage(
        sitk.Resample(
            second.dicom.to_sitk(), image.dicom.to_sitk(), sitk.Transform(), sitk.sitkLinear, np.nan
        )
    )
    assert 0.05 < np.isfinite(expected).mean() < 1
    step = 1000 / 65534
    for plane in ("axial", "coronal", "sagittal"):
        meta = viewer.stack_source.planes[plane]
        number = meta.count // 2
        found = viewer.values_at(id_, plane, number)
        wanted = meta.displayed(expected[meta.box(number, number + 1)])[0]
        assert np.array_equal(np.isfinite(found), np.isfinite(wanted))
        assert np.nanmax(np.abs(found - wanted)) < step


def test_a_fused_image_has_its_own_window_and_units() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros((4, 5, 6), np.int16)))
    values = np.linspace(0, 40, 120, dtype=np.float32).reshape(4, 5, 6)
    state = viewer.overlay(viewer.add(image_on(np.eye(4), values, units="SUV"))).state
    assert (state["kind"], state["units"], state["colormap"]) == ("fusion", "SUV", "hot")
    low, high = state["window"][0] - state["window"][1] / 2, state["window"][0] + state["window"][1] / 2
    assert low == 0
    assert 25 < high <= 40
    told = viewer.overlay(viewer.add(values, window=(5, 10), colormap="viridis")).state
    assert (told["window"], told["colormap"]) == ([5.0, 10.0], "viridis")
    with pytest.raises(DicomlakeError, match="viridis"):
        viewer.add(values, colormap="nice")


def test_voxels_without_a_value_are_transparent_and_spoil_no_neighbour() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros((4, 5, 6), np.int16)))
    values = np.full((4, 5, 6), 7, np.float32)
    values[1, 2, 3] = np.nan
    found = viewer.values_at(viewer.add(values), "coronal", 2)
    assert np.isnan(found).sum() == 1
    assert np.allclose(found[np.isfinite(found)], 7)


def test_a_course_over_time_must_be_one_time_or_that_of_the_image() -> None:
    first = image_on(np.eye(4), np.zeros((4, 5, 6), np.int16))
    course = xr.concat([first.astype(np.float32) + n for n in range(3)], "time").assign_attrs(first.attrs)
    viewer = OnlyOverlays(first)
    with pytest.raises(DicomlakeError, match=r"\.isel\(time=0\)"):
        viewer.add(course)
    assert (viewer.values_at(viewer.add(course.isel(time=2)), "axial", 1) == 2).all()
    along = OnlyOverlays(course)
    id_ = along.add(course)
    assert [float(along.values_at(id_, "axial", 1, extra=[n]).max()) for n in range(3)] == [0, 1, 2]


def test_an_image_of_another_frame_of_reference_is_refused_and_an_unknown_one_too() -> None:
    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros((4, 5, 6), np.int16)))
    for frame in ("1.2.3", None):
        stranger = image_on(np.eye(4), np.ones((4, 5, 6), np.float32), frame=frame)
        with pytest.raises(GeometryError, match="register"):
            viewer.add(stranger)
        assert viewer.add(stranger, anyway=True)


# ---- all that refers to a series ----


def test_all_that_refers_to_a_series_is_added(viewer: OnlyOverlays) -> None:
    viewer.add_all()
    assert [one["kind"] for one in viewer.overlays] == ["labels", "contours", "isodose"]
    assert viewer.overlay_notes == []


def test_what_cannot_be_added_is_noted_and_hides_nothing(ct: Any, image: xr.DataArray) -> None:
    class Dose:
        def segmentations(self) -> list[Any]:
            raise KeyError("Doe^John")

        def structures(self) -> list[Any]:
            return [ct.structures()[0], object()]

        dose_uids = ("1.2", "1.3")

        def dose(self) -> Any:
            raise DicomlakeError("2 dose series are meant: name one")

    viewer = OnlyOverlays(image, Dose())
    viewer.add_all()
    assert [one["kind"] for one in viewer.overlays] == ["contours"]
    assert [note.split(":")[0] for note in viewer.overlay_notes] == ["segmentations", "structures", "dose"]
    assert "Doe" not in str(viewer.overlay_notes)


def test_a_series_without_a_dose_is_not_complained_about(ct: Any, image: xr.DataArray) -> None:
    class Alone:
        dose_uids = ()

        def segmentations(self) -> list[Any]:
            return []

        def structures(self) -> list[Any]:
            return []

        def dose(self) -> Any:
            raise DicomlakeError("0 dose series are meant")

    viewer = OnlyOverlays(image, Alone())
    assert viewer.add_all() == []
    assert viewer.overlay_notes == []


def test_a_viewer_of_an_array_has_nothing_that_refers_to_it(image: xr.DataArray) -> None:
    with pytest.raises(DicomlakeError, match=r"add\(\)"):
        OnlyOverlays(image).add_all()


# ---- changing how they look ----


def test_the_browser_changes_looks_and_nothing_else(viewer: OnlyOverlays) -> None:
    id_ = viewer.add(
        {"a": np.ones(viewer.stack_source.shape, bool), "b": np.ones(viewer.stack_source.shape, bool)}
    )
    before = viewer.overlay(id_).state
    nonsense = {"name": "x", "kind": "fusion", "alpha": 9, "style": "wild", "visible": "yes", "version": 7}
    forged: dict[str, Any] = {
        **before,
        **nonsense,
        "labels": [{"value": 1, "visible": False, "name": "z"}, {"value": 5, "visible": True}],
    }
    viewer.set_state({"overlays": [forged, {"id": "o99"}, 3]})
    after = viewer.overlay(id_).state
    assert after == {
        **before,
        "alpha": 1.0,
        "labels": [{**before["labels"][0], "visible": False}, before["labels"][1]],
    }


def test_a_change_from_a_page_that_is_behind_drops_no_overlay(viewer: OnlyOverlays) -> None:
    shape = viewer.stack_source.shape
    first = viewer.add(np.ones(shape, bool))
    stale = viewer.overlay(first).state
    second = viewer.add(np.ones(shape, bool))
    viewer.set_state({"overlays": [{**stale, "visible": False}]})
    assert [(one["id"], one["visible"]) for one in viewer.overlays] == [(first, False), (second, True)]


def test_labels_are_shown_and_hidden_by_name(viewer: OnlyOverlays) -> None:
    shape = viewer.stack_source.shape
    laid = viewer.overlay(viewer.add({n: np.ones(shape, bool) for n in "abc"}))
    laid.only("b")
    assert laid.labels == {"a": False, "b": True, "c": False}
    laid.show("a")
    laid.hide("b")
    assert laid.labels == {"a": True, "b": False, "c": False}
    laid.set(alpha=0.25, style="fill")
    assert (laid.state["alpha"], laid.state["style"]) == (0.25, "fill")
    for wrong in ({"style": "wild"}, {"alpha": 7}, {"name": "x"}, {"window": (1, 2)}, {"levels": [3]}):
        with pytest.raises(DicomlakeError):
            laid.set(**wrong)
    with pytest.raises(DicomlakeError, match="no label"):
        laid.only("d")


def test_a_removed_overlay_is_gone_and_what_it_kept_too(viewer: OnlyOverlays) -> None:
    id_ = viewer.add(np.ones(viewer.stack_source.shape, bool))
    viewer.labels_at(id_, "axial", 0, 1)
    assert viewer._overlay_kept.nbytes > 0
    viewer.remove(id_)
    assert (viewer.overlays, viewer._overlay_kept.nbytes) == ([], 0)
    with pytest.raises(DicomlakeError):
        viewer.overlay(id_)
    assert "taken away" in viewer.asked(id=id_, plane="axial", start=0)[0]["failed"]


def test_an_array_changed_in_place_is_drawn_anew_after_refresh(viewer: OnlyOverlays) -> None:
    mask = np.zeros(viewer.stack_source.shape, bool)
    id_ = viewer.add(mask)
    assert not viewer.labels_at(id_, "axial", 0, 1).any()
    mask[0] = True
    viewer.refresh(id_)
    assert viewer.labels_at(id_, "axial", 0, 1).all()
    assert viewer.overlay(id_).state["version"] == 2


def test_the_trait_stays_small_with_a_hundred_labels() -> None:
    import json

    viewer = OnlyOverlays(image_on(np.eye(4), np.zeros((4, 5, 6), np.int16)))
    viewer.add({f"costal cartilage number {n}": np.ones((4, 5, 6), bool) for n in range(104)})
    assert len(json.dumps(viewer.overlays)) < 12_000
    assert len(json.dumps(viewer.overlays)) > 5_000


def _over_phantom(shape: tuple[int, int, int], data: bytes, **image: Any) -> tuple[OnlyOverlays, Any]:
    """A viewer of an image on the phantom's grid, and the segmentation of these bytes."""
    affine = phantom.grid(shape).affine @ np.diag([*image.pop("zoom", (1, 1, 1)), 1])
    frame = image.pop("frame", phantom.FRAME_OF_REFERENCE)
    return OnlyOverlays(image_on(affine, np.zeros(shape, np.int16), frame)), read_segmentation(data)


def test_a_fractional_segmentation_is_cut_at_a_half_or_where_told() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    data = phantom.segmentation([(1, phantom.position(0), pixels)], MaximumFractionalValue=220)
    viewer, segmentation = _over_phantom((2, 3, 4), data)
    for levels, least in ((None, 110), (0.25, 55), ([0.9], 198)):
        id_ = viewer.add(segmentation, levels=levels)
        assert np.array_equal(viewer.labels_at(id_, "axial", 0, 1), pixels >= least)
        assert f"≥ {least / 220:g}" in viewer.overlay(id_).state["labels"][0]["name"]
    with pytest.raises(DicomlakeError, match="threshold"):
        viewer.add(segmentation, levels=2)


def test_a_segmentation_on_a_coarser_grid_than_the_image_is_resampled_to_the_nearest() -> None:
    rng = np.random.default_rng(4)
    frames = [(n, phantom.position(k), rng.random((6, 7)) > 0.5) for k in range(4) for n in (1, 2)]
    viewer, segmentation = _over_phantom((5, 13, 11), phantom.segmentation(frames), zoom=(0.7, 0.45, 0.6))
    id_ = viewer.add(segmentation)
    expected = segmentation.open(viewer.stack_source.image.dicom.grid, resample=True).segmentation.values
    for n in range(5):
        for place, value in enumerate((1, 2)):
            assert np.array_equal(viewer.labels_at(id_, "axial", n, value), expected[place, n])


def test_a_segmentation_of_another_frame_of_reference_is_refused_unless_told() -> None:
    pixels = np.eye(3, 4, dtype=bool)
    data = phantom.segmentation([(1, phantom.position(0), pixels)])
    viewer, segmentation = _over_phantom((2, 3, 4), data, frame="1.2.3")
    with pytest.raises(GeometryError, match="anyway=True"):
        viewer.add(segmentation)
    assert np.array_equal(viewer.labels_at(viewer.add(segmentation, anyway=True), "axial", 0, 1), pixels)
    id_ = viewer.add(segmentation, transform=np.eye(4))
    assert np.array_equal(viewer.labels_at(id_, "axial", 0, 1), pixels)
