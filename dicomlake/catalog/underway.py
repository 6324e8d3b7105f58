"""What came over the network lately, series by series, and what went wrong with it: for who watches arrivals.

Every function reads a bounded number of rows, as it is asked again and again.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from dicomlake.catalog import schema
from dicomlake.catalog.rows import in_parts
from dicomlake.records import SeriesKey

_MANY = 500  # rows of one kind of failure


class Came(NamedTuple):
    """When the first and the last object of a series came, and the AE title that sent the last."""

    first: str
    last: str
    calling: str


class Failure(NamedTuple):
    """Something that a person should look at.

    id: stable, and of its kind alone. kind: as in `listening.events.KINDS`. series: None where it is of none.
    calling: AE title, '' where nobody sent it. reason: free of identifying values.
    """

    id: str
    at: str
    kind: str
    series: SeriesKey | None
    calling: str
    reason: str


class Named(NamedTuple):
    """What the catalog calls a study. Identifying."""

    PatientID: str
    StudyDescription: str


def minutes_ago(minutes: float) -> str:
    """A time as `arrival.at` spells it."""
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
    return at.isoformat(timespec="milliseconds")


def came_lately(view: Connection, after: str, limit: int) -> list[SeriesKey]:
    """The series of the newest `limit` objects that came after a time, the newest first."""
    table = schema.arrival
    query = select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID).where(table.c.at >= after)
    newest = query.order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    return list(dict.fromkeys(SeriesKey(*row) for row in view.execute(newest)))


def came(view: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, Came]:
    """When these series came, those that came over the network."""
    table = schema.arrival
    columns = (table.c.StudyInstanceUID, table.c.SeriesInstanceUID)
    found: dict[SeriesKey, Came] = {}
    for part in in_parts([key.series_uid for key in keys]):
        query = select(*columns, func.min(table.c.at), func.max(table.c.at), func.max(table.c.calling))
        for study, series, *rest in view.execute(
            query.where(table.c.SeriesInstanceUID.in_(part)).group_by(*columns)
        ):
            found[SeriesKey(study, series)] = Came(*rest)
    return {key: found[key] for key in keys if key in found}


class Held(NamedTuple):
    """How many distinct instances a series has, and the class of one of them."""

    instances: int
    sop_class_uid: str


def held(view: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, Held]:
    """What the lake holds of these series, visible or not."""
    table = schema.instance
    columns = (table.c.StudyInstanceUID, table.c.SeriesInstanceUID)
    found: dict[SeriesKey, Held] = {}
    for part in in_parts([key.series_uid for key in keys]):
        query = select(
            *columns, func.count(table.c.SOPInstanceUID.distinct()), func.min(table.c.SOPClassUID)
        ).where(table.c.SeriesInstanceUID.in_(part), table.c.v_to.is_(None))
        for study, series, number, sop_class in view.execute(query.group_by(*columns)):
            found[SeriesKey(study, series)] = Held(int(number), str(sop_class))
    return {key: found[key] for key in keys if key in found}


def modalities(view: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, str]:
    """The Modality of those of these series that are visible."""
    table = schema.series
    found: dict[SeriesKey, str] = {}
    for part in in_parts([key.series_uid for key in keys]):
        query = select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID, table.c.Modality)
        query = query.where(table.c.SeriesInstanceUID.in_(part), table.c.v_to.is_(None))
        for study, series, modality in view.execute(query):
            found[SeriesKey(study, series)] = modality or ""
    return {key: found[key] for key in keys if key in found}


def without_volumes(view: Connection, keys: Sequence[SeriesKey]) -> set[SeriesKey]:
    """Those of these series that are visible and whose volumes were not looked for since they changed."""
    wanted = set(keys)
    shown, built = (_newest_of(view, table, keys) for table in (schema.series, schema.volume))
    return {key for key, v in shown.items() if key in wanted and built.get(key, 0) <= v}


def _newest_of(view: Connection, table: Any, keys: Sequence[SeriesKey]) -> dict[SeriesKey, int]:
    """The newest change that made a row of each series which is in force."""
    columns = (table.c.StudyInstanceUID, table.c.SeriesInstanceUID)
    found: dict[SeriesKey, int] = {}
    for part in in_parts([key.series_uid for key in keys]):
        query = select(*columns, func.max(table.c.v_from)).where(table.c.SeriesInstanceUID.in_(part))
        for study, series, v in view.execute(query.where(table.c.v_to.is_(None)).group_by(*columns)):
            found[SeriesKey(study, series)] = int(v)
    return found


def names_of_studies(view: Connection, study_uids: Sequence[str]) -> dict[str, Named]:
    """What those of these studies are called of which anything is visible. Identifying."""
    table = schema.study
    found: dict[str, Named] = {}
    for part in in_parts(study_uids):
        query = select(table.c.StudyInstanceUID, table.c.PatientID, table.c.StudyDescription)
        query = query.where(table.c.StudyInstanceUID.in_(part), table.c.v_to.is_(None))
        for uid, patient, description in view.execute(query.order_by(table.c.id)):
            found[uid] = Named(patient or "", description or "")
    return found


def log(view: Connection, after: str, limit: int) -> list[dict[str, Any]]:
    """The newest `limit` objects that came after a time, those of one series, sender and outcome as one row.

    id: of the group. at: of its newest. kind, association, calling, series, count. The oldest first.
    """
    table = schema.arrival
    columns = (
        *(table.c.association, table.c.StudyInstanceUID, table.c.SeriesInstanceUID, table.c.outcome),
        *(table.c.calling, table.c.at),
    )
    newest = select(*columns).where(table.c.at >= after)
    newest = newest.order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for association, study, series, outcome, calling, at in view.execute(newest):
        group = (association, series, outcome)
        row = {"id": " ".join(group), "at": at, "kind": outcome, "calling": calling, "count": 0}
        kept = found.setdefault(group, row | {"series": SeriesKey(study, series)})
        kept["count"] += 1
    return list(found.values())[::-1]


# ---- what went wrong ----------------------------------------------------------------------------------

_ABOUT_SERIES = ("settle_failed", "volume_failed")


def failures(view: Connection, after: str) -> list[Failure]:
    """What was refused, came in conflict, could not be settled or built, was promised in vain; since a time.

    after: as `lately.since` gives it. The oldest first.
    """
    found = [
        *_refused(view, after),
        *_conflicts(view, after),
        *series_failures(view),
        *_commitments(view, after),
    ]
    return sorted(found, key=lambda one: one.at)


def _refused(view: Connection, after: str) -> list[Failure]:
    table, made = schema.quarantine, schema.change
    query = select(table.c.sha256, table.c.reason, made.c.at)
    query = query.select_from(table.join(made, made.c.v == table.c.v_from))
    query = query.where(table.c.v_to.is_(None), made.c.at >= after).order_by(table.c.id.desc()).limit(_MANY)
    return [
        Failure(f"refused {sha256}", at, "object_refused", None, "", reason)
        for sha256, reason, at in view.execute(query)
    ]


def _conflicts(view: Connection, after: str) -> list[Failure]:
    table, made = schema.instance, schema.change
    columns = (table.c.StudyInstanceUID, table.c.SeriesInstanceUID)
    query = select(*columns, func.count(), func.max(made.c.at))
    query = query.select_from(table.join(made, made.c.v == table.c.v_from))
    query = query.where(table.c.conflict == 1, table.c.v_to.is_(None), made.c.at >= after)
    return [
        Failure(f"conflict {series}", at, "conflict", SeriesKey(study, series), "", _came_again(int(number)))
        for study, series, number, at in view.execute(query.group_by(*columns).limit(_MANY))
    ]


def _came_again(number: int) -> str:
    return f"{number} object{'s' * (number != 1)} came under a UID that another has; all are kept"


def series_failures(view: Connection) -> list[Failure]:
    """Series that could not be made visible, or whose volumes could not be built, as of now."""
    table, made, of = schema.finding, schema.change, schema.instance
    query = select(table.c.kind, table.c.scope, table.c.message, made.c.at)
    query = query.select_from(table.join(made, made.c.v == table.c.v_from))
    query = query.where(table.c.kind.in_(_ABOUT_SERIES), table.c.v_to.is_(None))
    rows = view.execute(query.order_by(table.c.id.desc()).limit(_MANY)).all()
    studies: dict[str, str] = {}
    for part in in_parts(list({scope for _kind, scope, _message, _at in rows})):
        where = of.c.SeriesInstanceUID.in_(part)
        columns = (of.c.SeriesInstanceUID, of.c.StudyInstanceUID)
        studies |= {row[0]: row[1] for row in view.execute(select(*columns).where(where).distinct())}
    return [
        Failure(f"{kind} {scope}", at, kind, SeriesKey(studies[scope], scope), "", message)
        for kind, scope, message, at in rows
        if scope in studies
    ]


def _commitments(view: Connection, after: str) -> list[Failure]:
    table = schema.commitment
    query = select(table.c.id, table.c.at, table.c.calling).where(
        table.c.state == "failed", table.c.at >= after
    )
    reason = "no report of storage commitment reached it"
    return [
        Failure(f"commitment {number}", at, "commitment_failed", None, calling, reason)
        for number, at, calling in view.execute(query.order_by(table.c.id.desc()).limit(_MANY))
    ]
