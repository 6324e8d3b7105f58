"""A grid, further axes and what tells their frames apart: made into objects and the truth about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from dicomlake.datasets._headers import Elements
from dicomlake.datasets._truth import uid
from dicomlake.datasets.edge_cases import objects
from dicomlake.datasets.edge_cases.grids import Grid
from dicomlake.datasets.edge_cases.objects import Object, Private
from dicomlake.datasets.edge_cases.records import Coordinate, EdgeCase, Pixels, VolumeTruth

Index = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """A further axis: what the objects say at each of its places, and the coordinates it must get."""

    name: str
    says: tuple[Elements, ...]
    coordinates: tuple[Coordinate, ...] = ()
    private: tuple[tuple[Private, ...], ...] = ()

    @classmethod
    def of(cls, name: str, keyword: str, values: Sequence[float], units: str | None = None) -> Axis:
        """An axis that is one number in one element."""
        says = tuple({keyword: objects.number(value)} for value in values)
        return cls(name, says, (Coordinate(name, (name,), tuple(values), units),))


@dataclass(frozen=True)
class Made:
    """A volume and its objects, one for each plane, in C order."""

    volume: VolumeTruth
    objects: tuple[Object, ...]

    def with_volume(self, **changes: Any) -> Made:
        """The same objects with another truth."""
        return replace(self, volume=replace(self.volume, **changes))


def volume_of(
    grid: Grid, axes: Sequence[Axis], sources: Sequence[tuple[str, int]], *, first: int, pixels: Pixels
) -> VolumeTruth:
    """The truth about a full product of axes and planes."""
    leading = (*(len(axis.says) for axis in axes), grid.slices)
    colour = pixels == "rgb"
    return VolumeTruth(
        dims=(*(axis.name for axis in axes), "z", "y", "x", *(("rgb",) if colour else ())),
        shape=(*leading, grid.rows, grid.columns, *((3,) if colour else ())),
        sources=tuple(sources),
        first=first,
        pixels=pixels,
        affine_lps=grid.affine_lps,
        positions_lps=tuple(grid.position(k) for k in range(grid.slices)),
        coordinates=tuple(found for axis in axes for found in axis.coordinates),
    )


def stack(
    case: str,
    grid: Grid,
    *,
    part: str = "",
    axes: Sequence[Axis] = (),
    sop_class: str = objects.CT,
    modality: str = "CT",
    first: int = 0,
    numbered_from: int = 1,
    pixels: Pixels = "grey16",
    elements: Mapping[str, Any] | None = None,
    each: Callable[[Index], Mapping[str, Any]] = lambda _index: {},
) -> Made:
    """A volume of plain images, one object for each plane.

    part: keeps the UIDs of several stacks of a case apart.
    numbered_from: InstanceNumber of the first plane; the others follow in C order.
    elements, each: what all objects say, what the one at an index (…, z) says; None leaves an element out.
    """
    places = list(product(*(range(len(axis.says)) for axis in axes), range(grid.slices)))
    sources = [(uid("edge", case, part, *place), 0) for place in places]
    volume = volume_of(grid, axes, sources, first=first, pixels=pixels)
    made: list[Object] = []
    for i, place in enumerate(places):
        said: dict[str, Any] = {
            **objects.series(case, modality),
            **objects.instance(sop_class, sources[i][0], numbered_from + i),
            **objects.kind(sop_class),
            **objects.plane(grid.position(place[-1]), grid.orientation, grid.spacing),
            **objects.pixels(volume.plane(i)),
            **(elements or {}),
        }
        private: list[Private] = []
        for axis, index in zip(axes, place, strict=False):
            said |= axis.says[index]
            private.extend(axis.private[index] if axis.private else ())
        said |= each(place)
        made.append(Object({k: v for k, v in said.items() if v is not None}, tuple(private)))
    return Made(volume, tuple(made))


def case(name: str, story: str, *parts: Made, more: Sequence[Object] = (), **facts: Any) -> EdgeCase:
    """The case of these parts; `more` are objects that make no volume of their own."""
    written = [one for part in parts for one in part.objects] + list(more)
    return EdgeCase(
        name=name,
        story=story,
        volumes=tuple(part.volume for part in parts),
        writers=tuple(one.to_bytes for one in written),
        **facts,
    )


def with_elements(one: Object, **changes: Any) -> Object:
    """The object with other elements; None leaves one out."""
    said = one.elements | changes
    return replace(one, elements={k: v for k, v in said.items() if v is not None})
