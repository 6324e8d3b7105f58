"""Storage commitment from end to end: over sockets, with objects in a lake, through crashes."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

import dicomlake
from dicomlake.catalog import network
from dicomlake.ingest import intact
from dicomlake.lake import Lake
from dicomlake.listening import checking, committing
from dicomlake.listening.committing import NO_ADDRESS, Committer, Patience
from dicomlake.network.limits import Limits
from dicomlake.network.peers import ANYWHERE, OPERATIONS, Peer, Peers
from dicomlake.network.plain import PlainServer
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.seams import Sender, Sink
from dicomlake.network.server import Server
from dicomlake.network.services.commitment import CommitmentService, Reference
from tests.listening.requestor import CT, MR, TRANSACTION, Requestor, information
from tests.objects import ROOT, dicom, series
from tests.support import PROJECT

UIDS = [f"{ROOT}.1.1.{number}" for number in (1, 2, 3)]
PAIRS = [(CT, uid) for uid in UIDS]
SOON = Patience(arrival_s=0.0, again_s=0.05, hold_s=0.5, first_s=0.05, longest_s=0.2, attempts=3)
WAITS = Waits(connect_s=2.0, answer_s=2.0)
SENDER = Sender("MODALITY", "DICOMLAKE", "127.0.0.1", "token", "modality")


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "_IDLE_S", 0.1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three objects, closed."""
    folder = tmp_path_factory.mktemp("whole") / "lake"
    with dicomlake.open(folder, create=True) as lake:
        lake.ingest(series(3))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "lake"))


@pytest.fixture
def lake(folder: Path) -> Iterator[Lake]:
    """The copy, open."""
    with dicomlake.open(folder) as lake:
        yield lake


class Told:
    """What a committer told of."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, **facts: Any) -> None:
        self.events.append((kind, facts))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _facts in self.events]


def peers(address: tuple[str, int] | None = None) -> Peers:
    return Peers((Peer("modality", "MODALITY", ANYWHERE, OPERATIONS, address),))


def committer(lake: Lake, address: tuple[str, int] | None = None, **others: Any) -> Committer:
    others = {"patience": SOON, "waits": WAITS} | others
    return Committer(lake._catalog, lake._storage, peers(address), "DICOMLAKE", **others)


@contextmanager
def running(one: Committer) -> Iterator[Committer]:
    one.start()
    try:
        yield one
    finally:
        one.stop()


class NoSink(Sink):
    def store(self, request: Any, pieces: Any) -> Any:
        raise AssertionError("nothing is sent")


@contextmanager
def serving(
    one: Committer, *, wait_s: float = 2.0, kind: Any = Server, allowed: Peers | None = None
) -> Iterator[int]:
    """The port of a receiver with this committer behind it."""
    service = CommitmentService(one, wait_s=wait_s)
    server = kind(
        NoSink(), [service], allowed or peers(), Limits(), ae_titles=["DICOMLAKE"], host="127.0.0.1", port=0
    )
    server.start()
    try:
        yield server.port
    finally:
        server.stop(2)


def until(true: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """What a question is answered with, once it is something."""
    end = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)
    return found


def rows(lake: Lake) -> list[network.Commitment]:
    with lake._catalog.read() as view:
        return network.commitments(view)


def state(lake: Lake) -> str:
    return rows(lake)[0].state


# ---- on the association of the request --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Server, PlainServer])
def test_a_peer_that_stays_is_told_on_its_association(lake: Lake, kind: Any) -> None:
    told, requestor = Told(), Requestor()
    with running(committer(lake, tell=told)) as one, serving(one, kind=kind) as port:
        with requestor.associated(port) as ask:
            assert ask(PAIRS) == 0x0000
            event_type, report = requestor.next()
        until(lambda: state(lake) == "reported")
    assert event_type == 1
    assert report.TransactionUID == TRANSACTION
    assert information(report) == (set(PAIRS), {})
    assert told.kinds == ["commitment_requested", "commitment_reported"]
    assert one.unreported() == []


def flip(lake: Lake, uid: str, at: int) -> None:
    with lake._catalog.read() as view:
        (key,) = view.exec_driver_sql(f"SELECT key FROM instance WHERE SOPInstanceUID = '{uid}'").scalars()
    path = lake._storage.local_path(key)
    assert path is not None
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 200, -1])
def test_a_byte_that_differs_on_the_disk_makes_exactly_that_object_fail(lake: Lake, at: int) -> None:
    requestor, told = Requestor(), Told()
    flip(lake, UIDS[1], at)
    with ExitStack() as stack:
        one = stack.enter_context(running(committer(lake, tell=told)))
        ask = stack.enter_context(requestor.associated(stack.enter_context(serving(one))))
        assert ask(PAIRS) == 0x0000
        event_type, report = requestor.next()
    (damaged,) = (facts for kind, facts in told.events if kind == "commitment_failed")
    assert damaged["sop_instance_uid"] == UIDS[1]
    assert event_type == 2
    assert information(report) == ({PAIRS[0], PAIRS[2]}, {PAIRS[1]: 0x0110})


def test_each_kind_of_failure_has_its_reason(lake: Lake) -> None:
    requestor = Requestor()
    absent, other_class = (CT, f"{ROOT}.1.1.99"), (MR, UIDS[2])
    with running(committer(lake)) as one, serving(one) as port, requestor.associated(port) as ask:
        ask([PAIRS[0], absent, other_class])
        _type, report = requestor.next()
    assert information(report) == ({PAIRS[0]}, {absent: 0x0112, other_class: 0x0119})


def test_an_original_that_is_gone_is_not_safe(lake: Lake) -> None:
    with lake._catalog.read() as view:
        (key,) = view.exec_driver_sql(
            f"SELECT key FROM instance WHERE SOPInstanceUID = '{UIDS[0]}'"
        ).scalars()
    path = lake._storage.local_path(key)
    assert path is not None
    path.unlink()
    found = checking.check(lake._catalog, lake._storage, [Reference(*pair) for pair in PAIRS])
    assert [tuple(one) for one in found.failed] == [(*PAIRS[0], 0x0110)]
    assert [tuple(one) for one in found.safe] == PAIRS[1:]


def test_of_two_objects_of_one_uid_both_have_to_be_well(lake: Lake) -> None:
    lake.ingest(dicom(1, KVP=80))
    references = [Reference(*pair) for pair in PAIRS]
    assert checking.check(lake._catalog, lake._storage, references).failed == ()
    with lake._catalog.read() as view:
        (key,) = view.exec_driver_sql("SELECT key FROM instance WHERE conflict = 1").scalars()
    path = lake._storage.local_path(key)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    failed = checking.check(lake._catalog, lake._storage, references).failed
    assert [tuple(one) for one in failed] == [(*PAIRS[0], 0x0110)]


def test_originals_are_read_again_in_pieces(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    get = lake._storage.get

    def counted(key: str, start: int = 0, stop: int | None = None) -> bytes:
        data = get(key, start, stop)
        reads.append(len(data))
        return data

    monkeypatch.setattr(lake._storage, "get", counted)
    monkeypatch.setattr(intact, "_READ_BYTES", 100)
    found = checking.check(lake._catalog, lake._storage, [Reference(*PAIRS[0])])
    assert len(found.safe) == 1
    assert max(reads) == 100
    assert sum(reads) == len(dicom(1))


# ---- on a new association ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Server, PlainServer])
def test_a_peer_that_leaves_is_told_on_a_new_association(lake: Lake, kind: Any) -> None:
    told, requestor = Told(), Requestor()
    with ExitStack() as stack:
        address = stack.enter_context(requestor.listening())
        one = stack.enter_context(running(committer(lake, address, tell=told)))
        port = stack.enter_context(serving(one, kind=kind, wait_s=0))
        with requestor.associated(port) as ask:
            assert ask(PAIRS) == 0x0000
        assert information(requestor.next()[1]) == (set(PAIRS), {})
        until(lambda: state(lake) == "reported")
    assert told.kinds == ["commitment_requested", "commitment_reported"]


def test_a_peer_that_leaves_while_the_answer_is_on_its_way_is_told_all_the_same(lake: Lake) -> None:
    requestor = Requestor()
    with ExitStack() as stack:
        address = stack.enter_context(requestor.listening())
        one = stack.enter_context(running(committer(lake, address)))
        port = stack.enter_context(serving(one))
        for number in range(5):
            with requestor.associated(port, take=False) as ask:
                assert ask(PAIRS, f"{TRANSACTION}.{number}") == 0x0000
        got = {requestor.next()[1].TransactionUID for _ in range(5)}
        assert got == {f"{TRANSACTION}.{number}" for number in range(5)}
        until(lambda: {row.state for row in rows(lake)} == {"reported"})


def test_what_has_not_come_yet_is_waited_for(lake: Lake) -> None:
    requestor = Requestor()
    late = (CT, f"{ROOT}.1.1.4")
    patience = Patience(arrival_s=30.0, again_s=0.05, hold_s=60.0)
    with ExitStack() as stack:
        address = stack.enter_context(requestor.listening())
        one = stack.enter_context(running(committer(lake, address, patience=patience)))
        port = stack.enter_context(serving(one))
        begun = time.monotonic()
        with requestor.associated(port) as ask:
            ask([*PAIRS, late])
        assert time.monotonic() - begun < 1.5, "nobody waits for a verdict that will not come now"
        with lake._catalog.read() as view:
            (expected,) = network.expectations(view)
        assert (expected.source, expected.reference) == ("commitment", TRANSACTION)
        assert expected.missing == (late[1],)
        assert requestor.none()
        lake.ingest(dicom(4))
        event_type, report = requestor.next()
    assert event_type == 1
    assert information(report) == ({*PAIRS, late}, {})


def test_what_does_not_come_in_time_is_not_safe(lake: Lake) -> None:
    requestor = Requestor()
    patience = Patience(arrival_s=0.4, again_s=0.1)
    with ExitStack() as stack:
        address = stack.enter_context(requestor.listening())
        one = stack.enter_context(running(committer(lake, address, patience=patience)))
        number = one.open(TRANSACTION, SENDER, [Reference(CT, "1.2.3")])
        one.left(number)
        begun = time.monotonic()
        event_type, report = requestor.next()
        assert time.monotonic() - begun > 0.3
    assert event_type == 2
    assert information(report) == (set(), {(CT, "1.2.3"): 0x0112})


def test_a_transaction_uid_that_is_in_use_for_other_objects_fails_whole(lake: Lake) -> None:
    requestor = Requestor()
    with running(committer(lake)) as one, serving(one) as port, requestor.associated(port) as ask:
        ask(PAIRS)
        assert information(requestor.next()[1]) == (set(PAIRS), {})
        ask(PAIRS[:1])
        assert information(requestor.next()[1]) == (set(), {PAIRS[0]: 0x0131})
        ask(PAIRS)  # asked again, the same
        assert information(requestor.next()[1]) == (set(PAIRS), {})


def test_who_asks_again_before_the_answer_gets_one_answer(lake: Lake) -> None:
    requestor = Requestor()
    with requestor.listening() as address:
        one = committer(lake, address)
        for _ in range(3):
            one.left(one.open(TRANSACTION, SENDER, [Reference(*pair) for pair in PAIRS]))
        with running(one):
            assert information(requestor.next()[1]) == (set(PAIRS), {})
            until(lambda: {row.state for row in rows(lake)} == {"reported"})
            assert requestor.none()


# ---- what cannot be delivered -----------------------------------------------------------------------------


def dead_port() -> tuple[str, int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return "127.0.0.1", bound.getsockname()[1]


def ask_alone(one: Committer) -> None:
    one.left(one.open(TRANSACTION, SENDER, [Reference(*pair) for pair in PAIRS]))


def test_a_report_that_nobody_takes_is_tried_again_and_given_up_and_listed(lake: Lake) -> None:
    told = Told()
    with running(committer(lake, dead_port(), tell=told)) as one:
        ask_alone(one)
        until(lambda: state(lake) == "failed")
    (listed,) = one.unreported()
    assert (listed.state, listed.attempts, listed.failed) == ("failed", 3, ())
    assert "MODALITY" in listed.detail
    assert told.kinds.count("commitment_failed") == 3
    assert "given up" in told.events[-1][1]["detail"]


def test_attempts_come_ever_more_seldom_and_are_written_down(lake: Lake) -> None:
    patience = Patience(arrival_s=0, first_s=100.0, longest_s=350.0, attempts=10)
    assert [patience.pause(n) for n in (1, 2, 3, 4)] == [100, 200, 350, 350]
    one = committer(lake, dead_port(), patience=patience)
    ask_alone(one)
    assert one.check_due() == 1
    assert one.report_due() == 0
    (row,) = rows(lake)
    due = datetime.datetime.fromisoformat(row.next_at) - datetime.datetime.now(datetime.UTC)
    assert (row.state, row.attempts) == ("verified", 1)
    assert 90 < due.total_seconds() <= 100
    assert one.report_due() == 0
    assert rows(lake)[0].attempts == 1, "it is not due"


def test_a_verdict_is_kept_until_the_peer_has_an_address(lake: Lake) -> None:
    told = Told()
    with running(committer(lake, tell=told)) as one:
        ask_alone(one)
        (listed,) = until(lambda: [found for found in one.unreported() if found.detail])
    assert (listed.state, listed.detail, listed.attempts) == ("verified", NO_ADDRESS, 0)
    assert told.kinds == ["commitment_requested", "commitment_failed"]
    requestor = Requestor()
    with requestor.listening() as address, running(committer(lake, address)) as one:
        assert information(requestor.next()[1]) == (set(PAIRS), {})
        until(lambda: one.unreported() == [])


def test_a_peer_that_refuses_the_report_is_asked_again(lake: Lake) -> None:
    requestor = Requestor(statuses=[0x0110, 0x0000])
    with requestor.listening() as address, running(committer(lake, address)) as one:
        ask_alone(one)
        first, second = requestor.next(), requestor.next()
        until(lambda: state(lake) == "reported")
    assert first == second
    assert rows(lake)[0].attempts == 1


def test_a_catalog_that_fails_for_a_while_loses_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    requestor, told = Requestor(), Told()
    failures = [RuntimeError("planted"), dicomlake.DicomlakeError("the catalog is locked")]
    update = network.update_commitment

    def sometimes(connection: Connection, *args: Any, **kwargs: Any) -> None:
        if failures:
            raise failures.pop()
        update(connection, *args, **kwargs)

    with requestor.listening() as address:
        one = committer(lake, address, tell=told)
        ask_alone(one)
        monkeypatch.setattr(network, "update_commitment", sometimes)
        with running(one):
            assert information(requestor.next()[1]) == (set(PAIRS), {})
            until(lambda: state(lake) == "reported")
    assert failures == []
    assert "planted" not in str(told.events)


def test_a_peer_that_speaks_tls_is_never_called_without(lake: Lake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.3)
        peer = Peer("modality", "MODALITY", ANYWHERE, OPERATIONS, listening.getsockname(), tls=True)
        one = Committer(lake._catalog, lake._storage, Peers((peer,)), "DICOMLAKE", patience=SOON)
        ask_alone(one)
        one.check_due()
        one.report_due()
        with pytest.raises(TimeoutError):
            listening.accept()
    assert "TLS" in one.unreported()[0].detail


def test_stopping_does_not_wait_for_ever_for_a_peer(lake: Lake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        waits = Waits(connect_s=3.0, answer_s=3.0)
        one = committer(lake, silent.getsockname(), waits=waits)
        one.start()
        ask_alone(one)
        connection, _address = silent.accept()
        threads = list(one._threads)
        begun = time.monotonic()
        one.stop(0.2)
        assert time.monotonic() - begun < 1.5
        connection.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    assert [(row.state, row.attempts) for row in rows(lake)] == [("verified", 0)]


# ---- crashes ----------------------------------------------------------------------------------------------

RECEIVER = """
import sys, time
import dicomlake
from tests.listening.test_committing import committer, serving

where, wait_s, port, checks = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "checks"
with dicomlake.open(where) as lake:
    one = committer(lake, ("127.0.0.1", port) if port else None)
    if checks:
        one.start()
    with serving(one, wait_s=wait_s) as listens:
        print(listens, flush=True)
        time.sleep(60)
"""


@contextmanager
def process(where: Path, *, wait_s: float, port: int, checks: bool) -> Iterator[tuple[int, int]]:
    """A receiver in a process of its own: its process id and its port."""
    words = [str(where), str(wait_s), str(port), "checks" if checks else "-"]
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVER, *words], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as one:
        try:
            assert one.stdout is not None
            yield one.pid, int(one.stdout.readline())
        finally:
            one.kill()


@pytest.mark.parametrize("moment", ["answered", "verified", "reporting"])
def test_a_report_survives_kill_9(folder: Path, moment: str) -> None:
    requestor = Requestor()
    with requestor.listening() as address:
        port = address[1] if moment == "reporting" else 0
        with process(folder, wait_s=0, port=port, checks=moment != "answered") as (pid, listens):
            if moment == "reporting":
                requestor.before_answer = lambda: os.kill(pid, signal.SIGKILL)
            with requestor.associated(listens) as ask:
                assert ask(PAIRS) == 0x0000
            if moment == "verified":
                with dicomlake.open(folder) as lake:
                    until(lambda: state(lake) == "verified")
            if moment == "reporting":
                requestor.next()  # it got the report, and killed the receiver before it confirmed
            else:
                os.kill(pid, signal.SIGKILL)
        requestor.before_answer = lambda: None
        with dicomlake.open(folder) as lake:
            assert state(lake) == ("open" if moment == "answered" else "verified")
            with running(committer(lake, address)):
                assert information(requestor.next()[1]) == (set(PAIRS), {})
                until(lambda: state(lake) == "reported")


def test_stopping_leaves_what_is_under_way_for_the_next_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    intact = checking.is_intact

    def slow(*args: Any) -> bool:
        reading.set()
        assert go_on.wait(10)
        return intact(*args)

    monkeypatch.setattr(checking, "is_intact", slow)
    one = committer(lake)
    one.start()
    ask_alone(one)
    assert reading.wait(10)
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    until(lambda: one._stopping)
    go_on.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert state(lake) == "open"
    again = committer(lake)
    again.check_due()
    assert state(lake) == "verified"


# ---- nobody's name ----------------------------------------------------------------------------------------


def test_events_name_associations_and_counts_alone(lake: Lake) -> None:
    told, requestor = Told(), Requestor()
    with running(committer(lake, tell=told)) as one, serving(one) as port, requestor.associated(port) as ask:
        ask([*PAIRS, (CT, "1.2.3")])
        requestor.next()
    until(lambda: len(told.events) == 2)
    assert {key for _kind, facts in told.events for key in facts} == {
        *("association", "calling", "called", "host", "detail", "count")
    }
    assert told.events[1][1]["detail"] == "3 safe, 1 not, on the association of the request"


def test_a_request_that_was_replaced_unchecked_has_no_verdict(lake: Lake) -> None:
    """Asked twice for objects that never came: nobody may take the first for "all are safe"."""
    ghosts = [Reference(PAIRS[0][0], f"1.2.3.{number}") for number in range(5)]
    one = committer(lake)
    first, second = (one.open(TRANSACTION, SENDER, ghosts) for _ in range(2))
    one.check_due()
    assert one.verdict(first, 0.1) is None
    late = committer(lake)  # of another process, which did not see it happen
    late._asked[first] = TRANSACTION
    assert late.verdict(first, 0.1) is None
    found = one.verdict(second, 0.1)
    assert found is None or len(found.failed) == 5


def test_series_whose_objects_are_all_safe_are_told_to_be_complete(lake: Lake) -> None:
    complete: list[set[str]] = []
    one = committer(
        lake, complete=lambda references: complete.append({r.sop_instance_uid for r in references})
    )
    one.open(TRANSACTION, SENDER, [Reference(*pair) for pair in PAIRS])
    one.check_due()
    assert complete == [{uid for _class, uid in PAIRS}]
