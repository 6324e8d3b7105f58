"""Runs of frames without functional groups: their times and angles, and that they have no place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

from dicomlake.dicom import standard
from dicomlake.dicom.cine import ultrasound_spacing
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header
from tests.dicom.enhanced import expand
from tests.dicom.phantoms import as_bytes, slice_dataset


def run(count: int, *pointers: str, **keywords: Any) -> tuple[Frame, ...]:
    """The frames of an ultrasound run; pointers: what FrameIncrementPointer names."""
    if pointers:
        keywords["FrameIncrementPointer"] = [standard.tag_of(pointer) for pointer in pointers]
    keywords = {"SOPClassUID": UltrasoundMultiFrameImageStorage, "NumberOfFrames": count, **keywords}
    return expand(slice_dataset(**keywords))


def column(frames: tuple[Frame, ...], facet: str) -> list[object]:
    return [frame.facets.get(facet) for frame in frames]


@pytest.mark.parametrize(
    ("pointers", "keywords", "times"),
    [
        (("FrameTime",), {"FrameTime": 40}, [0, 40, 80]),
        (("FrameTimeVector",), {"FrameTimeVector": [0, 30, 50]}, [0, 30, 80]),
        (("FrameTimeVector",), {"FrameTimeVector": [33, 30, 50]}, [0, 30, 80]),
        (("FrameTime",), {"FrameTime": 40, "FrameTimeVector": [0, 30, 50]}, [0, 40, 80]),
        (("FrameTimeVector",), {"FrameTime": 40, "FrameTimeVector": [0, 30, 50]}, [0, 30, 80]),
        ((), {"FrameTimeVector": [0, 30, 50]}, [0, 30, 80]),
        ((), {"FrameTime": 40}, [0, 40, 80]),
        ((), {"CineRate": 50}, [0, 20, 40]),
        ((), {}, [None] * 3),
        ((), {"RecommendedDisplayFrameRate": 50}, [None] * 3),
        (("FrameTimeVector",), {"FrameTimeVector": [0, 30]}, [None] * 3),
        (("FrameTimeVector",), {"FrameTimeVector": [0, 30, -50]}, [None] * 3),
        (("FrameTime",), {"FrameTime": 0}, [None] * 3),
    ],
)
def test_the_time_of_a_frame_is_counted_from_the_first(
    pointers: tuple[str, ...], keywords: dict[str, Any], times: list[object]
) -> None:
    assert column(run(3, *pointers, **keywords), "frame_time") == times


@pytest.mark.parametrize(
    ("increment", "angles"),
    [([2], [-30, -28, -26]), ([0, 2, 5], [-30, -28, -25]), ([0, 2], [None] * 3), (None, [None] * 3)],
)
def test_one_increment_repeats_and_several_are_offsets_from_the_start(
    increment: list[float] | None, angles: list[object]
) -> None:
    keywords: dict[str, Any] = {"PositionerPrimaryAngle": -30}
    if increment:
        keywords["PositionerPrimaryAngleIncrement"] = increment
    assert column(run(3, SOPClassUID=XRayAngiographicImageStorage, **keywords), "angle") == angles


def test_any_other_vector_that_is_pointed_to_tells_frames_apart() -> None:
    frames = run(3, "PageNumberVector", PageNumberVector=[4, 5, 6])
    assert column(frames, "dim_PageNumberVector") == [4, 5, 6]
    assert (
        column(run(2, "PageNumberVector", PageNumberVector=[4, 5, 6]), "dim_PageNumberVector") == [None] * 2
    )


@pytest.mark.parametrize("sop_class", [CTImageStorage, SecondaryCaptureImageStorage])
def test_the_position_of_an_object_is_not_that_of_its_frames(sop_class: str) -> None:
    frames = run(4, SOPClassUID=sop_class)
    assert [frame.frame_index for frame in frames] == [0, 1, 2, 3]
    for frame in frames:
        assert (frame.position, frame.orientation, frame.spacing_mm) == (None, None, None)
        assert frame.flaw
        assert frame.multiframe


def test_a_lone_frame_is_a_plain_image_and_keeps_its_place() -> None:
    ds = slice_dataset((1, 2, 3), SOPClassUID=SecondaryCaptureImageStorage, EchoTime=7)
    (frame,) = expand(ds)
    assert frame.position == (1, 2, 3)
    assert frame.facets["echo"] == 7
    assert not frame.multiframe


def region(**changes: Any) -> Dataset:
    ds = Dataset()
    ds.RegionSpatialFormat, ds.RegionDataType, ds.RegionFlags = 1, 1, 0
    ds.RegionLocationMinX0, ds.RegionLocationMinY0 = 0, 0
    ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = 5, 3
    ds.PhysicalUnitsXDirection = ds.PhysicalUnitsYDirection = 3
    ds.PhysicalDeltaX, ds.PhysicalDeltaY = -0.02, 0.05
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        ([region()], (0.5, 0.2)),
        ([region(), region()], (0.5, 0.2)),
        ([region(RegionSpatialFormat=0, PhysicalUnitsXDirection=0), region()], (0.5, 0.2)),
        ([], None),
        ([region(), region(PhysicalDeltaX=0.03)], None),
        ([region(), region(RegionSpatialFormat=3, PhysicalUnitsXDirection=4)], None),
        ([region(PhysicalUnitsYDirection=4)], None),
        ([region(PhysicalDeltaY=0.0)], None),
    ],
    ids=["one", "alike", "unformatted", "none", "two scales", "spectrum", "seconds", "zero"],
)
def test_ultrasound_has_a_spacing_when_all_of_the_picture_has_one(
    regions: list[Dataset], spacing: tuple[float, float] | None
) -> None:
    ds = slice_dataset(SOPClassUID=UltrasoundMultiFrameImageStorage, SequenceOfUltrasoundRegions=regions)
    assert ultrasound_spacing(read_header(as_bytes(ds)).dataset) == pytest.approx(spacing)


def test_a_damaged_sequence_is_as_good_as_none() -> None:
    ds = slice_dataset(SOPClassUID=UltrasoundMultiFrameImageStorage, SequenceOfUltrasoundRegions=[region()])
    dataset = read_header(as_bytes(ds)).dataset
    tag = standard.tag_of("SequenceOfUltrasoundRegions")
    assert tag is not None
    assert ultrasound_spacing(dataset) is not None
    broken = replace(dataset, elements={**dataset.elements, tag: ("SQ", b"no item here at all")})
    assert ultrasound_spacing(broken) is None


# ---- real objects ----------------------------------------------------------------------------------


def test_a_real_angiography_has_a_frame_every_33_ms(real_data: Path) -> None:
    data = (real_data / "xa-cine/packages/static-wado-creator/dicom/jpeg8bit.dcm").read_bytes()
    frames = frames_of(read_header(data).dataset)
    assert column(frames, "frame_time") == [33 * i for i in range(96)]


def test_a_real_ultrasound_run_has_uneven_times(real_data: Path) -> None:
    name = "dicomparser/encapsulated/multi-frame/IM00001.fragmented_no_bot_jpeg_baseline.50.dcm"
    data = (real_data / name).read_bytes()
    frames = frames_of(read_header(data).dataset)
    # FrameTimeVector is 33.333, 50, 33.333, 50, 50, 50, 33.333, 43.333: its first value is not 0
    times = [0, 50, 83.333, 133.333, 183.333, 233.333, 266.666, 309.999]
    assert column(frames, "frame_time") == pytest.approx(times)
    assert ultrasound_spacing(read_header(data).dataset) == pytest.approx((2.29375, 2.29375), rel=1e-6)
