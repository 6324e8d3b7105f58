"""Which dimensions tell frames at one place apart: the proof that they fill a grid, cell by cell.

A set of facets is accepted when places x values is a complete product with exactly one frame in each
cell; then every frame has a cell and every cell a frame. Nothing here knows geometry: a place is a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.frames import Frame

Codes = npt.NDArray[np.int64]

# Facet -> dimension it makes, in the order they are tried: what was set before what merely happened.
DIMENSIONS = {
    "component": "component",
    "echo": "echo",
    "b": "b",
    "inversion": "inversion",
    "flip": "flip",
    "quantity": "quantity",
    "image_type": "image_type",
    "kernel": "kernel",
    "kvp": "kvp",
    "energy": "energy",
    "optical_path": "optical_path",
    "segment": "segment",
    "energy_window": "energy_window",
    "detector": "detector",
    "phase": "phase",
    "rr_interval": "rr_interval",
    "time_slot": "time_slot",
    "rotation": "rotation",
    "angular_view": "angular_view",
    "temporal": "time",
    "cardiac_phase": "phase",
    "trigger": "phase",
    "frame_reference_time": "time",
    "dynamic_time": "time",
    "time_slice": "time",
    "acquisition": "acquisition",
    "acquisition_time": "time",
    "reference_time": "time",
    "content_time": "time",
}
_LATE = "dim_"  # other dimension indices of the object come last
# Values that may differ a little from place to place, and are then compared by their rank at each place.
_TIMES = (
    "trigger",
    "frame_reference_time",
    "dynamic_time",
    "acquisition_time",
    "reference_time",
    "content_time",
)
_HAPPENED = frozenset(
    (
        "temporal",
        "dynamic_time",
        "acquisition",
        "acquisition_time",
        "reference_time",
        "content_time",
        "time_slice",
    )
)
# From slowest to fastest axis of an array; z, y, x follow.
_ORDER = (
    *(
        "component",
        "image_type",
        "quantity",
        "kernel",
        "segment",
        "optical_path",
        "energy_window",
        "detector",
    ),
    *("echo", "b", "time", "inversion", "flip", "phase", "rr_interval", "time_slot", "rotation"),
    *("angular_view", "acquisition", "kvp", "energy", "repeat"),
)
_MOST_AXES = 3
_MOST_AXES_WITHOUT_PLACE = 5  # nuclear medicine: windows, detectors, phases, rotations, views
REPEAT = "repeat"


@dataclass(frozen=True, slots=True)
class Axis:
    """An extra dimension.

    facet: whose values prove it; `repeat` for the mere order of InstanceNumber.
    ranked: the values were compared by rank within each place.
    """

    name: str
    size: int
    facet: str
    ranked: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """Frames that fill axes x places. order: their indices, C order over the axes, then places."""

    axes: tuple[Axis, ...]
    order: tuple[int, ...]


def find_product(frames: Sequence[Frame], places: Codes) -> Product | None:
    """The simplest complete product, or None; places: of each frame, numbered 0, 1, … along the normal."""
    columns = {name: codes for name, codes in _columns(frames).items() if _varies_within(codes, places)}
    most = _MOST_AXES if places.max() > 0 else _MOST_AXES_WITHOUT_PLACE
    for names in _subsets(list(columns), most):
        found = _complete([columns[name] for name in names], places)
        if found is not None:
            return _product(frames, names, found, places)
    for names in _subsets(list(columns), most):
        found = _ranked(frames, names, columns, places)
        if found is not None:
            return _product(frames, names, found, places, ranked=names[-1])
    return None


def repeated(frames: Sequence[Frame], places: Codes) -> Product | None:
    """The frames as repeats by InstanceNumber, when every place has as many and they count alike.

    Alike: at every place the numbers grow by the same steps, or all numbers of a round are below those of
    the next. Otherwise nothing says which frames belong to one round, and the answer is None.
    """
    counts, numbers = np.bincount(places), _numbers(frames)
    if numbers is None or len(set(counts.tolist())) != 1:
        return None
    ranks = _ranks(numbers, places)
    if ranks is None:
        return None
    order = np.lexsort((places, ranks))
    rounds = numbers[order].reshape(int(counts[0]), -1)
    steps = rounds - rounds[0]
    if not ((steps == steps[:, :1]).all() or (rounds[1:].min(axis=1) > rounds[:-1].max(axis=1)).all()):
        return None
    return Product((Axis(REPEAT, int(counts[0]), REPEAT),), tuple(order.tolist()))


def _numbers(frames: Sequence[Frame]) -> Codes | None:
    """What counts the frames: InstanceNumber, the frame's place within one object; None when absent."""
    if len({frame.sop_instance_uid for frame in frames}) == 1:
        return np.array([frame.frame_index for frame in frames], dtype=np.int64)
    if any(frame.instance_number is None for frame in frames):
        return None
    return np.array([frame.instance_number for frame in frames], dtype=np.int64)


def ranked_by_time(frames: Sequence[Frame], places: Codes) -> Codes | None:
    """The rank of each frame among those at its place by the first kind of time that tells them apart."""
    for name, codes in _columns(frames).items():
        if name in _TIMES and all(name in frame.facets for frame in frames):
            ranks = _ranks(codes, places)
            if ranks is not None:
                return ranks
    return None


def groups_by(frames: Sequence[Frame], facet: str) -> list[list[int]]:
    """The indices of the frames with each value of a facet, values ascending."""
    codes = _columns(frames)[facet]
    return [np.flatnonzero(codes == code).tolist() for code in range(int(codes.max()) + 1)]


def varying(frames: Sequence[Frame]) -> list[str]:
    """The facets that differ between frames, in the order they are tried."""
    return [name for name, codes in _columns(frames).items() if codes.max() > 0]


def value_of(frame: Frame, facet: str) -> Any:
    """What is compared: the b-value with its direction, other numbers to six digits; None when absent."""
    value = frame.facets.get(facet)
    if facet == "b" and value is not None:
        gradient = frame.facets.get("gradient", frame.facets.get("gradient_stated"))
        direction = gradient if isinstance(gradient, tuple) else ()
        return (_rounded(value), *(round(g, 4) for g in direction))
    return _rounded(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and value and math.isfinite(value) and abs(value) < 1e7:
        return round(value, 5 - math.floor(math.log10(abs(value))))
    return value


def _columns(frames: Sequence[Frame]) -> dict[str, Codes]:
    """For each facet the rank of its value in every frame; absent counts as the lowest value."""
    present = dict.fromkeys(name for frame in frames for name in frame.facets)
    late = [name for name in present if name.startswith(_LATE)]
    names = [name for name in (*DIMENSIONS, *late) if name in present]
    return {name: _codes([value_of(frame, name) for frame in frames]) for name in names}


def _codes(values: Sequence[Any]) -> Codes:
    ranks: Mapping[Any, int] = {value: i for i, value in enumerate(sorted(set(values), key=_sort_key))}
    return np.array([ranks[value] for value in values], dtype=np.int64)


def _sort_key(value: Any) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    if isinstance(value, str):
        return 2, value
    return (3, value) if isinstance(value, tuple) else (1, value)


def _varies_within(codes: Codes, places: Codes) -> bool:
    """Whether two frames at one place differ."""
    pairs = len(np.unique(places * (codes.max() + 1) + codes))
    return pairs > int(places.max()) + 1


def _subsets(names: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    for size in range(1, most + 1):
        yield from combinations(names, size)


def _complete(columns: Sequence[Codes], places: Codes) -> list[Codes] | None:
    """The columns when they and the places make a complete product."""
    sizes = [int(codes.max()) + 1 for codes in columns]
    if math.prod(sizes) * (int(places.max()) + 1) != len(places):
        return None
    cells = places.copy()
    for codes, size in zip(columns, sizes, strict=True):
        cells = cells * size + codes
    return list(columns) if len(np.unique(cells)) == len(cells) else None


def _ranked(
    frames: Sequence[Frame], names: tuple[str, ...], columns: Mapping[str, Codes], places: Codes
) -> list[Codes] | None:
    """The columns of a complete product whose last one counts by rank among the frames of equal others."""
    *others, last = names
    if last not in _TIMES or any(last not in frame.facets for frame in frames):
        return None
    where = places.copy()
    for name in others:
        where = where * (int(columns[name].max()) + 1) + columns[name]
    ranks = _ranks(columns[last], where)
    return None if ranks is None else _complete([*(columns[name] for name in others), ranks], places)


def _ranks(codes: Codes, where: Codes) -> Codes | None:
    """The rank of each code among those with equal `where`; None when two of them are equal."""
    order = np.lexsort((codes, where))
    sorted_where, sorted_codes = where[order], codes[order]
    same = sorted_where[1:] == sorted_where[:-1]
    if (same & (sorted_codes[1:] == sorted_codes[:-1])).any():
        return None
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    lengths = np.diff(np.append(starts, len(order)))
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, lengths)
    return ranks


def _product(
    frames: Sequence[Frame],
    names: tuple[str, ...],
    columns: Sequence[Codes],
    places: Codes,
    ranked: str | None = None,
) -> Product:
    axes, keys = [], []
    for name, codes in zip(names, columns, strict=True):
        called = _dimension(frames, name, codes, places, names)
        axes.append(Axis(called, int(codes.max()) + 1, name, name == ranked))
        keys.append(_by_b(frames, codes) if called == "b" != name else codes)
    by_order = sorted(range(len(axes)), key=lambda i: _rank_of(axes[i].name))
    order = np.lexsort((places, *(keys[i] for i in reversed(by_order))))
    return Product(tuple(axes[i] for i in by_order), tuple(order.tolist()))


def _by_b(frames: Sequence[Frame], codes: Codes) -> Codes:
    """The codes of an axis along which b varies, by b-value first."""
    b = {code: value_of(frame, "b") for code, frame in zip(codes.tolist(), frames, strict=True)}
    order = sorted(b, key=lambda code: (_sort_key(b[code] and b[code][0]), code))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return np.asarray(ranks[codes])


def _rank_of(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _dimension(
    frames: Sequence[Frame], facet: str, codes: Codes, places: Codes, names: tuple[str, ...]
) -> str:
    """The name of the axis: what was set along it, where a mere time or number proved it."""
    if facet in _HAPPENED and "b" not in names:
        values = [value_of(frame, "b") for frame in frames]
        if len(set(values)) > 1 and len(set(zip(codes.tolist(), values, strict=True))) == codes.max() + 1:
            return "b"
    name = DIMENSIONS.get(facet) or _snake_case(facet.removeprefix(_LATE))
    if facet == "acquisition" and _follow_in_time(frames, codes, places):
        name = "time"
    taken = [DIMENSIONS.get(other) for other in names if other != facet]
    return facet if name in taken else name


def _follow_in_time(frames: Sequence[Frame], codes: Codes, places: Codes) -> bool:
    """Whether, at every place, frames of a higher code were acquired later."""
    times = [frame.facets.get("acquisition_time") for frame in frames]
    if any(not isinstance(time, int | float) for time in times):
        return False
    seconds = np.array(times, dtype=np.float64)
    order = np.lexsort((codes, places))
    same = places[order][1:] == places[order][:-1]
    return bool((np.diff(seconds[order])[same] > 0).all())


def _snake_case(keyword: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in keyword).lstrip("_")
