"""Small segmentations and CT stacks, written by pydicom, whose every voxel the test knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from dicomlake.dicom.grid import Grid
from tests.objects import ROOT, as_bytes

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
FRAME_OF_REFERENCE = f"{ROOT}.7.1"
SPACING = (0.75, 0.5)
STEP = 2.0
LABEL = "Ganz geheim"


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    """A code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def normal(orientation: Sequence[float]) -> np.ndarray:
    """Row direction x column direction."""
    return np.cross(orientation[:3], orientation[3:])


def position(k: float, orientation: Sequence[float] = AXIAL, step: float = STEP) -> list[float]:
    """Of the first voxel of slice k: 10, 20, 30 mm for the first one."""
    return list(np.array([10.0, 20.0, 30.0]) + k * step * normal(orientation))


def instance(k: int) -> str:
    """SOPInstanceUID of image slice k."""
    return f"{ROOT}.7.2.{k + 1}"


def grid(
    shape: tuple[int, int, int], orientation: Sequence[float] = AXIAL, *, step: float = STEP, **others: Any
) -> Grid:
    """The grid of the image: slices along the normal, as `position` puts them."""
    affine = np.eye(4)
    affine[:3, 0] = normal(orientation) * step
    affine[:3, 1] = np.array(orientation[3:]) * SPACING[0]
    affine[:3, 2] = np.array(orientation[:3]) * SPACING[1]
    affine[:3, 3] = position(0, orientation)
    uids = tuple(instance(k) for k in range(shape[0]))
    return Grid(
        shape, affine, **{"frame_of_reference_uid": FRAME_OF_REFERENCE, "instance_uids": uids} | others
    )


def segmentation(
    frames: Sequence[tuple[int | None, Sequence[float] | None, np.ndarray]],
    *,
    orientation: Sequence[float] = AXIAL,
    stated_step: float | None = STEP,
    sources: Sequence[str] = (),
    **others: Any,
) -> bytes:
    """A segmentation of (segment number, position, pixels) a frame; bool pixels make it BINARY.

    sources: SOPInstanceUID of the image of each frame. others: keywords; None leaves one out.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = SegmentationStorage, f"{ROOT}.7.3.1"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.7", f"{ROOT}.7.3"
    ds.FrameOfReferenceUID, ds.Modality = FRAME_OF_REFERENCE, "SEG"
    pixels = np.stack([frame[2] for frame in frames])
    bits = 1 if pixels.dtype == bool else 8 * pixels.itemsize
    ds.SegmentationType = "BINARY" if bits == 1 else "FRACTIONAL"
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    if bits == 1:
        ds.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    else:
        ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if bits <= 8 else "OW"
    ds.PixelData += b"\0" * (len(ds.PixelData) % 2)
    ds.SegmentSequence = [_segment(n) for n in sorted({n for n, _, _ in frames if n is not None}) or [1, 2]]
    ds.SharedFunctionalGroupsSequence = [_shared(orientation, stated_step)]
    ds.PerFrameFunctionalGroupsSequence = [
        _per_frame(number, at, sources[i] if sources else None) for i, (number, at, _) in enumerate(frames)
    ]
    for keyword, value in others.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return as_bytes(ds)


def _segment(number: int) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel, item.SegmentAlgorithmType = number, f"{LABEL} {number}", "MANUAL"
    item.SegmentedPropertyCategoryCodeSequence = [code("85756007", "Tissue")]
    item.SegmentedPropertyTypeCodeSequence = [code("39607008", "Lung")]
    return item


def _shared(orientation: Sequence[float], step: float | None) -> Dataset:
    measures, turned, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 1
    if step is not None:
        measures.SpacingBetweenSlices = step
    turned.ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    return shared


def _per_frame(number: int | None, at: Sequence[float] | None, source: str | None) -> Dataset:
    item = Dataset()
    if number is not None:
        item.SegmentIdentificationSequence = [Dataset()]
        item.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
    if at is not None:
        item.PlanePositionSequence = [Dataset()]
        item.PlanePositionSequence[0].ImagePositionPatient = [float(f"{value:.9g}") for value in at]
    if source is not None:
        image, derivation = Dataset(), Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", source
        derivation.SourceImageSequence = [image]
        item.DerivationImageSequence = [derivation]
    return item
