"""Brushed masks: one number a voxel, painted by strokes that the browser paints by the same rule.

A pixel is painted when its centre is no further than the radius from the stroke, which is a line through
points of a displayed plane; distances are taken with the plane's distances between rows and columns. The
browser and this module compute it with the same operations in the same order (float64), so they agree to the
pixel. `static/viewer/brush.js` is the other half.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.viewer.measuring import Plane
from dicomlake.widgets.viewer.roi_shapes import Inside

Labels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Voxels that a stroke changed: flat indices into (z, y, x), and their labels before and after."""

    where: npt.NDArray[np.integer[Any]]
    before: Labels
    after: Labels

    @property
    def nbytes(self) -> int:
        """In memory."""
        return self.where.nbytes + self.before.nbytes + self.after.nbytes


class MaskVolume:
    """Labels (z, y, x), uint8, 0 where nothing is painted; nothing is held until something is."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """shape: of the stack, (z, y, x)."""
        self.shape = shape
        self._labels: Labels | None = None
        self._counts = np.zeros(256, np.int64)

    @property
    def labels(self) -> Labels:
        """The array itself; its voxels change with strokes."""
        if self._labels is None:
            self._labels = np.zeros(self.shape, np.uint8)
        return self._labels

    @property
    def empty(self) -> bool:
        """Whether nothing is painted."""
        return not self._counts[1:].any()

    def count(self, label: int) -> int:
        """Voxels of a label."""
        return int(self._counts[label])

    def plane(self, plane: Plane, index: int) -> Labels:
        """One displayed plane (rows, cols)."""
        if self._labels is None:
            return np.zeros((plane.rows, plane.cols), np.uint8)
        z, y, x = _voxels(plane, index, *_grid(plane))
        found: Labels = self._labels[z, y, x]
        return found

    def paint(self, plane: Plane, indexes: Iterable[int], found: Inside, label: int) -> Patch:
        """Give the pixels of planes a label, 0 to erase; returns what changed."""
        rows, cols = np.nonzero(found.mask)
        flat = [
            np.ravel_multi_index(_voxels(plane, n, rows + found.top, cols + found.left), self.shape)
            for n in indexes
        ]
        where = np.concatenate([*flat, np.empty(0, np.int64)]).astype(np.int64)
        before = self.labels.reshape(-1)[where]
        changed = before != label
        patch = Patch(self._narrow(where[changed]), before[changed], np.full(changed.sum(), label, np.uint8))
        self.apply(patch)
        return patch

    def replace(self, labels: Labels) -> Patch:
        """Take another volume of labels; returns what changed."""
        new, old = np.ascontiguousarray(labels, np.uint8).reshape(-1), self.labels.reshape(-1)
        where = np.flatnonzero(new != old)
        patch = Patch(self._narrow(where), old[where], new[where])
        self.apply(patch)
        return patch

    def apply(self, patch: Patch, *, back: bool = False) -> None:
        """Make a change again, or undo it."""
        new, old = (patch.before, patch.after) if back else (patch.after, patch.before)
        self.labels.reshape(-1)[patch.where] = new
        self._counts += np.bincount(new, minlength=256) - np.bincount(old, minlength=256)

    def _narrow(self, where: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Flat indices in half the memory, where they fit."""
        return where.astype(np.uint32) if self.labels.size < 1 << 32 else where


def _grid(plane: Plane) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    return np.arange(plane.rows)[:, None], np.arange(plane.cols)[None, :]


def _voxels(plane: Plane, index: int, rows: Any, cols: Any) -> tuple[Any, Any, Any]:
    """Array indices (z, y, x) of pixels of a displayed plane."""
    m = np.rint(plane.to_index).astype(np.intp)
    z, y, x = (m[k, 0] * index + m[k, 1] * rows + m[k, 2] * cols + m[k, 3] for k in range(3))
    return z, y, x


def stroke(
    points: Sequence[Sequence[float]], radius_mm: float, row_mm: float, col_mm: float, shape: tuple[int, int]
) -> Inside:
    """The pixels of a plane (rows, cols) within the radius of a line through points (row, col)."""
    line = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    reach = np.array([radius_mm / row_mm, radius_mm / col_mm])
    low = np.clip(np.floor(line.min(axis=0) - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(line.max(axis=0) + reach) + 1, low, shape).astype(int)
    top, left = int(low[0]), int(low[1])
    mask = np.zeros(tuple(high - low), np.bool_)
    for a, b in zip(line, line[1:] if len(line) > 1 else line, strict=False):
        _add_segment(mask, (top, left), (a, b), radius_mm, (row_mm, col_mm))
    return Inside(top, left, mask)


def _add_segment(
    mask: npt.NDArray[np.bool_],
    origin: tuple[int, int],
    ends: tuple[Array, Array],
    radius_mm: float,
    spacing: tuple[float, float],
) -> None:
    """One segment of a stroke, in its own box; the operations are those of brush.js, in their order."""
    (a_row, a_col), (b_row, b_col) = ends
    row_mm, col_mm = spacing
    box = []
    for low, high, step, start, size in (
        (min(a_row, b_row), max(a_row, b_row), row_mm, origin[0], mask.shape[0]),
        (min(a_col, b_col), max(a_col, b_col), col_mm, origin[1], mask.shape[1]),
    ):
        first = max(int(np.floor(low - radius_mm / step)) - start, 0)
        last = min(int(np.ceil(high + radius_mm / step)) + 1 - start, size)
        box.append(slice(first, max(last, first)))
    by = (b_row - a_row) * row_mm
    bx = (b_col - a_col) * col_mm
    length2 = by * by + bx * bx
    py = (np.arange(box[0].start, box[0].stop) + origin[0] - a_row)[:, None] * row_mm
    px = (np.arange(box[1].start, box[1].stop) + origin[1] - a_col)[None, :] * col_mm
    along = (py * by + px * bx) / length2 if length2 > 0 else np.zeros((1, 1))
    along = np.minimum(np.maximum(along, 0.0), 1.0)
    dy = py - along * by
    dx = px - along * bx
    mask[box[0], box[1]] |= dy * dy + dx * dx <= radius_mm * radius_mm
