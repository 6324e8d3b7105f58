"""What the browser needs of a lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import xarray as xr

    from dicomlake.catalog.facets import Facet
    from dicomlake.catalog.query import Expression
    from dicomlake.catalog.sql import Answer
    from dicomlake.dicom.walk import Readable

Row = dict[str, Any]


class Report(Protocol):
    """What an ingest did."""

    @property
    def entries(self) -> Sequence[Any]:
        """origin, outcome, detail … of each object."""

    @property
    def series(self) -> Sequence[SeriesKey]:
        """Series with new instances."""

    def counts(self) -> dict[str, int]:
        """How many objects had each outcome."""


class Found(Protocol):
    """A series that a UID names."""

    @property
    def key(self) -> SeriesKey:
        """StudyInstanceUID and SeriesInstanceUID."""


class Lake(Protocol):
    """A lake, as the browser reads it; every method may be called from any thread."""

    read_only: bool

    @property
    def stamp(self) -> tuple[str, int]:
        """The identity of the catalog, and its newest change."""

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""

    def sql(self, query: str) -> Answer:
        """The answer to one SELECT on the documented tables."""

    def matching(self, expression: Expression) -> npt.NDArray[np.int64]:
        """Ids of the series that meet an expression."""

    def facets(self, *names: str) -> dict[str, Facet]:
        """Values of columns of `series` with counts."""

    def find(self, uid: str) -> Sequence[Found]:
        """The series that a UID, or its unique beginning, names."""

    def search(self, words: str, *, kinds: Sequence[str], limit: int) -> pd.DataFrame:
        """Reports and documents that hold words."""

    def series_id(self, key: SeriesKey) -> int | None:
        """The id of a series now."""

    def series_rows(self, ids: Sequence[int]) -> list[Row]:
        """The catalog's rows of series, in this order."""

    def instances(self, key: SeriesKey) -> list[Instance]:
        """The stored objects of a series."""

    def series_volumes(self, key: SeriesKey) -> list[Volume]:
        """The volumes of a series."""

    def findings(self) -> list[Finding]:
        """What is known to be wrong with objects."""

    def conflicts(self) -> list[Instance]:
        """Objects beside others with their SOPInstanceUID."""

    def refused(self) -> list[Refused]:
        """What lies in quarantine."""

    def open_volume(self, volume: Volume, *, chunks: Any, level: int) -> xr.Dataset:
        """A built volume."""

    def original(self, instance: Instance) -> bytes:
        """The bytes of an object."""

    def readable(self, instance: Instance) -> Readable:
        """The same, to be read by range."""

    def ingest(self, *sources: Any, workers: int | None, progress: bool | None) -> Report:
        """Take DICOM in."""

    def requery(self, query: dict[str, Any]) -> Any:
        """The cohort of an expression in JSON."""

    def cohort_of(self, keys: Sequence[SeriesKey]) -> Any:
        """The cohort of these series."""


Opener = Callable[[SeriesKey], Any]
"""Makes the widget that shows a series."""


def listed(ids: Sequence[int]) -> str:
    """Whole numbers as a list of SQL; NULL for none, which is equal to nothing."""
    return ", ".join(str(int(i)) for i in ids) or "NULL"


def rows_of(lake: Lake, query: str) -> list[Row]:
    """The rows of a SELECT as dicts."""
    answer = lake.sql(query)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows()]


def facts(rows: Mapping[int, Any], ids: Sequence[int]) -> list[Any]:
    """What is known of each id, in this order; empty lists elsewhere."""
    return [rows.get(i, []) for i in ids]
