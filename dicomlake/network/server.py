"""The server: listens, gives every connection a thread, and keeps their number within the limits.

A connection is *waiting* until its association is accepted, and again when it is over. Waiting ones are few
too: where there are too many, the oldest of the host with the most is closed, so that nobody is kept out by
half-open connections of others. Limits count per process.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import select
import socket as sockets
import ssl
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from time import monotonic, sleep
from typing import Protocol

from dicomlake.network import statuses
from dicomlake.network.association import Association
from dicomlake.network.limits import Limits
from dicomlake.network.seams import Operation, Sender, Service, Sink, Stored, StoreRequest, Watcher
from dicomlake.network.upper import negotiation, pdu
from dicomlake.network.upper.failures import AssociationError, Stopped, Violation
from dicomlake.network.upper.guard import Guard
from dicomlake.network.upper.wire import Wire

log = logging.getLogger("dicomlake.network")

_BACKLOG = 1024
_GRACE_S = 5.0
_QUIET_S = 1.0  # without a message, after which an association is not waited for when the receiver stops
_LAST_S = 2.0  # for the object at hand, once an association is asked to end


class Admitted(Protocol):
    """A peer that may call; see `peers.Peer`."""

    @property
    def name(self) -> str:
        """By which logs and the catalog call it."""

    @property
    def operations(self) -> frozenset[Operation]:
        """What it may do."""

    @property
    def associations(self) -> int | None:
        """How many it may have at once; None for as many as all."""


class Register(Protocol):
    """Who may call; see `peers.Peers`."""

    def find(self, calling: str, host: str) -> Admitted | None:
        """The entry for an AE title at an address; None for nobody."""


class Unwatched:
    """A watcher that tells nobody."""

    def opened(self, sender: Sender) -> None:
        """Nothing."""

    def refused(self, host: str, calling: str, reason: str) -> None:
        """Nothing."""

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        """Nothing."""

    def closed(self, sender: Sender, how: str) -> None:
        """Nothing."""


class _Connection:
    """A connection in its thread, from the handshake to the end."""

    def __init__(self, server: Server, connection: sockets.socket, host: str) -> None:
        self.server, self.host = server, host
        self.deadline = monotonic() + server.limits.request_s
        self.wire = Wire(connection, server.limits)
        self.association: Association | None = None
        self.peer = ""
        self.thread = threading.Thread(target=self._run, name="dicomlake-association", daemon=True)

    def _run(self) -> None:
        last = b""
        try:
            last = self._live()
        except Exception as error:
            log.error("connection from %s failed: %s", self.host, type(error).__name__)
            last = pdu.abort(0, 0)
        finally:
            self.wire.farewell(last)
            self.server.gone(self)

    def _live(self) -> bytes:
        """Run the association, if there is one; what to send last."""
        server, calling = self.server, ""
        try:
            self.wire.handshake(self.deadline)
            with self.wire.request(self.deadline) as body:
                request = pdu.read_request(body, contexts=server.limits.contexts)
            calling = request.calling
            if refusal := self._open(request):
                server.watcher.refused(self.host, calling, refusal.why)
                return pdu.reject(refusal.result, refusal.source, refusal.reason)
        except AssociationError as error:
            server.watcher.refused(self.host, calling, error.how)
            log.info("connection from %s: %s", self.host, error)
            return _abort(error)
        return self._converse()

    def _open(self, request: pdu.AssociateRequest) -> negotiation.Refusal | None:
        """Accept an association request, or say why not."""
        server = self.server
        if refusal := negotiation.refusal(request, server.ae_titles):
            return refusal
        peer = server.peers.find(request.calling, self.host)
        if peer is None:
            why = getattr(server.peers, "why_not", None)
            unknown = negotiation.CALLING_UNKNOWN
            return replace(unknown, why=why(request.calling, self.host)) if why else unknown
        agreement = server.negotiator.agree(request, peer.operations)
        token = secrets.token_hex(8)
        sender = Sender(request.calling, request.called, self.host, token, peer.name)
        self.peer = peer.name
        association = Association(
            self.wire,
            sender,
            agreement.contexts,
            [context.number for context in request.contexts],
            sink=server.sink,
            watcher=server.watcher,
            limits=server.limits,
            maximum=request.maximum,
            conflict_status=server.conflict_status,
        )
        if not agreement.contexts:
            may = ", ".join(sorted(peer.operations)) or "nothing"
            log.warning(
                "association %s of %s from %s: nothing that it proposed is offered or allowed; it may %s",
                *(token, request.calling, self.host, may),
            )
        if not server.admit(self, association, peer.associations):
            return negotiation.TOO_MANY
        self._accepted = pdu.accept(request, agreement.decided, agreement.roles, server.limits.pdu)
        return None

    def _converse(self) -> bytes:
        association = self.association
        assert association is not None
        sender, watcher = association.sender, self.server.watcher
        how = "failed"
        watcher.opened(sender)
        try:
            self.wire.established()
            self.wire.send(self._accepted)
            how = association.run()
            return association.farewell
        except AssociationError as error:
            how = error.how
            if isinstance(error, Violation):
                log.info("association %s from %s: %s", sender.association, self.host, error)
            return _abort(error)
        finally:
            self.server.ended(self)
            watcher.closed(sender, how)


def _abort(error: AssociationError) -> bytes:
    return pdu.abort(*error.abort) if error.abort else b""


class Server:
    """A receiver on one port; `start`, then `stop`.

    ae_titles: that it answers to; none for any. host, port: to listen at, 0 for any free port.
    socket: one that listens already, for several processes on one port; it stays open, its owner closes it.
    tls: of the server side. conflict_status: answers an object that is kept beside another of its UID.
    """

    def __init__(
        self,
        sink: Sink,
        services: Iterable[Service],
        peers: Register,
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
        self.sink, self.peers = sink, peers
        self.limits = limits or Limits()
        self.ae_titles = frozenset(ae_titles)
        self.watcher: Watcher = watcher or Unwatched()
        self.negotiator = negotiation.Negotiator(services)
        self.conflict_status = conflict_status
        self._address, self._tls, self._given = (host, port), tls, socket
        self._listener: sockets.socket | None = None
        self._port = 0
        self._lock = threading.Lock()
        self._waiting: dict[_Connection, None] = {}  # in the order of their arrival
        self._active: dict[_Connection, None] = {}
        self._stopping = threading.Event()
        self._guard = Guard(self._wires, _tick(self.limits))
        self._acceptor = threading.Thread(target=self._accept, name="dicomlake-listen", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on, or listened on; 0 before `start`."""
        return self._port

    @property
    def associations(self) -> int:
        """How many associations there are now."""
        return len(self._active)

    @property
    def connections(self) -> int:
        """How many connections there are now, those without an association included."""
        return len(self._active) + len(self._waiting)

    def start(self) -> None:
        """Listen and answer, in threads of its own. Raises OSError where the port is not to be had."""
        self._listener = self._given or _listen(*self._address)
        self._port = int(self._listener.getsockname()[1])
        self._wake, self._waken = sockets.socketpair()
        self._guard.start()
        self._acceptor.start()

    def stop(self, drain_s: float = 10.0) -> None:
        """Accept nothing more, wait `drain_s` seconds for answers to what is under way, abort the rest."""
        if self._listener is None or self._stopping.is_set():
            return
        self._stopping.set()
        self._waken.send(b"\0")
        self._acceptor.join()
        if self._given is None:
            self._listener.close()
        deadline = monotonic() + max(0.0, drain_s)
        with self._lock:
            waiting, active = list(self._waiting), list(self._active)
        for connection in waiting:
            connection.wire.expire(Stopped("the receiver stops"), both=True)
        _drain(active, deadline)
        for connection in active:
            assert connection.association is not None
            connection.association.stop()
        _join([*waiting, *active], deadline + _LAST_S)
        with self._lock:
            left = [*self._waiting, *self._active]
        for connection in left:
            connection.wire.expire(Stopped("the receiver stops"))
        _join(left, monotonic() + _GRACE_S)
        if alive := sum(connection.thread.is_alive() for connection in left):
            log.warning("%d associations did not end in time; they end with the process", alive)
        self._guard.stop()
        self._wake.close()
        self._waken.close()

    # Accepting

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        listener.setblocking(False)  # several processes may be woken for one connection
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if self._stopping.is_set():
                    return
                log.warning("a connection could not be accepted: %s", error.strerror)
                self._drop_oldest()  # mostly, no descriptors are left
                select.select((self._wake,), (), (), 0.05)
                continue
            self._take(connection, _host(address))

    def _take(self, connection: sockets.socket, host: str) -> None:
        try:
            connection.setblocking(True)
            with contextlib.suppress(OSError):
                connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
                connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
                )
            one = _Connection(self, connection, host)
            with self._lock:
                full = len(self._waiting) >= self._room_to_wait()
                self._waiting[one] = None
            if full:
                self._drop_oldest()
            one.thread.start()
        except (OSError, RuntimeError, ValueError) as error:  # gone already, or no more threads
            log.warning("a connection from %s could not be served: %s", host, type(error).__name__)
            connection.close()
            with self._lock:
                for waiting in [w for w in self._waiting if w.wire.closed]:
                    del self._waiting[waiting]

    def _room_to_wait(self) -> int:
        return max(16, self.limits.associations)

    def _drop_oldest(self) -> None:
        """Close the oldest waiting connection of the host that has the most."""
        with self._lock:
            waiting = [one for one in self._waiting if not one.wire.closed]
            hosts = Counter(one.host for one in waiting)
            if not hosts:
                return
            most = hosts.most_common(1)[0][0]
            oldest = next(one for one in waiting if one.host == most)
            del self._waiting[oldest]
        oldest.wire.expire(Stopped("too many connections"), both=True)
        self.watcher.refused(oldest.host, "", "too many connections")

    # What connections tell

    def admit(self, one: _Connection, association: Association, of_peer: int | None) -> bool:
        """Count an association in, unless there are too many of all, of its host or of its peer."""
        with self._lock:
            hosts = sum(other.host == one.host for other in self._active)
            peers = sum(other.peer == one.peer for other in self._active)
            if (
                self._stopping.is_set()
                or len(self._active) >= self.limits.associations
                or hosts >= self.limits.associations_of_host
                or (of_peer is not None and peers >= of_peer)
            ):
                return False
            self._waiting.pop(one, None)
            one.association = association
            self._active[one] = None
            return True

    def ended(self, one: _Connection) -> None:
        """Count an association out; its connection closes in a moment."""
        with self._lock:
            if self._active.pop(one, self) is None:
                self._waiting[one] = None

    def gone(self, one: _Connection) -> None:
        """Forget a connection that is closed."""
        with self._lock:
            self._active.pop(one, None)
            self._waiting.pop(one, None)

    def _wires(self) -> list[Wire]:
        with self._lock:
            return [one.wire for one in (*self._waiting, *self._active)]


def _tick(limits: Limits) -> float:
    waits = limits.request_s, limits.silence_s, limits.stall_s, limits.answer_s
    return min(0.5, max(0.01, min(waits) / 4))


def _listen(host: str, port: int) -> sockets.socket:
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    listener = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _host(address: object) -> str:
    host = str(address[0]) if isinstance(address, tuple) else ""
    return host.removeprefix("::ffff:") if "." in host else host


def _drain(active: Collection[_Connection], deadline: float) -> None:
    """Let associations that are at work come to their own end; those that say nothing are asked to."""
    left = list(active)
    while left and monotonic() < deadline:
        for connection in left:
            assert connection.association is not None
            if connection.association.quiet_s > _QUIET_S:
                connection.association.stop()
        left = [connection for connection in left if connection.thread.is_alive()]
        sleep(min(0.05, max(0.0, deadline - monotonic())))


def _join(connections: Iterable[_Connection], deadline: float) -> None:
    for connection in connections:
        with contextlib.suppress(RuntimeError):  # not yet started
            connection.thread.join(max(0.0, deadline - monotonic()))
