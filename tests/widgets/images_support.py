"""Images whose every voxel tells its place, lying anyhow in the patient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import dicomlake.volumes.accessor  # noqa: F401  registers `.dicom`
from dicomlake.dicom.grid import Grid
from dicomlake.objects.gridded import coordinates, geometry_attributes
from dicomlake.volumes.read import open_volume
from tests.volumes import stores

FRAME = "1.2.826.0.1.3680043.8.498.78"
SHAPE = (4, 5, 6)


def voxels(shape: tuple[int, ...] = SHAPE, dtype: Any = np.int16) -> np.ndarray:
    """100 z + 10 y + x."""
    z, y, x = np.indices(shape)
    return (100 * z + 10 * y + x).astype(dtype)


def place(value: float) -> tuple[int, int, int]:
    """(z, y, x) of a voxel of `voxels`."""
    return int(value) // 100, int(value) % 100 // 10, int(value) % 10


def image_on(affine: np.ndarray, values: np.ndarray, **attrs: Any) -> xr.DataArray:
    """An image (z, y, x) whose voxels lie where the affine, index (z, y, x) -> LPS mm, puts them."""
    grid = Grid(shape=values.shape, affine=np.asarray(affine, float), frame_of_reference_uid=FRAME)  # type: ignore[arg-type]
    return xr.DataArray(
        values, coordinates(grid), ("z", "y", "x"), "image", {**geometry_attributes(grid), **attrs}
    )


def signed_permutations() -> Iterator[np.ndarray]:
    """All 48 ways in which the axes of an array may lie along those of a patient: columns z, y, x."""
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            yield np.eye(3)[:, list(axes)] * signs


def stored(root: Path, values: np.ndarray, dims: tuple[str, ...], **info: Any) -> tuple[xr.Dataset, Path]:
    """A built volume of these values, opened without Dask, and the folder of its store."""
    volume, store = stores.built(root, stores.single_frames, values, dims, **info)
    return open_volume(volume, store, chunks=None), store


def affine_of(directions: np.ndarray, spacing: tuple[float, ...] = (2.5, 0.75, 0.5)) -> np.ndarray:
    """An affine with these directions as columns, and an odd origin."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = (-17.0, 31.0, 5.5)
    return affine
