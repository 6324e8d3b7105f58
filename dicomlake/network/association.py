"""One association, from its request to its end, in one thread: objects to the sink, the rest to services.

Every request gets an answer, or the association is aborted with a reason. What a sink or a service raises
is a failure of that request; what the peer does wrong ends the association, and nothing of what was under
way stays.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from time import monotonic, perf_counter

from dicomlake.network import dimse, statuses
from dicomlake.network.conversation import Conversation
from dicomlake.network.limits import Limits
from dicomlake.network.seams import Command, Message, Sender, Sink, Stored, StoreRequest, Watcher
from dicomlake.network.upper import pdu
from dicomlake.network.upper.failures import AssociationError, Stopped, Violation
from dicomlake.network.upper.negotiation import VERIFICATION, Context
from dicomlake.network.upper.wire import Released, Wire

log = logging.getLogger("dicomlake.network")

_QUEUED = 16  # requests that wait while a service answers another


class Association:
    """An accepted association. `run` returns how it ended; `stop` asks it to end when nothing is under way.

    contexts: accepted, by number. proposed: numbers of all that were proposed. maximum: bytes of a P-DATA-TF
    that the peer takes, 0 for any. farewell: what to send last. conflict_status: answers an object kept
    beside another of its UID.
    """

    def __init__(
        self,
        wire: Wire,
        sender: Sender,
        contexts: Mapping[int, Context],
        proposed: Collection[int],
        *,
        sink: Sink,
        watcher: Watcher,
        limits: Limits,
        maximum: int,
        conflict_status: int = statuses.SUCCESS,
    ) -> None:
        self.wire, self.sender, self.contexts = wire, sender, contexts
        self.limits = limits
        self.room = min(maximum or limits.pdu, limits.pdu) - 6
        self._rejected = frozenset(proposed) - frozenset(contexts)
        self._sink, self._watcher = sink, watcher
        self._conflict_status = conflict_status
        self._waiting: deque[tuple[Context, Command, bytes]] = deque()
        self.farewell = b""
        self._stopping = self._idle = self._open = False
        self._since = monotonic()  # when it became idle
        self._broken: AssociationError | None = None

    def stop(self) -> None:
        """End it as soon as what is under way is answered; from another thread."""
        self._stopping = True
        if self._idle:
            self.wire.expire(Stopped("the receiver stops"))

    @property
    def quiet_s(self) -> float:
        """Seconds for which nothing was asked; 0 while something is under way."""
        return monotonic() - self._since if self._idle else 0.0

    def run(self) -> str:
        """Answer requests until the peer releases the association; returns how that is called."""
        try:
            while True:
                self._next()
        except Released:
            self.farewell = pdu.RELEASED
            return "released"

    def _next(self) -> None:
        """Read a request and answer it."""
        while self._waiting:
            self._served(*self._waiting.popleft())
        self._since = monotonic()
        self._idle = True  # before the look at _stopping, as `stop` does it the other way round
        if self._stopping:
            raise Stopped("the receiver stops")
        context, command = self.command()
        self.answer(context, command)

    def command(self) -> tuple[int, Command]:
        """Read the next command set: its presentation context and its elements."""
        wire = self.wire
        wire.begin()
        wire.fragment()
        self._idle = False
        if wire.context not in self.contexts and wire.context not in self._rejected:
            raise Violation("a message on a presentation context that was never proposed")
        if not wire.control & 1:
            raise Violation("a data set without a command before it")
        if wire.control & 2:
            return wire.context, dimse.decode(bytes(wire.piece))
        return wire.context, dimse.decode(self._rest_of_command())

    def _rest_of_command(self) -> bytes:
        wire, context = self.wire, self.wire.context
        data = bytearray(wire.piece)
        while not wire.control & 2:
            wire.fragment()
            if wire.context != context or not wire.control & 1:
                raise Violation("a command set is interrupted by something else")
            data += wire.piece
            if len(data) > dimse.LARGEST:
                raise Violation("a command set is larger than the limit")
        return bytes(data)

    def answer(self, number: int, command: Command, *, later: bool = False) -> None:
        """Answer a request; later: one for a service waits until the service at work is done."""
        operation = dimse.number(command, dimse.FIELD)
        follows = dimse.number(command, dimse.DATASET_TYPE)
        if operation is None or follows is None:
            raise Violation("a command set without command field or data set type")
        has_data = follows != dimse.NO_DATASET
        if operation & dimse.RESPONSE:
            raise Violation("a response to nothing")
        if operation == dimse.C_CANCEL_RQ:  # its request has just been answered
            self._drain(number, has_data)
            return
        if dimse.number(command, dimse.MESSAGE_ID) is None:
            raise Violation("a request without a message ID")
        context = self.contexts.get(number)
        if context is not None and operation == dimse.C_STORE_RQ and context.store:
            self._store(context, command, has_data)
        elif context is not None and operation == dimse.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
            self._drain(number, has_data)
            self.respond(number, command, statuses.SUCCESS)
        elif context is not None and context.service is not None:
            self._serve(context, command, has_data, later)
        else:
            self._drain(number, has_data)
            self.respond(number, command, _refusal(context, operation))

    # C-STORE

    def _store(self, context: Context, command: Command, has_data: bool) -> None:
        """Give an object to the sink and answer what became of it (PS3.7 section 9.3.1)."""
        started = perf_counter()
        sop_class, instance = command.get(dimse.AFFECTED_CLASS), command.get(dimse.AFFECTED_INSTANCE)
        fault = _fault(context, sop_class, instance, has_data)
        if fault:
            self._drain(context.number, has_data)
            self.respond(context.number, command, fault)
            return
        assert isinstance(sop_class, str)
        assert isinstance(instance, str)
        request = StoreRequest(sop_class, instance, context.transfer_syntax, self.sender)
        if self.wire.starved:
            self.wire.acknowledge()
        self._open = True
        result = self._kept(request, self.pieces(context.number))
        if self._open:  # what the sink did not want
            self._drain(context.number, True)
        status = statuses.store_status(result.outcome, conflict=self._conflict_status)
        number = command[dimse.MESSAGE_ID]
        assert isinstance(number, int)
        try:
            self.send(context.number, dimse.store_response(sop_class, instance, number, status))
        finally:  # it is kept, whether the peer hears of it or not
            self._watcher.stored(request, result, perf_counter() - started)

    def _kept(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        try:
            result = self._sink.store(request, pieces)
        except AssociationError:
            raise
        except Exception as error:
            if self._broken is None:
                report("the sink", self.sender, error)
            result = Stored("failed", type(error).__name__)
        if self._broken is not None:
            raise self._broken
        return result

    def pieces(self, context: int) -> Iterator[memoryview]:
        """The data set of the message at hand, as it lies in the buffer; a piece is valid until the next."""
        wire, left = self.wire, self.limits.object_bytes
        fragment = wire.fragment
        try:
            while True:
                fragment()
                if wire.control & 1 or wire.context != context:
                    raise Violation("a data set is interrupted by something else")
                piece = wire.piece
                left -= len(piece)
                if left < 0:
                    raise Violation("an object is larger than the limit")
                if wire.control & 2:
                    break
                yield piece
        except AssociationError as error:
            self._broken = error  # whatever the sink makes of it
            raise
        self._open = False
        yield piece

    def _drain(self, context: int, has_data: bool) -> None:
        if has_data:
            for _ in self.pieces(context):
                pass

    # Services

    def _serve(self, context: Context, command: Command, has_data: bool, later: bool) -> None:
        data = self.collected(context.number) if has_data else b""
        if data is None:
            self.respond(context.number, command, statuses.RESOURCE_LIMITATION)
        elif not later:
            self._served(context, command, data)
        elif len(self._waiting) < _QUEUED:
            self._waiting.append((context, command, data))
        else:
            raise Violation("more requests at once than were agreed")

    def _served(self, context: Context, command: Command, data: bytes) -> None:
        assert context.service is not None
        taken: dict[str, list[str]] = {}
        for one in self.contexts.values():
            if one.takes:
                taken.setdefault(one.abstract_syntax, []).append(one.transfer_syntax)
        syntaxes = context.abstract_syntax, context.transfer_syntax
        message = Message(command, data, *syntaxes, self.sender, taken)
        Conversation(self, context, message).run(context.service)

    def collected(self, context: int) -> bytes | None:
        """The data set of the message at hand; None, after all of it, where it is larger than the limit."""
        data = bytearray()
        for piece in self.pieces(context):
            if len(data) <= self.limits.message_bytes:
                data += piece
        return bytes(data) if len(data) <= self.limits.message_bytes else None

    # Sending

    def respond(self, number: int, command: Command, status: int) -> None:
        """Send a response without data set to a request."""
        self.send(number, dimse.encode(response_to(command, status)))

    def send(self, context: int, command: bytes, dataset: bytes | Iterator[bytes] = b"") -> None:
        """Send a message in P-DATA-TFs of the size that the peer takes, in as few calls as it can be done."""
        if len(command) <= self.room and not dataset:
            self.wire.send(pdu.data(context, 3, command))
            return
        batch = bytearray()
        for control, pieces in ((1, (command,)), (0, _pieces(dataset))):
            for last, part in self._parts(pieces) if pieces is not None else ():
                batch += pdu.data(context, control | 2 * last, part)
                if len(batch) >= self.limits.pdu:
                    self.wire.send(batch)
                    batch = bytearray()
        if batch:
            self.wire.send(batch)

    def _parts(self, pieces: Iterable[bytes]) -> Iterator[tuple[bool, memoryview]]:
        """Pieces of any size as parts of at most the agreed one, and whether each is the last."""
        part = memoryview(b"")
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), self.room):
                if part:
                    yield False, part
                part = view[start : start + self.room]
        yield True, part


def _pieces(dataset: bytes | Iterator[bytes]) -> Iterable[bytes] | None:
    if isinstance(dataset, bytes):
        return (dataset,) if dataset else None
    return dataset


def _refusal(context: Context | None, operation: int) -> int:
    """The status that refuses a request which nothing here answers."""
    if context is None:
        return statuses.CLASS_NOT_SUPPORTED
    if operation == dimse.C_STORE_RQ and context.takes:
        return statuses.NOT_AUTHORIZED
    return statuses.UNRECOGNIZED_OPERATION


def _fault(context: Context, sop_class: object, instance: object, has_data: bool) -> int:
    """The status that refuses a C-STORE-RQ before its data set; 0 for none (PS3.7 section 9.1.1.1.9)."""
    if sop_class is None or instance is None:
        return statuses.MISSING_ATTRIBUTE
    if sop_class != context.abstract_syntax:
        return statuses.CLASS_NOT_SUPPORTED
    if not instance:
        return statuses.INVALID_INSTANCE
    return 0 if has_data else statuses.CANNOT_UNDERSTAND


def response_to(command: Command, status: int) -> Command:
    """The elements of a response that follow from its request."""
    operation = dimse.number(command, dimse.FIELD) or 0
    response: Command = {
        dimse.FIELD: operation | dimse.RESPONSE,
        dimse.RESPONDED_ID: dimse.number(command, dimse.MESSAGE_ID) or 0,
        dimse.STATUS: status,
    }
    if named := dimse.text(command, dimse.AFFECTED_CLASS) or dimse.text(command, dimse.REQUESTED_CLASS):
        response[dimse.AFFECTED_CLASS] = named
    if instance := dimse.text(command, dimse.AFFECTED_INSTANCE) or dimse.text(command, 0x1001):
        response[dimse.AFFECTED_INSTANCE] = instance
    return response


def report(who: str, sender: Sender, error: Exception) -> None:
    """An error of this side in the log: its type and place, as its text may hold values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
    log.error("association %s: %s failed: %s at %s", sender.association, who, type(error).__name__, where)
