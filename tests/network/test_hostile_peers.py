"""Peers that lie, cut, repeat, stall and flood: each is answered or closed soon, and the server goes on."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dicomlake.network.server import Server
from tests.network import raw
from tests.network.raw import Raw, Sink, Watcher, serving

CLOSED_WITHIN_S = 5.0
OBJECT = bytes(range(256)) * 300


def threads() -> int:
    return threading.active_count()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def resident() -> int:
    if not Path("/proc/self/statm").exists():
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def surviving(sink: Sink | None = None, **how: object) -> Iterator[Server]:
    """A server that serves as before after what happens to it, and holds no thread or descriptor of it."""
    sink = sink or Sink()
    with serving(sink, **how) as server:
        at_rest, open_files = threads(), descriptors()
        yield server
        raw.until(lambda: server.connections == 0)
        raw.until(lambda: threads() <= at_rest)
        raw.until(lambda: descriptors() <= open_files)
        with Raw(server.port) as peer:
            peer.associate()
            assert peer.send(raw.ECHO).status() == 0
            assert peer.send(raw.store("1.9.9", OBJECT)).status() == 0
            assert peer.send(raw.RELEASE).pdu()[0] == 6
        assert sink.objects["1.9.9"] == OBJECT


def end_of(peer: Raw) -> list[int]:
    """The types of the PDUs that come until the connection is closed, soon."""
    begun, kinds = time.monotonic(), []
    while (kind := peer.pdu()[0]) != 0:
        kinds.append(kind)
    assert time.monotonic() - begun < CLOSED_WITHIN_S
    return kinds


BEGUN = raw.data(3, 3, raw.store_command("1.2.3"))
SOME = raw.data(3, 0, bytes(100))
HUGE = struct.pack(">BxL", 4, 0xFFFFFFFF)
US_FIELD, DATA = raw.us(0x100, 1), raw.us(0x800, 0)

VIOLATIONS = {
    "a giant PDU": HUGE,
    "a PDU over the agreed length": raw.framed(4, bytes(16391)),
    "an empty P-DATA": raw.framed(4, b""),
    "a short P-DATA": raw.framed(4, b"\0\0\0\2\3"),
    "a fragment longer than its PDU": raw.framed(4, struct.pack(">LBB", 100, 3, 3) + bytes(10)),
    "a fragment of giant length": raw.framed(4, struct.pack(">LBB", 0xFFFFFFFF, 3, 3) + bytes(10)),
    "a fragment without a head": raw.framed(4, struct.pack(">LBB", 1, 3, 3)),
    "a fragment of nothing": raw.framed(4, struct.pack(">LBB", 0, 3, 3)),
    "a rest after the last fragment": raw.framed(4, raw.pdv(3, 3, raw.store_command("1.2.3")) + b"\0\0"),
    "a context that was never proposed": raw.data(9, 3, raw.store_command("1.2.3")),
    "a data set without a command": raw.data(3, 2, b"abc"),
    "a command within a data set": BEGUN + SOME + BEGUN,
    "a data set that changes its context": BEGUN + SOME + raw.data(1, 2, b"x"),
    "a command that changes its context": raw.data(3, 1, b"abc") + raw.data(1, 3, b"abc"),
    "a data set within a command": raw.data(3, 1, b"abc") + raw.data(3, 2, b"abc"),
    "a command that never ends": raw.data(3, 1, bytes(16000)) * 10,
    "a command of empty fragments": raw.data(3, 1, b"") * 100,
    "a data set of empty fragments": BEGUN + raw.data(3, 0, b"") * 100,
    "an object over the limit": BEGUN + raw.data(3, 0, bytes(16378)) * 66,
    "a command of nothing": raw.data(3, 3, b""),
    "a command cut short": raw.data(3, 3, raw.store_command("1.2.3")[:-4]),
    "a command of noise": raw.data(3, 3, bytes(range(1, 100))),
    "a command of another group": raw.data(3, 3, struct.pack("<HHLH", 8, 0x100, 2, 1)),
    "a command without a message ID": raw.data(3, 3, raw.command(US_FIELD, DATA)),
    "a command without a data set type": raw.data(3, 3, raw.command(US_FIELD, raw.us(0x110, 1))),
    "a command without a field": raw.data(3, 3, raw.command(raw.us(0x110, 1), DATA)),
    "a response to nothing": raw.data(3, 3, raw.command(raw.us(0x100, 0x8001), raw.us(0x120, 1), DATA)),
    "a second association request": raw.proposal(raw.DEFAULT),
    "an answer to an association request": raw.framed(2, bytes(100)),
    "a rejection": raw.framed(3, bytes(4)),
    "a release of ours": raw.framed(6, bytes(4)),
    "an unknown PDU": raw.framed(9, bytes(4)),
    "noise": bytes(range(200, 256)) * 10,
    "a release within a data set": BEGUN + SOME + raw.RELEASE,
    "a release between command and data set": BEGUN + raw.RELEASE,
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_aborted_with_a_reason_and_nothing_of_it_is_kept(name: str) -> None:
    sink, watcher = Sink(), Watcher()
    with surviving(sink, watcher=watcher) as server:
        with Raw(server.port) as peer:
            peer.associate()
            with suppress(ConnectionError):
                peer.send(VIOLATIONS[name])
            kind, body = peer.pdu()
            assert kind in (7, 0)  # what we sent beyond what was read may reset the connection
            assert kind == 0 or body[2] == 2
            assert len(VIOLATIONS[name]) > 20_000 or kind == 7
            assert end_of(peer) == []
        watcher.wait(("closed", "violation"))
        assert sink.objects == {}


@pytest.mark.parametrize(
    "first",
    [
        raw.RELEASE, raw.ECHO, raw.framed(2, bytes(80)), raw.framed(1, bytes(10)), raw.framed(1, bytes(68)),
        struct.pack(">BxL", 1, 0xFFFFFFFF), struct.pack(">BxL", 1, 70_000), b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", raw.proposal(raw.DEFAULT, maximum=3),
        raw.proposal([(2, raw.CT, [raw.EXPLICIT])]),
    ],
)  # fmt: skip
def test_a_connection_that_does_not_begin_with_a_good_request_is_aborted(first: bytes) -> None:
    watcher = Watcher()
    with surviving(watcher=watcher) as server:
        with Raw(server.port) as peer:
            peer.send(first)
            assert end_of(peer) in ([7], [])
        assert ("refused", "violation") in watcher.events or ("refused", "timeout") in watcher.events


def states() -> dict[str, bytes]:
    request, command = raw.proposal(raw.DEFAULT), BEGUN
    return {
        "connected": b"",
        "in the head of the request": request[:3],
        "in the request": request[:50],
        "associated": request,
        "in a head": request + command[:4],
        "in a command": request + command[:30],
        "after a command": request + command,
        "in a data set": request + command + SOME,
        "in a fragment": request + command + SOME[:40],
        "after an object": request + raw.store("1.2.3", b"abc"),
        "released": request + raw.RELEASE,
    }


@pytest.mark.parametrize("ending", ["abort", "close", "reset", "half", "silence"])
@pytest.mark.parametrize("state", states())
def test_in_every_state_the_peer_may_go_away(state: str, ending: str) -> None:
    sink = Sink()
    with (
        surviving(sink, limits=replace(raw.SMALL, silence_s=0.5, request_s=0.5)) as server,
        Raw(server.port) as peer,
    ):
        peer.send(states()[state])
        if ending == "abort":
            peer.send(raw.ABORT)
        elif ending == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif ending == "half":
            peer.socket.shutdown(socket.SHUT_WR)
        if ending in ("close", "reset"):
            peer.socket.close()
        else:
            with suppress(TimeoutError):
                end_of(peer)
        raw.until(lambda: server.connections == 0, CLOSED_WITHIN_S)
        assert set(sink.objects) <= ({"1.2.3"} if state == "after an object" else set())


def conversations() -> list[list[bytes]]:
    """PDUs of real conversations, in order."""
    request = raw.proposal(raw.DEFAULT)
    cut = raw.store("1.2.3", bytes(5000), size=1000)
    return [
        [request, raw.ECHO, raw.RELEASE],
        [request, raw.store("1.2.3", bytes(3000)), raw.ECHO, raw.store("1.2.4", b"abc"), raw.RELEASE],
        [request, *(cut[start : start + 1012] for start in range(0, len(cut), 1012)), raw.RELEASE],
        [request, BEGUN, SOME, SOME, raw.ABORT],
    ]


def mutated(rng: random.Random) -> bytes:
    parts = list(rng.choice(conversations()))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        match rng.randrange(7):
            case 0:
                part = bytearray(parts[at])
                for _ in range(rng.randint(1, 8)):
                    part[rng.randrange(len(part))] = rng.randrange(256)
                parts[at] = bytes(part)
            case 1:
                parts[at] = parts[at][: rng.randrange(len(parts[at]))] or b"\0"
            case 2:
                parts.insert(at, parts[at])
            case 3:
                parts[at] = parts[at][:2] + rng.randbytes(4) + parts[at][6:]
            case 4:
                parts[at] = (
                    parts[at][:6] + struct.pack(">L", rng.choice((0, 1, 2, 5000, 1 << 31))) + parts[at][10:]
                )
            case 5:
                rng.shuffle(parts)
            case 6:
                parts.insert(at, rng.choice((raw.ABORT, raw.RELEASE, rng.randbytes(50), HUGE)))
    return b"".join(parts)


def test_conversations_with_anything_changed_in_them_leave_the_server_as_it_was() -> None:
    rng = random.Random(6)
    quick = replace(raw.SMALL, request_s=0.2, silence_s=0.2, stall_s=0.2, associations=32)
    watcher = Watcher()
    quick = replace(quick, associations_of_host=32)
    errors: list[BaseException] = []
    with surviving(Sink(), limits=quick, watcher=watcher) as server:
        port, work = server.port, [mutated(rng) for _ in range(600)]

        def talk(some: list[bytes]) -> None:
            try:
                for data in some:
                    with Raw(port) as peer, suppress(ConnectionError):
                        peer.send(data)
                        end_of(peer)
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=talk, args=(work[n::12],)) for n in range(12)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert errors == []
    assert ("closed", "failed") not in watcher.events


def test_thousands_of_connections_leave_room_for_a_peer_and_no_memory_behind() -> None:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with surviving() as server:
        before = resident()
        open_ones: list[socket.socket] = []
        for number in range(3000):
            one = socket.create_connection(("127.0.0.1", server.port), timeout=8)
            if number % 3 == 0:
                one.sendall(raw.proposal(raw.DEFAULT)[: number % 200])
            open_ones.append(one)
            if len(open_ones) > min(300, soft // 3):
                open_ones.pop(0).close()
            assert threads() < 60
            if number % 1000 == 999:
                with Raw(server.port) as peer:
                    peer.associate()
                    assert peer.send(raw.store(f"1.2.{number}", OBJECT)).status() == 0
                    assert peer.send(raw.RELEASE).pdu()[0] == 6
        for one in open_ones:
            one.close()
        assert resident() - before < 64 << 20


def test_a_giant_length_allocates_nothing() -> None:
    with surviving(limits=replace(raw.SMALL, request_bytes=1 << 30, request_s=1.0)) as server:
        before = resident()
        peers = [Raw(server.port) for _ in range(8)]
        for peer in peers:
            peer.send(struct.pack(">BxL", 1, (1 << 30) - 1) + bytes(10_000))
        raw.until(lambda: server.connections == 8)
        assert resident() - before < 32 << 20
        for peer in peers:
            with peer:
                assert end_of(peer) in ([7], [])


def test_a_peer_that_floods_after_its_violation_is_closed_all_the_same() -> None:
    with surviving() as server, Raw(server.port) as peer:
        peer.associate()
        begun = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - begun < 20:
                peer.send(bytes(range(256)) * 256)
        assert time.monotonic() - begun < CLOSED_WITHIN_S
