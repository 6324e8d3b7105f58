"""One request that a service answers: its replies to the peer, and what the peer says meanwhile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dicomlake.network import dimse, statuses
from dicomlake.network.seams import Answered, Cancelled, Command, Message, Replies, Reply, Service
from dicomlake.network.upper.failures import AssociationError, Violation
from dicomlake.network.upper.negotiation import Context
from dicomlake.network.upper.wire import Released

if TYPE_CHECKING:
    from dicomlake.network.association import Association


class Conversation:
    """Drives the generator of a service for one request."""

    def __init__(self, association: Association, context: Context, message: Message) -> None:
        self._association, self._context, self._message = association, context, message
        self._asked = dimse.number(message.command, dimse.MESSAGE_ID) or 0
        self._own = self._asked
        self._asking = self._final = self._cancelled = self._released = False

    def run(self, service: Service) -> None:
        """Send what the service replies, until it is done; there is a final response in the end.

        Raises Released where the peer asked for the release meanwhile, AssociationError where it is over.
        """
        replies: Replies | None = None
        try:
            replies = service.answer(self._message)
            self._drive(replies)
        except AssociationError:
            raise
        except Exception as error:
            self._report(service, error)
        finally:
            if replies is not None:
                self._close(service, replies)
        if self._released:
            raise Released
        if not self._final:
            self._association.respond(
                self._context.number, self._message.command, statuses.PROCESSING_FAILURE
            )

    def _close(self, service: Service, replies: Replies) -> None:
        try:
            replies.close()
        except Exception as error:
            self._report(service, error)

    def _report(self, service: Service, error: Exception) -> None:
        from dicomlake.network.association import report

        report(type(service).__name__, self._message.sender, error)

    def _drive(self, replies: Replies) -> None:
        answered: Answered | None = None
        while True:
            try:
                reply = replies.send(answered)
            except StopIteration:
                return
            try:
                answered = self._sent(reply)
                if not self._final:
                    self._look()
            except AssociationError:
                self._unanswered(replies)
                raise
            if self._released:
                self._unanswered(replies)
                return
            if self._cancelled and not self._final:
                self._cancel(replies)
                return

    def _unanswered(self, replies: Replies) -> None:
        """Tell the service that its request gets no answer, if it waits for one."""
        if self._asking:
            with contextlib.suppress(Exception):  # the association is over; that is what is to be told
                replies.send(Answered(None))

    def _cancel(self, replies: Replies) -> None:
        with contextlib.suppress(Cancelled, StopIteration):
            self._sent(replies.throw(Cancelled()))
        if not self._final:
            self._association.respond(self._context.number, self._message.command, statuses.CANCELLED)
            self._final = True

    # Sending

    def _sent(self, reply: Reply) -> Answered | None:
        """Send a reply; of a request of ours, what the peer answered."""
        operation = dimse.number(reply.command, dimse.FIELD)
        if operation is None:
            raise ValueError("a reply without a command field")
        self._asking = not operation & dimse.RESPONSE
        if not self._asking:
            self._respond(reply)
            return None
        context = self._context_of(reply)
        self._look()
        if context is None or self._released:
            return Answered(None)
        self._own = self._own % 0xFFFF + 1
        command = {dimse.MESSAGE_ID: self._own, **reply.command}
        self._send(context, command, reply)
        return self._answer_to(command[dimse.MESSAGE_ID])

    def _respond(self, reply: Reply) -> None:
        from dicomlake.network.association import response_to

        command = response_to(self._message.command, statuses.SUCCESS) | reply.command
        self._send(self._context_of(reply) or self._context, command, reply)
        status = dimse.number(command, dimse.STATUS)
        self._final = self._final or status is None or statuses.kind(status) != "pending"

    def _send(self, context: Context, command: Command, reply: Reply) -> None:
        has_data = not isinstance(reply.dataset, bytes) or bool(reply.dataset)
        encoded = dimse.encode(command, dataset=has_data)
        self._association.send(context.number, encoded, reply.dataset)

    def _context_of(self, reply: Reply) -> Context | None:
        if not reply.abstract_syntax and not reply.transfer_syntax:
            return self._context
        abstract = reply.abstract_syntax or self._context.abstract_syntax
        for context in self._association.contexts.values():
            if context.abstract_syntax == abstract and reply.transfer_syntax in ("", context.transfer_syntax):
                return context
        return None

    # Reading

    def _answer_to(self, message_id: object) -> Answered:
        """Wait for the response to a request of ours; other messages are answered meanwhile."""
        while True:
            try:
                number, command = self._association.command()
            except Released:
                self._released = True
                return Answered(None)
            if not (dimse.number(command, dimse.FIELD) or 0) & dimse.RESPONSE:
                self._meanwhile(number, command)
                continue
            if command.get(dimse.RESPONDED_ID) != message_id:
                raise Violation("a response to another request than was sent")
            if dimse.number(command, dimse.DATASET_TYPE) not in (dimse.NO_DATASET, None):
                for _ in self._association.pieces(number):
                    pass
            return Answered(dimse.number(command, dimse.STATUS))

    def _look(self) -> None:
        """Take in what the peer sent while the service was at work, without waiting for more."""
        while not self._released and self._association.wire.readable():
            try:
                number, command = self._association.command()
            except Released:
                self._released = True
                return
            self._meanwhile(number, command)

    def _meanwhile(self, number: int, command: Command) -> None:
        if dimse.number(command, dimse.FIELD) != dimse.C_CANCEL_RQ:
            self._association.answer(number, command, later=True)
        elif command.get(dimse.RESPONDED_ID) == self._asked:
            self._cancelled = True
