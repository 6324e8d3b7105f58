"""A block of a target grid from the part of a volume that lies under it, true to patient geometry.

Volumes with an affine, sheared ones too, go through SimpleITK: the image is taken in voxel indices and the
whole geometry is in the transform, as ITK's directions cannot lean. Planes with positions of their own are
sampled at these positions, linearly between two planes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError

Array = npt.NDArray[np.float64]
Region = tuple[slice, slice, slice]
Read = Callable[[Region], npt.NDArray[Any]]
Interpolation = Literal["linear", "nearest"]
_MARGIN = 2  # source voxels around what is needed: the edge of a part is not that of the volume
_SNAP = 1e-6  # of a voxel: nearer to a voxel than this is on it, so that no neighbour has a say
_FWHM_TO_SIGMA = 1 / math.sqrt(8 * math.log(2))
_REACH = 4  # sigmas


def sample(
    read: Read,
    source: Grid,
    target: Array,
    shape: tuple[int, int, int],
    *,
    interpolation: Interpolation = "linear",
    smooth: bool = False,
) -> npt.NDArray[Any]:
    """Values (z, y, x) of `shape` at the places of a target block; NaN outside the volume.

    read: the part of the source that a region of voxel indices names, floating point, NaN for no voxel.
    target: affine of the block, voxel index (z, y, x) to LPS, mm.
    A voxel reaches half a voxel around its centre: beyond the outermost centres the nearest value holds.
    smooth: a Gaussian before sampling where the target is coarser, see `blur_sigmas`.
    Raises GeometryError for planes that are not in the order of their heights, or must be smoothed.
    """
    if source.positions is not None:
        if smooth:
            raise GeometryError("its planes are unevenly spaced, which cannot be smoothed: pass smooth=False")
        return _between_planes(read, source, target, shape, interpolation)
    to_source: Array = np.linalg.solve(source.affine, target).astype(np.float64)
    sigmas = blur_sigmas(to_source) if smooth else (0.0, 0.0, 0.0)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in shape))), dtype=float)
    index = corners @ to_source[:3, :3].T + to_source[:3, 3]
    margin = [_MARGIN + math.ceil(_REACH * sigma) for sigma in sigmas]
    region = _region(index.min(axis=0), index.max(axis=0), source.shape, margin)
    if region is None:
        return np.full(shape, np.nan, dtype=np.float32)
    part = blurred(read(region), sigmas)
    return _by_itk(part, to_source, [r.start for r in region], shape, interpolation)


def blur_sigmas(to_source: Array) -> tuple[float, float, float]:
    """Standard deviations, in source voxels along z, y, x, that make source voxels as wide as target ones.

    A voxel counts as a Gaussian whose full width at half maximum is its size; widths add in squares
    (Cardoso et al., Scale factor point spread function matching, MICCAI 2015). 0 where the target is finer.
    """
    widths = np.linalg.norm(to_source[:3, :3], axis=1)
    found = np.sqrt(np.maximum(widths**2 - 1, 0)) * _FWHM_TO_SIGMA
    return float(found[0]), float(found[1]), float(found[2])


def blurred(values: npt.NDArray[Any], sigmas: tuple[float, float, float]) -> npt.NDArray[Any]:
    """Convolved with a Gaussian along each axis; edges are continued, NaN has no weight and stays NaN."""
    if max(sigmas) < _SNAP:
        return values
    known = np.isfinite(values)
    whole = bool(known.all())
    total = values if whole else np.where(known, values, 0).astype(values.dtype)
    weight = None if whole else known.astype(values.dtype)
    for axis, sigma in enumerate(sigmas):
        if sigma >= _SNAP:
            total = _convolved(total, axis, sigma)
            weight = None if weight is None else _convolved(weight, axis, sigma)
    if weight is None:
        return total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, total / weight, np.nan).astype(values.dtype)


def _convolved(values: npt.NDArray[Any], axis: int, sigma: float) -> npt.NDArray[Any]:
    reach = math.ceil(_REACH * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(values.dtype)
    size = values.shape[axis]
    wide = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)], "edge")
    rows = np.moveaxis(wide, axis, 0)
    found = sum(tap * rows[i : i + size] for i, tap in enumerate(taps))
    return np.moveaxis(np.asarray(found), 0, axis)


def _region(
    low: Array, high: Array, shape: tuple[int, ...], margin: list[int] | tuple[int, ...]
) -> Region | None:
    """The source voxels from `low` to `high` with a margin; None where none of them is needed."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise GeometryError("the grids cannot be related: an affine is singular")
    found = []
    for first, last, size, more in zip(low, high, shape, margin, strict=True):
        if last < -0.5 - _SNAP or first > size - 0.5 + _SNAP:
            return None
        start = max(math.floor(first) - more, 0)
        stop = min(math.ceil(last) + 1 + more, size)
        found.append(slice(min(start, size - 1), max(stop, 1)))
    return found[0], found[1], found[2]


def _by_itk(
    part: npt.NDArray[Any],
    to_source: Array,
    start: list[int],
    shape: tuple[int, int, int],
    interpolation: Interpolation,
) -> npt.NDArray[Any]:
    import SimpleITK as sitk

    matrix, offset = _snapped(to_source[:3, :3]), _snapped(to_source[:3, 3])
    image = sitk.GetImageFromArray(np.ascontiguousarray(part))
    image.SetOrigin([float(first) for first in reversed(start)])
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[::-1, ::-1].ravel().tolist())
    transform.SetTranslation(offset[::-1].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in reversed(shape)])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(float("nan"))
    resampler.SetNumberOfThreads(1)  # Dask runs as many blocks as there are cores
    found: npt.NDArray[Any] = sitk.GetArrayFromImage(resampler.Execute(image))
    return found


def _snapped(values: Array) -> Array:
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < _SNAP * 1e-3, whole, values)


# ---- planes with positions of their own ------------------------------------------------------------


def _between_planes(
    read: Read, source: Grid, target: Array, shape: tuple[int, int, int], interpolation: Interpolation
) -> npt.NDArray[Any]:
    index = plane_index(source, target, shape)
    limits = np.array(source.shape)
    inside = ((index >= -0.5 - _SNAP) & (index <= limits - 0.5 + _SNAP)).all(axis=-1)
    found = np.full(shape, np.nan, dtype=np.float32)
    if not inside.any():
        return found
    wanted = np.clip(index[inside], 0, limits - 1)
    region = _region(wanted.min(axis=0), wanted.max(axis=0), source.shape, (1, 1, 1))
    if region is None:
        return found
    part = read(region)
    local = wanted - [r.start for r in region]
    values = _nearest(part, local) if interpolation == "nearest" else _trilinear(part, local)
    found = found.astype(values.dtype, copy=False)
    found[inside] = values
    return found


def plane_index(source: Grid, target: Array, shape: tuple[int, int, int]) -> Array:
    """Fractional voxel index (…, 3) in the source of each voxel of the target; < -0.5 below the planes.

    Between two planes the grid within the plane goes over from that of the one to that of the other.
    Raises GeometryError when the planes are not in the order of their heights.
    """
    rows, columns = source.affine[:3, 1], source.affine[:3, 2]
    pixel = np.linalg.norm(rows), np.linalg.norm(columns)
    heights = source.origins @ source.normal
    turn = -1.0 if heights.size > 1 and heights[-1] < heights[0] else 1.0
    along = turn * heights
    if not (np.diff(along) > 0).all():
        raise GeometryError("its planes are not in the order of their heights")
    counts = [np.arange(n, dtype=float) for n in shape]
    z, y, x = np.meshgrid(*counts, indexing="ij", sparse=True)

    def on(direction: Array) -> Array:
        """The position of every target voxel along a direction, mm."""
        steps = direction @ target[:3]
        return np.asarray(steps[0] * z + steps[1] * y + steps[2] * x + steps[3])

    number = _fractional(turn * on(source.normal), along)
    down, right = rows / pixel[0], columns / pixel[1]
    places = np.arange(heights.size)
    from_top = on(down) - np.interp(number, places, source.origins @ down)
    from_left = on(right) - np.interp(number, places, source.origins @ right)
    return np.stack([number, from_top / pixel[0], from_left / pixel[1]], axis=-1)


def _fractional(heights: Array, planes: Array) -> Array:
    """Between which planes each height lies; beyond the ends counted in the outermost steps."""
    if planes.size == 1:
        return np.asarray(heights - planes[0])  # a lone plane is 1 mm thick
    found = np.interp(heights, planes, np.arange(planes.size))
    below, above = heights < planes[0], heights > planes[-1]
    found = np.where(below, (heights - planes[0]) / (planes[1] - planes[0]), found)
    beyond = planes.size - 1 + (heights - planes[-1]) / (planes[-1] - planes[-2])
    return np.asarray(np.where(above, beyond, found))


def _nearest(values: npt.NDArray[Any], index: Array) -> npt.NDArray[Any]:
    whole = np.minimum(np.floor(index + 0.5).astype(int), np.array(values.shape) - 1)
    found: npt.NDArray[Any] = values[whole[:, 0], whole[:, 1], whole[:, 2]]
    return found


def _trilinear(values: npt.NDArray[Any], index: Array) -> npt.NDArray[Any]:
    whole = np.rint(index)
    index = np.where(np.abs(index - whole) < _SNAP, whole, index)
    low = np.minimum(np.floor(index).astype(int), np.maximum(np.array(values.shape) - 2, 0))
    part = (index - low).astype(values.dtype)
    total = np.zeros(len(index), dtype=values.dtype)
    for corner in itertools.product((0, 1), repeat=3):
        side = np.array(corner)
        weight = np.prod(np.where(side, part, 1 - part), axis=1)
        at = np.minimum(low + side, np.array(values.shape) - 1)
        with np.errstate(invalid="ignore"):
            share = weight * values[at[:, 0], at[:, 1], at[:, 2]]
        total += np.where(weight > 0, share, 0)  # NaN of a voxel without weight is none
    return total
