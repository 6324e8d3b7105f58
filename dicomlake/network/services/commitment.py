"""Storage commitment, push model (PS3.4 annex J): a peer asks whether objects are safe, and is told.

The request is written down before it is answered, so the promise of a report survives a crash. Where the
objects are checked soon enough, the report goes to the peer while it is still here; else it is left to
whoever opens an association for it.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dicomlake.errors import StorageFull
from dicomlake.network.seams import Answered, Message, Operation, Replies, Reply, Sender
from dicomlake.network.services import answering
from dicomlake.network.services.answering import Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST_COMMITMENT = 1  # action type, PS3.4 table J.3.2-1
ALL_COMMITTED, FAILURES_EXIST = 1, 2  # event types, PS3.4 table J.3.3-1

# FailureReason, PS3.3 section C.14.1.1
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_CONFLICT = 0x0119
DUPLICATE_TRANSACTION = 0x0131


class Reference(NamedTuple):
    """An object that a peer asks about."""

    sop_class_uid: str
    sop_instance_uid: str


class Failed(NamedTuple):
    """An object that is not safe here, and why: a FailureReason."""

    sop_class_uid: str
    sop_instance_uid: str
    reason: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check of a request came to."""

    transaction: str
    committed: tuple[Reference, ...]
    failed: tuple[Failed, ...] = ()

    @property
    def event_type(self) -> int:
        """Event Type ID of the report (PS3.4 section J.3.3.1.1)."""
        return FAILURES_EXIST if self.failed else ALL_COMMITTED


class Ledger(Protocol):
    """Where requests for commitment are kept, and checked. Safe to use from many threads."""

    def open(self, transaction: str, requestor: Sender, references: Sequence[Reference]) -> int:
        """Write a request down, durably; its number.

        Until `reported` or `left`, but not for ever, the report is made by the one who opened it.
        """

    def verdict(self, commitment: int, timeout_s: float) -> Verdict | None:
        """What the check came to; None when that takes longer, or is known to."""

    def reported(self, commitment: int) -> None:
        """The peer has confirmed the report."""

    def left(self, commitment: int) -> None:
        """The peer has not got the report, or not confirmed it: it is to get one on a new association."""


class CommitmentService:
    """Answers N-ACTION-RQ "Request Storage Commitment".

    wait_s: how long a peer that stays on its association is given the report there; 0 for never.
    """

    operation: Operation = "commit"
    sop_classes: Collection[str] = (PUSH_MODEL,)

    def __init__(self, ledger: Ledger, *, wait_s: float = 2.0) -> None:
        self._ledger = ledger
        self._wait_s = wait_s

    def answer(self, message: Message) -> Replies:
        """The response and, where the check is done in time, the report. See seams.Service.answer."""
        try:
            transaction, references = requested(message)
            commitment = self._ledger.open(transaction, message.sender, references)
        except Refusal as refusal:
            yield answering.refused(message, refusal)
            return
        except StorageFull:
            yield answering.refused(message, Refusal(answering.RESOURCE_LIMITATION, "no space left"))
            return
        done = False
        try:
            yield answering.response(message)
            done = yield from self._report(message, commitment)
        finally:  # also when the association ends in between
            (self._ledger.reported if done else self._ledger.left)(commitment)

    def _report(self, message: Message, commitment: int) -> Generator[Reply, Answered | None, bool]:
        if self._wait_s <= 0:
            return False
        verdict = self._ledger.verdict(commitment, self._wait_s)
        if verdict is None:
            return False
        answered = yield event_report(message, verdict)
        return answered is not None and answered.status == answering.SUCCESS


def requested(message: Message) -> tuple[str, list[Reference]]:
    """The transaction and the objects of a request. Raises Refusal (PS3.7 section 10.1.4.1.10)."""
    _check_command(message)
    found = answering.dataset_of(message)
    transaction = answering.required_uid(found, "TransactionUID", answering.INVALID_ARGUMENT_VALUE)
    sequence = answering.required_items(found, "ReferencedSOPSequence")
    references = (
        Reference(
            answering.required_uid(item, "ReferencedSOPClassUID", answering.INVALID_ARGUMENT_VALUE),
            answering.required_uid(item, "ReferencedSOPInstanceUID", answering.INVALID_ARGUMENT_VALUE),
        )
        for item in sequence
    )
    return transaction, list(dict.fromkeys(references))


def _check_command(message: Message) -> None:
    if answering.command_field(message) != answering.N_ACTION_RQ:
        raise Refusal(answering.UNRECOGNIZED_OPERATION, "only N-ACTION is known here")
    if answering.text(message, answering.REQUESTED_CLASS) != PUSH_MODEL:
        raise Refusal(answering.NO_SUCH_CLASS, "only the push model is known here")
    instance = answering.text(message, answering.REQUESTED_INSTANCE)
    if not answering.is_uid(instance):
        raise Refusal(answering.INVALID_INSTANCE, "RequestedSOPInstanceUID is no UID")
    if instance != WELL_KNOWN_INSTANCE:
        raise Refusal(answering.NO_SUCH_INSTANCE, "not the well-known instance")
    if answering.number(message, answering.ACTION_TYPE) != _REQUEST_COMMITMENT:
        raise Refusal(answering.NO_SUCH_ACTION, "ActionTypeID is not 1")


def event_report(message: Message, verdict: Verdict) -> Reply:
    """The N-EVENT-REPORT-RQ on the association of the request."""
    request_id = answering.number(message, answering.MESSAGE_ID) or 0
    return Reply(
        {
            answering.AFFECTED_CLASS: PUSH_MODEL,
            answering.COMMAND_FIELD: answering.N_EVENT_REPORT_RQ,
            answering.MESSAGE_ID: request_id % 0xFFFF + 1,  # another one, which helps readers of logs
            answering.AFFECTED_INSTANCE: WELL_KNOWN_INSTANCE,
            answering.EVENT_TYPE: verdict.event_type,
        },
        encoded(information(verdict), message.transfer_syntax),
    )


def information(verdict: Verdict) -> Dataset:
    """Event Information of the report (PS3.4 table J.3.3-1)."""
    from pydicom.dataset import Dataset

    report = Dataset()
    _put(report, "TransactionUID", "UI", verdict.transaction)
    if verdict.committed:
        _put(report, "ReferencedSOPSequence", "SQ", [_item(*one) for one in verdict.committed])
    if verdict.failed:
        _put(report, "FailedSOPSequence", "SQ", [_item(*one) for one in verdict.failed])
    return report


def _item(sop_class_uid: str, sop_instance_uid: str, reason: int | None = None) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    _put(item, "ReferencedSOPClassUID", "UI", sop_class_uid)
    _put(item, "ReferencedSOPInstanceUID", "UI", sop_instance_uid)
    if reason is not None:
        _put(item, "FailureReason", "US", reason)
    return item


def _put(dataset: Dataset, keyword: str, vr: str, value: object) -> None:
    """An element that is not validated: the peer gets its own UIDs back as it wrote them."""
    from pydicom import config
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataelem import DataElement

    dataset.add(DataElement(tag_for_keyword(keyword) or 0, vr, value, validation_mode=config.IGNORE))


def encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    """A data set as it travels in a transfer syntax."""
    import zlib

    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset
    from pydicom.uid import UID

    syntax = UID(transfer_syntax)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, dataset)
    if not syntax.is_deflated:
        return buffer.getvalue()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = deflater.compress(buffer.getvalue()) + deflater.flush()
    return body + b"\0" * (len(body) % 2)
