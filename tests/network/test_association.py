"""Requests on an association, each answered as the standard says; services and their own requests."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import pytest

from dicomlake.errors import DicomlakeError
from dicomlake.network.seams import Answered, Cancelled, Message, Operation, Replies, Reply, Stored
from dicomlake.network.upper.failures import AssociationError, Violation
from tests.network import raw
from tests.network.raw import Raw, Sink, Watcher, serving

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
WITH_FIND = [*raw.DEFAULT, (5, FIND, [raw.EXPLICIT]), (7, GET, [raw.IMPLICIT])]


class Service:
    """A generator function as a service."""

    def __init__(
        self, answer: Callable[[Message], Replies], operation: Operation = "find", *uids: str
    ) -> None:
        self.operation: Operation = operation
        self.sop_classes: Collection[str] = uids or (FIND,)
        self._answer = answer

    def answer(self, message: Message) -> Replies:
        return self._answer(message)


def request(
    field: int, message: int = 1, context: int = 5, uid: str = FIND, dataset: bytes = b"", extra: bytes = b""
) -> bytes:
    kind = 1 if dataset else 0x101
    head = raw.command(
        raw.element(2, uid.encode()), raw.us(0x100, field), raw.us(0x110, message), raw.us(0x800, kind), extra
    )
    return raw.data(context, 3, head) + (raw.data(context, 2, dataset) if dataset else b"")


def cancel(message: int = 1, context: int = 5) -> bytes:
    return raw.data(
        context, 3, raw.command(raw.us(0x100, 0xFFF), raw.us(0x120, message), raw.us(0x800, 0x101))
    )


def response(field: int, message: int, context: int, status: int = 0) -> bytes:
    parts = raw.us(0x100, field), raw.us(0x120, message), raw.us(0x800, 0x101), raw.us(0x900, status)
    return raw.data(context, 3, raw.command(*parts))


# C-STORE


@pytest.mark.parametrize("size", [1, 2, 100, 4096, 16378])
def test_an_object_arrives_whole_however_it_is_cut(size: int) -> None:
    data = bytes(range(256)) * (4 if size < 100 else 200)
    sink = Sink()
    with serving(sink) as server, Raw(server.port) as peer:
        peer.associate()
        peer.send(raw.store("1.2.3", data, size=size))
        answer = peer.response()
        assert struct.unpack("<H", answer[0x900]) == (0,)
        assert answer[0x1000] == b"1.2.3\0"
        assert answer[2] == raw.CT.encode() + b"\0" * (len(raw.CT) % 2)
        assert peer.send(raw.RELEASE).pdu() == (6, bytes(4))
    assert sink.objects == {"1.2.3": data}
    (seen,) = sink.requests
    assert (seen.sop_class_uid, seen.transfer_syntax) == (raw.CT, raw.EXPLICIT)
    assert (seen.sender.calling, seen.sender.host, seen.sender.peer) == ("TESTER", "127.0.0.1", "peer")


def test_several_fragments_in_one_pdu_and_a_command_in_several() -> None:
    command, sink = raw.store_command("1.2.3"), Sink()
    one = raw.framed(4, raw.pdv(3, 1, command[:20]) + raw.pdv(3, 1, b"") + raw.pdv(3, 3, command[20:]))
    two = raw.framed(4, raw.pdv(3, 0, b"abc") + raw.pdv(3, 0, b"") + raw.pdv(3, 0xFE, b"def"))
    with serving(sink) as server, Raw(server.port) as peer:
        peer.associate()
        assert peer.send(one + two).status() == 0
        both = raw.framed(4, raw.pdv(3, 3, raw.store_command("1.2.4")) + raw.pdv(3, 2, b"xy"))
        assert peer.send(both + both.replace(b"1.2.4", b"1.2.5")).status() == 0
        assert peer.status() == 0
    assert sink.objects == {"1.2.3": b"abcdef", "1.2.4": b"xy", "1.2.5": b"xy"}


def test_bytes_that_trickle_are_put_together() -> None:
    sink = Sink()
    with serving(sink, limits=replace(raw.SMALL, slowest=1)) as server, Raw(server.port) as peer:
        peer.associate()
        for byte in raw.store("1.2.3", b"some data"):
            peer.send(bytes((byte,)))
        assert peer.status() == 0
    assert sink.objects == {"1.2.3": b"some data"}


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("stored", 0), ("already", 0), ("conflict", 0xB000), ("unreadable", 0xC000), ("mismatch", 0xA900),
        ("full", 0xA700), ("over_quota", 0xA700), ("failed", 0x110), ("refused", 0x124),
    ],
)  # fmt: skip
def test_every_outcome_is_answered_by_its_status_and_the_rest_is_drained(outcome: str, status: int) -> None:
    sink = Sink(before=lambda _: Stored(outcome))  # type: ignore[arg-type]
    watcher = Watcher()
    with serving(sink, watcher=watcher, conflict_status=0xB000) as server, Raw(server.port) as peer:
        peer.associate()
        assert peer.send(raw.store("1.2.3", bytes(100_000))).status() == status
        assert peer.send(raw.ECHO).status() == 0
    assert ("stored", outcome) in watcher.events


def test_a_sink_that_fails_is_a_processing_failure_and_its_words_stay_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: object) -> None:
        raise ValueError("Doe^Jane")

    with serving(Sink(before=fail)) as server, Raw(server.port) as peer, caplog.at_level(logging.DEBUG):
        peer.associate()
        for _ in range(2):
            assert peer.send(raw.store("1.2.3", bytes(50_000))).status() == 0x110
        assert peer.send(raw.ECHO).status() == 0
    assert "ValueError" in caplog.text
    assert "Doe" not in caplog.text


def test_a_sink_that_hides_a_broken_data_set_is_not_believed() -> None:
    class Hides(Sink):
        def store(self, request: object, pieces: Iterator[memoryview]) -> Stored:
            try:
                for _ in pieces:
                    pass
            except AssociationError as error:
                self.errors.append(error)
            return Stored("stored")

    sink, watcher = Hides(), Watcher()
    with serving(sink, watcher=watcher) as server, Raw(server.port) as peer:
        peer.associate()
        peer.send(raw.data(3, 3, raw.store_command("1.2.3")) + raw.data(3, 0, b"abc") + raw.RELEASE)
        kind, body = peer.pdu()
        assert (kind, body) == (7, b"\0\0\2\2")
        watcher.wait(("closed", "violation"))
    assert [type(error) for error in sink.errors] == [Violation]
    assert ("stored", "stored") not in watcher.events


def other(field: int, *elements: bytes) -> bytes:
    return raw.command(*elements, raw.us(0x100, field), raw.us(0x110, 1), raw.us(0x800, 0))


CT_CLASS = raw.element(2, raw.CT.encode())


@pytest.mark.parametrize(
    ("command", "status"),
    [
        pytest.param(raw.store_command("1.2.3", raw.VERIFICATION), 0x122, id="other class"),
        pytest.param(raw.store_command("../../x"), 0x117, id="no UID"),
        pytest.param(raw.store_command("1" * 65), 0x117, id="long UID"),
        pytest.param(other(1, CT_CLASS), 0x120, id="no instance"),
        pytest.param(other(1, raw.element(0x1000, b"1.2")), 0x120, id="no class"),
        pytest.param(other(0x30, CT_CLASS), 0x211, id="echo on storage"),
        pytest.param(other(0x130, CT_CLASS), 0x211, id="action on storage"),
        pytest.param(other(0x7777), 0x211, id="nonsense"),
    ],
)
def test_a_request_that_cannot_be_done_is_answered_and_its_data_set_read_over(
    command: bytes, status: int
) -> None:
    sink = Sink()
    with serving(sink) as server, Raw(server.port) as peer:
        peer.associate()
        assert (
            peer.send(raw.data(3, 3, command) + raw.data(3, 0, b"ab") + raw.data(3, 2, b"c")).status()
            == status
        )
        assert peer.send(raw.store("1.2.9", b"right")).status() == 0
    assert sink.objects == {"1.2.9": b"right"}


def test_a_store_without_a_data_set_is_answered_at_once() -> None:
    with serving() as server, Raw(server.port) as peer:
        peer.associate()
        assert peer.send(raw.data(3, 3, raw.store_command("1.2.3", dataset=0x101))).status() == 0xC000


def test_a_store_on_a_context_that_was_rejected_is_answered_and_not_kept() -> None:
    sink = Sink()
    allowed = raw.Peers({"TESTER": raw.Peer(operations=frozenset({"echo"}))})
    with serving(sink, peers=allowed) as server, Raw(server.port) as peer:
        peer.associate()
        assert peer.send(raw.store("1.2.3", b"abc")).status() == 0x122
        assert peer.send(raw.ECHO).status() == 0
    assert sink.objects == {}


# Services


def test_responses_of_a_service_are_sent_in_order_with_what_follows_from_the_request() -> None:
    asked: list[Message] = []

    def answer(message: Message) -> Replies:
        asked.append(message)
        for number in range(3):
            yield Reply({0x0100: 0x8020, 0x0900: 0xFF00}, bytes((number,)) * 40_000)
        yield Reply({0x0100: 0x8020, 0x0900: 0})

    with serving(services=(Service(answer),)) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND, maximum=5000)
        peer.send(request(0x20, 9, dataset=b"what"))
        for number in range(3):
            head = peer.response()
            assert (head[0x900], head[0x120], head[2]) == (b"\0\xff", b"\x09\0", FIND.encode() + b"\0")
            assert head[0x800] != b"\1\1"
            data = b""
            while True:
                kind, body = peer.pdu()
                assert kind == 4
                assert len(body) <= 5000
                data += body[6:]
                if body[5] & 2:
                    break
            assert data == bytes((number,)) * 40_000
        last = peer.response()
        assert (last[0x900], last[0x800]) == (b"\0\0", b"\1\1")
    (message,) = asked
    assert (message.dataset, message.abstract_syntax, message.transfer_syntax) == (
        b"what",
        FIND,
        raw.EXPLICIT,
    )
    assert message.command[0x110] == 9


@pytest.mark.parametrize("error", [DicomlakeError("no"), KeyError("Doe^Jane")])
def test_a_service_that_fails_or_says_nothing_still_answers(error: Exception) -> None:
    def fails(message: Message) -> Replies:
        raise error
        yield

    def silent(message: Message) -> Replies:
        yield from ()

    services = Service(fails), Service(silent, "get", GET)
    with serving(services=services) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND)
        assert peer.send(request(0x20)).status() == 0x110
        assert peer.send(request(0x10, context=7, uid=GET)).status() == 0x110
        assert peer.send(raw.ECHO).status() == 0


def test_a_message_larger_than_the_limit_is_read_over_and_answered() -> None:
    def never(message: Message) -> Replies:
        raise AssertionError
        yield

    with serving(services=(Service(never),)) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND)
        head = request(0x20, dataset=b"x")[: -len(raw.data(5, 2, b"x"))]
        peer.send(head + raw.data(5, 0, bytes(16000)) * 20 + raw.data(5, 2, b""))
        assert peer.status() == 0x213
        assert peer.send(raw.ECHO).status() == 0


def test_a_cancel_is_thrown_into_the_service_and_answered() -> None:
    ended: list[str] = []

    def answer(message: Message) -> Replies:
        try:
            while True:
                yield Reply({0x0100: 0x8020, 0x0900: 0xFF00}, b"x" * 1000)
        except Cancelled:
            ended.append("cancelled")
            raise

    with serving(services=(Service(answer),)) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND)
        peer.send(request(0x20))
        peer.response()
        peer.send(cancel(message=77))  # of another request: nothing
        peer.send(cancel())
        while True:
            _kind, body = peer.pdu()
            if body[5] & 1 and raw.elements(body[6:])[0x900] != b"\0\xff":
                break
        assert raw.elements(body[6:])[0x900] == b"\0\xfe"
        assert peer.send(cancel() + raw.ECHO).status() == 0  # a cancel that comes too late is nothing
    assert ended == ["cancelled"]


@pytest.mark.parametrize("ending", [raw.RELEASE, raw.ABORT, b""], ids=["release", "abort", "cut"])
def test_the_end_of_the_association_closes_the_service(ending: bytes) -> None:
    ended: list[str] = []

    def answer(message: Message) -> Replies:
        try:
            while True:
                yield Reply({0x0100: 0x8020, 0x0900: 0xFF00})
        finally:
            ended.append("closed")

    watcher = Watcher()
    with serving(services=(Service(answer),), watcher=watcher) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND)
        peer.send(request(0x20))
        peer.response()
        peer.send(ending)
        if ending == raw.RELEASE:
            while (kind := peer.pdu()[0]) == 4:
                pass
            assert kind == 6
        else:
            peer.socket.close()
        raw.until(lambda: ended == ["closed"])
        raw.until(lambda: server.associations == 0)
    how = {raw.RELEASE: ("released",), raw.ABORT: ("aborted", "connection lost"), b"": ("connection lost",)}
    assert next(what for event, what in watcher.events if event == "closed") in how[ending]


def test_a_request_of_ours_waits_for_its_answer_while_other_requests_are_served() -> None:
    answers: list[Answered | None] = []

    def answer(message: Message) -> Replies:
        answers.append((yield Reply({0x0100: 0x8010, 0x0900: 0xFF00})))
        for _ in range(2):
            reply = Reply({0x0100: 1, 2: raw.CT, 0x1000: "1.2", 0x700: 0}, b"data", raw.CT, raw.EXPLICIT)
            answers.append((yield reply))
        answers.append((yield Reply({0x0100: 1, 2: raw.CT, 0x1000: "1.2"}, b"data", "1.2.3.4")))
        yield Reply({0x0100: 0x8010, 0x0900: 0})

    sink = Sink()
    with serving(sink, services=(Service(answer, "get", GET),)) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND)
        peer.send(request(0x10, 5, context=7, uid=GET))
        assert peer.status() == 0xFF00
        for status in (0, 0xA700):
            head = peer.response()
            assert (head[0x100], head[0x1000], head[0x800]) == (b"\1\0", b"1.2\0", b"\1\0")
            kind, body = peer.pdu()
            assert (kind, body[4], body[6:]) == (4, 3, b"data")
            assert peer.send(raw.ECHO).status() == 0
            assert peer.send(raw.store(f"1.2.{status}", b"abc")).status() == 0
            peer.send(request(0x10, 6, context=7, uid=GET) if status else b"")  # has to wait
            peer.send(response(0x8001, struct.unpack("<H", head[0x110])[0], 3, status))
        assert peer.status() == 0
        assert peer.status() == 0xFF00  # of the one that waited
        peer.send(raw.ABORT)
        raw.until(lambda: server.associations == 0)
    assert answers[:4] == [None, Answered(0), Answered(0xA700), Answered(None)]
    assert set(sink.objects) == {"1.2.0", "1.2.42752"}


@pytest.mark.parametrize("ending", [raw.RELEASE, raw.ABORT, b""], ids=["release", "abort", "silence"])
def test_a_request_of_ours_that_is_not_answered_is_told_to_the_service(ending: bytes) -> None:
    answers: list[Answered | None] = []

    def answer(message: Message) -> Replies:
        answers.append((yield Reply({0x0100: 0x0100, 2: FIND})))
        yield Reply({0x0100: 0x8020, 0x0900: 0})

    limits = replace(raw.SMALL, silence_s=0.4)
    with serving(services=(Service(answer),), limits=limits) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND)
        peer.send(request(0x20))
        assert peer.response()[0x100] == b"\0\1"
        peer.send(ending)
        assert peer.pdu()[0] == {raw.RELEASE: 6, raw.ABORT: 0, b"": 7}[ending]
        raw.until(lambda: answers == [Answered(None)])


def test_the_service_learns_on_which_contexts_the_peer_takes_objects() -> None:
    seen: list[Message] = []

    def answer(message: Message) -> Replies:
        seen.append(message)
        yield Reply({0x0100: 0x8010, 0x0900: 0})

    role = raw.item(0x54, struct.pack(">H", len(raw.CT)) + raw.CT.encode() + b"\0\1")
    with serving(services=(Service(answer, "get", GET),)) as server, Raw(server.port) as peer:
        accepted = peer.associate(WITH_FIND, user=role)
        assert role in accepted
        assert peer.send(request(0x10, context=7, uid=GET)).status() == 0
        assert peer.send(raw.store("1.2", b"ab")).status() == 0x124
    assert {uid: list(syntaxes) for uid, syntaxes in seen[0].contexts.items()} == {raw.CT: [raw.EXPLICIT]}


def test_a_large_reply_comes_in_pieces_that_fit_the_peer() -> None:
    pieces = [bytes((n,)) * n for n in range(0, 255, 7)] * 20

    def answer(message: Message) -> Replies:
        yield Reply({0x0100: 0x8020, 0x0900: 0xFF00}, iter(pieces))
        yield Reply({0x0100: 0x8020, 0x0900: 0})

    with serving(services=(Service(answer),)) as server, Raw(server.port) as peer:
        peer.associate(WITH_FIND, maximum=64)
        peer.send(request(0x20))
        got, commands = b"", b""
        while True:
            _kind, body = peer.pdu()
            assert len(body) <= 64
            if body[5] & 1:
                commands += body[6:]
            else:
                got += body[6:]
            if body[5] == 2:
                break
        assert got == b"".join(pieces)
        assert raw.elements(commands)[0x900] == b"\0\xff"
