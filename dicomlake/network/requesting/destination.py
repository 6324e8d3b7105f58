"""A receiver for the objects of a C-MOVE, started for the time of a pull; only the peer may send to it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from dicomlake.errors import PeerError
from dicomlake.network.limits import Limits
from dicomlake.network.peers import Peer, Peers
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.seams import Sink

_DRAIN_S = 10.0


def receiving(
    source: Address,
    *,
    ae_title: str,
    host: str = "127.0.0.1",
    port: int = 11112,
    tls: ssl.SSLContext | None = None,
) -> Callable[[Sink], AbstractContextManager[None]]:
    """What `pull.Options.receiving` wants: listens as `ae_title` at host and port while it is entered.

    host: an address of this machine that the peer can reach. tls: of the server side.
    """

    @contextmanager
    def listening(sink: Sink) -> Iterator[None]:
        from dicomlake.network.server import Server

        peers = Peers((Peer("source", networks=_networks(source)),))
        server = Server(sink, (), peers, Limits(), ae_titles=[ae_title], host=host, port=port, tls=tls)
        try:
            server.start()
        except OSError as exc:
            raise PeerError(
                f"port {port} cannot be listened at ({exc.strerror}): choose another, or name a receiver "
                "that listens already"
            ) from exc
        try:
            yield
        finally:
            server.stop(_DRAIN_S)

    return listening


def _networks(source: Address) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        found = socket.getaddrinfo(source.host, source.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise PeerError(f"the host of {source} is not known: check its name", temporary=True) from exc
    return tuple(ipaddress.ip_network(str(address[0]).partition("%")[0]) for *_kind, address in found)
