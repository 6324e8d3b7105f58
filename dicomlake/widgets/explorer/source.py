"""What the explorer needs of a lake and of a cohort, so that it depends on neither."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dicomlake.records import SeriesKey

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.catalog.query import Expression
    from dicomlake.catalog.session import Session

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class CohortLike(Protocol):
    """A cohort, as far as the explorer hands one out or starts from one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def __and__(self, other: Any, /) -> Any: ...

    @property
    def ids(self) -> Ids:
        """Ids of the catalog's rows of its series, ascending."""

    @property
    def sql(self) -> str:
        """A SELECT that gives the same series."""

    def freeze(self, name: str) -> Any:
        """Keep it under a name."""


class Source(Protocol):
    """A lake, as the explorer asks it."""

    def _session(self) -> Session:
        """The tables of its mirror, up to date."""

    @property
    def stamp(self) -> tuple[str, int]:
        """The identity of the catalog and the newest change: when it differs, ids and counts may."""

    def parsed(self, *conditions: str, **wanted: Any) -> Expression:
        """Conditions as one types them. Raises QueryError for what nobody can understand."""

    def matching(self, expression: Expression) -> Ids:
        """Ids of the series that meet an expression, ascending."""

    def requery(self, query: dict[str, Any]) -> CohortLike:
        """The cohort of an expression in JSON types."""

    def cohort_of(self, keys: Sequence[SeriesKey]) -> CohortLike:
        """The cohort of these series."""

    def keys_of(self, ids: Ids) -> list[SeriesKey]:
        """The UIDs of series, in this order."""

    def ordered(self, ids: Ids) -> Ids:
        """The same ids by patient, time, study and SeriesNumber."""

    def series_table(self, ids: Ids, names: Sequence[str]) -> pd.DataFrame:
        """Columns of the catalog's table of series, in this order."""

    def columns(self, ids: Ids, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
        """Values of elements and facts of series, in this order; a tuple where they vary."""
