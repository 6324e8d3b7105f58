"""What is proven about parallel planes: one step, a leaning one, places left empty, or no step at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.frames import Frame

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Verdict = Literal["regular", "sheared", "missing_slices", "irregular", "plane_set", "none"]
SliceStep = Literal["measured", "nominal", "unknown"]

MAX_TILT_DEGREES = 60.0  # beyond it planes lie beside each other rather than behind each other
# Share of distances that must be one step for the others to be called missing slices. Whole multiples of the
# smallest distance alone are no proof: scanners place slices in round numbers of mm, so that two distances of
# 10.5 and 21 mm, or pairs of slices with a space between them, are as likely planned as lost.
SINGLE_STEPS = 0.7
MOST_MISSING = 0.5  # share of slices that may be missing: two stations far apart are no volume with a hole


@dataclass(frozen=True, slots=True)
class Gap:
    """Slices that are not there.

    after: index of the slice before the gap.
    position_mm: where the first missing slice would be, along the normal of the stack (n · LPS).
    missing: how many. width_mm: from the slice before to the slice behind, along the normal.
    """

    after: int
    position_mm: float
    missing: int
    width_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """A verdict on parallel planes.

    reason: the verdict in one sentence.
    affine: voxel index (z, y, x) to LPS mm, shape (4, 4); only for regular and sheared.
    slice_step: how the step between slices is known: measured from positions; of a lone slice nominal
        (a spacing or thickness was stated) or unknown (1 mm stands in for it).
    """

    verdict: Verdict
    reason: str
    affine: Array | None = None
    gaps: tuple[Gap, ...] = ()
    slice_step: SliceStep = "measured"

    @property
    def is_grid(self) -> bool:
        """Whether one affine places every voxel."""
        return self.affine is not None


def judge(frames: Sequence[Frame], places: Places, heights: Array) -> Judgement:
    """The verdict on parallel planes.

    frames: all of them, in any order. places: of each, numbered from 0 along the normal.
    heights: of each place along the normal, ascending, in mm.
    """
    if len(heights) == 1:
        return _lone(frames)
    steps = np.diff(heights)
    counts = np.rint(steps / np.median(steps)).astype(int)
    if (counts < 1).any():
        return Judgement("irregular", _spread(steps))
    index = np.concatenate([[0], np.cumsum(counts)])[places]
    matrix = geometry.fit(frames, index)
    if geometry.tilt_degrees(matrix) > MAX_TILT_DEGREES:
        return Judgement("plane_set", "parallel planes lie beside each other")
    tolerance = geometry.fit_tolerance_mm(matrix)
    if not geometry.misfit_mm(matrix, frames, index) <= tolerance:  # nor NaN
        return Judgement("irregular", _spread(steps))
    if (counts == 1).all():
        return _grid(matrix, len(heights))
    if not _are_missing(steps, counts, tolerance):
        return Judgement("irregular", _spread(steps))
    gaps = _gaps(heights, counts)
    missing = sum(gap.missing for gap in gaps)
    where = "one place" if len(gaps) == 1 else f"{len(gaps)} places"
    reason = f"{missing} of {missing + len(heights)} slices are missing, in {where}"
    return Judgement("missing_slices", reason, gaps=gaps)


def _lone(frames: Sequence[Frame]) -> Judgement:
    """A single place: repeats of it must coincide, corner by corner."""
    matrix = geometry.affine(frames[:1])
    if not geometry.misfit_mm(matrix, frames, np.zeros(len(frames), int)) <= geometry.fit_tolerance_mm(
        matrix
    ):
        return Judgement("irregular", "planes at one place are turned or scaled against each other")
    step: SliceStep = "nominal" if frames[0].nominal_step_mm else "unknown"
    reason = "a single slice: its thickness is stated, not measured"
    return Judgement("regular", reason, matrix, slice_step=step)


def _are_missing(steps: Array, counts: npt.NDArray[np.int_], tolerance_mm: float) -> bool:
    """Whether wide distances are whole multiples of a single step, and few enough to be gaps.

    Each by itself: a fit to all positions bends towards a slice far away, whatever its distance.
    """
    single = counts == 1
    if single.mean() < SINGLE_STEPS or (counts - 1).sum() > MOST_MISSING * (counts.sum() + 1):
        return False
    off = np.abs(steps - counts * steps[single].mean())
    return bool((off <= tolerance_mm).all())


def _grid(matrix: Array, slices: int) -> Judgement:
    step_mm = geometry.spacing_mm(matrix)[0]
    if geometry.is_sheared(matrix, slices):
        tilt = geometry.tilt_degrees(matrix)
        reason = f"a constant step of {step_mm:.4g} mm that leans {tilt:.3g} degrees from the normal"
        return Judgement("sheared", reason, matrix)
    if slices == 2:
        return Judgement("regular", f"two slices {step_mm:.4g} mm apart: any two make a step", matrix)
    return Judgement("regular", f"a constant step of {step_mm:.4g} mm", matrix)


def _gaps(heights: Array, counts: npt.NDArray[np.int_]) -> tuple[Gap, ...]:
    widths = np.diff(heights)
    return tuple(
        Gap(int(i), float(heights[i] + widths[i] / counts[i]), int(counts[i]) - 1, float(widths[i]))
        for i in np.flatnonzero(counts > 1)
    )


def _spread(steps: Array) -> str:
    return f"no constant step: gaps from {steps.min():.4g} to {steps.max():.4g} mm, or planes out of line"
