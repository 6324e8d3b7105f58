"""Several images at each place: echo, time, phase and whatever else makes the further axes of a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dicomlake.datasets._headers import Elements
from dicomlake.datasets._truth import clock
from dicomlake.datasets.edge_cases.building import Axis, Made, case, stack
from dicomlake.datasets.edge_cases.grids import OBLIQUE, Grid, upright
from dicomlake.datasets.edge_cases.objects import CT, MR, PET, numbers
from dicomlake.datasets.edge_cases.records import Coordinate, EdgeCase

_NO_TIME: Elements = {
    "AcquisitionTime": None,
    "ContentTime": None,
    "AcquisitionDate": None,
    "ContentDate": None,
}


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield from _one_number()
    yield from _times()
    yield from _two_axes()
    yield _magnitude_and_phase()
    yield _cardiac()
    yield _phases()
    yield _cut_short()
    yield _hole()
    yield from _untold()


def _mr(name: str, grid: Grid, *axes: Axis, **others: Any) -> Made:
    return stack(name, grid, axes=axes, sop_class=MR, modality="MR", **others)


def _one_number() -> Iterator[EdgeCase]:
    grid = upright(OBLIQUE, slices=5)
    echo = Axis.of("echo", "EchoTime", (4.6, 9.2, 110.0), "ms")
    yield case("echoes", "Three echoes, as numbers: 110 comes after 9.2.", _mr("echoes", grid, echo))
    inversion = Axis.of("inversion", "InversionTime", (50.0, 400.0, 1100.0, 2500.0), "ms")
    yield case("inversion-times", "Four inversion times.", _mr("inversion-times", grid, inversion))
    flip = Axis.of("flip", "FlipAngle", (3.0, 10.0, 20.0), "deg")
    yield case("flip-angles", "Three flip angles.", _mr("flip-angles", grid, flip))
    kvp = Axis.of("kvp", "KVP", (80.0, 140.0), "kV")
    at_once = stack(
        "dual-energy",
        grid,
        axes=(kvp,),
        each=lambda place: {"AcquisitionTime": clock(36_000 + place[-1]), "ContentTime": clock(36_000)},
    )
    yield case("dual-energy", "Two tube voltages at the same places, taken at once.", at_once)
    number = Axis(
        "acquisition", ({"AcquisitionNumber": 3}, {"AcquisitionNumber": 12}), (_plain("acquisition", 3, 12),)
    )
    yield case(
        "repeated-acquisition",
        "The same range twice, without times: the acquisition is an axis.",
        stack("repeated-acquisition", grid, axes=(number,), elements=_NO_TIME),
    )


def _plain(name: str, *values: float) -> Coordinate:
    return Coordinate(name, (name,), values)


def _times() -> Iterator[EdgeCase]:
    grid = upright(slices=4)
    temporal = Axis.of("time", "TemporalPositionIdentifier", (1.0, 2.0, 3.0, 10.0))
    yield case(
        "temporal-positions",
        "Time by TemporalPositionIdentifier, as numbers: 10 comes after 3.",
        _mr("temporal-positions", grid, temporal),
    )
    yield case(
        "acquisition-times",
        "Time by AcquisitionTime alone, the same for all planes.",
        _mr("acquisition-times", grid, _clocked([36_000, 36_002.5, 36_005]), elements={"ContentTime": None}),
    )
    yield case(
        "slice-times",
        "Each plane of each time has an AcquisitionTime of its own: ranked within its place.",
        _slice_times(grid),
    )
    yield case(
        "over-midnight",
        "Time runs over midnight: the date counts.",
        _mr("over-midnight", grid, _midnight(), elements={"ContentTime": None, "ContentDate": None}),
    )
    frame_times = (0.0, 60_000.0, 180_000.0)
    reference = Axis(
        "time",
        tuple({"FrameReferenceTime": numbers([value])[0]} for value in frame_times),
        (Coordinate("time", ("time",), frame_times, "ms", from_first=True),),
    )
    slopes = tuple(tuple(0.25 + t + k / 8 for k in range(4)) for t in range(3))
    dynamic = stack(
        "dynamic-pet",
        grid,
        axes=(reference,),
        sop_class=PET,
        modality="PT",
        each=lambda place: {"RescaleSlope": numbers([slopes[place[0]][place[1]]])[0]},
    )
    slope = Coordinate("rescale_slope", ("time", "z"), slopes)
    coordinates = (*dynamic.volume.coordinates, slope)
    yield case(
        "dynamic-pet",
        "PET frames by FrameReferenceTime, with a slope for each plane of each.",
        dynamic.with_volume(coordinates=coordinates, facts={"units": "BQML"}),
    )


def _clocked(seconds: Sequence[float]) -> Axis:
    says = tuple({"AcquisitionTime": f"{clock(int(s))[:6]}.{round(s % 1 * 1000):03d}"} for s in seconds)
    relative = tuple(s - seconds[0] for s in seconds)
    return Axis("time", says, (Coordinate("time", ("time",), relative, "s", from_first=True),))


def _midnight() -> Axis:
    axis = _clocked([86_396, 86_398, 0, 2])
    says = tuple(
        said | {"AcquisitionDate": date}
        for said, date in zip(axis.says, ("20240229", "20240229", "20240301", "20240301"), strict=True)
    )
    passed = Coordinate("time", ("time",), (0.0, 2.0, 4.0, 6.0), "s", from_first=True)
    return Axis("time", says, (passed,))


def _slice_times(grid: Grid) -> Made:
    """Two seconds a volume, planes in the order 0, 2, 1, 3."""
    order = (0, 2, 1, 3)
    seconds = tuple(tuple(2.0 * t + 0.5 * order[k] for k in range(4)) for t in range(3))
    axis = Axis("time", ({}, {}, {}))

    def said(place: tuple[int, ...]) -> Elements:
        return _clocked([36_000 + seconds[place[0]][place[1]]]).says[0]

    made = _mr("slice-times", grid, axis, each=said, elements={"ContentTime": None})
    jitter = Coordinate("acquisition_time", ("time", "z"), seconds, "s", from_first=True)
    return made.with_volume(coordinates=(jitter,))


def _two_axes() -> Iterator[EdgeCase]:
    grid = upright(slices=4)
    echo = Axis.of("echo", "EchoTime", (12.5, 30.0), "ms")
    temporal = Axis.of("time", "TemporalPositionIdentifier", (1.0, 2.0, 3.0))
    yield case(
        "echo-by-time", "Two echoes at three times: two axes.", _mr("echo-by-time", grid, echo, temporal)
    )
    flip = Axis.of("flip", "FlipAngle", (5.0, 15.0), "deg")
    yield case("echo-by-flip", "Two echoes at two flip angles.", _mr("echo-by-flip", grid, echo, flip))


def _magnitude_and_phase() -> EdgeCase:
    axis = Axis(
        "component",
        tuple({"ImageType": ["ORIGINAL", "PRIMARY", term, "ND"]} for term in ("M", "P")),
        (Coordinate("component", ("component",), ("magnitude", "phase")),),
    )
    made = _mr("magnitude-and-phase", upright(slices=5), axis)
    return case("magnitude-and-phase", "Magnitude and phase images in one series, told by ImageType.", made)


def _cardiac() -> EdgeCase:
    """Six phases of nominally 100 ms; each plane was triggered by beats of another length."""
    jitter = (0.0, 7.5, -12.5, 22.5, 2.5)
    times = tuple(tuple(40.0 + 100.0 * p + jitter[k] * (p + 1) / 2 for k in range(5)) for p in range(6))
    made = _mr(
        "cardiac",
        upright(OBLIQUE, slices=5, step_mm=8.0),
        Axis("phase", ({},) * 6),
        each=lambda place: {"TriggerTime": numbers([times[place[0]][place[1]]])[0], "NominalInterval": 900},
    )
    trigger = Coordinate("trigger_time", ("phase", "z"), times, "ms")
    return case(
        "cardiac",
        "Trigger times differ from plane to plane: phases by rank, their times for each plane.",
        made.with_volume(coordinates=(trigger,)),
    )


def _phases() -> EdgeCase:
    """Cine MR whose beats were alike: one trigger time for each phase."""
    axis = Axis("phase", tuple({"TriggerTime": number} for number in ("5", "45", "125", "1005")))
    made = _mr("cine-phases", upright(OBLIQUE, slices=3, step_mm=8.0), axis)
    return case("cine-phases", "Trigger times that are the same for all planes, as numbers.", made)


def _hole() -> EdgeCase:
    """Three times of seven planes, of which one of the second time is lost."""
    name, grid, lost = "hole-in-time", upright(slices=7), 3
    whole = _mr(name, grid, Axis.of("time", "TemporalPositionIdentifier", (1.0, 3.0)))
    left = [k for k in range(grid.slices) if k != lost]
    rest = _mr(
        name,
        replace(grid, slices=len(left)),
        part="rest",
        first=whole.volume.end,
        numbered_from=30,
        elements={"TemporalPositionIdentifier": 2},
        each=lambda place: {"ImagePositionPatient": numbers(grid.position(left[place[0]]))},
    ).with_volume(
        verdict="missing_slices",
        affine_lps=None,
        positions_lps=tuple(grid.position(k) for k in left),
        facts={"gaps": [(grid.position(lost)[2], 1)]},
    )
    story = "One plane of the second time is lost: two whole times, and the planes of the second."
    return case(name, story, whole, rest)


def _cut_short() -> EdgeCase:
    """Five times of ten planes, of which the last four images were never made."""
    name, grid, whole = "cut-short", upright(slices=10), 4
    temporal = [float(t + 1) for t in range(whole)]
    complete = _mr(name, grid, Axis.of("time", "TemporalPositionIdentifier", temporal))
    rest = _mr(
        name,
        replace(grid, slices=6),
        part="rest",
        first=complete.volume.end,
        numbered_from=41,
        elements={"TemporalPositionIdentifier": whole + 1},
    )
    return case(
        name,
        "A series of five times that ends after 46 of 50 images: four times, and six planes.",
        complete,
        rest,
    )


def _untold() -> Iterator[EdgeCase]:
    made = stack(
        "untold-repeats",
        upright(slices=5),
        axes=(Axis("repeat", ({}, {}, {})),),
        sop_class=CT,
        elements=_NO_TIME,
    )
    yield case(
        "untold-repeats",
        "Three images at each place and nothing but InstanceNumber to tell them apart.",
        made,
    )
