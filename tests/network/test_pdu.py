"""Association requests and command sets, read strictly and written as other programs read them."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode as dataset_from
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from dicomlake.network import dimse
from dicomlake.network.upper import pdu
from dicomlake.network.upper.failures import Violation
from tests.network import raw


def read(data: bytes, **how: int) -> pdu.AssociateRequest:
    return pdu.read_request(data[6:], **how)


def role(uid: str, scu: int, scp: int) -> bytes:
    name = uid.encode()
    return raw.item(0x54, struct.pack(">H", len(name)) + name + bytes((scu, scp)))


def test_a_request_is_read_as_it_was_meant() -> None:
    request = read(raw.proposal(raw.DEFAULT, calling=b" SCANNER 1 ", maximum=12345, user=role(raw.CT, 0, 1)))
    assert (request.version, request.called, request.calling) == (1, "DICOMLAKE", "SCANNER 1")
    assert request.contexts == (
        pdu.Proposed(1, raw.VERIFICATION, (raw.IMPLICIT,)),
        pdu.Proposed(3, raw.CT, (raw.EXPLICIT,)),
    )
    assert (request.maximum, request.roles) == (12345, (pdu.Role(raw.CT, False, True),))


def test_extended_negotiation_and_unknown_items_are_passed_over() -> None:
    identity = raw.item(0x58, b"\2\1" + b"\0\4name" + b"\0\4word")
    window, extended, common, unknown = (raw.item(k, b"\0\1\0\1") for k in (0x53, 0x56, 0x57, 0x7F))
    request = read(raw.proposal(raw.DEFAULT, user=identity + window + extended + common + unknown))
    assert len(request.contexts) == 2


@pytest.mark.parametrize(
    "broken",
    [
        raw.proposal([(2, raw.CT, [raw.EXPLICIT])]),
        raw.proposal([(1, raw.CT, [raw.EXPLICIT])] * 2),
        raw.proposal(raw.DEFAULT, maximum=7),
        raw.proposal(raw.DEFAULT, user=b"\x54"),
        raw.proposal(raw.DEFAULT, user=raw.item(0x54, b"\0\x09123")),
        raw.proposal(raw.DEFAULT, user=raw.item(0x51, b"123")),
        raw.proposal(raw.DEFAULT)[:-1],
        raw.proposal(raw.DEFAULT)[:60],
        raw.proposal(raw.DEFAULT) + raw.item(0x50, b""),
        raw.proposal(raw.DEFAULT) + raw.item(0x20, b"\5\0\0\0"),
    ],
    ids=["even", "twice", "maximum", "cut item", "role", "length", "cut", "short", "users", "abstract"],
)
def test_a_request_that_contradicts_itself_is_a_violation(broken: bytes) -> None:
    with pytest.raises(Violation):
        read(broken)


def test_more_contexts_than_the_limit_are_a_violation() -> None:
    three = [(n, raw.CT, [raw.EXPLICIT]) for n in (1, 3, 5)]
    assert len(read(raw.proposal(three), contexts=3).contexts) == 3
    with pytest.raises(Violation):
        read(raw.proposal(three), contexts=2)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_bytes_of_any_kind_are_a_request_or_a_violation(data: bytes) -> None:
    for start in (b"", raw.proposal(raw.DEFAULT)[6:74]):
        with contextlib.suppress(Violation):
            pdu.read_request(start + data)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_request_with_bytes_changed_is_a_request_or_a_violation(change: st.DataObject) -> None:
    body = bytearray(raw.proposal(raw.DEFAULT, user=role(raw.CT, 1, 1))[6:])
    for _ in range(change.draw(st.integers(1, 4))):
        body[change.draw(st.integers(66, len(body) - 1))] = change.draw(st.integers(0, 255))
    try:
        request = pdu.read_request(body)
    except Violation:
        return
    assert all(one.number & 1 for one in request.contexts)
    assert all(one.abstract_syntax == "" or pdu.is_uid(one.abstract_syntax) for one in request.contexts)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_bytes_of_any_kind_are_a_command_set_or_a_violation(data: bytes) -> None:
    for start in (b"", raw.store_command("1.2.3")):
        with contextlib.suppress(Violation):
            command = dimse.decode(start + data)
            assert all(isinstance(number, int) for number in command)


def test_pynetdicom_reads_what_is_answered() -> None:
    request = read(raw.proposal(raw.DEFAULT, calling=b"SCANNER"))
    decided = [pdu.Decided(1, 3), pdu.Decided(3, 0, raw.EXPLICIT)]
    written = pdu.accept(request, decided, [pdu.Role(raw.CT, True, False)], 131072)
    answer = A_ASSOCIATE_AC()
    answer.decode(written)
    assert [(c.context_id, c.result) for c in answer.presentation_context] == [(1, 3), (3, 0)]
    assert answer.presentation_context[1].transfer_syntax == raw.EXPLICIT
    assert answer.user_information.maximum_length == 131072
    (granted,) = answer.user_information.role_selection.values()
    assert (granted.uid, granted.scu_role, granted.scp_role) == (raw.CT, 1, 0)
    assert answer.encode() == written

    refusal, abort = A_ASSOCIATE_RJ(), A_ABORT_RQ()
    refusal.decode(pdu.reject(2, 3, 2))
    assert (refusal.result, refusal.source, refusal.reason_diagnostic) == (2, 3, 2)
    abort.decode(pdu.abort(2, 6))
    assert (abort.source, abort.reason_diagnostic) == (2, 6)


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34"])
def test_the_quick_way_to_write_a_store_response_writes_the_same(instance: str) -> None:
    slow = dimse.encode({0x0002: raw.CT, 0x0100: 0x8001, 0x0120: 77, 0x0900: 0xA700, 0x1000: instance})
    assert dimse.store_response(raw.CT, instance, 77, 0xA700) == slow
    seen = dataset_from(BytesIO(slow), True, True)
    assert (seen.MessageIDBeingRespondedTo, seen.Status) == (77, 0xA700)
    assert (seen.AffectedSOPInstanceUID, seen.CommandGroupLength) == (instance, len(slow) - 12)
    assert {e.tag for e in seen} <= set(C_STORE_RSP().command_set.keys())


def test_a_command_set_comes_back_as_it_went() -> None:
    command = {2: raw.CT, 0x100: 0x21, 0x110: 3, 0x600: "DESTINATION", 0x1000: "1.2.3", 0x902: b"why "}
    assert dimse.decode(dimse.encode(command, dataset=True)) == {**command, 0x800: 1}


def test_a_uid_that_is_none_is_told_from_one_that_is_missing() -> None:
    assert dimse.decode(raw.element(0x1000, b"../../etc"))[0x1000] == ""
    assert 0x1000 not in dimse.decode(raw.us(0x100, 1))
