"""Small, valid DICOM objects as bytes, written by pydicom, to be put in and looked for."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498"


def dataset(number: int = 1, *, series: str = f"{ROOT}.1.1", size: int = 16, **others: Any) -> Dataset:
    """One CT slice of `size` x `size` voxels, 100 * number + column; `others` are keywords, None leaves out.

    The UIDs follow from the series and the number, the study from the series.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = series.rpartition(".")[0], series
    ds.FrameOfReferenceUID = f"{series}.0"
    ds.PatientID, ds.PatientName, ds.PatientSex = "phantom", "Phantom^Small", "O"
    ds.StudyDate, ds.Modality, ds.SeriesDescription = "20240229", "CT", "small"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceNumber, ds.SeriesNumber = number, 7
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.5, 0.5], 1
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = np.tile(100 * number + np.arange(size, dtype=np.uint16), (size, 1)).tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in others.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def as_bytes(ds: Dataset, *, version: str = "TESTS") -> bytes:
    """The data set as a DICOM file; `version` changes the File Meta Information and nothing else."""
    ds.file_meta.ImplementationVersionName = version
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def dicom(number: int = 1, **others: Any) -> bytes:
    """`dataset` as a DICOM file."""
    return as_bytes(dataset(number, **others))


def series(count: int, uid: str = f"{ROOT}.1.1", **others: Any) -> list[bytes]:
    """A regular stack of `count` slices."""
    return [dicom(number, series=uid, **others) for number in range(1, count + 1)]


def uids_of(data: bytes) -> tuple[str, str]:
    """SOPInstanceUID and SeriesInstanceUID, by pydicom."""
    ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, force=True)
    return str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID)


def explicit(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian, for objects that pydicom would not write."""
    tag = group.to_bytes(2, "little") + element.to_bytes(2, "little")
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"):
        return tag + vr + b"\0\0" + len(value).to_bytes(4, "little") + value
    return tag + vr + len(value).to_bytes(2, "little") + value


def by_hand(uids: dict[int, bytes] | None = None, more: bytes = b"") -> bytes:
    """A DICOM file with these value fields in the identifying elements (by tag); `more` elements follow.

    For UIDs that are none. An absent value leaves the element out.
    """
    found = {
        0x00080016: CTImageStorage.encode() + b"\0",
        0x00080018: b"1.2.3.4 ",
        0x0020000D: b"1.2.3.5 ",
        0x0020000E: b"1.2.3.6 ",
    } | (uids or {})
    return head() + b"".join(_identity(found)) + more


def _identity(values: dict[int, bytes]) -> Iterator[bytes]:
    for tag, value in sorted(values.items()):
        if value is not None:
            yield explicit(tag >> 16, tag & 0xFFFF, b"UI", value)


def head() -> bytes:
    """Preamble and File Meta Information, Explicit VR Little Endian."""
    syntax = explicit(2, 0x10, b"UI", ExplicitVRLittleEndian.encode() + b"\0")
    return bytes(128) + b"DICM" + explicit(2, 0, b"UL", len(syntax).to_bytes(4, "little")) + syntax
