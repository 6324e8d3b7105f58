"""A facet: the values or bins that are shown of a column, their counts, and what is chosen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.query import Condition, Expression, Or
from dicomlake.catalog.query.expressions import Operand, conditions_in
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.folding import fold
from dicomlake.catalog.query.predicates import has_wildcard
from dicomlake.catalog.query.sources import resolve
from dicomlake.widgets.explorer import bins as binning
from dicomlake.widgets.explorer.bins import Bins
from dicomlake.widgets.explorer.columns import Column
from dicomlake.widgets.explorer.masks import range_of
from dicomlake.widgets.explorer.source import Mask
from dicomlake.widgets.explorer.universe import Rows

TOP = 50
PINNED = 100  # chosen values that are shown although others are more frequent
_DATES = ("year", "month")

Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Binned:
    """(n,) the bin of each series: 0 without a value, then the shown ones, the last for others.

    more_rows, more: further bins of series with several values, each pair once.
    """

    first: Codes
    more_rows: Rows
    more: Codes
    count: int

    def counts(self, rows: Rows | None) -> Counts:
        """Series in each bin. rows: only of these; None for all."""
        if rows is None:
            found = np.bincount(self.first, minlength=self.count)
            return found + np.bincount(self.more, minlength=self.count) if len(self.more) else found
        found = np.bincount(self.first[rows], minlength=self.count)
        if len(self.more):
            chosen = np.zeros(len(self.first), dtype=bool)
            chosen[rows] = True
            found = found + np.bincount(self.more[chosen[self.more_rows]], minlength=self.count)
        return found


@dataclass(slots=True)
class Facet:
    """One facet as it is shown now. name: as it was chosen, "StudyDate.month". bins: None for text.

    shown: of text, the places of its values. total: series with each value, or bin, without any choice.
    """

    name: str
    column: Column
    bins: Bins | None
    base: Rows | None
    shown: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _total: Counts | None = None
    _binned: Binned | None = None

    @property
    def path(self) -> str:
        """What conditions on it name."""
        return path_of(self.name)

    @property
    def kind(self) -> str:
        """text, number or date."""
        return self.column.kind

    def of_values(self, rows: Rows | None) -> Counts:
        """Of text: series with each value, by place."""
        column, size = self.column, len(self.column.values) + 1
        whole = Binned(column.first, column.more_rows, column.more, size)
        return whole.counts(rows)

    @property
    def total(self) -> Counts:
        """By place of text, by bin of the others; without any choice."""
        if self._total is None:
            self._total = self.of_values(self.base) if self.bins is None else self.binned().counts(self.base)
        return self._total

    def show(self, now: Counts, chosen: Sequence[int]) -> None:
        """Of text: choose which values are shown, the most frequent under the query first. now: by place."""
        score = now * (int(self.total.max(initial=0)) + 1) + self.total
        score[0] = 0
        some = np.flatnonzero(score)
        if len(some) > TOP:
            some = some[np.argpartition(-score[some], TOP - 1)[:TOP]]
        pinned = [place for place in chosen[:PINNED] if place not in set(some.tolist())]
        every = np.array([*some.tolist(), *pinned], dtype=np.int64)
        shown = every[np.lexsort((every, -score[every]))]
        if not np.array_equal(shown, self.shown):
            self.shown, self._binned = shown, None

    def binned(self) -> Binned:
        """The bin of each series; of text, as it is shown."""
        if self._binned is None:
            self._binned = self._of_text() if self.bins is None else self._of_numbers(self.bins)
        return self._binned

    def _of_text(self) -> Binned:
        column, count = self.column, len(self.shown) + 2
        lut = np.full(len(column.values) + 1, count - 1, dtype=np.uint8)
        lut[0] = 0
        lut[self.shown] = np.arange(1, count - 1)
        return _binned(column, lut[column.first], lut[column.more], count)

    def _of_numbers(self, bins: Bins) -> Binned:
        column = self.column
        return _binned(column, bins.place(column.first), bins.place(column.more), bins.count + 2)

    # ---- what is chosen in it

    def owns(self, term: Expression) -> bool:
        """Whether a term is about this facet's column alone."""
        return all(condition.path == self.path for condition in conditions_in(term)) and any(
            True for _ in conditions_in(term)
        )

    def choice(self, own: Sequence[Expression]) -> Choice | None:
        """What the terms on it choose, where one can choose so by hand; None for nothing or other terms."""
        if len(own) != 1:
            return None
        found = Choice()
        for part in own[0].terms if isinstance(own[0], Or) else own:
            if not isinstance(part, Condition):
                return None
            if part.operator == "missing" and part.values[0] is True and not found.missing:
                found.missing = True
            elif part.operator == "missing" and part.values[0] is False and self.bins is not None:
                found.span = (0.0, float(self.bins.count))
            elif not self._part(part, found):
                return None
        return found

    def _part(self, part: Condition, found: Choice) -> bool:
        """Take one condition into a choice; whether that is possible."""
        if found.span is not None or found.places:
            return False
        if self.bins is not None:
            wanted = range_of(self.column, part)
            if wanted is None:
                return False
            high = wanted.high
            if high is not None and wanted.high_open:
                high = float(np.nextafter(high, -np.inf))
            low = (
                float(np.nextafter(wanted.low, np.inf))
                if wanted.low is not None and wanted.low_open
                else wanted.low
            )
            found.span = self.bins.span(low, high)
            found.ends = _ends(part)
            return True
        if part.operator != "is" or part.every:
            return False
        known = [self._meant(value, part.exact) for value in part.values]
        found.places = list(dict.fromkeys(place for places in known for place in places))
        return all(known)

    def _meant(self, value: Operand, exact: bool) -> list[int]:
        """The places of text that a condition takes for a value; none where that cannot be told here."""
        if (
            isinstance(value, bool)
            or not isinstance(value, str | float)
            or (has_wildcard(value) and not exact)
        ):
            return []
        column = self.column
        places = column.places.get(value, [])
        if exact:
            return places
        written = [column.folded[place - 1] for place in places]
        plain = written[0] if written else fold(str(value))
        source = resolve(self.path)
        as_written = source.kind == "code" if isinstance(source, Fact) else not source.folded
        return places if plain is None or as_written else column.alike.get(plain, [])

    def term(self, places: Sequence[int], missing: bool) -> Expression | None:
        """What asks for some values of text, and for series without one; None for neither."""
        parts: list[Expression] = []
        if places:
            values = tuple(dict.fromkeys(self.column.values[place - 1] for place in places))
            parts.append(Condition(self.path, "is", values, exact=self._exact(values, places)))
        if missing:
            parts.append(Condition(self.path, "missing", (True,)))
        return None if not parts else parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _exact(self, values: Sequence[str | float], places: Sequence[int]) -> bool:
        """Whether to ask as written: a query would take more values for these, or a * for a pattern."""
        if any(map(has_wildcard, values)):
            return True
        source, chosen = resolve(self.path), set(places)
        taken = (
            self.column.alike.get(plain, [])
            for plain in (self.column.folded[place - 1] for place in places)
            if plain is not None
        )
        alike = any(not chosen.issuperset(some) for some in taken)
        return alike and (isinstance(source, Fact) or source.folded)


@dataclass(slots=True)
class Choice:
    """What is chosen in a facet.

    places: of text. span: counted in bins; ends: the same in words, "" is open. missing: series without one.
    """

    places: list[int] = field(default_factory=list)
    span: tuple[float, float] | None = None
    ends: tuple[str, str] = ("", "")
    missing: bool = False


def _ends(part: Condition) -> tuple[str, str]:
    """The ends of a range as they were written."""
    first, last = ("" if value is None else _text(value) for value in (part.values[0], part.values[-1]))
    if part.operator in ("ge", "gt"):
        return first, ""
    return ("", last) if part.operator in ("le", "lt") else (first, last)


def path_of(name: str) -> str:
    """The element or fact of a facet's name."""
    head, _, tail = name.rpartition(".")
    return head if tail in _DATES and head else name


def made(name: str, column: Column, base: Mask | None) -> Facet:
    """The facet of a column. base: only these series count."""
    rows = None if base is None else np.flatnonzero(base)
    if column.kind == "text":
        return Facet(name, column, None, rows)
    first = column.first if rows is None else column.first[rows]
    distinct = column.distinct if rows is None or len(column.more) else np.unique(first[~np.isnan(first)])
    by = name.rpartition(".")[2] if path_of(name) != name else ""
    if column.kind == "date":
        return Facet(name, column, binning.of_dates(first, distinct, by), rows)
    return Facet(name, column, binning.of_numbers(first, distinct), rows)


def _binned(column: Column, first: Codes, more: Codes, count: int) -> Binned:
    """Bins with those apart that have a value which is no number; pairs in the first bin are none."""
    if column.kind != "text" or column.present.any():
        odd = column.present & (first == 0)
        first[odd] = count - 1
    if not len(more):
        return Binned(first, column.more_rows, more, count)
    differ = more != first[column.more_rows]
    keys = np.unique(column.more_rows[differ] * 256 + more[differ])
    return Binned(first, keys // 256, (keys % 256).astype(np.uint8), count)


def described(facet: Facet, now: Counts, own: Mask | None, base: Mask | None) -> dict[str, Any]:
    """What the browser draws, of JSON types. now: by bin. own: (n,) which series its own terms take."""
    column, binned = facet.column, facet.binned()
    total = facet.total if facet.bins is not None else binned.counts(facet.base)
    found: dict[str, Any] = {
        "name": facet.name,
        "path": facet.path,
        "kind": facet.kind,
        "units": column.units,
        "whole": column.whole,
        "total": total.tolist(),
        "now": now.tolist(),
        "on": None,
    }
    if own is not None:
        chosen = own if base is None else own & base
        found["on"] = (binned.counts(np.flatnonzero(chosen)) > 0).tolist()
    if facet.bins is None:
        found["values"] = [_text(column.values[place - 1]) for place in facet.shown.tolist()]
        found["distinct"] = int(np.count_nonzero(facet.total[1:]))
    else:
        bins = facet.bins
        found |= {"edges": bins.edges.tolist(), "labels": list(bins.labels), "each": bins.each}
    return found


def _text(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
