"""What came lately and what is due: counts for a status page, none of which reads every instance."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from dicomlake.catalog import schema
from dicomlake.catalog.rows import in_parts
from dicomlake.records import SeriesKey

_HOUR = len("2026-01-31T23")


def since(hours: float) -> str:
    """The time so many hours ago, as `change.at` spells it."""
    now = datetime.datetime.now(datetime.UTC)
    return (now - datetime.timedelta(hours=hours)).isoformat(timespec="seconds")


def unsettled_counts(connection: Connection) -> dict[SeriesKey, int]:
    """How many acknowledged objects each series holds that it does not show yet."""
    table = schema.instance
    columns = (table.c.StudyInstanceUID, table.c.SeriesInstanceUID)
    query = (
        select(*columns, func.count()).where(schema.is_unsettled, table.c.v_to.is_(None)).group_by(*columns)
    )
    return {SeriesKey(study, series): int(n) for study, series, n in connection.execute(query)}


def received(connection: Connection, keys: Sequence[SeriesKey]) -> list[SeriesKey]:
    """Those of these series of which peers on the network sent anything."""
    table = schema.arrival
    found: set[SeriesKey] = set()
    for part in in_parts([key.series_uid for key in keys]):
        query = select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID).distinct()
        rows = connection.execute(query.where(table.c.SeriesInstanceUID.in_(part)))
        found.update(SeriesKey(*row) for row in rows)
    return [key for key in keys if key in found]


def instances_by_hour(connection: Connection, after: str) -> dict[str, int]:
    """Hour, as 2026-01-31T23, to how many objects were stored in it; after: see `since`."""
    first = _first_change(connection, after)
    table, made = schema.instance, schema.change
    if first is None:
        return {}
    hour = func.substr(made.c.at, 1, _HOUR).label("hour")
    query = (
        select(hour, func.count())
        .select_from(table.join(made, made.c.v == table.c.v_from))
        .where(table.c.v_from >= first)
        .group_by(hour)
        .order_by(hour)
    )
    return {str(name): int(n) for name, n in connection.execute(query)}


def arrivals_by_calling(connection: Connection, after: str) -> dict[str, tuple[str, int]]:
    """Calling AE title to when something came from it last, and how many objects since `after`."""
    table = schema.arrival
    query = (
        select(table.c.calling, func.max(table.c.at), func.count())
        .where(table.c.at >= after)
        .group_by(table.c.calling)
        .order_by(table.c.calling)
    )
    return {calling: (at, int(n)) for calling, at, n in connection.execute(query)}


def open_commitments(connection: Connection) -> int:
    """How many peers wait for the answer to a request for storage commitment."""
    table = schema.commitment
    query = select(func.count()).where(table.c.state.in_(("open", "verified")))
    return int(connection.execute(query).scalar() or 0)


def conflicts_since(connection: Connection, after: str) -> int:
    """How many objects came under a SOPInstanceUID that another object has."""
    table = schema.instance
    return _count(connection, table, after, table.c.conflict == 1)


def refused_since(connection: Connection, after: str) -> int:
    """How many objects went into quarantine."""
    return _count(connection, schema.quarantine, after)


def bytes_of_originals(connection: Connection) -> int:
    """Bytes of all originals of visible series; one row a series is read."""
    total = select(func.sum(schema.series.c.bytes)).where(schema.series.c.v_to.is_(None))
    return int(connection.execute(total).scalar() or 0)


def _count(connection: Connection, table: Any, after: str, *conditions: Any) -> int:
    first = _first_change(connection, after)
    if first is None:
        return 0
    query = select(func.count()).select_from(table)
    query = query.where(table.c.v_from >= first, table.c.v_to.is_(None), *conditions)
    return int(connection.execute(query).scalar() or 0)


def _first_change(connection: Connection, after: str) -> int | None:
    """The first change at or after a time; found by halving, as times follow the numbers."""
    made = schema.change
    low = int(connection.execute(select(func.min(made.c.v))).scalar() or 0)
    high = int(connection.execute(select(func.max(made.c.v))).scalar() or 0)
    if not high or _at(connection, high) < after:
        return None
    while low < high:
        middle = (low + high) // 2
        if _at(connection, middle) < after:
            low = middle + 1
        else:
            high = middle
    return low


def _at(connection: Connection, v: int) -> str:
    """When the first change from `v` on was made; numbers may be missing after a rebuild."""
    made = schema.change
    query = select(made.c.at).where(made.c.v >= v).order_by(made.c.v).limit(1)
    return str(connection.execute(query).scalar() or "")
