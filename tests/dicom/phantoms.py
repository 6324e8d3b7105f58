"""Small DICOM objects whose every voxel tells its place, written by pydicom and read by our reader."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header

STUDY, SERIES, REFERENCE = (generate_uid(entropy_srcs=[name]) for name in ("study", "series", "reference"))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def place_values(slice_index: int, rows: int, columns: int) -> np.ndarray:
    """Values 10,000 slice + 100 row + column: one look at a voxel tells where it came from."""
    row, column = np.mgrid[:rows, :columns]
    return (10_000 * slice_index + 100 * row + column).astype(np.uint16)


def slice_dataset(
    position: tuple[float, float, float] | None = (0.0, 0.0, 0.0),
    *,
    orientation: tuple[float, ...] | None = AXIAL,
    spacing: tuple[float, float] | None = (0.5, 0.5),
    number: int = 1,
    pixels: np.ndarray | None = None,
    **others: Any,
) -> Dataset:
    """One CT slice; `others` are keywords to set, None to leave out."""
    array = place_values(number % 6, 4, 6) if pixels is None else pixels
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[str((position, orientation, number, sorted(others)))])
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, REFERENCE
    ds.PatientID = "phantom"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceNumber = number
    if position is not None:
        ds.ImagePositionPatient = [f"{value:.10g}" for value in position]
    if orientation is not None:
        ds.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
    if spacing is not None:
        ds.PixelSpacing = [f"{value:.10g}" for value in spacing]
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel = 1 if array.ndim == 2 else array.shape[2]
    ds.PhotometricInterpretation = "MONOCHROME2" if array.ndim == 2 else "RGB"
    if array.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = array.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    ds.PixelData = array.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in others.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def as_bytes(ds: Dataset) -> bytes:
    """The data set as a DICOM file."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def slice_frame(*args: Any, **keywords: Any) -> Frame:
    """The frame of `slice_dataset`, through the bytes of a file."""
    (frame,) = frames_of(read_header(as_bytes(slice_dataset(*args, **keywords))).dataset)
    return frame
