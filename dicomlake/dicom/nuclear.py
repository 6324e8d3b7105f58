"""Frames of nuclear medicine images (PS3.3 C.8.4.8): windows, detectors, phases, views, slices.

FrameIncrementPointer names vectors with one value for each frame. Only reconstructed slices have a place
in the patient: the first from the detector that is listed first, the others by the signed distance
between slices (C.8.4.15).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Facet, Frame, Vector, geometry_flaw
from dicomlake.dicom.lookups import pointed_at, readable_items

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.20"

_VECTORS = {
    "EnergyWindowVector": "energy_window",
    "DetectorVector": "detector",
    "PhaseVector": "phase",
    "RotationVector": "rotation",
    "RRIntervalVector": "rr_interval",
    "TimeSlotVector": "time_slot",
    "AngularViewVector": "angular_view",
    "TimeSliceVector": "time_slice",
}
_SLICES = "SliceVector"
_WITHOUT_PLACE = "dim_slice"  # the slice number where slices have no position to be told apart by
_SIGNS = {"CW": -1.0, "CC": 1.0}  # RotationDirection: clockwise angles decrease (C.8.4.12)

Column = Sequence[float]


def frames(dataset: Attributes, first: Frame, count: int) -> tuple[Frame, ...]:
    """One record per frame, in the order of the object.

    Facets are the values of the vectors; `angle` (degrees about the patient) where views of a rotation
    state it, `frame_time` (ms since the first frame) of dynamic phases. Projections, and slices whose
    position or step is not stated, have no geometry and say why.
    """
    columns = _columns(dataset, count)
    if isinstance(columns, str):
        lost = replace(first, position=None, orientation=None, spacing_mm=None, flaw=columns)
        return tuple(replace(lost, frame_index=index) for index in range(count))
    slices = columns.pop(_SLICES, None)
    facets = [{**first.facets, **_row(columns, index)} for index in range(count)]
    if slices is not None:
        return _reconstructed(dataset, first, slices, facets)
    if count > 1:
        flaw = "projections of nuclear medicine have no place in the patient"
        first = replace(first, position=None, orientation=None, spacing_mm=None, flaw=flaw)
    return tuple(replace(first, frame_index=index, facets=facets[index]) for index in range(count))


def _row(columns: Mapping[str, Column], index: int) -> dict[str, Facet]:
    return {name: values[index] for name, values in columns.items()}


def _columns(dataset: Attributes, count: int) -> dict[str, Column] | str:
    """The vectors by facet, SliceVector by its keyword; or what is wrong with one of them."""
    found: dict[str, Column] = {}
    for keyword in pointed_at(dataset, "FrameIncrementPointer"):
        if keyword not in _VECTORS and keyword != _SLICES:
            continue
        values = dataset.numbers(keyword)
        if len(values) != count:
            return f"{keyword} has {len(values)} values for {count} frames"
        found[_VECTORS.get(keyword, keyword)] = values
    derived = {"angle": _angles(dataset, found), "frame_time": _times(dataset, found)}
    return found | {name: column for name, column in derived.items() if column is not None}


# ---- where slices lie ------------------------------------------------------------------------------


def _reconstructed(
    dataset: Attributes, first: Frame, slices: Column, facets: Sequence[dict[str, Facet]]
) -> tuple[Frame, ...]:
    """Slices of a volume: slice n lies n - 1 steps along the normal from the position that is stated."""
    holders = (*readable_items(dataset, "DetectorInformationSequence")[:1], dataset)
    at = _first_stated(holders, "ImagePositionPatient")
    turned = _first_stated(holders, "ImageOrientationPatient")
    spacing = dataset.numbers("PixelSpacing")
    step = dataset.number("SpacingBetweenSlices")
    flaw = geometry_flaw(at, turned, spacing)
    if flaw is None and not step and any(number != 1 for number in slices):
        flaw = "SpacingBetweenSlices is absent or 0: only the first slice has a position"
    if flaw is not None:
        lost = replace(first, position=None, orientation=None, spacing_mm=None, flaw=flaw)
        return tuple(
            replace(lost, frame_index=i, facets={**facets[i], _WITHOUT_PLACE: number})
            for i, number in enumerate(slices)
        )
    normal = (step or 0.0) * geometry.normal(turned)
    placed = replace(first, orientation=turned, spacing_mm=(spacing[0], spacing[1]), flaw=None)
    return tuple(
        replace(placed, frame_index=i, position=_along(at, normal, number - 1), facets=facets[i])
        for i, number in enumerate(slices)
    )


def _along(at: Sequence[float], step: npt.NDArray[np.float64], steps: float) -> Vector:
    x, y, z = (float(start + steps * part) for start, part in zip(at, step, strict=True))
    return x, y, z


def _first_stated(holders: Sequence[Attributes], keyword: str) -> tuple[float, ...]:
    return next((found for holder in holders if (found := holder.numbers(keyword))), ())


# ---- angles and times ------------------------------------------------------------------------------


def _angles(dataset: Attributes, columns: Mapping[str, Column]) -> Column | None:
    """The angle of each view (C.8.4.11, C.8.4.12); None when it is not stated for all of them.

    The angle at the start is that of the detector; that of the rotation stands for a lone detector.
    """
    views, rotations = columns.get("angular_view"), columns.get("rotation")
    if views is None:
        return None
    turns = readable_items(dataset, "RotationInformationSequence")
    detectors = readable_items(dataset, "DetectorInformationSequence")
    which = columns.get("detector") or [1.0] * len(views)
    alone = len(set(which)) == 1
    found: list[float] = []
    for view, rotation, detector in zip(views, rotations or [1.0] * len(views), which, strict=True):
        turn = _nth(turns, rotation)
        if turn is None:
            return None
        starting = [holder for holder in (_nth(detectors, detector), turn if alone else None) if holder]
        start = next((s for holder in starting if (s := holder.number("StartAngle")) is not None), None)
        step, sign = turn.number("AngularStep"), _SIGNS.get(turn.text("RotationDirection") or "")
        if start is None or step is None or sign is None:
            return None
        found.append((start + sign * abs(step) * (view - 1)) % 360)
    return found


def _nth(items: Sequence[Attributes], number: float) -> Attributes | None:
    """The item with this number, counted from 1."""
    return items[int(number) - 1] if 1 <= number <= len(items) else None


def _times(dataset: Attributes, columns: Mapping[str, Column]) -> Column | None:
    """When each frame of a dynamic study begins, in ms since the first (C.8.4.14); None when not stated."""
    phases, slices = columns.get("phase"), columns.get("time_slice")
    if phases is None or slices is None:
        return None
    begins: list[tuple[float, float]] = []  # of each phase: its first frame, and from frame to frame
    clock = 0.0
    for phase in readable_items(dataset, "PhaseInformationSequence"):
        delay, pause = phase.number("PhaseDelay") or 0.0, phase.number("PauseBetweenFrames") or 0.0
        duration, frames_in_phase = phase.number("ActualFrameDuration"), phase.number("NumberOfFramesInPhase")
        if duration is None or frames_in_phase is None:
            return None
        begins.append((clock + delay, duration + pause))
        clock += delay + frames_in_phase * duration + max(frames_in_phase - 1, 0) * pause
    if not begins or not all(1 <= phase <= len(begins) for phase in phases):
        return None
    found = [
        begins[int(phase) - 1][0] + (number - 1) * begins[int(phase) - 1][1]
        for phase, number in zip(phases, slices, strict=True)
    ]
    return [time - min(found) for time in found]
