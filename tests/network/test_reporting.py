"""Reports on an association of our own, taken by pynetdicom as the one who had asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicomlake.listening.committing import event_of
from dicomlake.network.reporting import report
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.services.commitment import Failed, Reference, Verdict
from tests.network.requests import CT, INSTANCE, MR, PUSH_MODEL, TRANSACTION
from tests.objects import ROOT

WAITS = Waits(connect_s=3.0, answer_s=3.0)
VERDICT = Verdict(TRANSACTION, (Reference(CT, f"{ROOT}.1.1.1"),), (Failed(MR, f"{ROOT}.1.1.2", 0x0110),))


class Requestor:
    """A modality that waits for reports.

    seen: of each its event type, its data set, the calling AE title, and whether it proposed its role.
    """

    def __init__(self, status: int = 0x0000) -> None:
        self.status = status
        self.seen: list[tuple[int, Dataset, str, tuple[bool, bool]]] = []
        self.came = threading.Event()

    def handle(self, event: Any) -> tuple[int, None]:
        (role,) = event.assoc.requestor.role_selection.values()
        roles = (bool(role.scu_role), bool(role.scp_role))
        assert event.request.AffectedSOPInstanceUID == INSTANCE
        calling = str(event.assoc.requestor.ae_title)
        self.seen.append((event.event_type, event.event_information, calling, roles))
        self.came.set()
        return self.status, None


@contextmanager
def listening(requestor: Requestor, *syntaxes: str, **settings: Any) -> Iterator[Address]:
    entity = AE(ae_title="MODALITY")
    entity.add_supported_context(
        settings.get("sop_class", PUSH_MODEL),
        list(syntaxes) or [ImplicitVRLittleEndian],
        scu_role=settings.get("scu_role", True),
        scp_role=settings.get("scp_role", True),
    )
    entity.require_calling_aet = settings.get("only", [])
    handlers = [(evt.EVT_N_EVENT_REPORT, settings.get("handle", requestor.handle))]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield Address("MODALITY", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_report_arrives_with_the_role_proposed(syntax: str) -> None:
    requestor = Requestor()
    with listening(requestor, syntax) as address:
        assert report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS) == ""
    ((event_type, information, calling, roles),) = requestor.seen
    assert (event_type, calling, roles) == (2, "DICOMLAKE", (False, True))
    assert information.TransactionUID == TRANSACTION
    assert [one.ReferencedSOPInstanceUID for one in information.ReferencedSOPSequence] == [f"{ROOT}.1.1.1"]
    (failed,) = information.FailedSOPSequence
    assert (failed.ReferencedSOPClassUID, failed.FailureReason) == (MR, 0x0110)


def test_a_peer_that_does_not_negotiate_roles_is_told_all_the_same() -> None:
    requestor = Requestor()
    with listening(requestor, scu_role=None, scp_role=None) as address:
        assert report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS) == ""
    assert len(requestor.seen) == 1


@pytest.mark.parametrize("status", [0x0110, 0x0112, 0x0211])
def test_a_peer_that_does_not_confirm_is_named_with_its_status(status: int) -> None:
    requestor = Requestor(status)
    with listening(requestor) as address:
        problem = report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS)
    assert f"0x{status:04X}" in problem
    assert str(address) in problem


def test_a_peer_that_aborts_instead_of_answering_has_not_confirmed() -> None:
    def abort(event: Any) -> tuple[int, None]:
        event.assoc.abort()
        return 0x0000, None

    with listening(Requestor(), handle=abort) as address:
        assert report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS) != ""


def test_a_peer_that_gives_no_answer_is_left_after_a_while() -> None:
    ended = threading.Event()

    def never(event: Any) -> tuple[int, None]:
        ended.wait(20)
        return 0x0000, None

    with listening(Requestor(), handle=never) as address:
        waits = Waits(connect_s=3.0, answer_s=0.3)
        assert "no answer" in report(event_of(VERDICT), address, calling="DICOMLAKE", waits=waits)
        ended.set()


def test_a_peer_that_rejects_is_named_with_its_reason() -> None:
    with listening(Requestor(), only=["SOMEBODY"]) as address:
        problem = report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS)
    assert "rejected" in problem


def test_a_peer_without_the_service_is_named() -> None:
    with listening(Requestor(), sop_class=CT) as address:
        problem = report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS)
    assert str(address) in problem


def test_nobody_there_is_a_problem_and_no_error() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    address = Address("MODALITY", "127.0.0.1", port)
    assert str(address) in report(event_of(VERDICT), address, calling="DICOMLAKE", waits=WAITS)


def test_a_peer_that_accepts_the_connection_and_says_nothing_is_left_after_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("MODALITY", "127.0.0.1", silent.getsockname()[1])
        waits = Waits(connect_s=0.4, answer_s=0.4)
        assert report(event_of(VERDICT), address, calling="DICOMLAKE", waits=waits) != ""
