"""What peers sent, what they were promised, and what is expected of them; bookkeeping beside the catalog.

These rows are not versioned and not in the mirror. The functions that write are steps inside the caller's
transaction (`catalog.database.write()`), which does not count as a change of the catalog. Whoever writes
them for themselves does so under `catalog.database.shared()`, as a rebuild copies what was there before.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, RowMapping, Table, delete, func, insert, inspect, select, update

from dicomlake.catalog import reader, schema
from dicomlake.catalog.rows import in_parts, run
from dicomlake.catalog.schema import of_series
from dicomlake.errors import CatalogError
from dicomlake.records import Sender, SeriesKey

State = Literal["open", "verified", "reported", "failed"]
Source = Literal["mpps", "commitment", "told"]
Pair = tuple[str, str]  # SOPClassUID, SOPInstanceUID

_MANY = 1000  # rows that a copy holds at once
_MOST_NUMBERS = 1 << 31  # InstanceNumber is an IS: PS3.5 section 6.2


def now() -> str:
    """The time as these rows write it: UTC, ISO 8601, milliseconds; the order of texts is that of times."""
    return stamp(datetime.datetime.now(datetime.UTC))


def stamp(at: datetime.datetime) -> str:
    """A time, with its zone, as these rows write it."""
    return at.astimezone(datetime.UTC).isoformat(timespec="milliseconds")


# ---- arrivals -----------------------------------------------------------------------------------------


class Arrival(NamedTuple):
    """An object that was accepted: stored, already there, or in conflict with another and kept beside it.

    key: of the original that answers for it. size: bytes of the data set. peer: the entry that let it in.
    """

    sop_instance_uid: str
    series_uid: str
    study_uid: str
    key: str
    size: int
    outcome: str
    calling: str
    called: str
    host: str
    association: str
    peer: str
    at: str


_ARRIVAL_COLUMNS = (
    *("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "key", "size", "outcome"),
    *("calling", "called", "host", "association", "peer", "at"),
)
_NAMES = ", ".join(f'"{name}"' for name in _ARRIVAL_COLUMNS)
# written out: under the write lock, composing a statement would count
_INSERT = f"INSERT INTO arrival ({_NAMES}) VALUES ({', '.join('?' * len(_ARRIVAL_COLUMNS))})"
_OF_ARRIVALS = [schema.arrival.c[name] for name in _ARRIVAL_COLUMNS]


def add_arrivals(connection: Connection, rows: Sequence[Arrival]) -> None:
    """Note objects that were accepted, in the transaction in which they are registered."""
    for row in rows:
        run(connection, _INSERT, [_plain(value) if isinstance(value, str) else value for value in row])


def arrivals(
    view: Connection,
    *,
    since: datetime.datetime | str | None = None,
    calling: str | None = None,
    series_uid: str | None = None,
    limit: int | None = None,
) -> list[Arrival]:
    """What was accepted, the newest first. since: a time with its zone, or as `now` writes it."""
    table = schema.arrival
    query = select(*_OF_ARRIVALS).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    if since is not None:
        query = query.where(table.c.at >= (since if isinstance(since, str) else stamp(since)))
    if calling is not None:
        query = query.where(table.c.calling == calling)
    if series_uid is not None:
        query = query.where(table.c.SeriesInstanceUID == series_uid)
    return [Arrival(*row) for row in view.execute(query)]


def bytes_of_peers(view: Connection) -> dict[str, int]:
    """Bytes of the data sets that the lake keeps of each peer; what was there already does not count."""
    table = schema.arrival
    query = select(table.c.peer, func.sum(table.c.size)).where(table.c.outcome != "already")
    return {peer: int(size) for peer, size in view.execute(query.group_by(table.c.peer))}


# ---- storage commitment -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request for storage commitment (PS3.4 annex J), and how far its answer is.

    items: (SOPClassUID, SOPInstanceUID). next_at: when the next attempt is due. result: as was put in.
    """

    id: int
    transaction_uid: str
    sender: Sender
    at: str
    items: tuple[Pair, ...]
    state: State
    attempts: int
    next_at: str
    result: Any = field(default=None)


def add_commitment(
    connection: Connection,
    transaction_uid: str,
    sender: Sender,
    items: Iterable[Pair],
    *,
    next_at: str | None = None,
) -> int:
    """Note a request, to be answered from `next_at` on, by default at once; returns what names it here."""
    at = now()
    row = {
        "TransactionUID": _plain(transaction_uid),
        **{name: _plain(getattr(sender, name)) for name in ("calling", "called", "host", "association")},
        "at": at,
        "items": json.dumps([list(pair) for pair in items]),
        "state": "open",
        "attempts": 0,
        "next_at": next_at or at,
    }
    return int(
        connection.execute(insert(schema.commitment).returning(schema.commitment.c.id), row).scalar_one()
    )


def open_commitments(view: Connection, at: str | None = None) -> list[Commitment]:
    """Those that are to be verified or reported by now, or by a time as `now` writes it; oldest first."""
    table = schema.commitment
    query = select(table).where(table.c.state.in_(("open", "verified")), table.c.next_at <= (at or now()))
    return [_commitment(row) for row in view.execute(query.order_by(table.c.id)).mappings()]


def commitments(
    view: Connection, *, transaction_uid: str | None = None, limit: int | None = None
) -> list[Commitment]:
    """All of them, or those of one transaction, the newest first."""
    table = schema.commitment
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if transaction_uid is not None:
        query = query.where(table.c.TransactionUID == transaction_uid)
    return [_commitment(row) for row in view.execute(query).mappings()]


def update_commitment(
    connection: Connection,
    id: int,
    *,
    state: State | None = None,
    attempts: int | None = None,
    next_at: str | None = None,
    result: Any = None,
) -> None:
    """Change what is given; result: of JSON types. Raises CatalogError when there is no such commitment."""
    given = {"state": state, "attempts": attempts, "next_at": next_at}
    values = {name: value for name, value in given.items() if value is not None}
    if result is not None:
        values["result"] = json.dumps(result)
    if values:
        done = connection.execute(
            update(schema.commitment).where(schema.commitment.c.id == id).values(values)
        )
        if done.rowcount == 0:
            raise CatalogError(f"there is no commitment {id}: it was of a catalog before a rebuild")


def _commitment(row: RowMapping) -> Commitment:
    return Commitment(
        row["id"],
        row["TransactionUID"],
        Sender(row["calling"], row["called"], row["host"], row["association"]),
        row["at"],
        tuple((pair[0], pair[1]) for pair in json.loads(row["items"])),
        row["state"],
        row["attempts"],
        row["next_at"],
        None if row["result"] is None else json.loads(row["result"]),
    )


# ---- what is expected ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expectation:
    """What should have come, and what of it is in the lake.

    study_uid, series_uid: '' where that was not said. count: of instances, None where it was not said.
    received: those of the items, or else all distinct instances of the series, or study.
    missing: the items that are not in the lake.
    """

    study_uid: str
    series_uid: str
    source: Source
    reference: str
    count: int | None
    received: int
    missing: tuple[str, ...]
    at: str

    @property
    def complete(self) -> bool:
        """Whether all that is expected is there; an expectation without a count never is."""
        return self.count is not None and self.received >= self.count and not self.missing


def add_expectation(
    connection: Connection,
    study_uid: str,
    series_uid: str = "",
    *,
    source: Source,
    reference: str = "",
    count: int | None = None,
    items: Iterable[str] | None = None,
) -> None:
    """Note how many instances, or which, a series or study is to have.

    reference: the UID of the MPPS or transaction that says so. What the same source said before of the same
    series under the same reference is replaced.
    """
    table = schema.expectation
    uids = None if items is None else list(dict.fromkeys(map(_plain, items)))
    row = {
        "StudyInstanceUID": _plain(study_uid),
        "SeriesInstanceUID": _plain(series_uid),
        "source": source,
        "reference": _plain(reference),
    }
    connection.execute(delete(table).where(*(table.c[name] == value for name, value in row.items())))
    known = {
        "count": len(uids) if count is None and uids is not None else count,
        "items": None if uids is None else json.dumps(uids),
        "at": now(),
    }
    connection.execute(insert(table).values(row | known))


def expectations(
    view: Connection, *, study_uid: str | None = None, series_uid: str | None = None
) -> list[Expectation]:
    """Expected and received, in the order in which it was told; of one study or series if given."""
    table = schema.expectation
    query = select(table).order_by(table.c.id)
    if study_uid is not None:
        query = query.where(table.c.StudyInstanceUID == study_uid)
    if series_uid is not None:
        query = query.where(table.c.SeriesInstanceUID == series_uid)
    return [_expectation(view, row) for row in view.execute(query).mappings().all()]


def _expectation(view: Connection, row: RowMapping) -> Expectation:
    items = None if row["items"] is None else json.loads(row["items"])
    missing: tuple[str, ...] = ()
    if items is None:
        received = _received(view, row["StudyInstanceUID"], row["SeriesInstanceUID"])
    else:
        present = present_of(view, items)
        missing = tuple(uid for uid in items if uid not in present)
        received = len(present)
    return Expectation(
        row["StudyInstanceUID"],
        row["SeriesInstanceUID"],
        row["source"],
        row["reference"],
        row["count"],
        received,
        missing,
        row["at"],
    )


def present_of(view: Connection, uids: Sequence[str]) -> set[str]:
    """Those of these SOPInstanceUIDs that are in the lake."""
    table = schema.instance
    found: set[str] = set()
    for part in in_parts(uids):
        query = select(table.c.SOPInstanceUID).where(table.c.SOPInstanceUID.in_(part), table.c.v_to.is_(None))
        found.update(view.execute(query).scalars())
    return found


def _received(view: Connection, study_uid: str, series_uid: str) -> int:
    """Distinct instances of a series, or of a study."""
    table = schema.instance
    query = select(func.count(table.c.SOPInstanceUID.distinct())).where(table.c.v_to.is_(None))
    if series_uid and study_uid:
        query = query.where(of_series(table, SeriesKey(study_uid, series_uid)))
    elif series_uid:
        query = query.where(table.c.SeriesInstanceUID == series_uid)
    else:
        query = query.where(table.c.StudyInstanceUID == study_uid)
    return int(view.execute(query).scalar_one())


def missing_numbers(view: Connection, key: SeriesKey) -> list[tuple[int, int]]:
    """Gaps between the InstanceNumbers of a settled series, as (first, last) that are missing.

    What is missing before the lowest or behind the highest number cannot be told this way, and some
    modalities leave gaps. Empty for a series that has not settled.
    """
    series_id = reader.series_id(view, key)
    if series_id is None:
        return []
    values = (header.number("InstanceNumber") for _uid, header in reader.headers_of(view, series_id))
    numbers = sorted({int(value) for value in values if value is not None and abs(value) <= _MOST_NUMBERS})
    return [(before + 1, after - 1) for before, after in pairwise(numbers) if after - before > 1]


# ---- rebuild ------------------------------------------------------------------------------------------


def copy(view: Connection, into: Connection, table: Table) -> None:
    """Copy one of `schema.NETWORK` from a catalog to a fresh one, with the ids that others hold."""
    if not inspect(view).has_table(table.name):  # of before schema 6
        return
    rows = view.execute(select(table).order_by(table.c.id)).mappings()
    while part := [dict(row) for row in islice(rows, _MANY)]:
        into.execute(insert(table), part)
    if into.dialect.name == "postgresql":
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        into.exec_driver_sql(f"SELECT setval({sequence}, max(id)) FROM {table.name} HAVING max(id) > 0")


def _plain(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text
