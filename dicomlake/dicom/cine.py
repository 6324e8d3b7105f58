"""Frames of objects with NumberOfFrames and without functional groups: cine runs, NM, RT dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from dicomlake.dicom import dose_grid, nuclear, sop_classes
from dicomlake.dicom import facets as plain
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Facet, Frame
from dicomlake.dicom.lookups import pointed_at, readable_items

_FRAME_TIME, _FRAME_TIME_VECTOR = "FrameTime", "FrameTimeVector"
_NO_PLACE = "the frames of such an object have no place in the patient"
_2D, _NO_FORMAT, _CENTIMETRE = 1, 0, 3  # RegionSpatialFormat, PhysicalUnits (PS3.3 C.8.5.5.1)


def frames(dataset: Attributes, first: Frame, count: int) -> tuple[Frame, ...]:
    """One record per frame, in the order of the object.

    RT dose and nuclear medicine define where their frames lie, or say that they do not. The frames of
    other objects have facets: `frame_time`, `angle`, and the values of whatever vector
    FrameIncrementPointer names (C.7.6.6). A lone frame is a plain image.
    """
    first = plain.with_facets(dataset, first)
    if first.sop_class_uid == sop_classes.RT_DOSE or _is_nameless_dose(dataset):
        return dose_grid.frames(dataset, first, count)
    if first.sop_class_uid == nuclear.SOP_CLASS:
        return nuclear.frames(dataset, first, count)
    if count == 1:
        return (first,)
    lost = replace(first, position=None, orientation=None, spacing_mm=None, flaw=_NO_PLACE)
    columns = _columns(dataset, count)
    return tuple(
        replace(
            lost,
            frame_index=index,
            facets={**lost.facets, **{name: values[index] for name, values in columns.items()}},
        )
        for index in range(count)
    )


def _is_nameless_dose(dataset: Attributes) -> bool:
    """Planning systems are known that leave SOPClassUID out of a dose."""
    return "SOPClassUID" not in dataset and dataset.text("Modality") == "RTDOSE"


def _columns(dataset: Attributes, count: int) -> dict[str, Sequence[Facet]]:
    """The facets that differ between frames, a value for each frame."""
    pointers = pointed_at(dataset, "FrameIncrementPointer")
    found: dict[str, Sequence[Facet]] = {}
    for keyword in pointers:
        if keyword not in (_FRAME_TIME, _FRAME_TIME_VECTOR):
            values: Sequence[Facet] = dataset.numbers(keyword) or dataset.texts(keyword)
            if len(values) == count:
                found[f"dim_{keyword}"] = values
    times = _frame_times(dataset, pointers, count)
    if times:
        found["frame_time"] = times
    angles = _angles(dataset, count)
    if angles:
        found["angle"] = angles
    return found


def _frame_times(dataset: Attributes, pointers: Sequence[str], count: int) -> Sequence[float]:
    """When each frame begins, in ms since the first (C.7.6.5); none when the object does not say.

    What FrameIncrementPointer names, else whichever is there: FrameTimeVector, FrameTime, CineRate.
    RecommendedDisplayFrameRate is not used: it is no time of the acquisition.
    """
    steps = dataset.numbers(_FRAME_TIME_VECTOR)
    step = dataset.number(_FRAME_TIME)
    if _FRAME_TIME in pointers and step is not None:
        steps = ()
    if len(steps) == count and min(steps) >= 0:
        return list(accumulate((0.0, *steps[1:])))  # the first increment is 0, but some write it otherwise
    if steps and _FRAME_TIME_VECTOR in pointers:
        return ()
    if step is None:
        rate = dataset.number("CineRate")
        step = 1000 / rate if rate else None
    return [index * step for index in range(count)] if step is not None and step > 0 else ()


def _angles(dataset: Attributes, count: int) -> Sequence[float]:
    """Primary positioner angle of each frame, in degrees (C.8.7.5.1.3).

    One increment is the change from frame to frame; several are offsets from the angle at the start.
    """
    start = dataset.number("PositionerPrimaryAngle") or 0.0
    steps = dataset.numbers("PositionerPrimaryAngleIncrement")
    if len(steps) == count:
        return [start + offset for offset in steps]
    return [start + index * steps[0] for index in range(count)] if len(steps) == 1 else ()


def ultrasound_spacing(dataset: Attributes) -> tuple[float, float] | None:
    """Distance between rows and between columns of an ultrasound image, in mm; None when not defined.

    It is when every region of the image that has a spatial format is two-dimensional, measured in cm,
    and of one scale (PS3.3 C.8.5.5). An image with a spectrum beside the picture has no one spacing.
    """
    regions = readable_items(dataset, "SequenceOfUltrasoundRegions")
    measured = [region for region in regions if region.number("RegionSpatialFormat") != _NO_FORMAT]
    found = {_region_spacing(region) for region in measured}
    return found.pop() if len(found) == 1 else None


def _region_spacing(region: Attributes) -> tuple[float, float] | None:
    units = (region.number("PhysicalUnitsXDirection"), region.number("PhysicalUnitsYDirection"))
    across, down = region.number("PhysicalDeltaX"), region.number("PhysicalDeltaY")
    if region.number("RegionSpatialFormat") != _2D or any(unit != _CENTIMETRE for unit in units):
        return None
    return (10 * abs(down), 10 * abs(across)) if across and down else None
