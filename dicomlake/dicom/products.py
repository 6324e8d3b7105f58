"""Which dimensions tell frames at one place apart: the proof that they fill a grid, cell by cell.

A set of facets is accepted when places x values is a complete product with exactly one frame in each
cell; then every frame has a cell and every cell a frame. Nothing here knows geometry: a place is a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.facet_table import DIMENSIONS, OTHER, TIMES, Codes, FacetTable, compact
from dicomlake.dicom.frames import Frame

# What was set for a whole round of planes: an array in which it changes from place to place mixes them up.
_SET = (
    *("component", "echo", "b", "quantity", "kvp", "energy", "optical_path", "segment"),
    *("energy_window", "detector", "dim_asl_context", "dim_velocity_encoding"),
)
MEANINGS = ("component", "quantity")  # what the numbers are: no array along z holds two of them
# What should agree as well where frames are told apart by mere order.
_EXPECTED = (*_SET, "image_type", "kernel", "temporal", "cardiac_phase")
_BEATS = "trigger"  # counted from each heartbeat: no clock that all places share
_HAPPENED = frozenset(
    (
        "temporal",
        "dynamic_time",
        "acquisition",
        "acquisition_time",
        "reference_time",
        "content_time",
        "time_slice",
        "repeat",
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
_MOST_EXTRA = 0.2  # share of frames that may be in conflict with a product of the others
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


def find_product(table: FacetTable, places: Codes) -> Product | None:
    """The simplest complete product, or None; places: of each frame, numbered 0, 1, … along the normal.

    Exact values before ranks of times, one facet before two. Refused where something that is set for a
    round of planes changes from place to place within a cell.
    """
    counts = np.bincount(places)
    if counts.min() != counts.max():
        return None
    most = _MOST_AXES if len(counts) > 1 else _MOST_AXES_WITHOUT_PLACE
    columns = _varying(table, places)
    meant = {name: table.codes(name) for name in MEANINGS if name in table.columns}
    exact = {name: codes for name, codes in columns.items() if counts[0] % (codes.max() + 1) == 0}
    for names in _subsets(list(exact), 1, most):
        chosen = [exact[name] for name in names]
        if _is_complete(chosen, places) and not _contradicted(columns | meant, _cells(chosen), _SET):
            return _product(table, names, chosen, places)
    timed = [name for name in TIMES if name in columns and table.is_complete(name)]
    for others in _subsets(list(exact), 0, most - 1):
        for last in timed:
            ranked = _ranked(table, [exact[name] for name in others], last, places)
            if ranked and not _contradicted(columns | meant, _cells(ranked), _EXPECTED):
                return _product(table, (*others, last), ranked, places, ranked=last)
    return None


def repeated(table: FacetTable, places: Codes) -> Product | None:
    """The frames as repeats by InstanceNumber, when every place has as many and they count alike.

    Alike: at every place the numbers grow by the same steps, or all numbers of a round are below those of
    the next and no frame was lost. Otherwise nothing says which frames belong to one round: None.
    """
    counts, numbers = np.bincount(places), _numbers(table.frames)
    if numbers is None or counts.min() != counts.max():
        return None
    ranks = _ranks(numbers, places)
    meant = {name: table.codes(name) for name in MEANINGS if name in table.columns}
    if ranks is None or _contradicted(_varying(table, places) | meant, ranks, _EXPECTED):
        return None
    order = np.lexsort((places, ranks))
    rounds = numbers[order].reshape(int(counts[0]), -1)
    steps = rounds - rounds[0]
    if not (steps == steps[:, :1]).all():
        together = np.zeros_like(places)
        if not _follow(numbers, ranks, together) or not _none_lost(table, numbers, ranks, places, together):
            return None
    return _product(table, (REPEAT,), [ranks], places)


def rounds(table: FacetTable, places: Codes) -> Codes | None:
    """The round that each frame belongs to, where all frames of a round come before those of the next.

    By the first kind of time, else by InstanceNumber. A frame that is lost within a round makes the later
    ones of its place seem early; then they are no rounds, and the answer is None.
    """
    numbers = _numbers(table.frames)
    clocks = [
        compact(table.columns[name]) for name in TIMES if name in table.columns and table.is_complete(name)
    ]
    for codes in (*clocks, *(() if numbers is None else (numbers,))):
        ranks = _ranks(codes, places)
        if ranks is not None and _follow(codes, ranks, np.zeros_like(places)):
            return ranks
    return None


def covering(table: FacetTable, places: Codes) -> tuple[Product, Codes] | None:
    """A product of the first frame in each cell, and which frames are left over: others in taken cells.

    For a series in which a few frames contradict the others; None when that are more than a few.
    """
    count, depth = len(places), int(places.max()) + 1
    columns = _varying(table, places)
    best: Codes | None = None
    for names in _subsets(list(columns), 1, _MOST_AXES):
        filled = math.prod(int(columns[name].max()) + 1 for name in names) * depth
        if not (1 - _MOST_EXTRA) * count <= filled < count or (best is not None and filled <= len(best)):
            continue
        first = np.unique(_cells([places, *(columns[name] for name in names)]), return_index=True)[1]
        if len(first) == filled:
            best = np.sort(first)
    if best is None:
        return None
    found = find_product(table.take(best), places[best])
    if found is None:
        return None
    kept = Product(found.axes, tuple(best[list(found.order)].tolist()))
    return kept, np.setdiff1d(np.arange(count), best)


# ---- cells -----------------------------------------------------------------------------------------


def _varying(table: FacetTable, places: Codes) -> dict[str, Codes]:
    """The columns in which two frames at one place differ."""
    depth = int(places.max()) + 1
    columns = {name: table.codes(name) for name in table.columns}
    return {name: codes for name, codes in columns.items() if len(np.unique(_cells([places, codes]))) > depth}


def _subsets(names: Sequence[str], least: int, most: int) -> Iterator[tuple[str, ...]]:
    for size in range(least, most + 1):
        yield from combinations(names, size)


def _cells(columns: Sequence[Codes]) -> Codes:
    """One number for each combination of codes."""
    cells = columns[0]
    for codes in columns[1:]:
        cells = cells * (int(codes.max()) + 1) + codes
    return cells


def _is_complete(columns: Sequence[Codes], places: Codes) -> bool:
    """Whether the columns and the places make a complete product."""
    if math.prod(int(codes.max()) + 1 for codes in (*columns, places)) != len(places):
        return False
    return len(np.unique(_cells([places, *columns]))) == len(places)


def _contradicted(columns: dict[str, Codes], cells: Codes, names: Sequence[str]) -> bool:
    """Whether one of these facets differs within a cell; a running count of frames tells nothing."""
    cells, depth = compact(cells), len(np.unique(cells))
    return any(
        len(np.unique(_cells([cells, columns[name]]))) > depth
        for name in names
        if name in columns and columns[name].max() + 1 < len(cells)
    )


# ---- order instead of values -----------------------------------------------------------------------


def _ranked(table: FacetTable, others: Sequence[Codes], last: str, places: Codes) -> list[Codes] | None:
    """The columns of a complete product whose last one, a time, counts by rank among frames of equal others.

    Times of one clock must show that rounds follow each other: at all places, or at those that were
    acquired together.
    """
    size = math.prod(int(codes.max()) + 1 for codes in (places, *others))
    if len(places) % size:
        return None
    where, times = _cells([places, *others]), table.codes(last)
    if (np.bincount(where, minlength=size) != len(places) // size).any():
        return None
    ranks = _ranks(times, where)
    if ranks is None or not _is_complete([*others, ranks], places):
        return None
    if last != _BEATS:
        groups = _together(times, places)
        stated = np.array([frame.facets[last] for frame in table.frames], dtype=np.float64)
        if not _follow(times, ranks, groups) or not _none_lost(table, stated, ranks, where, groups):
            return None
    return [*others, ranks]


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


def _together(times: Codes, places: Codes) -> Codes:
    """For each frame which places were acquired over the same time as its own, numbered from 0."""
    depth = int(places.max()) + 1
    begin, end = np.full(depth, times.max()), np.full(depth, times.min())
    np.minimum.at(begin, places, times)
    np.maximum.at(end, places, times)
    order = np.argsort(begin, kind="stable")
    apart = begin[order][1:] > np.maximum.accumulate(end[order])[:-1]
    group = np.empty(depth, dtype=np.int64)
    group[order] = np.concatenate([[0], np.cumsum(apart)])
    return np.asarray(group[places])


def _follow(times: Codes, ranks: Codes, groups: Codes) -> bool:
    """Whether, within each group, all frames of a rank are earlier than those of the next rank."""
    cells = compact(_cells([groups, ranks]))
    begin, end = np.full(cells.max() + 1, times.max()), np.full(cells.max() + 1, times.min())
    np.minimum.at(begin, cells, times)
    np.maximum.at(end, cells, times)
    group = np.empty(cells.max() + 1, dtype=np.int64)
    group[cells] = groups
    return bool((begin[1:] > end[:-1])[group[1:] == group[:-1]].all())


def _none_lost(
    table: FacetTable, values: npt.NDArray[Any], ranks: Codes, where: Codes, groups: Codes
) -> bool:
    """Whether equal ranks mean one round, though frames may be missing.

    A frame lost at each place leaves as many everywhere, but later ones move up by a round. None is lost
    when the numbers of the frames have no gap. Else rounds must keep their rhythm: what lies between two
    frames of a round differs from round to round by less than half the shortest round.
    """
    numbers = _numbers(table.frames)
    if numbers is not None and len(set(numbers.tolist())) == len(numbers) == np.ptp(numbers) + 1:
        return True
    order = np.lexsort((ranks, where, groups))
    rows = np.asarray(values[order], dtype=np.float64).reshape(-1, int(ranks.max()) + 1)
    group = groups[order][:: rows.shape[1]]
    begins = np.concatenate([[True], np.diff(group) > 0])
    shift = rows - rows[np.flatnonzero(begins)[np.cumsum(begins) - 1]]  # from the first place of the group
    shortest = np.diff(rows, axis=1).min(initial=np.inf)
    return bool((np.ptp(shift, axis=1) < shortest / 2).all())


def _numbers(frames: Sequence[Frame]) -> Codes | None:
    """What counts the frames: InstanceNumber, the frame's place within one object; None when absent."""
    if len({frame.sop_instance_uid for frame in frames}) == 1:
        return np.array([frame.frame_index for frame in frames], dtype=np.int64)
    numbers = [frame.instance_number for frame in frames]
    return None if None in numbers else np.array(numbers, dtype=np.int64)


# ---- the names of axes -----------------------------------------------------------------------------


def _product(
    table: FacetTable,
    names: tuple[str, ...],
    columns: Sequence[Codes],
    places: Codes,
    ranked: str | None = None,
) -> Product:
    axes, keys = [], []
    for name, codes in zip(names, columns, strict=True):
        called = _dimension(table, name, codes, places, names)
        axes.append(Axis(called, int(codes.max()) + 1, name, name == ranked))
        keys.append(_by_b(table, codes) if called == "b" != name else codes)
    by_order = sorted(range(len(axes)), key=lambda i: _rank_of(axes[i].name))
    order = np.lexsort((places, *(keys[i] for i in reversed(by_order))))
    return Product(tuple(axes[i] for i in by_order), tuple(order.tolist()))


def _by_b(table: FacetTable, codes: Codes) -> Codes:
    """The codes of an axis along which b varies, by b-value first."""
    stated = {code: frame.facets.get("b") for code, frame in zip(codes.tolist(), table.frames, strict=True)}
    values = {code: b if isinstance(b, int | float) else -1.0 for code, b in stated.items()}
    order = sorted(values, key=lambda code: (values[code], code))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return np.asarray(ranks[codes])


def _rank_of(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _dimension(table: FacetTable, facet: str, codes: Codes, places: Codes, names: tuple[str, ...]) -> str:
    """The name of the axis: what was set along it, where a mere time or number proved it."""
    if facet in _HAPPENED and "b" not in names and _is_function(table, "b", codes):
        return "b"
    name = DIMENSIONS.get(facet) or _snake_case(facet.removeprefix(OTHER))
    if facet == "acquisition" and _follow_in_time(table, codes, places):
        name = "time"
    taken = [DIMENSIONS.get(other) for other in names if other != facet]
    return facet if name in taken else name


def _is_function(table: FacetTable, facet: str, codes: Codes) -> bool:
    """Whether a facet that differs has one value for each code."""
    if facet not in table.columns:
        return False
    pairs = len(np.unique(_cells([codes, table.codes(facet)])))
    return pairs == int(codes.max()) + 1


def _follow_in_time(table: FacetTable, codes: Codes, places: Codes) -> bool:
    """Whether, at every place, frames of a higher code were acquired later."""
    if "acquisition_time" not in table.columns or not table.is_complete("acquisition_time"):
        return False
    times = table.columns["acquisition_time"]
    order = np.lexsort((codes, places))
    same = places[order][1:] == places[order][:-1]
    return bool((np.diff(times[order])[same] > 0).all())


def _snake_case(keyword: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in keyword).lstrip("_")
