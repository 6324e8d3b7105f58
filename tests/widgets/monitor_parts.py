"""A source that a test moves, and rows for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from dicomlake.records import SeriesKey
from dicomlake.widgets.monitor.source import Snapshot
from tests.objects import ROOT

NAME = "Planted^Name-4711"
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def study(number: int) -> str:
    return f"{ROOT}.{number}000"


def series(of: int, number: int = 1, **others: Any) -> Any:
    row = {
        "study_uid": study(of),
        "series_uid": f"{study(of)}.{number}",
        "modality": "CT",
        "state": "arriving",
        "received": 3,
        "expected": None,
        "missing": None,
        "missing_numbers": [],
        "since": f"2026-01-31T10:{of:02}:{number:02}.000+00:00",
        "calling": "CT1",
        "problem": "",
    }
    return row | others


def failure(name: str = "f1", **others: Any) -> Any:
    row = {
        "id": name,
        "at": "2026-01-31T10:00:00.000+00:00",
        "kind": "object_refused",
        "study_uid": "",
        "series_uid": "",
        "calling": "CT1",
        "reason": "unreadable: the data set is cut",
        "count": 1,
        "retry": False,
    }
    return row | others


def event(number: int, kind: str = "stored", **others: Any) -> Any:
    row = {
        "id": str(number),
        "at": f"2026-01-31T10:00:{number % 60:02}.000+00:00",
        "kind": kind,
        "study_uid": study(1),
        "series_uid": f"{study(1)}.1",
        "calling": "CT1",
        "count": 3,
        "detail": "",
    }
    return row | others


def receiver(objects: int = 0, bytes_: int = 0, **others: Any) -> Any:
    row = {
        "token": "r",
        "ae_title": "DICOMLAKE",
        "host": "127.0.0.1",
        "ports": [11112],
        "associations": 1,
        "objects": objects,
        "bytes": bytes_,
        "since": "2026-01-31T09:00:00.000+00:00",
    }
    return row | others


class FakeSource:
    """told: whether it tells of changes. asked: how often it was looked at. did: what was to be done."""

    def __init__(self, *, told: bool = True, **sections: Any) -> None:
        self.now: Any = {
            "receivers": [receiver()],
            "disk": {"free": 900_000_000_000, "total": 2_000_000_000_000, "low": False},
            "commitments": 0,
            "series": [],
            "failures": [],
            "log": [],
        } | sections
        self.told, self.asked, self.did = told, 0, list[tuple[Any, ...]]()
        self.listeners: list[Callable[[], object]] = []
        self.failing: Exception | None = None
        self._lock = Lock()

    def set(self, **sections: Any) -> None:
        """Change something and tell."""
        with self._lock:
            self.now = self.now | sections
        for call in list(self.listeners):
            call()

    def snapshot(self) -> Snapshot:
        with self._lock:
            self.asked += 1
            if self.failing is not None:
                raise self.failing
            found: Snapshot = copy.deepcopy(self.now)
            return found

    def subscribe(self, call: Callable[[], object]) -> Callable[[], object] | None:
        if not self.told:
            return None
        self.listeners.append(call)
        return lambda: self.listeners.remove(call)

    def settle(self, study_uid: str) -> None:
        self.did.append(("settle", study_uid))

    def retry(self, series: SeriesKey) -> None:
        self.did.append(("retry", series))

    def names(self, study_uids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        self.did.append(("names", *study_uids))
        return {
            uid: {"PatientID": NAME, "StudyDescription": f"Chest {EVIL}"}
            for uid in study_uids
            if uid != study(9)
        }
