"""What the voxels of a series are, by pydicom; and the checksum that the work of contenders is held against.

All volumes are HU as int16, shape (z, y, x): z along the normal of the slices, y down the rows as stored.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workload import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr


def digest(values: np.ndarray) -> str:
    """Checksum of the shape and the values, whatever their dtype; they must fit 16 bits."""
    narrow = np.ascontiguousarray(values, dtype="<i2")
    return hashlib.sha256(repr(narrow.shape).encode() + narrow.tobytes()).hexdigest()


def rescaled(values: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values to HU, both whole numbers here."""
    return (values.astype(np.int32) * int(slope) + int(intercept)).astype(np.int16)


def by_position(folder: Path) -> list[Path]:
    """The files of a series of axial slices from feet to head."""
    import pydicom

    def z(path: Path) -> float:
        wanted = ["ImagePositionPatient"]
        image = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
        return float(image.ImagePositionPatient[2])

    return sorted(files(folder), key=z)


def of_slices(paths: Sequence[Path]) -> np.ndarray:
    """A volume from its slices in order."""
    return np.stack([of_image(path) for path in paths])


def of_image(path: Path) -> np.ndarray:
    """One object with one frame, shape (y, x)."""
    import pydicom

    image = pydicom.dcmread(path)
    return rescaled(image.pixel_array, image.RescaleSlope, image.RescaleIntercept)


@cache
def true_digest(folder: Path) -> str:
    """Checksum of the series in a folder."""
    return digest(of_slices(by_position(folder)))


@cache
def true_column_digest(folder: Path, column: int) -> str:
    """Checksum of a sagittal slice of the series in a folder, shape (z, y)."""
    return digest(np.stack([of_image(path)[:, column] for path in by_position(folder)]))


# ---- what contenders made


def of_dataset(dataset: xr.Dataset) -> np.ndarray:
    """A volume that dicomlake opened, or a part of it."""
    attributes = dataset.image.attrs
    return rescaled(dataset.image.values, attributes["rescale_slope"], attributes["rescale_intercept"])


def of_simpleitk(path: Path) -> np.ndarray:
    """A file that SimpleITK wrote."""
    import SimpleITK

    values: np.ndarray = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return values


def of_nifti(path: Path) -> np.ndarray:
    """A file that dcm2niix wrote: axes x, y, z, with the rows from the last to the first."""
    import nibabel

    image: Any = nibabel.load(path)
    stored = image.dataobj.get_unscaled().T[:, ::-1]
    return rescaled(stored, image.dataobj.slope, image.dataobj.inter)
