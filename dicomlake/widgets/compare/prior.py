"""Which series of another study shows the same as one: a score of what their headers say, with reasons.

Only facts of headers are compared, by PS3.6 keyword as the catalog has them; nothing is read from pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

Facts = Mapping[str, Any]

_FEWEST_PLANES = 4  # a localizer of three planes is no prior of a volume
_LOCALIZER = "LOCALIZER"
_SEQUENCES = ("ScanningSequence", "SequenceVariant", "SequenceName", "ProtocolName")


@dataclass(frozen=True, slots=True)
class Prior:
    """index: of the candidate. score: 0 … 1. days: from the candidate's study to the series. reasons: what
    matched and what did not, without values of free text."""

    index: int
    score: float
    days: int | None
    reasons: tuple[str, ...]


def prior_of(
    series: Any, candidates: Sequence[Any], *, earlier: bool = True, least: float = 0.5
) -> Prior | None:
    """The candidate that shows the same as a series, of the latest study that has one; None without one.

    series, candidates: facts by keyword, or things with `.facts`. earlier: only studies of earlier days.
    least: the score below which a candidate is no prior. Other modalities, other studies of the same UID,
    and the localizer of a volume never match.
    """
    found = [one for one in priors(series, candidates, earlier=earlier) if one.score >= least]
    if not found:
        return None
    nearest = min((abs(one.days) for one in found if one.days is not None), default=None)
    latest = [one for one in found if nearest is None or (one.days is not None and abs(one.days) == nearest)]
    return latest[0]


def priors(series: Any, candidates: Sequence[Any], *, earlier: bool = True) -> list[Prior]:
    """All candidates of other studies that could be one, the best first."""
    facts = _facts(series)
    found = []
    for index, candidate in enumerate(candidates):
        other = _facts(candidate)
        days = days_between(other, facts)
        if _is_elsewhere(facts, other) and (not earlier or (days is not None and days > 0)):
            score, reasons = likeness(facts, other)
            if score > 0:
                found.append(Prior(index, score, days, reasons))
    return sorted(found, key=lambda one: (-one.score, abs(one.days or 0), one.index))


def likeness(series: Facts, other: Facts) -> tuple[float, tuple[str, ...]]:
    """0 … 1 and the reasons; 0 where the modality differs or one of them is a localizer."""
    if not series.get("Modality") or series.get("Modality") != other.get("Modality"):
        return 0.0, ("another modality",)
    if _is_localizer(series) != _is_localizer(other):
        return 0.0, ("one of them is a localizer",)
    total = reached = 0.0
    reasons: list[str] = []
    for name, weight, compare in _RULES:
        found = compare(series, other)
        if found is None:
            continue  # one of them does not say: neither for nor against
        total += weight
        reached += weight * found
        reasons.append(f"{_how(found)} {name}")
    return (reached / total if total else 0.0), tuple(reasons)


def days_between(first: Facts, second: Facts) -> int | None:
    """Days from one study to the other by StudyDate; None where one has none."""
    days = [study_day(one) for one in (first, second)]
    return None if days[0] is None or days[1] is None else (days[1] - days[0]).days


def study_day(facts: Facts) -> date | None:
    """StudyDate, as date."""
    text = str(facts.get("StudyDate") or "").replace("-", "").replace(".", "")[:8]
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _how(found: float) -> str:
    return "same" if found > 0.95 else "similar" if found > 0.4 else "different"


def _facts(one: Any) -> Facts:
    found = getattr(one, "facts", one)
    return found if isinstance(found, Mapping) else {}


def _is_elsewhere(facts: Facts, other: Facts) -> bool:
    """Whether it is of another study of the same patient, as far as both say."""
    if facts.get("StudyInstanceUID") and facts.get("StudyInstanceUID") == other.get("StudyInstanceUID"):
        return False
    return not any(
        facts.get(name) and other.get(name) and facts[name] != other[name]
        for name in ("PatientID", "IssuerOfPatientID")
    )


def _is_localizer(facts: Facts) -> bool:
    return (
        _LOCALIZER in _text(facts.get("ImageType"))
        or int(facts.get("instances") or _FEWEST_PLANES) < _FEWEST_PLANES
    )


# ---- rules: 0 … 1, or None where one of them does not say ------------------------------------------


def _same(name: str) -> Any:
    def compare(series: Facts, other: Facts) -> float | None:
        one, two = _text(series.get(name)), _text(other.get(name))
        return None if not one or not two else float(one == two)

    return compare


def _ratio(name: str) -> Any:
    """1 where equal, 0 where one is twice the other."""

    def compare(series: Facts, other: Facts) -> float | None:
        one, two = _number(series.get(name)), _number(other.get(name))
        if not one or not two or one <= 0 or two <= 0:
            return None
        return max(0.0, 1.0 - abs(math.log2(one / two)))

    return compare


def _words(*names: str) -> Any:
    """How many words they have in common, of all that either has."""

    def compare(series: Facts, other: Facts) -> float | None:
        one, two = (set().union(*(_split(facts.get(n)) for n in names)) for facts in (series, other))
        return len(one & two) / len(one | two) if one and two else None

    return compare


def _contrast(series: Facts, other: Facts) -> float | None:
    if "ContrastBolusAgent" not in series or "ContrastBolusAgent" not in other:
        return None
    return float(bool(series.get("ContrastBolusAgent")) == bool(other.get("ContrastBolusAgent")))


def _orientation(series: Facts, other: Facts) -> float | None:
    """The cosine between the normals of both, by ImageOrientationPatient."""
    normals = [_normal(facts.get("ImageOrientationPatient")) for facts in (series, other)]
    if normals[0] is None or normals[1] is None:
        return None
    cosine = abs(sum(a * b for a, b in zip(normals[0], normals[1], strict=True)))
    return max(0.0, (cosine - 0.7) / 0.3)


def _normal(value: Any) -> tuple[float, float, float] | None:
    parts = value.split("\\") if isinstance(value, str) else value
    try:
        a, b, c, d, e, f = (float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return b * f - c * e, c * d - a * f, a * e - b * d


def _text(value: Any) -> str:
    joined = "\\".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")
    return joined.strip().upper()


def _split(value: Any) -> set[str]:
    return {word for word in re.split(r"[^A-Z0-9.]+", _text(value)) if word}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


_RULES: tuple[tuple[str, float, Any], ...] = (
    ("body part", 3.0, _same("BodyPartExamined")),
    ("side", 3.0, _same("Laterality")),
    ("orientation", 3.0, _orientation),
    ("kernel", 2.0, _same("ConvolutionKernel")),
    ("slice thickness", 2.0, _ratio("SliceThickness")),
    ("sequence", 2.0, _words(*_SEQUENCES)),
    ("echo time", 2.0, _ratio("EchoTime")),
    ("repetition time", 1.0, _ratio("RepetitionTime")),
    ("flip angle", 0.5, _ratio("FlipAngle")),
    ("contrast agent", 2.0, _contrast),
    ("image type", 1.5, _words("ImageType")),
    ("description", 1.5, _words("SeriesDescription")),
    ("patient position", 0.5, _same("PatientPosition")),
    ("number of planes", 0.5, _ratio("instances")),
)
