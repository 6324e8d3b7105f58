"""Logs tell what happened on an association in one line, and never a value of a data set."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dicomlake.errors import StorageError
from dicomlake.listening import logs
from dicomlake.listening.events import Event
from dicomlake.listening.logs import LogWatcher
from tests.listening.arriving import FIRST
from tests.listening.senders import CT, request, result

SECRET = "Phantom^Small"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    names = ("dicomlake", "pynetdicom", "pydicom", "httpx")
    before = {
        name: (list((one := logging.getLogger(name)).handlers), one.level, one.propagate) for name in names
    }
    yield io.StringIO()
    for name, (handlers, level, propagate) in before.items():
        one = logging.getLogger(name)
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_association_is_one_line_that_sums_it_up(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    watcher = LogWatcher()
    watcher.opened(CT)
    for number in range(3):
        watcher.stored(request(number), result(), 0.01)
    watcher.stored(request(9), result("already"), 0.01)
    watcher.closed(CT, "released")
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("seconds") >= 0
    assert line == {
        "level": "info",
        "logger": "dicomlake.listening",
        "message": "association released",
        "event": "association_closed",
        "association": "a1",
        "calling": "CT1",
        "called": "DICOMLAKE",
        "host": "192.0.2.7",
        "how": "released",
        "instances": 4,
        "bytes": 4000,
        "outcomes": {"stored": 3, "already": 1},
    }


def test_an_object_that_is_not_taken_is_told_once_for_each_outcome(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    watcher = LogWatcher()
    watcher.opened(CT)
    for number in range(50):
        watcher.stored(request(number), result("full", detail="no space left"), 0.01)
    watcher.closed(CT, "aborted")
    refused, closed = lines(stream)
    assert (refused["event"], refused["status"], refused["detail"]) == (
        *("object_not_taken", "full", "no space left"),
    )
    assert refused["sop_instance_uid"] == f"{FIRST}.0"
    assert (closed["level"], closed["outcomes"]) == ("warning", {"full": 50})


def test_a_flood_of_refusals_is_few_lines(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    watcher = LogWatcher()
    for _ in range(1000):
        watcher.refused("192.0.2.9", "NOBODY", "unknown AE title")
    assert len(lines(stream)) == 1


def test_text_is_for_people(stream: io.StringIO) -> None:
    logs.configure("text", stream=stream)
    watcher = LogWatcher()
    watcher.opened(CT)
    watcher.closed(CT, "released")
    assert "info association released association=a1 calling=CT1 called=DICOMLAKE" in stream.getvalue()
    with pytest.raises(ValueError, match="text or json"):
        logs.configure("xml")  # type: ignore[arg-type]


def test_configuring_twice_does_not_write_twice(stream: io.StringIO) -> None:
    logs.configure("json", stream=io.StringIO())
    logs.configure("json", stream=stream)
    LogWatcher().closed(CT, "released")
    assert len(lines(stream)) == 1


def test_events_are_logged_but_not_those_of_associations_again(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    watcher = LogWatcher()
    for kind in ("stored", "association_opened", "series_ready", "volume_failed"):
        watcher.event(Event(kind, series_uid=FIRST, seconds=1.5))
    ready, failed = lines(stream)
    assert (ready["level"], ready["event"], ready["series_uid"]) == ("info", "series_ready", FIRST)
    assert (failed["level"], failed["event"]) == ("warning", "volume_failed")


@pytest.mark.parametrize(
    "message",
    [
        f"cannot store {SECRET} now",
        "born 19560229 in it",
        f"(0010,0010) PN [{SECRET}] # 14",
        "0010,0020 LO phantom",
        "two\nlines of Phantom^Small",
    ],
)
@pytest.mark.parametrize("format", ["json", "text"])
def test_what_may_identify_somebody_is_taken_out(stream: io.StringIO, message: str, format: Any) -> None:
    logs.configure(format, stream=stream)
    logging.getLogger("dicomlake.network").warning(message, extra={"detail": message})
    logging.getLogger("dicomlake.network").warning("%s", message)
    written = stream.getvalue()
    assert len(written.splitlines()) == 2
    for value in ("Phantom", "19560229", "phantom"):
        assert value not in written


def test_uids_titles_and_addresses_are_left_as_they_are(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    words = "series 1.2.840.113619.2.20240229.7 of CT_20 at 192.0.2.7:11112 and 2001:db8::1"
    logging.getLogger("dicomlake.network").warning(words)
    assert lines(stream)[0]["message"] == words


def test_other_libraries_say_that_something_is_wrong_and_no_more(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    logging.getLogger("pydicom").warning("Invalid value for VR PN: %r", SECRET)
    logging.getLogger("pynetdicom.assoc").error("got %s", SECRET)
    logging.getLogger("pynetdicom.assoc").info("a data set follows: %s", SECRET)
    assert [line["message"] for line in lines(stream)] == [
        "pydicom: warning, words left out",
        "pynetdicom.assoc: error, words left out",
    ]


def test_an_error_is_told_by_its_kind_and_place_and_our_own_words_only(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    log = logging.getLogger("dicomlake.network")
    for error in (ValueError(f"bad value {SECRET}"), StorageError("no space left: free some")):
        try:
            raise error
        except Exception:
            log.exception("it failed")
    first, second = lines(stream)
    assert first["error"].startswith("ValueError at test_logs.py:")
    assert SECRET not in stream.getvalue()
    assert second["error"].startswith("StorageError: no space left: free some at test_logs.py:")
