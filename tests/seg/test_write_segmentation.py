"""Masks that are written come back voxel for voxel, through our reader and through others."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import xarray as xr

from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError
from dicomlake.objects.codes import Code
from dicomlake.objects.segmentation import read_segmentation
from dicomlake.objects.write_segmentation import SegmentCodes, write_segmentation
from tests.objects import ROOT, as_bytes, dataset

SERIES = f"{ROOT}.8.1"
LUNG = SegmentCodes(
    category=Code("123037004", "SCT", "Anatomical Structure"),
    type=Code("39607008", "SCT", "Lung"),
    rgb=(250, 128, 3),
    tracking=("lesion 1", "1.2.3.4"),
)


def slices(count: int = 5, orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)) -> list[pydicom.Dataset]:
    """CT slices 1.5 mm apart along their normal; the UID tells the place."""
    step = 1.5 * np.cross(orientation[:3], orientation[3:])
    required: dict[str, Any] = {
        "PatientBirthDate": "",
        "StudyTime": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "Manufacturer": "tests",
    }
    return [
        dataset(
            k + 1,
            series=SERIES,
            ImagePositionPatient=[float(f"{value:.6g}") for value in k * step],
            ImageOrientationPatient=list(orientation),
            **required,
        )
        for k in range(count)
    ]


def grid_of(images: list[pydicom.Dataset]) -> Grid:
    """The grid of slices that are in order."""
    first = images[0]
    affine = np.eye(4)
    affine[:3, 0] = np.subtract(images[1].ImagePositionPatient, first.ImagePositionPatient)
    affine[:3, 1] = np.multiply(first.ImageOrientationPatient[3:], first.PixelSpacing[0])
    affine[:3, 2] = np.multiply(first.ImageOrientationPatient[:3], first.PixelSpacing[1])
    affine[:3, 3] = first.ImagePositionPatient
    uids = tuple(str(image.SOPInstanceUID) for image in images)
    return Grid((len(images), first.Rows, first.Columns), affine, None, str(first.FrameOfReferenceUID), uids)


def masks(seed: int, count: int = 5) -> dict[str, np.ndarray]:
    """Two masks that overlap; the first has an empty slice."""
    drawn = np.random.default_rng(seed)
    first, second = drawn.random((2, count, 16, 16)) < 0.3
    first[1] = False
    return {"first": first, "second": second}


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0.6, 0.8, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0)])
def test_masks_come_back_voxel_by_voxel_on_the_grid_of_their_image(orientation: tuple[float, ...]) -> None:
    images, drawn = slices(orientation=orientation), masks(1)
    shuffled = [as_bytes(image) for image in images]
    random.Random(2).shuffle(shuffled)
    written = write_segmentation(drawn, shuffled, algorithm="MANUAL")
    opened = read_segmentation(written).open(grid_of(images))
    assert opened.label.values.tolist() == ["first", "second"]
    assert np.array_equal(opened.segmentation.values, np.stack(list(drawn.values())))


def test_pydicom_and_highdicom_see_the_same_voxels_by_instance() -> None:
    import highdicom as hd

    images, drawn = slices(), masks(3)
    written = write_segmentation(drawn, [as_bytes(image) for image in images], algorithm="MANUAL")
    ds = pydicom.dcmread(io.BytesIO(written))
    for frame, item in zip(ds.pixel_array, ds.PerFrameFunctionalGroupsSequence, strict=True):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        z = round(float(item.PlanePositionSequence[0].ImagePositionPatient[2]) / 1.5)
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == images[z].SOPInstanceUID
        assert np.array_equal(frame, list(drawn.values())[number - 1][z])
    assert len(ds.PerFrameFunctionalGroupsSequence) == 9
    uids = [image.SOPInstanceUID for image in images]
    theirs = hd.seg.Segmentation.from_dataset(ds).get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(np.moveaxis(theirs, -1, 0), np.stack(list(drawn.values())))


def test_codes_colour_and_tracking_are_read_back() -> None:
    written = write_segmentation(
        masks(4),
        slices(),
        algorithm="AUTOMATIC",
        algorithm_name="net 3",
        codes={"second": LUNG},
        series_description="drawn by the net",
    )
    mine = read_segmentation(written)
    plain, lung = mine.segments
    assert lung.type is not None
    assert lung.type[:3] == ("39607008", "SCT", "Lung")
    assert (lung.rgb, lung.tracking_id, lung.tracking_uid) == ((250, 128, 3), "lesion 1", "1.2.3.4")
    assert (lung.algorithm_type, lung.algorithm_name) == ("AUTOMATIC", "net 3")
    assert plain.type is not None
    assert plain.type.meaning == "Tissue"
    ds = pydicom.dcmread(io.BytesIO(written))
    assert ds.SeriesDescription == "drawn by the net"
    assert (ds.StudyInstanceUID, ds.PatientID) == (SERIES.rpartition(".")[0], "phantom")
    assert ds.SeriesInstanceUID != SERIES
    assert mine.referenced_series == (SERIES,)


def test_a_data_array_is_matched_by_its_instances() -> None:
    images, drawn = slices(), masks(5)
    uids = [str(image.SOPInstanceUID) for image in images]
    array = xr.DataArray(
        np.stack(list(drawn.values()))[:, [3, 0]],
        dims=("segment", "z", "y", "x"),
        coords={"label": ("segment", list(drawn)), "instance_uid": ("z", [uids[3], uids[0]])},
    )
    opened = read_segmentation(write_segmentation(array, images, algorithm="MANUAL")).open(grid_of(images))
    placed = opened.segmentation.values
    for i, mask in enumerate(drawn.values()):
        assert np.array_equal(placed[i, [0, 3]], mask[[0, 3]])
    assert not placed[:, [1, 2, 4]].any()
    wrong = array.assign_coords(instance_uid=("z", ["1.2.3", uids[0]]))
    with pytest.raises(GeometryError, match="1 slices of the masks are of instances"):
        write_segmentation(wrong, images, algorithm="MANUAL")


def test_what_was_read_can_be_written_and_read_again() -> None:
    images, drawn = slices(), masks(6)
    first = read_segmentation(write_segmentation(drawn, images, algorithm="MANUAL"))
    opened = first.open(grid_of(images)).segmentation
    again = read_segmentation(write_segmentation(opened, images, algorithm="MANUAL"))
    assert np.array_equal(again.open(grid_of(images)).segmentation.values, np.stack(list(drawn.values())))
    one = first.mask("second", grid_of(images))
    alone = read_segmentation(write_segmentation(one, images, algorithm="MANUAL"))
    assert [segment.label for segment in alone.segments] == ["second"]
    assert np.array_equal(alone.mask("second", grid_of(images)).values, drawn["second"])


def test_masks_of_a_multi_frame_image_follow_its_planes_not_its_frames(real_data: Path) -> None:
    ds = pydicom.dcmread(real_data / "dcmqi/segmentations/24x38x3/multiframe/mf.dcm")
    frames = list(ds.PerFrameFunctionalGroupsSequence)
    ds.PerFrameFunctionalGroupsSequence = [frames[i] for i in (1, 2, 0)]
    data = as_bytes(ds)
    mask = np.random.default_rng(7).random((3, ds.Rows, ds.Columns)) < 0.5
    written = write_segmentation({"noise": mask}, [data], algorithm="MANUAL")
    heights = [
        item.PlanePositionSequence[0].ImagePositionPatient[2] for item in ds.PerFrameFunctionalGroupsSequence
    ]
    assert np.array_equal(read_segmentation(written).mask(1).values, mask)
    out = pydicom.dcmread(io.BytesIO(written))
    for frame, item in zip(out.pixel_array, out.PerFrameFunctionalGroupsSequence, strict=True):
        z = sorted(heights).index(item.PlanePositionSequence[0].ImagePositionPatient[2])
        assert np.array_equal(frame, mask[z])
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert heights[int(source.ReferencedFrameNumber) - 1] == sorted(heights)[z]


def test_masks_of_a_real_ct_come_back(real_data: Path) -> None:
    files = sorted((real_data / "dcmqi/segmentations/ct-3slice").glob("*.dcm"))
    mask = np.zeros((3, 512, 512), bool)
    mask[2, 5:9, 7:8] = True
    written = write_segmentation({"corner": mask}, [f.read_bytes() for f in files], algorithm="MANUAL")
    ds = pydicom.dcmread(io.BytesIO(written))
    top = max((pydicom.dcmread(f) for f in files), key=lambda s: s.ImagePositionPatient[2])
    assert ds.pixel_array.sum() == 4
    plane = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    assert plane.ImagePositionPatient[2] == top.ImagePositionPatient[2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks": {"a": np.zeros((5, 16, 16), bool)}}, ValueError, "no mask has a voxel"),
        ({"masks": {"a": np.full((5, 16, 16), 3)}}, ValueError, "bool, or 0 and 1"),
        ({"masks": {"a": np.ones((4, 16, 16))}}, GeometryError, "the images"),
        ({"masks": {"a": np.ones((5, 16, 16)), "b": np.ones((4, 16, 16))}}, GeometryError, "one shape"),
        ({"masks": {"x" * 65: np.ones((5, 16, 16))}}, ValueError, "1 to 64 characters"),
        ({"masks": {}}, ValueError, "no masks"),
        ({"sources": []}, ValueError, "no source images"),
        ({"algorithm": "AUTOMATIC"}, ValueError, "need an algorithm_name"),
    ],
)
def test_what_would_make_a_wrong_object_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"masks": masks(8), "sources": slices(), "algorithm": "MANUAL"} | change
    with pytest.raises(error, match=message):
        write_segmentation(given.pop("masks"), given.pop("sources"), **given)


def test_two_images_at_one_place_are_refused() -> None:
    images = slices()
    images[3].ImagePositionPatient = images[2].ImagePositionPatient
    with pytest.raises(GeometryError, match="two images are at one place"):
        write_segmentation(masks(9), images, algorithm="MANUAL")


def test_odd_patients_and_any_script_go_over_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    images = slices()
    with pydicom.config.disable_value_validation():
        for image in images:
            image.add_new("PatientBirthDate", "DA", "around 1950")
            image.add_new("PatientSex", "CS", "unknown")
            image.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
            image.PatientName = "Yamada^Tarou=山田^太郎"
            del image.StudyTime, image.AccessionNumber
        sources = [as_bytes(image) for image in images]
    drawn = {"Lunge – 肺": masks(10)["first"]}
    caplog.clear()
    written = write_segmentation(drawn, sources, algorithm="MANUAL")
    assert not caplog.records
    with pydicom.config.disable_value_validation():
        ds = pydicom.dcmread(io.BytesIO(written))
        assert (ds.PatientBirthDate, ds.PatientSex) == ("around 1950", "unknown")
        assert ds.PatientName == "Yamada^Tarou=山田^太郎"
    assert read_segmentation(written).segments[0].label == "Lunge – 肺"
