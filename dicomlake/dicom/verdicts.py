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
SINGLE_STEPS = 0.7  # share of gaps that must be one step for the others to be called missing slices


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
        step: SliceStep = "nominal" if frames[0].nominal_step_mm else "unknown"
        reason = "a single slice: its thickness is stated, not measured"
        return Judgement("regular", reason, geometry.affine(frames[:1]), slice_step=step)
    steps = np.diff(heights)
    counts = np.rint(steps / np.median(steps)).astype(int)
    index = np.concatenate([[0], np.cumsum(counts)])
    if (counts < 1).any():
        return Judgement("irregular", _spread(steps))
    matrix = geometry.fit(frames, index[places])
    if geometry.tilt_degrees(matrix) > MAX_TILT_DEGREES:
        return Judgement("plane_set", "parallel planes lie beside each other")
    if not geometry.misfit_mm(matrix, frames, index[places]) <= geometry.fit_tolerance_mm(matrix):  # nor NaN
        return Judgement("irregular", _spread(steps))
    if (counts == 1).all():
        return _grid(matrix, len(heights))
    if (counts == 1).mean() < SINGLE_STEPS:
        return Judgement("irregular", _spread(steps))
    gaps = _gaps(heights, counts)
    missing = sum(gap.missing for gap in gaps)
    reason = f"{missing} of {missing + len(heights)} slices are missing, in {len(gaps)} places"
    return Judgement("missing_slices", reason, gaps=gaps)


def _grid(matrix: Array, slices: int) -> Judgement:
    step_mm = geometry.spacing_mm(matrix)[0]
    if geometry.is_sheared(matrix, slices):
        tilt = geometry.tilt_degrees(matrix)
        reason = f"a constant step of {step_mm:.4g} mm that leans {tilt:.3g} degrees from the normal"
        return Judgement("sheared", reason, matrix)
    return Judgement("regular", f"a constant step of {step_mm:.4g} mm", matrix)


def _gaps(heights: Array, counts: npt.NDArray[np.int_]) -> tuple[Gap, ...]:
    widths = np.diff(heights)
    return tuple(
        Gap(int(i), float(heights[i] + widths[i] / counts[i]), int(counts[i]) - 1, float(widths[i]))
        for i in np.flatnonzero(counts > 1)
    )


def _spread(steps: Array) -> str:
    return f"no constant step: gaps from {steps.min():.4g} to {steps.max():.4g} mm, or planes out of line"
