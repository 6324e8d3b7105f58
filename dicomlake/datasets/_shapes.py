"""Ellipsoids, columns and capsules that a slice of a body phantom is painted with.

Positions are in mm along the patient axes x (to the left), y (to the back), z (to the head).
Only sums, products, quotients and square roots are used: IEEE 754 fixes the result of each to
the last bit, so the same voxel has the same value on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets._noise import Floats

Point = tuple[float, float, float]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """The pixel centres of one plane of constant z."""

    z: float
    """Height of the plane, mm."""
    y: Floats
    """Rising centres of the rows, mm."""
    x: Floats
    """Rising centres of the columns, mm."""
    edge: float
    """Width over which an edge is a ramp, mm: about one pixel, as a scanner blurs it."""

    def box(self, y: Pair, x: Pair) -> tuple[slice, slice]:
        """Rows and columns with centres between the limits in mm, one edge added all round."""
        rows = np.searchsorted(self.y, (y[0] - self.edge, y[1] + self.edge))
        columns = np.searchsorted(self.x, (x[0] - self.edge, x[1] + self.edge))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))


@dataclass(frozen=True)
class Layer:
    """One brush stroke: how much of each pixel of a box is covered, and with what."""

    box: tuple[slice, slice]
    """Rows and columns."""
    weight: Floats
    """Covered share of each pixel of the box, 0 to 1."""
    value: float | Floats
    """What is painted; broadcasts over the box."""


class Shape(Protocol):
    """Anything that can be painted into a plane."""

    @property
    def organ(self) -> int | None:
        """Label in the organ map; None leaves what is there."""

    def layers(self, grid: Grid) -> Iterator[Layer]:
        """The strokes in a plane, outermost first; none when the plane passes by."""


@dataclass(frozen=True)
class Section:
    """What a plane of constant z cuts out of an ellipsoid or a column."""

    centre: Pair
    """(x, y) in mm."""
    radii: Pair
    """Half axes along x and y in mm."""
    square: float
    """0 is an ellipse, towards 1 a rectangle with round corners."""

    def layer(self, grid: Grid, value: float, gradient: float) -> Layer:
        """The section as a stroke; `gradient` changes the value for each mm towards the back."""
        (cx, cy), (ax, ay) = self.centre, self.radii
        box = grid.box((cy - ay, cy + ay), (cx - ax, cx + ax))
        x, y = (grid.x[box[1]] - cx) / ax, (grid.y[box[0]] - cy) / ay
        u, v = x * x, (y * y)[:, None]
        inside = 1.0 - v - u if self.square == 0.0 else (1.0 - v) - u * (1.0 - self.square * v)
        weight = np.clip(inside * (min(ax, ay) / (2.0 * grid.edge)) + 0.5, 0.0, 1.0)
        return Layer(box, weight, value if gradient == 0.0 else value + gradient * (y * ay)[:, None])


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with its axes along the patient's."""

    centre: Point
    """Its widest place, mm."""
    radii: Point
    """Half axes, mm."""
    value: float
    """What it paints."""
    square: float = 0.0
    """See Section."""
    below: float | None = None
    """Half axis towards the feet where it differs from the one towards the head, mm."""
    lean: Pair = (0.0, 0.0)
    """Shift of the section's centre in x and y for each mm towards the head."""
    gradient: float = 0.0
    """Change of the value for each mm towards the back."""
    organ: int | None = None
    """Label in the organ map; None leaves what is there."""

    def section(self, z: float) -> Section | None:
        """The cut at height z in mm; None when the plane passes by."""
        rise = z - self.centre[2]
        reach = self.below if self.below is not None and rise < 0 else self.radii[2]
        left = 1.0 - (rise / reach) * (rise / reach)
        if left <= 0.0:
            return None
        scale = math.sqrt(left)
        centre = (self.centre[0] + self.lean[0] * rise, self.centre[1] + self.lean[1] * rise)
        return Section(centre, (self.radii[0] * scale, self.radii[1] * scale), self.square)

    def layers(self, grid: Grid) -> Iterator[Layer]:
        """One stroke, or none."""
        section = self.section(grid.z)
        if section is not None:
            yield section.layer(grid, self.value, self.gradient)


@dataclass(frozen=True)
class Column:
    """An elliptic column along z."""

    centre: Pair
    """(x, y) in mm."""
    radii: Pair
    """Half axes at z = 0, mm."""
    value: float
    """What it paints."""
    span: Pair = (-math.inf, math.inf)
    """Lowest and highest z, mm."""
    square: float = 0.0
    """See Section."""
    flare: Pair = (0.0, 0.0)
    """Relative change of the radii for each 100 mm, and for each (100 mm) squared, of z."""
    organ: int | None = None
    """Label in the organ map; None leaves what is there."""

    def layers(self, grid: Grid) -> Iterator[Layer]:
        """One stroke, or none."""
        if self.span[0] <= grid.z < self.span[1]:
            t = grid.z / 100.0
            scale = 1.0 + self.flare[0] * t + self.flare[1] * t * t
            radii = (self.radii[0] * scale, self.radii[1] * scale)
            yield Section(self.centre, radii, self.square).layer(grid, self.value, 0.0)


@dataclass(frozen=True)
class Capsule:
    """A round rod with half-sphere ends: a vessel, an airway, a piece of rib."""

    start: Point
    """First end of the axis, mm."""
    end: Point
    """Other end of the axis, mm; not the same point."""
    radii: Pair
    """Radius at the start and at the end, mm."""
    value: float
    """What it paints."""
    core: Pair | None = None
    """(share of the radius, value) of the inside: marrow, lumen, air."""
    organ: int | None = None
    """Label in the organ map; None leaves what is there."""

    def layers(self, grid: Grid) -> Iterator[Layer]:
        """The wall, then the core where there is one."""
        part = self._part_near(grid.z)
        if part is None:
            return
        (ax, ay, az), (bx, by, bz) = self.start, self.end
        dx, dy, dz = bx - ax, by - ay, bz - az
        wide = max(self.radii)
        ends_x, ends_y = sorted(ax + t * dx for t in part), sorted(ay + t * dy for t in part)
        box = grid.box((ends_y[0] - wide, ends_y[1] + wide), (ends_x[0] - wide, ends_x[1] + wide))
        x, y, rise = grid.x[box[1]] - ax, (grid.y[box[0]] - ay)[:, None], grid.z - az
        length2 = dx * dx + dy * dy + dz * dz
        along = x * dx + (y * dy + rise * dz)
        t = np.clip(along / length2, 0.0, 1.0)
        distance2 = x * x + (y * y + rise * rise) + t * (t * length2 - 2.0 * along)
        radius = self.radii[0] + t * (self.radii[1] - self.radii[0])
        for share, value in ((1.0, self.value), self.core or (0.0, 0.0)):
            if share > 0.0:
                r = radius * share
                yield Layer(box, np.clip((r * r - distance2) / (2.0 * grid.edge * r) + 0.5, 0.0, 1.0), value)

    def _part_near(self, z: float) -> Pair | None:
        """The stretch of the axis, as shares of its length, that can reach the plane z."""
        wide = max(self.radii)
        rise, dz = z - self.start[2], self.end[2] - self.start[2]
        if dz == 0.0:
            return (0.0, 1.0) if abs(rise) <= wide else None
        low, high = sorted(((rise - wide) / dz, (rise + wide) / dz))
        return (max(low, 0.0), min(high, 1.0)) if low <= 1.0 and high >= 0.0 else None


def painted(shapes: Iterable[Shape], grid: Grid, *, background: float) -> Floats:
    """The values in a plane, shape (len(y), len(x)); later shapes cover earlier ones."""
    image = np.full((len(grid.y), len(grid.x)), background)
    for shape in shapes:
        for layer in shape.layers(grid):
            under = image[layer.box]
            under += layer.weight * (layer.value - under)
    return image


def organ_map(shapes: Iterable[Shape], grid: Grid) -> NDArray[np.uint8]:
    """The organ at each pixel, 0 for none: the last shape with a label that covers half of it."""
    labels = np.zeros((len(grid.y), len(grid.x)), np.uint8)
    for shape in shapes:
        if shape.organ is not None:
            for layer in shape.layers(grid):
                labels[layer.box][layer.weight >= 0.5] = shape.organ
    return labels
