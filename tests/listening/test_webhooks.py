"""Webhooks reach a real server: signed, in order, again after failures, and never in the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from dicomlake.errors import DicomlakeError
from dicomlake.listening.events import EventLog
from dicomlake.listening.webhooks import DELIVERY, SIGNATURE, TIMESTAMP, Webhooks, read_secret, verified
from tests.listening.arriving import FIRST

SECRET = b"a secret of many bytes"


class Server:
    """Answers with the statuses it was given, then 204; keeps what came."""

    def __init__(self, *statuses: int) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.statuses = list(statuses)
        self.hold: Flag | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if server.hold is not None:
                    server.hold.wait(20)
                server.came.append((dict(self.headers.items()), body))
                self.send_response(server.statuses.pop(0) if server.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/hook"
        self._thread = Thread(target=self._http.serve_forever)
        self._thread.start()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _headers, body in self.came]

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@contextmanager
def server(*statuses: int) -> Iterator[Server]:
    found = Server(*statuses)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def log() -> Iterator[EventLog]:
    found = EventLog()
    yield found
    found.close()


def until(true: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def test_chosen_events_are_posted_in_order_and_signed(log: EventLog) -> None:
    with server() as other:
        hooks = Webhooks(log, other.url, secret=SECRET)
        log.tell("series_ready", series_uid=FIRST, count=5)
        log.tell("series_settled", series_uid=FIRST)  # not chosen
        log.tell("study_ready", study_uid="1.2")
        until(lambda: len(other.came) == 2)
        assert hooks.close() == 0
    assert [one["kind"] for one in other.events()] == ["series_ready", "study_ready"]
    assert (other.events()[0]["series_uid"], other.events()[0]["count"]) == (FIRST, 5)
    for headers, body in other.came:
        assert headers["Content-Type"] == "application/json"
        assert verified(SECRET, headers[TIMESTAMP], body, headers[SIGNATURE])
        assert not verified(SECRET, headers[TIMESTAMP], body + b" ", headers[SIGNATURE])
        assert not verified(b"another secret, as long", headers[TIMESTAMP], body, headers[SIGNATURE])
        assert not verified(SECRET, "1000000000", body, headers[SIGNATURE]), "an old one, sent again"
    assert len({headers[DELIVERY] for headers, _body in other.came}) == 2


def test_a_delivery_that_fails_is_made_again_under_its_number(log: EventLog) -> None:
    with server(503, 429) as other:
        hooks = Webhooks(log, other.url, again_s=(0.02, 0.02, 0.02))
        log.tell("series_ready", series_uid=FIRST)
        until(lambda: len(other.came) == 3)
        hooks.close()
    assert len({headers[DELIVERY] for headers, _body in other.came}) == 1
    assert SIGNATURE not in other.came[0][0]
    assert [one.detail for one in log.recent(kinds=("webhook_failed",))] == [
        "series_ready: status 503; it is tried again"
    ]


@pytest.mark.parametrize(("status", "posts"), [(404, 1), (302, 1), (500, 3)])
def test_a_delivery_is_given_up_at_last_and_the_next_is_made(log: EventLog, status: int, posts: int) -> None:
    with server(*[status] * posts) as other:
        hooks = Webhooks(log, other.url, again_s=(0.02, 0.02))
        log.tell("series_ready")
        log.tell("study_ready")
        until(lambda: len(other.came) == posts + 1)
        hooks.close()
    assert [one["kind"] for one in other.events()] == [*["series_ready"] * posts, "study_ready"]
    assert log.recent(kinds=("webhook_failed",))[-1].detail == f"series_ready: status {status}; given up"


def test_nobody_there_is_an_event_and_not_an_error(log: EventLog) -> None:
    with server() as other:
        url = other.url
    hooks = Webhooks(log, url, again_s=())
    log.tell("series_ready")
    until(lambda: log.recent(kinds=("webhook_failed",)))
    hooks.close()
    (failed,) = log.recent(kinds=("webhook_failed",))
    assert failed.detail == "series_ready: ConnectError; given up"
    assert url not in failed.detail, "a URL may hold what is secret"


def test_a_server_that_is_slow_costs_deliveries_and_holds_up_nobody(log: EventLog) -> None:
    with server() as other:
        other.hold = Flag()
        hooks = Webhooks(log, other.url, timeout_s=10, waiting=5)
        began = time.monotonic()
        for _ in range(20):
            log.tell("series_ready")
        assert log.flush()
        assert time.monotonic() - began < 2
        assert hooks.waiting == 5
        assert len(log.recent(kinds=("webhook_dropped",))) == 15
        other.hold.set()
        until(lambda: hooks.waiting == 0)
        hooks.close()


def test_what_cannot_be_delivered_does_not_hold_up_the_end(log: EventLog) -> None:
    with server(*[503] * 9) as other:
        hooks = Webhooks(log, other.url, again_s=(60.0,))
        log.tell("series_ready")
        until(lambda: other.came)
        began = time.monotonic()
        assert hooks.close(drain_s=0.1) == 1
        assert time.monotonic() - began < 5


def test_only_events_that_there_are_can_be_chosen(log: EventLog) -> None:
    for kinds in (["nothing"], ["webhook_failed"]):  # the latter would go round in a circle
        with pytest.raises(DicomlakeError, match=f"no such events for webhooks: {kinds[0]}"):
            Webhooks(log, "http://127.0.0.1:1/", kinds=kinds)


def test_the_secret_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(DicomlakeError, match="cannot be read"):
        read_secret(path)
    path.write_bytes(b"short\n")
    with pytest.raises(DicomlakeError, match="too short"):
        read_secret(path)
    path.write_bytes(SECRET + b"\n")
    assert read_secret(path) == SECRET
