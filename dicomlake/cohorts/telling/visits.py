"""Visits of patients in order, and the one series, study or visit of each patient that is wanted.

A study is dated by the earliest StudyDate of its series, and StudyTime on that day. Studies of a patient
are in order of day, then time; on one day those without a time come last; equal moments stay in reading
order. Studies without a date come after all others and are in no order.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dicomlake.cohorts.telling import cells
from dicomlake.cohorts.telling.cells import Codes, Mask, Numbers
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["series", "study", "visit"]
Side = Literal["before", "after", "either"]
NEEDED = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "StudyDate", "StudyTime")
_DAY = 1e5  # seconds and more: room behind the last second for studies without a time
_UNTIMED = 9e4


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """The studies of all patients, by patient in reading order and then in time.

    study: for each row of the table the index of its study in the other fields, but `rows`.
    rows: for each study its first row. patient: numbered from 0. day: since 1970-01-01, NaN where undated.
    visit: numbered from 0 over all patients; each undated study is one of its own.
    """

    study: Codes
    rows: Codes
    patient: Codes
    day: Numbers
    visit: Codes

    @property
    def of_rows(self) -> tuple[Codes, Numbers, Codes]:
        """Patient, day and visit of each row of the table."""
        return self.patient[self.study], self.day[self.study], self.visit[self.study]


def course(table: pd.DataFrame, gap_days: float = 0) -> Course:
    """The studies of a table in order, and which of them are one visit.

    gap_days: a study belongs to the visit of the one before when at most so many days lie between.
    """
    if not gap_days >= 0:
        raise ValueError("gap_days is a number of days, 0 or more")
    patient, study = cells.who(table)
    moment = np.full(study.max(initial=-1) + 1, np.inf)
    np.minimum.at(moment, study, _moments(table))
    rows = np.full(len(moment), len(table), dtype=np.int64)
    np.minimum.at(rows, study, np.arange(len(table)))
    order = np.lexsort((rows, moment, patient[rows]))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    patient, moment = patient[rows[order]], moment[order]
    day = np.where(np.isinf(moment), np.nan, np.floor(moment / _DAY))
    with np.errstate(invalid="ignore"):
        one = (np.diff(patient) == 0) & (np.diff(day) <= gap_days)  # False beside an undated study
    visit = np.concatenate([[0], np.cumsum(~one)])[: len(order)].astype(np.int64)
    return Course(rank[study], rows[order], patient, day, visit)


def _moments(table: pd.DataFrame) -> Numbers:
    """What rows are ordered by: a number of the day and time; infinite where there is no date."""
    day, second = cells.moments(table)
    second = np.where(np.isnan(second), _UNTIMED, second)
    return np.where(np.isnan(day), np.inf, day * _DAY + second)


def _starts(ordered: Codes) -> Mask:
    return np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]


def visits(table: pd.DataFrame, *, gap_days: float = 0) -> pd.DataFrame:
    """One row a patient and visit, in order.

    gap_days: a study belongs to the visit of the one before when at most so many days lie between; with 0
        a visit is a StudyDate. Each study without a date is a row of its own, after the patient's others,
        with neither number nor days, `dated` False.

    Columns: patient (from 1 in reading order), PatientID, IssuerOfPatientID where the table has it, visit
    (from 1), StudyDate and last_date (first and last of the visit), days (since the first visit),
    days_since_previous (both from StudyDate to StudyDate), studies, series, modalities where the table has
    Modality, dated.
    """
    import pandas as pd

    found = course(table, gap_days)
    first = np.flatnonzero(_starts(found.visit))
    patient, start = found.patient[first], found.day[first]
    last = found.day[np.append(first[1:], len(found.visit))[: len(first)] - 1]
    dated = ~np.isnan(start)
    new = _starts(patient)
    of_patient = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    since_previous = np.where(new, np.nan, start - np.roll(start, 1))
    identity = [name for name in NEEDED[:2] if name in table.columns]
    rows = found.rows[first]
    per_row = found.visit[found.study]
    columns: dict[str, Any] = {
        "patient": patient + 1,
        **{name: table[name].to_numpy()[rows] for name in identity},
        "visit": _whole(np.where(dated, np.arange(len(new)) - of_patient + 1.0, np.nan)),
        "StudyDate": _dates(start),
        "last_date": _dates(last),
        "days": _whole(start - start[of_patient]),
        "days_since_previous": _whole(since_previous),
        "studies": np.bincount(found.visit, minlength=len(first)),
        "series": np.bincount(per_row, minlength=len(first)),
    }
    if "Modality" in table.columns:
        columns["modalities"] = _modalities(table["Modality"], per_row, len(first))
    return pd.DataFrame({**columns, "dated": dated})


def _whole(values: Any) -> Any:
    """Whole numbers, missing where NaN."""
    import pandas as pd

    return pd.Series(values).astype("Int64").array


def _dates(values: Numbers) -> Any:
    found = np.where(np.isnan(values), 0, values).astype("datetime64[D]").astype("datetime64[s]")
    return np.where(np.isnan(values), np.datetime64("NaT"), found)


def _modalities(column: pd.Series[Any], visit: Codes, count: int) -> list[tuple[str, ...]]:
    """The different modalities of each visit, sorted."""
    found = cells.coded(column)
    names = sorted(set(found.labels))
    place = {name: at for at, name in enumerate(names)}
    code = found.take([place[name] for name in found.labels], -1, np.int64)
    pairs = np.unique((visit * max(len(names), 1) + code)[code >= 0])
    of_visit, code = np.divmod(pairs, max(len(names), 1))
    ends = np.searchsorted(of_visit, np.arange(count + 1)).tolist()
    listed = [names[at] for at in code.tolist()]
    return [tuple(listed[a:b]) for a, b in pairwise(ends)]


# ---- one of each patient ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Nearest:
    """Which date the chosen one shall be nearest to; see `nearest`."""

    to: Any = field(repr=False)
    within_days: float | None = None
    side: Side = "either"

    @property
    def column(self) -> str | None:
        """The column that the dates are taken from, None where they are given otherwise."""
        return self.to if isinstance(self.to, str) and np.isnan(cells.day(self.to)) else None


def nearest(to: Any, *, within_days: float | None = None, side: Side = "either") -> Nearest:
    """For `per_patient`: the one whose StudyDate is nearest to a date.

    to: a date for all (`datetime.date`, or DA text); a mapping or pandas Series from PatientID, or from
        (PatientID, IssuerOfPatientID), to a date; or the name of a column of dates.
    within_days: no further away than this. side: only on or `before` the date, only on or `after` it.
    Of two at the same distance the earlier is taken. Patients without a date are left out.
    """
    if side not in ("before", "after", "either"):
        raise ValueError("side is 'before', 'after' or 'either'")
    if within_days is not None and not within_days >= 0:
        raise ValueError("within_days is a number of days, 0 or more")
    return Nearest(to, within_days, side)


def per_patient(
    table: pd.DataFrame,
    which: Literal["first", "last"] | Nearest,
    *,
    level: Unit = "study",
    gap_days: float = 0,
) -> Codes:
    """The positions of the rows that are of the first, last or nearest study of their patient, ascending.

    level: all series of that `study` or `visit` (see `visits` for `gap_days`), or one `series`: the first,
        or the last, of the study in reading order.
    A study without a date is taken only as the first and last of a patient who has no other; patients of
    whom nothing is taken are left out.
    """
    if level not in ("series", "study", "visit"):
        raise ValueError("level is 'series', 'study' or 'visit'")
    found = course(table, gap_days)
    patient, day, visit = found.of_rows
    if isinstance(which, Nearest):
        distance = _distance(which, table, day)
        order = np.lexsort((found.study, distance, patient))
        order = order[~np.isnan(distance[order])]
    elif which in ("first", "last"):
        alone = np.bincount(found.patient)[patient] == 1
        order = np.argsort(found.study, kind="stable")
        order = order[(~np.isnan(day) | alone)[order]]
    else:
        raise ValueError("which is 'first', 'last' or nearest(…)")
    ends = _starts(patient[order][::-1])[::-1] if which == "last" else _starts(patient[order])
    chosen = order[ends]
    if level == "series":
        return np.sort(chosen)
    unit = found.study if level == "study" else visit
    return np.flatnonzero(np.isin(unit, unit[chosen]))


def _distance(wanted: Nearest, table: pd.DataFrame, day: Numbers) -> Numbers:
    """Days between each row's study and the date that it shall be near; NaN where it is out of question."""
    after = day - _target(wanted.to, table)
    distance = np.abs(after)
    with np.errstate(invalid="ignore"):
        wrong = after > 0 if wanted.side == "before" else after < 0
        if wanted.side != "either":
            distance = np.where(wrong, np.nan, distance)
        if wanted.within_days is not None:
            distance = np.where(distance <= wanted.within_days, distance, np.nan)
    return distance


def _target(to: Any, table: pd.DataFrame) -> Numbers:
    import pandas as pd

    if isinstance(to, Mapping | pd.Series):
        return _of_patients(dict(to.items()), table)
    if isinstance(to, str) and to in table.columns:
        return cells.days(table[to])
    found = cells.day(to) if isinstance(to, str | datetime.date | np.datetime64) else np.nan
    if np.isnan(found):
        raise QueryError("nearest takes a date, a mapping from PatientID to dates, or a column of the table")
    return np.full(len(table), found)


def _of_patients(dates: dict[Any, Any], table: pd.DataFrame) -> Numbers:
    import pandas as pd

    key = cells.renumbered(cells.patient_key(table))
    _, rows = np.unique(key, return_index=True)
    names = table["PatientID"].iloc[rows].tolist()
    has_issuer = "IssuerOfPatientID" in table.columns
    issuers = table["IssuerOfPatientID"].iloc[rows].tolist() if has_issuer else [None] * len(names)
    given = [dates.get((n, i), dates.get(n)) for n, i in zip(names, issuers, strict=True)]
    return np.array([np.nan if pd.isna(one) else cells.day(one) for one in given])[key]
