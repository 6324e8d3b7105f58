"""The rows that a monitor shows, made of what receivers tell and the catalog knows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomlake.catalog import underway
from dicomlake.dicom import standard
from dicomlake.listening.events import Event
from dicomlake.records import SeriesKey

if TYPE_CHECKING:  # widgets are heavy to import
    from dicomlake.widgets.monitor.source import DiskRow, FailureRow, LogRow, ReceiverRow, SeriesRow

_LOW, _LOW_SHARE = 5 << 30, 50  # bytes free, and the part of the device, that call for attention
OF_SERIES = ("settle_failed", "volume_failed")


# ---- of a receiver ------------------------------------------------------------------------------------


def receiver_row(told: Mapping[str, Any]) -> ReceiverRow:
    """What a receiver tells of itself (`Receiver.as_dict`, `live.receivers`), as far as it is shown."""
    stats = told.get("stats") or {}
    return {
        "token": str(told.get("token") or ""),
        "ae_title": ", ".join(map(str, told.get("ae_titles") or ())),
        "host": str(told.get("host") or ""),
        "ports": [int(port) for port in told.get("ports") or ()],
        "associations": int(told.get("associations") or 0),
        "objects": sum(int(stats.get(name) or 0) for name in ("stored", "already", "conflict")),
        "bytes": int(stats.get("bytes") or 0),
        "since": str(told.get("since") or told.get("started") or ""),
    }


def disk(root: Path) -> DiskRow:
    """The device of a lake; zeros where it cannot be told."""
    with suppress(OSError):
        usage = shutil.disk_usage(root)
        low = usage.free < _LOW or usage.free < usage.total // _LOW_SHARE
        return {"free": usage.free, "total": usage.total, "low": low}
    return {"free": 0, "total": 0, "low": False}


def at_work(running: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a receiver settles or builds, as it says."""
    queues = [one.get("queue") or {} for one in running]
    return any(queue.get("building") or queue.get("settling") for queue in queues)


def of_settler(key: SeriesKey, row: Mapping[str, Any], modality: str) -> SeriesRow:
    """A row of `Settler.progress`."""
    return {
        "study_uid": key.study_uid,
        "series_uid": key.series_uid,
        "modality": modality,
        "state": row["state"],
        "received": row["received"],
        "expected": row["expected"],
        "missing": row["missing"],
        "missing_numbers": row["missing_numbers"],
        "since": row["since"],
        "calling": row["calling"],
        "problem": row["problem"],
    }


def of_events(events: Iterable[Event], rows: Iterable[Mapping[str, Any]]) -> list[FailureRow]:
    """Failures that are alike as one, the newest last; those of series as long as they last."""
    failed = {row["SeriesInstanceUID"]: row["problem"] for row in rows if row["state"] == "failed"}
    found: dict[str, FailureRow] = {}
    for event in events:
        of_series = event.kind in OF_SERIES
        if of_series and event.series_uid not in failed:
            continue
        parts = (event.kind, event.calling, event.host, event.series_uid, "" if of_series else event.detail)
        name = " ".join(parts)
        former = found.pop(name, None)
        found[name] = {
            "id": name,
            "at": event.at,
            "kind": event.kind,
            "study_uid": event.study_uid,
            "series_uid": event.series_uid,
            "calling": event.calling or event.host,
            "reason": event.detail or _reason(event),
            "count": event.count + (former["count"] if former and not of_series else 0),
            "retry": of_series,
        }
    return list(found.values())


def _reason(event: Event) -> str:
    return "came under a UID that another object has; both are kept" if event.kind == "conflict" else ""


def logged(event: Event) -> LogRow:
    """An event, for the log."""
    return {
        "id": str(event.number),
        "at": event.at,
        "kind": event.kind,
        "study_uid": event.study_uid,
        "series_uid": event.series_uid,
        "calling": event.calling or event.host,
        "count": event.count,
        "detail": event.detail,
    }


# ---- of the catalog -----------------------------------------------------------------------------------


def state_of(waiting: bool, builds: bool, failed: bool) -> str:
    """The state of a series as the catalog tells it."""
    if failed:
        return "failed"
    return "arriving" if waiting else "building" if builds else "ready"


def modalities(view: Any, keys: Sequence[SeriesKey]) -> dict[SeriesKey, str]:
    """The modality of each of these series, or a word for its SOP class where it is not visible yet."""
    known = underway.modalities(view, keys)
    held = underway.held(view, [key for key in keys if key not in known])
    return {key: _class_word(one.sop_class_uid) for key, one in held.items()} | known


def _class_word(sop_class_uid: str) -> str:
    """A SOP class in a word, such as CT or Enhanced MR."""
    name = standard.uid_name(sop_class_uid)
    return name.partition(" Image Storage")[0].partition(" Storage")[0] if name != sop_class_uid else ""


def of_catalog(one: underway.Failure) -> FailureRow:
    """A failure that the catalog knows."""
    study, series = one.series or ("", "")
    return {
        "id": one.id,
        "at": one.at,
        "kind": one.kind,
        "study_uid": study,
        "series_uid": series,
        "calling": one.calling,
        "reason": one.reason,
        "count": 1,
        "retry": one.kind in OF_SERIES,
    }


def arrived(row: Mapping[str, Any]) -> LogRow:
    """A row of `underway.log`."""
    study, series = row["series"]
    return {
        "id": row["id"],
        "at": row["at"],
        "kind": row["kind"],
        "study_uid": study,
        "series_uid": series,
        "calling": row["calling"],
        "count": row["count"],
        "detail": "",
    }
