"""The words of a page of the tree: what is shown of some patients, studies and series."""

from __future__ import annotations

import json
from collections import defaultdict
from threading import Lock

from dicomlake.errors import DicomlakeError
from dicomlake.records import Finding, SeriesKey
from dicomlake.widgets.browser.source import Lake, Row, listed, rows_of
from dicomlake.widgets.viewer.saving import LABEL as SAVED

_MOST_FINDINGS = 5000  # that are put to their series; a lake with more has other problems
_LABELS = f"""SELECT s.series_id AS id, l.level, l.name,
    CASE WHEN l.name = '{SAVED}' OR starts_with(l.name, '{SAVED}_') THEN NULL ELSE l.text END AS text
    FROM series s JOIN labels l ON {{on}}
    WHERE s.series_id IN ({{ids}})"""
_ON = (
    "l.level = 'patient' AND s.PatientID = l.PatientID"
    " AND s.IssuerOfPatientID = coalesce(l.IssuerOfPatientID, '')",
    "l.level = 'study' AND s.StudyInstanceUID = l.StudyInstanceUID",
    "l.level NOT IN ('patient', 'study') AND s.SeriesInstanceUID = l.SeriesInstanceUID"
    " AND s.StudyInstanceUID = l.StudyInstanceUID",
)
_PATIENT = """SELECT s.series_id AS id, p.PatientID, p.PatientName, p.PatientSex, p.PatientBirthDate
    FROM series s JOIN patients p USING (PatientID, IssuerOfPatientID) WHERE s.series_id IN ({ids})"""
_STUDY = """SELECT s.series_id AS id, t.StudyDate, t.StudyDescription, t.AccessionNumber, t.StudyInstanceUID,
    array_to_string(t.Modalities, ' ') AS modalities
    FROM series s JOIN studies t USING (StudyInstanceUID) WHERE s.series_id IN ({ids})"""
_VOLUMES = """SELECT series_id AS id, number, verdict, reason, dims, shape, gaps, key IS NOT NULL AS built
    FROM volumes WHERE series_id IN ({ids}) ORDER BY series_id, number"""
_SHOWN = (
    *("SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesNumber", "SeriesDescription"),
    *("BodyPartExamined", "SOPClassUID", "instances", "bytes", "Rows", "Columns"),
)


class Troubles:
    """Findings and conflicts by series and study, read once for each change of the lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._guard = Lock()
        self._stamp: tuple[str, int] | None = None
        self._series: dict[SeriesKey, list[Finding]] = {}
        self._scopes: dict[str, list[Finding]] = {}
        self._conflicts: dict[SeriesKey, int] = {}

    def of(self, key: SeriesKey) -> tuple[list[Finding], int]:
        """Findings about a series, its study or its objects; and how many objects are in conflict."""
        with self._guard:
            if self._stamp != self._lake.stamp:
                self._read()
            found = [
                *self._series.get(key, ()),
                *self._scopes.get(key.series_uid, ()),
                *self._scopes.get(key.study_uid, ()),
            ]
            return found, self._conflicts.get(key, 0)

    def _read(self) -> None:
        self._stamp = self._lake.stamp
        scopes: dict[str, list[Finding]] = defaultdict(list)
        series: dict[SeriesKey, list[Finding]] = defaultdict(list)
        conflicts: dict[SeriesKey, int] = defaultdict(int)
        owners: dict[str, SeriesKey] = {}
        for one in self._lake.conflicts():
            conflicts[one.series] += 1
            owners[one.sop_instance_uid] = one.series
        for finding in self._lake.findings()[:_MOST_FINDINGS]:
            owner = owners.get(finding.scope)
            (scopes[finding.scope] if owner is None else series[owner]).append(finding)
        self._scopes, self._series, self._conflicts = dict(scopes), dict(series), dict(conflicts)
        self._to_series()

    def _to_series(self) -> None:
        """Put findings about single objects to the series that hold them."""
        for scope in list(self._scopes):
            try:
                found = self._lake.find(scope)
            except DicomlakeError:  # a scope that is no UID
                continue
            for one in found:
                if scope not in (one.key.series_uid, one.key.study_uid):
                    self._series.setdefault(one.key, []).extend(self._scopes[scope])


def described(lake: Lake, troubles: Troubles, level: str, rows: list[Row]) -> list[Row]:
    """A page of a listing with its words."""
    ids = [row["id"] for row in rows]
    if not ids:
        return rows
    if level == "series":
        return _series(lake, troubles, rows, ids)
    words = _by_id(lake, _PATIENT if level == "patients" else _STUDY, ids)
    return [{**row, **words.get(row["id"], {})} for row in rows]


def _by_id(lake: Lake, query: str, ids: list[int]) -> dict[int, Row]:
    return {row["id"]: row for row in rows_of(lake, query.format(ids=listed(ids)))}


def _series(lake: Lake, troubles: Troubles, rows: list[Row], ids: list[int]) -> list[Row]:
    facts = {row["id"]: row for row in lake.series_rows(ids)}
    volumes = _lists(lake, _VOLUMES.format(ids=listed(ids)))
    labels = labels_of(lake, ids)
    return [
        {
            **row,
            **{name: facts[i].get(name) for name in _SHOWN},
            "volumes": [_volume(one) for one in volumes.get(i, ())],
            "labels": labels.get(i, []),
            **_troubled(troubles, facts[i]),
        }
        for row, i in zip(rows, ids, strict=True)
        if i in facts
    ]


def _lists(lake: Lake, query: str) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows_of(lake, query):
        found[row.pop("id")].append(row)
    return found


def labels_of(lake: Lake, ids: list[int]) -> dict[int, list[Row]]:
    """Labels in force on some series, or on their studies and patients: level, name and text of each.

    text: None for what a viewer saved, which is long JSON.
    """
    union = " UNION ".join(_LABELS.format(on=on, ids=listed(ids)) for on in _ON)
    return _lists(lake, f"{union} ORDER BY id, name, level")


def _volume(row: Row) -> Row:
    gaps = json.loads(row["gaps"]) if row["gaps"] else []
    return {
        "number": row["number"],
        "verdict": row["verdict"],
        "reason": row["reason"],
        "dims": json.loads(row["dims"]),
        "shape": json.loads(row["shape"]),
        "missing": sum(int(gap[2]) for gap in gaps if len(gap) > 2),
        "built": bool(row["built"]),
    }


def _troubled(troubles: Troubles, row: Row) -> Row:
    found, conflicts = troubles.of(SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]))
    severities = [one.severity for one in found]
    return {"findings": {s: severities.count(s) for s in dict.fromkeys(severities)}, "conflicts": conflicts}


def told(finding: Finding) -> Row:
    """A finding in JSON types."""
    return {name: getattr(finding, name) for name in ("severity", "kind", "scope", "message")}
