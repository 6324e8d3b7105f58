"""The receiver done with plain pynetdicom: the switch for when there is doubt about the fast one.

It takes what `server.Server` takes, asks the same peers, gives the sink the same bytes and answers with the
same statuses. It is several times slower, holds each object in memory, and is not hardened against hostile
peers: pynetdicom reads PDUs of any announced length.
"""

from __future__ import annotations

import logging
import socket as sockets
import socketserver
import ssl
import threading
import time
import uuid
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import ThreadedAssociationServer

from dicomlake.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomlake.errors import DicomlakeError
from dicomlake.network import statuses
from dicomlake.network.limits import Limits
from dicomlake.network.peers import Peer, Peers, address_of
from dicomlake.network.plain_services import Answering
from dicomlake.network.seams import Sender, Service, Sink, Stored, StoreRequest, Watcher
from dicomlake.network.upper import negotiation

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

_LOG = logging.getLogger("dicomlake.network")
_STORAGE_SERVICE = "1.2.840.10008.4.2"
_PAUSE_S = 0.02


class PlainServer:
    """A DICOM provider on one port; the arguments and methods are those of `server.Server`."""

    def __init__(
        self,
        sink: Sink,
        services: Iterable[Service],
        peers: Peers,
        limits: Limits | None = None,
        *,
        ae_titles: Collection[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        watcher: Watcher | None = None,
        socket: sockets.socket | None = None,
        conflict_status: int = statuses.SUCCESS,
    ) -> None:
        self._sink, self._peers, self._limits, self._watcher = sink, peers, limits or Limits(), watcher
        self._services = {uid: service for service in services for uid in service.sop_classes}
        self._titles, self._conflict = tuple(ae_titles), conflict_status
        self._address, self._tls, self._socket = (host, port), tls, socket
        self._open: dict[Association, tuple[Sender, Peer]] = {}
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen, and answer from now on. Raises OSError when the port cannot be had."""
        entity = AE(self._titles[0] if self._titles else "DICOMLAKE")
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = self._limits.pdu
        entity.maximum_associations = 1 << 30  # counted here, where the address of a peer is known
        entity.acse_timeout = self._limits.request_s
        entity.dimse_timeout = self._limits.answer_s
        entity.network_timeout = self._limits.silence_s
        entity.add_supported_context(negotiation.VERIFICATION)
        self._server = _Server(entity, self._address, self._handlers(), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_PAUSE_S,), name="dicomlake-plain", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1]) if self._server else self._address[1]

    @property
    def associations(self) -> int:
        """How many associations are open."""
        return len(self._open)

    def stop(self, drain_s: float = 10.0) -> None:
        """Take no more associations; those that are open get so many seconds, then they are aborted."""
        if self._server is None or self._thread is None:
            return
        server, self._server = self._server, None
        self._address = (self._address[0], int(server.server_address[1]))
        server.shutdown()
        self._thread.join()
        limit = time.monotonic() + drain_s
        while self._open and time.monotonic() < limit:
            time.sleep(_PAUSE_S)
        running = server.active_associations
        for association in running:
            if association.is_established:
                association.abort()
            else:
                association.kill()
        for association in running:
            association.join(self._limits.answer_s)

    # ---- what pynetdicom tells ---------------------------------------------------------------------------

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_SOP_COMMON, self._as_storage),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._ended, ["released"]),
            (evt.EVT_ABORTED, self._ended, ["aborted"]),
            (evt.EVT_CONN_CLOSE, self._ended, ["connection lost"]),
        ]

    def _requested(self, event: Event) -> None:
        """Let a peer in and offer it what it may do, or turn it away (PS3.8 section 9.3.4)."""
        association = event.assoc
        request: Any = association.requestor.primitive
        if not hasattr(request, "called_ae_title"):  # an abort came instead
            return
        host = str(address_of(association.requestor.address) or association.requestor.address)
        sender = Sender(request.calling_ae_title, request.called_ae_title, host, uuid.uuid4().hex[:12])
        peer = self._peers.find(sender.calling, host)
        with self._lock:
            refusal = self._refusal(sender, peer)
            if refusal is None and peer is not None:
                self._open[association] = (_named(sender, peer), peer)
        if refusal is not None or peer is None:
            self._turn_away(association, sender, refusal or negotiation.CALLING_UNKNOWN)
            return
        association.acceptor.supported_contexts = self._offer(association, peer)
        if self._services:
            Answering(association, self._services, self._open[association][0]).take_over()

    def _refusal(self, sender: Sender, peer: Peer | None) -> negotiation.Refusal | None:
        if self._titles and sender.called not in self._titles:
            return negotiation.CALLED_UNKNOWN
        if peer is None:
            return negotiation.CALLING_UNKNOWN
        others = [known for association, known in self._open.items() if association.is_alive()]
        of_host = sum(other.host == sender.host for other, _peer in others)
        of_peer = sum(entry == peer for _other, entry in others)
        if (
            len(others) >= self._limits.associations
            or of_host >= self._limits.associations_of_host
            or (peer.associations is not None and of_peer >= peer.associations)
        ):
            return negotiation.TOO_MANY
        return None

    def _turn_away(self, association: Association, sender: Sender, refusal: negotiation.Refusal) -> None:
        association.acse.send_reject(refusal.result, refusal.source, refusal.reason)
        association.kill()
        if self._watcher is not None:
            self._watcher.refused(sender.host, sender.calling, refusal.why)

    def _offer(self, association: Association, peer: Peer) -> list[PresentationContext]:
        """The contexts that this peer may have, each with all transfer syntaxes that it proposed."""
        roles = association.requestor.role_selection
        offered: dict[str, PresentationContext] = {}
        request: Any = association.requestor.primitive
        for proposed in request.presentation_context_definition_list[: self._limits.contexts]:
            uid = str(proposed.abstract_syntax)
            if not self._may(uid, peer):
                continue
            context = offered.setdefault(uid, PresentationContext())
            context.abstract_syntax = proposed.abstract_syntax
            for syntax in proposed.transfer_syntax:
                context.add_transfer_syntax(syntax)
            if proposed.abstract_syntax in roles:
                context.scu_role = True
                context.scp_role = peer.may("get") if negotiation.is_storage(uid) else True
        return list(offered.values()) or [_nothing()]

    def _may(self, uid: str, peer: Peer) -> bool:
        if uid == negotiation.VERIFICATION:
            return peer.may("echo")
        service = self._services.get(uid)
        if service is not None:
            return peer.may(service.operation)
        return negotiation.is_storage(uid) and (peer.may("store") or peer.may("get"))

    def _as_storage(self, event: Event) -> dict[Any, Any]:
        """That every class which is not another's is one of the Storage Service: private ones too."""
        from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation

        found = {}
        for context in event.assoc.acceptor.supported_contexts:
            uid = context.abstract_syntax
            if uid is not None and str(uid) not in self._services and negotiation.is_storage(str(uid)):
                found[uid] = SOPClassCommonExtendedNegotiation()
                found[uid].sop_class_uid = uid
                found[uid].service_class_uid = _STORAGE_SERVICE
        return found

    def _established(self, event: Event) -> None:
        known = self._open.get(event.assoc)
        if known and self._watcher is not None:
            self._watcher.opened(known[0])

    def _store(self, event: Event) -> int:
        """Give an object to the sink; the status of what became of it."""
        began = time.perf_counter()
        sender, peer = self._open[event.assoc]
        asked: Any = event.request
        request = StoreRequest(
            str(asked.AffectedSOPClassUID),
            str(asked.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            sender,
        )
        if not peer.may("store"):
            result = Stored("refused", "the peer may not store")
        elif request.sop_class_uid != str(event.context.abstract_syntax):
            return statuses.CLASS_NOT_SUPPORTED
        else:
            result = self._stored(request, event.encoded_dataset(include_meta=False))
        if self._watcher is not None:
            self._watcher.stored(request, result, time.perf_counter() - began)
        return statuses.store_status(result.outcome, conflict=self._conflict)

    def _stored(self, request: StoreRequest, dataset: bytes) -> Stored:
        try:
            return self._sink.store(request, iter([memoryview(dataset)]))
        except DicomlakeError as error:
            return Stored("failed", str(error))
        except Exception as error:  # what it says may hold values of the object
            _LOG.error("storing %s failed: %s", request.sop_instance_uid, type(error).__name__)
            return Stored("failed", f"storing failed: {type(error).__name__}")

    def _ended(self, event: Event, how: str) -> None:
        with self._lock:
            known = self._open.pop(event.assoc, None)
        if known and self._watcher is not None:
            self._watcher.closed(known[0], "stopped" if self._server is None else how)


def _named(sender: Sender, peer: Peer) -> Sender:
    return Sender(sender.calling, sender.called, sender.host, sender.association, peer.name)


def _nothing() -> PresentationContext:
    """A context that nobody proposes: pynetdicom wants one at least."""
    context = PresentationContext()
    context.abstract_syntax = _STORAGE_SERVICE
    context.add_transfer_syntax("1.2.840.10008.1.2")
    return context


class _Server(ThreadedAssociationServer):
    """Accepts connections; TLS is agreed in the thread of each, so that a slow one holds up nobody."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, entity: AE, address: tuple[str, int], handlers: list[Any], owner: PlainServer) -> None:
        self._owner = owner
        super().__init__(entity, address, entity.ae_title, entity.supported_contexts, None, handlers)

    def server_bind(self) -> None:
        """Bind the address, or take over the socket that was given."""
        given = self._owner._socket
        if given is None:
            super().server_bind()
            return
        assert self.socket is not None
        self.socket.close()
        self.socket = given
        self.server_address = given.getsockname()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether any peer may call from this address."""
        known = self._owner._peers.knows(client_address[0])
        if not known and self._owner._watcher is not None:
            self._owner._watcher.refused(client_address[0], "", "unknown host")
        return known

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Agree on TLS, then hand over to pynetdicom."""
        request.settimeout(self._owner._limits.request_s)
        if self._owner._tls is not None:
            request = self._owner._tls.wrap_socket(request, server_side=True)
        request.settimeout(self._owner._limits.stall_s)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say that a connection failed, in one line."""
        if self._owner._watcher is not None:
            self._owner._watcher.refused(client_address[0], "", "no TLS agreed")

    def shutdown(self) -> None:
        """Accept nothing more. A socket that was given may have other users, and stays open."""
        socketserver.BaseServer.shutdown(self)
        if self._owner._socket is None:
            self.server_close()
