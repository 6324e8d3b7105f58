"""Where the voxels of an image array lie, whatever slicing has left of it: affine, grid, points.

Everything follows the array's own coordinates z, y, x and the attributes it was opened with.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import xarray as xr

from dicomlake.dicom import geometry
from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError
from dicomlake.volumes.rescale import interpolable, without_padding

AXES = ("z", "y", "x")
_EVEN = 1e-3  # of a step: how far positions may be from evenly spaced
_NO_GEOMETRY = (
    "this array has no geometry: it was opened without one, as a halved copy of uneven planes, or an"
    " operation dropped its coordinates or attributes; keep them with xr.set_options(keep_attrs=True)"
)
_ROUNDING = 1e-6  # of a voxel: how far off a point on a voxel, or on the very edge, may seem to be


def affine(image: xr.DataArray) -> np.ndarray:
    """Voxel index (z, y, x) to patient position, LPS, mm; shape (4, 4) (PS3.3 C.7.6.2.1.1).

    Of unevenly spaced planes a part may be even, and has one; a lone plane is 1 mm thick.
    Raises GeometryError when the array has no geometry or its slices are not evenly spaced.
    """
    if "affine_lps" not in image.attrs and has_positions(image):
        return _through(*_planes(image), image.attrs.get("verdict"))
    if "affine_lps" not in image.attrs or not _has_axes(image):
        raise GeometryError(_NO_GEOMETRY)
    whole = np.asarray(image.attrs["affine_lps"], dtype=float)
    found, start = np.eye(4), np.empty(3)
    for axis, name in enumerate(AXES):
        index = _index(image, name, image.attrs["origin_mm"][axis], image.attrs["step_mm"][axis])
        start[axis] = index[0]
        found[:3, axis] = whole[:3, axis] * _even_step(index, name, _alone(image))
    found[:3, 3] = whole[:3, :3] @ start + whole[:3, 3]
    return found


def _through(matrix: np.ndarray, positions: np.ndarray, verdict: Any) -> np.ndarray:
    """The affine through planes that have positions of their own, where they are even after all."""
    if len(positions) == 1:
        return matrix
    found = matrix.copy()
    found[:3, 0] = (positions[-1] - positions[0]) / (len(positions) - 1)
    fitted = positions[0] + np.arange(len(positions))[:, None] * found[:3, 0]
    off = np.linalg.norm(positions - fitted, axis=1).max()
    if not off <= geometry.fit_tolerance_mm(found):  # nor NaN, nor planes that do not move
        raise GeometryError(
            f"no single affine places these slices, they are {verdict}: open the series with"
            " grid='resample', or use the coordinates position_x, _y and _z"
        )
    return found


def _has_axes(image: xr.DataArray) -> bool:
    """Whether z, y and x are axes of the array, or what an integer index left of them."""
    return all(name in image.coords and image.coords[name].dims in ((name,), ()) for name in AXES)


def _index(image: xr.DataArray, name: str, origin: float, step: float) -> np.ndarray:
    """Where the voxels of an axis lie, in voxels of the volume that the array was taken from."""
    found = (np.atleast_1d(image.coords[name].values).astype(float) - origin) / step
    if found.size == 0:
        raise GeometryError(f"the array is empty along {name}: it lies nowhere")
    return found


def _alone(image: xr.DataArray) -> float:
    """How many voxels of the volume one voxel is, where there is no neighbour to tell."""
    return float(2 ** image.attrs.get("level", 0))


def _even_step(index: np.ndarray, name: str, alone: float) -> float:
    if index.size == 1:
        return alone
    step = float(index[-1] - index[0]) / (index.size - 1)
    off = np.abs(index - index[0] - step * np.arange(index.size)).max()
    if step == 0 or not off <= _EVEN * abs(step):  # nor NaN
        raise GeometryError(f"the positions along {name} are not evenly spaced: there is no affine")
    return step


def unsheared(matrix: np.ndarray, slices: int) -> np.ndarray:
    """The affine with its slice step along the normal of the slices, as ITK and a NIfTI qform need it.

    matrix: columns z, y, x. Raises GeometryError when that would move the last slice by more than a tenth of
    a pixel.
    """
    if geometry.is_sheared(matrix, slices):
        raise GeometryError(
            "the volume is sheared, which an image with perpendicular axes cannot say: take"
            " .dicom.resampled() first"
        )
    found = np.array(matrix, dtype=float)
    row, column = found[:3, 2], found[:3, 1]
    across = np.cross(row, column)
    across /= np.linalg.norm(across)
    found[:3, 0] = across * (found[:3, 0] @ across)
    found[:3, 1] = np.cross(across, row) / np.linalg.norm(row) * np.linalg.norm(column)
    return found


def grid(image: xr.DataArray) -> Grid:
    """The grid of an image, for masks, doses and segmentations; irregular planes come with `positions`.

    Raises GeometryError when the array has no geometry.
    """
    if "affine_lps" in image.attrs:
        matrix, positions = affine(image), None
    else:
        matrix, positions = _planes(image)
    sizes = whole_space(image).sizes
    uids, frames = _per_slice(image, "instance_uid"), _per_slice(image, "frame_index")
    return Grid(
        shape=(sizes["z"], sizes["y"], sizes["x"]),
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
    if "orientation" not in image.attrs or not has_positions(image) or not _has_axes(image):
        raise GeometryError(_NO_GEOMETRY)
    row, column = np.asarray(image.attrs["orientation"], dtype=float).reshape(2, 3)
    positions = positions_of(image)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cross(row, column)
    for axis, name, direction in ((1, "y", column), (2, "x", row)):
        step = image.attrs["pixel_spacing_mm"][axis - 1]
        index = _index(image, name, image.attrs["origin_mm"][axis], step)
        matrix[:3, axis] = direction * step * _even_step(index, name, _alone(image))
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
    index = geometry.to_index(affine(image), points.reshape(3, -1).T).T
    solid = whole_space(image)
    shape = np.array([solid.sizes[name] for name in AXES])[:, None]
    if not ((index >= -0.5 - _ROUNDING) & (index <= shape - 0.5 + _ROUNDING)).all():  # nor NaN
        raise GeometryError("a point lies outside the volume: compare with .dicom.affine and the shape")
    index = np.clip(index, 0, shape - 1)
    picked = _picked(solid, np.floor(index + 0.5)) if method == "nearest" else _trilinear(solid, index, shape)
    return picked.isel(point=0) if points.ndim == 1 else picked


def _picked(image: xr.DataArray, index: np.ndarray) -> xr.DataArray:
    """The voxels at whole indices, shape (3, n), along the dimension `point`."""
    whole = index.astype(int)
    return image.isel({n: xr.DataArray(whole[a], dims="point") for a, n in enumerate(AXES)})


def _trilinear(image: xr.DataArray, index: np.ndarray, shape: np.ndarray) -> xr.DataArray:
    """Weighted by the eight voxels around each point; floating point, NaN beside padding."""
    image = without_padding(interpolable(image))
    whole = np.rint(index)
    index = np.where(np.abs(index - whole) < _ROUNDING, whole, index)  # on a voxel: no neighbour has a say
    low = np.minimum(np.floor(index), np.maximum(shape - 2, 0))
    part = index - low
    total: Any = 0
    for corner in itertools.product((0, 1), repeat=3):
        side = np.array(corner)[:, None]
        weight = xr.DataArray(
            np.prod(np.where(side, part, 1 - part), axis=0).astype(np.float32), dims="point"
        )
        voxels = _picked(image, np.minimum(low + side, shape - 1))
        of_points = [name for name, values in voxels.coords.items() if "point" in values.dims]
        share = voxels.drop_vars(of_points) * weight
        total = total + share.where(weight > 0, 0)  # NaN of a voxel without weight is none
    found: xr.DataArray = total.assign_attrs(image.attrs).rename(image.name)
    return found
