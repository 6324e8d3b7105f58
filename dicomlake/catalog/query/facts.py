"""What can be asked beyond elements: facts of series, volumes, findings, labels and clinical tables.

A fact is a relation of SQL with a row for each of its values, over the documented tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dicomlake.catalog.query.fragments import Sql
from dicomlake.catalog.query.spelling import unknown_element
from dicomlake.errors import QueryError

Kind = Literal["number", "code", "text", "search"]


@dataclass(frozen=True, slots=True)
class Fact:
    """Where the values of a fact are.

    relation: what to select from; has series_id. text, number: its columns, None for what it has not.
    kind: number, code (text as written), text (without case and accents) or search (full text).
    """

    name: str
    kind: Kind
    relation: Sql
    text: str | None = None
    number: str | None = None


_SERIES = ("instances", "bytes")
_TEXTS = ("verdict", "reason", "dtype", "units")
_NUMBERS = ("tilt_degrees", "slices", "duplicates", "partial", "version")
_LISTS = {  # columns that hold several values: JSON, or text with commas
    "dims": "TRY_CAST(dims AS VARCHAR[])",
    "extra_dims": "string_split(extra_dims, ',')",
    "split_by": "string_split(split_by, ',')",
    "shape": "TRY_CAST(shape AS BIGINT[])",
    "spacing_mm": "TRY_CAST(spacing_mm AS DOUBLE[])",
}
_OTHERS = ("gaps", "volumes", "finding", "label", "clinical", "text")
NAMES = (*_SERIES, *_TEXTS, *_NUMBERS, *_LISTS, *_OTHERS)
FREE_TEXT = frozenset({"label", "clinical", "text", "reason"})  # facts that may say who a patient is
SPACINGS = {"z": 1, "y": 2, "x": 3}

_GAPS = "(SELECT series_id, coalesce(json_array_length(gaps), 0) AS number FROM volumes)"
_VOLUMES = """(SELECT series.series_id, count(volumes.series_id) AS number
    FROM series LEFT JOIN volumes USING (series_id) GROUP BY series.series_id)"""
_AXIS = """(SELECT series_id, list_extract(TRY_CAST(shape AS BIGINT[]),
    list_position(TRY_CAST(dims AS VARCHAR[]), ?)) AS number FROM volumes)"""
_FINDINGS = """(SELECT series_id, {column} FROM series JOIN findings ON scope = SeriesInstanceUID
    UNION ALL SELECT series_id, {column} FROM series JOIN findings ON scope = StudyInstanceUID
    UNION ALL SELECT series_id, {column} FROM instances JOIN findings ON scope = SOPInstanceUID)"""
_LABELS = """(SELECT s.series_id, lower(strip_accents(l.text)) AS folded, l.text, l.number
    FROM series s JOIN labels l ON l.name = ? AND l.level = 'patient' AND s.PatientID = l.PatientID
        AND s.IssuerOfPatientID = coalesce(l.IssuerOfPatientID, '')
    UNION ALL SELECT s.series_id, lower(strip_accents(l.text)), l.text, l.number
    FROM series s JOIN labels l ON l.name = ? AND l.level = 'study'
        AND s.StudyInstanceUID = l.StudyInstanceUID
    UNION ALL SELECT s.series_id, lower(strip_accents(l.text)), l.text, l.number
    FROM series s JOIN labels l ON l.name = ? AND l.level NOT IN ('patient', 'study')
        AND s.SeriesInstanceUID = l.SeriesInstanceUID AND s.StudyInstanceUID = l.StudyInstanceUID)"""
_CLINICAL = """(SELECT s.series_id, lower(strip_accents(c.text)) AS folded, c.text, c.number
    FROM series s JOIN clinical c ON c.source = ? AND c.name = ?
        AND c.StudyInstanceUID = s.StudyInstanceUID
    UNION ALL SELECT s.series_id, lower(strip_accents(c.text)), c.text, c.number
    FROM series s JOIN clinical c ON c.source = ? AND c.name = ?
        AND c.StudyInstanceUID IS NULL AND c.PatientID = s.PatientID
        AND (c.IssuerOfPatientID IS NULL OR c.IssuerOfPatientID = s.IssuerOfPatientID))"""


def fact(path: str) -> Fact:
    """The fact that a path means, such as `verdict`, `shape.z`, `label.quality`. Raises QueryError."""
    name, _, rest = path.partition(".")
    if name not in NAMES:
        raise unknown_element(name, path)
    if name in ("label", "clinical"):
        return _annotation(name, rest)
    if rest:
        return _part(path, name, rest)
    if name in _SERIES:
        return Fact(name, "number", Sql("series"), number=name)
    if name in _TEXTS:
        return Fact(name, "code" if name != "reason" else "text", Sql("volumes"), text=name)
    if name in _NUMBERS:
        return Fact(name, "number", Sql("volumes"), number=name)
    if name in _LISTS:
        values = Sql(f"(SELECT series_id, unnest({_LISTS[name]}) AS value FROM volumes)")
        if name in ("shape", "spacing_mm"):
            return Fact(name, "number", values, number="value")
        return Fact(name, "code", values, text="value")
    if name == "finding":
        return Fact(name, "code", Sql(_FINDINGS.format(column="kind")), text="kind")
    if name == "text":
        return Fact(name, "search", Sql(""))
    return Fact(name, "number", Sql(_GAPS if name == "gaps" else _VOLUMES), number="number")


def _part(path: str, name: str, rest: str) -> Fact:
    if name == "finding" and rest == "severity":
        return Fact(name, "code", Sql(_FINDINGS.format(column="severity")), text="severity")
    if name == "spacing_mm" and rest in (*SPACINGS, "min", "max"):
        spacings = "TRY_CAST(spacing_mm AS DOUBLE[])"
        wanted = f"{spacings}[{SPACINGS[rest]}]" if rest in SPACINGS else f"list_{rest}({spacings})"
        return Fact(
            name, "number", Sql(f"(SELECT series_id, {wanted} AS number FROM volumes)"), number="number"
        )
    if name == "shape" and re.fullmatch(r"[a-z_]+", rest):
        return Fact(name, "number", Sql(_AXIS, (rest,)), number="number")
    raise QueryError(
        f"{path!r}: {name} has no part {rest!r}; there are shape.z, spacing_mm.max, finding.severity"
    )


def _annotation(name: str, rest: str) -> Fact:
    if name == "label" and rest:
        return Fact(name, "text", Sql(_LABELS, (rest,) * 3), "text", "number")
    source, _, column = rest.partition(".")
    if name == "clinical" and source and column:
        return Fact(name, "text", Sql(_CLINICAL, (source, column) * 2), "text", "number")
    wanted = "label.<name>" if name == "label" else "clinical.<source>.<column>"
    raise QueryError(f"{name} alone is not enough: write {wanted}")
