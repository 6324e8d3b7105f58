"""Oblique and sheared stacks of slices, whose every voxel tells its index, and where each voxel lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydicom.dataset import Dataset

import dicomlake
from tests import objects

ROW, COLUMN = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(ROW, COLUMN)
FIRST, PIXEL = np.array([-30.0, 12.0, 55.0]), (0.75, 0.5)
STEPS = {
    "oblique": 2.5 * NORMAL,
    "sheared": 2.5 * NORMAL + 0.9 * COLUMN - 0.4 * ROW,
}
SHAPE = (6, 9, 7)


def position(kind: str, k: float, row: float, column: float) -> np.ndarray:
    """Where a voxel lies, LPS, mm."""
    plane = FIRST + k * STEPS[kind]
    return np.asarray(plane + row * PIXEL[0] * COLUMN + column * PIXEL[1] * ROW)


def voxels() -> np.ndarray:
    k, row, column = np.indices(SHAPE)
    return (1000 * k + 50 * row + column).astype(np.int16)


def slices(kind: str, change: Callable[[Dataset, int], None] | None = None) -> list[bytes]:
    """A stack of slices of that kind, last slice first."""
    made = []
    for k in reversed(range(SHAPE[0])):
        ds = objects.dataset(k + 1, size=4, series=f"{objects.ROOT}.6.{len(kind)}")
        ds.ImageOrientationPatient = [*ROW, *COLUMN]
        ds.ImagePositionPatient = [f"{v:.9g}" for v in position(kind, k, 0, 0)]
        ds.PixelSpacing = list(PIXEL)
        ds.Rows, ds.Columns = SHAPE[1:]
        ds.PixelRepresentation, ds.RescaleIntercept = 1, 0
        ds.PixelData = voxels()[k].tobytes()
        if change:
            change(ds, k)
        made.append(objects.as_bytes(ds))
    return made


def opened(root: Path, sources: list[bytes], **how: Any) -> xr.DataArray:
    """The image of one series through a lake."""
    with dicomlake.open(root, create=True) as lake:
        lake.ingest(*sources, progress=False)
        found: xr.DataArray = lake.query()[0].open(**how).image
        return found
