"""Point look-ups in the catalog; each function reads inside the caller's view."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, exists, func, or_, select

from dicomlake.catalog import schema
from dicomlake.catalog.blocks import SeriesHeaders, unpack
from dicomlake.catalog.schema import current, of_series
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume

_MANY = 500  # bound parameters per statement


def instances_with_uids(connection: Connection, uids: Sequence[str]) -> dict[str, list[Instance]]:
    """The stored objects of each of these SOPInstanceUIDs."""
    found: dict[str, list[Instance]] = {}
    for start in range(0, len(uids), _MANY):
        wanted = schema.instance.c.SOPInstanceUID.in_(uids[start : start + _MANY])
        query = current(schema.instance).where(wanted).order_by(schema.instance.c.id)
        for row in connection.execute(query).mappings():
            found.setdefault(row["SOPInstanceUID"], []).append(_instance(row))
    return found


def instances_of(connection: Connection, key: SeriesKey, *, conflicts: bool = False) -> list[Instance]:
    """The objects of a series, one for each SOPInstanceUID; with those in conflict if asked for."""
    table = schema.instance
    query = current(table).where(of_series(table, key)).order_by(table.c.id)
    instances = [_instance(row) for row in connection.execute(query).mappings()]
    if conflicts:
        return instances
    plain = {one.sop_instance_uid: one for one in instances if not one.conflict}
    for one in instances:  # a writer that ended early may have left the first object unregistered
        plain.setdefault(one.sop_instance_uid, one)
    return [one for one in instances if plain[one.sop_instance_uid] is one]


def all_instances(connection: Connection) -> Iterator[Instance]:
    """Every stored object."""
    for row in connection.execute(current(schema.instance).order_by(schema.instance.c.id)).mappings():
        yield _instance(row)


def conflicts(connection: Connection) -> list[Instance]:
    """The objects whose SOPInstanceUID another object had before."""
    query = current(schema.instance).where(schema.instance.c.conflict == 1)
    return [_instance(row) for row in connection.execute(query).mappings()]


def unsettled(connection: Connection) -> list[SeriesKey]:
    """Series that hold acknowledged objects but are not visible with them."""
    table = schema.instance
    query = (
        select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID)
        .where(schema.is_unsettled, table.c.v_to.is_(None))
        .distinct()
    )
    return [SeriesKey(*row) for row in connection.execute(query)]


def series_without_volumes(connection: Connection) -> list[SeriesKey]:
    """Series whose volumes, if they have any, were made before their newest instances came."""
    table, made = schema.series, schema.volume
    newer = and_(
        made.c.SeriesInstanceUID == table.c.SeriesInstanceUID,
        made.c.StudyInstanceUID == table.c.StudyInstanceUID,
        made.c.v_to.is_(None),
        made.c.v_from > table.c.v_from,
    )
    query = select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID).order_by(table.c.id)
    query = query.where(table.c.v_to.is_(None), ~exists().where(newer))
    return [SeriesKey(*row) for row in connection.execute(query)]


def series_rows(connection: Connection, ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The rows of series by id, in that order, or all current ones by patient, study and number."""
    if ids is None:
        rows = connection.execute(current(schema.series).order_by(*_READING_ORDER)).mappings()
        return [dict(row) for row in rows]
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(ids), _MANY):
        query = select(schema.series).where(schema.series.c.id.in_(ids[start : start + _MANY]))
        found |= {row["id"]: dict(row) for row in connection.execute(query).mappings()}
    return [found[i] for i in ids if i in found]


_READING_ORDER = (  # by patient, then in time; the same after a rebuild
    schema.series.c.PatientID,
    func.coalesce(schema.series.c.StudyDate, ""),
    schema.series.c.StudyInstanceUID,
    func.coalesce(schema.series.c.SeriesNumber, 0),
    schema.series.c.SeriesInstanceUID,
)


def series_id(connection: Connection, key: SeriesKey) -> int | None:
    """The id of the current row of a series."""
    table = schema.series
    found = connection.execute(
        select(table.c.id).where(of_series(table, key), table.c.v_to.is_(None))
    ).scalar()
    return None if found is None else int(found)


def series_ids_with(connection: Connection, uid: str) -> list[int]:
    """The current series that a series, study or SOP instance UID names, or its unique beginning."""
    whole = _series_ids_of(connection, uid)
    if whole or not uid or not uid.isascii():
        return whole
    begun: set[str] = set()
    for column in (
        schema.series.c.SeriesInstanceUID,
        schema.series.c.StudyInstanceUID,
        schema.instance.c.SOPInstanceUID,
    ):
        query = select(column).where(schema.begins_with(column, uid)).distinct().limit(2)
        begun |= {name for (name,) in connection.execute(query)}
    return _series_ids_of(connection, begun.pop()) if len(begun) == 1 else []


def _series_ids_of(connection: Connection, uid: str) -> list[int]:
    table = schema.series
    by_uid = or_(table.c.SeriesInstanceUID == uid, table.c.StudyInstanceUID == uid)
    ids = connection.execute(select(table.c.id).where(by_uid, table.c.v_to.is_(None)).order_by(table.c.id))
    found = [int(i) for (i,) in ids]
    return found or series_ids_of_instance(connection, uid)


def series_ids_of_instance(connection: Connection, uid: str) -> list[int]:
    """The current series that hold an instance."""
    table, held = schema.series, schema.instance
    query = select(table.c.id).where(
        table.c.v_to.is_(None),
        held.c.v_to.is_(None),
        held.c.SOPInstanceUID == uid,
        held.c.SeriesInstanceUID == table.c.SeriesInstanceUID,
        held.c.StudyInstanceUID == table.c.StudyInstanceUID,
    )
    return [int(i) for (i,) in connection.execute(query.distinct())]


def headers_of(connection: Connection, series_id: int) -> SeriesHeaders:
    """The full headers of a series. Raises KeyError when there is no such series."""
    table = schema.series_header
    block = connection.execute(select(table.c.block).where(table.c.series_id == series_id)).scalar()
    if block is None:
        raise KeyError(series_id)
    return unpack(block)


def volumes_of(connection: Connection, key: SeriesKey | None = None) -> list[Volume]:
    """The volumes of a series, or of all."""
    table = schema.volume
    query = current(table).order_by(table.c.SeriesInstanceUID, table.c.number)
    if key is not None:
        query = query.where(of_series(table, key))
    return [_volume(row) for row in connection.execute(query).mappings()]


def volumes_of_many(connection: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[Volume]]:
    """The volumes of each of these series, built or not, by number; a statement for some hundred series."""
    table = schema.volume
    found: dict[SeriesKey, list[Volume]] = {key: [] for key in keys}
    uids = list(dict.fromkeys(key.series_uid for key in keys))
    for start in range(0, len(uids), _MANY):
        some = table.c.SeriesInstanceUID.in_(uids[start : start + _MANY])
        for row in connection.execute(current(table).where(some).order_by(table.c.number)).mappings():
            key = SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"])
            if key in found:  # one SeriesInstanceUID may lie in several studies
                found[key].append(_volume(row))
    return found


class Former(NamedTuple):
    """A volume that was replaced, and when; closed_at in ISO 8601, UTC."""

    volume: Volume
    closed_at: str


def former_volumes(connection: Connection, key: SeriesKey | None = None) -> list[Former]:
    """The volumes that were built once and replaced, of a series or of all: by number, the newest first.

    Each store is listed once, and none that a volume of today has. It may be gone: `prune` deletes stores
    and leaves the rows.
    """
    table, closing = schema.volume, schema.change
    live = select(table.c.key).where(table.c.v_to.is_(None), table.c.key.is_not(None))
    query = (
        select(table, closing.c.at.label("closed_at"))
        .join(closing, closing.c.v == table.c.v_to)
        .where(table.c.key.is_not(None), table.c.key.not_in(live))
        .order_by(table.c.SeriesInstanceUID, table.c.number, table.c.version.desc(), table.c.v_to.desc())
    )
    if key is not None:
        query = query.where(of_series(table, key))
    found: dict[str, Former] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["key"], Former(_volume(row), row["closed_at"]))
    return list(found.values())


def store_keys(connection: Connection, key: SeriesKey | None = None) -> set[str]:
    """The keys of all stores that volumes of a series, or of all, have or had."""
    table = schema.volume
    query = select(table.c.key).where(table.c.key.is_not(None)).distinct()
    if key is not None:
        query = query.where(of_series(table, key))
    return {str(store) for (store,) in connection.execute(query)}


def volume_rows(connection: Connection) -> list[dict[str, Any]]:
    """The current rows of volumes, in the order of `volumes_of`."""
    table = schema.volume
    query = current(table).order_by(table.c.SeriesInstanceUID, table.c.number)
    columns = (table.c[name] for name in schema.VOLUME_COLUMNS)
    return [dict(row) for row in connection.execute(query.with_only_columns(*columns)).mappings()]


def studies(connection: Connection) -> list[dict[str, Any]]:
    """One row a study, with counts of its series and instances and its modalities."""
    table, of = schema.study, schema.series
    query = (
        select(
            table.c.StudyInstanceUID,
            table.c.PatientID,
            table.c.StudyDate,
            table.c.StudyDescription,
            table.c.AccessionNumber,
            func.count(of.c.id).label("series"),
            func.sum(of.c.instances).label("instances"),
        )
        .join(of, and_(of.c.StudyInstanceUID == table.c.StudyInstanceUID, of.c.v_to.is_(None)))
        .where(table.c.v_to.is_(None))
        .group_by(table.c.id)
        .order_by(table.c.StudyDate, table.c.StudyInstanceUID)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def patients(connection: Connection) -> list[dict[str, Any]]:
    """One row a patient, with counts of studies, series and instances."""
    table, of = schema.patient, schema.series
    same = and_(
        of.c.PatientID == table.c.PatientID,
        of.c.IssuerOfPatientID == table.c.IssuerOfPatientID,
        of.c.v_to.is_(None),
    )
    query = (
        select(
            table.c.PatientID,
            table.c.IssuerOfPatientID,
            table.c.PatientName,
            table.c.PatientSex,
            table.c.PatientBirthDate,
            func.count(of.c.StudyInstanceUID.distinct()).label("studies"),
            func.count(of.c.id).label("series"),
            func.sum(of.c.instances).label("instances"),
        )
        .join(of, same)
        .where(table.c.v_to.is_(None))
        .group_by(table.c.id)
        .order_by(table.c.PatientID)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def findings(connection: Connection, scope: str | None = None) -> list[Finding]:
    """Open findings, all or those about one object."""
    query = current(schema.finding).order_by(schema.finding.c.id)
    if scope is not None:
        query = query.where(schema.finding.c.scope == scope)
    rows = connection.execute(query).mappings()
    return [Finding(row["severity"], row["kind"], row["scope"], row["message"]) for row in rows]


def refused(connection: Connection) -> list[Refused]:
    """What lies in quarantine."""
    rows = connection.execute(current(schema.quarantine).order_by(schema.quarantine.c.id)).mappings()
    return [Refused(row["sha256"], row["size"], row["reason"], row["origin"]) for row in rows]


COUNTED = ("patients", "studies", "series", "instances", "volumes", "findings", "refused")


def counts(connection: Connection) -> dict[str, int]:
    """How many patients, studies, series, instances, volumes, findings and refused objects there are."""
    tables = {
        "patients": schema.patient,
        "studies": schema.study,
        "series": schema.series,
        "instances": schema.instance,
        "findings": schema.finding,
        "refused": schema.quarantine,
    }
    found = {
        name: int(connection.execute(select(func.count()).where(table.c.v_to.is_(None))).scalar() or 0)
        for name, table in tables.items()
    }
    built = select(func.count()).where(schema.volume.c.v_to.is_(None), schema.volume.c.key.is_not(None))
    found["volumes"] = int(connection.execute(built).scalar() or 0)
    return {name: found[name] for name in COUNTED}


def _instance(row: RowMapping) -> Instance:
    return Instance(
        sop_instance_uid=row["SOPInstanceUID"],
        sop_class_uid=row["SOPClassUID"],
        series=SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]),
        transfer_syntax=row["TransferSyntaxUID"],
        key=row["key"],
        size=row["size"],
        sha256=row["sha256"],
        dataset_sha256=row["dataset_sha256"],
        conflict=bool(row["conflict"]),
    )


def _volume(row: RowMapping) -> Volume:
    affine, spacing = row["affine_lps"], row["spacing_mm"]
    return Volume(
        series=SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]),
        number=row["number"],
        verdict=row["verdict"],
        dims=tuple(json.loads(row["dims"])),
        shape=tuple(json.loads(row["shape"])),
        dtype=row["dtype"],
        affine_lps=None if affine is None else tuple(tuple(line) for line in json.loads(affine)),
        spacing_mm=None if spacing is None else tuple(json.loads(spacing)),
        reason=row["reason"],
        key=row["key"],
        store_sha256=row["store_sha256"],
        info=json.loads(row["info"]),
        version=row["version"],
        plan_digest=row["plan_digest"],
    )
