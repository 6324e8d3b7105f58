"""Rows of instances by the hundred: prepared before the transaction, inserted in one statement.

They are most of what an ingest writes. Their digest covers the change number, which is known only inside
the transaction; so all before it is hashed in advance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring as _quoted
from typing import Any

from sqlalchemy import Connection

from dicomlake.catalog import schema
from dicomlake.catalog.rows import run
from dicomlake.records import Instance, SeriesKey

_COLUMNS = (
    "SOPInstanceUID",
    "SOPClassUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "TransferSyntaxUID",
    "key",
    "size",
    "sha256",
    "dataset_sha256",
    "conflict",
    "settled",
    "v_from",
    "digest",
)
_SQL_TYPES = {"size": "bigint", "conflict": "integer", "settled": "integer", "v_from": "bigint"}
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_ONE_BY_ONE = f"INSERT INTO instance ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"
# what PostgreSQL is fastest at: one statement, a column an array
_AS_ARRAYS = (
    f"INSERT INTO instance ({_NAMES}) SELECT * FROM unnest("
    + ", ".join(f"%s::{_SQL_TYPES.get(name, 'text')}[]" for name in _COLUMNS)
    + ")"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A row to be: its values up to `settled`, and the digest of them, to which the change is to be added."""

    values: tuple[Any, ...]
    digest: hashlib.blake2b


def drafted(instances: Sequence[Instance]) -> list[Draft]:
    """What can be done before the transaction in which the rows of these objects are added."""
    return [_draft(instance) for instance in instances]


def _draft(instance: Instance) -> Draft:
    series, conflict = instance.series, int(instance.conflict)
    sop, sop_class = _plain(instance.sop_instance_uid), _plain(instance.sop_class_uid)
    series_uid, study_uid = _plain(series.series_uid), _plain(series.study_uid)
    syntax, key, size = _plain(instance.transfer_syntax), instance.key, instance.size
    sha256, dataset = instance.sha256, instance.dataset_sha256
    # what `row_digest` covers, in the order of names, in which v_from and v_to come last
    begun = (
        f'{{"SOPClassUID":{_quoted(sop_class)},"SOPInstanceUID":{_quoted(sop)},'
        f'"SeriesInstanceUID":{_quoted(series_uid)},"StudyInstanceUID":{_quoted(study_uid)},'
        f'"TransferSyntaxUID":{_quoted(syntax)},"conflict":{conflict},"dataset_sha256":{_quoted(dataset)},'
        f'"key":{_quoted(key)},"sha256":{_quoted(sha256)},"size":{size}'
    )
    return Draft(
        (sop, sop_class, series_uid, study_uid, syntax, key, size, sha256, dataset, conflict),
        hashlib.blake2b(begun.encode("utf-8", "surrogatepass"), digest_size=16),
    )


def _plain(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text


def add(connection: Connection, v: int, drafts: Sequence[Draft]) -> None:
    """Register objects whose originals are durable; their series are yet to settle."""
    if not drafts:
        return
    end = f',"v_from":{v},"v_to":null}}'.encode()
    rows = [(*draft.values, 0, v, _ended(draft.digest, end)) for draft in drafts]
    if len(rows) == 1:
        run(connection, _ONE_BY_ONE, rows[0])
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_ONE_BY_ONE, rows)
    else:
        connection.exec_driver_sql(_AS_ARRAYS, tuple(list(column) for column in zip(*rows, strict=True)))


_KNOWN = (
    'SELECT "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "TransferSyntaxUID", '
    '"key", "size", "sha256", "dataset_sha256", "conflict" FROM instance '
    'WHERE "SOPInstanceUID" = ? AND "v_to" IS NULL ORDER BY "id"'
)


def known(connection: Connection, uids: Sequence[str]) -> dict[str, list[Instance]]:
    """The stored objects of each of a few SOPInstanceUIDs, as fast as can be under the write lock."""
    found: dict[str, list[Instance]] = {}
    for uid in dict.fromkeys(map(_plain, uids)):
        for row in run(connection, _KNOWN, (uid,)).fetchall():
            sop, sop_class, series_uid, study_uid, syntax, key, size, sha256, dataset, conflict = row
            series = SeriesKey(study_uid, series_uid)
            found.setdefault(sop, []).append(
                Instance(sop, sop_class, series, syntax, key, size, sha256, dataset, bool(conflict))
            )
    return found


def _ended(begun: hashlib.blake2b, end: bytes) -> str:
    whole = begun.copy()
    whole.update(end)
    return whole.hexdigest()


assert {*_COLUMNS, "id", "v_to"} == {column.name for column in schema.instance.c}
