"""Storage commitment asked for by Orthanc, and asked of a receiver of several processes."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dicomlake
from dicomlake.lake import Lake
from dicomlake.listening.committing import Committer
from dicomlake.network.peers import ANYWHERE, OPERATIONS, Peer, Peers
from tests.listening.requestor import CT, Requestor, information
from tests.listening.test_committing import (
    PAIRS,
    SOON,
    WAITS,
    committer,
    flip,
    rows,
    running,
    serving,
    until,
)
from tests.network.requesting.programs import orthanc
from tests.objects import series


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(3))
        yield lake


class Book:
    """Where Orthanc listens, once that is known."""

    address: tuple[str, int]

    def by_ae(self, title: str) -> Peer | None:
        return Peer("orthanc", "ORTHANC", ANYWHERE, OPERATIONS, self.address) if title == "ORTHANC" else None


def call(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
        return json.load(answer)


def asked(web: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """What Orthanc knows in the end of a commitment that it asks for."""
    body = {"DicomInstances": [list(pair) for pair in pairs], "Timeout": 20}
    path = call(f"{web}/modalities/lake/storage-commitment", body)["Path"]

    def ended() -> Any:
        found = call(f"{web}{path}")
        return found if found["Status"] != "Pending" else None

    found: dict[str, Any] = until(ended, 20)
    return found


@pytest.mark.parametrize("wait_s", [0, 2.0])
def test_orthanc_learns_what_is_safe_and_what_is_not(lake: Lake, tmp_path: Path, wait_s: float) -> None:
    book = Book()
    everybody = Peers((Peer("any", networks=ANYWHERE, operations=OPERATIONS),))
    one = Committer(lake._catalog, lake._storage, book, "DICOMLAKE", patience=SOON, waits=WAITS)
    with ExitStack() as stack:
        port = stack.enter_context(serving(one, wait_s=wait_s, allowed=everybody))
        peer = stack.enter_context(orthanc(tmp_path, port))
        book.address = ("127.0.0.1", peer.port)
        stack.enter_context(running(one))
        found = asked(peer.web, PAIRS)
        assert (found["Status"], found["RemoteAET"]) == ("Success", "DICOMLAKE")
        assert {(item["SOPClassUID"], item["SOPInstanceUID"]) for item in found["Success"]} == {*PAIRS}
        flip(lake, PAIRS[1][1], -1)
        found = asked(peer.web, [*PAIRS, (CT, "1.2.3")])
        assert found["Status"] == "Failure"
        assert {item["SOPInstanceUID"] for item in found["Success"]} == {PAIRS[0][1], PAIRS[2][1]}
        reasons = {item["SOPInstanceUID"]: item["FailureReason"] for item in found["Failures"]}
        assert reasons == {PAIRS[1][1]: 0x0110, "1.2.3": 0x0112}
        until(lambda: {row.state for row in rows(lake)} == {"reported"})


def test_one_process_checks_what_another_is_asked(lake: Lake) -> None:
    """As when several processes share a port: the one that is asked writes it down and waits."""
    requestor = Requestor()
    with dicomlake.open(lake.path) as other:
        asked_one = committer(other)
        with running(committer(lake)), serving(asked_one, wait_s=8.0) as port:
            with requestor.associated(port) as ask:
                assert ask(PAIRS) == 0x0000
                assert information(requestor.next()[1]) == (set(PAIRS), {})
            until(lambda: rows(lake)[0].state == "reported")


def test_what_one_process_leaves_another_reports_at_once(lake: Lake) -> None:
    requestor = Requestor()
    patience = replace(SOON, hold_s=60.0)
    with ExitStack() as stack:
        address = stack.enter_context(requestor.listening())
        other = stack.enter_context(dicomlake.open(lake.path))
        port = stack.enter_context(serving(committer(other), wait_s=0))
        stack.enter_context(running(committer(lake, address, patience=patience)))
        with requestor.associated(port) as ask:
            assert ask(PAIRS) == 0x0000
        assert information(requestor.next()[1]) == (set(PAIRS), {})
        until(lambda: rows(lake)[0].state == "reported")
