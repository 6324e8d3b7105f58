"""Patient geometry of stacked planes: affine matrices in LPS millimetres, and what they imply.

An affine maps voxel index (z, y, x) = (slice, row, column) to patient position. It is fitted to the
positions that the frames state (PS3.3 C.7.6.2.1.1), never made from SliceThickness or
SpacingBetweenSlices, and believed only when it gives every corner of every frame back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.frames import Frame
from dicomlake.errors import GeometryError

Array = npt.NDArray[np.float64]

FIT_TOLERANCE = 0.05  # of the smallest voxel edge: how far a corner may be from where the affine puts it
SAME_PLACE_MM = 0.02  # two planes closer than this are at one place: float noise reaches 5e-3 mm ...
SAME_PLACE_PIXELS = 0.05  # ... unless the pixels are so small (micro-CT) that it is a distance
DRIFT_PIXELS = 0.1  # how far a stack may lean, first to last slice, and still be called upright


def plane_axes(orientation: Sequence[float]) -> tuple[Array, Array]:
    """Unit vectors of an ImageOrientationPatient: along a row (x grows), along a column (y grows)."""
    along_row, along_column = np.asarray(orientation, dtype=float).reshape(2, 3)
    return along_row / np.linalg.norm(along_row), along_column / np.linalg.norm(along_column)


def normal(orientation: Sequence[float]) -> Array:
    """Unit normal of a plane, row direction x column direction: right-handed."""
    found = np.cross(*plane_axes(orientation))
    return np.asarray(found / np.linalg.norm(found), dtype=float)


def same_place_mm(frame: Frame) -> float:
    """Distance below which two planes are at the same place, in mm; scales with small pixels."""
    if frame.spacing_mm is None:
        raise GeometryError(f"a frame has no geometry: {frame.flaw}")
    return min(SAME_PLACE_MM, SAME_PLACE_PIXELS * min(frame.spacing_mm))


def affine(frames: Sequence[Frame]) -> Array:
    """Voxel index (slice, row, column) to patient position, LPS, in mm; shape (4, 4).

    frames: in slice order, one per slice. Columns: step between slices, step between rows, step
    between columns, position of the first voxel; least squares over all positions. The step of a lone
    frame lies along the normal and has its nominal length, 1 mm where none is stated.
    Raises GeometryError when the frames lack geometry or the step is not constant; the error names
    the gap in mm.
    """
    matrix = fit(frames, np.arange(len(frames)))
    off = misfit_mm(matrix, frames, np.arange(len(frames)))
    if off > fit_tolerance_mm(matrix):
        raise GeometryError(
            f"{_widest_gap(frames)}; positions are up to {off:.3g} mm off a regular grid:"
            " open with grid='resample', or keep the stated positions"
        )
    return matrix


def fit(frames: Sequence[Frame], index: npt.NDArray[np.integer]) -> Array:
    """The affine that best places frame i at slice index[i]; says nothing about how well (`misfit_mm`)."""
    places, orientation, spacing = _planes(frames)
    along_row, along_column = plane_axes(orientation.mean(axis=0))
    between_rows, between_columns = spacing.mean(axis=0)
    if len(frames) == 1:
        step = normal(orientation[0]) * (frames[0].nominal_step_mm or 1.0)
        origin = places[0] - index[0] * step
    else:
        centred = index - index.mean()
        step = centred @ (places - places.mean(axis=0)) / (centred @ centred)
        origin = places.mean(axis=0) - index.mean() * step
    matrix = np.eye(4)
    matrix[:3, 0] = step
    matrix[:3, 1] = along_column * between_rows
    matrix[:3, 2] = along_row * between_columns
    matrix[:3, 3] = origin
    return matrix


def _planes(frames: Sequence[Frame]) -> tuple[Array, Array, Array]:
    """Positions (n, 3), orientations (n, 6), spacings (n, 2)."""
    if not frames:
        raise GeometryError("no frames, no geometry")
    for frame in frames:
        if frame.flaw is not None:
            raise GeometryError(f"a frame has no geometry: {frame.flaw}")
    return (
        np.array([frame.position for frame in frames], dtype=float),
        np.array([frame.orientation for frame in frames], dtype=float),
        np.array([frame.spacing_mm for frame in frames], dtype=float),
    )


def misfit_mm(matrix: Array, frames: Sequence[Frame], index: npt.NDArray[np.integer]) -> float:
    """The largest distance between a frame's corner as stated and as the affine places it, in mm.

    Corners, not only positions: a plane that is turned or scaled a little is off at its far end.
    """
    places, orientation, spacing = _planes(frames)
    last_row, last_column = frames[0].pixel.rows - 1, frames[0].pixel.columns - 1
    worst = 0.0
    for row, column in ((0, 0), (last_row, 0), (0, last_column), (last_row, last_column)):
        along_row, along_column = orientation[:, :3], orientation[:, 3:]
        stated = places + along_column * spacing[:, :1] * row + along_row * spacing[:, 1:] * column
        fitted = matrix[:3, 3] + np.outer(index, matrix[:3, 0]) + matrix[:3, 1] * row + matrix[:3, 2] * column
        worst = max(worst, float(np.linalg.norm(stated - fitted, axis=1).max()))
    return worst


def fit_tolerance_mm(matrix: Array) -> float:
    """How far corners may be off before an affine is not believed: a part of the smallest voxel edge."""
    return FIT_TOLERANCE * min(spacing_mm(matrix))


def _widest_gap(frames: Sequence[Frame]) -> str:
    places, orientation, _ = _planes(frames)
    steps = np.diff(places @ normal(orientation.mean(axis=0)))
    worst = int(np.argmax(np.abs(steps - np.median(steps))))
    return (
        f"the gap between slices {worst} and {worst + 1} is {steps[worst]:.4g} mm"
        f" where {np.median(steps):.4g} mm is usual"
    )


def to_lps(matrix: Array, index: npt.ArrayLike) -> Array:
    """Voxel index (..., 3) in order z, y, x to patient position (..., 3) in mm."""
    return np.asarray(index, dtype=float) @ matrix[:3, :3].T + matrix[:3, 3]


def to_index(matrix: Array, lps: npt.ArrayLike) -> Array:
    """Patient position (..., 3) in mm to fractional voxel index (..., 3) in order z, y, x."""
    return np.asarray(
        np.linalg.solve(matrix[:3, :3], (np.asarray(lps, dtype=float) - matrix[:3, 3])[..., None])[..., 0]
    )


def spacing_mm(matrix: Array) -> tuple[float, float, float]:
    """Length of a step in z, y and x, in mm; for a sheared volume z is along its edge."""
    z, y, x = np.linalg.norm(matrix[:3, :3], axis=0)
    return float(z), float(y), float(x)


def _lean(matrix: Array) -> tuple[float, float]:
    """How far one slice step goes along the normal and, perpendicular to it, sideways; in mm."""
    across = np.cross(matrix[:3, 2], matrix[:3, 1])
    step = matrix[:3, 0]
    along = float(step @ across / np.linalg.norm(across))
    return abs(along), math.sqrt(max(float(step @ step) - along * along, 0.0))


def tilt_degrees(matrix: Array) -> float:
    """Angle between the slice step and the normal of the slices: the gantry tilt of a CT."""
    along, sideways = _lean(matrix)
    return math.degrees(math.atan2(sideways, along))


def is_sheared(matrix: Array, slices: int) -> bool:
    """Whether a box of this many slices cannot stand for the volume.

    True when the last slice lies more than a tenth of a pixel beside the normal through the first:
    decided over the whole stack, since an angle that is noise in two slices matters in a thousand.
    """
    _, sideways = _lean(matrix)
    return sideways * (slices - 1) > DRIFT_PIXELS * min(spacing_mm(matrix)[1:])


def to_ras(matrix: Array) -> Array:
    """The same affine with patient axes right, anterior, superior, as NIfTI has them."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
