"""Requests of the normalized services as a peer sends them, their data sets written and read by pydicom."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomlake.network.seams import Answered, Message, Replies, Reply, Sender
from tests.objects import ROOT

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SENDER = Sender("MODALITY", "DICOMLAKE", "127.0.0.1", "association-1", "modality")
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
PUSH_MODEL, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
TRANSACTION = f"{ROOT}.77.1"


def written(ds: Dataset, syntax: UID = ImplicitVRLittleEndian) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, ds)
    return buffer.getvalue()


def parsed(data: object, syntax: UID = ImplicitVRLittleEndian) -> Dataset:
    assert isinstance(data, bytes)
    return read_dataset(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)


def action(*objects: tuple[str, str], transaction: str | None = TRANSACTION) -> Dataset:
    """Action Information of a request for commitment."""
    ds = Dataset()
    if transaction is not None:
        ds.TransactionUID = transaction
    ds.ReferencedSOPSequence = [referenced(*one) for one in objects]
    return ds


def referenced(sop_class: str, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def message(
    command: dict[int, Any],
    ds: Dataset | bytes,
    abstract_syntax: str,
    syntax: UID = ImplicitVRLittleEndian,
) -> Message:
    data = ds if isinstance(ds, bytes) else written(ds, syntax)
    return Message(command, data, abstract_syntax, str(syntax), SENDER)


def n_action(ds: Dataset | bytes, *, syntax: UID = ImplicitVRLittleEndian, **others: Any) -> Message:
    """N-ACTION-RQ; `others`: field, sop_class, instance, action."""
    command = {
        0x0003: others.get("sop_class", PUSH_MODEL),
        0x0100: others.get("field", 0x0130),
        0x0110: 7,
        0x1001: others.get("instance", INSTANCE),
        0x1008: others.get("action", 1),
    }
    return message(command, ds, PUSH_MODEL, syntax)


def drive(replies: Replies, *answers: int | None) -> list[Reply]:
    """What a service sends, as an association drives it: requests of ours are answered with `answers`."""
    sent: list[Reply] = []
    waiting = list(answers)
    answered: Answered | None = None
    while True:
        try:
            reply = replies.send(answered)
        except StopIteration:
            assert not waiting, "the service sent fewer requests"
            return sent
        sent.append(reply)
        is_request = not int(reply.command[0x0100]) & 0x8000
        answered = Answered(waiting.pop(0)) if is_request else None
