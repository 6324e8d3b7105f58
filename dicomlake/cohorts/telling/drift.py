"""When the usual value of an acquisition parameter changed on a scanner, and what else changed with it.

For each scanner the series are put in stretches of time (calendar months unless said otherwise). The
dominant value of a stretch is the most frequent one; of equals that of the stretch before, else the
smallest. Stretches with few series are passed over. Where the dominant value changes, its date is the day
that leaves the fewest series of both values on the wrong side.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dicomlake.cohorts.telling import cells
from dicomlake.cohorts.telling.agreement import Parameter, Tolerance, parameter, tolerance_of
from dicomlake.cohorts.telling.cells import Codes, Numbers
from dicomlake.cohorts.telling.naming import value_text

if TYPE_CHECKING:
    import pandas as pd

Period = Literal["day", "week", "month", "year"]
SCANNER = ("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber")
SOFTWARE = "SoftwareVersions"
_UNITS = {"day": "D", "week": "W", "month": "M", "year": "Y"}
_COLUMNS = ("date", "parameter", "before", "after", "difference", "series_before", "series_after", "astray")


def needed(parameter_name: str, over: str = "StudyDate") -> tuple[str, ...]:
    """The columns that `drift` takes from a table."""
    return tuple(dict.fromkeys([parameter_name, over, *SCANNER, SOFTWARE]))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Drift:
    """How the usual value of a parameter changed.

    changes: one row a change, by scanner and date: the columns of SCANNER that the table has, date (the
        first day of the new value), parameter, before, after, difference (of single numbers),
        series_before and series_after (with these values, in the stretches of time on either side up to the
        next change), astray (series of both values on the wrong side of the date).
    software: the same of SoftwareVersions; empty where the table has none.
    scanners: how many were told apart. unplaced: series without a date or a value.
    """

    parameter: str
    changes: pd.DataFrame
    software: pd.DataFrame
    scanners: int
    unplaced: int

    def __len__(self) -> int:
        return len(self.changes)

    @property
    def _told(self) -> str:
        unplaced = f"; {self.unplaced:,} series without a date or a value" if self.unplaced else ""
        return (
            f"{self.parameter}: {len(self.changes):,} changes, and {len(self.software):,} of {SOFTWARE}, "
            f"on {self.scanners:,} scanners{unplaced}"
        )

    def __repr__(self) -> str:
        return f"<{self._told}>"

    def _repr_html_(self) -> str:
        tables = [
            one.to_html(index=False, border=0, max_rows=20)
            for one in (self.changes, self.software)
            if len(one)
        ]
        return f"<div><strong>{html.escape(self._told)}</strong>{''.join(tables)}</div>"


def drift(
    table: pd.DataFrame,
    parameter_name: str,
    *,
    over: str = "StudyDate",
    period: Period = "month",
    at_least: int = 3,
    tolerance: Tolerance | None = None,
) -> Drift:
    """When the dominant value of a parameter changed on each scanner.

    over: the column of dates. at_least: stretches with fewer series with a value are passed over.
    tolerance: relative, as in `protocols`.
    A scanner is what all columns of SCANNER that the table has tell apart; series that state none of them
    are one scanner.
    """
    cells.require(table, parameter_name, over)
    if period not in _UNITS:
        raise ValueError(f"period is one of {', '.join(_UNITS)}")
    if at_least < 1:
        raise ValueError("at_least is a number of series, 1 or more")
    scanner = _scanners(table)
    day = cells.days(table[over])
    wanted = parameter(table[parameter_name], tolerance_of(parameter_name, tolerance))
    changes = _changes(table, scanner, day, wanted, period, at_least)
    other = (
        _NONE
        if SOFTWARE not in table.columns or parameter_name == SOFTWARE
        else parameter(table[SOFTWARE], 0)
    )
    software = _changes(table, scanner, day, other, period, at_least)
    unplaced = int((np.isnan(day) | (wanted.code < 0)).sum())
    return Drift(parameter_name, changes, software, int(scanner.max(initial=-1)) + 1, unplaced)


_NONE = Parameter(SOFTWARE, np.zeros(0, dtype=np.int64), None, [])


def _scanners(table: pd.DataFrame) -> Codes:
    key = np.zeros(len(table), dtype=np.int64)
    for name in SCANNER:
        if name in table.columns:
            code = cells.coded(table[name]).codes + 1
            key = cells.renumbered(key * (code.max(initial=0) + 1) + code)
    return cells.renumbered(key)


def _changes(
    table: pd.DataFrame, scanner: Codes, day: Numbers, wanted: Parameter, period: Period, at_least: int
) -> pd.DataFrame:
    import pandas as pd

    identity = [name for name in SCANNER if name in table.columns]
    rows = []
    if len(wanted.code):
        use = np.flatnonzero(~np.isnan(day) & (wanted.code >= 0))
        use = use[np.lexsort((wanted.code[use], day[use], scanner[use]))]
        days = day[use].astype(np.int64)
        for start, stop in _stretches(scanner[use]):
            held = use[start:stop]
            who = {name: table[name].iat[held[0]] for name in identity}
            found = _of_scanner(days[start:stop], wanted.code[held], period, at_least)
            rows += [{**who, **_told(one, wanted)} for one in found]
    return pd.DataFrame(rows, columns=[*identity, *_COLUMNS])


def _stretches(ordered: Codes) -> list[tuple[int, int]]:
    """Start and stop of each stretch of equal entries."""
    edges = np.flatnonzero(np.diff(ordered)) + 1
    return list(pairwise([0, *edges.tolist(), len(ordered)])) if len(ordered) else []


@dataclass(frozen=True, slots=True)
class _Change:
    day: int
    before: int
    after: int
    counts: tuple[int, int]
    astray: int


def _of_scanner(day: Codes, code: Codes, period: Period, at_least: int) -> list[_Change]:
    """The changes of one scanner; rows ascend by day."""
    if (code == code[0]).all():
        return []
    stretch = day.astype("datetime64[D]").astype(f"datetime64[{_UNITS[period]}]").astype(np.int64)
    runs: list[tuple[int, int, int]] = []  # dominant value, first and last row, of stretches on end
    for start, stop in _stretches(stretch):
        if stop - start < at_least:
            continue
        counts = np.bincount(code[start:stop])
        best = np.flatnonzero(counts == counts.max())
        value = runs[-1][0] if runs and runs[-1][0] in best else int(best[0])
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1], stop)
        else:
            runs.append((value, start, stop))
    return [_change(day[a[1] : b[2]], code[a[1] : b[2]], a[0], b[0]) for a, b in pairwise(runs)]


def _change(day: Codes, code: Codes, before: int, after: int) -> _Change:
    """The day that parts two values best; of equals the first."""
    days, first = np.unique(day, return_index=True)
    old = np.concatenate([[0], np.cumsum(code == before)])
    new = np.concatenate([[0], np.cumsum(code == after)])
    wrong = new[first] + (old[-1] - old[first])
    at = int(wrong.argmin())
    return _Change(int(days[at]), before, after, (int(old[-1]), int(new[-1])), int(wrong[at]))


def _told(one: _Change, wanted: Parameter) -> dict[str, Any]:
    before, after = wanted.shown[one.before], wanted.shown[one.after]
    numbers = isinstance(before, float) and isinstance(after, float)
    values = (
        np.datetime64(one.day, "D").astype("datetime64[s]"),
        wanted.name,
        before if numbers else value_text(before),
        after if numbers else value_text(after),
        after - before if numbers else np.nan,
        *one.counts,
        one.astray,
    )
    return dict(zip(_COLUMNS, values, strict=True))
