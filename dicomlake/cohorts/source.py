"""What cohorts need of the lake they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dicomlake.records import SeriesKey, Volume
from dicomlake.series import Source as SeriesSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from dicomlake.catalog.labels import LabelReport
    from dicomlake.catalog.query import Expression
    from dicomlake.catalog.query.explaining import Explanation
    from dicomlake.catalog.targets import Level
    from dicomlake.cohorts.cohort import Cohort
    from dicomlake.cohorts.frozen import FrozenCohort
    from dicomlake.storage.objectstore import Storage

    Ids = npt.NDArray[np.int64]


class Source(SeriesSource, Protocol):
    """A lake, as its cohorts use it. Ids are those of the catalog's rows of series, ascending."""

    @property
    def stamp(self) -> tuple[str, int]:
        """The identity of the catalog, which a rebuild changes and with it all ids; and the newest change."""

    def current(self, ids: Ids) -> Ids:
        """The ids that the same series have now, in this order; without those that are gone."""

    @property
    def change(self) -> int:
        """The number of the newest change."""

    @property
    def storage(self) -> Storage:
        """Where results are kept."""

    def parsed(self, *conditions: str, **wanted: Any) -> Expression:
        """Conditions as `Lake.query` takes them."""

    def matching(self, expression: Expression) -> Ids:
        """The series that meet an expression."""

    def ordered(self, ids: Ids) -> Ids:
        """The same by patient, time, study and SeriesNumber."""

    def keys_of(self, ids: Ids) -> list[SeriesKey]:
        """Their UIDs, in this order."""

    def columns(self, ids: Ids, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
        """Values of elements and facts of these series, in this order; a tuple where they vary."""

    def series_table(self, ids: Ids, names: Sequence[str]) -> pd.DataFrame:
        """Columns of the catalog's table of series, in this order."""

    def instance_columns(
        self, series_id: int, names: Sequence[str]
    ) -> tuple[list[str], dict[str, list[Any]]]:
        """The SOPInstanceUIDs of a series, and values of elements of each."""

    def instances_where(self, series_id: int, expression: Expression) -> list[str]:
        """SOPInstanceUIDs of the instances of a series that meet an expression, each by itself."""

    def explain(self, expression: Expression) -> Explanation:
        """How many series each condition leaves."""

    def sql_of(self, expression: Expression | None, ids: Ids) -> str:
        """The SELECT that gives the same series."""

    def volumes_of(self, keys: Sequence[SeriesKey]) -> Mapping[SeriesKey, Sequence[Volume]]:
        """The volumes of these series."""

    def set_label(
        self,
        targets: Any,
        name: str,
        value: str | float | bool,
        *,
        note: str | None = None,
        who: str | None = None,
        level: Level | None = None,
    ) -> LabelReport:
        """Label many things."""

    def freeze(self, cohort: Cohort, name: str, *, who: str | None = None) -> FrozenCohort:
        """Keep what a cohort is, under a name."""
