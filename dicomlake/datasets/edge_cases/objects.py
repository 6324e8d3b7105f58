"""The DICOM objects of the edge cases: small headers, exact numbers, bytes that depend on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from dicomlake.datasets._headers import IMPLEMENTATION_CLASS_UID, Elements, dataset
from dicomlake.datasets._truth import clock, uid
from dicomlake.datasets.edge_cases.records import Array, Vector

CT, MR, PET = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("2", "4", "128"))
DATE = "20240315"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_START = 10 * 3600


class Private(NamedTuple):
    """A private element in the block that `creator` reserves (PS3.5 7.8.1)."""

    group: int
    creator: str
    element: int
    vr: str
    value: Any


@dataclass(frozen=True)
class Object:
    """An object to be written: public elements by keyword, private ones, bytes to cut off its end."""

    elements: Elements
    private: tuple[Private, ...] = ()
    missing_bytes: int = 0

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""
        return str(self.elements["SOPInstanceUID"])

    def to_bytes(self) -> bytes:
        """A Part 10 file, Explicit VR Little Endian (PS3.10 7.1), without what is missing at its end."""
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import UID

        made = dataset(self.elements)
        for one in self.private:
            value = [dataset(item) for item in one.value] if one.vr == "SQ" else one.value
            made.private_block(one.group, one.creator, create=True).add_new(one.element, one.vr, value)
        meta = made.file_meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = made.SOPClassUID
        meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        buffer = BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()[: -self.missing_bytes or None]


def number(value: float) -> str:
    """A decimal string (VR DS) of ten digits."""
    return f"{value + 0.0:.10g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Decimal strings."""
    return [number(value) for value in values]


def series(case: str, modality: str = "CT") -> Elements:
    """Patient, study, series and frame of reference of a case."""
    return {
        "PatientID": f"edge-{case}"[:64],
        "PatientName": "Phantom^Edge",
        "StudyInstanceUID": uid("edge", case, "study"),
        "StudyDate": DATE,
        "Modality": modality,
        "SeriesInstanceUID": uid("edge", case, "series"),
        "SeriesNumber": 1,
        "FrameOfReferenceUID": uid("edge", case, "frame of reference"),
    }


def instance(sop_class: str, sop_uid: str, instance_number: int) -> Elements:
    """What names an object and tells when it was made: a second after the one before it."""
    time = clock(_START + instance_number)
    return {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": sop_uid,
        "InstanceNumber": instance_number,
        "AcquisitionNumber": 1,
        "AcquisitionDate": DATE,
        "AcquisitionTime": time,
        "ContentDate": DATE,
        "ContentTime": time,
    }


def plane(position: Vector, orientation: Sequence[float], spacing: Sequence[float]) -> Elements:
    """Image Plane module (PS3.3 C.7.6.2); spacing: between rows, between columns."""
    return {
        "ImagePositionPatient": numbers(position),
        "ImageOrientationPatient": numbers(orientation),
        "PixelSpacing": numbers(spacing),
    }


def pixels(values: Array, *, frames: bool = False) -> Elements:
    """Image Pixel module (PS3.3 C.7.6.3): grey of 8 or 16 bits, single bits, or RGB by pixel.

    values: (y, x[, rgb]); with `frames` (frame, y, x[, rgb]).
    """
    from numpy import packbits

    shape = values.shape[1:] if frames else values.shape
    colour = len(shape) == 3
    bits = 1 if values.dtype.kind == "b" else values.dtype.itemsize * 8
    data = packbits(values.ravel(), bitorder="little") if bits == 1 else values
    found: Elements = {
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "Rows": shape[0],
        "Columns": shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": _even(data.astype(data.dtype.newbyteorder("<")).tobytes()),
    }
    if frames:
        found["NumberOfFrames"] = values.shape[0]
    return found | ({"PlanarConfiguration": 0} if colour else {})


def _even(data: bytes) -> bytes:
    return data + bytes(len(data) % 2)


def kind(sop_class: str) -> Elements:
    """What an image of this class says about itself and its numbers."""
    if sop_class == CT:
        return {
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "SliceThickness": "2",
            "KVP": "120",
            "RescaleSlope": "1",
            "RescaleIntercept": "-1024",
            "RescaleType": "HU",
        }
    if sop_class == MR:
        return {
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "SliceThickness": "2",
            "ScanningSequence": "GR",
            "EchoTime": "10",
            "RepetitionTime": "2000",
            "FlipAngle": "90",
        }
    if sop_class == PET:
        return {
            "ImageType": ["ORIGINAL", "PRIMARY"],
            "SliceThickness": "2",
            "Units": "BQML",
            "DecayCorrection": "START",
            "RescaleIntercept": "0",
            "RescaleSlope": "0.5",
        }
    return {"ImageType": ["DERIVED", "SECONDARY"]}
