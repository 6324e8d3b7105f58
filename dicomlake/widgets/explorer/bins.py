"""Bins of numbers and dates that a brush moves over: round edges, and what a brush over them asks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FEW = 24  # different numbers that have a bar each
_BINS = 36
_TAIL = 0.005  # of the values at either end share the first and the last bin
_MONTHS = 60  # so many months are shown as months, more as years
_MOST = 200  # fits a byte, with bins for none and for others
_EPOCH = date(1970, 1, 1)
_FAR = (date(1, 1, 1).toordinal(), date(9999, 12, 31).toordinal())


@dataclass(frozen=True, slots=True)
class Bins:
    """Adjacent bins; bin i holds edges[i] <= value < edges[i + 1], the outer ones also all beyond.

    edges: (k + 1,) ascending; of `each`, a bar for each number, the numbers themselves and one more.
    distinct: all values, ascending. labels: (k + 1,) of dates, as a query names them. each: see edges.
    """

    edges: Floats
    distinct: Floats
    each: bool = False
    labels: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many bins."""
        return max(len(self.edges) - 1, 0)

    def place(self, values: Floats) -> npt.NDArray[np.uint8]:
        """The bin of each value, from 1; 0 for NaN."""
        if not self.count:
            return np.zeros(len(values), dtype=np.uint8)
        found = np.searchsorted(self.edges[1:-1], values, side="right") + 1
        return np.where(np.isnan(values), 0, found).astype(np.uint8)

    def ends(self, first: int, stop: int) -> tuple[str, str]:
        """The lowest and the highest value, in a query's words, of bins first up to stop; "" is open."""
        if self.each:
            return _told(self.distinct[first]), _told(self.distinct[stop - 1])
        below = first == 0 and self.distinct[0] < self.edges[0]
        above = stop == self.count and self.distinct[-1] >= self.edges[-1]
        if self.labels:
            return "" if below else self.labels[first], "" if above else self.labels[stop - 1]
        low = "" if below else _told(self.edges[first])
        return low, "" if above else _told(self._last_below(first, stop))

    def _last_below(self, first: int, stop: int) -> float:
        """The upper edge, or where a value lies on it, which is in the next bin, the last value before."""
        edge = float(self.edges[stop])
        place = int(np.searchsorted(self.distinct, edge))
        if place == len(self.distinct) or self.distinct[place] != edge:
            return edge
        before = float(self.distinct[place - 1]) if place else -math.inf
        return before if before >= self.edges[first] else float(self.edges[stop - 1] + edge) / 2

    def span(self, low: float | None, high: float | None) -> tuple[float, float]:
        """Where a closed range lies, counted in bins; over bins whose values it all has, whole ones."""
        if not self.count:
            return 0.0, 0.0
        if self.each:
            first = 0 if low is None else int(np.searchsorted(self.distinct, low))
            stop = self.count if high is None else int(np.searchsorted(self.distinct, high, side="right"))
            return float(first), float(max(stop, first))
        return self._start(low), max(self._stop(high), self._start(low))

    def _start(self, low: float | None) -> float:
        if low is None or low <= self.edges[0]:
            return 0.0
        at = min(int(np.searchsorted(self.edges, low, side="right")) - 1, self.count - 1)
        before = np.searchsorted(self.distinct, (self.edges[at] if at else -math.inf, low))
        return float(at) if before[0] == before[1] else at + self._share(at, low)

    def _stop(self, high: float | None) -> float:
        if high is None or high >= self.edges[-1]:
            return float(self.count)
        if high < self.edges[0]:
            return 0.0
        at = int(np.searchsorted(self.edges, high, side="right")) - 1
        last = at == self.count - 1
        after = int(np.searchsorted(self.distinct, high, side="right"))
        end = len(self.distinct) if last else int(np.searchsorted(self.distinct, self.edges[at + 1]))
        if high == self.edges[at] and (not at or self.distinct[max(after - 1, 0)] != high):
            return float(at)
        return float(at + 1) if after == end else at + self._share(at, high)

    def _share(self, at: int, value: float) -> float:
        width = float(self.edges[at + 1] - self.edges[at])
        return min(max((value - float(self.edges[at])) / width, 0.0), 1.0)


def of_numbers(values: Floats, distinct: Floats) -> Bins:
    """values: with NaN; only their 0.5 % quantiles count. distinct: all that a bar or bin is for."""
    if not len(distinct):
        return Bins(np.zeros(0), distinct)
    if len(distinct) <= _FEW:
        return Bins(np.append(distinct, distinct[-1] + 1), distinct, each=True)
    low, high = _bulk(values)
    if high <= low:
        low, high = float(distinct[0]), float(distinct[-1])
    step = _round_step((high - low) / _BINS)
    start = math.floor(low / step)
    stop = max(math.floor(high / step) + 1, start + 1)
    return Bins(np.round(np.arange(start, stop + 1) * step, 12), distinct)


def of_dates(days: Floats, distinct: Floats, by: str = "") -> Bins:
    """days: since 1970-01-01, with NaN. by: "year" or "month"; what is fit unless given."""
    if not len(distinct):
        return Bins(np.zeros(0), distinct)
    low, high = (_date(day) for day in _bulk(days))
    months = (high.year - low.year) * 12 + high.month - low.month + 1
    if by == "month" or (not by and months <= _MONTHS):
        first = max(low.year * 12 + low.month - 1, high.year * 12 + high.month - _MOST)
        numbers = range(first, high.year * 12 + high.month + 1)
        starts = [date(n // 12, n % 12 + 1, 1) for n in numbers if n < 12 * 9999]
        labels = tuple(f"{day:%Y-%m}" for day in starts)
    else:
        starts = [
            date(year, 1, 1) for year in range(max(low.year, high.year - _MOST), min(high.year + 2, 9999))
        ]
        labels = tuple(f"{day.year:04}" for day in starts)
    edges = np.array([(day - _EPOCH).days for day in starts], dtype=np.float64)
    return Bins(edges, distinct, labels=labels)


def _bulk(values: Floats) -> tuple[float, float]:
    """The ends of all but the rarest values."""
    some = values[~np.isnan(values)]
    if not len(some):
        return 0.0, 0.0
    places = [int(_TAIL * (len(some) - 1)), math.ceil((1 - _TAIL) * (len(some) - 1))]
    low, high = np.partition(some, places)[places]
    return float(low), float(high)


def _date(days: float) -> date:
    number = int(min(max(days + _EPOCH.toordinal(), _FAR[0]), _FAR[1] - 366))
    return _EPOCH + timedelta(days=number - _EPOCH.toordinal())


def _round_step(least: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, not below a step."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def _told(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
