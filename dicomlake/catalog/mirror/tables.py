"""The tables of the mirror: their columns in DuckDB, and rows a stretch of changes made or closed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select
from sqlalchemy import Table as CatalogTable

from dicomlake.catalog import attributes, reader, schema
from dicomlake.catalog.blocks import unpack

Row = dict[str, Any]
Stretch = tuple[int, int]
"""Changes after the first, up to the second."""

_AT_ONCE = 500  # series, or bound parameters in a statement


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the mirror.

    columns: of its parts, with their types in DuckDB. order: how a part is sorted. key: the column that
    closed rows are told by, an id of the catalog. with_series: its rows also vanish when their `series_id` is
    closed.
    rows: those that a stretch of changes made and that are in force, in batches of some thousand.
    closed: keys of those that were in force before the stretch and no longer are after it.
    view: what is shown of `{rows}`, as SQL. needs: tables that the view reads.
    """

    name: str
    columns: dict[str, str]
    order: str
    rows: Callable[[Connection, Stretch], Iterator[list[Row]]]
    closed: Callable[[Connection, Stretch], Sequence[int]]
    key: str = "row_id"
    with_series: bool = False
    view: str = "SELECT * EXCLUDE (row_id) FROM {rows}"
    needs: tuple[str, ...] = ()

    @property
    def listed(self) -> str:
        """The columns in SQL; `at` is a word of it."""
        return ", ".join(f'"{name}"' for name in self.columns)


def _types(table: CatalogTable, names: Sequence[str]) -> dict[str, str]:
    """Columns of a catalog's table with their types in DuckDB."""
    sql = {int: "BIGINT", float: "DOUBLE", bytes: "BLOB"}
    return {name: sql.get(table.c[name].type.python_type, "VARCHAR") for name in names}


def _closed_in(table: CatalogTable) -> Callable[[Connection, Stretch], Sequence[int]]:
    def closed(view: Connection, stretch: Stretch) -> Sequence[int]:
        since, until = stretch
        if not since:
            return ()
        query = select(table.c.id).where(table.c.v_to > since, table.c.v_to <= until, table.c.v_from <= since)
        return [int(i) for (i,) in view.execute(query)]

    return closed


def _in_force(query: Select[Any], table: CatalogTable, stretch: Stretch) -> Select[Any]:
    """The rows that a stretch of changes made and that are in force today."""
    return query.where(table.c.v_to.is_(None), table.c.v_from > stretch[0], table.c.v_from <= stretch[1])


def _batches(view: Connection, query: Select[Any]) -> Iterator[list[Row]]:
    found = view.execution_options(yield_per=_PART_ROWS).execute(query).mappings()
    for some in found.partitions(_PART_ROWS):
        yield [dict(row) for row in some]


_PART_ROWS = 50_000
_SERIES_A_PART = 1000  # bounds the memory of a refresh
_SERIES_A_STRETCH = 5000
_FEW_CHANGES = 100  # are not looked at one by one

# ---- series and their elements


def _series_ids(view: Connection, stretch: Stretch) -> list[int]:
    table = schema.series
    query = _in_force(select(table.c.id), table, stretch).order_by(table.c.id)
    return [int(i) for (i,) in view.execute(query)]


def _in_parts(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _series_rows(view: Connection, stretch: Stretch) -> Iterator[list[Row]]:
    for ids in _in_parts(_series_ids(view, stretch), 10 * _SERIES_A_PART):
        rows = reader.series_rows(view, ids)
        yield [
            {"series_id": row["id"], **{name: row[name] for name in schema.SERIES_COLUMNS}} for row in rows
        ]


def _attribute_rows(view: Connection, stretch: Stretch) -> Iterator[list[Row]]:
    for ids in _in_parts(_series_ids(view, stretch), _SERIES_A_PART):
        yield [
            {"series_id": series_id, **row._asdict()}
            for series_id, block in _blocks(view, ids)
            for row in attributes.rows(unpack(block))
        ]


def _blocks(view: Connection, ids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    table = schema.series_header
    for some in _in_parts(ids, _AT_ONCE):
        query = select(table.c.series_id, table.c.block).where(table.c.series_id.in_(some))
        for row in view.execute(query.order_by(table.c.series_id)):
            yield int(row.series_id), row.block


_ATTRIBUTE_TYPES = {
    "instances": "BIGINT",
    "low": "DOUBLE",
    "high": "DOUBLE",
    "vm_low": "BIGINT",
    "vm_high": "BIGINT",
}

_SERIES = Table(
    "series",
    {"series_id": "BIGINT", **_types(schema.series, schema.SERIES_COLUMNS)},
    "series_id",
    _series_rows,
    _closed_in(schema.series),
    key="series_id",
    view="SELECT * FROM {rows}",
)
_ATTRIBUTES = Table(
    "attributes",
    {
        "series_id": "BIGINT",
        **{name: _ATTRIBUTE_TYPES.get(name, "VARCHAR") for name in attributes.AttributeRow._fields},
    },
    "path, series_id",
    _attribute_rows,
    _closed_in(schema.series),
    key="series_id",
    view="SELECT * FROM {rows}",
)

# ---- what belongs to a series: rows of the catalog with the id of the series they are of today


def _of_series(table: CatalogTable, names: Sequence[str]) -> Table:
    """A table whose rows name their series by UIDs; a series with a new id takes its rows along."""
    series = schema.series
    same = (series.c.SeriesInstanceUID == table.c.SeriesInstanceUID) & (
        series.c.StudyInstanceUID == table.c.StudyInstanceUID
    )
    columns = [table.c.id.label("row_id"), series.c.id.label("series_id"), *(table.c[name] for name in names)]
    joined = select(*columns).join_from(table, series, same).where(series.c.v_to.is_(None))
    if table is schema.instance:
        joined = joined.where(table.c.settled != 0)

    def rows(view: Connection, stretch: Stretch) -> Iterator[list[Row]]:
        known = joined.where(series.c.v_from <= stretch[1])  # the others come with their series, later
        yield from _batches(view, _in_force(known, table, stretch).order_by(table.c.id))
        if not stretch[0]:
            return
        uids = [
            uid for (uid,) in view.execute(_in_force(select(series.c.SeriesInstanceUID), series, stretch))
        ]
        older = joined.where(table.c.v_to.is_(None), table.c.v_from <= stretch[0])
        older = older.where(series.c.v_from > stretch[0], series.c.v_from <= stretch[1])
        for start in range(0, len(uids), _AT_ONCE):
            some = older.where(table.c.SeriesInstanceUID.in_(uids[start : start + _AT_ONCE]))
            yield from _batches(view, some.order_by(table.c.id))

    return Table(
        f"{table.name}s",
        {"row_id": "BIGINT", "series_id": "BIGINT", **_types(table, names)},
        "series_id, row_id",
        rows,
        _closed_in(table),
        with_series=True,
    )


# ---- rows of the catalog as they are


def _as_it_is(name: str, table: CatalogTable, names: Sequence[str], view: str = "") -> Table:
    columns = [table.c.id.label("row_id"), *(table.c[column] for column in names)]

    def rows(view: Connection, stretch: Stretch) -> Iterator[list[Row]]:
        yield from _batches(view, _in_force(select(*columns), table, stretch).order_by(table.c.id))

    types = {"row_id": "BIGINT", **_types(table, names)}
    if not view:
        return Table(name, types, "row_id", rows, _closed_in(table))
    return Table(name, types, "row_id", rows, _closed_in(table), view=view, needs=("series",))


def _names(table: CatalogTable, *hidden: str) -> list[str]:
    return [c.name for c in table.c if c.name not in (*hidden, "id", "v_from", "v_to", "digest", "settled")]


_STUDIES = """SELECT r.* EXCLUDE (row_id), s.Modalities, s.series, s.instances
    FROM {rows} r JOIN (SELECT StudyInstanceUID, list_sort(list(DISTINCT Modality)) AS Modalities,
        count(*) AS series, sum(instances)::BIGINT AS instances FROM series GROUP BY ALL) s
    USING (StudyInstanceUID)"""
_PATIENTS = """SELECT r.* EXCLUDE (row_id), s.studies, s.series, s.instances
    FROM {rows} r JOIN (SELECT PatientID, IssuerOfPatientID, count(DISTINCT StudyInstanceUID) AS studies,
        count(*) AS series, sum(instances)::BIGINT AS instances FROM series GROUP BY ALL) s
    USING (PatientID, IssuerOfPatientID)"""

_ALL = (
    _SERIES,
    _ATTRIBUTES,
    _of_series(schema.volume, schema.VOLUME_COLUMNS),
    _of_series(schema.instance, _names(schema.instance)),
    _as_it_is("patients", schema.patient, _names(schema.patient), _PATIENTS),
    _as_it_is("studies", schema.study, _names(schema.study), _STUDIES),
    _as_it_is("findings", schema.finding, _names(schema.finding)),
    _as_it_is("labels", schema.label, _names(schema.label)),
    _as_it_is("clinical", schema.clinical, _names(schema.clinical)),
    _as_it_is("documents", schema.document, _names(schema.document)),
    _as_it_is("cohorts", schema.cohort, ("name", "series", "at", "who", "change", "program")),
)
TABLES = {table.name: table for table in _ALL}
ALWAYS = ("series", "attributes")
"""Tables that are brought up to date whatever is asked; the others when a query names them."""


OLDER = {"attribute": "attributes", "volume": "volumes", "study": "studies", "patient": "patients"}
"""Singular names that some tables had before; queries may still use them."""


def with_needs(names: Collection[str]) -> list[str]:
    """The names, each after those that its view reads."""
    wanted = {need for name in names for need in TABLES[name].needs} | set(names)
    return [name for name in TABLES if name in wanted]


def named_in(sql: str) -> set[str]:
    """The tables that a statement may read: those whose names are words of it."""
    words = set(re.findall(r"\w+", sql.lower()))
    found = {name for name in TABLES if name in words} | {OLDER[name] for name in OLDER.keys() & words}
    return set(with_needs(found))


def closed_series(view: Connection, stretch: Stretch) -> Sequence[int]:
    """Ids of series that were in force before a stretch of changes and no longer are after it."""
    return _SERIES.closed(view, stretch)


def next_stop(view: Connection, since: int, head: int) -> int:
    """The change up to which there are some thousand series: what is made until there, a crash leaves."""
    if head - since <= _FEW_CHANGES:
        return head
    table = schema.series
    query = select(table.c.v_from).where(table.c.v_to.is_(None), table.c.v_from > since)
    stop = view.execute(query.order_by(table.c.v_from).offset(_SERIES_A_STRETCH).limit(1)).scalar()
    return head if stop is None else min(int(stop), head)


def newest(view: Connection) -> RowMapping:
    """The identity of the catalog and its newest `change`, in one statement."""
    return view.execute(_NEWEST).mappings().one()


_NEWEST = select(
    select(schema.change.c.v).order_by(schema.change.c.v.desc()).limit(1).scalar_subquery().label("change"),
    select(schema.info.c.value).where(schema.info.c.name == "identity").scalar_subquery().label("catalog"),
)
