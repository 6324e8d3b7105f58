"""What the frames of a stack say along its axes: named coordinates with the standard's units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from dicomlake.dicom.frames import Frame
from dicomlake.dicom.products import DIMENSIONS, Axis
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
_NAMES = {"temporal": "temporal_position", "trigger": "trigger_time", "acquisition": "acquisition_number"}
_FROM_FIRST = frozenset(
    {"acquisition_time", "content_time", "reference_time"}
)  # counted from the first frame of the stack


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
    it over all axes they depend on.
    """
    dims = lead_dims(stack)
    found: dict[str, Coordinate] = {}
    names = dict.fromkeys(name for frame in stack.frames for name in frame.facets)
    proven = {axis.facet: axis for axis in stack.axes}
    for facet in names:
        values = _values(stack.frames, facet)
        if facet == "gradient" or (facet not in proven and len(set(values)) == 1):
            continue
        axis = proven.get(facet)
        if axis is not None and not axis.ranked and _is_of(axis, facet):
            found[axis.name] = _along(dims, (axis.name,), values, _units(facet))
        elif facet in _UNITS or facet in _NAMES or facet in proven:
            along = _depends_on(dims, values)
            found[_free_name(facet, dims, along)] = _along(dims, along, values, _units(facet))
    if any("gradient" in frame.facets for frame in stack.frames):
        found |= _gradient(stack, dims)
    for axis in stack.axes:
        when = found.get("acquisition_time")
        if axis.facet == "acquisition" and axis.name == "time" and when and when.dims == ("time",):
            found["time"] = when
        if axis.name not in found and axis.facet == "repeat":
            found[axis.name] = Coordinate((axis.name,), list(range(axis.size)))
    return found


def _is_of(axis: Axis, facet: str) -> bool:
    """Whether an axis is named for the values that prove it, not for what they stand for."""
    return axis.name == DIMENSIONS.get(facet, axis.name) or axis.name == facet


def over_axes(stack: Stack, values: Sequence[Any], units: str | None = None) -> Coordinate:
    """One value for each frame of a stack, along the fewest axes that they depend on."""
    dims = lead_dims(stack)
    return _along(dims, _depends_on(dims, values), values, units)


def _units(facet: str) -> str | None:
    return _UNITS.get(facet)


def _free_name(facet: str, dims: Sequence[tuple[str, int]], along: tuple[str, ...]) -> str:
    """A coordinate may bear the name of an axis only when it lies along that axis alone (xarray)."""
    name = _NAMES.get(facet, facet)
    taken = name in dict(dims) and along != (name,)
    return f"{name}_value" if taken else name


def _values(frames: Sequence[Frame], facet: str) -> list[Any]:
    values = [frame.facets.get(facet) for frame in frames]
    if facet in _FROM_FIRST:
        known = [value for value in values if isinstance(value, int | float)]
        first = min(known, default=0.0)
        return [round(v - first, 6) if isinstance(v, int | float) else None for v in values]
    return values


def _depends_on(dims: Sequence[tuple[str, int]], values: Sequence[Any]) -> tuple[str, ...]:
    """The fewest axes that the values are a function of."""
    shape = [size for _, size in dims]
    cells = np.empty(len(values), dtype=object)
    cells[:] = [(v,) for v in values]
    block = cells.reshape(shape)
    for count in range(1, len(dims)):
        for chosen in combinations(range(len(dims)), count):
            others = tuple(i for i in range(len(dims)) if i not in chosen)
            first = block[tuple(slice(0, 1) if i in others else slice(None) for i in range(len(dims)))]
            if (block == np.broadcast_to(first, block.shape)).all():
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


def _gradient(stack: Stack, dims: Sequence[tuple[str, int]]) -> dict[str, Coordinate]:
    """Diffusion gradient directions, unit vectors in LPS; None where there is none (b = 0).

    As one table, and by component, as an array cannot carry a coordinate with a dimension it lacks.
    """
    values = [frame.facets.get("gradient") for frame in stack.frames]
    along = _depends_on(dims, values)
    vectors = [v if isinstance(v, tuple) else (None,) * 3 for v in values]
    found = {"gradient": Coordinate((*along, "axis"), _lists(_along(dims, along, vectors, None).values))}
    for i, axis in enumerate("xyz"):
        found[f"gradient_{axis}"] = _along(dims, along, [v[i] for v in vectors], None)
    return found


def _lists(values: Any) -> Any:
    return [_lists(v) for v in values] if isinstance(values, list | tuple) else values
