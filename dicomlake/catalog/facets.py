"""Counts for facet panels: how many series have each value, under what is chosen in the other facets.

Each facet ignores the choice made in itself, so that its other values can still be chosen. Counting is done
on codes (`catalog.codes`): text by its values, numbers in bins of a histogram, dates by year or month.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.codes import NUMBERS, Block, Coded, Joined, Mask, Numbers
from dicomlake.catalog.histogram import binned
from dicomlake.catalog.mirror.tables import TABLES
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    from dicomlake.catalog.session import Session

TOP = 50
_DATES = {"StudyDate": 4, "SeriesDate": 4, "StudyDate.month": 6, "SeriesDate.month": 6}
NAMES = (
    *(name for name in TABLES["series"].columns if name != "series_id"),
    "StudyDate.month",
    "SeriesDate.month",
)

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Facet:
    """The counts of one facet.

    values: text, the most frequent first; (low, high) of a bin, both in it, ascending; "2024" or "202403",
    ascending. counts: series of each. missing: series without a value. others: series of values beyond the
    most frequent. distinct: how many values there are with a count. edges: of the bins, for drawing.
    """

    name: str
    values: tuple[Any, ...]
    counts: Numbers
    missing: int = 0
    others: int = 0
    distinct: int = 0
    edges: tuple[float, ...] = ()


def facets(
    session: Session,
    names: Sequence[str],
    *,
    selected: Mapping[str, Any] | None = None,
    among: Ids | Sequence[int] | None = None,
    top: int = TOP,
) -> dict[str, Facet]:
    """The counts of some facets, each under what is selected in the others.

    names: columns of `series`; dates count by year, as `StudyDate.month` by month.
    selected: facet -> a value, a list of values, or a pair (low, high), closed, None for an open end; None
    means without a value; a date may be a beginning, "2024". among: count these series only, by id.
    Raises QueryError for a name that is no column of `series`.
    """
    found = _counted(session, names, selected or {}, among)
    return {name: _facet(name, joined, counts, top) for name, (joined, counts) in found.items()}


def counts(
    session: Session,
    names: Sequence[str],
    selected: Mapping[str, Any] | None = None,
    among: Ids | Sequence[int] | None = None,
) -> dict[str, dict[Any, int]]:
    """The same as facet -> value -> series, every value as it is; None for series without one."""
    found = _counted(session, names, selected or {}, among)
    return {
        name: {joined.values[place]: int(total[place]) for place in np.flatnonzero(total)}
        for name, (joined, total) in found.items()
    }


def _counted(
    session: Session, names: Sequence[str], selected: Mapping[str, Any], among: Ids | Sequence[int] | None
) -> dict[str, tuple[Joined, Numbers]]:
    columns = {name: _column(name) for name in names}
    chosen = {_column(name): wanted for name, wanted in selected.items()}
    with session.mirror.still():  # a refresh by another thread would change the rows in memory meanwhile
        return _counted_still(Coded(session), columns, chosen, among)


def _counted_still(
    coded: Coded, columns: Mapping[str, str], chosen: Mapping[str, Any], among: Ids | Sequence[int] | None
) -> dict[str, tuple[Joined, Numbers]]:
    joined = {column: coded.joined(column) for column in {*columns.values(), *chosen}}
    meets = {column: _meets(column, joined[column], wanted) for column, wanted in chosen.items()}
    total = {column: np.zeros(len(joined[column].values), dtype=np.int64) for column in columns.values()}
    wanted_ids = None if among is None else np.asarray(among, dtype=np.int64)
    for i, block in enumerate(coded.blocks):
        rows = _rows(block, coded.closed, wanted_ids)
        passed = {c: lut[joined[c].places[i]] for c, lut in meets.items()}
        for column, found in _block_counts(coded, block, list(total), passed, rows).items():
            np.add.at(total[column], joined[column].places[i], found)
    return {name: (joined[column], total[column]) for name, column in columns.items()}


def _block_counts(
    coded: Coded, block: Block, columns: Sequence[str], passed: Mapping[str, Mask], rows: Mask | None
) -> dict[str, Numbers]:
    """Series of a block by the codes of each column. passed: of selected columns, which codes are wanted."""
    if not passed and rows is None:
        return {column: coded.column(block, column).counts for column in columns}
    failed = np.zeros(len(block.ids), dtype=np.uint8)  # how many selections a series does not meet
    fails = {}
    for column, wanted in passed.items():
        fails[column] = np.take(~wanted, coded.column(block, column).codes)
        failed += fails[column]
    if rows is not None:
        failed[~rows] = 255 - len(passed)
    everywhere = np.flatnonzero(failed == 0)
    found = {}
    for column in columns:
        one = coded.column(block, column)
        own = fails.get(column)
        chosen = everywhere if own is None else np.flatnonzero(failed == own)
        found[column] = np.bincount(one.codes[chosen], minlength=len(one.values) + 1)
    return found


def _rows(block: Block, closed: Numbers, among: Numbers | None) -> Mask | None:
    """Which series of a block count at all; None for all of them."""
    rows: Mask | None = None
    if among is not None:
        rows = _held(block.ids, among)
    gone = closed[np.isin(closed, block.ids)] if len(closed) and len(block.ids) else closed[:0]
    if len(gone):
        rows = np.ones(len(block.ids), dtype=bool) if rows is None else rows
        rows[np.searchsorted(block.ids, gone)] = False
    return rows


def _held(ids: Numbers, among: Numbers) -> Mask:
    """Which of some ids, ascending, are among others."""
    if not len(ids):
        return np.zeros(0, dtype=bool)
    low, high = int(ids[0]), int(ids[-1])
    near = among[(among >= low) & (among <= high)]
    if high - low > 16 * len(ids) + 1024:  # ids far apart: a map of all between would be large
        return np.isin(ids, near)
    there = np.zeros(high - low + 1, dtype=bool)
    there[near - low] = True
    return there if len(there) == len(ids) else there[ids - low]


def _column(name: str) -> str:
    if name not in NAMES:
        raise QueryError(f"there is no facet {name!r}; there are {', '.join(NAMES)}")
    return name.partition(".")[0]


# ---- what is selected


def _meets(column: str, joined: Joined, wanted: Any) -> Mask:
    """Which values of a column are wanted; place 0 is no value."""
    found = np.zeros(len(joined.values), dtype=bool)
    for one in wanted if _is_list(wanted) else [wanted]:
        if one is None:
            found[0] = True
        elif isinstance(one, tuple):
            found |= _between(column, joined, one)
        elif column in _DATES:
            found |= np.array([v is not None and str(v).startswith(_day(one)) for v in joined.values])
        elif column in NUMBERS and isinstance(one, str):
            raise QueryError(f"{column} holds numbers: select a number, or a pair (low, high)")
        else:
            found |= np.array([v is not None and v == one for v in joined.values])
    return found


def _day(written: Any) -> Any:
    """A date, or the beginning of one, as DICOM writes it: 2024-03 is 202403."""
    return None if written is None else str(written).replace("-", "")


def _is_list(wanted: Any) -> bool:
    return isinstance(wanted, Collection) and not isinstance(wanted, str | bytes | tuple)


def _between(column: str, joined: Joined, ends: tuple[Any, ...]) -> Mask:
    if len(ends) != 2:
        raise QueryError(f"{column}: a range has two ends, (low, high); None leaves one open")
    low, high = map(_day, ends) if column in _DATES else ends

    def inside(value: Any) -> bool:
        if value is None:
            return False
        begins = column in _DATES and high is not None and str(value).startswith(str(high))
        return (low is None or value >= low) and (high is None or value <= high or begins)

    try:
        return np.array([inside(value) for value in joined.values])
    except TypeError:
        raise QueryError(f"{column}: the ends of a range must be of the kind of its values") from None


# ---- what is shown


def _facet(name: str, joined: Joined, counts: Numbers, top: int) -> Facet:
    column, missing = _column(name), int(counts[0])
    distinct = int(np.count_nonzero(counts[1:]))
    if column in NUMBERS:
        values = np.array(joined.values[1:], dtype=np.float64)
        bins, found, edges = binned(values, joined.counts[1:], counts[1:])
        return Facet(name, bins, found, missing, 0, distinct, edges)
    if name in _DATES:
        return _by_date(name, joined, counts)
    places = np.flatnonzero(counts[1:]) + 1
    if len(places) > top:
        places = places[np.argpartition(-counts[places], top - 1)]
        least = counts[places[top - 1]]
        places = np.flatnonzero(counts >= least)
        places = places[places > 0]
    ranked = sorted(places.tolist(), key=lambda i: (-counts[i], str(joined.values[i])))[:top]
    shown = counts[ranked]
    others = int(counts[1:].sum() - shown.sum())
    return Facet(name, tuple(joined.values[i] for i in ranked), shown, missing, others, distinct)


def _by_date(name: str, joined: Joined, counts: Numbers) -> Facet:
    """By the first letters of a date: year or month."""
    found: dict[str, int] = {}
    for place in (np.flatnonzero(counts[1:]) + 1).tolist():
        begins = str(joined.values[place])[: _DATES[name]]
        found[begins] = found.get(begins, 0) + int(counts[place])
    values = tuple(sorted(found))
    totals = np.array([found[value] for value in values], dtype=np.int64)
    return Facet(name, values, totals, int(counts[0]), 0, len(values))
