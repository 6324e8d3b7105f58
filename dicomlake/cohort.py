"""Cohorts: what a query gives, a sequence of series."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

from dicomlake.series import Row, Series, Source, text_of

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.catalog.query import Condition

_SHOWN = ("PatientID", "StudyDate", "Modality", "SeriesDescription", "BodyPartExamined", "instances")
_FEW = 12  # rows that a repr shows


class Cohort:
    """The series that meet some conditions, in the order of the catalog.

    Behaves as a sequence of Series: `len(cohort)`, `cohort[0]`, iteration, slices.
    """

    def __init__(self, source: Source, ids: Sequence[int], conditions: Sequence[Condition] = ()) -> None:
        self._source = source
        self._ids = tuple(ids)
        self.conditions = tuple(conditions)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Series: ...

    @overload
    def __getitem__(self, index: slice) -> Cohort: ...

    def __getitem__(self, index: int | slice) -> Series | Cohort:
        if isinstance(index, slice):
            return Cohort(self._source, self._ids[index], self.conditions)
        return Series(self._source, self._ids[index])

    def __iter__(self) -> Iterator[Series]:
        for start in range(0, len(self._ids), 500):
            for row in self._source.series_rows(self._ids[start : start + 500]):
                yield Series(self._source, row["id"], row)

    def rows(self) -> list[Row]:
        """The catalog's columns of each series."""
        return [series.facts for series in self]

    def table(self) -> pd.DataFrame:
        """One row a series, the catalog's columns."""
        from dicomlake.catalog.schema import SERIES_COLUMNS
        from dicomlake.tables import frame

        return frame(self.rows(), SERIES_COLUMNS)

    def __repr__(self) -> str:
        conditions = ", ".join(map(str, self.conditions)) or "no condition"
        return f"<Cohort of {len(self)} series: {conditions}>"

    def _repr_html_(self) -> str:
        rows = [series.facts for series in self[:_FEW]]
        head = "".join(f"<th>{name}</th>" for name in _SHOWN)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(text_of(row.get(name) or ''))}</td>" for name in _SHOWN)
            + "</tr>"
            for row in rows
        )
        more = f"<p>… and {len(self) - _FEW} more</p>" if len(self) > _FEW else ""
        conditions = html.escape(", ".join(map(str, self.conditions)))
        return (
            f"<div><strong>Cohort of {len(self)} series</strong> <code>{conditions}</code>"
            f"<table><tr>{head}</tr>{body}</table>{more}</div>"
        )
