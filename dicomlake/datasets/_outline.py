"""The outline of a mask as closed polygons along pixel edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]
_TURNS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def outlines(mask: NDArray[np.bool_]) -> list[list[Corner]]:
    """Closed loops of pixel corners (row, column) around the mask, holes included, corners only.

    Corner (r, c) is the upper left one of pixel (r, c). The mask lies to the right of each edge as it
    is walked, so that the loops of a hole run the other way round than those of the rim.
    """
    leaving = _edges(mask)
    loops = []
    while leaving:
        start = min(leaving)
        loop, heading = [], leaving[start][0]
        corner = start
        while True:
            ways = leaving[corner]
            turn = min(
                ways, key=lambda way: (way - heading - 1) % 4
            )  # keep right: pixels touch by edges only
            ways.remove(turn)
            if not ways:
                del leaving[corner]
            if turn != heading or corner == start:
                loop.append(corner)
            heading = turn
            corner = (corner[0] + _TURNS[turn][0], corner[1] + _TURNS[turn][1])
            if corner == start:
                break
        loops.append(loop)
    return loops


def filled(loops: list[list[Corner]]) -> list[list[Corner]]:
    """The loops with each hole joined to a rim by a channel of no width (PS3.3 C.8.8.6.3).

    The channel is walked there and back, so it encloses nothing, wherever it runs.
    """
    rims = [loop for loop in loops if _area(loop) > 0]
    for hole in (loop for loop in loops if _area(loop) < 0):
        best = min(
            ((*_nearest(rim, hole), number) for number, rim in enumerate(rims)), key=lambda found: found[0]
        )
        _, at, turn, number = best
        rim = rims[number]
        rims[number] = [*rim[: at + 1], *hole[turn:], *hole[: turn + 1], *rim[at:]]
    return rims


def _area(loop: list[Corner]) -> int:
    """Twice the enclosed area: positive for a rim, negative for a hole."""
    following = [*loop[1:], loop[0]]
    return sum(c * s - d * r for (r, c), (s, d) in zip(loop, following, strict=True))


def _nearest(rim: list[Corner], hole: list[Corner]) -> tuple[int, int, int]:
    """Squared distance and places of the closest pair of corners."""
    away = np.array(rim)[:, None, :] - np.array(hole)[None, :, :]
    distance2 = (away * away).sum(axis=2)
    at, turn = np.unravel_index(int(distance2.argmin()), distance2.shape)
    return int(distance2[at, turn]), int(at), int(turn)


def _edges(mask: NDArray[np.bool_]) -> dict[Corner, list[int]]:
    """For each corner the headings (index in _TURNS) of the edges that leave it."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    leaving: dict[Corner, list[int]] = {}
    for heading, beside, offset in (
        (0, padded[:-2, 1:-1], (0, 0)),  # nothing above: walk right along the upper edge
        (1, padded[1:-1, 2:], (0, 1)),  # nothing to the right: walk down
        (2, padded[2:, 1:-1], (1, 1)),  # nothing below: walk left
        (3, padded[1:-1, :-2], (1, 0)),  # nothing to the left: walk up
    ):
        rows, columns = np.nonzero(inside & ~beside)
        for corner in zip((rows + offset[0]).tolist(), (columns + offset[1]).tolist(), strict=True):
            leaving.setdefault(corner, []).append(heading)
    return leaving
