"""What a receiver logs, on standard error: one line an event, as text or JSON, without identifying values.

Files and their rotation are the service manager's. What a record may say is decided here: our own words,
a fixed list of facts, and nothing that other libraries print of data sets.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import IO, Any, Literal

from dicomlake.errors import DicomlakeError
from dicomlake.listening.events import Event, told_uid
from dicomlake.network.seams import Sender, Stored, StoreRequest, Watcher

Format = Literal["text", "json"]
FACTS = (
    *("event", "association", "calling", "called", "host", "status", "detail", "reason", "how"),
    *("study_uid", "series_uid", "sop_instance_uid", "instances", "bytes", "seconds", "count", "outcomes"),
    *("port", "ae_titles", "processes"),
)
"""What a record may say beyond its message, by the names that `extra` gives."""

logger = logging.getLogger("dicomlake.listening")

_OTHERS = ("pynetdicom", "pydicom", "httpx")  # print elements of data sets, or URLs that are secret
_REMOVED = "[removed]"
_SUSPECT = re.compile(
    r"[^\s'\"()\[\],;:=]*\^[^'\"()\[\],;:=\n]*"  # a person name, PS3.5 section 6.2.1
    r"|(?<![\d.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d.])"  # a date
    r"|\(?[0-9a-fA-F]{4}\s?,\s?[0-9a-fA-F]{4}\)?\s+[^\n]*"  # an element as libraries print it
)
_EVERY_S = 60.0  # at most one line for each reason of refusal
_AT_ONCE = 10_000  # associations that are summed up


def configure(format: Format = "text", level: int | str = "INFO", *, stream: IO[str] | None = None) -> None:
    """Have everything that a receiver logs written to standard error, or to `stream`.

    Replaces what a former call set up. Raises ValueError for a level or format that there is not.
    """
    if format not in ("text", "json"):
        raise ValueError(f"format is text or json, not {format!r}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    handler.addFilter(LastDefence())
    handler.set_name("dicomlake")
    for name in ("dicomlake", *_OTHERS):
        one = logging.getLogger(name)
        for old in list(one.handlers):
            if old.get_name() == "dicomlake":
                one.removeHandler(old)
        one.addHandler(handler)
        one.propagate = False
        one.setLevel(level if name == "dicomlake" else logging.WARNING)


class LastDefence(logging.Filter):
    """Takes out what may identify somebody, should a record hold it in spite of all care."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record so that it can be written."""
        if record.name.startswith(_OTHERS):
            record.msg, record.args = f"{record.name}: {record.levelname.lower()}, words left out", ()
        else:
            record.msg, record.args = cleaned(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = _of_error(record.exc_info[1])
            record.exc_info = None
        record.stack_info = None
        for name in FACTS:
            value = getattr(record, name, None)
            if isinstance(value, str):
                setattr(record, name, cleaned(value))
        return True


def cleaned(text: str) -> str:
    """A text without what looks like a person name, a date, or a printed element; on one line."""
    plain = "".join(c if c.isprintable() else " " for c in _SUSPECT.sub(_REMOVED, text))
    return plain[:2000]


def _of_error(error: BaseException | None) -> str:
    """Which error, and where; its words only where they are ours."""
    if error is None:
        return ""
    words = f": {cleaned(str(error))}" if isinstance(error, DicomlakeError) else ""
    places, step = [], error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return f"{type(error).__name__}{words} at {' < '.join(reversed(places[-8:]))}"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    found = {name: getattr(record, name, None) for name in FACTS}
    return {name: value for name, value in found.items() if value not in (None, "", {}, [])}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_text:
            line["error"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        at = datetime.datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        facts = " ".join(f"{name}={value}" for name, value in _facts(record).items() if name != "event")
        parts = (at, record.levelname.lower(), record.getMessage(), facts, record.exc_text or "")
        return " ".join(part for part in parts if part)


@dataclass(slots=True)
class _Sum:
    """What an association brought."""

    began: float
    outcomes: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


class LogWatcher(Watcher):
    """Logs associations: one line at the end of each, one for each way not to take objects, few refusals."""

    def __init__(self, log: logging.Logger = logger) -> None:
        self._log, self._lock = log, Lock()
        self._sums: dict[str, _Sum] = {}
        self._refused: dict[tuple[str, str, str], tuple[float, int]] = {}

    def opened(self, sender: Sender) -> None:
        """See Watcher."""
        with self._lock:
            if len(self._sums) < _AT_ONCE:
                self._sums[sender.association] = _Sum(time.monotonic())
        self._say(logging.DEBUG, "association opened", "association_opened", sender)

    def refused(self, host: str, calling: str, reason: str) -> None:
        """See Watcher."""
        at = time.monotonic()
        with self._lock:
            who = (host, calling, reason)
            since, count = self._refused.get(who, (0.0, 0))
            quiet = bool(since) and at - since < _EVERY_S
            self._refused[who] = (since, count + 1) if quiet else (at, 0)
            if len(self._refused) > 100:
                self._refused.clear()
        if not quiet:
            facts = {"event": "association_refused", "host": host, "calling": calling, "reason": reason}
            self._log.warning("association refused", extra=facts | {"count": count + 1})

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:  # noqa: ARG002  # the seam
        """See Watcher."""
        with self._lock:
            one = self._sums.get(request.sender.association)
            first = True
            if one is not None:
                first = not one.outcomes[result.outcome]
                one.outcomes[result.outcome] += 1
                one.bytes += result.size
        if first and result.outcome not in ("stored", "already"):
            facts = {"status": result.outcome, "sop_instance_uid": told_uid(request.sop_instance_uid)}
            words = "conflict" if result.outcome == "conflict" else "object not taken"
            self._say(logging.WARNING, words, words, request.sender, detail=result.detail, **facts)

    def closed(self, sender: Sender, how: str) -> None:
        """See Watcher."""
        with self._lock:
            one = self._sums.pop(sender.association, None) or _Sum(time.monotonic())
        level = logging.INFO if how in ("released", "stopped") else logging.WARNING
        self._say(
            level,
            f"association {how}",
            "association_closed",
            sender,
            how=how,
            instances=one.outcomes.total(),
            bytes=one.bytes,
            seconds=round(time.monotonic() - one.began, 3),
            outcomes=dict(one.outcomes),
        )

    def event(self, event: Event) -> None:
        """Log what happened elsewhere: to be subscribed to an EventLog."""
        if event.kind.startswith("association_") or event.kind in _ON_ASSOCIATIONS:
            return
        bad = event.kind.endswith(("failed", "dropped", "low"))
        facts = {name: getattr(event, name) for name in _OF_EVENT} | {"event": event.kind}
        self._log.log(logging.WARNING if bad else logging.INFO, event.kind.replace("_", " "), extra=facts)

    def _say(self, level: int, words: str, event: str, sender: Sender, **facts: Any) -> None:
        if self._log.isEnabledFor(level):
            of = {name: getattr(sender, name) for name in ("association", "calling", "called", "host")}
            self._log.log(level, words, extra=of | facts | {"event": event.replace(" ", "_")})


_ON_ASSOCIATIONS = frozenset({"stored", "already", "conflict", "object_refused"})
_OF_EVENT = (
    *("association", "calling", "called", "host", "study_uid", "series_uid"),
    *("detail", "count", "seconds"),
)
