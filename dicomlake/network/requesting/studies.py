"""Studies at a peer: what is known of them before they are fetched, and what a source of them can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dicomlake.network.seams import Sink

Keys = Mapping[str, str]
"""Keys of a query: keyword of PS3.6 -> value, with the wildcards and ranges of PS3.4 section C.2.2.2."""

STUDY_KEYS = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "PatientID", "ModalitiesInStudy"),
    *("SOPClassesInStudy", "NumberOfStudyRelatedInstances"),
)
SERIES_KEYS = ("SeriesInstanceUID", "Modality", "BodyPartExamined", "NumberOfSeriesRelatedInstances")
INSTANCE_KEYS = ("SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True, slots=True)
class Study:
    """A study at a peer. instances: how many it has, None when the peer does not tell.

    What identifies a patient is in the table that the user asked for, and nowhere else.
    """

    uid: str
    date: str = field(default="", repr=False)
    time: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    instances: int | None = None

    @classmethod
    def of(cls, found: Mapping[str, tuple[str, ...]]) -> Study:
        """From an answer to a query."""

        def first(keyword: str) -> str:
            values = found.get(keyword, ())
            return values[0].strip() if values else ""

        count = first("NumberOfStudyRelatedInstances")
        return cls(
            first("StudyInstanceUID"),
            first("StudyDate"),
            first("StudyTime"),
            first("AccessionNumber"),
            first("PatientID"),
            tuple(found.get("ModalitiesInStudy", ())),
            tuple(found.get("SOPClassesInStudy", ())),
            int(count) if count.isdigit() else None,
        )


class Series(NamedTuple):
    """A series of a study at a peer."""

    uid: str
    modality: str = ""
    body_part: str = ""


class Fetched(NamedTuple):
    """What came of a request to fetch, told by the peer or counted here.

    completed, warnings, failed: instances. reason: of failures, without identifying values.
    """

    completed: int = 0
    warnings: int = 0
    failed: int = 0
    reason: str = ""


class Source(Protocol):
    """A peer that studies are fetched from. Used from several threads."""

    def studies(self, keys: Keys) -> list[Study]:
        """The studies that match. Raises PeerError."""

    def series(self, study: Study) -> list[Series]:
        """The series of a study. Raises PeerError."""

    def instances(self, study: Study, series_uid: str) -> set[str]:
        """The SOPInstanceUIDs of a series; empty when the peer does not tell. Raises PeerError."""

    def fetch(self, study: Study, series: Iterable[str] | None, sink: Sink) -> Fetched:
        """Fetch a study, or some of its series, into a sink. Raises PeerError when it breaks off."""
