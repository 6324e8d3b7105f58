"""Whom a row of a clinical table belongs to: a patient, or one study. Decided from the catalog alone.

The decision is made again whenever patients or studies come, so it never depends on what came first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection

from dicomlake.catalog import schema
from dicomlake.catalog.clinical_source import days_of, iso_date

On = Literal["PatientID", "AccessionNumber"]
Outcome = Literal["matched", "unmatched", "ambiguous"]


@dataclass(frozen=True, slots=True)
class Join:
    """How the rows of a table are joined.

    on: what is compared. key: the column that holds it. date: the column of a date, with `on` PatientID:
    then a row belongs to the study of the patient nearest to it, at most `within_days` days away.
    issuer: IssuerOfPatientID; None where the lake has each PatientID of one issuer only.
    """

    on: On
    key: str
    date: str | None = None
    within_days: float | None = None
    issuer: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The same in JSON types."""
        return asdict(self)


class Match(NamedTuple):
    """Whom a row belongs to: a patient, a study, or nobody known."""

    outcome: Outcome
    patient_id: str | None = None
    study_uid: str | None = None


_Study = tuple[float, str]  # day, StudyInstanceUID


def matches(
    view: Connection, join: Join, keys: Sequence[str | None], dates: Sequence[str | None] = ()
) -> list[Match]:
    """Whom each row belongs to, from its key and, where the join has one, its date."""
    if join.on == "AccessionNumber":
        studies = _studies_by_accession(view, join.issuer)
        return [_only(studies.get(key or "", ())) for key in keys]
    issuers = _issuers(view)
    if join.date is None:
        return [_of_patient(key, issuers, join.issuer) for key in keys]
    by_patient = _studies_by_patient(view, join.issuer)
    return [
        _nearest(_of_patient(key, issuers, join.issuer), by_patient, day, join.within_days)
        for key, day in zip(keys, dates, strict=True)
    ]


def _of_patient(key: str | None, issuers: dict[str, set[str]], issuer: str | None) -> Match:
    if not key:
        return Match("unmatched")
    found = issuers.get(key, set())
    if issuer is not None:
        return Match("matched" if issuer in found else "unmatched", key)
    if len(found) > 1:
        return Match("ambiguous")
    return Match("matched" if found else "unmatched", key)


def _only(studies: Sequence[str]) -> Match:
    if len(studies) == 1:
        return Match("matched", study_uid=studies[0])
    return Match("ambiguous" if studies else "unmatched")


def _nearest(
    patient: Match, studies: dict[str, list[_Study]], written: str | None, within_days: float | None
) -> Match:
    iso = None if written is None else iso_date(written)
    day = None if iso is None else days_of(iso[:10])
    if patient.outcome != "matched" or patient.patient_id is None or day is None:
        return Match(patient.outcome if patient.outcome == "ambiguous" else "unmatched")
    near = sorted((abs(held - day), uid) for held, uid in studies.get(patient.patient_id, ()))
    near = [one for one in near if within_days is None or one[0] <= within_days]
    return _only([uid for distance, uid in near if distance == near[0][0]])


def _issuers(view: Connection) -> dict[str, set[str]]:
    table = schema.patient
    query = schema.current(table).with_only_columns(table.c.PatientID, table.c.IssuerOfPatientID)
    found: dict[str, set[str]] = {}
    for patient_id, issuer in view.execute(query):
        found.setdefault(patient_id, set()).add(issuer)
    return found


def _studies_by_accession(view: Connection, issuer: str | None) -> dict[str, list[str]]:
    table = schema.study
    query = schema.current(table).where(table.c.AccessionNumber.is_not(None))
    query = query if issuer is None else query.where(table.c.IssuerOfPatientID == issuer)
    found: dict[str, list[str]] = {}
    columns = (table.c.AccessionNumber, table.c.StudyInstanceUID)
    for accession, uid in view.execute(query.with_only_columns(*columns)):
        found.setdefault(accession.strip(), []).append(uid)
    return found


def _studies_by_patient(view: Connection, issuer: str | None) -> dict[str, list[_Study]]:
    table = schema.study
    query = schema.current(table).where(table.c.StudyDate.is_not(None))
    query = query if issuer is None else query.where(table.c.IssuerOfPatientID == issuer)
    found: dict[str, list[_Study]] = {}
    columns = (table.c.PatientID, table.c.StudyDate, table.c.StudyInstanceUID)
    for patient_id, written, uid in view.execute(query.with_only_columns(*columns)):
        iso = iso_date(written)
        day = None if iso is None else days_of(iso)
        if day is not None:
            found.setdefault(patient_id, []).append((day, uid))
    return found
