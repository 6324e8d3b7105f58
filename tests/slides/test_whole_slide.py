"""Slides tile by tile, against highdicom on real files and by hand where tiles are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.pixels import FrameReader
from dicomlake.errors import BrokenObject, DicomlakeError
from dicomlake.objects.whole_slide import levels_of, open_slide
from tests.dicom.phantoms import as_bytes, slice_dataset

PLAIN = [
    "sm_image.dcm",
    "sm_image_control.dcm",
    "sm_image_dots.dcm",
    "sm_image_grayscale.dcm",
    "sm_image_jpegls.dcm",
    "sm_image_jpegls_nobot.dcm",
    "sm_image_numbers.dcm",
]


def headers_of(*headers: Header) -> list:
    return [(h.dataset.text("SOPInstanceUID"), h.dataset) for h in headers]


@pytest.mark.parametrize("name", PLAIN)
def test_a_real_slide_equals_what_highdicom_assembles(name: str, real_data: Path) -> None:
    import highdicom

    path = real_data / "highdicom" / name
    data = path.read_bytes()
    tree = open_slide(headers_of(read_header(data)), lambda _uid: FrameReader(data))
    image = tree["level0"].image
    wanted = highdicom.imread(path).get_total_pixel_matrix(
        apply_real_world_transform=False,
        apply_modality_transform=False,
        apply_icc_profile=False,
        apply_voi_transform=False,
    )
    np.testing.assert_array_equal(image.values, wanted)
    np.testing.assert_array_equal(image[3:17, 5:40:3].values, wanted[3:17, 5:40:3])
    assert image.attrs["absent_tiles"] == 0


def sparse(places: list[tuple[int, int]], **others: object) -> bytes:
    """A slide of 7 x 9 pixels in tiles of 4 x 4; tile i is filled with i + 1."""
    tiles = np.stack([np.full((4, 4), i + 1, np.uint8) for i in range(len(places))])
    items = []
    for row, column in places:
        place, item = Dataset(), Dataset()
        place.RowPositionInTotalImagePixelMatrix, place.ColumnPositionInTotalImagePixelMatrix = row, column
        place.ZOffsetInSlideCoordinateSystem = 0
        item.PlanePositionSlideSequence = [place]
        items.append(item)
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.002, 0.001]
    shared.PixelMeasuresSequence = [measures]
    keywords: dict[str, object] = {
        "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "NumberOfFrames": len(places),
        "TotalPixelMatrixRows": 7,
        "TotalPixelMatrixColumns": 9,
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": items,
    } | others
    given = {name: value for name, value in keywords.items() if value is not None}
    ds = slice_dataset(None, orientation=None, spacing=None, pixels=tiles[0], **given)
    ds.PixelData = tiles.tobytes()
    return as_bytes(ds)


def test_absent_tiles_are_counted_and_places_are_the_objects_own() -> None:
    data = sparse([(5, 1), (1, 5), (1, 9)])
    tree = open_slide(headers_of(read_header(data)), lambda _uid: FrameReader(data))
    image = tree["level0"].image
    wanted = np.zeros((7, 9), np.uint8)
    wanted[4:7, 0:4], wanted[0:4, 4:8], wanted[0:4, 8:9] = 1, 2, 3
    np.testing.assert_array_equal(image.values, wanted)
    assert image.attrs["absent_tiles"] == 3
    assert image.y.values[:2] == pytest.approx([0.001, 0.003])
    assert image.x.values[:2] == pytest.approx([0.0005, 0.0015])


def test_any_selection_reads_what_numpy_would() -> None:
    data = sparse([(1, 1), (1, 5), (1, 9), (5, 1), (5, 5), (5, 9)])
    image = open_slide(headers_of(read_header(data)), lambda _uid: FrameReader(data))["level0"].image
    whole = image.values
    assert len(np.unique(whole)) == 6
    for key in (
        (slice(None, None, -1), slice(None, None, -2)),
        ([6, 0, 3], slice(None)),
        (-1, slice(7, 2, -1)),
        (slice(5, 5), slice(None)),
        (slice(1, 6, 2), 8),
    ):
        found = image[key]
        assert found.chunks is not None
        np.testing.assert_array_equal(found.values, whole[key])
    np.testing.assert_array_equal(image.isel(y=[1, 5], x=[0, 8]).values, whole[np.ix_([1, 5], [0, 8])])


def full(planes: int, step_mm: float | None) -> bytes:
    """TILED_FULL: two tiles of 4 x 4 in each focal plane; frame i is filled with i + 1."""
    frames = np.stack([np.full((4, 4), i + 1, np.uint8) for i in range(2 * planes)])
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.002, 0.001]
    if step_mm is not None:
        measures.SpacingBetweenSlices = step_mm
    shared.PixelMeasuresSequence = [measures]
    ds = slice_dataset(
        None, orientation=None, spacing=None, pixels=frames[0],
        SOPClassUID=VLWholeSlideMicroscopyImageStorage, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        NumberOfFrames=len(frames), TotalPixelMatrixRows=4, TotalPixelMatrixColumns=8,
        TotalPixelMatrixFocalPlanes=planes, DimensionOrganizationType="TILED_FULL",
        SharedFunctionalGroupsSequence=[shared],
    )  # fmt: skip
    ds.PixelData = frames.tobytes()
    return as_bytes(ds)


@pytest.mark.parametrize(
    ("step_mm", "planes", "units"), [(0.0015, [0, 1.5, 3], "um"), (None, [0, 1, 2], None)]
)
def test_focal_planes_have_their_height_where_it_is_stated(
    step_mm: float | None, planes: list[float], units: str | None
) -> None:
    data = full(3, step_mm)
    image = open_slide(headers_of(read_header(data)), lambda _uid: FrameReader(data))["level0"].image
    assert image.focal_plane.values == pytest.approx(planes)
    assert image.focal_plane.attrs.get("units") == units
    assert image[:, 0, [0, 4]].values.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_levels_come_by_size_and_a_label_by_its_name() -> None:
    small = sparse([(1, 1)], SOPInstanceUID="1.2.3", TotalPixelMatrixRows=4, TotalPixelMatrixColumns=4)
    label = sparse([(1, 1)], SOPInstanceUID="1.2.4", ImageType=["ORIGINAL", "PRIMARY", "LABEL"])
    large = sparse([(1, 1)], SOPInstanceUID="1.2.5")
    headers = headers_of(*map(read_header, (label, small, large)))
    assert [level.sop_instance_uid for level in levels_of(headers)] == ["1.2.5", "1.2.3", "1.2.4"]
    tree = open_slide(headers, lambda _uid: FrameReader(small))
    assert list(tree.children) == ["level0", "level1", "label"]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (sparse([(2, 1)]), "no multiples"),
        (sparse([(1, 1), (1, 1)]), "claim one place"),
        (sparse([(1, 1)], DimensionOrganizationType="TILED_FULL"), "needs 6 frames"),
        (sparse([(1, 1)], TotalPixelMatrixRows=None), "TotalPixelMatrixRows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tiles_without_a_proven_place_are_refused(data: bytes, named: str) -> None:
    with pytest.raises(BrokenObject, match=named):
        levels_of(headers_of(read_header(data)))


def test_no_slide_is_an_error() -> None:
    with pytest.raises(DicomlakeError, match="no whole-slide image"):
        open_slide([], lambda _uid: FrameReader(b""))
