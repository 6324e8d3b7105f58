"""What the page of the monitor shows, made of snapshots, and what changes of it from one to the next.

The page never has whole UIDs: a study or series is told by a short key that means something to this monitor
alone, and shown by the end of its UID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from dicomlake.records import SeriesKey
from dicomlake.widgets.base import without_uids
from dicomlake.widgets.monitor.rates import Rate
from dicomlake.widgets.monitor.source import FailureRow, LogRow, SeriesRow, Snapshot

Rows = dict[str, dict[str, Any]]
Page = dict[str, Rows]
"""Section (head, studies, series, failures, log) to rows by their key."""

SECTIONS = ("head", "studies", "series", "failures", "log")
STUDIES, SERIES, FAILURES, LOGGED = 200, 2000, 200, 100  # the newest that are shown
_TEXT = 300  # letters of a reason
_WORST_FIRST = ("failed", "arriving", "settling", "building", "ready")
_SHOWN_GAPS = 50


class Keys:
    """Short keys of studies and series; the same UID has the same key as long as the monitor lives."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], str] = {}
        self._meant: dict[str, tuple[str, str]] = {}

    def of(self, study_uid: str, series_uid: str = "") -> str:
        """The key of a series, or of a study; empty for none."""
        if not study_uid:
            return ""
        pair = (study_uid, series_uid)
        key = self._keys.get(pair)
        if key is None:
            key = f"{'e' if series_uid else 's'}{len(self._keys) + 1}"
            self._keys[pair], self._meant[key] = key, pair
        return key

    def study(self, key: Any) -> str | None:
        """The UID that a key means."""
        found = self._meant.get(key) if isinstance(key, str) else None
        return found[0] if found and not found[1] else None

    def series(self, key: Any) -> SeriesKey | None:
        """The series that a key means."""
        found = self._meant.get(key) if isinstance(key, str) else None
        return SeriesKey(*found) if found and found[1] else None


def short(uid: str) -> str:
    """The end of a UID, by which people tell one from the next."""
    if len(uid) <= 12:
        return uid
    return "…" + uid[-10:]


def page_of(snapshot: Snapshot, rate: Rate, keys: Keys) -> Page:
    """All that is shown of a snapshot."""
    series = _newest(snapshot["series"])
    return {
        "head": {"head": _head(snapshot, rate)},
        "studies": _studies(series, keys),
        "series": {keys.of(row["study_uid"], row["series_uid"]): _series(row, keys) for row in series},
        "failures": {_digest(row["id"]): _failure(row, keys) for row in snapshot["failures"][-FAILURES:]},
        "log": {_digest(row["id"]): _logged(row, keys) for row in snapshot["log"][-LOGGED:]},
    }


def changes(before: Page, after: Page) -> dict[str, Any]:
    """Section to {set: rows that are new or other, gone: keys}; only sections with changes."""
    found: dict[str, Any] = {}
    for name in SECTIONS:
        old, new = before.get(name, {}), after[name]
        changed = {key: row for key, row in new.items() if old.get(key) != row}
        gone = [key for key in old if key not in new]
        if changed or gone:
            found[name] = {"set": changed, "gone": gone}
    return found


def _digest(text: str) -> str:
    """What stands for an id, which may hold a UID."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def counted(page: Page) -> str:
    """Counts only: what may stand in a saved notebook."""
    states = [row["state"] for row in page.get("studies", {}).values()]
    ready, failures = states.count("ready"), len(page.get("failures", {}))
    studies = f"{len(states):,} {'study' if len(states) == 1 else 'studies'}, {ready:,} ready"
    return f"{studies}, {failures:,} {'failure' if failures == 1 else 'failures'}"


def _newest(rows: Sequence[SeriesRow]) -> list[SeriesRow]:
    """The rows of the newest studies, whole studies as far as possible."""
    studies: dict[str, None] = {}
    for row in reversed(rows):
        if len(studies) < STUDIES:
            studies.setdefault(row["study_uid"])
    return [row for row in rows if row["study_uid"] in studies][-SERIES:]


def _head(snapshot: Snapshot, rate: Rate) -> dict[str, Any]:
    states = [row["state"] for row in snapshot["series"]]
    return {
        "receivers": [
            {
                "ae_title": one["ae_title"],
                "host": one["host"],
                "ports": one["ports"],
                "associations": one["associations"],
                "since": one["since"],
            }
            for one in snapshot["receivers"]
        ],
        "associations": sum(one["associations"] for one in snapshot["receivers"]),
        "objects": sum(one["objects"] for one in snapshot["receivers"]),
        "objects_s": round(rate.objects, 1),
        "mb_s": round(rate.bytes / 1e6, 2),
        "spark": list(rate.by_second),
        "disk": {**snapshot["disk"], "free": _rough(snapshot["disk"]["free"])},
        "queue": {state: states.count(state) for state in _WORST_FIRST if state != "ready"},
        "commitments": snapshot["commitments"],
    }


def _rough(free: int) -> int:
    """To three digits: the rest changes all the time, and nobody reads it."""
    step = int(10 ** max(0, len(str(free)) - 3))
    return free // step * step


def _series(row: SeriesRow, keys: Keys) -> dict[str, Any]:
    return {
        "study": keys.of(row["study_uid"]),
        "label": short(row["series_uid"]),
        "modality": row["modality"][:16],
        "state": row["state"],
        "received": row["received"],
        "expected": row["expected"],
        "missing": row["missing"],
        "gaps": row["missing_numbers"][:_SHOWN_GAPS],
        "since": row["since"],
        "calling": row["calling"],
        "problem": _told(row["problem"]) if row["state"] == "failed" else "",
    }


def _studies(rows: Sequence[SeriesRow], keys: Keys) -> Rows:
    by_study: dict[str, list[SeriesRow]] = {}
    for row in rows:
        by_study.setdefault(row["study_uid"], []).append(row)
    return {keys.of(uid): _study(uid, of_it) for uid, of_it in by_study.items()}


def _study(uid: str, rows: Sequence[SeriesRow]) -> dict[str, Any]:
    states = {row["state"] for row in rows}
    expected = [row["expected"] for row in rows]
    missing = [row["missing"] for row in rows if row["missing"] is not None]
    return {
        "label": short(uid),
        "state": next((state for state in _WORST_FIRST if state in states), "ready"),
        "series": len(rows),
        "modalities": sorted({row["modality"] for row in rows if row["modality"]}),
        "received": sum(row["received"] for row in rows),
        "expected": sum(n for n in expected if n is not None) if None not in expected else None,
        "missing": sum(missing) if missing else None,
        "gaps": sum(len(row["missing_numbers"]) for row in rows),
        "since": min((row["since"] for row in rows if row["since"]), default=""),
        "calling": sorted({row["calling"] for row in rows if row["calling"]}),
        "open": sum(row["state"] in ("arriving", "failed") for row in rows),
    }


def _failure(row: FailureRow, keys: Keys) -> dict[str, Any]:
    return {
        "at": row["at"],
        "kind": row["kind"],
        "study": keys.of(row["study_uid"]),
        "series": keys.of(row["study_uid"], row["series_uid"]) if row["series_uid"] else "",
        "label": short(row["series_uid"] or row["study_uid"]),
        "calling": row["calling"],
        "reason": _told(row["reason"]),
        "count": row["count"],
        "retry": row["retry"] and bool(row["series_uid"]),
    }


def _logged(row: LogRow, keys: Keys) -> dict[str, Any]:
    return {
        "at": row["at"],
        "kind": row["kind"],
        "study": keys.of(row["study_uid"]),
        "label": short(row["series_uid"] or row["study_uid"]),
        "calling": row["calling"],
        "count": row["count"],
        "detail": _told(row["detail"]),
    }


def _told(text: str) -> str:
    """A text of a source as it may be shown: without UIDs, not too long."""
    return without_uids(str(text))[:_TEXT]
