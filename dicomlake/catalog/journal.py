"""The journal of what people add: labels, clinical tables, frozen cohorts. None of it is in the originals.

Each such change is a file before it is in the catalog, named `annotations/<number>-<kind>-<hash>.json`:
its place in the order, what it is, and the beginning of the SHA-256 of its bytes. The catalog notes the
number of the last entry that it holds, so a fresh one, or one that a crash left behind, takes in the rest.

Entries are written under the catalog's write lock: their order is the order of the changes.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection, insert, select, update

from dicomlake.catalog import schema, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError, StorageError
from dicomlake.records import Finding

FOLDER = "annotations"
FORMAT = 1
_KEY = re.compile(rf"{FOLDER}/(?P<number>[0-9]{{8}})-(?P<kind>[a-z]+)-(?P<sha>[0-9a-f]{{32}})\.json\Z")
_MARK = "journal"  # the row of `info` that holds the number of the last entry taken in

Payload = dict[str, Any]
Apply = Callable[[Connection, int, Payload], None]


class Files(Protocol):
    """What the journal needs of a lake's storage (`storage.objectstore.Storage`)."""

    def put(self, key: str, data: bytes) -> bool:
        """Store one object, durably."""

    def get(self, key: str) -> bytes:
        """The bytes of an object."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys below a folder, in order."""

    def delete(self, key: str) -> None:
        """Remove an object."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. payload: what it says, in JSON types. damage: why it cannot be trusted, "" when it can."""

    number: int
    kind: str
    key: str
    payload: Payload = field(repr=False)
    damage: str = ""


def login() -> str:
    """Who makes a change when nobody is named: DICOMLAKE_USER, else the login name."""
    with suppress(KeyError, OSError):  # a container may have no name for its user
        return os.environ.get("DICOMLAKE_USER") or getpass.getuser()
    return "unknown"


def now() -> str:
    """The time of a change: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# ---- files -------------------------------------------------------------------------------------------


def write(storage: Files, kind: str, payload: Mapping[str, Any]) -> str:
    """Store the next entry, durably; return its key. Only inside a change of the catalog, see `record`."""
    number = max((number for number, _kind, _key in _listing(storage)), default=0) + 1
    body = {"format": FORMAT, "kind": kind, "payload": payload}
    data = json.dumps(body, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    key = f"{FOLDER}/{number:08d}-{kind}-{hashlib.sha256(data).hexdigest()[:32]}.json"
    if not _KEY.match(key):
        raise ValueError("the kind of an entry is written in lower-case letters")
    storage.put(key, data)
    return key


def read(storage: Files, *, after: int = 0) -> Iterator[Entry]:
    """All entries, or those after a number, in their order; a damaged one has no payload."""
    for number, kind, key in _listing(storage):
        if number > after:
            yield _read(storage, number, kind, key)


def _listing(storage: Files) -> Iterator[tuple[int, str, str]]:
    for key in storage.list(FOLDER):
        if found := _KEY.match(key):
            yield int(found["number"]), found["kind"], key


def _read(storage: Files, number: int, kind: str, key: str) -> Entry:
    try:
        data = storage.get(key)
    except StorageError as error:
        return Entry(number, kind, key, {}, f"cannot be read ({error})")
    if hashlib.sha256(data).hexdigest()[:32] != key[-37:-5]:
        return Entry(number, kind, key, {}, "differs from the SHA-256 in its name")
    try:
        body = json.loads(data)
        newer, payload = body["format"] > FORMAT, body["payload"]
    except (ValueError, KeyError, TypeError):
        return Entry(number, kind, key, {}, "is no entry of a journal")
    return (
        Entry(number, kind, key, {}, "was written by a newer dicomlake")
        if newer
        else Entry(number, kind, key, payload)
    )


# ---- catalog -----------------------------------------------------------------------------------------


def record(catalog: Catalog, storage: Files, kind: str, payload: Mapping[str, Any]) -> int:
    """Make a change that is a file first, then rows; return its number in the catalog.

    payload: in JSON types. What another writer left between the two is taken in before.
    """
    apply = _appliers()[kind]
    while True:
        replay(catalog, storage)
        with suppress(_Behind), catalog.change(kind) as (connection, v):
            if pending(connection, storage):
                raise _Behind
            key = write(storage, kind, payload)
            try:
                apply(connection, v, json.loads(json.dumps(payload)))
                _set_mark(connection, _number(key))
            except BaseException:
                storage.delete(key)
                raise
            return v


class _Behind(Exception):
    """A writer ended between its file and its change: that comes first, as a change of its own."""


def replay(catalog: Catalog, storage: Files) -> int:
    """Take in every entry that the catalog does not hold, in order; return how many there were.

    For a rebuilt catalog, and when a lake is opened for writing. One that cannot be taken in is a finding
    and stops no other.
    """
    with catalog.read() as view:
        waiting = pending(view, storage)
    for key in waiting:
        with catalog.change(_parts(key)["kind"]) as (connection, v):
            _take_in(connection, v, storage, key)
    return len(waiting)


def _take_in(connection: Connection, v: int, storage: Files, key: str) -> None:
    number, kind = _number(key), _parts(key)["kind"]
    if _mark(connection) >= number:
        return  # another process was faster
    entry = _read(storage, number, kind, key)
    apply = _appliers().get(kind)
    trouble = entry.damage or ("" if apply else "is of a kind that only a newer dicomlake knows")
    if apply and not trouble:
        try:
            with connection.begin_nested():
                apply(connection, v, entry.payload)
        except (KeyError, TypeError, ValueError, CatalogError) as error:
            trouble = f"cannot be taken in ({type(error).__name__})"
    if trouble:
        writer.add_findings(connection, v, [_finding(key, trouble)])
    _set_mark(connection, number)


def pending(view: Connection, storage: Files) -> list[str]:
    """The keys of entries that the catalog does not hold."""
    mark = _mark(view)
    return [key for number, _kind, key in _listing(storage) if number > mark]


def check(view: Connection, storage: Files) -> list[Finding]:
    """What is wrong with the journal: entries that are damaged, missing, or not in the catalog."""
    findings: list[Finding] = []
    mark, last = _mark(view), 0
    for entry in read(storage):
        if entry.damage:
            findings.append(_finding(entry.key, entry.damage))
        elif entry.number > mark:
            message = "is not in the catalog: open the lake for writing"
            findings.append(Finding("warning", "uncatalogued", entry.key, message))
        findings += [_missing(number) for number in range(last + 1, entry.number)]
        last = entry.number
    return findings + [_missing(number) for number in range(last + 1, mark + 1)]


def _finding(key: str, trouble: str) -> Finding:
    return Finding("error", "annotation_damaged", key, f"{trouble}: bring it back from a copy and rebuild")


def _missing(number: int) -> Finding:
    message = "the entry of this number is gone: bring it back from a copy"
    return Finding("error", "annotation_missing", f"{FOLDER}/{number:08d}", message)


def _parts(key: str) -> re.Match[str]:
    found = _KEY.match(key)
    assert found is not None  # only such keys are listed
    return found


def _number(key: str) -> int:
    return int(_parts(key)["number"])


def _mark(view: Connection) -> int:
    found = view.execute(select(schema.info.c.value).where(schema.info.c.name == _MARK)).scalar()
    return int(found or 0)


def _set_mark(connection: Connection, number: int) -> None:
    set_info(connection, _MARK, str(number))


def set_info(connection: Connection, name: str, value: str) -> None:
    """Keep a word about the catalog under a name."""
    done = connection.execute(update(schema.info).where(schema.info.c.name == name).values(value=value))
    if done.rowcount == 0:
        connection.execute(insert(schema.info).values(name=name, value=value))


def _appliers() -> Mapping[str, Apply]:
    """What each kind of entry does to the catalog. Imported late: those who write entries import this."""
    from dicomlake.catalog import clinical_rows, labels

    return {"label": labels.apply, "clinical": clinical_rows.apply, "cohort": _keep_cohort}


def _keep_cohort(connection: Connection, v: int, payload: Payload) -> None:
    """Enter a frozen cohort, unless it is there."""
    from dicomlake.catalog import frozen

    row = frozen.FrozenRow.parse(payload)
    if frozen.frozen(connection, row.name) != row:
        frozen.add(connection, v, row)
