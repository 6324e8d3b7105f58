"""The anatomy of the head phantom: which tissue lies at a point, decided by polynomials and waves."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets._noise import Floats, wave
from dicomlake.datasets._shapes import Point

Bools = NDArray[np.bool_]
Labels = NDArray[np.uint8]


class Tissue(IntEnum):
    """Labels of the head phantom."""

    AIR = 0
    SCALP = 1
    BONE = 2
    MUSCLE = 3
    FLUID = 4
    GREY = 5
    WHITE = 6
    NUCLEUS = 7
    EYE = 8
    PLAQUE = 9
    TUMOUR = 10


_PLAQUES: tuple[tuple[Point, Point], ...] = (
    ((-21.0, -30.0, 24.0), (4.0, 5.0, 4.0)),
    ((23.0, 22.0, 26.0), (4.5, 6.0, 4.5)),
    ((27.0, -8.0, 30.0), (3.5, 4.0, 4.0)),
    ((-26.0, 36.0, 16.0), (4.0, 5.0, 5.0)),
    ((30.0, 30.0, 8.0), (3.0, 4.0, 4.0)),
)
TUMOUR: tuple[Point, Point] = ((-34.0, -36.0, 12.0), (10.0, 11.0, 10.0))
"""A mass in the right frontal lobe: centre and half axes (u, v, w) in mm."""

_DEEP: tuple[tuple[Point, Point, Tissue], ...] = (
    ((25.0, -2.0, 3.0), (7.0, 17.0, 10.0), Tissue.NUCLEUS),  # putamen
    ((11.0, 8.0, 4.0), (8.5, 14.0, 9.0), Tissue.NUCLEUS),  # thalamus
    ((14.0, -20.0, 8.0), (5.0, 9.0, 10.0), Tissue.NUCLEUS),  # caudate nucleus
    ((7.0, -26.0, 11.0), (4.5, 12.0, 8.0), Tissue.FLUID),  # frontal horn
    ((8.0, 0.0, 19.0), (4.5, 30.0, 5.5), Tissue.FLUID),  # body of the lateral ventricle
    ((21.0, 33.0, 8.0), (5.0, 15.0, 9.0), Tissue.FLUID),  # posterior horn
    ((31.0, 6.0, -22.0), (3.0, 16.0, 5.0), Tissue.FLUID),  # temporal horn
    ((0.0, 4.0, 0.0), (1.6, 12.0, 9.0), Tissue.FLUID),  # third ventricle
    ((0.0, 29.0, -36.0), (7.0, 5.0, 9.0), Tissue.FLUID),  # fourth ventricle
    ((0.0, -14.0, -22.0), (11.0, 8.0, 6.0), Tissue.FLUID),  # basal cistern
)


def tissue(w: float, v: Floats, u: Floats) -> Labels:
    """The tissue in the plane w, a label for each point; v and u broadcast against each other.

    u runs to the patient's left, v to the back, w to the top, in mm from the middle of the head and
    along its own axes; the scan planes follow them, however the head is turned.
    """
    labels = np.zeros(np.broadcast_shapes(v.shape, u.shape), np.uint8)
    _paint_head(labels, w, v, u)
    labels[_cranium(w, v, u, margin=2.4)] = Tissue.FLUID
    brain = _cranium(w, v, u, margin=0.0)
    every_v, every_u = np.broadcast_arrays(v, u)
    labels[brain] = _brain_tissue(w, every_v[brain], every_u[brain])
    return labels


def _ball(w: float, v: Floats, u: Floats, centre: Point, radii: Point, below: float | None = None) -> Floats:
    """Below 1 within half axes `radii` (u, v, w) of the centre; `below` replaces the last one underneath."""
    rise = w - centre[2]
    a, b, c = (u - centre[0]) / radii[0], (v - centre[1]) / radii[1], rise / radii[2]
    if below is not None and rise < 0:
        c = rise / below
    return np.asarray(a * a + (b * b + c * c))


def _paint_head(labels: Labels, w: float, v: Floats, u: Floats) -> None:
    """Everything outside the brain: skin, skull, muscle, eyes and the air in between."""
    side = np.abs(u)
    middle = (0.0, 0.0, 0.0)
    labels[_ball(w, v, u, middle, (80.0, 99.0, 90.0), below=150.0) < 1] = Tissue.SCALP
    labels[_ball(w, v, u, middle, (75.5, 94.0, 83.0), below=125.0) < 1] = Tissue.BONE
    diploe = (_ball(w, v, u, middle, (73.8, 92.3, 80.5), below=121.0) < 1) & (w > -20)
    labels[diploe & (_ball(w, v, u, middle, (72.2, 90.7, 78.5), below=118.0) > 1)] = Tissue.MUSCLE
    labels[_ball(w, v, u, (0.0, 30.0, -62.0), (66.0, 58.0, 30.0)) < 1] = Tissue.MUSCLE
    labels[_ball(w, v, side, (44.0, -22.0, -62.0), (22.0, 30.0, 34.0)) < 1] = Tissue.MUSCLE
    labels[_ball(w, v, side, (58.0, 26.0, -42.0), (17.0, 20.0, 20.0)) < 1] = Tissue.BONE
    spongy = (_ball(w, v, side, (60.0, 30.0, -44.0), (10.0, 12.0, 14.0)) < 1) & (
        wave(v / 5.0) * wave(u / 5.0) > 0
    )
    labels[spongy] = Tissue.AIR
    labels[_ball(w, v, u, (0.0, -72.0, -48.0), (15.0, 20.0, 26.0)) < 1] = Tissue.AIR
    labels[(_ball(w, v, u, (0.0, -72.0, -48.0), (15.0, 20.0, 26.0)) < 1) & (side < 1.5)] = Tissue.MUSCLE
    labels[_ball(w, v, side, (8.0, -86.0, 2.0), (9.0, 4.0, 11.0)) < 1] = Tissue.AIR
    labels[_ball(w, v, side, (31.0, -66.0, -32.0), (17.0, 25.0, 15.0)) < 1] = Tissue.SCALP
    labels[_ball(w, v, side, (28.0, -56.0, -32.0), (2.2, 16.0, 2.5)) < 1] = Tissue.MUSCLE
    labels[_ball(w, v, side, (31.0, -78.0, -32.0), (12.5, 12.5, 12.5)) < 1] = Tissue.EYE
    labels[_ball(w, v, side, (31.0, -87.5, -32.0), (5.0, 2.5, 5.0)) < 1] = Tissue.MUSCLE


def _cranium(w: float, v: Floats, u: Floats, *, margin: float) -> Bools:
    """Inside the brain, or within `margin` mm of its outline."""
    side = np.abs(u)
    parts: tuple[tuple[Point, Point, float | None], ...] = (
        ((0.0, 0.0, 2.0), (67.0, 85.0, 72.0), 44.0),  # cerebrum
        ((40.0, -8.0, -26.0), (25.0, 42.0, 22.0), None),  # temporal lobe
        ((22.0, 44.0, -40.0), (30.0, 34.0, 22.0), None),  # cerebellum
        ((0.0, 12.0, -50.0), (13.0, 12.0, 40.0), 80.0),  # brain stem
    )
    inside = np.zeros(np.broadcast_shapes(v.shape, u.shape), np.bool_)
    for centre, radii, below in parts:
        grown = (radii[0] + margin, radii[1] + margin, radii[2] + margin)
        inside |= _ball(w, v, side, centre, grown, None if below is None else below + margin) < 1
    return inside


def _brain_tissue(w: float, v: Floats, u: Floats) -> Labels:
    """Cortex with its folds, white matter, ventricles and nuclei at points inside the brain."""
    side = np.abs(u)
    labels = _folded(w, v, u)
    lower = (_ball(w, v, side, (22.0, 44.0, -40.0), (30.0, 34.0, 22.0)) < 1) & (w < -22.0 + 0.12 * (60.0 - v))
    labels[lower] = _cerebellum(w, v[lower], side[lower])
    stem = (_ball(w, v, u, (0.0, 12.0, -50.0), (13.0, 12.0, 40.0), below=80.0) < 1) & (w < -8)
    labels[stem] = Tissue.WHITE
    for centre, radii, found in _DEEP:
        labels[_ball(w, v, side, centre, radii) < 1] = found
    for centre, radii in _PLAQUES:
        labels[(_ball(w, v, u, centre, radii) < 1) & (labels == Tissue.WHITE)] = Tissue.PLAQUE
    labels[_ball(w, v, u, *TUMOUR) < 1] = Tissue.TUMOUR
    return labels


def _folded(w: float, v: Floats, u: Floats) -> Labels:
    """Cerebrum: the folds follow a gyroid, deep at the surface and gone in the white matter."""
    side = np.abs(u)
    depth = 1.0 - _ball(w, v, u, (0.0, 0.0, 2.0), (67.0, 85.0, 72.0), below=44.0)
    if w < -6.0:
        lobe = 1.0 - _ball(w, v, side, (40.0, -8.0, -26.0), (25.0, 42.0, 22.0))
        depth = np.maximum(depth, 0.6 * lobe)
    fold = _gyroid(w, v, side, u)
    sulcus = 0.21 - 0.42 * depth
    cortex = 0.98 - 1.35 * depth
    bare = (v / 42.0) * (v / 42.0) + ((w - 6.0) / 25.0) * (
        (w - 6.0) / 25.0
    ) < 1.0  # the callosum joins the halves
    labels = np.full(u.shape, Tissue.WHITE, np.uint8)
    labels[(fold < cortex) | (depth < 0.085) | ((side < 4.5) & ~bare)] = Tissue.GREY
    labels[(fold < sulcus) | ((side < 1.1) & ~bare)] = Tissue.FLUID
    return labels


def _gyroid(w: float, v: Floats, side: Floats, u: Floats) -> Floats:
    """Distance-like: 0 on a meandering surface, rising to about 1.5 between its sheets."""
    period = 37.0
    a = (side + 6.0 * wave(v / 61.0) + 0.05 * u) / period
    b = (v + 7.0 * wave(side / 53.0) + 4.0 * wave(np.asarray(w / 47.0))) / period
    c = np.asarray(w / period)
    quarter = 0.25
    return np.abs(
        wave(a) * wave(b + quarter) + wave(b) * wave(c + quarter) + wave(c + 0.0) * wave(a + quarter)
    )


def _cerebellum(w: float, v: Floats, side: Floats) -> Labels:
    """Grey leaves with fluid between them around a white core."""
    q = _ball(w, v, side, (22.0, 44.0, -40.0), (30.0, 34.0, 22.0))
    labels = np.full(v.shape, Tissue.GREY, np.uint8)
    labels[q + 0.25 * wave((v + 0.5 * side) / 8.0) < 0.42] = Tissue.WHITE
    labels[(wave((v + 0.35 * side) / 6.5) > 0.955) & (q > 0.55)] = Tissue.FLUID
    return labels
