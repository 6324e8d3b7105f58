"""Small RT Structure Sets as bytes, written by pydicom, and grids to draw them on."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from dicomlake.dicom.grid import Grid

FRAME = "1.2.826.0.1.3680043.8.498.77"
NAME = "Secret^Region"  # free text that no repr, finding or error may show


def contour(points: Any, kind: str = "CLOSED_PLANAR", images: Sequence[str] = (), **others: Any) -> Dataset:
    """An item of ContourSequence; points (n, 3), or the text of ContourData."""
    item = Dataset()
    item.ContourGeometricType = kind
    if images:
        item.ContourImageSequence = []
        for uid in images:
            image = Dataset()
            image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
            item.ContourImageSequence.append(image)
    if isinstance(points, str):
        item.add_new(0x30060050, "LO", points)  # LO: pydicom does not check it
    else:
        item.NumberOfContourPoints = len(points)
        item.ContourData = [f"{value:.6f}" for value in np.asarray(points, float).ravel()]
    for keyword, value in others.items():
        setattr(item, keyword, value)
    return item


def region(number: int, contours: Sequence[Dataset], **others: Any) -> dict[str, Any]:
    """A region for `structure_set`; others: name, kind, colour, frame."""
    return {"number": number, "contours": contours, "name": f"{NAME} {number}", "frame": FRAME, **others}


def structure_set(*regions: dict[str, Any]) -> bytes:
    """The regions as an RT Structure Set in implicit or explicit VR as pydicom sees fit."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, f"{FRAME}.1", "RTSTRUCT"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for one in regions:
        described, drawn, seen = Dataset(), Dataset(), Dataset()
        described.ROINumber, described.ROIName = one["number"], one["name"]
        if one["frame"]:
            described.ReferencedFrameOfReferenceUID = one["frame"]
        described.ROIGenerationAlgorithm = "MANUAL"
        drawn.ReferencedROINumber = seen.ReferencedROINumber = one["number"]
        drawn.ROIDisplayColor = one.get("colour", [255, 0, 16])
        if one["contours"]:
            drawn.ContourSequence = list(one["contours"])
        seen.ObservationNumber, seen.RTROIInterpretedType = one["number"], one.get("kind", "ORGAN")
        ds.StructureSetROISequence.append(described)
        ds.ROIContourSequence.append(drawn)
        ds.RTROIObservationsSequence.append(seen)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def circle(
    radius: float, z: float = 0.0, centre: tuple[float, float] = (0.0, 0.0), n: int = 64
) -> np.ndarray:
    """Points (n, 3) on an axial circle."""
    angle = 2 * np.pi * np.arange(n) / n
    x, y = centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)
    return np.stack([x, y, np.full(n, z)], 1)


def square(half: float, z: float = 0.0, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The four corners (4, 3) of an axial square."""
    x, y = centre
    return np.array([(x + a * half, y + b * half, z) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])


def axial(
    shape: tuple[int, int, int], step: float = 1.0, pixel: float = 1.0, first: float = 0.0, **others: Any
) -> Grid:
    """An axial grid around x = y = 0 whose first slice is at z = first."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, pixel], [0, pixel, 0], [step, 0, 0]])
    affine[:3, 3] = (-(shape[2] - 1) / 2 * pixel, -(shape[1] - 1) / 2 * pixel, first)
    return Grid(shape, affine, **{"frame_of_reference_uid": FRAME, **others})


def turned(grid: Grid, rotation: np.ndarray) -> Grid:
    """The same grid in a rotated patient."""
    affine = np.eye(4)
    affine[:3, :3] = rotation
    return Grid(grid.shape, affine @ grid.affine, None, grid.frame_of_reference_uid, grid.instance_uids)


def rotation(*degrees: float) -> np.ndarray:
    """Turns about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(3)
        one[[a, b], [a, b]] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        out = one @ out
    return out
