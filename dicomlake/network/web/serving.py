"""The HTTP server of a receiver: uvicorn in a thread, with a beginning, an end, and an end to waiting."""

from __future__ import annotations

import asyncio
import logging
import socket as sockets
import ssl
import threading
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dicomlake.errors import CannotListen

log = logging.getLogger("dicomlake.network")

_BACKLOG = 128


class HttpServer:
    """Serves an application on a port, in a thread of its own.

    tls: encrypts; clients whose certificate it verified are let in. header_s: from a connection, or the first
    byte of a further request, to the last header. idle_s: between requests. connections: at once.
    port: 0 lets the system choose; known once started.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        header_s: float = 10.0,
        idle_s: int = 15,
        connections: int = 200,
    ) -> None:
        self.host, self.port = host, port
        config = uvicorn.Config(
            app,
            http=type("Protocol", (_Protocol,), {"header_s": header_s}),
            loop="asyncio",
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # who is at the other end is who connected
            server_header=False,
            limit_concurrency=connections,
            timeout_keep_alive=idle_s,
        )
        config.load()
        config.ssl = tls
        self._config = config
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; returns once connections are taken. Raises CannotListen."""
        if self._thread is not None:
            raise CannotListen("this HTTP server was started before: make another one")
        listener = self._bound()
        self.port = listener.getsockname()[1]
        self._server = server = _Server(self._config)
        self._thread = threading.Thread(
            target=self._run, args=(server, listener), name="dicomlake-http", daemon=True
        )
        self._thread.start()
        server.settled.wait()
        if not server.started:
            self._thread.join()
            raise CannotListen("the HTTP server did not start; the log says why")

    def stop(self, drain_s: float = 10.0) -> None:
        """Take nothing more, let requests end for so many seconds, then drop them."""
        if self._server is None or self._thread is None:
            return
        self._config.timeout_graceful_shutdown = drain_s  # type: ignore[assignment]  # it takes fractions
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> HttpServer:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _bound(self) -> sockets.socket:
        try:
            family = sockets.getaddrinfo(self.host, self.port, type=sockets.SOCK_STREAM)[0][0]
            return sockets.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise CannotListen(
                f"cannot serve HTTP on {self.host}:{self.port} ({error.strerror}): choose another port, or "
                "stop what listens there"
            ) from error

    def _run(self, server: _Server, listener: sockets.socket) -> None:
        try:
            asyncio.run(server.serve(sockets=[listener]))
        except (Exception, SystemExit) as error:
            log.error("the HTTP server ended: %s", type(error).__name__)
        finally:
            listener.close()
            server.settled.set()


class _Server(uvicorn.Server):
    """Tells when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[sockets.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()


class _Protocol(H11Protocol):
    """Uvicorn's, which waits without end for the headers of a request; and tells of client certificates."""

    header_s = 10.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        # asyncio does it for sockets made with their protocol named, which those of a listener are not
        transport.get_extra_info("socket").setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        verified = tls is not None and tls.context.verify_mode == ssl.CERT_REQUIRED and tls.getpeercert()
        self.app_state = {**self.app_state, "certificate": bool(verified)}
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start to wait for headers where a request has begun, stop where they have come."""
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_s, self._late)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self.transport.abort()
