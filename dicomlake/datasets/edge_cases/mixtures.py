"""Series that hold more than one stack: patients, studies, acquisitions, matrices, directions mixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dicomlake.datasets._truth import uid
from dicomlake.datasets.edge_cases import objects
from dicomlake.datasets.edge_cases.building import case, stack
from dicomlake.datasets.edge_cases.grids import AXIAL, CORONAL, SAGITTAL, Grid, upright
from dicomlake.datasets.edge_cases.objects import MR, Object
from dicomlake.datasets.edge_cases.records import EdgeCase

_PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
_BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield from _acquisitions()
    yield from _localizers()
    yield from _matrices()
    yield from _identities()
    yield _side_by_side()
    yield _with_other_objects()


def _acquisitions() -> Iterator[EdgeCase]:
    grid = upright(slices=10)
    for name, offset, story in (
        (
            "interleaved-acquisitions",
            0.5,
            "Two acquisitions whose planes lie between each other's: two volumes.",
        ),
        ("overlapping-acquisitions", 7, "Two acquisitions that share three places: two volumes."),
    ):
        first = stack(name, grid, part="1")
        second = stack(
            name,
            grid.starting_at(offset, slices=10),
            part="2",
            first=first.volume.end,
            numbered_from=11,
            elements={"AcquisitionNumber": 2},
        )
        yield case(name, story, first, second)


def _localizers() -> Iterator[EdgeCase]:
    parts, first = [], 0
    for i, directions in enumerate((AXIAL, SAGITTAL, CORONAL)):
        part = stack(
            "localizer",
            upright(directions, slices=3, step_mm=10.0),
            part=str(i),
            first=first,
            numbered_from=1 + 3 * i,
            sop_class=MR,
            modality="MR",
            elements={"ImageType": ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"]},
        )
        parts.append(part)
        first = part.volume.end
    yield case("localizer", "Three planes of three directions: three volumes.", *parts)
    axial = stack("scout", upright(slices=10), numbered_from=2)
    scout = stack(
        "scout",
        upright(CORONAL, slices=1, origin=(-11.5, 3.0, 40.0)),
        part="scout",
        first=axial.volume.end,
        elements={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    yield case("scout", "A scout of the same matrix among the axial planes is kept apart.", axial, scout)


def _matrices() -> Iterator[EdgeCase]:
    grid = upright(slices=6)
    wide = replace(grid.starting_at(6, slices=4), rows=8, columns=6)
    yield _two("mixed-matrix", "Images of two matrix sizes: two volumes.", grid, wide)
    fine = replace(grid.starting_at(6, slices=4), spacing=(0.75, 0.52))
    yield _two("mixed-spacing", "Two pixel spacings in one series: two volumes.", grid, fine)


def _two(name: str, story: str, one: Grid, other: Grid, **elements: str) -> EdgeCase:
    """Two stacks of one series; `elements` are what the second one says otherwise."""
    first = stack(name, one)
    second = stack(
        name,
        other,
        part="other",
        first=first.volume.end,
        numbered_from=1 + len(first.objects),
        elements=elements,
    )
    return case(name, story, first, second)


def _identities() -> Iterator[EdgeCase]:
    grid = upright(slices=5)
    patients = _two(
        "two-patients",
        "One SeriesInstanceUID over two patients: two volumes and a finding.",
        grid,
        grid.starting_at(5, slices=5),
        PatientID="edge-somebody-else",
    )
    yield replace(patients, findings=frozenset({"mixed_patients"}))
    yield _two(
        "two-studies",
        "One SeriesInstanceUID in two studies: two series.",
        grid,
        grid.starting_at(5, slices=5),
        StudyInstanceUID=uid("edge", "two-studies", "other study"),
    )
    yield _two(
        "two-frames-of-reference",
        "Planes that continue each other in two frames of reference do not: two volumes.",
        grid,
        grid.starting_at(5, slices=5),
        FrameOfReferenceUID=uid("edge", "two-frames-of-reference", "other frame of reference"),
    )


def _side_by_side() -> EdgeCase:
    grid = upright(slices=5)
    x, y, z = grid.origin
    moved = replace(grid, origin=(x + 40.0, y + 3.0, z))
    return _two("side-by-side", "Planes beside each other at one height: two volumes.", grid, moved)


def _with_other_objects() -> EdgeCase:
    name = "with-other-objects"
    made = stack(name, upright(slices=6))
    others = tuple(
        Object(
            {
                **objects.series(name, modality),
                **objects.instance(sop_class, uid("edge", name, modality), 50 + i),
            }
        )
        for i, (modality, sop_class) in enumerate((("PR", _PRESENTATION_STATE), ("SR", _BASIC_TEXT_SR)))
    )
    return case(
        name,
        "A presentation state and a report under the same series are no slices.",
        made,
        more=others,
        no_images=tuple(one.uid for one in others),
    )
