"""A plane through a volume at any angle: where its pixels lie, and their values by linear interpolation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from dicomlake.errors import GeometryError
from dicomlake.widgets.images.slabs import over

Array = npt.NDArray[np.float64]
Box = tuple[slice, slice, slice]

_MOST_SAMPLES = 201  # across a slab: more would not be seen, and take seconds
_THICKEST_MM = 10_000.0
_LARGEST = 2048  # rows and columns
_REACH = 0.5 + 1e-6  # of a voxel: beyond the outermost centres, as far as the volume goes
_ORIGIN = np.array([0.0, 0.0, 1.0])
_THREADS = 2
_VOXELS = 0.5 - 1e-4  # the least weight of voxels among what a value is interpolated from


def axes_of(u: npt.ArrayLike, v: npt.ArrayLike) -> tuple[Array, Array]:
    """Unit vectors to the right and down. Raises GeometryError unless they are perpendicular directions."""
    right, down = np.asarray(u, dtype=float), np.asarray(v, dtype=float)
    sizes = np.array([np.linalg.norm(right), np.linalg.norm(down)])
    if right.shape != (3,) or down.shape != (3,) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise GeometryError("a plane needs two directions of three numbers, u to the right and v down")
    right, down = right / sizes[0], down / sizes[1]
    if abs(right @ down) > 1e-3:
        raise GeometryError("the directions u and v of a plane must be perpendicular to each other")
    return right, down


def to_lps(
    center_mm: npt.ArrayLike, right: Array, down: Array, spacing_mm: float, shape: tuple[int, int]
) -> Array:
    """(row, col, 1) of the plane to patient mm: (3, 3) with columns row, col, origin.

    The centre lies in the middle of the pixels: at row (rows - 1) / 2, col (cols - 1) / 2.
    """
    rows, cols = shape
    center = np.asarray(center_mm, dtype=float)
    if center.shape != (3,) or not np.isfinite(center).all():
        raise GeometryError("the centre of a plane is a position of three numbers, in mm")
    if not (np.isfinite(spacing_mm) and spacing_mm > 0) or not (
        1 <= rows <= _LARGEST and 1 <= cols <= _LARGEST
    ):
        raise GeometryError(
            f"a plane has pixels of a positive size, and 1 to {_LARGEST} rows and columns: take fewer"
        )
    origin = center - down * spacing_mm * (rows - 1) / 2 - right * spacing_mm * (cols - 1) / 2
    return np.stack([down * spacing_mm, right * spacing_mm, origin], axis=1)


def offsets_mm(slab_mm: float, step_mm: float) -> Array:
    """Where planes are sampled across a slab, along its normal; from edge to edge, about `step_mm` apart."""
    if not slab_mm > 0:
        return np.zeros(1)
    slab_mm = min(slab_mm, _THICKEST_MM)
    count = min(max(int(np.ceil(slab_mm / step_mm - 1e-6)), 1) + 1, _MOST_SAMPLES)
    return np.linspace(-slab_mm / 2, slab_mm / 2, count)


def sampled(
    affine: Array,
    shape: tuple[int, int, int],
    plane: Array,
    normal: Array,
    size: tuple[int, int],
    offsets: Array,
    mode: str,
    part: Callable[[Box], np.ndarray],
    outside: float,
    padding: tuple[float, float] | None = None,
) -> np.ndarray:
    """Values (rows, cols[, rgb]) of a plane, floating point.

    affine: index (z, y, x) -> mm. plane: of `to_lps`. normal: unit vector. part: gives the voxels of a box.
    Half a voxel beyond the outermost centres still belongs to the volume, with the value at its edge.
    padding: lowest and highest number that is no voxel; such ones and NaN take no part. A place where they
    weigh more than voxels do is outside.
    """
    inverse = np.linalg.inv(affine)
    planes = [inverse[:3, :3] @ (plane + np.outer(normal * o, _ORIGIN)) for o in offsets]
    matrices = [p + np.outer(inverse[:3, 3], _ORIGIN) for p in planes]

    def sample(matrix: Array) -> np.ndarray:
        return _sample(matrix, shape, size, part, padding)

    if len(matrices) == 1:
        found = sample(matrices[0])
    else:
        with ThreadPoolExecutor(_THREADS) as threads:  # SciPy interpolates without the interpreter's lock
            found = over(np.stack([*threads.map(sample, matrices)]), mode)
    return np.where(np.isnan(found), found.dtype.type(outside), found)


def _sample(
    matrix: Array,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    part: Callable[[Box], np.ndarray],
    padding: tuple[float, float] | None,
) -> np.ndarray:
    """One plane, float32; NaN outside. matrix: (row, col, 1) -> index (z, y, x)."""
    box = _box_of(matrix, shape, size)
    if box is None:
        lone = part((slice(0, 1), slice(0, 1), slice(0, 1)))
        return np.full((*size, *lone.shape[3:]), np.nan, np.float32)
    rows, cols = np.arange(size[0], dtype=float)[:, None], np.arange(size[1], dtype=float)
    index = np.empty((3, *size))
    inside = np.ones(size, dtype=bool)
    for axis, (by_row, by_col, first) in enumerate(matrix):
        np.add(by_row * rows + first, by_col * cols, out=index[axis])
        inside &= index[axis] >= -_REACH
        inside &= index[axis] <= shape[axis] - 1 + _REACH
        index[axis] -= box[axis].start
    values = _of_voxels(part(box), index, padding)
    if not inside.all():
        values[~inside] = np.nan
    return values


def _box_of(matrix: Array, shape: tuple[int, int, int], size: tuple[int, int]) -> Box | None:
    """The voxels around a plane; None when it passes by the volume."""
    corners = np.array([(r, c, 1) for r in (0, size[0] - 1) for c in (0, size[1] - 1)]) @ matrix.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    limits = np.array(shape) - 1
    if (high < -_REACH).any() or (low > limits + _REACH).any():
        return None
    start = np.clip(np.floor(low), 0, limits).astype(int)
    stop = np.clip(np.ceil(high), 0, limits).astype(int) + 1
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def _of_voxels(box: np.ndarray, index: Array, padding: tuple[float, float] | None) -> np.ndarray:
    """Interpolated between those that are voxels; NaN where the others weigh more than half."""
    if box.ndim == 4:
        return _interpolated(box, index)
    gap = np.isnan(box) if box.dtype.kind == "f" else np.zeros(box.shape, bool)
    if padding is not None:
        gap = gap | ((box >= padding[0]) & (box <= padding[1]))
    if not gap.any():
        return _interpolated(box, index)
    weight = _interpolated((~gap).astype(np.float32), index)
    summed = _interpolated(np.where(gap, 0, box).astype(np.float32), index)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight >= _VOXELS, summed / weight, np.float32(np.nan))


def _interpolated(box: np.ndarray, index: Array) -> np.ndarray:
    """Linear, (rows, cols[, rgb]) float32; beyond the outermost centres the value at the edge."""
    from scipy.ndimage import map_coordinates

    if box.ndim == 4:
        return np.stack([_interpolated(box[..., c], index) for c in range(box.shape[3])], axis=-1)
    return np.asarray(map_coordinates(box, index, output=np.float32, order=1, mode="nearest"))
