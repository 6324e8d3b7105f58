"""What the monitor shows of a receiver in this process, or of a lake that one in another process fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dicomlake.catalog import lately, network, reader, underway
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError, DicomlakeError
from dicomlake.listening.building import Here
from dicomlake.listening.events import Event, EventLog
from dicomlake.listening.expecting import combined
from dicomlake.listening.live import receivers
from dicomlake.listening.monitoring_rows import (
    OF_SERIES,
    arrived,
    at_work,
    disk,
    logged,
    modalities,
    of_catalog,
    of_events,
    of_settler,
    receiver_row,
    state_of,
)
from dicomlake.listening.settling import Settler
from dicomlake.listening.tracked import Expectation
from dicomlake.records import SeriesKey
from dicomlake.settings import Mode
from dicomlake.storage.objectstore import Storage

if TYPE_CHECKING:  # widgets are heavy to import
    from dicomlake.widgets.monitor.source import DiskRow, FailureRow, SeriesRow, Snapshot

_HOURS = 24.0  # how far back failures are shown
_MINUTES = 60.0  # how far back a series counts as one that came lately
_NEWEST, _ARRIVALS, _LOGGED, _CLOSELY = 2000, 1000, 100, 50
_SECONDS = len("2026-01-31T23:00:00")
_FAILING = (
    *("object_refused", "conflict", "association_refused", "commitment_failed"),
    *("webhook_failed", "webhook_dropped", "disk_low", *OF_SERIES),
)


class LakeSource:
    """A lake, looked at through its catalog and the files that running receivers leave. A monitor's Source.

    root: of the lake. mode: how volumes are kept. Nobody tells of changes: it is asked.
    """

    def __init__(self, catalog: Catalog, storage: Storage, root: Path, mode: Mode = "copy") -> None:
        self._catalog, self._storage, self._root, self._mode = catalog, storage, root, mode
        self._lock = Lock()
        self._rows: dict[SeriesKey, SeriesRow] = {}
        self._stamp: tuple[Any, ...] = ()
        self._busy: dict[SeriesKey, str] = {}  # what this process itself works on

    # ---- being asked ----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """See Source."""
        running = receivers(self._root)
        with self._lock, self._catalog.read() as view:
            after = underway.minutes_ago(_MINUTES)
            self._renew(view, after, at_work(running))
            return {
                "receivers": [receiver_row(one) for one in running],
                "disk": disk(self._root),
                "commitments": lately.open_commitments(view),
                "series": self._shown(),
                "failures": [of_catalog(one) for one in underway.failures(view, lately.since(_HOURS))],
                "log": [arrived(one) for one in underway.log(view, after, _ARRIVALS)[-_LOGGED:]],
            }

    def subscribe(self, call: Callable[[], object]) -> None:
        """See Source: nobody tells."""

    def names(self, study_uids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """See Source."""
        with self._catalog.read() as view:
            found = underway.names_of_studies(view, study_uids)
        return {uid: one._asdict() for uid, one in found.items()}

    def describe(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, str]:
        """The modality of each of these series, or what its SOP class says where it is not visible yet."""
        with self._catalog.read() as view:
            return modalities(view, keys)

    def failures(self) -> list[FailureRow]:
        """What the catalog knows of what went wrong lately."""
        with self._catalog.read() as view:
            return [of_catalog(one) for one in underway.failures(view, lately.since(_HOURS))]

    def commitments(self) -> int:
        """How many promises peers wait for."""
        with self._catalog.read() as view:
            return lately.open_commitments(view)

    def disk(self) -> DiskRow:
        """The device of the lake."""
        return disk(self._root)

    # ---- rows -----------------------------------------------------------------------------------------

    def _renew(self, view: Any, after: str, builds: bool) -> None:
        """Read again the series that are not done, and those that something came of; called with the lock."""
        newest = network.arrivals(view, limit=1)
        stamp = (self._catalog.head(), newest[0].at if newest else "", builds)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        waiting = lately.unsettled_counts(view)
        lately_came = underway.came_lately(view, after, _ARRIVALS)
        open_ones = [key for key, row in self._rows.items() if row["state"] != "ready"]
        keys = list(dict.fromkeys([*reversed(lately_came), *open_ones, *waiting]))[-_NEWEST:]
        lacking = underway.without_volumes(view, keys) if builds else set()
        failed = {one.series: one.reason for one in underway.series_failures(view)}
        for key, row in self._read(view, keys).items():
            row["state"] = state_of(key in waiting, key in lacking, key in failed)
            row["problem"] = failed.get(key, "")
            self._rows[key] = row
        rows = sorted(self._rows.items(), key=lambda item: item[1]["since"])
        self._rows = dict(rows[-_NEWEST:])

    def _read(self, view: Any, keys: Sequence[SeriesKey]) -> dict[SeriesKey, SeriesRow]:
        came, held, modality = underway.came(view, keys), underway.held(view, keys), modalities(view, keys)
        closely = set(keys[-_CLOSELY:])  # what costs a look at every instance
        found: dict[SeriesKey, SeriesRow] = {}
        for key in keys:
            told = _expected(view, key) if key in closely else None
            when = came.get(key)
            number = held[key].instances if key in held else 0
            count = None if told is None else told.count
            missing = None if told is None else len(told.missing) if told.named else None
            if missing is None and count is not None:
                missing = max(0, count - number)
            gaps = network.missing_numbers(view, key) if key in closely else []
            found[key] = {
                "study_uid": key.study_uid,
                "series_uid": key.series_uid,
                "modality": modality.get(key, ""),
                "state": "ready",
                "received": number,
                "expected": count,
                "missing": missing,
                "missing_numbers": [list(gap) for gap in gaps],
                "since": when.first if when else "",
                "calling": when.calling if when else "",
                "problem": "",
            }
        return found

    def _shown(self) -> list[SeriesRow]:
        found = []
        for key, row in self._rows.items():
            shown = row.copy()
            shown["state"] = self._busy.get(key, row["state"])
            found.append(shown)
        return found

    # ---- work -----------------------------------------------------------------------------------------

    def settle(self, study_uid: str) -> None:
        """See Source. Raises DicomlakeError for what could not be done, after trying all of the study."""
        with self._catalog.read() as view:
            waiting = [key for key in reader.unsettled(view) if key.study_uid == study_uid]
            shown = [key for key in self._rows if key.study_uid == study_uid]
            lacking = underway.without_volumes(view, shown)
        problems = []
        for key in dict.fromkeys([*waiting, *sorted(lacking)]):
            try:
                self._work_on(key, key in waiting)
            except DicomlakeError as error:
                problems.append(str(error))
        if problems:
            raise CatalogError("; ".join(problems))

    def retry(self, series: SeriesKey) -> None:
        """See Source. Raises DicomlakeError for what could still not be done."""
        with self._catalog.read() as view:
            waiting = series in reader.unsettled(view)
        self._work_on(series, waiting)

    def _work_on(self, key: SeriesKey, unsettled: bool) -> None:
        if self._catalog.database.read_only:
            raise CatalogError("the lake is read-only: open one that can be written to settle what came")
        work = Here(self._catalog, self._storage, self._mode)
        try:
            if unsettled:
                self._says(key, "settling")
                work.settle(key)
                work.after()
            self._says(key, "building")
            outcome = work.build(key)
        finally:
            self._says(key, "")
        if outcome.problems:
            raise CatalogError("; ".join(outcome.problems))

    def _says(self, key: SeriesKey, state: str) -> None:
        with self._lock:
            self._busy.pop(key, None)
            if state:
                self._busy[key] = state


def _expected(view: Any, key: SeriesKey) -> Expectation | None:
    said = network.expectations(view, series_uid=key.series_uid)
    return combined([one for one in said if one.study_uid in ("", key.study_uid)])


class ReceiverSource:
    """A receiver in this process, which tells of changes itself. A monitor's Source.

    events, settler: its own. lake: what is in the catalog. facts: what it tells of itself.
    """

    def __init__(
        self,
        events: EventLog,
        settler: Settler,
        lake: LakeSource,
        facts: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._events, self._settler, self._lake, self._facts = events, settler, lake, facts
        self._modality: dict[SeriesKey, tuple[str, str]] = {}  # with the state that it was looked up in
        self._before: list[FailureRow] | None = None

    def snapshot(self) -> Snapshot:
        """See Source."""
        facts, device = self._told(), self._lake.disk()
        rows = self._settler.progress()[-_NEWEST:]
        return {
            "receivers": [receiver_row(facts)] if facts else [],
            "disk": device,
            "commitments": self._lake.commitments(),
            "series": self._series(rows),
            "failures": [*self._earlier(facts, rows), *of_events(self._failing(device), rows)],
            "log": [logged(event) for event in self._events.recent(_LOGGED)],
        }

    def subscribe(self, call: Callable[[], object]) -> Callable[[], object]:
        """See Source."""
        return self._events.subscribe(lambda _event: call()).close

    def settle(self, study_uid: str) -> None:
        """See Source; returns at once."""
        self._settler.settle_now(study_uid=study_uid)

    def retry(self, series: SeriesKey) -> None:
        """See Source; returns at once where the receiver knows the series."""
        if not self._settler.settle_now(series=series):
            self._lake.retry(series)
            self._before = None

    def names(self, study_uids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """See Source."""
        return self._lake.names(study_uids)

    def _told(self) -> Mapping[str, Any]:
        """What the receiver tells of itself; nothing once it stopped."""
        last = self._events.recent(1, kinds=("started", "stopped"))
        if last and last[0].kind == "stopped":
            return {}
        with suppress(OSError):  # it stops at this moment: the socket is closed
            return self._facts()
        return {}

    def _failing(self, device: DiskRow) -> list[Event]:
        """Events that tell of failures, of the last hours; of the disk as long as it is so."""
        after = lately.since(_HOURS)[:_SECONDS]
        found = self._events.recent(kinds=_FAILING)
        return [one for one in found if one.at >= after and (one.kind != "disk_low" or device["low"])]

    def _series(self, rows: Sequence[Mapping[str, Any]]) -> list[SeriesRow]:
        keyed = [(SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]), row) for row in rows]
        visible = ("building", "ready")  # then the catalog says it in the words of its sender
        ask = [
            key
            for key, row in keyed
            if key not in self._modality
            or (row["state"] in visible and self._modality[key][1] not in visible)
        ]
        states = {key: row["state"] for key, row in keyed}
        if ask:
            found = self._lake.describe(ask)
            self._modality |= {key: (found.get(key, ""), states[key]) for key in ask}
        self._modality = {key: self._modality[key] for key in states if key in self._modality}
        return [of_settler(key, row, self._modality.get(key, ("", ""))[0]) for key, row in keyed]

    def _earlier(self, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[FailureRow]:
        """What went wrong before this receiver began, but for the series that it got since."""
        if self._before is None:
            began = str(facts.get("since") or "")[:_SECONDS]
            self._before = [one for one in self._lake.failures() if one["at"][:_SECONDS] < began]
        got = {row["SeriesInstanceUID"] for row in rows}
        return [one for one in self._before if not (one["retry"] and one["series_uid"] in got)]
