"""From data sets to frames: geometry or the reason why not, pixel description, units."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import EnhancedMRImageStorage, PositronEmissionTomographyImageStorage

from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame, pixel_format
from dicomlake.dicom.headers import read_header
from dicomlake.errors import BrokenObject
from tests.dicom.phantoms import as_bytes, place_values, slice_dataset, slice_frame


def all_frames(**keywords: object) -> tuple[Frame, ...]:
    return frames_of(read_header(as_bytes(slice_dataset(**keywords))).dataset)


def test_a_slice_states_its_place() -> None:
    frame = slice_frame((-10.5, 20.0, 3.25), spacing=(0.7, 0.6), number=4, AcquisitionNumber=2)
    assert frame.position == (-10.5, 20.0, 3.25)
    assert frame.spacing_mm == (0.7, 0.6)
    assert frame.orientation == (1, 0, 0, 0, 1, 0)
    assert (frame.instance_number, frame.facets["acquisition"], frame.frame_index) == (4, 2, 0)
    assert frame.has_geometry
    assert not frame.multiframe
    assert frame.tile is None


@pytest.mark.parametrize(
    ("keywords", "culprit"),
    [
        ({"position": None}, "ImagePositionPatient"),
        ({"orientation": None}, "ImageOrientationPatient"),
        ({"orientation": (1.0, 0, 0, 1, 0, 0)}, "ImageOrientationPatient"),
        ({"orientation": (0.0, 0, 0, 0, 0, 0)}, "ImageOrientationPatient"),
        ({"orientation": (2.0, 0, 0, 0, 2, 0)}, "ImageOrientationPatient"),
        ({"spacing": None}, "PixelSpacing"),
        ({"spacing": (0.0, 1.0)}, "PixelSpacing"),
    ],
)
def test_geometry_that_is_absent_or_impossible_is_none_and_named(keywords: dict, culprit: str) -> None:
    frame = slice_frame(**keywords)
    assert not frame.has_geometry
    assert (frame.position, frame.orientation, frame.spacing_mm) == (None, None, None)
    assert frame.flaw is not None
    assert culprit in frame.flaw


@pytest.mark.parametrize(
    ("allocated", "stored", "signed", "dtype"),
    [
        (16, 16, 0, "u2"),
        (16, 12, 1, "i2"),
        (16, 8, 0, "u1"),
        (16, 7, 1, "i1"),
        (8, 8, 0, "u1"),
        (32, 32, 0, "u4"),
        (32, 16, 1, "i2"),
        (1, 1, 0, "?"),
    ],
)
def test_the_dtype_is_the_smallest_that_holds_the_stored_values(
    allocated: int, stored: int, signed: int, dtype: str
) -> None:
    frame = slice_frame(
        BitsAllocated=allocated, BitsStored=stored, HighBit=stored - 1, PixelRepresentation=signed
    )
    assert frame.pixel.dtype == np.dtype(dtype)


def test_floating_point_pixels_need_no_bits_stored() -> None:
    frame = slice_frame(BitsAllocated=32, BitsStored=None, HighBit=None, PixelRepresentation=None)
    assert frame.pixel.kind == "float"
    assert frame.pixel.dtype == np.dtype("f4")


@pytest.mark.parametrize(
    ("keywords", "culprit"),
    [
        ({"Rows": None}, "Rows"),
        ({"Columns": 0}, "Columns"),
        ({"BitsAllocated": None}, "BitsAllocated"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "BitsAllocated"),
        ({"BitsStored": 17, "HighBit": 16}, "BitsStored"),
        ({"BitsStored": None}, "BitsStored"),
        ({"HighBit": 3}, "HighBit"),
        ({"PixelRepresentation": None}, "PixelRepresentation"),
        ({"SamplesPerPixel": 3}, "PhotometricInterpretation"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
        ({"NumberOfFrames": 0}, "NumberOfFrames"),
    ],
)
def test_pixels_described_wrongly_are_refused_by_keyword(keywords: dict, culprit: str) -> None:
    with pytest.raises(BrokenObject, match=culprit):
        all_frames(**keywords)


def test_frames_of_one_object_are_counted_and_not_placed() -> None:
    frames = all_frames(NumberOfFrames=3)
    assert [frame.frame_index for frame in frames] == [0, 1, 2]
    assert all(frame.multiframe and frame.position is None for frame in frames)


def test_one_frame_of_an_enhanced_object_is_not_a_plain_slice() -> None:
    (frame,) = all_frames(SOPClassUID=EnhancedMRImageStorage, NumberOfFrames=1)
    assert frame.multiframe
    assert not frame.has_geometry


def test_units_of_ct_without_a_rescale_type_are_hounsfield() -> None:
    frame = slice_frame(RescaleSlope="1", RescaleIntercept="-1024")
    assert (frame.slope, frame.intercept, frame.units) == (1, -1024, "HU")
    assert slice_frame().units is None
    assert slice_frame(RescaleSlope="1", RescaleIntercept="0", RescaleType="US").units == "US"


def test_units_of_pet_are_its_own_attribute() -> None:
    frame = slice_frame(
        SOPClassUID=PositronEmissionTomographyImageStorage, RescaleSlope="2.5", RescaleType="HU", Units="BQML"
    )
    assert frame.units == "BQML"


def test_a_frame_never_shows_its_patient() -> None:
    frame = slice_frame(PatientID="Secret-4711", PatientName="Doe^Jane")
    assert "Secret" not in repr(frame)
    assert "Doe" not in repr(frame)
    assert frame.patient_key == slice_frame(PatientID="Secret-4711").patient_key
    assert frame.patient_key != slice_frame(PatientID="Secret-4712").patient_key


def test_the_pixel_description_of_a_phantom_is_what_was_written() -> None:
    ds = slice_dataset(pixels=place_values(1, 7, 9))
    form = pixel_format(read_header(as_bytes(ds)).dataset)
    assert (form.shape, form.bits_stored, form.signed, form.photometric) == ((7, 9), 16, False, "MONOCHROME2")
