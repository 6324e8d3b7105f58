"""The server: what is offered, who is not waited for, and how it ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dicomlake.errors import CannotListen
from dicomlake.network.seams import Stored, StoreRequest
from dicomlake.network.web.app import app
from dicomlake.network.web.failures import Gone
from dicomlake.network.web.limits import WebLimits
from dicomlake.network.web.serving import HttpServer
from tests.network.collecting import Collecting
from tests.network.web.bodies import STUDIES, TYPE, Served, multipart, served, uid_of
from tests.objects import dicom, series

REQUEST = f"POST {STUDIES} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {TYPE}\r\nContent-Length: %d\r\n\r\n"


class Beginning(Collecting):
    """Tells when an object has begun to come, and what ended it."""

    def __init__(self) -> None:
        super().__init__(whole=True)
        self.begun, self.over = threading.Event(), threading.Event()
        self.broken: Exception | None = None

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        self.begun.set()
        try:
            return super().store(request, pieces)
        except Exception as error:
            self.broken = error
            raise
        finally:
            self.over.set()


def connected(lake: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", lake.server.port), timeout=20)


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_metrics_status_and_health_are_told_with_the_same_headers() -> None:
    words = ["", "full", "draining"]
    with served(
        metrics=lambda: b"objects_total 3\n", status=lambda: {"unsettled": 2}, health=lambda: words[0]
    ) as lake:
        metrics, status = lake.client.get("/metrics"), lake.client.get("/status")
        assert (metrics.content, status.json()) == (b"objects_total 3\n", {"unsettled": 2})
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        for path in ("/metrics", "/status", "/healthz", "/absent", STUDIES):
            headers = lake.client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "server" not in headers
        assert lake.client.get("/healthz").text == "ok"
        for word in words[1:]:
            words[0] = word
            health, stored = lake.client.get("/healthz"), lake.post(multipart(dicom(1)))
            assert (health.status_code, health.text, stored.status_code) == (503, word, 503)
        assert lake.sink.received == {}


def test_what_is_not_given_is_not_offered_and_what_fails_tells_no_values() -> None:
    def fails() -> bytes:
        raise ValueError("Somebody^Secret")

    with served() as lake:
        assert lake.client.get("/metrics").status_code == 404
        assert lake.client.get("/status").status_code == 404
    with served(metrics=fails, health=lambda: fails().decode()) as lake:
        response = lake.client.get("/metrics")
        assert (response.status_code, "Secret" in response.text) == (500, False)
        assert lake.client.get("/healthz").status_code == 503


def test_a_client_that_stalls_within_an_object_is_dropped_and_nothing_of_it_kept() -> None:
    first, second = series(2)
    body = multipart(first, second)
    cut = len(body) - 400
    with served(Beginning(), limits=WebLimits(stall_s=0.4, linger_s=0.2)) as lake, connected(lake) as client:
        client.sendall((REQUEST % len(body)).encode() + body[:cut])
        began = time.monotonic()
        head, _blank, told = everything(client).partition(b"\r\n\r\n")
        assert time.monotonic() - began < 10
        assert head.startswith(b"HTTP/1.1 408 ")
        assert list(lake.sink.received) == [uid_of(first)]
        assert uid_of(first) in json.dumps(json.loads(told)["00081199"])
        assert ("closed", "STOW-RS", "timeout") in lake.watcher.events


def test_a_client_that_sends_too_slowly_is_dropped() -> None:
    body = multipart(dicom(1))
    limits = WebLimits(stall_s=0.3, slowest=10_000, linger_s=0.1)
    stop = threading.Event()
    with served(limits=limits) as lake, connected(lake) as client:

        def drip() -> None:
            for byte in body:
                if stop.wait(0.05):
                    return
                client.sendall(bytes([byte]))

        client.sendall((REQUEST % len(body)).encode())
        thread = threading.Thread(target=drip)
        thread.start()
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
        stop.set()
        thread.join()
        assert lake.sink.received == {}


@pytest.mark.parametrize("sent", [b"", b"POST /dicomweb/studies HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"])
def test_a_client_that_does_not_finish_its_headers_is_dropped(sent: bytes) -> None:
    with served(server={"header_s": 0.3}) as lake, connected(lake) as client:
        client.sendall(sent)
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert client.recv(1000) == b""
        assert time.monotonic() - began < 5


def test_a_second_request_on_a_connection_has_its_own_time_for_headers() -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(server={"header_s": 0.6}) as lake, connected(lake) as client:
        for _ in range(4):
            client.sendall(whole)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):  # its head and its body may come apart
                more = client.recv(65536)
                assert more, answer
                answer += more
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.25)
        client.sendall(whole[:20])
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert client.recv(1000) == b""
        assert time.monotonic() - began < 5


def test_a_client_that_goes_away_leaves_nothing_and_the_next_is_served() -> None:
    body = multipart(dicom(1, size=300))
    with served(Beginning()) as lake:
        with connected(lake) as client:
            client.sendall((REQUEST % len(body)).encode() + body[: len(body) // 2])
            assert lake.sink.begun.wait(20)
        assert lake.sink.over.wait(20)
        assert isinstance(lake.sink.broken, Gone)
        assert lake.sink.received == {}
        assert lake.post(body).status_code == 200


def test_garbage_is_answered_and_does_not_take_the_server_down() -> None:
    with served() as lake:
        for garbage in (b"\0" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA" + b"a" * 100_000):
            with connected(lake) as client:
                client.sendall(garbage)
                assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert lake.client.get("/healthz").status_code == 200


def test_answers_do_not_wait_for_the_acknowledgement_of_their_first_half() -> None:
    """A listener's sockets are not what asyncio turns Nagle off for: 22 requests a second instead of 500."""
    with served() as lake:
        assert lake.client.get("/healthz").status_code == 200
        assert lake.server._server is not None
        (protocol,) = lake.server._server.server_state.connections
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_stopping_lets_a_request_end() -> None:
    go_on = threading.Event()

    class Waiting(Beginning):
        def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
            self.begun.set()
            assert go_on.wait(20)
            return super().store(request, pieces)

    with served(Waiting()) as lake, connected(lake) as client:
        body = multipart(dicom(1))
        client.sendall((REQUEST % len(body)).encode() + body)
        assert lake.sink.begun.wait(20)
        stopping = threading.Thread(target=lake.server.stop, args=(20.0,))
        stopping.start()
        while True:  # until nobody is let in any more
            try:
                connected(lake).close()
                time.sleep(0.02)
            except ConnectionRefusedError:
                break
        go_on.set()
        stopping.join()
        assert everything(client).startswith(b"HTTP/1.1 200 ")


def test_stopping_drops_a_request_that_does_not_end_and_waits_for_its_thread() -> None:
    body = multipart(dicom(1, size=300))
    with served(Beginning(), limits=WebLimits()) as lake, connected(lake) as client:
        client.sendall((REQUEST % len(body)).encode() + body[: len(body) // 2])
        assert lake.sink.begun.wait(20)
        began = time.monotonic()
        lake.server.stop(0.2)
        assert time.monotonic() - began < 5
        assert lake.sink.over.is_set()
        assert isinstance(lake.sink.broken, Gone)
        assert lake.sink.received == {}


def test_a_port_that_is_taken_is_an_error_with_a_remedy() -> None:
    with HttpServer(app(Collecting())) as first:
        assert first.port > 0
        with pytest.raises(CannotListen, match="choose another port"):
            HttpServer(app(Collecting()), port=first.port).start()
    HttpServer(app(Collecting())).stop()  # never started


def test_a_sink_slower_than_its_client_holds_it_back() -> None:
    """The bytes that wait are bounded, so the client cannot send all of a body that nobody draws."""
    go_on = threading.Event()

    class Waiting(Collecting):
        def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
            assert go_on.wait(60)
            return super().store(request, pieces)

    sent = 0
    block = bytes(1 << 20)
    with (
        served(Waiting(), limits=WebLimits(buffer_bytes=1 << 20, stall_s=20)) as lake,
        connected(lake) as client,
    ):
        client.sendall((REQUEST % (1 << 30)).encode() + multipart(dicom(1))[:-60])
        client.settimeout(1.0)
        with suppress(TimeoutError):
            while sent < 200 << 20:
                client.sendall(block)
                sent += len(block)
        go_on.set()
    assert sent < 50 << 20
