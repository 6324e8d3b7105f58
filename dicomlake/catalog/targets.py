"""What a label is on: a patient, study, series, instance or volume, found in the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from sqlalchemy import Column, Connection, RowMapping, Table

from dicomlake.catalog import schema
from dicomlake.catalog.rows import in_parts
from dicomlake.errors import QueryError
from dicomlake.records import Instance, SeriesKey, Volume

Level = Literal["patient", "study", "series", "instance", "volume"]
LEVELS: tuple[Level, ...] = get_args(Level)
COLUMNS = (
    "level",
    "PatientID",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "volume",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One patient, study, series, instance or volume. `resolve` fills what lies above its level.

    volume: number within the series. The patient is in no repr.
    """

    level: Level
    patient_id: str | None = field(default=None, repr=False)
    issuer: str | None = field(default=None, repr=False)
    study_uid: str | None = None
    series_uid: str | None = None
    sop_instance_uid: str | None = None
    volume: int | None = None

    @classmethod
    def patient(cls, patient_id: str, issuer: str = "") -> Target:
        """A patient, by PatientID and IssuerOfPatientID."""
        return cls("patient", patient_id, issuer)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells it from others of its level: not the patient of a study, which may be corrected."""
        if self.level == "patient":
            return (self.level, self.patient_id, self.issuer)
        return (self.level, self.study_uid, self.series_uid, self.sop_instance_uid, self.volume)

    def at(self, level: Level) -> Target:
        """What this is part of, at a level. Raises QueryError for a level below its own."""
        if level == self.level:
            return self
        depth = LEVELS.index(level)
        if depth > min(LEVELS.index(self.level), 2) or level not in LEVELS[:3]:
            raise QueryError(f"a {self.level} is not part of one {level}: label it at its own level or above")
        study, series = (self.study_uid, self.series_uid if depth > 1 else None) if depth else (None, None)
        return Target(level, self.patient_id, self.issuer, study, series)

    def as_row(self) -> dict[str, Any]:
        """The columns of the table `label`."""
        return dict(zip(COLUMNS, self.as_list(), strict=True))

    def as_list(self) -> list[Any]:
        """The same without names, in the order of COLUMNS."""
        return [
            self.level,
            self.patient_id,
            self.issuer,
            self.study_uid,
            self.series_uid,
            self.sop_instance_uid,
            self.volume,
        ]


def target_of(row: RowMapping) -> Target:
    """The target of a row of the table `label`."""
    return Target(*(row[name] for name in COLUMNS))


def listed(targets: Any) -> list[Any]:
    """One target or many, as a list. A SeriesKey, though a tuple, is one; a cohort is its keys."""
    if isinstance(keys := getattr(targets, "keys", None), list):
        return keys
    one = isinstance(targets, str | Target | SeriesKey | Instance | Volume) or _has_key(targets)
    return [targets] if one or not isinstance(targets, Iterable) else list(targets)


def _has_key(one: Any) -> bool:
    return isinstance(getattr(one, "key", None), SeriesKey)


def resolve(view: Connection, wanted: Sequence[Any], level: Level | None = None) -> list[Target | None]:
    """The targets that the lake holds, in this order; None for one that it does not.

    wanted: UIDs of studies, series or instances, Targets, SeriesKeys, Instances, Volumes, or anything with
        a SeriesKey as `.key`, such as a Series.
    level: label not these but the patient, study or series that they are part of.
    Raises QueryError for what is none of these, and for a UID that names several things.
    """
    if level is not None and level not in LEVELS:
        raise QueryError(f"a level is one of {', '.join(LEVELS[:3])}, not {level!r}")
    named = _named(view, {one for one in wanted if isinstance(one, str)})
    asked = [named.get(one) if isinstance(one, str) else _asked(one) for one in wanted]
    found = _filled(view, {one for one in asked if one is not None})
    known = [None if one is None else found.get(one) for one in asked]
    return known if level is None else [None if one is None else one.at(level) for one in known]


def _asked(one: Any) -> Target:
    """A target by its UIDs alone."""
    if isinstance(one, Target):
        return one
    if isinstance(one, Instance):
        return _below("instance", one.series, sop_instance_uid=one.sop_instance_uid)
    if isinstance(one, Volume):
        return _below("volume", one.series, volume=one.number)
    if isinstance(one, SeriesKey):
        return _below("series", one)
    if _has_key(one):
        return _below("series", one.key)
    raise QueryError(
        f"a {type(one).__name__} cannot be labelled: give UIDs, series, instances, volumes, or a Target"
    )


def _below(level: Level, key: SeriesKey, **others: Any) -> Target:
    return Target(level, study_uid=key.study_uid, series_uid=key.series_uid, **others)


def _named(view: Connection, uids: set[str]) -> dict[str, Target]:
    """What each UID names."""
    found: dict[str, set[Target]] = {}
    for row in _rows(view, schema.study, schema.study.c.StudyInstanceUID, uids):
        uid = row["StudyInstanceUID"]
        found.setdefault(uid, set()).add(Target("study", study_uid=uid))
    for row in _rows(view, schema.series, schema.series.c.SeriesInstanceUID, uids):
        found.setdefault(row["SeriesInstanceUID"], set()).add(_below("series", _key(row)))
    for row in _rows(view, schema.instance, schema.instance.c.SOPInstanceUID, uids - found.keys()):
        one = _below("instance", _key(row), sop_instance_uid=row["SOPInstanceUID"])
        found.setdefault(row["SOPInstanceUID"], set()).add(one)
    for uid, several in found.items():
        if len(several) > 1:
            raise QueryError(f"{uid} names {len(several)} things: give a SeriesKey or a Target")
    return {uid: one.pop() for uid, one in found.items()}


def _filled(view: Connection, asked: set[Target]) -> dict[Target, Target]:
    """Each of these that the lake holds, with all that lies above it."""
    found: dict[Target, Target] = {}
    for level, fill in _FILL.items():
        some = [one for one in asked if one.level == level]
        if some:
            found |= fill(view, some)
    return found


def _patients(view: Connection, asked: list[Target]) -> dict[Target, Target]:
    table = schema.patient
    known = {
        (row["PatientID"], row["IssuerOfPatientID"])
        for row in _rows(view, table, table.c.PatientID, {str(one.patient_id) for one in asked})
    }
    return {one: one for one in asked if (one.patient_id, one.issuer or "") in known}


def _studies(view: Connection, asked: list[Target]) -> dict[Target, Target]:
    table = schema.study
    rows = _rows(view, table, table.c.StudyInstanceUID, {str(one.study_uid) for one in asked})
    return _with_patients(asked, {row["StudyInstanceUID"]: row for row in rows}, lambda one: one.study_uid)


def _series(view: Connection, asked: list[Target]) -> dict[Target, Target]:
    table = schema.series
    rows = _rows(view, table, table.c.SeriesInstanceUID, {str(one.series_uid) for one in asked})
    return _with_patients(asked, {_key(row): row for row in rows}, _series_of)


def _instances(view: Connection, asked: list[Target]) -> dict[Target, Target]:
    table = schema.instance
    rows = _rows(view, table, table.c.SOPInstanceUID, {str(one.sop_instance_uid) for one in asked})
    known = {(_key(row), row["SOPInstanceUID"]) for row in rows}
    return _series(view, [one for one in asked if (_series_of(one), one.sop_instance_uid) in known])


def _volumes(view: Connection, asked: list[Target]) -> dict[Target, Target]:
    table = schema.volume
    rows = _rows(view, table, table.c.SeriesInstanceUID, {str(one.series_uid) for one in asked})
    known = {(_key(row), row["number"]) for row in rows}
    return _series(view, [one for one in asked if (_series_of(one), one.volume) in known])


def _with_patients(
    asked: list[Target], rows: dict[Any, RowMapping], of: Callable[[Target], Any]
) -> dict[Target, Target]:
    return {
        one: replace(one, patient_id=row["PatientID"], issuer=row["IssuerOfPatientID"])
        for one in asked
        if (row := rows.get(of(one))) is not None
    }


_FILL: dict[Level, Callable[[Connection, list[Target]], dict[Target, Target]]] = {
    "patient": _patients,
    "study": _studies,
    "series": _series,
    "instance": _instances,
    "volume": _volumes,
}


def _series_of(one: Target) -> SeriesKey:
    return SeriesKey(str(one.study_uid), str(one.series_uid))


def _key(row: RowMapping) -> SeriesKey:
    return SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"])


def _rows(view: Connection, table: Table, column: Column[Any], values: set[str]) -> Iterator[RowMapping]:
    """The rows in force that have one of these values."""
    for part in in_parts(sorted(values)):
        yield from view.execute(schema.current(table).where(column.in_(part))).mappings()
