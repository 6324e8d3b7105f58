"""Earlier studies of the same patient."""

from __future__ import annotations

from dataclasses import dataclass

from dicomlake.errors import PeerError
from dicomlake.network.requesting.studies import Source, Study


@dataclass(frozen=True, slots=True)
class Priors:
    """Which earlier studies: the `count` newest that have a series of the modality and body part.

    modality: "same" for one that the study itself has, None for any.
    body_part: BodyPartExamined, None for any; a peer that does not tell it gets the benefit of the doubt.
    """

    count: int
    modality: str | None = None
    body_part: str | None = None


def priors_of(source: Source, study: Study, wanted: Priors) -> list[Study]:
    """The earlier studies, the newest first; none when the study has no PatientID or no date.

    Raises PeerError.
    """
    if not study.patient_id or not study.date or wanted.count < 1:
        return []
    modalities = _modalities(source, study, wanted)
    others = source.studies({"PatientID": _literal(study.patient_id)})
    earlier = [
        other
        for other in others
        if other.uid != study.uid and other.patient_id == study.patient_id and _when(other) < _when(study)
    ]
    found: list[Study] = []
    for other in sorted(earlier, key=_when, reverse=True):
        if len(found) == wanted.count:
            break
        if other.date and _fits(source, other, modalities, wanted.body_part):
            found.append(other)
    return found


def _when(study: Study) -> tuple[str, str]:
    return study.date, study.time


def _literal(value: str) -> str:
    """A value without the wildcards that it may hold; what it matches too much is left out afterwards."""
    return value.replace("*", "?")


def _modalities(source: Source, study: Study, wanted: Priors) -> set[str]:
    """One of these an earlier study must have; empty when any will do."""
    if wanted.modality == "same":
        return set(study.modalities) or {series.modality for series in source.series(study)}
    return {wanted.modality} if wanted.modality else set()


def _fits(source: Source, other: Study, modalities: set[str], body_part: str | None) -> bool:
    if modalities and other.modalities and not modalities & set(other.modalities):
        return False
    needs_series = body_part is not None or bool(modalities and not other.modalities)
    if not needs_series:
        return True
    try:
        series = source.series(other)
    except PeerError as error:
        if error.temporary:
            raise
        return False
    if not any(one.body_part for one in series):
        body_part = None
    return any(
        (not modalities or one.modality in modalities)
        and (body_part is None or one.body_part.upper() == body_part.upper())
        for one in series
    )
