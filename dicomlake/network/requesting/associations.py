"""Associations that we ask for, by pynetdicom; the one place that touches how it works inside.

Data sets are sent as they lie in their originals: pynetdicom would decode and encode them again, or do so
by a switch for the whole process, and it queues an object whole. Here its own primitives carry the bytes.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomlake.errors import PeerError
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.failures import Lost

if TYPE_CHECKING:
    from pynetdicom.association import Association

MAX_CONTEXTS = 128  # odd numbers of one byte (PS3.8 section 9.3.2.2)
MAX_PDU = 256 << 10  # what we read at once, and the most we write at once
_QUEUED = 16  # PDUs that wait to be written; more would hold a large object in memory
_POLL_S = 0.0005
_PENDING = (0xFF00, 0xFF01)
_PDV_HEAD = 6  # length, context, and message control header (PS3.8 sections 9.3.5.1 and E.2)


class Context(NamedTuple):
    """A presentation context to propose. scp: the peer sends such objects to us (C-GET)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scp: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a requester waits; seconds.

    connect_s: for the connection, and for the answer to the association request.
    answer_s: for a response, and for a peer that does not read what it is sent.
    pause_s: before the first try again; twice as long before each further one, `longest_pause_s` at most.
    """

    connect_s: float = 15.0
    answer_s: float = 120.0
    pause_s: float = 1.0
    longest_pause_s: float = 60.0

    def pause(self, tries: int) -> float:
        """How long to wait after so many failed tries in a row."""
        return float(min(self.pause_s * 2 ** max(tries - 1, 0), self.longest_pause_s))


@contextmanager
def associated(
    address: Address,
    contexts: Sequence[Context],
    *,
    calling: str,
    tls: ssl.SSLContext | None = None,
    waits: Waits,
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An association with a peer, released at the end, aborted after an error.

    Raises PeerError when the peer cannot be reached or turns us away, saying which of its rules it named.
    """
    association = _ask(address, contexts, calling, tls, waits, handlers)
    try:
        if not association.is_established:
            raise _refusal(association, address)
        _tune(association, waits)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        if association.is_established:
            with suppress(RuntimeError):
                association.release()
    finally:
        _close(association)


def _ask(
    address: Address,
    contexts: Sequence[Context],
    calling: str,
    tls: ssl.SSLContext | None,
    waits: Waits,
    handlers: Sequence[Any],
) -> Association:
    from pynetdicom import build_context, build_role

    from dicomlake.network.requesting.entity import Entity

    _keep_values_out_of_logs()
    entity = Entity(ae_title=calling)
    entity.connection_timeout = entity.acse_timeout = waits.connect_s
    entity.dimse_timeout = entity.network_timeout = waits.answer_s
    entity.maximum_pdu_size = MAX_PDU
    roles = [build_role(uid, scp_role=True) for uid in {c.abstract_syntax for c in contexts if c.scp}]
    try:
        return entity.associate(
            address.host,
            address.port,
            contexts=[build_context(c.abstract_syntax, list(c.transfer_syntaxes)) for c in contexts],
            ae_title=address.ae_title,
            max_pdu=MAX_PDU,
            ext_neg=list(roles),
            tls_args=(tls, address.host) if tls else None,
            evt_handlers=list(handlers),
        )
    except (OSError, ValueError) as exc:
        raise PeerError(f"{address} cannot be asked for an association: {exc}", temporary=True) from exc


def _keep_values_out_of_logs() -> None:
    """pynetdicom logs queries and their answers, names and all, unless told not to."""
    from pynetdicom import _config

    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


def _refusal(association: Association, address: Address) -> PeerError:
    """Why there is no association (PS3.8 section 9.3.4)."""
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        said = getattr(answer, "reason_str", "") or "no reason given"
        temporary = getattr(answer, "result", None) == 2
        remedy = "try again later" if temporary else "ask its operator to let this AE title in"
        return PeerError(f"{address} rejected the association: {said}; {remedy}", temporary=temporary)
    if association.rejected_contexts:
        return PeerError(f"{address} accepts none of the SOP classes and transfer syntaxes proposed to it")
    if association.is_aborted:
        return PeerError(
            f"{address} did not agree to an association: no answer, an abort, or a connection that failed; "
            "check host, port, TLS and its list of peers",
            temporary=True,
        )
    return PeerError(f"{address} accepted no association: check host, port and TLS", temporary=True)


def _tune(association: Association, waits: Waits) -> None:
    """Write at once, and never wait forever for a peer that does not read."""
    connection = association.dul.socket
    raw = connection.socket if connection else None
    if raw is not None:
        raw.settimeout(waits.answer_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _close(association: Association) -> None:
    """Nothing stays open, whatever happened."""
    connection = association.dul.socket
    if connection is not None and connection.socket is not None:
        with suppress(OSError):
            connection.close()
    if association.is_alive():
        association.join(timeout=5)


def accepted(association: Association) -> Mapping[tuple[str, str], int]:
    """(abstract syntax, transfer syntax) of what the peer accepted -> the number of the context."""
    return {
        (str(c.abstract_syntax), str(c.transfer_syntax[0])): int(c.context_id or 0)
        for c in association.accepted_contexts
        if c.as_scu
    }


def store(
    association: Association,
    uids: tuple[str, str],
    context: int,
    pieces: Iterable[bytes],
    message: int,
    *,
    originator: tuple[str, int] | None = None,
) -> int:
    """Send one object and return the status of the peer's answer (PS3.7 section 9.1.1).

    Its comment, which may hold anything, is left out.
    uids: of SOP class and instance. pieces: the data set as it goes over the wire. message: its number.
    originator: AE title of who asked for a C-MOVE, and the number of that request.
    Raises Lost when the association ended, or nothing came in time.
    """
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID, request.Priority = message, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = uids
    if originator is not None:
        request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID = originator
    request.DataSet = BytesIO(b"\0\0")  # so that the command announces one; `pieces` are sent
    with paused(association):
        try:
            _write(association, request, context, pieces)
        except BaseException:
            association.abort()  # the peer is in the middle of an object
            raise
        since = time.monotonic()
        _context, response = association.dimse.get_msg(block=True)
    if response is None or not isinstance(response, C_STORE) or not response.is_valid_response:
        late = time.monotonic() - since >= (association.dimse_timeout or 0)
        association.abort()
        raise Lost("no answer came in time" if late else "the association ended before a valid answer")
    return int(response.Status or 0)


def ask(association: Association, request: Any, context: int) -> Iterator[Any]:
    """Send a C-FIND, C-MOVE or C-GET request and give its responses, the last one included.

    Objects that come in between (C-GET) go to the handler of `evt.EVT_C_STORE`.
    Raises Lost when the association ended, or nothing came in time.
    """
    from pynetdicom.dimse_primitives import C_STORE

    with paused(association):
        association.dimse.send_msg(request, context)
        while True:
            _context, response = association.dimse.get_msg(block=True)
            if isinstance(response, C_STORE):
                association._c_store_scp(response)
                continue
            if response is None or type(response) is not type(request) or not response.is_valid_response:
                association.abort()
                raise Lost("the association ended, or no valid answer came in time")
            yield response
            if response.Status not in _PENDING:
                return


@contextmanager
def paused(association: Association) -> Iterator[None]:
    """While pynetdicom's own loop leaves messages to us, as in its `send_c_store`. Raises Lost at its end."""
    association._reactor_checkpoint.clear()
    try:
        while not association._is_paused:
            if not association.is_alive():
                raise Lost("the association has ended")
            time.sleep(_POLL_S)
        yield
    finally:
        association._reactor_checkpoint.set()


def _write(association: Association, request: Any, context: int, pieces: Iterable[bytes]) -> None:
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dsutils import encode
    from pynetdicom.pdu_primitives import P_DATA

    message = C_STORE_RQ()
    message.primitive_to_message(request)
    command = encode(message.command_set, True, True) or b""
    room = (min(association.acceptor.maximum_length or MAX_PDU, MAX_PDU) - _PDV_HEAD) // 2 * 2
    for control, fragment in _fragments(command, pieces, room):
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context, control + fragment))
        association.dul.send_pdu(primitive)
        _wait_for_room(association)


def _fragments(command: bytes, pieces: Iterable[bytes], room: int) -> Iterator[tuple[bytes, bytes]]:
    """Message control header and fragment of each PDV: the command, then the data set (PS3.8 E.2)."""
    for start in range(0, len(command), room):
        last = start + room >= len(command)
        yield (b"\x03" if last else b"\x01"), command[start : start + room]
    held = b""
    for piece in pieces:
        held += piece
        whole = (len(held) - 1) // room * room  # at least one byte is kept for the last fragment
        for start in range(0, whole, room):
            yield b"\x00", held[start : start + room]
        held = held[max(whole, 0) :]
    yield b"\x02", held


def _wait_for_room(association: Association) -> None:
    queue = association.dul.to_provider_queue
    while queue.qsize() > _QUEUED:
        if not association.is_established:
            raise Lost("the association ended while an object was being sent")
        time.sleep(_POLL_S)
