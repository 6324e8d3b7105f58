"""Shapes on a displayed plane: which pixels lie inside, and how large the shape itself is.

Points are (row, column) in pixels; a pixel's position is its centre. A pixel belongs to a shape when its
centre lies inside: by the even-odd rule for rectangles, polygons and freehand outlines
(`dicomlake.objects.polygons`, exact also for centres on an edge), by the ellipse's equation, edge included,
for ellipses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicomlake.objects import polygons

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

REGIONS = ("ellipse", "rectangle", "polygon", "freehand")
_CORNERS = ("ellipse", "rectangle")  # told by two opposite corners of the box around them
_ELLIPSE_STEPS = 72  # vertices where an ellipse has to be drawn as a polygon


@dataclass(frozen=True, slots=True)
class Inside:
    """The pixels of a shape: row and column of the first pixel of the box, and the mask of the box."""

    top: int
    left: int
    mask: Mask

    @property
    def box(self) -> tuple[slice, slice]:
        """Where the mask lies in a plane (rows, columns)."""
        rows, cols = self.mask.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + cols)

    def on(self, shape: tuple[int, int]) -> Mask:
        """The mask of the whole plane (rows, columns)."""
        whole = np.zeros(shape, np.bool_)
        whole[self.box] = self.mask
        return whole


def inside(tool: str, points: Points, shape: tuple[int, int]) -> Inside:
    """The pixels of a plane (rows, columns) whose centres lie in a shape."""
    low = np.clip(np.floor(points.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, low, shape).astype(int)
    top, left = int(low[0]), int(low[1])
    size = int(high[0] - top), int(high[1] - left)
    moved = points - (top, left)
    mask = _in_ellipse(moved, size) if tool == "ellipse" else polygons.fill([outline(tool, moved)], size)
    return Inside(top, left, mask)


def _in_ellipse(points: Points, size: tuple[int, int]) -> Mask:
    center = points.mean(axis=0)
    half = np.abs(points[1] - points[0]) / 2
    if not half.all():
        return np.zeros(size, np.bool_)
    down = ((np.arange(size[0]) - center[0]) / half[0]) ** 2
    right = ((np.arange(size[1]) - center[1]) / half[1]) ** 2
    found: Mask = down[:, None] + right[None, :] <= 1
    return found


def outline(tool: str, points: Points) -> Points:
    """The shape as a closed polygon (n, 2); the last point is joined to the first."""
    if tool == "rectangle":
        (r0, c0), (r1, c1) = points
        return np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]])
    if tool == "ellipse":
        turn = np.linspace(0, 2 * np.pi, _ELLIPSE_STEPS, endpoint=False)
        half = np.abs(points[1] - points[0]) / 2
        around: Points = points.mean(axis=0) + half * np.column_stack([np.sin(turn), np.cos(turn)])
        return around
    return points


def area(tool: str, points: Points) -> float | None:
    """The area of the shape itself, in pixels; None for an outline that crosses itself, which has no one."""
    if tool in _CORNERS:
        height, width = np.abs(points[1] - points[0])
        return float(height * width * (np.pi / 4 if tool == "ellipse" else 1))
    if crosses(points):
        return None
    rows, cols = (points - points[0]).T  # near the origin, where products lose least
    return float(abs(rows @ np.roll(cols, -1) - cols @ np.roll(rows, -1)) / 2)


def crosses(points: Points) -> bool:
    """Whether edges of a closed polygon cross that do not follow each other."""
    n = len(points)
    if n < 4:
        return False
    a, b = points, np.roll(points, -1, axis=0)
    first, second = np.triu_indices(n, k=2)
    apart = ~((first == 0) & (second == n - 1))
    i, j = first[apart], second[apart]
    one = _side(a[i], b[i], a[j]) * _side(a[i], b[i], b[j])
    other = _side(a[j], b[j], a[i]) * _side(a[j], b[j], b[i])
    return bool(((one < 0) & (other < 0)).any())


def _side(a: Points, b: Points, point: Points) -> Points:
    """On which side of the lines a to b points lie: -1, 0 or 1."""
    (dy, dx), (py, px) = (b - a).T, (point - a).T
    sides: Points = np.sign(dy * px - dx * py)
    return sides
