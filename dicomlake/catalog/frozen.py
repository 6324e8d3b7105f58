"""Frozen cohorts: what each member was when the cohort was frozen, told by hashes; and what it is now."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import zstandard
from sqlalchemy import Connection, select, tuple_

from dicomlake.catalog import blocks, schema, writer
from dicomlake.catalog.query import from_json
from dicomlake.errors import QueryError
from dicomlake.records import SeriesKey

_AT_ONCE = 250  # series in a statement
_NAME = re.compile(r"\w[\w .-]{0,99}")


class VolumeState(NamedTuple):
    """A volume as it is: its number, version and the hash of its store.

    voxels: over the hashes of its decoded frames; equal where every voxel is, however they are stored. None
        of a volume that was not built, or was built by an early version.
    """

    number: int
    version: int
    store_sha256: str | None
    voxels: str | None


@dataclass(frozen=True, slots=True)
class Member:
    """A series as it is: its objects and its volumes, told by hashes.

    instances: how many objects there are. objects: BLAKE2b-128 over SOPInstanceUID and data set hash of each.
    headers: the same over everything that is catalogued of them, with the number of the format of that.
    """

    key: SeriesKey
    instances: int
    objects: str
    headers: str
    volumes: tuple[VolumeState, ...] = ()

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Member:
        """A member as `as_row` wrote it."""
        return cls(
            SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]),
            int(row["instances"]),
            str(row["objects"]),
            str(row["headers"]),
            tuple(VolumeState(*volume) for volume in row["volumes"]),
        )

    def content(self) -> list[Any]:
        """What it is in any lake: without versions and hashes of stores, which each has anew."""
        voxels = [[volume.number, volume.voxels] for volume in self.volumes if volume.voxels is not None]
        return [*self.key, self.instances, self.objects, self.headers, voxels]

    def as_row(self) -> dict[str, Any]:
        """The same in JSON types."""
        return {
            "StudyInstanceUID": self.key.study_uid,
            "SeriesInstanceUID": self.key.series_uid,
            "instances": self.instances,
            "objects": self.objects,
            "headers": self.headers,
            "volumes": [list(volume) for volume in self.volumes],
        }


@dataclass(frozen=True, slots=True)
class FrozenRow:
    """A frozen cohort as the catalog keeps it.

    query: the conditions as JSON, None when the series were chosen otherwise. change: the newest change of
    the catalog then. program: the version of dicomlake. at: ISO 8601, UTC.
    """

    name: str
    query: dict[str, Any] | None
    members: tuple[Member, ...]
    change: int
    program: str
    who: str
    at: str

    @property
    def digest(self) -> str:
        """SHA-256 over the members: what two cohorts of the same content have in common."""
        rows = [member.content() for member in sorted(self.members, key=lambda one: one.key)]
        text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The whole cohort in JSON types."""
        facts = {name: value for name, value in asdict(self).items() if name != "members"}
        body = facts | {"digest": self.digest, "members": [member.as_row() for member in self.members]}
        return body | {"seal": _seal(body)}

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> FrozenRow:
        """A cohort as `as_json` wrote it. Raises QueryError when it is none, or was changed since."""
        try:
            found = cls(
                str(body["name"]),
                body["query"],
                tuple(Member.parse(row) for row in body["members"]),
                int(body["change"]),
                str(body["program"]),
                str(body["who"]),
                str(body["at"]),
            )
            told = body["seal"]
            if found.query is not None:
                from_json(json.dumps(found.query))
        except (KeyError, TypeError, ValueError) as error:
            raise QueryError(
                "this is no frozen cohort: export one with `dicomlake cohorts export`"
            ) from error
        if _seal({name: value for name, value in body.items() if name != "seal"}) != told:
            raise QueryError(
                f"the frozen cohort {found.name!r} was changed after it was exported: export it again"
            )
        return found


def _seal(body: Mapping[str, Any]) -> str:
    """SHA-256 over all that is said: it tells an edited file, and proves nothing of who wrote it."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def states(view: Connection, ids: Sequence[int]) -> list[Member]:
    """What these series are now, in this order. Raises KeyError for an id that there is not."""
    found: dict[int, Member] = {}
    for start in range(0, len(ids), _AT_ONCE):
        found |= _states(view, ids[start : start + _AT_ONCE])
    return [found[i] for i in ids]


def _states(view: Connection, ids: Sequence[int]) -> dict[int, Member]:
    table = schema.series
    query = select(table.c.id, table.c.StudyInstanceUID, table.c.SeriesInstanceUID).where(table.c.id.in_(ids))
    keys = {int(i): SeriesKey(study, series) for i, study, series in view.execute(query)}
    wanted = list(dict.fromkeys(keys.values()))
    objects, volumes, headers = _objects(view, wanted), _volumes(view, wanted), _headers(view, ids)
    return {
        i: Member(
            key,
            len(objects.get(key, ())),
            _digest(f"{uid} {sha256}" for uid, sha256 in sorted(objects.get(key, ()))),
            headers.get(i, ""),
            tuple(volumes.get(key, ())),
        )
        for i, key in keys.items()
    }


def _objects(view: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[tuple[str, str]]]:
    """SOPInstanceUID and data set hash of every stored object, those in conflict included."""
    table = schema.instance
    columns = (table.c.StudyInstanceUID, table.c.SeriesInstanceUID, table.c.SOPInstanceUID)
    query = select(*columns, table.c.dataset_sha256).where(
        tuple_(table.c.SeriesInstanceUID, table.c.StudyInstanceUID).in_(
            [(k.series_uid, k.study_uid) for k in keys]
        ),
        table.c.v_to.is_(None),
    )
    found: dict[SeriesKey, list[tuple[str, str]]] = {}
    for study, series, uid, sha256 in view.execute(query):
        found.setdefault(SeriesKey(study, series), []).append((uid, sha256))
    return found


def _volumes(view: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[VolumeState]]:
    table = schema.volume
    query = schema.current(table).where(table.c.SeriesInstanceUID.in_([key.series_uid for key in keys]))
    found: dict[SeriesKey, list[VolumeState]] = {}
    for row in view.execute(query.order_by(table.c.number)).mappings():
        voxels = json.loads(row["info"]).get("voxels")
        state = VolumeState(row["number"], row["version"], row["store_sha256"], voxels)
        found.setdefault(SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]), []).append(state)
    return found


def _headers(view: Connection, ids: Sequence[int]) -> dict[int, str]:
    table = schema.series_header
    query = select(table.c.series_id, table.c.block).where(table.c.series_id.in_(ids))
    return {int(i): f"{blocks.FORMAT}-{blocks.content_digest(block)}" for i, block in view.execute(query)}


def _digest(parts: Iterable[str]) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        whole.update(part.encode("utf-8", "surrogatepass") + b"\n")
    return whole.hexdigest()


def current_ids(view: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, int]:
    """The ids of the current rows of those series that the lake holds."""
    table = schema.series
    found: dict[SeriesKey, int] = {}
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        query = select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID, table.c.id).where(
            table.c.SeriesInstanceUID.in_([key.series_uid for key in some]), table.c.v_to.is_(None)
        )
        found |= {SeriesKey(study, series): int(i) for study, series, i in view.execute(query)}
    return {key: found[key] for key in keys if key in found}


# ---- the table ---------------------------------------------------------------------------------------


def row_of(cohort: FrozenRow) -> dict[str, Any]:
    """The columns of the table for a cohort."""
    members = json.dumps([member.as_row() for member in cohort.members], separators=(",", ":"))
    return {
        "name": cohort.name,
        "query": json.dumps(cohort.query, sort_keys=True),
        "series": len(cohort.members),
        "members": zstandard.ZstdCompressor(level=3).compress(members.encode("utf-8", "surrogatepass")),
        "change": cohort.change,
        "program": cohort.program,
        "who": cohort.who,
        "at": cohort.at,
    }


def frozen(view: Connection, name: str) -> FrozenRow | None:
    """The frozen cohort of a name, or None."""
    row = view.execute(schema.current(schema.cohort).where(schema.cohort.c.name == name)).mappings().first()
    if row is None:
        return None
    members = json.loads(zstandard.ZstdDecompressor().decompress(row["members"]))
    return FrozenRow(
        row["name"],
        json.loads(row["query"]),
        tuple(Member.parse(member) for member in members),
        row["change"],
        row["program"],
        row["who"],
        row["at"],
    )


LISTED = ("name", "series", "at", "who", "change", "program")


def listing(view: Connection) -> Iterator[dict[str, Any]]:
    """One row a frozen cohort, the oldest first, without its members."""
    table = schema.cohort
    query = schema.current(table).order_by(table.c.id).with_only_columns(*(table.c[name] for name in LISTED))
    for row in view.execute(query).mappings():
        yield dict(row)


def add(connection: Connection, v: int, cohort: FrozenRow) -> None:
    """Enter a frozen cohort. Raises QueryError when the name is taken: what is frozen never changes."""
    if not _NAME.fullmatch(cohort.name):
        raise QueryError("a cohort's name is 1 to 100 letters, digits, blanks, dots, hyphens or underscores")
    taken = frozen(connection, cohort.name)
    if taken is not None:
        raise QueryError(
            f"there is a frozen cohort {cohort.name!r} already, and it never changes: take another name"
        )
    writer.replace_current(connection, schema.cohort, v, row_of(cohort), ("name",))
