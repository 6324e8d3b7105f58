"""Series and cohorts: what a query gives, and how it opens."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload

from dicomlake.errors import VolumeError
from dicomlake.records import Finding, Instance, SeriesKey, Volume

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from dicomlake.catalog.blocks import SeriesHeaders
    from dicomlake.catalog.query import Condition

Row = dict[str, Any]
_SHOWN = ("PatientID", "StudyDate", "Modality", "SeriesDescription", "BodyPartExamined", "instances")
_FEW = 12  # rows that a repr shows


class Source(Protocol):
    """What a series needs of its lake."""

    def series_row(self, series_id: int) -> Row:
        """The catalog's row of a series."""

    def series_rows(self, ids: Sequence[int]) -> list[Row]:
        """The rows of several, in this order."""

    def headers(self, series_id: int) -> SeriesHeaders:
        """The full headers of a series."""

    def instances(self, key: SeriesKey) -> list[Instance]:
        """Its stored objects."""

    def series_volumes(self, key: SeriesKey) -> list[Volume]:
        """Its volumes, built or not."""

    def series_findings(self, key: SeriesKey) -> list[Finding]:
        """What is known to be wrong with it or with its objects."""

    def open_volume(self, volume: Volume, *, chunks: Any, level: int) -> xr.Dataset:
        """A built volume as lazy xarray."""


class Series:
    """One series of a lake."""

    def __init__(self, source: Source, series_id: int, row: Row | None = None) -> None:
        self._source = source
        self._id = series_id
        self._row = row

    @property
    def facts(self) -> Row:
        """The catalog's columns of the series, by PS3.6 keyword."""
        if self._row is None:
            self._row = self._source.series_row(self._id)
        return {k: v for k, v in self._row.items() if k not in ("id", "v_from", "v_to", "digest")}

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.facts["SeriesInstanceUID"])

    @property
    def key(self) -> SeriesKey:
        """StudyInstanceUID and SeriesInstanceUID."""
        return SeriesKey(str(self.facts["StudyInstanceUID"]), self.uid)

    @property
    def volumes(self) -> list[Volume]:
        """What its frames form: a record for each volume, with its verdict."""
        return self._source.series_volumes(self.key)

    @property
    def instances(self) -> list[Instance]:
        """Its stored objects."""
        return self._source.instances(self.key)

    @property
    def findings(self) -> list[Finding]:
        """What is known to be wrong with it."""
        return self._source.series_findings(self.key)

    def header(self, sop_instance_uid: str | None = None) -> dict[str, tuple[str, ...]]:
        """Every element of one instance, the first unless named: path -> values as text.

        Elements of sequence items are named `Sequence.Keyword`; values of several items follow each other.
        """
        from dicomlake.catalog.attributes import listing

        headers = self._source.headers(self._id)
        attributes = next(iter(headers))[1] if sop_instance_uid is None else headers.of(sop_instance_uid)
        return listing(attributes)

    def open(self, *, chunks: Any = "auto", level: int = 0) -> Any:
        """The series as lazy xarray: a Dataset with `image` (z, y, x[, rgb]), a DataTree of several volumes.

        chunks: "auto" makes one Dask chunk of each shard, None opens without Dask.
        level: 1, 2 … open the halved copies for a quick look.
        Raises VolumeError when no volume is built; it says which verdict kept it from being built.
        """
        volumes = self.volumes
        built = [volume for volume in volumes if volume.key is not None]
        if not built:
            raise VolumeError(_why_not_built(self.uid, volumes))
        datasets = [self._source.open_volume(volume, chunks=chunks, level=level) for volume in built]
        if len(datasets) == 1:
            return datasets[0]
        import xarray as xr

        return xr.DataTree.from_dict({f"vol{v.number}": ds for v, ds in zip(built, datasets, strict=True)})

    def __repr__(self) -> str:
        return f"<Series {self.uid}: {_summary(self.facts)}>"

    def _repr_html_(self) -> str:
        shown = {name: value for name, value in self.facts.items() if value is not None}
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(_text(value))}</td></tr>"
            for name, value in shown.items()
        )
        volumes = "".join(
            f"<li>volume {v.number}: {html.escape(v.verdict)}, {' × '.join(map(str, v.shape))}"
            f"{'' if v.key else ' — not built: ' + html.escape(v.reason)}</li>"
            for v in self.volumes
        )
        return (
            f"<div><strong>Series</strong> {html.escape(_summary(self.facts))}<ul>{volumes}</ul>"
            f"<details><summary>Facts</summary><table>{rows}</table></details></div>"
        )


def _why_not_built(uid: str, volumes: Sequence[Volume]) -> str:
    if not volumes:
        return f"series {uid} has no volume: it holds no image, or run `dicomlake rebuild --volumes`"
    reasons = "; ".join(f"volume {v.number} is {v.verdict}: {v.reason}" for v in volumes[:3])
    return f"series {uid} has no built volume ({reasons}). Its originals are untouched: see series.instances"


def _summary(facts: Row) -> str:
    """What a series is, without anything that names the patient."""
    rows, columns = facts.get("Rows"), facts.get("Columns")
    size = f"{columns:g} × {rows:g}" if rows and columns else ""
    parts = (facts.get("Modality"), facts.get("BodyPartExamined"), size, f"{facts['instances']} instances")
    return ", ".join(str(part) for part in parts if part)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


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
            + "".join(f"<td>{html.escape(_text(row.get(name) or ''))}</td>" for name in _SHOWN)
            + "</tr>"
            for row in rows
        )
        more = f"<p>… and {len(self) - _FEW} more</p>" if len(self) > _FEW else ""
        conditions = html.escape(", ".join(map(str, self.conditions)))
        return (
            f"<div><strong>Cohort of {len(self)} series</strong> <code>{conditions}</code>"
            f"<table><tr>{head}</tr>{body}</table>{more}</div>"
        )
