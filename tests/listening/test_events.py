"""Events are kept, told in order, told together where there are many, and never hold up who adds them."""

from __future__ import annotations

import json
import time
from threading import Event as Flag
from threading import Thread

import pytest

from dicomlake.listening.events import Event, EventLog, Watchers
from dicomlake.network.seams import Sender, Stored, StoreRequest
from tests.listening.arriving import FIRST
from tests.listening.senders import CT, request, result


def test_events_are_kept_in_their_order_the_newest_of_them() -> None:
    log = EventLog(size=3)
    for number in range(5):
        log.tell("disk_low", detail=str(number))
    assert [one.detail for one in log.recent()] == ["2", "3", "4"]
    assert [one.number for one in log.recent()] == [3, 4, 5]
    assert [one.detail for one in log.recent(1)] == ["4"]
    assert log.recent(0) == []
    assert log.recent(kinds=("stopped",)) == []


def test_an_event_is_json_without_what_is_empty() -> None:
    log = EventLog()
    log.opened(CT)
    (event,) = log.recent()
    told = json.loads(json.dumps(event.as_dict()))
    at = told.pop("at")
    assert at.endswith("+00:00")
    assert told == {
        "kind": "association_opened",
        "association": "a1",
        "calling": "CT1",
        "called": "DICOMLAKE",
        "host": "192.0.2.7",
        "count": 1,
        "number": 1,
    }


def test_many_objects_of_a_series_are_told_as_few_events_that_count_them() -> None:
    told: list[Event] = []
    log = EventLog()
    with log.subscribe(told.append):
        began = time.monotonic()
        for number in range(1000):
            log.stored(request(number), result(), 0.001)
        took = time.monotonic() - began
        assert log.flush()
    log.close()
    assert sum(one.count for one in told) == 1000
    assert len(told) <= 10 * took + 2, "ten a second"
    assert {(one.kind, one.series_uid) for one in told} == {("stored", FIRST)}
    assert told[-1].sop_instance_uid == f"{FIRST}.999"
    assert sum(one.seconds or 0 for one in told) == pytest.approx(1.0)


def test_the_last_objects_are_told_though_nothing_follows() -> None:
    told = Flag()
    log = EventLog()
    with log.subscribe(lambda _event: told.set()):
        log.stored(request(), result(), 0.001)
        assert told.wait(5)
    log.close()


def test_what_is_told_together_comes_before_what_followed_it() -> None:
    log = EventLog()
    log.opened(CT)
    log.stored(request(1), result(), 0.001)
    log.stored(request(2), result(), 0.001)
    log.closed(CT, "released")
    assert [(one.kind, one.count) for one in log.recent()] == [
        ("association_opened", 1),
        ("stored", 2),
        ("association_closed", 1),
    ]


def test_what_became_of_an_object_is_told_by_its_kind() -> None:
    log = EventLog()
    for outcome in ("stored", "already", "conflict", "full", "unreadable"):
        log.stored(request(), result(outcome, detail="no space left" if outcome == "full" else ""), 0.001)
    log.refused("192.0.2.9", "NOBODY", "unknown AE title")
    assert [(one.kind, one.detail) for one in log.recent()] == [
        ("stored", ""),
        ("already", ""),
        ("conflict", ""),
        ("object_refused", "full: no space left"),
        ("object_refused", "unreadable"),
        ("association_refused", "unknown AE title"),
    ]


def test_a_flood_of_refusals_becomes_few_events() -> None:
    log = EventLog()
    for _ in range(5000):
        log.refused("192.0.2.9", "NOBODY", "unknown AE title")
    assert len(log.recent()) < 100
    assert sum(one.count for one in log.recent()) == 5000


def test_nobody_listening_costs_no_memory() -> None:
    log = EventLog(size=10)
    for number in range(300):
        log.stored(request(number, Sender("CT1", "L", "192.0.2.7", f"a{number}")), result(), 0.001)
        if number % 100 == 0:
            time.sleep(0.11)
    assert len(log._together) <= 100
    assert len(log._kept) == 10


def test_a_listener_that_fails_or_waits_holds_up_nobody() -> None:
    told: list[str] = []
    go_on = Flag()
    log = EventLog()

    def fails(event: Event) -> None:
        raise RuntimeError

    bad = log.subscribe(fails)
    log.subscribe(lambda _event: go_on.wait(10), kinds=("started",))
    log.subscribe(lambda event: told.append(event.kind))
    began = time.monotonic()
    for kind in ("started", "disk_low", "stopped"):
        log.tell(kind)
    assert time.monotonic() - began < 1
    go_on.set()
    assert log.flush()
    assert told == ["started", "disk_low", "stopped"]
    assert bad.failures == 3
    log.close()


def test_events_can_be_iterated_from_now_on() -> None:
    log = EventLog()
    log.tell("started")
    events = log.iter(kinds=("disk_low", "stopped"), timeout=5)
    log.tell("disk_low")
    log.tell("started")
    log.tell("stopped")
    assert [next(events).kind for _ in range(2)] == ["disk_low", "stopped"]
    events.close()  # type: ignore[attr-defined]
    assert list(log.iter(timeout=0.05)) == []
    log.close()


def test_events_of_many_threads_are_all_there() -> None:
    told: list[Event] = []
    log = EventLog()

    def send(name: str) -> None:
        for number in range(200):
            log.stored(request(number, Sender(name, "L", "192.0.2.7", name)), result(), 0.001)
        log.closed(Sender(name, "L", "192.0.2.7", name), "released")

    with log.subscribe(told.append):
        threads = [Thread(target=send, args=(f"CT{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.flush()
    log.close()
    assert sum(one.count for one in told if one.kind == "stored") == 1600
    assert [one.number for one in told] == list(range(1, len(told) + 1))
    for name in ("CT0", "CT7"):
        mine = [one for one in told if one.calling == name]
        assert mine[-1].kind == "association_closed"
        assert sum(one.count for one in mine[:-1]) == 200


def test_one_watcher_that_fails_does_not_keep_others_from_being_told() -> None:
    class Broken:
        def opened(self, sender: Sender) -> None:
            raise ValueError

        def refused(self, host: str, calling: str, reason: str) -> None:
            raise ValueError

        def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
            raise ValueError

        def closed(self, sender: Sender, how: str) -> None:
            raise ValueError

    log = EventLog()
    both = Watchers(Broken(), log)
    both.opened(CT)
    both.stored(request(), result(), 0.1)
    both.refused("192.0.2.9", "X", "full")
    both.closed(CT, "aborted")
    assert len(log.recent()) == 4
