"""The objects below some patients, studies, series or instances, for those who retrieve them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from dicomlake.catalog import reader, schema
from dicomlake.records import Instance, SeriesKey

_MANY = 500  # bound parameters per statement


def instances_below(connection: Connection, uids: Mapping[str, Sequence[str]]) -> list[Instance]:
    """The objects that meet all of these unique keys, settled or not, one for each SOPInstanceUID.

    uids: PatientID, StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID -> any of these values.
    """
    wanted = {name: list(dict.fromkeys(some)) for name, some in uids.items()}
    chosen = set(wanted.get("SOPInstanceUID", ()))
    found: dict[str, Instance] = {}
    for key in _series(connection, wanted):
        for one in reader.instances_of(connection, key):
            if not chosen or one.sop_instance_uid in chosen:
                before = found.setdefault(one.sop_instance_uid, one)
                if before.conflict and not one.conflict:  # of another series
                    found[one.sop_instance_uid] = one
    return list(found.values())


def _series(connection: Connection, wanted: Mapping[str, Sequence[str]]) -> Iterator[SeriesKey]:
    """The series that may hold them: by the lowest keys that are given, then by those above."""
    table = schema.instance
    query = (
        select(table.c.StudyInstanceUID, table.c.SeriesInstanceUID).where(table.c.v_to.is_(None)).distinct()
    )
    studies = _studies_of(connection, wanted["PatientID"]) if "PatientID" in wanted else None
    lowest = next(
        (n for n in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID") if n in wanted), None
    )
    if lowest is None:
        lowest, wanted = "StudyInstanceUID", {**wanted, "StudyInstanceUID": sorted(studies or ())}
    keys = {SeriesKey(*row) for row in _among(connection, query, lowest, wanted[lowest])}
    for key in sorted(keys):
        of_study = "StudyInstanceUID" not in wanted or key.study_uid in wanted["StudyInstanceUID"]
        of_series = "SeriesInstanceUID" not in wanted or key.series_uid in wanted["SeriesInstanceUID"]
        if of_study and of_series and (studies is None or key.study_uid in studies):
            yield key


def _among(
    connection: Connection, query: Select[Any], name: str, some: Sequence[str]
) -> Iterator[tuple[str, str]]:
    column = schema.instance.c[name]
    for start in range(0, len(some), _MANY):
        for row in connection.execute(query.where(column.in_(some[start : start + _MANY]))):
            yield row[0], row[1]


def _studies_of(connection: Connection, patients: Sequence[str]) -> set[str]:
    table = schema.study
    found: set[str] = set()
    for start in range(0, len(patients), _MANY):
        some = table.c.PatientID.in_(patients[start : start + _MANY])
        query = select(table.c.StudyInstanceUID).where(some, table.c.v_to.is_(None))
        found |= {uid for (uid,) in connection.execute(query)}
    return found
