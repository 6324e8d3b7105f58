"""The one grid that the volumes of a cohort are brought to: its axes, its extent, its voxels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError

Array = npt.NDArray[np.float64]
Extent = Literal["union", "intersection", "first"]
Align = Literal["scanner", "centre"]
Shape = tuple[int, int, int]
_ROUNDING = 0.05  # of a voxel: a box wider by this little, of a stack that hardly leans, needs no more


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A box along three axes that are perpendicular to each other.

    axes: rows are the unit vectors of z, y, x in LPS. low, high: its faces along them, mm.
    """

    axes: Array
    low: Array
    high: Array

    def around(self, centre: Array) -> Box:
        """The same box with its middle at a patient position."""
        half = (self.high - self.low) / 2
        middle = self.axes @ centre
        return Box(self.axes, middle - half, middle + half)


PATIENT = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
"""z to the head, y to the back, x to the left: the axes of LPS in the order of an array."""


def box_of(grid: Grid, axes: Array | None = None, shift: Array | None = None) -> Box:
    """What the voxels of a grid fill, to their faces; as a box along other axes, all that is around it.

    shift: by which the volume is moved first, LPS, mm.
    """
    own = own_axes(grid) if axes is None else axes
    places = edge_points(grid) + (0 if shift is None else shift)
    along = places @ own.T
    return Box(own, along.min(axis=0), along.max(axis=0))


def own_axes(grid: Grid) -> Array:
    """Unit vectors along z (normal of the slices, the way they are counted), y and x of a grid; rows."""
    down, right = grid.affine[:3, 1], grid.affine[:3, 2]
    normal = np.cross(right, down)
    along = grid.origins[-1] - grid.origins[0] if grid.shape[0] > 1 else grid.affine[:3, 0]
    found = np.stack([normal if normal @ along >= 0 else -normal, down, right])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def edge_points(grid: Grid) -> Array:
    """The corners of the first and last plane of a volume, and of all where they are uneven, (n, 3), LPS.

    Corners of voxels, not centres: half a voxel further out.
    """
    origins = grid.origins if grid.positions is not None else grid.origins[[0, -1]]
    first = (origins[1] - origins[0]) if grid.positions is not None and len(origins) > 1 else None
    before = -(grid.affine[:3, 0] if first is None else first) / 2
    last = (origins[-1] - origins[-2]) if first is not None else grid.affine[:3, 0]
    thick = np.concatenate([origins, origins[:1] + before, origins[-1:] + last / 2])
    inside = [(-0.5, n - 0.5) for n in grid.shape[1:]]
    corners = [y * grid.affine[:3, 1] + x * grid.affine[:3, 2] for y, x in itertools.product(*inside)]
    return np.asarray((thick[:, None] + np.array(corners)[None]).reshape(-1, 3))


def centre_of(grid: Grid) -> Array:
    """The middle of a volume: the mean of its corners' extremes along its own axes, LPS, mm."""
    box = box_of(grid)
    return np.asarray((box.low + box.high) / 2 @ box.axes)


def common_box(grids: Sequence[Grid], shifts: Sequence[Array], extent: Extent) -> Box:
    """Along the patient's axes, what all volumes fill together, or what all share.

    Raises GeometryError when they share nothing.
    """
    boxes = [box_of(grid, PATIENT, shift) for grid, shift in zip(grids, shifts, strict=True)]
    lows, highs = np.array([b.low for b in boxes]), np.array([b.high for b in boxes])
    if extent == "union":
        return Box(PATIENT, lows.min(axis=0), highs.max(axis=0))
    low, high = lows.max(axis=0), highs.min(axis=0)
    if not (high > low).all():
        raise GeometryError(
            "the volumes have no place in common: pass align='centre', extent='union', or a reference"
        )
    return Box(PATIENT, low, high)


def usual_steps(grids: Sequence[Grid], axes: Array) -> Array:
    """Along each axis the median, over the volumes, of the step that goes most along it; mm."""
    found = []
    for grid in grids:
        steps = np.array(geometry.spacing_mm(grid.affine))
        own = own_axes(grid)
        if grid.positions is not None and grid.shape[0] > 1:
            steps[0] = float(np.median(np.abs(np.diff(grid.origins @ own[0]))))
        elif grid.shape[0] > 1:
            steps[0] = abs(float(grid.affine[:3, 0] @ own[0]))
        found.append(steps[np.abs(axes @ own.T).argmax(axis=1)])
    return np.asarray(np.median(found, axis=0))


def target_grid(
    box: Box, usual: Array, spacing: Any = None, shape: Sequence[int] | None = None, *, inside: bool = False
) -> Grid:
    """Voxels that fill a box.

    spacing: mm, one number or (z, y, x); `usual` unless given. shape: (z, y, x) voxels, around the middle of
    the box; without `spacing` they fill it exactly. inside: no voxel sticks out of the box.
    Raises ValueError for lengths that are not positive.
    """
    size = box.high - box.low
    counts = None if shape is None else _three(shape, "shape").astype(int)
    filling = usual if counts is None else size / counts
    steps = filling if spacing is None else _three(spacing, "spacing")
    if counts is None:
        exact = size / steps
        whole = np.floor(exact + _ROUNDING) if inside else np.ceil(exact - _ROUNDING)
        counts = np.maximum(whole, 1).astype(int)
    low = box.low if shape is None else (box.low + box.high - counts * steps) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = box.axes.T * steps
    matrix[:3, 3] = (low + steps / 2) @ box.axes
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), matrix)


def _three(given: Any, name: str) -> Array:
    found = np.asarray(given, dtype=float)
    if found.shape not in ((), (3,)) or not (np.isfinite(found).all() and (found > 0).all()):
        raise ValueError(f"{name} is one positive number, or three in the order z, y, x")
    if name == "shape" and (found != np.rint(found)).any():
        raise ValueError("shape is in whole voxels")
    return np.broadcast_to(found, (3,)).astype(float)


def described(grid: Grid) -> tuple[dict[str, Any], dict[str, Any]]:
    """Coordinates z, y, x in mm along the axes of an upright grid, and the attributes that place it."""
    steps = np.array(geometry.spacing_mm(grid.affine))
    axes = (grid.affine[:3, :3] / steps).T
    origin = axes @ grid.affine[:3, 3]
    coords = {
        name: (name, first + step * np.arange(n), {"units": "mm"})
        for name, first, step, n in zip("zyx", origin, steps, grid.shape, strict=True)
    }
    attrs = {
        "affine_lps": grid.affine.tolist(),
        "origin_mm": origin.tolist(),
        "step_mm": steps.tolist(),
        "spacing_mm": steps.tolist(),
        "orientation": [*axes[2].tolist(), *axes[1].tolist()],
        "pixel_spacing_mm": steps[1:].tolist(),
        "verdict": "regular",
    }
    return coords, attrs
