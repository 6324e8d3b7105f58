"""A large enhanced CT, written in pieces: its header by pydicom, then frame after frame."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_STEP_MM = 0.5


def write(target: Path, slices: Sequence[Path], count: int) -> None:
    """An Enhanced CT Image (PS3.3 A.38) of `count` frames, half a millimetre apart.

    slices: uncompressed CT images of one size, whose pixels are the frames over and over.
    """
    import pydicom

    first = pydicom.dcmread(slices[0])
    frame_bytes = len(first.PixelData)
    made = _header(first, count)
    target.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(target, made, enforce_file_format=True)
    with target.open("ab") as stream:
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, count * frame_bytes))
        for number in range(count):
            stream.write(pydicom.dcmread(slices[number % len(slices)]).PixelData)


def _header(image: Dataset, count: int) -> Dataset:
    """All but the pixels, from one of the slices."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    orientation = _items(ImageOrientationPatient=image.ImageOrientationPatient)
    measures = _items(PixelSpacing=image.PixelSpacing, SliceThickness=_STEP_MM, SpacingBetweenSlices=_STEP_MM)
    rescale = _items(
        RescaleSlope=image.RescaleSlope, RescaleIntercept=image.RescaleIntercept, RescaleType="HU"
    )
    x, y, _z = image.ImagePositionPatient
    places = [[x, y, _STEP_MM * number] for number in range(count)]
    shared = _items(
        PixelMeasuresSequence=measures,
        PlaneOrientationSequence=orientation,
        PixelValueTransformationSequence=rescale,
    )
    del image.PixelData
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(image, keyword)
    for keyword in ("SliceLocation", "RescaleSlope", "RescaleIntercept", "RescaleType"):
        if keyword in image:
            delattr(image, keyword)
    image.SOPClassUID, image.SOPInstanceUID = UID(_ENHANCED_CT), UID("2.25.3002.1")
    image.StudyInstanceUID, image.SeriesInstanceUID = UID("2.25.3000"), UID("2.25.3001")
    image.InstanceNumber, image.NumberOfFrames = 1, count
    image.DimensionOrganizationSequence = _items(DimensionOrganizationUID="2.25.3003")
    image.DimensionIndexSequence = _items(
        DimensionOrganizationUID="2.25.3003",
        DimensionIndexPointer=0x00200032,  # ImagePositionPatient
        FunctionalGroupPointer=0x00209113,  # PlanePositionSequence
    )
    image.SharedFunctionalGroupsSequence = shared
    image.PerFrameFunctionalGroupsSequence = [
        item for number, place in enumerate(places, 1) for item in _frame(number, place)
    ]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _frame(number: int, place: Sequence[float]) -> list[Dataset]:
    content = _items(StackID="1", InStackPositionNumber=number, DimensionIndexValues=number)
    return _items(
        FrameContentSequence=content, PlanePositionSequence=_items(ImagePositionPatient=list(place))
    )


def _items(**elements: object) -> list[Dataset]:
    """A sequence of one item."""
    from pydicom import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]
