"""Volumes and instances of many series at once: a statement for some hundred series, not one for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, RowMapping, Table

from dicomlake.catalog import schema
from dicomlake.catalog.reader import _MANY, _instance, _volume
from dicomlake.catalog.schema import current
from dicomlake.records import Instance, SeriesKey, Volume

_Record = TypeVar("_Record", Instance, Volume)


def volumes_of_many(connection: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[Volume]]:
    """The volumes of each of these series, built or not, by number; an empty list where there is none."""
    return _by_series(connection, keys, schema.volume, "number", _volume)


def instances_of_many(connection: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[Instance]]:
    """The stored objects of each of these series, those in conflict included, in the order of storing."""
    return _by_series(connection, keys, schema.instance, "id", _instance)


def _by_series(
    connection: Connection,
    keys: Sequence[SeriesKey],
    table: Table,
    order: str,
    record: Callable[[RowMapping], _Record],
) -> dict[SeriesKey, list[_Record]]:
    found: dict[SeriesKey, list[_Record]] = {key: [] for key in keys}
    for part in _parts(list(dict.fromkeys(key.series_uid for key in keys))):
        query = current(table).where(table.c.SeriesInstanceUID.in_(part)).order_by(table.c[order])
        for row in connection.execute(query).mappings():
            key = SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"])
            if key in found:  # one SeriesInstanceUID may lie in several studies
                found[key].append(record(row))
    return found


def _parts(uids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(uids), _MANY):
        yield uids[start : start + _MANY]
