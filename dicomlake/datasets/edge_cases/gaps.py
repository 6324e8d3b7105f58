"""Stacks that are not whole: planes missing, unevenly spaced, twice there, or each turned another way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dicomlake.datasets._headers import Elements
from dicomlake.datasets._truth import uid
from dicomlake.datasets.edge_cases.building import Made, case, stack, with_elements
from dicomlake.datasets.edge_cases.grids import Grid, upright
from dicomlake.datasets.edge_cases.objects import MR, numbers
from dicomlake.datasets.edge_cases.records import EdgeCase, Vector

_COPY_NUMBER = 90  # InstanceNumber of an added object: higher than any other


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield case(
        "one-missing",
        "One plane of ten is missing: nine planes, and where the gap is.",
        _at("one-missing", upright(slices=10), [0, 1, 2, 3, 5, 6, 7, 8, 9], gaps=[(4, 1)]),
    )
    yield case(
        "several-missing",
        "Three planes are missing in two places.",
        _at(
            "several-missing",
            upright(slices=14),
            [0, 1, 4, 5, 6, 7, 8, 10, 11, 12, 13],
            gaps=[(2, 2), (9, 1)],
        ),
    )
    yield case(
        "irregular",
        "Planes at no constant step: each keeps its position.",
        _at("irregular", upright(slices=6, step_mm=1.0), [0, 1, 3.3, 4, 7.1, 8]),
    )
    yield _identical()
    yield _conflicting()
    yield _radial()


def _at(name: str, grid: Grid, heights: Sequence[float], gaps: Sequence[tuple[int, int]] = ()) -> Made:
    """Planes at these multiples of the step; gaps: the first that is missing and how many."""
    made = stack(
        name,
        replace(grid, slices=len(heights)),
        each=lambda place: {"ImagePositionPatient": numbers(grid.position(heights[place[0]]))},
    )
    facts: dict[str, Any] = {}
    if gaps:  # the planes are axial: the height along the normal is the third coordinate
        facts["gaps"] = [(grid.position(first)[2], missing) for first, missing in gaps]
    return made.with_volume(
        verdict="missing_slices" if gaps else "irregular",
        affine_lps=None,
        positions_lps=tuple(grid.position(height) for height in heights),
        facts=facts,
    )


def _identical() -> EdgeCase:
    made = stack("identical-duplicate", upright(slices=10))
    copy = with_elements(
        made.objects[4],
        SOPInstanceUID=uid("edge", "identical-duplicate", "copy"),
        InstanceNumber=_COPY_NUMBER,
    )
    return case(
        "identical-duplicate",
        "An image was sent again under another SOPInstanceUID: one is kept, the other recorded.",
        made.with_volume(facts={"duplicates": [copy.uid]}),
        more=[copy],
        duplicates=(copy.uid,),
    )


def _conflicting() -> EdgeCase:
    name = "conflicting-duplicate"
    made = stack(name, upright(slices=10))
    other = stack(
        name,
        upright(slices=10).starting_at(4, slices=1),
        part="other",
        first=made.volume.end,
        numbered_from=_COPY_NUMBER,
    )
    return case(
        name,
        "Another image lies where one is already: the first ones are the volume, it is kept apart.",
        made,
        other,
    )


def _radial() -> EdgeCase:
    """Planes through one axis, as in cardiac MR: turned by angles whose sines are decimals."""
    name = "radial"
    turned = ((1.0, 0.0), (0.96, 0.28), (0.8, 0.6), (0.6, 0.8), (0.28, 0.96), (0.0, 1.0), (-0.6, 0.8))
    centre: Vector = (4.0, -6.0, 12.0)
    grid = upright(slices=len(turned))
    half = (grid.rows - 1) / 2 * grid.spacing[0], (grid.columns - 1) / 2 * grid.spacing[1]
    orientations = tuple((c, s, 0.0, 0.0, 0.0, -1.0) for c, s in turned)
    positions: tuple[Vector, ...] = tuple(
        (centre[0] - half[1] * c, centre[1] - half[1] * s, centre[2] + half[0]) for c, s in turned
    )

    def place(index: tuple[int, ...]) -> Elements:
        return {
            "ImagePositionPatient": numbers(positions[index[0]]),
            "ImageOrientationPatient": numbers(orientations[index[0]]),
        }

    made = stack(name, grid, sop_class=MR, modality="MR", each=place)
    return case(
        name,
        "Planes that turn about an axis are a set, by InstanceNumber, and no box.",
        made.with_volume(
            dims=("frame", "y", "x"),
            verdict="plane_set",
            affine_lps=None,
            positions_lps=positions,
            orientations=orientations,
        ),
    )
