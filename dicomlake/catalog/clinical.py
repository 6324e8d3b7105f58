"""Clinical tables are taken in, again, and out: each change is in the journal, then in `clinical_rows`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from dicomlake.catalog import clinical_rows, journal
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.clinical_match import Join, Match, On
from dicomlake.catalog.clinical_source import Column, How, Kind, iso_date, read_table, text_of
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    from dicomlake.catalog.clinical_source import Source

_NAME = re.compile(r"[^\W\d]\w{0,47}\Z")


@dataclass(frozen=True, slots=True)
class ClinicalReport:
    """What became of the rows of a clinical table.

    rows: how many there are. matched: how many belong to a patient or a study of the lake. unmatched,
    ambiguous: numbers, from 1, of the rows that belong to none, or could belong to several. columns: what
    each column holds: number, date, flag or text. change: of the catalog; 0 when nothing differed.
    """

    table: str
    rows: int
    matched: int
    unmatched: tuple[int, ...] = ()
    ambiguous: tuple[int, ...] = ()
    columns: dict[str, Kind] = field(default_factory=dict)
    change: int = 0

    def __str__(self) -> str:
        told = f"{self.table}: {self.matched:,} of {self.rows:,} rows matched"
        for name, numbers in (("unmatched", self.unmatched), ("ambiguous", self.ambiguous)):
            if numbers:
                shown = ", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")
                told += f"; {len(numbers):,} {name}: rows {shown}"
        return told


def import_clinical(
    catalog: Catalog,
    storage: journal.Files,
    table: str,
    source: Source,
    *,
    on: On = "PatientID",
    key: str | None = None,
    date: str | None = None,
    within_days: float | None = None,
    issuer: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    missing: Collection[str] = ("",),
    who: str | None = None,
) -> ClinicalReport:
    """Take in a table, or take it in again: then its rows replace the former ones.

    table: what it is called in the lake. source: a CSV or Parquet file, a data frame, or rows as dicts.
    on: what joins its rows: PatientID, or AccessionNumber to one study. key: the column that holds it,
        unless it is called so.
    date, within_days: a column of dates; each row then belongs to the study of its patient that is nearest
        in time, at most so many days away. Two studies equally near are ambiguous.
    issuer: IssuerOfPatientID, for a lake that has one PatientID from several issuers.
    encoding, delimiter, decimal, missing: of a CSV file, where they are not UTF-8, what the first line
        shows, what the column shows, and the empty text.
    Raises QueryError for a table that cannot be read, or could be read in two ways.
    """
    join = Join(on, key or on, date, within_days, issuer)
    _check(table, join)
    how = How(encoding, delimiter, decimal, frozenset({"", *missing}), frozenset({join.key}))
    columns = _keyed(read_table(source, how), join)
    payload = {
        "table": table,
        "join": join.as_json(),
        "columns": [asdict(column) for column in columns],
        "who": who or journal.login(),
        "at": journal.now(),
    }
    with catalog.read() as view:
        found = clinical_rows.matched(view, join, columns)
        same = clinical_rows.holds(view, payload, found)
    change = 0 if same else journal.record(catalog, storage, "clinical", payload)
    return _report(table, columns, found, change)


def drop_clinical(catalog: Catalog, storage: journal.Files, table: str, *, who: str | None = None) -> int:
    """Take a table out; its cells stay as history. Returns the change. Raises QueryError if there is none."""
    with catalog.read() as view:
        clinical_rows.described(view, table)
    payload = {"table": table, "dropped": True, "who": who or journal.login(), "at": journal.now()}
    return journal.record(catalog, storage, "clinical", payload)


def _check(table: str, join: Join) -> None:
    if not _NAME.match(table):
        raise QueryError("a clinical table's name is 1 to 48 letters, digits and underscores, no digit first")
    if join.on not in ("PatientID", "AccessionNumber"):
        raise QueryError('a clinical table is joined on="PatientID" or on="AccessionNumber"')
    if (join.date is None) != (join.within_days is None) or (join.date and join.on != "PatientID"):
        raise QueryError('date= and within_days= belong together, and to on="PatientID"')


def _keyed(columns: list[Column], join: Join) -> list[Column]:
    """The columns, with the one of dates as ISO text."""
    known = {column.name for column in columns}
    for name in filter(None, (join.key, join.date)):
        if name not in known:
            raise QueryError(f"the table has no column {name}: name the right one with key= or date=")
    return [_dated(column) if column.name == join.date else column for column in columns]


def _dated(column: Column) -> Column:
    texts = [None if cell is None else iso_date(text_of(cell)) for cell in column.cells]
    written = zip(column.cells, texts, strict=True)
    wrong = [n for n, (was, now) in enumerate(written, 1) if was is not None and now is None]
    if wrong:
        raise QueryError(
            f"column {column.name} holds no date in {len(wrong)} rows, the first of them row {wrong[0]}: "
            "write YYYY-MM-DD, YYYYMMDD or D.M.YYYY"
        )
    return Column(column.name, "date", list(texts))


def _report(table: str, columns: list[Column], found: Sequence[Match], change: int) -> ClinicalReport:
    by_outcome: dict[str, list[int]] = {"matched": [], "unmatched": [], "ambiguous": []}
    for number, one in enumerate(found, 1):
        by_outcome[one.outcome].append(number)
    return ClinicalReport(
        table,
        len(found),
        len(by_outcome["matched"]),
        tuple(by_outcome["unmatched"]),
        tuple(by_outcome["ambiguous"]),
        {column.name: column.kind for column in columns},
        change,
    )
