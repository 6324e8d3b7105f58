"""Lengths, angles and areas on a displayed plane, true in the patient.

Points (plane, row, column) are placed by `Plane.to_lps`, so distances hold on oblique and on sheared
volumes, whose rows and columns do not meet at right angles in every plane. Without an affine the distances
between rows and columns are taken, and without those pixels: then nothing is said in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Plane(Protocol):
    """What is needed of a plane of a stack."""

    count: int
    rows: int
    cols: int
    row_mm: float
    col_mm: float
    step_mm: float
    to_index: Array
    to_lps: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """Measures on one plane of a stack.

    basis: (3, 2) steps of one row and of one column, in `unit`. unit: "mm", or "px" where the size of pixels
    is unknown. step: between planes in mm, None where they are uneven or unknown. to_lps: of the plane.
    """

    basis: Array
    unit: str
    step: float | None
    to_lps: Array | None

    @classmethod
    def of(cls, plane: Plane, *, calibrated: bool) -> Ruler:
        """calibrated: whether the distances between rows and columns are known where no affine is."""
        if plane.to_lps is not None:
            return cls(
                np.asarray(plane.to_lps)[:3, 1:3], "mm", float(plane.step_mm), np.asarray(plane.to_lps)
            )
        row, col = (plane.row_mm, plane.col_mm) if calibrated else (1.0, 1.0)
        basis = np.array([[row, 0.0], [0.0, col], [0.0, 0.0]])
        return cls(basis, "mm" if calibrated else "px", None, None)

    @property
    def pixel_area(self) -> float:
        """Of one pixel, in mm2 or px2."""
        return float(np.linalg.norm(np.cross(self.basis[:, 0], self.basis[:, 1])))

    def length(self, points: Array) -> float:
        """Along a line through points (n, 2)."""
        return float(np.linalg.norm(np.diff(points, axis=0) @ self.basis.T, axis=1).sum())

    def angle(self, points: Array) -> float | None:
        """At the second of three points, 0 to 180 degrees; None where two of them are one."""
        arms = (points[[0, 2]] - points[1]) @ self.basis.T
        if not np.linalg.norm(arms, axis=1).all():
            return None
        sine = np.linalg.norm(
            np.cross(arms[0], arms[1])
        )  # of both: exact near 0 and 180, where arccos is not
        return float(np.degrees(np.arctan2(sine, arms[0] @ arms[1])))

    def to_mm(self, index: float, points: Array) -> Array | None:
        """Patient positions (n, 3), LPS, of points (n, 2) of a plane; None without geometry."""
        if self.to_lps is None:
            return None
        full = np.column_stack([np.full(len(points), index), points, np.ones(len(points))])
        found: Array = (full @ self.to_lps.T)[:, :3]
        return found
