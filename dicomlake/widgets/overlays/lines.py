"""Lines of one plane on their way to the browser: what they belong to in JSON, their points in one buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Voxels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """label: the value that it belongs to. points: (n, 2), row and column in pixels of the plane."""

    label: float
    points: Array
    closed: bool = True

    def meta(self) -> dict[str, Any]:
        """JSON types, for the browser."""
        return {"label": self.label, "count": len(self.points), "closed": self.closed}


def packed(planes: Sequence[Sequence[Line]]) -> tuple[list[list[dict[str, Any]]], list[bytes]]:
    """What the lines of each plane are, and a buffer (n, 2) float64 a plane with their points in order."""
    points = [np.concatenate([np.empty((0, 2)), *(line.points for line in lines)]) for lines in planes]
    buffers = [one.astype(np.float64).tobytes() for one in points]  # bytes may be none, an array's may not
    return [[line.meta() for line in lines] for lines in planes], buffers


def isolines(values: Voxels, level: float) -> list[Array]:
    """Where an array (rows, cols) crosses a level, by marching squares; NaN is beyond any line."""
    from skimage.measure import find_contours

    if min(values.shape) < 2:
        return []
    found: list[Array] = find_contours(values, level)  # type: ignore[no-untyped-call]
    return found


def outlines(mask: Voxels) -> list[Array]:
    """Around what is True in a plane (rows, cols), half way to the pixels outside; closed also at the rim."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    part = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    framed = np.pad(part.astype(np.float32), 1)
    corner = np.array([rows[0] - 1, cols[0] - 1])
    return [points + corner for points in isolines(framed, 0.5)]


def is_closed(points: Array) -> bool:
    """Whether a line ends where it began."""
    return len(points) > 3 and bool(np.array_equal(points[0], points[-1]))
