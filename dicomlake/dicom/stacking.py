"""From the frames of a series to stacks: which frames belong together, in which order, proven how.

Frames that differ in what no array can mix (patient, frame of reference, matrix, pixel type …) part
first, then those of different orientation. What is left is ordered along its normal, and a verdict
says what was proven about the positions. Only `regular` and `sheared` stacks are volumes; nothing is
made to fit, nothing is left out: every frame is in exactly one stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.frames import Frame
from dicomlake.errors import GeometryError

Array = npt.NDArray[np.float64]
Verdict = Literal["regular", "sheared", "missing_slices", "irregular", "plane_set", "none", "unproven"]
SliceStep = Literal["measured", "nominal", "unknown"]

SPACING_TOLERANCE = 1e-4  # relative difference of PixelSpacing within a stack
COSINE_TOLERANCE = 1e-3  # difference of a direction cosine within a stack
MAX_TILT_DEGREES = 60.0  # beyond it planes lie beside each other rather than behind each other
SINGLE_STEPS = 0.7  # share of gaps that must be one step for the others to be called missing slices
MIN_SCATTERED = 5  # frames that must line up to overrule as many different FrameOfReferenceUIDs
MIN_ACQUISITION = 3  # frames that an acquisition needs to be a proven stack: any two are equidistant


@dataclass(frozen=True, slots=True)
class Gap:
    """Slices that are not there.

    after: index of the slice before the gap.
    position_mm: where the first missing slice would be, along the normal of the stack (n · LPS).
    missing: how many.
    """

    after: int
    position_mm: float
    missing: int


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Frames that belong together, and what was proven about where they lie.

    frames: ascending along the normal (row direction x column direction, right-handed); by
        InstanceNumber where there is no order in space.
    affine: voxel index (z, y, x) to LPS mm, shape (4, 4); only for verdicts regular and sheared.
    positions: ImagePositionPatient of each frame, (z, 3), LPS mm; None when a frame has none.
    slice_step: how the step between slices is known: measured from positions; of a lone slice nominal
        (a spacing or thickness was stated) or unknown (1 mm stands in for it).
    reason: the verdict in one sentence.
    """

    frames: tuple[Frame, ...]
    verdict: Verdict
    reason: str
    affine: Array | None = None
    positions: Array | None = None
    gaps: tuple[Gap, ...] = ()
    slice_step: SliceStep = "measured"

    @property
    def buildable(self) -> bool:
        """Whether the frames are the slices of one volume, by proof."""
        return self.verdict in ("regular", "sheared")

    @property
    def frame_of_reference_uid(self) -> str | None:
        """The FrameOfReferenceUID that all frames share, None when there is none."""
        found = {frame.frame_of_reference_uid for frame in self.frames}
        return found.pop() if len(found) == 1 else None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The smallest dtype for all frames; BitsStored may differ between them."""
        return max((frame.pixel.dtype for frame in self.frames), key=lambda dtype: dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Stacking:
    """The stacks of a series, by their smallest InstanceNumber."""

    stacks: tuple[Stack, ...]


def stack(frames: Iterable[Frame]) -> Stacking:
    """Sort frames into stacks; the same frames give the same stacks, however they are shuffled.

    Raises GeometryError when a frame would be lost or used twice, which no input should cause.
    """
    given = sorted(frames, key=_instance_order)
    stacks = [found for group in _never_together(given) for found in _stacks_of(group)]
    _check_complete(given, stacks)
    return Stacking(tuple(sorted(stacks, key=lambda found: min(map(_instance_order, found.frames)))))


def _instance_order(frame: Frame) -> tuple[float, str, int]:
    number = float("inf") if frame.instance_number is None else frame.instance_number
    return number, frame.sop_instance_uid, frame.frame_index


def _check_complete(given: Sequence[Frame], stacks: Sequence[Stack]) -> None:
    used = Counter(id(frame) for found in stacks for frame in found.frames)
    if used != Counter(map(id, given)):
        raise GeometryError(
            f"{len(given)} frames were given and {used.total()} are in stacks: please report this defect"
        )


# ---- which frames may share an array ---------------------------------------------------------------


def _hard_key(frame: Frame) -> Hashable:
    pixel = frame.pixel
    return (
        frame.patient_key,
        frame.study_instance_uid,
        frame.series_instance_uid,
        frame.sop_class_uid,
        (pixel.rows, pixel.columns, pixel.samples, pixel.photometric),
        (pixel.bits_allocated, pixel.signed, pixel.kind),
        frame.units,
        frame.localizer,
        (frame.multiframe, frame.packed, frame.has_geometry),
    )


def _never_together(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(_hard_key(frame), []).append(frame)
    return [part for group in groups.values() for part in _cluster(group, _same_spacing)]


def _cluster(frames: Sequence[Frame], alike: Callable[[Frame, Frame], bool]) -> list[list[Frame]]:
    """Each frame joins the first cluster whose first frame it resembles."""
    clusters: list[list[Frame]] = []
    for frame in frames:
        for cluster in clusters:
            if alike(cluster[0], frame):
                cluster.append(frame)
                break
        else:
            clusters.append([frame])
    return clusters


def _same_spacing(one: Frame, other: Frame) -> bool:
    if one.spacing_mm is None or other.spacing_mm is None:
        return one.spacing_mm is other.spacing_mm
    return all(
        abs(a - b) <= SPACING_TOLERANCE * a for a, b in zip(one.spacing_mm, other.spacing_mm, strict=True)
    )


def _same_orientation(one: Frame, other: Frame) -> bool:
    pairs = zip(one.orientation or (), other.orientation or (), strict=True)
    return all(abs(a - b) <= COSINE_TOLERANCE for a, b in pairs)


# ---- what is proven about them ---------------------------------------------------------------------


def _stacks_of(group: list[Frame]) -> list[Stack]:
    """The stacks of frames that agree in the hard key; those of other frames of reference stay apart.

    One exception: some de-identification gives every frame a FrameOfReferenceUID of its own (the LIDC
    collection is published so). UIDs of which no two are equal tell nothing, and planes of unrelated
    coordinate systems do not line up to a grid: when they do, to within the tolerance of the fit, the
    grid is the proof. The reason then says so.
    """
    references: dict[str | None, list[Frame]] = {}
    for frame in group:
        references.setdefault(frame.frame_of_reference_uid, []).append(frame)
    if len(references) == len(group) >= MIN_SCATTERED:
        together = _stacks_in_space(group)
        if len(together) == 1 and together[0].verdict in ("regular", "sheared", "missing_slices"):
            reason = f"{together[0].reason}; every frame names a frame of reference of its own"
            return [replace(together[0], reason=reason)]
    return [found for part in references.values() for found in _stacks_in_space(part)]


def _stacks_in_space(group: list[Frame]) -> list[Stack]:
    first = group[0]
    if first.packed:
        return [_plain(group, "unproven", "each image holds many slices as tiles (mosaic or grid)")]
    if first.multiframe:
        return [_plain(group, "unproven", "the frames of multi-frame objects are not placed yet")]
    if not first.has_geometry:
        return [_plain(group, "none", f"no geometry: {first.flaw}")]
    clusters = _cluster(group, _same_orientation)
    if len(clusters) > 2 and all(len(cluster) == 1 for cluster in clusters):
        return [_plain(group, "plane_set", f"{len(clusters)} planes, each in a direction of its own")]
    return [found for cluster in clusters for found in _stacks_of_parallel(cluster)]


def _plain(frames: Sequence[Frame], verdict: Verdict, reason: str) -> Stack:
    """A stack without an order in space."""
    known = all(frame.position is not None for frame in frames)
    positions = np.array([frame.position for frame in frames], dtype=float) if known else None
    return Stack(tuple(frames), verdict, reason, positions=positions)


def _stacks_of_parallel(frames: list[Frame]) -> list[Stack]:
    along = np.array([frame.orientation for frame in frames], dtype=float).mean(axis=0)
    heights = np.array([frame.position for frame in frames], dtype=float) @ geometry.normal(along)
    order = np.argsort(heights, kind="stable")  # frames at one height stay in order of InstanceNumber
    ordered = [frames[i] for i in order]
    steps = np.diff(heights[order])
    if (steps <= geometry.same_place_mm(frames[0])).any():
        return [_several_at_one_place(ordered, steps)]
    return _split_acquisitions(ordered) or [_judge(ordered, heights[order])]


def _several_at_one_place(frames: list[Frame], steps: Array) -> Stack:
    """Frames at one height: repeats that need a further dimension, or planes side by side."""
    tolerance = geometry.same_place_mm(frames[0])
    places = np.array([frame.position for frame in frames], dtype=float)
    moved = np.linalg.norm(np.diff(places, axis=0), axis=1)[steps <= tolerance]
    if (moved > tolerance).any():
        reason = "several planes lie side by side at one height"
    else:
        reason = "several frames lie at one place: what tells them apart is not proven yet"
    return Stack(tuple(frames), "unproven", reason, positions=places)


def _split_acquisitions(frames: list[Frame]) -> list[Stack]:
    """The acquisitions that interleave in space, each a volume by itself; empty when it is not so.

    Together they may look like one regular volume of half the step, yet were taken one after another.
    Acquisitions that follow each other in space, or are no volumes by themselves, are not split.
    """
    numbers = [frame.acquisition_number for frame in frames]
    distinct = set(numbers)
    runs = 1 + sum(a != b for a, b in pairwise(numbers))
    if None in distinct or len(distinct) == 1 or runs == len(distinct):
        return []
    acquisitions: dict[int | None, list[Frame]] = {}
    for frame, number in zip(frames, numbers, strict=True):
        acquisitions.setdefault(number, []).append(frame)
    if min(map(len, acquisitions.values())) < MIN_ACQUISITION:
        return []
    parts = [_judge(part, _heights(part)) for part in acquisitions.values()]
    return parts if all(part.buildable for part in parts) else []


def _heights(frames: Sequence[Frame]) -> Array:
    along = np.array([frame.orientation for frame in frames], dtype=float).mean(axis=0)
    return np.array([frame.position for frame in frames], dtype=float) @ geometry.normal(along)


def _judge(frames: Sequence[Frame], heights: Array) -> Stack:
    """The verdict on parallel planes, one at each height, in ascending order."""
    ordered = tuple(frames)
    positions = np.array([frame.position for frame in ordered], dtype=float)
    if len(ordered) == 1:
        step: SliceStep = "nominal" if ordered[0].nominal_step_mm else "unknown"
        reason = "a single slice: its thickness is stated, not measured"
        return Stack(ordered, "regular", reason, geometry.affine(ordered), positions, slice_step=step)
    steps = np.diff(heights)
    counts = np.rint(steps / np.median(steps)).astype(int)
    index = np.concatenate([[0], np.cumsum(counts)])
    if (counts < 1).any():
        return Stack(ordered, "irregular", _spread(steps), positions=positions)
    matrix = geometry.fit(ordered, index)
    if geometry.tilt_degrees(matrix) > MAX_TILT_DEGREES:
        return Stack(ordered, "plane_set", "parallel planes lie beside each other", positions=positions)
    if not geometry.misfit_mm(matrix, ordered, index) <= geometry.fit_tolerance_mm(matrix):  # nor NaN
        return Stack(ordered, "irregular", _spread(steps), positions=positions)
    if (counts == 1).all():
        return _volume(ordered, matrix, positions)
    if (counts == 1).mean() < SINGLE_STEPS:
        return Stack(ordered, "irregular", _spread(steps), positions=positions)
    gaps = _gaps(heights, counts)
    missing = sum(gap.missing for gap in gaps)
    reason = f"{missing} of {missing + len(ordered)} slices are missing, in {len(gaps)} places"
    return Stack(ordered, "missing_slices", reason, positions=positions, gaps=gaps)


def _volume(frames: tuple[Frame, ...], matrix: Array, positions: Array) -> Stack:
    step_mm = geometry.spacing_mm(matrix)[0]
    if geometry.is_sheared(matrix, len(frames)):
        tilt = geometry.tilt_degrees(matrix)
        reason = f"a constant step of {step_mm:.4g} mm that leans {tilt:.3g} degrees from the normal"
        return Stack(frames, "sheared", reason, matrix, positions)
    return Stack(frames, "regular", f"a constant step of {step_mm:.4g} mm", matrix, positions)


def _gaps(heights: Array, counts: npt.NDArray[np.int_]) -> tuple[Gap, ...]:
    return tuple(
        Gap(int(i), float(heights[i] + (heights[i + 1] - heights[i]) / counts[i]), int(counts[i]) - 1)
        for i in np.flatnonzero(counts > 1)
    )


def _spread(steps: Array) -> str:
    return f"no constant step: gaps from {steps.min():.4g} to {steps.max():.4g} mm, or planes out of line"
