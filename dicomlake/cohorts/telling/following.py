"""Pairs of series of two cohorts by the time between them: a CT, and a later PET within 30 days."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dicomlake.cohorts.telling import cells
from dicomlake.cohorts.telling.cells import Codes, Mask, Numbers

if TYPE_CHECKING:
    import pandas as pd

Order = Literal["later", "before", "either"]
_SPAN = 2**32  # days that one patient may take up in the sorted axis


def needed(same: str = "patient", date: str = "StudyDate") -> tuple[str, ...]:
    """The columns that `followed_by` takes from both tables."""
    extra = [] if same in ("patient", "study") else [same]
    times = [date.removesuffix("Date") + "Time"] if date.endswith("Date") else []
    uids = ["StudyInstanceUID", "SeriesInstanceUID"]
    return tuple(dict.fromkeys(["PatientID", "IssuerOfPatientID", *uids, date, *times, *extra]))


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Which series of b follow which of a.

    table: one row a pair: `a` and `b` are positions in the two cohorts, `days` the whole days from the date
        of a to that of b, negative where b is before.
    undated: series of a and of b that have no date and so are in no pair.
    undecided: pairs of one day, left out because one of them has no time that says which came first.
    """

    table: pd.DataFrame
    undated: tuple[int, int] = (0, 0)
    undecided: int = 0
    told: str = field(default="", repr=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def a(self) -> Codes:
        """Positions in cohort a that are in a pair, ascending."""
        return np.unique(self.table["a"].to_numpy())

    @property
    def b(self) -> Codes:
        """Positions in cohort b that are in a pair, ascending."""
        return np.unique(self.table["b"].to_numpy())

    def nearest(self) -> pd.DataFrame:
        """For each position of a the pair with the fewest days between; of equal ones the first in b."""
        days = self.table["days"].abs().to_numpy()
        order = np.lexsort((self.table["b"], days, self.table["a"]))
        return self.table.iloc[order].drop_duplicates("a").reset_index(drop=True)

    def __repr__(self) -> str:
        undated = f"; without a date: {self.undated[0]:,} of a, {self.undated[1]:,} of b"
        undecided = f"; {self.undecided:,} pairs of one day whose order is unknown left out"
        return (
            f"<{len(self):,} pairs of {len(self.a):,} series and {len(self.b):,} others: {self.told}"
            f"{undated if any(self.undated) else ''}{undecided if self.undecided else ''}>"
        )

    def _repr_html_(self) -> str:
        shown = self.table.head(10).to_html(border=0, index=False)
        return f"<div><strong>{html.escape(repr(self)[1:-1])}</strong>{shown}</div>"


def followed_by(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    within_days: float,
    at_least_days: float = 0,
    same: str = "patient",
    order: Order = "later",
    date: str = "StudyDate",
) -> Pairs:
    """The pairs of a series of table a and one of table b, of one patient, with so many days between.

    within_days, at_least_days: the most and fewest whole days between the two dates.
    order: b is `later` than a, or `before` it, or `either`, at the same moment too.
    same: "patient"; "study"; or a column that must agree as well, such as "BodyPartExamined".
    date: the column of dates; on one day the times decide, of StudyTime for StudyDate, SeriesTime for
        SeriesDate. Equal moments are neither later nor before. With at_least_days=1 times do not matter.

    Patients are told apart by PatientID and IssuerOfPatientID; rows without a PatientID are in no pair.
    A series is never paired with itself.
    """
    if order not in ("later", "before", "either"):
        raise ValueError("order is 'later', 'before' or 'either'")
    if not 0 <= at_least_days <= within_days:
        raise ValueError("at_least_days is 0 or more, and not more than within_days")
    key_a, key_b = _shared_keys(a, b, same)
    cells.require(a, date)
    cells.require(b, date)
    day_a, day_b = cells.days(a[date]), cells.days(b[date])
    low, high = np.ceil(at_least_days), np.floor(within_days)
    left, right = _within(key_a, day_a, key_b, day_b, _windows(order, low, high))
    days = (day_b[right] - day_a[left]).astype(np.int64)
    keep = np.ones(len(days), dtype=bool)
    one_day = np.flatnonzero(days == 0)
    undecided = 0
    if len(one_day):
        of_a, of_b = a.iloc[left[one_day]], b.iloc[right[one_day]]
        keep[one_day] = ~_same_series(of_a, of_b)
        if order != "either":
            between = cells.moments(of_b, date)[1] - cells.moments(of_a, date)[1]
            undecided = int((np.isnan(between) & keep[one_day]).sum())
            keep[one_day] &= between > 0 if order == "later" else between < 0  # NaN is neither
    return Pairs(
        _table(left[keep], right[keep], days[keep]),
        (int(np.isnan(day_a).sum()), int(np.isnan(day_b).sum())),
        undecided,
        _told(order, at_least_days, within_days, same),
    )


def _shared_keys(a: pd.DataFrame, b: pd.DataFrame, same: str) -> tuple[Codes, Codes]:
    """A number for what must agree, the same in both tables; -1 where it is unknown."""
    import pandas as pd

    extra = {"patient": [], "study": ["StudyInstanceUID"]}.get(same, [same])
    for table in (a, b):
        cells.require(table, "PatientID", *extra)
    names = ["PatientID", *extra]
    issuer = "IssuerOfPatientID"
    names += [issuer] if issuer in a.columns or issuer in b.columns else []
    with_them = [table.assign(**{issuer: None}) if issuer not in table.columns else table for table in (a, b)]
    both = pd.concat([table[names] for table in with_them], ignore_index=True)
    key = cells.patient_key(both)
    for name in extra:
        code = cells.coded(both[name]).codes
        key = np.where((key < 0) | (code < 0), -1, key * (code.max(initial=0) + 1) + code)
        key = np.where(key < 0, -1, cells.renumbered(key))
    return key[: len(a)], key[len(a) :]


def _windows(order: Order, low: float, high: float) -> list[tuple[float, float]]:
    if order == "later":
        return [(low, high)]
    if order == "before":
        return [(-high, -low)]
    return [(-high, high)] if low == 0 else [(-high, -low), (low, high)]


def _within(
    key_a: Codes, day_a: Numbers, key_b: Codes, day_b: Numbers, windows: list[tuple[float, float]]
) -> tuple[Codes, Codes]:
    """All pairs with equal keys where day_b - day_a lies in a window, ends included."""
    use_a, use_b = _usable(key_a, day_a), _usable(key_b, day_b)
    axis = key_b[use_b] * _SPAN + day_b[use_b].astype(np.int64)
    order = np.argsort(axis, kind="stable")
    axis, use_b = axis[order], use_b[order]
    place = key_a[use_a] * _SPAN + day_a[use_a].astype(np.int64)
    left, right = [], []
    for low, high in windows:
        reach = min(high, _SPAN / 4)  # further than any two dates of DA
        start = np.searchsorted(axis, place + np.int64(max(low, -_SPAN / 4)), side="left")
        count = np.searchsorted(axis, place + np.int64(reach), side="right") - start
        count = np.maximum(count, 0)
        left.append(np.repeat(use_a, count))
        ends = np.cumsum(count)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
        right.append(use_b[np.repeat(start, count) + within])
    return np.concatenate(left), np.concatenate(right)


def _usable(key: Codes, day: Numbers) -> Codes:
    return np.flatnonzero((key >= 0) & ~np.isnan(day))


def _same_series(a: pd.DataFrame, b: pd.DataFrame) -> Mask:
    """Of rows side by side, whether they are one series."""
    names = ["SeriesInstanceUID", "StudyInstanceUID"]
    shared = [name for name in names if name in a.columns and name in b.columns]
    if names[0] not in shared:
        return np.zeros(len(a), dtype=bool)
    same = np.ones(len(a), dtype=bool)
    for name in shared:
        mine, others = a[name], b[name]
        same &= (mine.to_numpy() == others.to_numpy()) & mine.notna().to_numpy()
    return same


def _table(left: Codes, right: Codes, days: Codes) -> pd.DataFrame:
    import pandas as pd

    order = np.lexsort((right, days, left))
    found: dict[str, Any] = {"a": left[order], "b": right[order], "days": days[order]}
    return pd.DataFrame(found)


def _told(order: Order, low: float, high: float, same: str) -> str:
    where = {"later": "later", "before": "before", "either": "before or later"}[order]
    return f"{where}, {low:g} to {high:g} days, same {same}"
