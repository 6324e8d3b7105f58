"""What changes the catalog; each function is one step inside the caller's transaction.

A change gets its number first thing in the transaction, under the write lock, so the order of numbers
is the order of commits. NUL is stripped from text: PostgreSQL refuses it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    RowMapping,
    Table,
    and_,
    insert,
    select,
    update,
)

from dicomlake.catalog import instances as rows
from dicomlake.catalog import schema
from dicomlake.catalog.blocks import SeriesHeaders, pack
from dicomlake.catalog.rows import run
from dicomlake.catalog.schema import of_series, row_digest
from dicomlake.dicom.attributes import Attributes
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume

Row = dict[str, Any]
_WIDEST = 2**63
_CHANGE = 'INSERT INTO change ("v", "at", "kind", "digest") VALUES (?, ?, ?, ?)'


def begin_change(connection: Connection, kind: str) -> int:
    """A new change number for the rows of this transaction."""
    v = int(run(connection, "SELECT max(v) FROM change").fetchone()[0] or 0) + 1
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    row = {"v": v, "at": now, "kind": kind}
    run(connection, _CHANGE, (*row.values(), row_digest(row)))
    return v


def _insert(connection: Connection, table: Table, row: Row, returning: str = "") -> CursorResult[Any]:
    """One row, by a statement that is written out: under the write lock, composing one would count."""
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["?" if connection.dialect.name == "sqlite" else "%s"] * len(row))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {returning}"
    return connection.exec_driver_sql(statement, tuple(row.values()))


def _stamped(row: Row, v: int) -> Row:
    stamped = _clean(row) | {"v_from": v, "v_to": None}
    return stamped | {"digest": row_digest(stamped)}


def _clean(row: Row) -> Row:
    return {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in row.items()}


def _add(connection: Connection, table: Table, rows: Sequence[Row], v: int) -> None:
    if rows:
        connection.execute(insert(table), [_stamped(row, v) for row in rows])


def _current(connection: Connection, table: Table, which: ColumnElement[bool]) -> Sequence[RowMapping]:
    return connection.execute(schema.current(table).where(which)).mappings().all()


def _close(connection: Connection, table: Table, v: int, which: ColumnElement[bool]) -> None:
    """Close the current rows that meet a condition."""
    _close_rows(connection, table, v, _current(connection, table, which))


def _close_rows(connection: Connection, table: Table, v: int, rows: Sequence[RowMapping]) -> None:
    for row in rows:
        closed = dict(row) | {"v_to": v}
        change = update(table).where(table.c.id == row["id"])
        connection.execute(change.values(v_to=v, digest=row_digest(closed)))


def add_instances(connection: Connection, v: int, instances: Sequence[Instance]) -> None:
    """Register objects whose originals are durable; their series are yet to settle.

    Where it matters, `instances.drafted` does most of this before the transaction.
    """
    rows.add(connection, v, rows.drafted(instances))


@dataclass(frozen=True, slots=True)
class Settling:
    """What makes a series visible, prepared before the transaction: rows, and the block of all headers."""

    key: SeriesKey
    series: Row
    study: Row
    patient: Row
    block: bytes


def settling(key: SeriesKey, headers: SeriesHeaders, size: int) -> Settling:
    """Prepare a series to become visible.

    headers: of all its instances that are in no conflict. size: bytes of their originals.
    """
    first = _first(headers)
    return Settling(
        key,
        _clean(_series_row(key, first, len(headers), size)),
        _clean(_study_row(key, first)),
        _clean(_patient_row(first)),
        pack(headers),
    )


def _first(headers: SeriesHeaders) -> Attributes:
    """The header of the first instance, without those of the others."""
    group = next(group for group in headers.groups if 0 in group.rows)
    place = group.rows.index(0)
    own = {tag: cells[place] for tag, cells in group.varying.items()}
    return group.attributes(group.constant | {tag: raw for tag, raw in own.items() if raw is not None})


def settle(connection: Connection, v: int, key: SeriesKey, headers: SeriesHeaders, size: int) -> int:
    """`settling` and `make_visible` in one, where no other writer waits for the transaction to end."""
    return make_visible(connection, v, settling(key, headers, size))


def make_visible(connection: Connection, v: int, ready: Settling, *, later: Sequence[str] = ()) -> int:
    """Make a series visible: its row, headers, study and patient; return the row's id.

    later: keys of originals that came too late to be among the headers; their turn is still to come.
    """
    replace_current(connection, schema.study, v, ready.study, ("StudyInstanceUID",))
    replace_current(connection, schema.patient, v, ready.patient, ("PatientID", "IssuerOfPatientID"))
    _close(connection, schema.series, v, of_series(schema.series, ready.key))
    done = _insert(connection, schema.series, _stamped(ready.series, v), "RETURNING id")
    series_id = int(done.scalar_one())
    row = {"series_id": series_id, "block": ready.block}
    _insert(connection, schema.series_header, row | {"digest": row_digest(row)})
    connection.execute(
        update(schema.instance)
        .where(
            of_series(schema.instance, ready.key), schema.is_unsettled, schema.instance.c.key.not_in(later)
        )
        .values(settled=1)
    )
    return series_id


def replace_current(
    connection: Connection, table: Table, v: int, row: Row, identity: tuple[str, ...]
) -> None:
    """Close the current row of the same identity and add this one, unless they say the same."""
    clean = _clean(row)
    which = and_(*(table.c[name] == clean[name] for name in identity))
    current = _current(connection, table, which)
    if any(all(one[name] == value for name, value in clean.items()) for one in current):
        return  # said once is enough, however many series a patient has
    _close_rows(connection, table, v, current)
    _add(connection, table, [clean], v)


def _series_row(key: SeriesKey, first: Attributes, instances: int, size: int) -> Row:
    return {
        "SeriesInstanceUID": key.series_uid,
        "StudyInstanceUID": key.study_uid,
        "IssuerOfPatientID": first.text("IssuerOfPatientID") or "",
        **{name: "\\".join(first.texts(name)) or None for name in schema.TEXT_FACETS},
        **{name: _whole(first, name) for name in schema.WHOLE_FACETS},
        **{name: _number(first, name) for name in schema.NUMBER_FACETS},
        "PatientID": first.text("PatientID") or "",
        "instances": instances,
        "bytes": size,
    }


def _whole(first: Attributes, name: str) -> int | None:
    """The whole number of an element; None when it is not one, or wider than a database's integer."""
    number = first.number(name)
    if number is None or not -_WIDEST <= number < _WIDEST or number != int(number):
        return None
    return int(number)


def _number(first: Attributes, name: str) -> float | None:
    """The number of an element; an AS value, which is text, in years."""
    if name == "PatientAge":
        from dicomlake.dicom.values import number

        return number("AS", first.text(name) or "")
    return first.number(name)


def _study_row(key: SeriesKey, first: Attributes) -> Row:
    names = ("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber")
    return {
        "StudyInstanceUID": key.study_uid,
        "PatientID": first.text("PatientID") or "",
        "IssuerOfPatientID": first.text("IssuerOfPatientID") or "",
        **{name: first.text(name) for name in names},
    }


def _patient_row(first: Attributes) -> Row:
    return {
        "PatientID": first.text("PatientID") or "",
        "IssuerOfPatientID": first.text("IssuerOfPatientID") or "",
        **{name: first.text(name) for name in ("PatientName", "PatientSex", "PatientBirthDate")},
    }


def set_volumes(connection: Connection, v: int, key: SeriesKey, volumes: Iterable[Volume]) -> None:
    """The volumes of a series from now on; the former ones are closed."""
    _close(connection, schema.volume, v, of_series(schema.volume, key))
    _add(connection, schema.volume, [_volume_row(volume) for volume in volumes], v)


def _volume_row(volume: Volume) -> Row:
    return {
        "SeriesInstanceUID": volume.series.series_uid,
        "StudyInstanceUID": volume.series.study_uid,
        "number": volume.number,
        "verdict": volume.verdict,
        "reason": volume.reason,
        "dims": json.dumps(volume.dims),
        "shape": json.dumps(volume.shape),
        "dtype": volume.dtype,
        "affine_lps": None if volume.affine_lps is None else json.dumps(volume.affine_lps),
        "spacing_mm": None if volume.spacing_mm is None else json.dumps(volume.spacing_mm),
        "key": volume.key,
        "store_sha256": volume.store_sha256,
        "info": json.dumps(volume.info, sort_keys=True),
        "version": volume.version,
        "plan_digest": volume.plan_digest,
        **schema.volume_facts(volume.dims, volume.shape, volume.info),
    }


def add_findings(connection: Connection, v: int, findings: Iterable[Finding]) -> None:
    """Record findings; one that is known already is not repeated."""
    fresh: dict[tuple[str, str, str], Row] = {}
    for found in findings:
        known = select(schema.finding.c.id).where(
            schema.finding.c.kind == found.kind,
            schema.finding.c.scope == found.scope,
            schema.finding.c.message == found.message,
            schema.finding.c.v_to.is_(None),
        )
        if connection.execute(known).first() is None:
            fresh[found.kind, found.scope, found.message] = {
                "severity": found.severity,
                "kind": found.kind,
                "scope": found.scope,
                "message": found.message,
            }
    _add(connection, schema.finding, list(fresh.values()), v)


def close_findings(connection: Connection, v: int, scope: str, kinds: Iterable[str]) -> None:
    """Close findings about an object that no longer hold."""
    table = schema.finding
    _close(connection, table, v, and_(table.c.scope == scope, table.c.kind.in_(list(kinds))))


def add_refused(connection: Connection, v: int, refused: Iterable[Refused]) -> None:
    """Record quarantined objects; the same bytes are listed once."""
    rows: dict[str, Row] = {}
    for one in refused:
        known = select(schema.quarantine.c.id).where(schema.quarantine.c.sha256 == one.sha256)
        if connection.execute(known).first() is None:
            rows[one.sha256] = {
                "sha256": one.sha256,
                "size": one.size,
                "reason": one.reason,
                "origin": one.origin,
            }
    _add(connection, schema.quarantine, list(rows.values()), v)
