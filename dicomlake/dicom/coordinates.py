"""What the frames of a stack say along its axes: named coordinates with the standard's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from dicomlake.dicom.facet_table import CLOCKS, DIMENSIONS, OTHER, Codes, is_broken_clock, ranks_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.products import REPEAT, Axis
from dicomlake.dicom.stacking import Stack

_UNITS = {
    "echo": "ms",
    "b": "s/mm2",
    "inversion": "ms",
    "flip": "deg",
    "trigger": "ms",
    "frame_reference_time": "ms",
    "acquisition_time": "s",
    "content_time": "s",
    "dynamic_time": "ms",
    "reference_time": "s",
    "slice_time": "ms",
    "frame_time": "ms",
    "angle": "deg",
    "kvp": "kV",
    "energy": "keV",
}
_TEXTS = frozenset({"component", "image_type", "kernel", "quantity", "optical_path", "dim_asl_context"})
_DIRECTIONS = ("gradient", "gradient_stated", "dim_velocity_encoding")
_NAMES = {"temporal": "temporal_position", "trigger": "trigger_time", "acquisition": "acquisition_number"}


@dataclass(frozen=True, slots=True)
class Coordinate:
    """Values along some axes of a stack.

    dims: names of the axes; values: nested lists over them, numbers or text, None where a frame says
    nothing. units: as UCUM or the standard write them, None for names and counts.
    """

    dims: tuple[str, ...]
    values: Any
    units: str | None = None


def lead_dims(stack: Stack) -> tuple[tuple[str, int], ...]:
    """Name and length of the axes before y: the extra ones, then z (frame without an order in space)."""
    extra = tuple((axis.name, axis.size) for axis in stack.axes)
    if stack.axes and stack.positions is None:
        return extra
    return (*extra, ("frame" if stack.heights is None else "z", stack.places))


def coordinates(stack: Stack) -> dict[str, Coordinate]:
    """By name: of each extra axis, and of whatever else differs along them.

    An axis whose values were compared by rank has no coordinate of its own name; the values stand beside
    it over all axes they depend on. Clocks count from the first frame of the stack; ContentTime is left
    out where AcquisitionTime is known, unless it proves an axis.
    """
    dims = lead_dims(stack)
    found: dict[str, Coordinate] = {}
    proven = {axis.facet: axis for axis in stack.axes}
    for facet in _worth_telling(stack.frames, proven):
        values = _values(stack.frames, facet)
        axis = proven.get(facet)
        if all(value is None for value in values) or (axis is None and len(set(values)) == 1):
            continue
        if axis is not None and not axis.ranked and _is_of(axis, facet):
            found[axis.name] = _along(dims, (axis.name,), values, _units(facet))
        else:
            along = _depends_on(dims, ranks_of(values, facet))
            found[_free_name(facet, dims, along)] = _along(dims, along, values, _units(facet))
    for facet in _DIRECTIONS:
        found |= _directions(stack.frames, facet, dims)
    when = found.get("acquisition_time")
    for axis in stack.axes:
        if axis.facet == "acquisition" and axis.name == "time" and when and when.dims == ("time",):
            found["time"] = when
        if axis.name not in found and axis.facet == REPEAT:
            found[axis.name] = Coordinate((axis.name,), list(range(axis.size)))
    return found


def _worth_telling(frames: Sequence[Frame], proven: Mapping[str, Axis]) -> list[str]:
    """The facets that become coordinates, but for directions."""
    present = dict.fromkeys(name for frame in frames for name in frame.facets)
    told = [n for n in present if n in _UNITS or n in _NAMES or n in _TEXTS or n in proven]
    if all("acquisition_time" in frame.facets for frame in frames) and "content_time" not in proven:
        told = [name for name in told if name != "content_time"]
    return [name for name in told if name not in _DIRECTIONS]


def _is_of(axis: Axis, facet: str) -> bool:
    """Whether an axis is named for the values that prove it, not for what they stand for."""
    return axis.name == DIMENSIONS.get(facet, axis.name) or axis.name == facet


def over_axes(stack: Stack, values: Sequence[Any], units: str | None = None) -> Coordinate:
    """One value for each frame of a stack, along the fewest axes that they depend on."""
    dims = lead_dims(stack)
    numbers: dict[Any, int] = {}
    codes = np.array([numbers.setdefault(value, len(numbers)) for value in values])
    return _along(dims, _depends_on(dims, codes), values, units)


def _units(facet: str) -> str | None:
    return _UNITS.get(facet)


def _free_name(facet: str, dims: Sequence[tuple[str, int]], along: tuple[str, ...]) -> str:
    """A coordinate may bear the name of an axis only when it lies along that axis alone (xarray)."""
    name = _NAMES.get(facet, facet.removeprefix(OTHER))
    taken = name in dict(dims) and along != (name,)
    return f"{name}_value" if taken else name


def _values(frames: Sequence[Frame], facet: str) -> list[Any]:
    """What the frames state; clocks from the first of them, nothing where their order is not known."""
    values = [frame.facets.get(facet) for frame in frames]
    if facet not in CLOCKS:
        return values
    if is_broken_clock(values):
        return [None] * len(values)
    first = min((value for value in values if isinstance(value, int | float)), default=0.0)
    return [round(v - first, 6) if isinstance(v, int | float) else None for v in values]


def _depends_on(dims: Sequence[tuple[str, int]], codes: Codes) -> tuple[str, ...]:
    """The fewest axes that values are a function of; codes: a number for each value, frame by frame."""
    block = codes.reshape([size for _, size in dims])
    for count in range(1, len(dims)):
        for chosen in combinations(range(len(dims)), count):
            first = block[tuple(slice(None) if i in chosen else slice(0, 1) for i in range(len(dims)))]
            if (block == first).all():
                return tuple(dims[i][0] for i in chosen)
    return tuple(name for name, _ in dims)


def _along(
    dims: Sequence[tuple[str, int]], along: tuple[str, ...], values: Sequence[Any], units: str | None
) -> Coordinate:
    cells = np.empty(len(values), dtype=object)
    cells[:] = list(values)
    block = cells.reshape([size for _, size in dims])
    index = tuple(slice(None) if name in along else 0 for name, _ in dims)
    return Coordinate(along, block[index].tolist(), units)


def _directions(
    frames: Sequence[Frame], facet: str, dims: Sequence[tuple[str, int]]
) -> dict[str, Coordinate]:
    """Directions that the frames state, unit vectors in LPS; None where there is none (b = 0).

    By component, as an array cannot carry a coordinate with a dimension it lacks; diffusion gradients as
    one table, too.
    """
    values = [frame.facets.get(facet) for frame in frames]
    stated = any(isinstance(value, tuple) for value in values)
    if not stated or (facet != "gradient" and len(set(values)) == 1):
        return {}
    along, name = _depends_on(dims, ranks_of(values, facet)), facet.removeprefix(OTHER)
    vectors = [v if isinstance(v, tuple) else (None,) * 3 for v in values]
    parts = {f"{name}_{a}": _along(dims, along, [v[i] for v in vectors], None) for i, a in enumerate("xyz")}
    if facet != "gradient":
        return parts
    table = Coordinate((*along, "axis"), _lists(_along(dims, along, vectors, None).values))
    return {facet: table} | parts


def _lists(values: Any) -> Any:
    return [_lists(v) for v in values] if isinstance(values, list | tuple) else values
