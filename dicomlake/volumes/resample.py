"""An even grid from planes that have none: leaning, with gaps, or at uneven distances; by interpolation.

The new slices lie along the normal, one above the other; in the plane the grid of the originals is kept and
grown to hold all planes. A value is the linear mean of the two planes around it, each moved within its
plane as far as the stack leans there; NaN where there was no voxel, or padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from dicomlake.errors import GeometryError
from dicomlake.volumes import placing
from dicomlake.volumes.placing import AXES
from dicomlake.volumes.rescale import interpolable, padding_range

_SLAB = 16  # new slices that are made together


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """Planes along their normal: heights (z,) ascending, shifts (z, 2) in pixels along y and x."""

    heights: np.ndarray
    shifts: np.ndarray
    origin: np.ndarray
    axes: np.ndarray  # rows: normal, along a column, along a row
    pixel: tuple[float, float]


def resampled(image: xr.DataArray, step_mm: float | None = None) -> xr.DataArray:
    """The image on an even grid, float32, lazily; NaN where nothing was measured.

    step_mm: between the new slices; the usual step of the old ones unless given.
    The coordinate `to_measured_mm` (z) says how far the nearest measured plane is.
    Values that are scaled apart from slice to slice, or by a table, are rescaled first.
    Raises GeometryError when the planes are not parallel or have no geometry, and for palette indices.
    """
    image = _ordered(interpolable(image))
    planes = _planes_of(image)
    step = _step(planes.heights, step_mm)
    low = np.floor(planes.shifts.min(axis=0) + 1e-6).astype(int)
    grown = np.ceil(planes.shifts.max(axis=0) - 1e-6).astype(int) - low
    count = int(np.floor((planes.heights[-1] - planes.heights[0]) / step + 1e-6)) + 1
    heights = planes.heights[0] + step * np.arange(count)
    values = _values(image, planes, heights, low, grown)
    return _described(image, values, planes, heights, low, step)


def _ordered(image: xr.DataArray) -> xr.DataArray:
    """With dimensions (…, z, y, x[, rgb]), planes from low to high."""
    if any(name not in image.dims for name in AXES) or "orientation" not in image.attrs:
        raise GeometryError("only parallel planes with geometry can be resampled: this array has none")
    extra = [dim for dim in image.dims if dim not in (*AXES, "rgb")]
    turned = image.transpose(*extra, *AXES, ...)
    heights = turned.coords["z"].values if "z" in turned.coords else np.zeros(0)
    return turned.isel(z=slice(None, None, -1)) if heights.size > 1 and heights[-1] < heights[0] else turned


def _step(heights: np.ndarray, step_mm: float | None) -> float:
    """Between the new slices, in mm."""
    usual = float(np.median(np.diff(heights))) if heights.size > 1 else 1.0
    step = usual if step_mm is None else float(step_mm)
    if not (np.isfinite(step) and step > 0):
        raise GeometryError("step_mm must be a positive length in mm, and no two planes at one height")
    return step


def _planes_of(image: xr.DataArray) -> _Planes:
    row, column = np.asarray(image.attrs["orientation"], dtype=float).reshape(2, 3)
    axes = np.stack([np.cross(row, column), column, row])
    grid = placing.grid(image.drop_vars(["instance_uid", "frame_index"], errors="ignore"))
    pixel = np.einsum("ij,ij->j", grid.affine[:3, 1:3], axes[1:].T)
    if not (pixel > 0).all():
        raise GeometryError("rows or columns are reversed: resample first, turn afterwards")
    along = grid.origins @ axes.T
    if not (np.diff(along[:, 0]) > 0).all():
        raise GeometryError(
            "the planes are not in the order of their heights: resample first, pick afterwards"
        )
    shifts = (along[:, 1:] - along[0, 1:]) / pixel
    return _Planes(along[:, 0], shifts, grid.origins[0], axes, (float(pixel[0]), float(pixel[1])))


def _values(
    image: xr.DataArray, planes: _Planes, heights: np.ndarray, low: np.ndarray, grown: np.ndarray
) -> Any:
    """The new array, a task for each slab."""
    import dask.array as da
    from dask.delayed import delayed

    axis = image.dims.index("z")
    source = (image if image.chunks else image.chunk({"z": _SLAB})).data
    size = list(image.shape)
    rows = image.dims.index("y")
    size[rows], size[rows + 1] = size[rows] + int(grown[0]), size[rows + 1] + int(grown[1])
    parts = []
    padding = padding_range(image)
    for start in range(0, heights.size, _SLAB):
        wanted = heights[start : start + _SLAB]
        first = max(int(np.searchsorted(planes.heights, wanted[0] + 1e-9, "right")) - 1, 0)
        last = min(int(np.searchsorted(planes.heights, wanted[-1] - 1e-9, "left")) + 1, planes.heights.size)
        block = source[(slice(None),) * axis + (slice(first, max(last, first + 1)),)]
        part = delayed(_slab, pure=True)(
            block,
            planes.heights[first:last],
            planes.shifts[first:last] - low,
            wanted,
            axis,
            (int(grown[0]), int(grown[1])),
            padding,
        )
        shape = (*size[:axis], wanted.size, *size[axis + 1 :])
        parts.append(da.from_delayed(part, shape, dtype=np.float32))
    return da.concatenate(parts, axis=axis)


def _slab(
    block: np.ndarray,
    heights: np.ndarray,
    shifts: np.ndarray,
    wanted: np.ndarray,
    axis: int,
    grown: tuple[int, int],
    padding: tuple[float, float] | None,
) -> np.ndarray:
    """New slices at the wanted heights, from the planes around them."""
    planes = np.moveaxis(block, axis, 0).astype(np.float32)
    if padding is not None:
        planes[(planes >= padding[0]) & (planes <= padding[1])] = np.nan
    made = []
    for height in wanted:
        k = int(np.clip(np.searchsorted(heights, height + 1e-9, "right") - 1, 0, max(heights.size - 2, 0)))
        width = heights[k + 1] - heights[k] if heights.size > 1 else 1.0
        part = float(np.clip((height - heights[k]) / width, 0, 1)) if heights.size > 1 else 0.0
        plane = planes[k]
        shift = shifts[k]
        if part > 1e-6:
            plane = plane * np.float32(1 - part) + planes[k + 1] * np.float32(part)
            shift = shift * (1 - part) + shifts[k + 1] * part
        made.append(_moved(_moved(plane, axis, shift[0], grown[0]), axis + 1, shift[1], grown[1]))
    return np.moveaxis(np.stack(made), 0, axis)


def _moved(plane: np.ndarray, axis: int, shift: float, grown: int) -> np.ndarray:
    """The plane on a longer axis, moved by `shift` pixels >= 0; NaN around it."""
    whole = int(np.floor(shift + 1e-6))
    part = shift - whole if shift - whole > 1e-6 else 0.0
    moved = np.moveaxis(plane, axis, 0)
    n = moved.shape[0]
    found = np.full((n + grown, *moved.shape[1:]), np.nan, dtype=np.float32)
    if part == 0.0:
        found[whole : whole + n] = moved
    else:
        found[whole + 1 : whole + n] = moved[1:] * np.float32(1 - part) + moved[:-1] * np.float32(part)
    return np.moveaxis(found, 0, axis)


def _described(
    image: xr.DataArray, values: Any, planes: _Planes, heights: np.ndarray, low: np.ndarray, step: float
) -> xr.DataArray:
    between_rows, between_columns = planes.pixel
    corner = (
        planes.origin + low[0] * between_rows * planes.axes[1] + low[1] * between_columns * planes.axes[2]
    )
    affine = np.eye(4)
    affine[:3, 0] = planes.axes[0] * step
    affine[:3, 1], affine[:3, 2] = planes.axes[1] * between_rows, planes.axes[2] * between_columns
    affine[:3, 3] = corner
    origin = planes.axes @ corner
    steps = (step, between_rows, between_columns)
    sizes = dict(zip(image.dims, values.shape, strict=True))
    coords: dict[str, Any] = {
        name: (name, first + each * np.arange(sizes[name]), {"units": "mm"})
        for name, first, each in zip(AXES, origin, steps, strict=True)
    }
    distance = np.abs(heights[:, None] - planes.heights).min(axis=1)
    coords["to_measured_mm"] = ("z", distance, {"units": "mm"})
    coords |= {str(n): c for n, c in image.coords.items() if n not in coords and not set(c.dims) & {*AXES}}
    gone = ("tilt_", "padding_", "level")  # level: the new affine is of these very voxels
    attrs = {str(k): v for k, v in image.attrs.items() if not str(k).startswith(gone)}
    attrs |= {
        "affine_lps": affine.tolist(),
        "origin_mm": origin.tolist(),
        "step_mm": list(steps),
        "spacing_mm": list(steps),
        "resampled_from": image.attrs.get("verdict"),
        "verdict": "regular",
    }
    return xr.DataArray(values, coords, image.dims, image.name, attrs)
