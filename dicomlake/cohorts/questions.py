"""What a cohort is asked about itself: described, drawn, patient by patient in time, by protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy.typing as npt

from dicomlake.cohorts.telling.following import Pairs
from dicomlake.cohorts.telling.plotting import Plots

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.cohorts.telling.agreement import Tolerance
    from dicomlake.cohorts.telling.cells import Coded, Numbers
    from dicomlake.cohorts.telling.describing import Description
    from dicomlake.cohorts.telling.drift import Drift, Period
    from dicomlake.cohorts.telling.following import Order
    from dicomlake.cohorts.telling.protocols import Protocols
    from dicomlake.cohorts.telling.visits import Nearest, Unit


class Questions(ABC):
    """Questions to a table of series; positions in the answers are those in the cohort."""

    @abstractmethod
    def table(self, *columns: str) -> pd.DataFrame:
        """One row a series, in the order of the cohort."""

    @abstractmethod
    def at(self, positions: npt.ArrayLike) -> Self:
        """The series at these positions, in this order."""

    def describe(self, *columns: str, top: int = 5) -> Description:
        """Counts, and for each column what is missing, the range or the most frequent values.

        columns: elements and facts; the catalog's columns unless given. Identifying values are counted,
        never listed.
        """
        from dicomlake.cohorts.telling import describing

        wanted = (*describing.NEEDED, *columns) if columns else ()
        return describing.describe(self.table(*dict.fromkeys(wanted)), top=top)

    @property
    def plot(self) -> Plots:
        """Pictures: `plot.hist("KVP", by="Manufacturer")`, `.timeline()`, `.bar()`, `.heatmap()` …"""
        return _CohortPlots(self)

    def visits(self, *, gap_days: float = 0) -> pd.DataFrame:
        """One row a patient and visit, in order, with the days since the first visit and the previous one.

        gap_days: studies at most so many days apart are one visit; with 0 a visit is a StudyDate.
        """
        from dicomlake.cohorts.telling import visits

        return visits.visits(self.table(*visits.NEEDED, "Modality"), gap_days=gap_days)

    def per_patient(
        self,
        which: Literal["first", "last"] | Nearest = "first",
        *,
        level: Unit = "study",
        gap_days: float = 0,
    ) -> Self:
        """Of each patient the series of one study: the first, the last, or the nearest to a date.

        which: "first", "last", or `dicomlake.nearest(date, within_days=…)`, whose date may be one for all, a
            mapping by PatientID, or the name of a column, such as "clinical.trial.surgery".
        level: all series of that "study" or "visit" (`gap_days` as in `visits`), or one "series".
        """
        from dicomlake.cohorts.telling import visits

        column = None if isinstance(which, str) else which.column
        names = (*visits.NEEDED, *([column] if column else []))
        return self.at(visits.per_patient(self.table(*names), which, level=level, gap_days=gap_days))

    def followed_by(
        self,
        other: Self,
        *,
        within_days: float,
        at_least_days: float = 0,
        same: str = "patient",
        order: Order = "later",
        date: str = "StudyDate",
    ) -> Followed:
        """Pairs of a series of this cohort and a later one of another, of one patient, so many days apart.

        `ct.followed_by(pet, within_days=30)`. same: "patient", "study", or a column that must agree as well.
        order: the other is "later", "before", or "either". date: the column of dates; on one day the times
            decide.
        """
        from dicomlake.cohorts.telling import following

        names = following.needed(same, date)
        pairs = following.followed_by(
            self.table(*names),
            other.table(*names),
            within_days=within_days,
            at_least_days=at_least_days,
            same=same,
            order=order,
            date=date,
        )
        told = (pairs.table, pairs.undated, pairs.undecided, pairs.told)
        return Followed(*told, first=self.at(pairs.a), second=other.at(pairs.b))

    def protocols(
        self,
        *,
        by: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        tolerance: Tolerance | None = None,
        rare: float = 0.05,
    ) -> Protocols:
        """Series grouped by how they were acquired: the dominant protocol, and what differs from it in what.

        by: the parameters that count; those usual for each modality unless given. rare: the share of series
        below which a protocol is outlying. `.outliers` tells positions, `.members(n)` those of a protocol.
        """
        from dicomlake.cohorts.telling import protocols

        by = [by] if isinstance(by, str) else by
        return protocols.protocols(self.table(*protocols.needed(by)), by=by, tolerance=tolerance, rare=rare)

    def drift(
        self,
        parameter: str,
        *,
        over: str = "StudyDate",
        period: Period = "month",
        at_least: int = 3,
        tolerance: Tolerance | None = None,
    ) -> Drift:
        """When the usual value of a parameter changed on each scanner, and its software."""
        from dicomlake.cohorts.telling import drift

        return drift.drift(
            self.table(*drift.needed(parameter, over)),
            parameter,
            over=over,
            period=period,
            at_least=at_least,
            tolerance=tolerance,
        )


class _CohortPlots(Plots):
    """The same, of any element: columns beyond the usual ones are read when they are drawn."""

    def __init__(self, cohort: Questions) -> None:
        super().__init__(cohort.table())
        self._cohort = cohort

    def _have(self, column: str) -> None:
        if column not in self._table.columns:
            self._table[column] = self._cohort.table(column)[column].to_numpy()

    def _coded(self, column: str) -> Coded:
        self._have(column)
        return super()._coded(column)

    def _numbers(self, column: str) -> tuple[Numbers, str]:
        self._have(column)
        return super()._numbers(column)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Followed(Pairs):
    """Which series of a cohort follow which of another. first, second: those of either that are in a pair."""

    first: Any = None
    second: Any = None
