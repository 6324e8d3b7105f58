"""Where the voxels of an image array lie, whatever slicing has left of it: affine, grid, points.

Everything follows the array's own coordinates z, y, x and the attributes it was opened with.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import xarray as xr

from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError

AXES = ("z", "y", "x")
_EVEN = 1e-3  # of a step: how far positions may be from evenly spaced


def affine(image: xr.DataArray) -> np.ndarray:
    """Voxel index (z, y, x) to patient position, LPS, mm; shape (4, 4) (PS3.3 C.7.6.2.1.1).

    Raises GeometryError when the array has no geometry or its slices are not evenly spaced.
    """
    whole = _whole_affine(image)
    origin, step = image.attrs["origin_mm"], image.attrs["step_mm"]
    found, start = np.eye(4), np.empty(3)
    for axis, name in enumerate(AXES):
        positions = np.atleast_1d(image.coords[name].values).astype(float)
        index = (positions - origin[axis]) / step[axis]
        start[axis] = index[0]
        found[:3, axis] = whole[:3, axis] * _even_step(index, name)
    found[:3, 3] = whole[:3, :3] @ start + whole[:3, 3]
    return found


def _whole_affine(image: xr.DataArray) -> np.ndarray:
    verdict = image.attrs.get("verdict")
    if "affine_lps" not in image.attrs and "origin_mm" in image.attrs:
        raise GeometryError(
            f"no single affine places these slices, they are {verdict}: open the series with"
            " grid='resample', or use the coordinate `position`"
        )
    if "affine_lps" not in image.attrs or any(name not in image.coords for name in AXES):
        raise GeometryError(
            "this array has no geometry: it was opened without one, or an operation dropped its "
            "coordinates or attributes; keep them with xr.set_options(keep_attrs=True)"
        )
    return np.asarray(image.attrs["affine_lps"], dtype=float)


def _even_step(index: np.ndarray, name: str) -> float:
    if index.size == 1:
        return 1.0
    steps = np.diff(index)
    if not np.allclose(steps, steps[0], atol=_EVEN):
        raise GeometryError(f"the positions along {name} are not evenly spaced: there is no affine")
    return float(steps[0])


def grid(image: xr.DataArray) -> Grid:
    """The grid of an image, for masks, doses and segmentations; irregular planes come with `positions`.

    Raises GeometryError when the array has no geometry.
    """
    solid = whole_space(image)
    shape = tuple(int(solid.sizes[name]) for name in AXES)
    uids, frames = _per_slice(image, "instance_uid"), _per_slice(image, "frame_index")
    positions = None
    if "affine_lps" in image.attrs:
        matrix = affine(image)
    else:
        matrix, positions = _planes(image)
    return Grid(
        shape=(shape[0], shape[1], shape[2]),
        affine=matrix,
        positions=positions,
        frame_of_reference_uid=image.attrs.get("frame_of_reference_uid"),
        instance_uids=tuple(str(uid) for uid in uids),
        frame_index=tuple(int(i) for i in frames),
    )


def _per_slice(image: xr.DataArray, name: str) -> list[Any]:
    """A coordinate of each slice, that of the first along other axes; empty without one."""
    if name not in image.coords:
        return []
    values = image.coords[name]
    values = values.isel({dim: 0 for dim in values.dims if dim != "z"})
    return list(np.atleast_1d(values.values).tolist())


def _planes(image: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """An affine whose in-plane columns hold, and the position of each plane, (z, 3)."""
    if "orientation" not in image.attrs or not has_positions(image) or "z" not in image.coords:
        raise GeometryError("this array has no geometry: it was opened without one, or slicing dropped it")
    row, column = np.asarray(image.attrs["orientation"], dtype=float).reshape(2, 3)
    between_rows, between_columns = image.attrs["pixel_spacing_mm"]
    origin = image.attrs["origin_mm"]
    positions = positions_of(image)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cross(row, column)
    for axis, name, direction, step in ((1, "y", column, between_rows), (2, "x", row, between_columns)):
        index = (np.atleast_1d(image.coords[name].values).astype(float) - origin[axis]) / step
        matrix[:3, axis] = direction * step * _even_step(index, name)
        positions = positions + direction * step * index[0]
    matrix[:3, 3] = positions[0]
    return matrix, positions


def has_positions(image: xr.DataArray) -> bool:
    """Whether the planes come with positions of their own, as irregular ones do."""
    return all(f"position_{axis}" in image.coords for axis in "xyz")


def positions_of(image: xr.DataArray) -> np.ndarray:
    """ImagePositionPatient of each plane, (z, 3), LPS, mm, from the coordinates position_x, _y, _z."""
    columns = [np.atleast_1d(image.coords[f"position_{axis}"].values) for axis in "xyz"]
    return np.stack(columns, axis=1).astype(float)


def whole_space(image: xr.DataArray) -> xr.DataArray:
    """The array with all of z, y, x as dimensions: those that an integer index removed have length 1."""
    lost = [name for name in AXES if name not in image.dims and name in image.coords]
    return image.expand_dims(lost) if lost else image


def at_points(
    image: xr.DataArray, x: Any, y: Any, z: Any, method: Literal["nearest", "linear"]
) -> xr.DataArray:
    """The values at patient positions, LPS, mm; along a dimension `point` unless all three are scalars.

    Raises GeometryError when a point lies more than half a voxel outside, or is no number.
    """
    if method not in ("nearest", "linear"):
        raise ValueError(f"method is nearest or linear, not {method!r}")
    points = np.stack(np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (x, y, z))))
    homogeneous = np.vstack([points.reshape(3, -1), np.ones(points[0].size)])
    index = (np.linalg.inv(affine(image)) @ homogeneous)[:3]
    solid = whole_space(image)
    shape = np.array([solid.sizes[name] for name in AXES])[:, None]
    if not ((index >= -0.5) & (index <= shape - 0.5)).all():  # nor NaN
        raise GeometryError("a point lies outside the volume: compare with .dicom.affine and the shape")
    index = np.clip(index, 0, shape - 1)
    picked = _picked(solid, np.rint(index)) if method == "nearest" else _trilinear(solid, index, shape)
    return picked.isel(point=0) if points.ndim == 1 else picked


def _picked(image: xr.DataArray, index: np.ndarray) -> xr.DataArray:
    """The voxels at whole indices, shape (3, n), along the dimension `point`."""
    whole = index.astype(int)
    return image.isel({n: xr.DataArray(whole[a], dims="point") for a, n in enumerate(AXES)})


def _trilinear(image: xr.DataArray, index: np.ndarray, shape: np.ndarray) -> xr.DataArray:
    """Weighted by the eight voxels around each point; float32."""
    low = np.minimum(np.floor(index), np.maximum(shape - 2, 0))
    part = index - low
    total: Any = 0
    for corner in itertools.product((0, 1), repeat=3):
        side = np.array(corner)[:, None]
        weight = np.prod(np.where(side, part, 1 - part), axis=0).astype(np.float32)
        voxels = _picked(image, np.minimum(low + side, shape - 1)).astype(np.float32)
        total = total + voxels.drop_vars(voxels.coords) * xr.DataArray(weight, dims="point")
    found: xr.DataArray = total.assign_attrs(image.attrs).rename(image.name)
    return found
