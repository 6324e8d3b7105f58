"""What is drawn on the chest CT: the pixels of each segment and the loops around the regions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets import chest_ct
from dicomlake.datasets._chest import LEFT_LUNG, NODULES, RIGHT_LUNG, Nodule
from dicomlake.datasets._outline import filled, outlines

SEGMENTS = ("Lung_R", "Lung_L", "Nodules")
"""SegmentLabel of segments 1, 2 and 3; a nodule lies in its lung too."""

Loop = list[tuple[float, float, float]]
"""Points (x, y, z) in LPS mm."""
Contours = list[tuple[int, Loop]]
"""(index of the CT plane, loop)."""


def nodule_map(index: int, slices: int = chest_ct.SLICES) -> NDArray[np.bool_]:
    """Pixels of a CT plane whose centre lies in a nodule, shape (512, 512)."""
    grid = chest_ct.grid(index, slices)
    y, x = grid.y[:, None], grid.x[None, :]
    inside = np.zeros((len(grid.y), len(grid.x)), np.bool_)
    for nodule in NODULES:
        cx, cy, cz = nodule.centre
        distance2 = (x - cx) * (x - cx) + ((y - cy) * (y - cy) + (grid.z - cz) * (grid.z - cz))
        inside |= distance2 <= nodule.radius * nodule.radius
    return inside


def segment_maps(index: int, slices: int = chest_ct.SLICES) -> NDArray[np.bool_]:
    """The pixels of each segment in a CT plane, shape (3, 512, 512)."""
    lungs = chest_ct.lung_map(index, slices)
    return np.stack([lungs == RIGHT_LUNG, lungs == LEFT_LUNG, nodule_map(index, slices)])


@dataclass(frozen=True)
class Drawn:
    """What is kept of the segments in one plane: a mask of 512 x 512 would be too much for each."""

    bits: tuple[bytes | None, ...]
    """The packed mask of each segment, None where it is empty."""
    lungs: tuple[list[Loop], list[Loop]]
    """Loops in LPS mm around the right and the left lung."""


def drawn(index: int, slices: int) -> Drawn:
    """The segments of a CT plane, packed and outlined."""
    maps = segment_maps(index, slices)
    packed = tuple(np.packbits(m, bitorder="little").tobytes() if m.any() else None for m in maps)
    grid, half = chest_ct.grid(index, slices), chest_ct.PIXEL_MM / 2
    y0, x0 = float(grid.y[0]) - half, float(grid.x[0]) - half
    right, left = (
        [[(x0 + 2 * half * c, y0 + 2 * half * r, grid.z) for r, c in loop] for loop in filled(outlines(lung))]
        for lung in maps[:2]
    )
    return Drawn(packed, (right, left))


def lung_contours(side: int, planes: list[Drawn]) -> Contours:
    """The loops around a lung in each plane; a hole is joined to its rim."""
    return [(index, loop) for index, plane in enumerate(planes) for loop in plane.lungs[side]]


def nodule_contours(nodule: Nodule, slices: int) -> Contours:
    """Where the CT planes cut the ball: corners of a polygon on the circle of the cut."""
    cx, cy, cz = nodule.centre
    contours: Contours = []
    for index in range(slices):
        z = chest_ct.grid(index, slices).z
        left = nodule.radius * nodule.radius - (z - cz) * (z - cz)
        if left > 0.01:
            radius = math.sqrt(left)
            contours.append((index, [(cx + radius * c, cy + radius * s, z) for c, s in _circle()]))
    return contours


def _circle() -> Iterator[tuple[float, float]]:
    """32 points on the unit circle, by the rational formula of Pythagorean triples in each quarter."""
    for quarter in range(4):
        for step in range(8):
            t = step / 8
            c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
            yield ((c, s), (-s, c), (-c, -s), (s, -c))[quarter]
