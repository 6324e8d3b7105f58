"""What changes the catalog; each function is one step inside the caller's transaction.

A change gets its number first thing in the transaction, under the write lock, so the order of numbers
is the order of commits. NUL is stripped from text: PostgreSQL refuses it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, select, update

from dicomlake.catalog import schema
from dicomlake.catalog.blocks import SeriesHeaders, pack
from dicomlake.catalog.schema import head, of_series, row_digest
from dicomlake.dicom.attributes import Attributes
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume

Row = dict[str, Any]


def begin_change(connection: Connection, kind: str) -> int:
    """A new change number for the rows of this transaction."""
    v = head(connection) + 1
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    row = {"v": v, "at": now, "kind": kind}
    connection.execute(insert(schema.change).values(**row, digest=row_digest(row)))
    return v


def _stamped(row: Row, v: int) -> Row:
    clean = {name: _without_nul(value) for name, value in row.items()} | {"v_from": v, "v_to": None}
    return clean | {"digest": row_digest(clean)}


def _without_nul(value: Any) -> Any:
    return value.replace("\0", "") if isinstance(value, str) else value


def _add(connection: Connection, table: Table, rows: Sequence[Row], v: int) -> None:
    if rows:
        connection.execute(insert(table), [_stamped(row, v) for row in rows])


def _close(connection: Connection, table: Table, v: int, which: ColumnElement[bool]) -> None:
    """Close the current rows that meet a condition."""
    for row in connection.execute(schema.current(table).where(which)).mappings().all():
        closed = dict(row) | {"v_to": v}
        change = update(table).where(table.c.id == row["id"])
        connection.execute(change.values(v_to=v, digest=row_digest(closed)))


def add_instances(connection: Connection, v: int, instances: Sequence[Instance]) -> None:
    """Register objects whose originals are durable; their series are yet to settle."""
    _add(connection, schema.instance, [_instance_row(instance) for instance in instances], v)


def _instance_row(instance: Instance) -> Row:
    return {
        "SOPInstanceUID": instance.sop_instance_uid,
        "SOPClassUID": instance.sop_class_uid,
        "SeriesInstanceUID": instance.series.series_uid,
        "StudyInstanceUID": instance.series.study_uid,
        "TransferSyntaxUID": instance.transfer_syntax,
        "key": instance.key,
        "size": instance.size,
        "sha256": instance.sha256,
        "dataset_sha256": instance.dataset_sha256,
        "conflict": int(instance.conflict),
        "settled": 0,
    }


def settle(connection: Connection, v: int, key: SeriesKey, headers: SeriesHeaders, size: int) -> int:
    """Make a series visible, whole: its row, headers, study and patient; return the row's id.

    headers: of all its instances that are in no conflict. size: bytes of their originals.
    """
    first = next(iter(headers))[1]
    replace_current(connection, schema.series, v, _series_row(key, first, len(headers), size), _IN_SERIES)
    replace_current(connection, schema.study, v, _study_row(key, first), ("StudyInstanceUID",))
    replace_current(connection, schema.patient, v, _patient_row(first), ("PatientID", "IssuerOfPatientID"))
    series_id = int(
        connection.execute(select(schema.series.c.id).where(_current(schema.series, key))).scalar_one()
    )
    block = pack(headers)
    row = {"series_id": series_id, "block": block}
    connection.execute(delete(schema.series_header).where(schema.series_header.c.series_id == series_id))
    connection.execute(insert(schema.series_header).values(**row, digest=row_digest(row)))
    connection.execute(
        update(schema.instance)
        .where(of_series(schema.instance, key), schema.instance.c.settled == 0)
        .values(settled=1)
    )
    return series_id


_IN_SERIES = ("StudyInstanceUID", "SeriesInstanceUID")


def _current(table: Table, key: SeriesKey) -> ColumnElement[bool]:
    return and_(of_series(table, key), table.c.v_to.is_(None))


def replace_current(
    connection: Connection, table: Table, v: int, row: Row, identity: tuple[str, ...]
) -> None:
    """Close the current row of the same identity and add this one."""
    clean = {name: _without_nul(value) for name, value in row.items()}
    if table is not schema.series and _is_current(connection, table, clean):
        return  # said once is enough, however many series a patient has
    _close(connection, table, v, and_(*(table.c[name] == clean[name] for name in identity)))
    _add(connection, table, [clean], v)


def _is_current(connection: Connection, table: Table, row: Row) -> bool:
    same = and_(table.c.v_to.is_(None), *(table.c[name].is_not_distinct_from(v) for name, v in row.items()))
    return connection.execute(select(table.c.id).where(same)).first() is not None


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
    """The whole number of an element; None when it is not one."""
    number = first.number(name)
    return int(number) if number is not None and number == int(number) else None


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
