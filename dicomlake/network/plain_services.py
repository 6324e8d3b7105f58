"""How our services answer pynetdicom's associations: requests and responses as they are on the wire."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import _RQ_TO_MESSAGE
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from dicomlake.errors import DicomlakeError
from dicomlake.network import dimse, statuses
from dicomlake.network.seams import Answered, Cancelled, Command, Message, Replies, Reply, Sender, Service

if TYPE_CHECKING:
    from pynetdicom.association import Association

_LOG = logging.getLogger("dicomlake.network")
_COMMAND, _LAST = 1, 2
"""Bits of the message control header (PS3.8 annex E.2)."""
_REQUESTED_INSTANCE = 0x1001
_QUEUED = 16  # PDUs that wait to be sent, so that a peer that says stop is heard
_POLL_S = 0.001


class Answering:
    """Answers what an association is asked on the contexts of services; pynetdicom does the rest."""

    def __init__(self, association: Association, services: Mapping[str, Service], sender: Sender) -> None:
        self._association, self._services, self._sender = association, services, sender
        self._others = association._serve_request

    def take_over(self) -> None:
        """Be asked first. pynetdicom's own handlers cannot say everything that services answer."""
        self._association._serve_request = self._serve  # type: ignore[method-assign]

    def _serve(self, msg: Any, context_id: int) -> None:
        context = self._association._accepted_cx.get(context_id)
        service = self._services.get(str(context.abstract_syntax)) if context else None
        if service is None or isinstance(msg, C_STORE | C_ECHO) or not msg.is_valid_request:
            self._others(msg, context_id)
            return
        message = self._message(msg, context)
        self._association.dimse.cancel_req = {}
        self._drive(service.answer(message), message, context_id)

    def _message(self, request: Any, context: Any) -> Message:
        written = _RQ_TO_MESSAGE[type(request)]()
        written.primitive_to_message(request)
        takes: dict[str, list[str]] = {}
        for other in self._association.accepted_contexts:
            if other.as_scu and str(other.abstract_syntax) != str(context.abstract_syntax):
                takes.setdefault(str(other.abstract_syntax), []).append(str(other.transfer_syntax[0]))
        return Message(
            command={element.tag.element: _plain(element) for element in written.command_set},
            dataset=written.data_set.getvalue() if written.data_set else b"",
            abstract_syntax=str(context.abstract_syntax),
            transfer_syntax=str(context.transfer_syntax[0]),
            sender=self._sender,
            contexts=takes,
        )

    def _drive(self, replies: Replies, message: Message, number: int) -> None:
        """Send what a service answers, until it has no more to say or nobody listens."""
        answer: Answered | None = None
        try:
            reply = next(replies, None)
            while reply is not None and self._listens():
                self._send(reply, number)
                answer = self._answered() if _is_request(reply) else None
                if self._cancelled(message):
                    reply = replies.throw(Cancelled())
                    self._send(reply, number)
                    return
                reply = replies.send(answer)
        except StopIteration:
            if self._cancelled(message):
                self._send(_failure(message, statuses.CANCELLED), number)
        except Cancelled:
            self._send(_failure(message, statuses.CANCELLED), number)
        except DicomlakeError as error:
            _LOG.warning("%s: %s", message.sender.association, error)
            self._send(_failure(message, statuses.PROCESSING_FAILURE), number)
        except Exception as error:  # what it says may hold values
            _LOG.error("%s: a service failed: %s", message.sender.association, type(error).__name__)
            self._send(_failure(message, statuses.PROCESSING_FAILURE), number)
        finally:
            replies.close()

    def _listens(self) -> bool:
        return self._association.dul.is_alive() and not self._association.acse.is_aborted()

    def _cancelled(self, message: Message) -> bool:
        return message.command.get(dimse.MESSAGE_ID) in self._association.dimse.cancel_req

    def _answered(self) -> Answered:
        _number, response = self._association.dimse.get_msg(block=True)
        return Answered(getattr(response, "Status", None))

    def _send(self, reply: Reply, number: int) -> None:
        number = self._number(reply, number)
        dataset = iter((reply.dataset,)) if isinstance(reply.dataset, bytes) else reply.dataset
        first = next(dataset, b"")
        self._send_part(number, _COMMAND, iter((dimse.encode(reply.command, dataset=bool(first)),)))
        if first:
            self._send_part(number, 0, _chain(first, dataset))

    def _number(self, reply: Reply, number: int) -> int:
        """The presentation context that a reply belongs on."""
        if not reply.abstract_syntax:
            return number
        for context in self._association.accepted_contexts:
            same = context.abstract_syntax == reply.abstract_syntax
            if same and reply.transfer_syntax in ("", context.transfer_syntax[0]):
                return int(context.context_id or 0)
        raise DicomlakeError("the peer has not agreed to the presentation context of a sub-operation")

    def _send_part(self, number: int, kind: int, pieces: Iterator[bytes]) -> None:
        """A command or a data set as P-DATA, each as large as the peer reads."""
        most = (self._association.dimse.maximum_pdu_size or 1 << 20) - 6
        for last, fragment in _fragments(pieces, most):
            data = P_DATA()
            data.presentation_data_value_list.append((number, bytes([kind | _LAST * last]) + fragment))
            self._association.dul.send_pdu(data)
            while self._association.dul.to_provider_queue.qsize() > _QUEUED and self._listens():
                time.sleep(_POLL_S)


def _plain(element: Any) -> bytes | str | int:
    if element.VR in ("US", "UL") and isinstance(element.value, int):
        return element.value
    if element.VR in ("UI", "AE"):
        return str(element.value or "").strip(" \0")
    if element.VR == "AT":
        tags = element.value if isinstance(element.value, list) else [element.value]
        return b"".join(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") for tag in tags)
    return str(element.value or "").encode("latin-1", "replace")


def _is_request(reply: Reply) -> bool:
    return not int(reply.command[dimse.FIELD]) & dimse.RESPONSE


def _failure(message: Message, status: int) -> Reply:
    """The response to a request that carries nothing but a status."""
    command: Command = {
        dimse.FIELD: int(message.command[dimse.FIELD]) | dimse.RESPONSE,
        dimse.RESPONDED_ID: message.command[dimse.MESSAGE_ID],
        dimse.STATUS: status,
    }
    for wanted, given in (
        (dimse.AFFECTED_CLASS, dimse.REQUESTED_CLASS),
        (dimse.AFFECTED_INSTANCE, _REQUESTED_INSTANCE),
    ):
        if uid := message.command.get(wanted) or message.command.get(given):
            command[wanted] = uid
    return Reply(command)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _fragments(pieces: Iterator[bytes], most: int) -> Iterator[tuple[bool, bytes]]:
    """The pieces, none longer than `most` and none empty but a single one; and whether it is the last."""
    held: bytes | None = None
    for piece in pieces:
        for at in range(0, len(piece), most):
            if held is not None:
                yield False, held
            held = piece[at : at + most]
    yield True, held or b""
