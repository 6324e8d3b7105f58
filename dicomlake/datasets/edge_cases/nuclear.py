"""Nuclear medicine and dose: frames told apart by vectors, planes placed by a step or by offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicomlake.datasets._headers import Elements
from dicomlake.datasets.edge_cases.building import Axis, case
from dicomlake.datasets.edge_cases.grids import CORONAL, Grid, upright
from dicomlake.datasets.edge_cases.multiframe import one_object, truth, without_space
from dicomlake.datasets.edge_cases.objects import number, numbers
from dicomlake.datasets.edge_cases.records import EdgeCase

_NM = "1.2.840.10008.5.1.4.1.1.20"
_RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_DETECTOR, _RR_INTERVAL, _TIME_SLOT, _SLICE = 0x00540020, 0x00540060, 0x00540070, 0x00540080
_ENERGY_WINDOW = 0x00540010
_GRID_FRAME_OFFSET = 0x3004000C


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield from _tomography()
    yield _gated_tomography()
    yield _gated_planar()
    yield from _doses()


def _tomography() -> Iterator[EdgeCase]:
    """SpacingBetweenSlices has a sign here: negative steps run against the normal (PS3.3 C.8.4.15)."""
    for name, falling, directions in (
        ("nm-tomography", False, None),
        ("nm-tomography-negative", True, None),
        ("nm-tomography-coronal-negative", True, CORONAL),
    ):
        grid = upright(directions, step_mm=4.0, slices=6) if directions else upright(step_mm=4.0, slices=6)
        order = list(range(grid.slices))[:: -1 if falling else 1]
        said = {
            "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
            "FrameIncrementPointer": [_SLICE],
            "SliceVector": list(range(1, grid.slices + 1)),
            **_reconstructed(grid, falling=falling),
        }
        made = one_object(name, truth(name, grid, order), order, sop_class=_NM, modality="NM", elements=said)
        way = "against" if falling else "along"
        yield case(name, f"NM slices stacked by SpacingBetweenSlices, {way} the normal.", made)


def _reconstructed(grid: Grid, *, falling: bool) -> Elements:
    first = grid.position(grid.slices - 1 if falling else 0)
    length = sum(s * s for s in grid.step) ** 0.5
    return {
        "PixelSpacing": numbers(grid.spacing),
        "SliceThickness": "4",
        "SpacingBetweenSlices": number(-length if falling else length),
        "NumberOfSlices": grid.slices,
        "DetectorInformationSequence": [
            {
                "ImagePositionPatient": numbers(first),
                "ImageOrientationPatient": numbers(grid.orientation),
            }
        ],
    }


def _gated_tomography() -> EdgeCase:
    name, grid = "nm-gated-tomography", upright(step_mm=4.0, slices=5)
    slots = Axis("time_slot", ({},) * 3)
    order = [slot * 5 + k for k in range(5) for slot in range(3)]  # slots run fastest in the object
    said = {
        "ImageType": ["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"],
        "FrameIncrementPointer": [_RR_INTERVAL, _TIME_SLOT, _SLICE],
        "RRIntervalVector": [1] * 15,
        "TimeSlotVector": [plane // 5 + 1 for plane in order],
        "SliceVector": [plane % 5 + 1 for plane in order],
        **_reconstructed(grid, falling=False),
    }
    made = one_object(
        name, truth(name, grid, order, axes=(slots,)), order, sop_class=_NM, modality="NM", elements=said
    )
    return case(name, "Gated NM slices: the vectors say which frame is which slot and slice.", made)


def _gated_planar() -> EdgeCase:
    name, detectors, slots = "nm-gated-planar", 2, 4
    order = [d * slots + s for s in range(slots) for d in range(detectors)]
    grid = upright(slices=len(order))
    volume = without_space(
        truth(name, grid, order), ("detector", "time_slot", "y", "x"), (detectors, slots, 6, 8)
    )
    said = {
        "ImageType": ["ORIGINAL", "PRIMARY", "GATED", "EMISSION"],
        "FrameIncrementPointer": [_ENERGY_WINDOW, _DETECTOR, _RR_INTERVAL, _TIME_SLOT],
        "EnergyWindowVector": [1] * len(order),
        "DetectorVector": [plane // slots + 1 for plane in order],
        "RRIntervalVector": [1] * len(order),
        "TimeSlotVector": [plane % slots + 1 for plane in order],
        "PixelSpacing": numbers(grid.spacing),
        "NumberOfDetectors": detectors,
        "FrameOfReferenceUID": None,
    }
    made = one_object(name, volume, order, sop_class=_NM, modality="NM", elements=said)
    return case(name, "Gated planar NM of two detectors: no slices, two axes by their vectors.", made)


def _doses() -> Iterator[EdgeCase]:
    """GridFrameOffsetVector (PS3.3 C.8.8.3.2): relative when it starts at 0, else patient z itself."""
    grid = upright(step_mm=2.5, slices=6)
    rising = list(range(6))
    for name, order, absolute, story in (
        ("dose-relative", rising, False, "Dose planes at offsets from the position stated."),
        ("dose-absolute", rising, True, "Dose planes at offsets that are patient z."),
        ("dose-descending", rising[::-1], False, "Dose planes that go down, by negative offsets."),
        ("dose-absolute-descending", rising[::-1], True, "Dose planes that go down, by patient z."),
    ):
        heights = [grid.position(plane)[2] for plane in order]
        offsets = [height if absolute else height - heights[0] for height in heights]
        made = one_object(
            name,
            truth(name, grid, order),
            order,
            sop_class=_RT_DOSE,
            modality="RTDOSE",
            elements=_dose(grid, order[0], offsets),
        )
        yield case(name, story, made)
    yield _coronal_dose()


def _dose(grid: Grid, first: int, offsets: Sequence[float]) -> Elements:
    return {
        "ImagePositionPatient": numbers(grid.position(first)),
        "ImageOrientationPatient": numbers(grid.orientation),
        "PixelSpacing": numbers(grid.spacing),
        "FrameIncrementPointer": [_GRID_FRAME_OFFSET],
        "GridFrameOffsetVector": numbers(offsets),
        "DoseUnits": "GY",
        "DoseType": "PHYSICAL",
        "DoseSummationType": "PLAN",
        "DoseGridScaling": "0.001",
    }


def _coronal_dose() -> EdgeCase:
    """Relative offsets lie along the normal, whichever way the planes are turned."""
    name, order = "dose-coronal", list(range(5))
    grid = upright(CORONAL, step_mm=2.5)
    made = one_object(
        name,
        truth(name, grid, order),
        order,
        sop_class=_RT_DOSE,
        modality="RTDOSE",
        elements=_dose(grid, 0, [2.5 * k for k in order]),
    )
    return case(name, "Coronal dose planes at offsets along their normal.", made)
