"""The dose at other places than its own voxels, by trilinear interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.grid import Grid
from dicomlake.errors import DicomlakeError, GeometryError

Array = npt.NDArray[np.float64]

_EDGE = 1e-6  # of a voxel: float noise at the rim of the dose grid
_AT_ONCE = 1 << 20  # voxels that are sampled in one go


def dose_on(grid: Grid, dose: Any, dose_grid: Grid, *, outside_gy: float = np.nan) -> Array:
    """The dose at the voxel centres of another grid, shape (z, y, x) of that grid, float64.

    dose: (z, y, x) on dose_grid in Gy, an array or DataArray. Trilinear between voxel centres; in the outer
    half of an outermost voxel its own dose, beyond that outside_gy.
    Raises GeometryError when shapes or frames of reference differ, or for a dose whose planes are uneven
    and shifted; DicomlakeError when the dose says that it is not in Gy.
    """
    out = np.empty(grid.shape)
    rows = np.indices(grid.shape[1:]).reshape(2, -1).T
    values = _checked(dose, dose_grid, grid)
    for z in range(grid.shape[0]):
        index = np.column_stack([np.full(len(rows), z), rows])
        out[z] = _sample(values, _dose_index(voxel_centres(grid, index), dose_grid)).reshape(grid.shape[1:])
    return np.where(np.isnan(out), outside_gy, out)


def dose_at(points: Array, dose: Any, dose_grid: Grid, grid: Grid) -> Array:
    """The dose at points (n, 3), LPS, mm, of the space of `grid`; nan beyond the dose grid; shape (n,)."""
    values = _checked(dose, dose_grid, grid)
    parts = range(0, len(points), _AT_ONCE)
    found = [_sample(values, _dose_index(points[i : i + _AT_ONCE], dose_grid)) for i in parts]
    return np.concatenate(found) if found else np.empty(0)


def voxel_centres(grid: Grid, index: npt.NDArray[np.integer]) -> Array:
    """Voxel index (n, 3) in order z, y, x to patient position (n, 3), LPS, mm; uneven slices too."""
    if grid.positions is None:
        return geometry.to_lps(grid.affine, index)
    return np.asarray(grid.positions[index[:, 0]] + index[:, 1:] @ grid.affine[:3, 1:3].T)


def _checked(dose: Any, dose_grid: Grid, grid: Grid) -> Array:
    """The dose as an array; raises unless it is in Gy, fits its grid, and shares a space with the other."""
    units = getattr(dose, "attrs", {}).get("units", "GY")
    if str(units).upper() != "GY":
        raise DicomlakeError(
            f"the dose is in units {units!r}, not Gy: a relative dose has no dose statistics"
        )
    if np.shape(dose) != dose_grid.shape:
        raise GeometryError(
            f"the dose has shape {np.shape(dose)}, its grid {dose_grid.shape}: give its own grid"
        )
    mine, theirs = dose_grid.frame_of_reference_uid, grid.frame_of_reference_uid
    if dose_grid is not grid and (mine is None or mine != theirs):
        raise GeometryError(
            f"the dose is in frame of reference {mine or 'unknown'}, the other grid in {theirs or 'unknown'}:"
            " take a series in the frame of the dose; if you know that the two are one, give both grids the"
            " same by dataclasses.replace"
        )
    return np.asarray(dose, dtype=np.float64)


def _dose_index(points: Array, dose_grid: Grid) -> Array:
    """Patient positions (n, 3) to fractional index (n, 3) of the dose; uneven planes by height."""
    if dose_grid.positions is None:
        return dose_grid.to_index(points)
    origins, normal = dose_grid.positions, dose_grid.normal
    heights = (origins - origins[0]) @ normal
    sideways = origins - origins[0] - np.outer(heights, normal)
    steps = np.diff(heights)
    if np.abs(sideways).max() > geometry.SAME_PLACE_MM or not ((steps > 0).all() or (steps < 0).all()):
        raise GeometryError("planes of the dose are uneven and not one above the other: no dose in between")
    affine = dose_grid.affine.copy()
    affine[:3, 0], affine[:3, 3] = normal, origins[0]
    index = geometry.to_index(affine, points)  # first column: mm along the normal
    index[:, 0] = _between(index[:, 0], heights)
    return index


def _between(height: Array, heights: Array) -> Array:
    """Heights to fractional plane numbers; beyond the ends by the last step."""
    order = np.argsort(heights)
    low, step = heights[order], np.diff(heights[order])
    place = np.clip(np.searchsorted(low, height) - 1, 0, len(step) - 1)
    found = place + (height - low[place]) / step[place]
    return found if order[0] == 0 else len(heights) - 1 - found


def _sample(values: Array, index: Array) -> Array:
    """Trilinear at fractional index (n, 3); nan more than half a voxel beyond the outermost centres."""
    last = np.array(values.shape) - 1
    inside = ((index >= -0.5 - _EDGE) & (index <= last + 0.5 + _EDGE)).all(axis=1)
    place = np.clip(index[inside], 0, last)
    low = np.minimum(place.astype(np.int64), np.maximum(last - 1, 0))
    share = place - low
    total = np.zeros(len(place))
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, share, 1 - share).prod(axis=1)
        total += weight * values[tuple(np.minimum(low + corner, last).T)]
    out = np.full(len(index), np.nan)
    out[inside] = total
    return out
