"""Where the planes of an RT dose lie (PS3.3 C.8.8.3.2), and when that is not said."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import RTDoseStorage

from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header
from tests.dicom.enhanced import expand
from tests.dicom.phantoms import AXIAL, SAGITTAL, slice_dataset
from tests.support import pydicom_files


def dose(
    offsets: list[float] | None,
    position: tuple[float, float, float] = (1.0, 2.0, -50.0),
    orientation: tuple[float, ...] = AXIAL,
    **keywords: Any,
) -> tuple[Frame, ...]:
    if offsets is not None:
        keywords["GridFrameOffsetVector"] = offsets
    defaults: dict[str, Any] = {
        "SOPClassUID": RTDoseStorage,
        "NumberOfFrames": len(offsets or ()),
        "DoseUnits": "GY",
        "DoseGridScaling": "0.001",
    }
    return expand(slice_dataset(position, orientation=orientation, **(defaults | keywords)))


@pytest.mark.parametrize(
    ("offsets", "heights"),
    [
        ([0.0, 2.5, 5.0], [-50, -47.5, -45]),
        ([0.0, -2.5, -5.0], [-50, -52.5, -55]),
        ([-50.0, -47.0, -41.0], [-50, -47, -41]),
        ([-50.0, -52.0, -54.0], [-50, -52, -54]),
    ],
    ids=["relative", "relative, falling", "absolute", "absolute, falling"],
)
def test_offsets_are_relative_to_the_position_or_are_z_coordinates(
    offsets: list[float], heights: list[float]
) -> None:
    frames = dose(offsets)
    assert [frame.position for frame in frames] == [(1, 2, z) for z in heights]
    assert all(frame.has_geometry and frame.orientation == AXIAL for frame in frames)
    assert [frame.frame_index for frame in frames] == [0, 1, 2]


def test_values_are_scaled_to_the_units_of_dose() -> None:
    for frame in dose([0.0, 1.0]):
        assert (frame.slope, frame.intercept, frame.units) == (0.001, None, "GY")


def test_relative_offsets_go_along_the_normal_of_oblique_planes() -> None:
    """Rows turned by 30 degrees about x: their normal is row direction x column direction."""
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    frames = dose([0.0, 10.0], (5.0, 6.0, 7.0), (1.0, 0.0, 0.0, 0.0, c, s))
    assert frames[1].position == pytest.approx((5, 6 - 10 * s, 7 + 10 * c))
    flipped = dose([0.0, 10.0], (5.0, 6.0, 7.0), (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    assert flipped[1].position == pytest.approx((5, 6, -3))


@pytest.mark.parametrize(
    ("offsets", "keywords"),
    [
        ([0.0, 1.0, 2.0], {"NumberOfFrames": 4}),
        ([0.0, 1.0, 1.0], {}),
        ([0.0, 2.0, 1.0], {}),
        ([10.0, 11.0, 12.0], {}),
        ([-50.0, -49.0, -48.0], {"orientation": SAGITTAL}),
        (None, {"NumberOfFrames": 3}),
    ],
    ids=["too few", "standing", "turning back", "neither", "not axial", "absent"],
)
def test_offsets_that_say_nothing_are_refused_and_named(
    offsets: list[float] | None, keywords: dict[str, Any]
) -> None:
    for frame in dose(offsets, **keywords):
        assert frame.position is None
        assert not frame.has_geometry
        assert "GridFrameOffsetVector" in str(frame.flaw)


def test_a_position_that_is_missing_is_the_reason() -> None:
    ds = slice_dataset(
        None, SOPClassUID=RTDoseStorage, NumberOfFrames=2, GridFrameOffsetVector=[0, 1], DoseGridScaling="1"
    )
    assert all("ImagePositionPatient" in str(frame.flaw) for frame in expand(ds))


def test_a_lone_plane_needs_no_offsets() -> None:
    (frame,) = dose(None, NumberOfFrames=1)
    assert (frame.position, frame.slope) == ((1, 2, -50), 0.001)


def test_real_doses_lie_where_simpleitk_puts_them() -> None:
    import SimpleITK as sitk

    (path,) = [path for path in pydicom_files() if path.name == "rtdose.dcm"]
    image = sitk.ReadImage(path)
    frames = frames_of(read_header(path.read_bytes()).dataset)
    assert len(frames) == image.GetDepth()
    for i, frame in enumerate(frames):
        assert frame.position == pytest.approx(image.TransformIndexToPhysicalPoint((0, 0, i)))


def test_a_real_dose_without_a_sop_class_falls_from_its_position(real_data: Path) -> None:
    data = (real_data / "rt-dose-pymedphys" / "rtdose_non_square_pixels.dcm").read_bytes()
    ds = pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=True)
    frames = frames_of(read_header(data).dataset)
    x, y, z = ds.ImagePositionPatient
    assert len(frames) == 77
    for frame, offset in zip(frames, ds.GridFrameOffsetVector, strict=True):
        assert frame.position == pytest.approx((x, y, z + offset))
        assert frame.spacing_mm == pytest.approx((1.03125, 1.0078947368421))
