"""Closed contours to voxels of a grid: which contour plane a slice takes, and what lies inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError
from dicomlake.objects import polygons
from dicomlake.objects.contours import OFF_PLANE_MM, Contour

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_TICKS_MM = 1e4  # distances are compared in ticks of 0.1 µm, so that float noise decides nothing
_BLOCK = 1 << 22  # voxels looked at in one go
_BRIDGED = 2.0  # gaps of contour planes, in usual gaps, that interpolation fills


@dataclass(frozen=True, slots=True)
class Raster:
    """A mask (z, y, x), the number of contour planes, and of those that came into the mask."""

    mask: Mask
    planes: int
    used: int


@dataclass(frozen=True, slots=True)
class _Planes:
    """Contours by plane: heights (n,) ascending, in mm along a normal, and the loops (m, 3) of each."""

    heights: Array
    loops: tuple[tuple[Array, ...], ...]

    @property
    def half_mm(self) -> float:
        """Half the usual distance of planes; 0 for a lone one."""
        return float(np.median(np.diff(self.heights))) / 2 if len(self.heights) > 1 else 0.0


def rasterise(contours: Sequence[Contour], grid: Grid, *, interpolate: bool = False) -> Raster:
    """The voxels whose centre lies in the region that the closed contours enclose.

    Contours parallel to the slices: a slice takes the nearest contour plane, if that is less than half a
    slice step or half the usual (median) distance of the region's contour planes away, whichever is
    more. So planes 3 mm apart stand for 3 mm of tissue on slices of 1 mm, a plane between two slices goes
    to one of them, and a wider gap stays empty. At exactly half, the slice below the plane takes it.
    interpolate: slices between two contour planes, up to two usual distances apart, instead get the shape
    between them: the mean of the signed distances to both outlines, weighted by nearness.
    Where slices are unevenly spaced (`grid.positions`), a contour that refers to one slice of the grid by
    ContourImageSequence goes there, and the others by position.
    Contours in other planes (the grid was resampled, or has another orientation): each voxel centre takes
    the nearest contour plane within half their usual distance, a lone plane the voxels it cuts, and is
    tested in that plane.
    Raises GeometryError when contours are in planes of several orientations, when a contour refers to a
    slice at another place, and for what neither way can do.
    """
    if not contours:
        return Raster(np.zeros(grid.shape, np.bool_), 0, 0)
    tolerance = min(OFF_PLANE_MM, slice_step(grid) / 4)
    if not _parallel(contours, grid, tolerance):
        if interpolate:
            raise GeometryError("contours are not parallel to the slices: pass interpolate=False")
        return _across(contours, grid)
    if grid.positions is not None and not interpolate:
        return _irregular(contours, grid, tolerance)
    planes = _planes(contours, grid.normal, tolerance)
    return _between(planes, grid) if interpolate else _along(planes, grid)


def slice_step(grid: Grid) -> float:
    """The usual distance of slices in mm; of a lone slice what its affine says."""
    heights = np.sort(grid.origins @ grid.normal)
    gaps = np.diff(heights)[np.diff(heights) > 0]
    return float(np.median(gaps)) if len(gaps) else abs(float(grid.affine[:3, 0] @ grid.normal)) or 1.0


def _planes(contours: Sequence[Contour], normal: Array, tolerance: float) -> _Planes:
    """Contours grouped by their height along a normal; those closer than the tolerance are in one plane."""
    middles = np.array([float(np.ptp(h) / 2 + h.min()) for h in (c.points @ normal for c in contours)])
    order = np.argsort(middles, kind="stable")
    starts = np.flatnonzero(np.diff(middles[order], prepend=-np.inf) > tolerance)
    groups = np.split(order, starts[1:])
    heights = np.array([middles[group].mean() for group in groups])
    return _Planes(heights, tuple(tuple(contours[i].points for i in group) for group in groups))


def _along(planes: _Planes, grid: Grid) -> Raster:
    """Contours parallel to the slices."""
    taken = _nearest_planes(planes, grid)
    mask = np.zeros(grid.shape, np.bool_)
    for z in np.flatnonzero(taken >= 0):
        mask[z] = _draw(planes.loops[taken[z]], grid, int(z))
    return Raster(mask, len(planes.heights), len(np.unique(taken[taken >= 0])))


def _nearest_planes(planes: _Planes, grid: Grid) -> Integers:
    """The plane that each slice takes, -1 for none, shape (z,)."""
    slices = grid.origins @ grid.normal
    below, above = slice_reach(grid)
    distance = _ticks(slices[:, None] - planes.heights)
    nearest = distance.shape[1] - 1 - np.abs(distance[:, ::-1]).argmin(axis=1)  # of two, the higher plane
    least = distance[np.arange(len(slices)), nearest]
    half = _ticks(planes.half_mm)
    in_cell = (-_ticks(above) <= least) & (least < _ticks(below))
    return np.where(in_cell | ((-half <= least) & (least < half)), nearest, -1)


def slice_reach(grid: Grid) -> tuple[Array, Array]:
    """How far each slice reaches down and up its normal in mm, (z,) each: half way to its neighbours.

    At the ends as far outwards as inwards; a lone slice as its affine says.
    """
    slices = grid.origins @ grid.normal
    order = np.argsort(slices, kind="stable")
    gaps = np.diff(slices[order]) if len(slices) > 1 else np.array([slice_step(grid)])
    below, above = np.empty(len(slices)), np.empty(len(slices))
    below[order] = np.concatenate([gaps[:1], gaps[: len(slices) - 1]]) / 2
    above[order] = np.concatenate([gaps[: len(slices) - 1], gaps[-1:]]) / 2
    return below, above


def _ticks(mm: npt.ArrayLike) -> Integers:
    return np.rint(np.asarray(mm, np.float64) * _TICKS_MM).astype(np.int64)


def _draw(loops: Sequence[Array], grid: Grid, z: int) -> Mask:
    """Loops (n, 3) in LPS on a slice, filled; shape (y, x)."""
    return polygons.fill(pixels(loops, grid, z), grid.shape[1:])


def pixels(loops: Sequence[Array], grid: Grid, z: int) -> list[Array]:
    """Loops (n, 3) in LPS, projected along the normal onto a slice: (row, column)."""
    to_pixels = np.linalg.pinv(grid.affine[:3, 1:3])
    origin = grid.origins[z]
    return [(loop - origin) @ to_pixels.T for loop in loops]


def on_slices(contours: Sequence[Contour], grid: Grid) -> list[tuple[int, list[Array]]] | None:
    """Slices, and the loops (n, 3) in LPS that each takes, by the rules of `rasterise`.

    None when the contours are not parallel to the slices. Raises GeometryError as `rasterise` does.
    """
    tolerance = min(OFF_PLANE_MM, slice_step(grid) / 4)
    if not _parallel(contours, grid, tolerance):
        return None
    found: list[tuple[int, list[Array]]] = []
    others = []
    for contour in contours:
        z = _named_slice(contour, grid) if grid.positions is not None else None
        if z is None:
            others.append(contour)
        else:
            found.append((z, [contour.points]))
    if others:
        planes = _planes(others, grid.normal, tolerance)
        taken = _nearest_planes(planes, grid)
        found += [(int(z), list(planes.loops[taken[z]])) for z in np.flatnonzero(taken >= 0)]
    return found


def _parallel(contours: Sequence[Contour], grid: Grid, tolerance: float) -> bool:
    return bool(max(np.ptp(contour.points @ grid.normal) for contour in contours) <= 2 * tolerance)


def _irregular(contours: Sequence[Contour], grid: Grid, tolerance: float) -> Raster:
    """Contours parallel to unevenly spaced slices: by reference, else by position."""
    named: dict[int, list[Array]] = {}
    others = []
    for contour in contours:
        z = _named_slice(contour, grid)
        if z is None:
            others.append(contour)
        else:
            named.setdefault(z, []).append(contour.points)
    rest = _along(_planes(others, grid.normal, tolerance), grid) if others else rasterise((), grid)
    for z, loops in named.items():
        rest.mask[z] ^= _draw(loops, grid, z)
    return Raster(rest.mask, rest.planes + len(named), rest.used + len(named))


def _named_slice(contour: Contour, grid: Grid) -> int | None:
    """The one slice of the grid that the contour refers to, None when it refers to none or to several."""
    frames = grid.frame_index or (0,) * len(grid.instance_uids)
    found = [
        z
        for z, (uid, frame) in enumerate(zip(grid.instance_uids, frames, strict=True))
        if any(i.sop_instance_uid == uid and i.frame in (None, frame + 1) for i in contour.images)
    ]
    if len(found) != 1:
        return None
    off = abs(float((contour.points.mean(axis=0) - grid.origins[found[0]]) @ grid.normal))
    if off > slice_step(grid) / 2:
        raise GeometryError(
            f"contour {contour.number} refers to an image that is {off:.3g} mm away from it: the references"
            " of this structure set cannot be trusted; open the series on a regular grid and draw on that"
        )
    return found[0]


def _between(planes: _Planes, grid: Grid) -> Raster:
    """As `_along`, with shapes in between for the slices between two planes."""
    plain = _along(planes, grid)
    widest = _BRIDGED * 2 * planes.half_mm
    for z, height in enumerate(grid.origins @ grid.normal):
        upper = int(np.searchsorted(planes.heights, height))
        if not 0 < upper < len(planes.heights):
            continue
        low, high = planes.heights[upper - 1 : upper + 1]
        if _ticks(min(height - low, high - height)) > 0 and _ticks(high - low) <= _ticks(widest):
            near = [pixels(planes.loops[i], grid, z) for i in (upper - 1, upper)]
            plain.mask[z] = _blend(near, (height - low) / (high - low), grid)
    return Raster(plain.mask, len(planes.heights), plain.used)


def _blend(near: Sequence[list[Array]], share: float, grid: Grid) -> Mask:
    """The shape at a share of the way between two, each loops in pixels; nothing where one is empty."""
    a, b = (polygons.fill(loops, grid.shape[1:]) for loops in near)
    out = a & b
    if not a.any() or not b.any():
        return out
    undecided = np.argwhere(a ^ b)
    pixel_mm = np.linalg.norm(grid.affine[:3, 1:3], axis=0)
    to_a, to_b = (
        polygons.distance([loop * pixel_mm for loop in loops], undecided * pixel_mm) for loops in near
    )
    in_a = a[tuple(undecided.T)]
    depth = np.where(in_a, (1 - share) * to_a - share * to_b, share * to_b - (1 - share) * to_a)
    out[tuple(undecided.T)] = depth > 0
    return out


def _across(contours: Sequence[Contour], grid: Grid) -> Raster:
    """Contours in planes that are not those of the slices: every voxel centre is taken to its plane."""
    if grid.positions is not None:
        raise GeometryError(
            "contours are not parallel to the slices, which are unevenly spaced: open the series with"
            " grid='resample' first"
        )
    normal = _common_normal(contours)
    planes = _planes(contours, normal, OFF_PLANE_MM)
    if max(np.ptp(contour.points @ normal) for contour in contours) > 4 * OFF_PLANE_MM:
        raise GeometryError(
            "contours of one region lie in planes of several orientations: no mask can be told"
        )
    lows, highs = _slabs(planes, normal, grid)
    mask = np.zeros(grid.shape, np.bool_)
    used = 0
    for loops, low, high in zip(planes.loops, lows, highs, strict=True):
        used += _fill_slab(mask, loops, normal, (float(low), float(high)), grid)
    return Raster(mask, len(planes.heights), used)


def _common_normal(contours: Sequence[Contour]) -> Array:
    """The mean normal, large contours counting more: that of a small one is uncertain."""
    mean = np.sum([(c.area_mm2 or 0.0) * c.plane.normal for c in contours if c.plane is not None], axis=0)
    length = float(np.linalg.norm(mean))
    if not length:
        raise GeometryError("the contours of the region enclose no area that would tell their orientation")
    return np.asarray(mean / length)


def _slabs(planes: _Planes, normal: Array, grid: Grid) -> tuple[Array, Array]:
    """From where to where along the normal each plane counts, in mm."""
    half = planes.half_mm or float(np.abs(grid.affine[:3, :3].T @ normal).sum()) / 2
    middles = (planes.heights[1:] + planes.heights[:-1]) / 2
    lows = np.maximum(planes.heights - half, np.concatenate([[-np.inf], middles]))
    return lows, np.minimum(planes.heights + half, np.concatenate([middles, [np.inf]]))


def _fill_slab(
    mask: Mask, loops: Sequence[Array], normal: Array, slab: tuple[float, float], grid: Grid
) -> bool:
    """Set the voxels of the slab that are inside the loops; whether the slab has any in the grid."""
    axes = np.linalg.svd(normal[None, :])[2][1:]  # two directions in the plane
    flat = [loop @ axes.T for loop in loops]
    low, high = _ticks(slab)
    met = False
    for box in _boxes(np.concatenate(loops), normal, slab, grid):
        z, y, x = np.ogrid[box]
        steps = grid.affine[:3, :3].T @ normal
        height = _ticks(grid.affine[:3, 3] @ normal + z * steps[0] + y * steps[1] + x * steps[2])
        chosen = np.argwhere((low <= height) & (height < high))
        if not len(chosen):
            continue
        met = True
        index = chosen + [s.start for s in box]
        centres = index @ (axes @ grid.affine[:3, :3]).T + axes @ grid.affine[:3, 3]
        mask[tuple(index[polygons.contains(flat, centres)].T)] = True
    return met


def _boxes(points: Array, normal: Array, slab: tuple[float, float], grid: Grid) -> list[tuple[slice, ...]]:
    """Index boxes that hold all voxels of the slab around the points, none too large to look at."""
    heights = (points @ normal)[:, None]
    corners = np.concatenate([points + (side - heights) * normal for side in slab])
    index = grid.to_index(corners)
    first = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    behind = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, grid.shape)
    if (first >= behind).any():
        return []
    plane = int((behind[1] - first[1]) * (behind[2] - first[2]))
    step = max(_BLOCK // plane, 1)
    rest = (slice(first[1], behind[1]), slice(first[2], behind[2]))
    return [(slice(z, min(z + step, behind[0])), *rest) for z in range(first[0], behind[0], step)]
