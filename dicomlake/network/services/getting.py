"""C-GET as a provider: objects go to the peer that asks, on its own association (PS3.4 section C.4.3)."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from typing import NamedTuple

from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.walk import Readable
from dicomlake.errors import DicomlakeError
from dicomlake.network.requesting.outgoing import Outgoing, data_set
from dicomlake.network.requesting.transcoding import TARGETS, transcoded
from dicomlake.network.seams import Answered, Cancelled, Message, Operation, Replies, Reply
from dicomlake.network.services import levels
from dicomlake.network.services.finding import Finder
from dicomlake.network.services.levels import Refusal
from dicomlake.network.services.retrieving import Tally, asked_for

_C_STORE_RQ = 0x0001
_CLASS, _COMMAND, _ID, _PRIORITY, _INSTANCE = 0x0002, 0x0100, 0x0110, 0x0700, 0x1000
_MEDIUM = 0x0000
_HELD = 16 << 20  # bytes of an object that is sent whole


class _Ready(NamedTuple):
    transfer_syntax: str
    dataset: bytes | Iterator[bytes]


class GetService:
    """Answers C-GET."""

    operation: Operation = "get"
    sop_classes = levels.sop_classes("get")

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def answer(self, message: Message) -> Replies:
        """A C-STORE-RQ and, once that is answered, a pending response for each object; then the final one."""
        tally = Tally(0)
        status, comment = levels.SUCCESS, ""
        try:
            objects = asked_for(message, self._finder)
            tally = Tally(len(objects))
            for number, one in zip(cycle(range(1, 0x10000)), objects, strict=False):
                answered = yield from _sent(message, one, number)
                tally.add(one.sop_instance_uid, answered)
                if tally.remaining:
                    yield tally.reply(message, levels.PENDING)
            status = tally.status
        except Refusal as refusal:
            status, comment = refusal.status, refusal.comment
        except Cancelled:
            status = levels.CANCELLED
        yield tally.reply(message, status, comment)


def _sent(message: Message, one: Outgoing, number: int) -> Generator[Reply, Answered | None, int | None]:
    """The status that the peer answers to an object; None where it takes it in no way we have."""
    try:
        with _ready(one, message.contexts) as ready:
            if ready is None:
                return None
            command: dict[int, bytes | str | int] = {
                _CLASS: one.sop_class_uid,
                _COMMAND: _C_STORE_RQ,
                _ID: number,
                _PRIORITY: _MEDIUM,
                _INSTANCE: one.sop_instance_uid,
            }
            answered = yield Reply(command, ready.dataset, one.sop_class_uid, ready.transfer_syntax)
    except DicomlakeError:  # it cannot be read, or not be written in another transfer syntax
        return None
    return answered.status if answered is not None else None


@contextmanager
def _ready(one: Outgoing, contexts: Mapping[str, Collection[str]]) -> Iterator[_Ready | None]:
    """An object in a transfer syntax that the peer accepted for its class; None where none is ours."""
    accepted = contexts.get(one.sop_class_uid, ())
    targets = [one.transfer_syntax] if one.transfer_syntax in accepted else _targets(accepted)
    if not targets:
        yield None
        return
    with one.open() as readable:
        header = read_header(readable)
        yield _Ready(targets[0], _dataset(readable, header, one, targets[0]))


def _targets(accepted: Collection[str]) -> list[str]:
    return [target for target in TARGETS if target in accepted]


def _dataset(readable: Readable, header: Header, one: Outgoing, target: str) -> bytes | Iterator[bytes]:
    if target != one.transfer_syntax:
        return transcoded(readable, header, target)
    if readable.size > _HELD:
        return data_set(readable, header)
    return readable.read(header.dataset_offset)
