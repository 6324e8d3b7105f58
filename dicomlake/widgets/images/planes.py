"""Planes of a volume as they are shown: which axis, which way round, which side of the patient is where.

Radiological: patient right at screen left in axial and coronal planes, anterior at left in sagittal ones;
anterior on top of axial planes, superior on top of the others. Plane numbers follow the array: plane k of
the acquired orientation is `image.isel(z=k)`. A pixel's position is its centre.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NAMES = ("axial", "coronal", "sagittal")
FRAME = "frame"
_ENDS = (("R", "L"), ("A", "P"), ("I", "S"))  # towards smaller and larger x, y, z of LPS
_TELLING = 0.2  # of a unit vector: a smaller part (11 degrees) gets no letter of its own
_LIES_ALONG = {"axial": 2, "coronal": 1, "sagittal": 0}  # the patient axis across the planes
_DOWN_AND_RIGHT: dict[str, tuple[tuple[int, float], tuple[int, float]]] = {
    "axial": ((1, 1.0), (0, 1.0)),  # rows go to posterior, columns to the left
    "coronal": ((2, -1.0), (0, 1.0)),
    "sagittal": ((2, -1.0), (1, 1.0)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """How planes of one orientation are cut from an array (z, y, x), and where their pixels lie.

    count, rows, cols: how many there are, and their size. row_mm, col_mm: distances between rows and
    columns; step_mm: between planes, along their normal. letters: side of the picture -> of the patient, ""
    where it is unknown. to_index, to_lps: (plane, row, col, 1) as displayed -> (z, y, x, 1) of the array,
    and -> patient position in mm; (4, 4). axes: of the array, across planes, along rows' and columns'
    numbers; reversed_rows, reversed_cols: whether they run against the array.
    """

    name: str
    count: int
    rows: int
    cols: int
    row_mm: float
    col_mm: float
    step_mm: float
    letters: dict[str, str]
    to_index: Array
    to_lps: Array | None
    axes: tuple[int, int, int] = (0, 1, 2)
    reversed_rows: bool = False
    reversed_cols: bool = False

    def displayed(self, part: np.ndarray) -> np.ndarray:
        """Any part (z, y, x[, rgb]) of the array with planes, rows and columns as displayed; a view."""
        turned = part.transpose(*self.axes, *range(3, part.ndim))
        rows = slice(None, None, -1) if self.reversed_rows else slice(None)
        cols = slice(None, None, -1) if self.reversed_cols else slice(None)
        return turned[:, rows, cols]

    def box(self, start: int, stop: int) -> tuple[slice, slice, slice]:
        """Where planes start … stop - 1 lie in the array (z, y, x)."""
        spans = {
            self.axes[0]: slice(start, stop),
            self.axes[1]: slice(0, self.rows),
            self.axes[2]: slice(0, self.cols),
        }
        return spans[0], spans[1], spans[2]

    def number_of(self, index: Sequence[float]) -> int:
        """The plane that a voxel (z, y, x) lies in."""
        return int(np.clip(round(index[self.axes[0]]), 0, self.count - 1))

    def meta(self) -> dict[str, Any]:
        """JSON types, for the browser."""
        return {
            "count": self.count,
            "rows": self.rows,
            "cols": self.cols,
            "row_mm": self.row_mm,
            "col_mm": self.col_mm,
            "step_mm": self.step_mm,
            "letters": dict(self.letters),
            "to_index": self.to_index.tolist(),
            "to_lps": None if self.to_lps is None else self.to_lps.tolist(),
        }


def planes_of(shape: tuple[int, int, int], affine: Array) -> dict[str, Plane]:
    """Axial, coronal and sagittal planes of a volume (z, y, x), the acquired ones first.

    affine: index (z, y, x) -> LPS, mm; of an oblique volume the planes get the name of the nearest. One
    slice has one plane, which is called "frame".
    """
    assigned = _nearest_axes(affine)
    names = sorted(NAMES, key=lambda name: assigned[_LIES_ALONG[name]])
    if shape[0] == 1:
        return {FRAME: _plane(FRAME, names[0], shape, affine, assigned)}
    return {name: _plane(name, name, shape, affine, assigned) for name in names}


def acquired_plane(
    shape: tuple[int, int, int], orientation: Sequence[float], spacing_mm: tuple[float, float]
) -> dict[str, Plane]:
    """The one orientation of planes that are parallel, but at uneven distances: no affine places them.

    orientation: ImageOrientationPatient. spacing_mm: between rows, between columns.
    """
    row, column = np.asarray(orientation, dtype=float).reshape(2, 3)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cross(row, column)
    matrix[:3, 1], matrix[:3, 2] = column * spacing_mm[0], row * spacing_mm[1]
    first = next(iter(planes_of((2, *shape[1:]), matrix).values()))
    at = Plane(
        **{name: getattr(first, name) for name in Plane.__dataclass_fields__ if name not in _OWN},
        name=first.name if shape[0] > 1 else FRAME,
        count=shape[0],
        step_mm=1.0,
        to_lps=None,
    )
    return {at.name: at}


_OWN = frozenset({"name", "count", "step_mm", "to_lps"})


def frames_of(shape: tuple[int, int, int], spacing_mm: tuple[float, float] = (1.0, 1.0)) -> dict[str, Plane]:
    """The frames of an array without geometry, as they were stored. spacing_mm: between rows, columns."""
    unknown = dict.fromkeys(("left", "right", "top", "bottom"), "")
    return {FRAME: Plane(FRAME, *shape, *spacing_mm, 1.0, unknown, np.eye(4), None)}


def letters_of(direction: npt.ArrayLike) -> str:
    """Where a direction (LPS) points in the patient: "L", or "LP" where it is oblique; largest part first."""
    vector = np.asarray(direction, dtype=float)
    length = np.linalg.norm(vector)
    if not length > 0:
        return ""
    parts = sorted(((abs(v) / length, axis, v) for axis, v in enumerate(vector)), reverse=True)
    return "".join(_ENDS[axis][int(v > 0)] for part, axis, v in parts if part > _TELLING)


def _nearest_axes(affine: Array) -> tuple[int, int, int]:
    """For each patient axis x, y, z the array axis that lies nearest to it; each once."""
    columns = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))  # (patient, array)
    best = max(itertools.permutations(range(3)), key=lambda p: sum(columns[i, a] for i, a in enumerate(p)))
    return best[0], best[1], best[2]


def _plane(
    name: str, nearest: str, shape: tuple[int, int, int], affine: Array, assigned: tuple[int, int, int]
) -> Plane:
    (down, down_sign), (right, right_sign) = _DOWN_AND_RIGHT[nearest]
    axes = assigned[_LIES_ALONG[nearest]], assigned[down], assigned[right]
    against = [
        bool(affine[patient, axis] * sign < 0)
        for patient, axis, sign in ((down, axes[1], down_sign), (right, axes[2], right_sign))
    ]
    to_index = _to_index(shape, axes, against)
    to_lps = affine @ to_index
    across, rows, cols = to_lps[:3, 0], to_lps[:3, 1], to_lps[:3, 2]
    normal = np.cross(rows, cols)
    col_mm = float(np.linalg.norm(cols))
    return Plane(
        name=name,
        count=shape[axes[0]],
        rows=shape[axes[1]],
        cols=shape[axes[2]],
        row_mm=float(np.linalg.norm(normal)) / col_mm,  # across the rows, where the volume is sheared
        col_mm=col_mm,
        step_mm=float(abs(across @ normal) / np.linalg.norm(normal)),
        letters={
            "left": letters_of(-cols),
            "right": letters_of(cols),
            "top": letters_of(-rows),
            "bottom": letters_of(rows),
        },
        to_index=to_index,
        to_lps=to_lps,
        axes=axes,
        reversed_rows=against[0],
        reversed_cols=against[1],
    )


def _to_index(shape: tuple[int, int, int], axes: tuple[int, int, int], against: Sequence[bool]) -> Array:
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    matrix[axes[0], 0] = 1
    for k, (axis, reverse) in enumerate(zip(axes[1:], against, strict=True), start=1):
        matrix[axis, k] = -1 if reverse else 1
        matrix[axis, 3] = shape[axis] - 1 if reverse else 0
    return matrix
