"""Planes in patient space and the volumes they make: the only formula is PS3.3 C.7.6.2.1.1."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dicomlake.datasets._truth import Affine
from dicomlake.datasets.edge_cases.records import Vector

AXIAL: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL: tuple[Vector, Vector] = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
CORONAL: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
OBLIQUE: tuple[Vector, Vector] = ((0.9856, 0.168, 0.0192), (-0.168, 0.96, 0.224))
"""Rows and columns of a rotation about two axes that has finite decimals."""


@dataclass(frozen=True)
class Grid:
    """Parallel planes, one step apart."""

    origin: Vector
    """Position of the first voxel of the first plane, LPS, mm."""
    row: Vector
    """Direction in which the column index grows."""
    column: Vector
    """Direction in which the row index grows."""
    step: Vector
    """From a plane to the next, mm; along row x column, so that z rises along the normal."""
    slices: int
    """Number of planes."""
    spacing: tuple[float, float] = (0.75, 0.5)
    """Between rows, between columns, mm."""
    rows: int = 6
    """Rows of a plane."""
    columns: int = 8
    """Columns of a plane."""

    @property
    def orientation(self) -> tuple[float, ...]:
        """ImageOrientationPatient."""
        return (*self.row, *self.column)

    @property
    def affine_lps(self) -> Affine:
        """Index (z, y, x) to LPS, mm."""
        axes = zip(self.step, self.column, self.row, self.origin, strict=True)
        lines = [(s, c * self.spacing[0], r * self.spacing[1], o) for s, c, r, o in axes]
        return (*lines, (0.0, 0.0, 0.0, 1.0))

    def position(self, index: float) -> Vector:
        """ImagePositionPatient of a plane; between planes, too."""
        x, y, z = (o + index * s for o, s in zip(self.origin, self.step, strict=True))
        return x, y, z

    def starting_at(self, index: float, *, slices: int | None = None) -> Grid:
        """The same planes counted from another one."""
        return replace(self, origin=self.position(index), slices=slices or self.slices - int(index))


def normal(row: Vector, column: Vector) -> Vector:
    """Row x column."""
    (a, b, c), (d, e, f) = row, column
    return b * f - c * e, c * d - a * f, a * e - b * d


def upright(
    directions: tuple[Vector, Vector] = AXIAL,
    *,
    slices: int = 5,
    step_mm: float = 2.0,
    origin: Vector = (-11.5, 7.25, -30.5),
    spacing: tuple[float, float] = (0.75, 0.5),
    rows: int = 6,
    columns: int = 8,
) -> Grid:
    """Planes stacked along their normal."""
    x, y, z = (step_mm * n for n in normal(*directions))
    return Grid(origin, *directions, (x, y, z), slices, spacing, rows, columns)
