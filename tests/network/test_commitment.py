"""Storage commitment as a service: requests are checked, written down, answered, and reported in time."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicomlake.errors import DicomlakeError, StorageFull
from dicomlake.network.seams import Reply, Sender
from dicomlake.network.services.commitment import CommitmentService, Failed, Reference, Verdict
from tests.network.requests import (
    CT,
    INSTANCE,
    MR,
    PUSH_MODEL,
    SENDER,
    SYNTAXES,
    TRANSACTION,
    action,
    drive,
    n_action,
    parsed,
    referenced,
    written,
)
from tests.objects import ROOT

ONE, TWO = (CT, f"{ROOT}.1.1.1"), (MR, f"{ROOT}.1.1.2")


class Kept:
    """A ledger that keeps what it is told, and gives one verdict."""

    def __init__(self, verdict: Verdict | None = None, error: Exception | None = None) -> None:
        self.said: list[tuple[str, object]] = []
        self._verdict, self._error = verdict, error

    def open(self, transaction: str, requestor: Sender, references: Sequence[Reference]) -> int:
        if self._error:
            raise self._error
        self.said.append(("open", (transaction, requestor, list(references))))
        return 5

    def verdict(self, commitment: int, timeout_s: float) -> Verdict | None:
        self.said.append(("verdict", (commitment, timeout_s)))
        return self._verdict

    def reported(self, commitment: int) -> None:
        self.said.append(("reported", commitment))

    def left(self, commitment: int) -> None:
        self.said.append(("left", commitment))

    @property
    def words(self) -> list[str]:
        return [word for word, _facts in self.said]


def status_of(reply: Reply) -> int:
    assert int(reply.command[0x0100]) == 0x8130
    assert reply.command[0x0120] == 7
    assert reply.dataset == b""
    return int(reply.command[0x0900])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_request_is_written_down_before_it_is_answered(syntax: UID) -> None:
    ledger = Kept()
    replies = CommitmentService(ledger, wait_s=0).answer(n_action(action(ONE, TWO), syntax=syntax))
    response = next(replies)
    assert ledger.said == [("open", (TRANSACTION, SENDER, [ONE, TWO]))]
    assert status_of(response) == 0x0000
    assert response.command[0x0002] == PUSH_MODEL
    assert response.command[0x1000] == INSTANCE
    assert list(replies) == []
    assert ledger.words == ["open", "left"]


def test_a_deflated_request_is_understood_and_reported_deflated() -> None:
    syntax = DeflatedExplicitVRLittleEndian
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(written(action(ONE), syntax)) + deflater.flush()
    ledger = Kept(Verdict(TRANSACTION, (Reference(*ONE),)))
    _response, report = drive(CommitmentService(ledger).answer(n_action(data, syntax=syntax)), 0)
    assert isinstance(report.dataset, bytes)
    assert parsed(zlib.decompress(report.dataset, -zlib.MAX_WBITS), syntax) == action(ONE)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_report_follows_on_the_same_association(syntax: UID) -> None:
    ledger = Kept(Verdict(TRANSACTION, (Reference(*ONE), Reference(*TWO))))
    service = CommitmentService(ledger, wait_s=1.5)
    response, report = drive(service.answer(n_action(action(ONE, TWO), syntax=syntax)), 0x0000)
    assert status_of(response) == 0x0000
    assert report.command[0x0100] == 0x0100
    assert report.command[0x0002] == PUSH_MODEL
    assert report.command[0x1000] == INSTANCE
    assert report.command[0x1002] == 1
    assert parsed(report.dataset, syntax) == action(ONE, TWO)
    assert ledger.said[1:] == [("verdict", (5, 1.5)), ("reported", 5)]


def test_failures_are_reported_each_with_its_reason() -> None:
    ledger = Kept(Verdict(TRANSACTION, (Reference(*ONE),), (Failed(*TWO, 0x0112),)))
    _response, report = drive(CommitmentService(ledger).answer(n_action(action(ONE, TWO))), 0x0000)
    assert report.command[0x1002] == 2
    found = parsed(report.dataset)
    assert found.ReferencedSOPSequence == [referenced(*ONE)]
    (failed,) = found.FailedSOPSequence
    assert (failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID) == TWO
    assert failed.FailureReason == 0x0112


def test_a_report_in_which_nothing_is_safe_has_no_referenced_objects() -> None:
    ledger = Kept(Verdict(TRANSACTION, (), (Failed(*ONE, 0x0110),)))
    _response, report = drive(CommitmentService(ledger).answer(n_action(action(ONE))), 0x0000)
    assert "ReferencedSOPSequence" not in parsed(report.dataset)


@pytest.mark.parametrize("answer", [None, 0x0110, 0x0112])
def test_a_report_that_is_not_confirmed_is_left_to_a_new_association(answer: int | None) -> None:
    ledger = Kept(Verdict(TRANSACTION, (Reference(*ONE),)))
    drive(CommitmentService(ledger).answer(n_action(action(ONE))), answer)
    assert ledger.words == ["open", "verdict", "left"]


@pytest.mark.parametrize("seen", [1, 2])
def test_an_association_that_ends_in_between_leaves_the_report_to_a_new_one(seen: int) -> None:
    ledger = Kept(Verdict(TRANSACTION, (Reference(*ONE),)))
    replies = CommitmentService(ledger).answer(n_action(action(ONE)))
    for _ in range(seen):
        next(replies)
    replies.close()
    assert ledger.words[-1] == "left"
    assert "reported" not in ledger.words


def test_an_object_that_is_named_twice_is_one() -> None:
    ledger = Kept()
    drive(CommitmentService(ledger, wait_s=0).answer(n_action(action(TWO, ONE, TWO, ONE))))
    assert ledger.said[0] == ("open", (TRANSACTION, SENDER, [TWO, ONE]))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sequences_of_undefined_length_are_understood(syntax: UID) -> None:
    ds = action(ONE, TWO)
    ds["ReferencedSOPSequence"].is_undefined_length = True
    for item in ds.ReferencedSOPSequence:
        item.is_undefined_length_sequence_item = True
    data = written(ds, syntax)
    assert data.count(b"\xff\xff\xff\xff") == 3
    ledger = Kept()
    drive(CommitmentService(ledger, wait_s=0).answer(n_action(data, syntax=syntax)))
    assert ledger.said[0] == ("open", (TRANSACTION, SENDER, [ONE, TWO]))


def without(keyword: str) -> Dataset:
    ds = action(ONE)
    delattr(ds, keyword)
    return ds


def with_item(**values: str) -> Dataset:
    ds, item = action(), Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    ds.ReferencedSOPSequence = [item]
    return ds


def unsound(data: bytes) -> bytes:
    """The transaction UID with letters in it, which pydicom would not write."""
    return data.replace(TRANSACTION.encode(), b"x" * len(TRANSACTION))


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (n_action(action(ONE), action=2), 0x0123),
        (n_action(action(ONE), action=None), 0x0123),
        (n_action(action(ONE), field=0x0110), None),
        (n_action(action(ONE), sop_class=CT), 0x0118),
        (n_action(action(ONE), instance=f"{ROOT}.9"), 0x0112),
        (n_action(action(ONE), instance="no UID"), 0x0117),
        (n_action(action(ONE), instance=""), 0x0117),
        (n_action(b""), 0x0120),
        (n_action(action(ONE, transaction=None)), 0x0120),
        (n_action(action(ONE, transaction="")), 0x0121),
        (n_action(unsound(written(action(ONE)))), 0x0115),
        (n_action(without("ReferencedSOPSequence")), 0x0120),
        (n_action(action()), 0x0121),
        (n_action(with_item(ReferencedSOPClassUID=CT)), 0x0120),
        (n_action(with_item(ReferencedSOPInstanceUID=f"{ROOT}.1")), 0x0120),
        (n_action(with_item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID="")), 0x0121),
        (n_action(written(action(ONE))[:-9]), 0x0110),
        (n_action(bytes(range(64))), 0x0110),
    ],
)
def test_a_request_that_is_wrong_is_refused_with_its_status(message, status) -> None:  # type: ignore[no-untyped-def]
    ledger = Kept()
    (reply,) = drive(CommitmentService(ledger).answer(message))
    if status is None:
        assert (reply.command[0x0100], reply.command[0x0900]) == (0x8110, 0x0211)
    else:
        assert status_of(reply) == status
    assert ledger.said == []
    comment = reply.command[0x0902]
    assert isinstance(comment, bytes)
    assert 0 < len(comment) <= 64
    assert len(comment) % 2 == 0


def test_a_full_disk_is_a_limited_resource_and_other_errors_pass_through() -> None:
    full = CommitmentService(Kept(error=StorageFull("no space")))
    (reply,) = drive(full.answer(n_action(action(ONE))))
    assert status_of(reply) == 0x0213
    broken = CommitmentService(Kept(error=DicomlakeError("the catalog cannot be written")))
    with pytest.raises(DicomlakeError, match="cannot be written"):
        drive(broken.answer(n_action(action(ONE))))


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_no_request_that_is_cut_off_is_taken_for_a_smaller_one(cut: int) -> None:
    data = written(action(ONE, TWO))
    ledger = Kept()
    (reply,) = drive(CommitmentService(ledger).answer(n_action(data[:-cut])))
    assert status_of(reply) != 0x0000
    assert ledger.said == []
