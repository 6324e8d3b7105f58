"""What the monitor needs of a receiver, or of a lake that one in another process fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict

from dicomlake.records import SeriesKey

State = str
"""arriving, settling, building, ready or failed."""


class ReceiverRow(TypedDict):
    """A receiver that runs. objects, bytes: taken since it began; they only grow. token: tells it apart."""

    token: str
    ae_title: str
    host: str
    ports: list[int]
    associations: int
    objects: int
    bytes: int
    since: str


class DiskRow(TypedDict):
    """The device of the lake, in bytes. low: that somebody should look."""

    free: int
    total: int
    low: bool


class SeriesRow(TypedDict):
    """A series that is under way or was lately.

    expected, missing: None where nobody said. missing_numbers: gaps as [first, last]. since: ISO 8601.
    """

    study_uid: str
    series_uid: str
    modality: str
    state: State
    received: int
    expected: int | None
    missing: int | None
    missing_numbers: list[list[int]]
    since: str
    calling: str
    problem: str


class FailureRow(TypedDict):
    """What went wrong. id: stable. retry: whether its series can be tried again. count: how often."""

    id: str
    at: str
    kind: str
    study_uid: str
    series_uid: str
    calling: str
    reason: str
    count: int
    retry: bool


class LogRow(TypedDict):
    """An event. id: stable; a row of the same id takes the place of the former."""

    id: str
    at: str
    kind: str
    study_uid: str
    series_uid: str
    calling: str
    count: int
    detail: str


class Snapshot(TypedDict):
    """All that is shown, in JSON types; free of identifying values.

    commitments: promises that peers wait for. The newest series, failures and events come last.
    """

    receivers: list[ReceiverRow]
    disk: DiskRow
    commitments: int
    series: list[SeriesRow]
    failures: list[FailureRow]
    log: list[LogRow]


class Source(Protocol):
    """Where the monitor looks. Safe to use from many threads; methods raise DicomlakeError."""

    def snapshot(self) -> Snapshot:
        """How things are now; asked up to four times a second."""

    def subscribe(self, call: Callable[[], object]) -> Callable[[], object] | None:
        """Have a function called when something changed, until what is returned is called.

        None: nobody tells, so it has to be asked.
        """

    def settle(self, study_uid: str) -> object:
        """Settle what came of a study without waiting; may take long."""

    def retry(self, series: SeriesKey) -> object:
        """Try again what failed with a series; may take long."""

    def names(self, study_uids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """PatientID and StudyDescription of those of these studies that are known. Identifying."""
