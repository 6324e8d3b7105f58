"""Polygons to pixels, exactly: which points lie inside by the even-odd rule.

Coordinates are first rounded to 1/65536 of their unit; from there on everything is integer arithmetic
without rounding. So the answer for a point on an edge does not depend on float noise, a channel that is
walked there and back encloses nothing, and neighbours that share an edge share no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BITS = 16  # of the fraction
_AT_ONCE = 1 << 15  # pairs of point and edge that are looked at together: they fit a cache
_ROOM = 30  # bits of a coordinate: the products below stay under 2^63


def fill(loops: Sequence[Array], shape: tuple[int, int]) -> Mask:
    """The pixels whose centre lies inside, shape (rows, columns).

    loops: closed polygons (n, 2) of (row, column) in pixels; the centre of pixel (r, c) is at (r, c). The
        last point is joined to the first.
    A centre is inside when the ray from it towards column 0 crosses the edges of all loops an odd number
    of times: a loop in a loop is a hole. Of a centre on an edge: inside on an edge where the region
    begins (lower row, lower column), outside where it ends.
    """
    out = np.zeros(shape, np.bool_)
    low, high, bits = _edges(loops)
    first = np.clip(_ceil(low[:, 0], 1 << bits), 0, shape[0])
    behind = np.clip(_ceil(high[:, 0], 1 << bits), 0, shape[0])
    edge, row = _spread(first, behind)
    if not len(row):
        return out
    column = np.clip(_crossings(low[edge], high[edge], row, bits), 0, shape[1])
    top, left, width = row.min(), column.min(), column.max() - column.min()
    toggles = np.bincount((row - top) * (width + 1) + column - left)
    height = int(row.max() - top) + 1
    toggles = np.pad(toggles, (0, height * (width + 1) - len(toggles))).reshape(height, width + 1)
    odd = np.cumsum(toggles, axis=1)[:, :width] & 1
    out[top : top + height, left : left + width] = odd.astype(np.bool_)
    return out


def contains(loops: Sequence[Array], points: Array) -> Mask:
    """For each of the points (n, 2) whether it is inside, shape (n,); the rule of `fill`, anywhere.

    loops, points: (row, column) in one unit, such as mm in a plane.
    """
    inside = np.zeros(len(points), np.bool_)
    if not len(points):
        return inside
    low, high, bits = _edges(loops, reach=float(np.abs(points).max()))
    order = np.argsort(points[:, 0], kind="stable")
    rows, columns = _rounded(points[order], bits).T
    begins, ends = np.searchsorted(rows, low[:, 0]), np.searchsorted(rows, high[:, 0])
    odd = np.zeros(len(points), np.bool_)
    for (y0, x0), (y1, x1), a, b in zip(low, high, begins, ends, strict=True):
        odd[a:b] ^= (columns[a:b] - x0) * (y1 - y0) >= (rows[a:b] - y0) * (x1 - x0)
    inside[order] = odd
    return inside


def distance(loops: Sequence[Array], points: Array) -> Array:
    """From each of the points (n, 2) to the nearest edge of the loops, in their unit, shape (n,)."""
    starts = np.concatenate([np.empty((0, 2)), *loops])
    along = np.concatenate([np.empty((0, 2)), *(np.roll(loop, -1, axis=0) for loop in loops)]) - starts
    (y, x), (dy, dx) = starts.T, along.T
    length2 = np.maximum(dy * dy + dx * dx, np.finfo(np.float64).tiny)
    uy, ux = dy / length2, dx / length2
    out = np.empty(len(points))
    step = max(_AT_ONCE // max(len(starts), 1), 1)
    for first in range(0, len(points), step):
        rows, columns = points[first : first + step].T[..., None]
        away_y, away_x = rows - y, columns - x
        share = np.clip(away_y * uy + away_x * ux, 0, 1)
        away_y -= share * dy
        away_x -= share * dx
        out[first : first + step] = np.sqrt((away_y**2 + away_x**2).min(axis=1, initial=np.inf))
    return out


def _edges(loops: Sequence[Array], reach: float = 0.0) -> tuple[Integers, Integers, int]:
    """Lower and higher end of each edge, (n, 2) each, and the bits of fraction; level edges left out.

    reach: the largest coordinate of what the edges will be compared with.
    """
    starts = np.concatenate([np.reshape(loop, (-1, 2)) for loop in (*loops, np.empty((0, 2)))])
    ends = np.concatenate([np.roll(loop, -1, axis=0) for loop in (*loops, np.empty((0, 2)))])
    bits = _fraction_bits(max(reach, float(np.abs(starts).max(initial=0.0))))
    a, b = _rounded(starts, bits), _rounded(ends, bits)
    level = a[:, 0] == b[:, 0]
    upward = (a[:, 0] < b[:, 0])[:, None]
    return np.where(upward, a, b)[~level], np.where(upward, b, a)[~level], bits


def _fraction_bits(largest: float) -> int:
    """16, fewer when coordinates beyond 16384 leave no room for them."""
    return min(_BITS, _ROOM - int(np.frexp(largest)[1]))


def _rounded(values: Array, bits: int) -> Integers:
    return np.rint(np.ldexp(values, bits)).astype(np.int64)


def _ceil(numerator: Integers, denominator: Integers | int) -> Integers:
    return -(-numerator // denominator)


def _spread(first: Integers, behind: Integers) -> tuple[Integers, Integers]:
    """For each edge and each row in first … behind - 1 of it: number of the edge, row."""
    counts = np.maximum(behind - first, 0)
    edge = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    return edge, first[edge] + place


def _crossings(low: Integers, high: Integers, row: Integers, bits: int) -> Integers:
    """The first column at or right of where each edge crosses its row."""
    rise, run = high[:, 0] - low[:, 0], high[:, 1] - low[:, 1]
    numerator = low[:, 1] * rise + ((row << bits) - low[:, 0]) * run
    return _ceil(numerator, rise << bits)
