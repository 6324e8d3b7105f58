"""C-MOVE as a provider: objects go to a listed peer, over an association of ours (PS3.4 section C.4.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import NamedTuple, Protocol

from dicomlake.errors import DicomlakeError
from dicomlake.network.peers import Peer
from dicomlake.network.requesting.outgoing import Outgoing
from dicomlake.network.seams import Cancelled, Message, Operation, Replies
from dicomlake.network.services import levels
from dicomlake.network.services.finding import Finder
from dicomlake.network.services.levels import Refusal
from dicomlake.network.services.retrieving import NOT_PERFORMED, Tally, asked_for

UNKNOWN_DESTINATION = 0xA801
_DESTINATION = 0x0600
_INTERVAL_S = 0.5


class Originator(NamedTuple):
    """Who asked for a move, which each C-STORE-RQ repeats (PS3.7 section 9.1.1.1)."""

    ae_title: str
    message_id: int


class Send(Protocol):
    """Sends objects to a peer."""

    def __call__(
        self, objects: Sequence[Outgoing], destination: Peer, *, calling: str, originator: Originator
    ) -> Generator[tuple[Outgoing, int | None], None, None]:
        """Each object with the status of the answer to it, or None where it could not be sent.

        calling: our AE title. Closing the generator ends the sending. Raises DicomlakeError when the peer
        cannot be reached or turns us away.
        """


class MoveService:
    """Answers C-MOVE.

    destinations: from an AE title to the peer of the list that has it; it must have an address.
    interval_s: between two pending responses.
    """

    operation: Operation = "move"
    sop_classes = levels.sop_classes("move")

    def __init__(
        self,
        finder: Finder,
        send: Send,
        destinations: Callable[[str], Peer | None],
        *,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._finder = finder
        self._send = send
        self._destinations = destinations
        self._interval_s = interval_s

    def answer(self, message: Message) -> Replies:
        """Pending responses with the counts while objects are sent, then the final one (table C.4-2)."""
        tally = Tally(0)
        status, comment = levels.SUCCESS, ""
        try:
            destination = self._destination(message)
            objects = asked_for(message, self._finder)
            tally = Tally(len(objects))
            yield from self._sending(message, objects, destination, tally)
            status = tally.status
        except Refusal as refusal:
            status, comment = refusal.status, refusal.comment
        except Cancelled:
            status = levels.CANCELLED
        yield tally.reply(message, status, comment)

    def _destination(self, message: Message) -> Peer:
        title = str(message.command.get(_DESTINATION, "")).strip(" \0")
        found = self._destinations(title) if title else None
        if found is None or found.address is None:
            raise Refusal(UNKNOWN_DESTINATION, "the destination is no peer with an address")
        return found

    def _sending(
        self, message: Message, objects: Sequence[Outgoing], destination: Peer, tally: Tally
    ) -> Replies:
        if not objects:
            return
        number = message.command[levels.MESSAGE_ID]
        originator = Originator(message.sender.calling, int(number))
        sent = self._send(objects, destination, calling=message.sender.called, originator=originator)
        told = time.monotonic()
        left = {one.sop_instance_uid: one for one in objects}
        try:
            with closing(sent):
                for one, status in sent:
                    if left.pop(one.sop_instance_uid, None) is not None:
                        tally.add(one.sop_instance_uid, status)
                    if tally.remaining and time.monotonic() - told >= self._interval_s:
                        yield tally.reply(message, levels.PENDING)
                        told = time.monotonic()
        except DicomlakeError as error:
            tally.fail(left.values())
            if not tally.completed and not tally.warning:
                raise Refusal(
                    NOT_PERFORMED, f"the destination cannot be sent to ({type(error).__name__})"
                ) from error
        else:
            tally.fail(left.values())
