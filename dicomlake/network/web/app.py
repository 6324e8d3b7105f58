"""What is offered over HTTP: STOW-RS at /dicomweb/studies, /metrics, /healthz, /status."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomlake.network import statuses
from dicomlake.network.seams import Sender, Sink, Watcher
from dicomlake.network.server import Unwatched
from dicomlake.network.web.access import Access, Tokens
from dicomlake.network.web.answers import OFFERED, Answer
from dicomlake.network.web.failures import Gone, Malformed, NotOffered, Slow, TooLarge, WebError
from dicomlake.network.web.limits import WebLimits
from dicomlake.network.web.media import MediaType, best_of
from dicomlake.network.web.piping import Pipe
from dicomlake.network.web.stow import CALLING, Store, taken_type

log = logging.getLogger("dicomlake.network")

_UID = re.compile(r"[0-9.]{1,64}")
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def app(
    sink: Sink,
    *,
    metrics: Callable[[], bytes] | None = None,
    status: Callable[[], Mapping[str, Any]] | None = None,
    health: Callable[[], str] | None = None,
    tokens: Tokens | None = None,
    limits: WebLimits | None = None,
    watcher: Watcher | None = None,
    conflict: int = statuses.SUCCESS,
    called: str = "",
) -> Starlette:
    """The application of a receiver.

    metrics: the text of Prometheus. status: JSON types without identifying values.
    health: an empty text while objects are taken, else why not in a word, such as "draining" or "full".
    tokens: who may come; without them only this computer, and who shows a certificate that is verified.
    watcher: who is told of requests as of associations. conflict: the status of an object kept beside
    another of its UID; a warning is answered as such. called: what the catalog is told that was called.
    """
    limits = limits or WebLimits()
    watcher = watcher or Unwatched()
    store = Store(sink, watcher, limits, conflict)
    stow = _Stow(store, health or (lambda: ""), called)
    gate = Access(tokens)
    routes = [
        Route("/dicomweb/studies", _Guarded(stow, gate, watcher), methods=["POST"]),
        Route("/dicomweb/studies/{study}", _Guarded(stow, gate, watcher), methods=["POST"]),
        Route("/healthz", _Health(health or (lambda: "")), methods=["GET"]),
    ]
    if metrics is not None:
        text = _Told(metrics, "text/plain; version=0.0.4; charset=utf-8")
        routes.append(Route("/metrics", _Guarded(text, gate, watcher), methods=["GET"]))
    if status is not None:
        told = _Told(lambda: json.dumps(status()).encode(), "application/json")
        routes.append(Route("/status", _Guarded(told, gate, watcher), methods=["GET"]))
    guard = Middleware(_Outer, answer_s=limits.answer_s)
    return Starlette(routes=routes, middleware=[guard], lifespan=stow.life)


class _Outer:
    """Around everything: the same headers on all responses, and no waiting for who does not read them."""

    def __init__(self, inner: ASGIApp, answer_s: float) -> None:
        self._inner, self._answer_s = inner, answer_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            async with asyncio.timeout(self._answer_s):
                await send(message)

        try:
            await self._inner(scope, receive, send if scope["type"] == "lifespan" else answer)
        except TimeoutError:
            log.info("a client did not read its answer within %g s", self._answer_s)


class _Guarded:
    """What only those may ask that are let in. An ASGI application, so that it sees what the server knows."""

    def __init__(self, inner: _Asked, access: Access, watcher: Watcher) -> None:
        self._inner, self._access, self._watcher = inner, access, watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        who = self._access.name_of(scope)
        response = self._refused(request) if who is None else await self._inner.answer(request, who)
        await response(scope, receive, send)

    def _refused(self, request: Request) -> Response:
        self._watcher.refused(_host(request), CALLING, "no valid token")
        return _error(
            401,
            "a bearer token or a client certificate is needed; without either only this computer is let in",
            {"www-authenticate": "Bearer", "connection": "close"},
        )


class _Asked:
    """What answers a request of somebody who was let in."""

    async def answer(self, request: Request, who: str) -> Response:
        """The response; who: the name that let it in."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Told(_Asked):
    """A text that is made when it is asked for."""

    text: Callable[[], bytes]
    media_type: str

    async def answer(self, request: Request, who: str) -> Response:  # noqa: ARG002  # as its base
        try:
            return Response(await asyncio.to_thread(self.text), media_type=self.media_type)
        except Exception as error:
            log.error("%s cannot be told: %s", request.url.path, type(error).__name__)
            return _error(500, "it cannot be told at the moment; the log says why")


class _Health:
    """200 while objects are taken, else 503; open to all, and tells nothing but a word."""

    def __init__(self, health: Callable[[], str]) -> None:
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        word = await asyncio.to_thread(_asked, self._health)
        await Response(word or "ok", 503 if word else 200, media_type="text/plain")(scope, receive, send)


class _Stow(_Asked):
    """The Store transaction: a request waits for a thread that stores what its body holds."""

    def __init__(self, store: Store, health: Callable[[], str], called: str) -> None:
        self._store, self._health, self._called = store, health, called
        self._running = 0
        self._pool: ThreadPoolExecutor | None = None

    @asynccontextmanager
    async def life(self, _app: object) -> AsyncIterator[None]:
        """The threads, while the server runs."""
        self._pool = ThreadPoolExecutor(self._store.limits.requests, thread_name_prefix="dicomlake-stow")
        try:
            yield
        finally:
            await asyncio.to_thread(self._pool.shutdown)  # nothing may store once the lake is closed

    async def answer(self, request: Request, who: str) -> Response:
        sender = Sender(CALLING, self._called, _host(request), secrets.token_hex(6), who)
        try:
            body, offered, study = self._understood(request)
            if word := await asyncio.to_thread(_asked, self._health):
                return _busy(f"nothing is taken at the moment: {word}")
            if self._running >= self._store.limits.requests:
                self._store.watcher.refused(sender.host, CALLING, "too many requests")
                return _busy("too many requests at once; send again later")
            self._running += 1
            try:
                answer, whole = await self._stored(request, body, sender, study)
            finally:
                self._running -= 1
        except WebError as error:
            self._store.watcher.refused(sender.host, CALLING, f"status {error.status}")
            await self._linger(request)
            return _error(error.status, str(error), {"connection": "close", **_hints(error)})
        return _responded(answer, offered, whole)

    def _understood(self, request: Request) -> tuple[MediaType, str, str | None]:
        """Media type of the body, that of the answer, and the study of the URL. Raises WebError."""
        headers = request.headers
        offered = best_of(headers.get("accept", ""), OFFERED)
        if offered is None:
            raise NotOffered(f"the answer comes as {OFFERED[0]} or {OFFERED[-1]}; name one in Accept")
        study = request.path_params.get("study")
        if study is not None and not _UID.fullmatch(study):
            raise Malformed("the study in the URL is no UID: digits and dots, at most 64")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._store.limits.request_bytes:
            raise TooLarge(f"a body of more than {self._store.limits.request_bytes} bytes: send several")
        return (
            taken_type(headers.get("content-type", ""), headers.get("content-encoding", "")),
            offered,
            study,
        )

    async def _stored(
        self, request: Request, body: MediaType, sender: Sender, study: str | None
    ) -> tuple[Answer, bool]:
        """What became of the body, and whether it was read to its end."""
        assert self._pool is not None
        limits = self._store.limits
        pipe = Pipe(limits.buffer_bytes)
        pump = asyncio.create_task(_pump(request.receive, pipe, limits))
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._pool, self._store.take, pipe, body, sender, study)
            pipe.leave()
            await asyncio.wait([pump], timeout=limits.linger_s)
            return answer, pump.done() and not answer.error
        finally:  # also when the server stops, and this task with it
            pipe.end(Gone("the server stopped before the request was whole"))
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump

    async def _linger(self, request: Request) -> None:
        """Read on for a moment: many clients look for the answer only when they have sent everything."""
        if "expect" in request.headers:  # it waits for our word before it sends
            return
        limits, size = self._store.limits, 0
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.linger_s):
                while size < limits.linger_bytes:
                    message = await request.receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return


async def _pump(receive: Receive, pipe: Pipe, limits: WebLimits) -> None:
    """Bring the body to the thread, as long as it comes fast enough."""
    began = monotonic()
    waited, size = 0.0, 0
    while True:
        asked = monotonic()
        if asked - began > limits.request_s:
            return pipe.end(Slow(f"the body did not come within {limits.request_s:g} s"))
        try:
            message = await asyncio.wait_for(receive(), limits.stall_s)
        except TimeoutError:
            return pipe.end(Slow(f"nothing came for {limits.stall_s:g} s"))
        if message["type"] != "http.request":
            return pipe.end(Gone("the client went away before its request was whole"))
        waited += monotonic() - asked
        size += len(message.get("body", b""))
        if waited > limits.stall_s and size < limits.slowest * waited:
            return pipe.end(Slow(f"less than {limits.slowest} bytes a second came"))
        if message.get("body"):
            await pipe.put(message["body"])
        if not message.get("more_body", False):
            return pipe.end()


def _responded(answer: Answer, media_type: str, whole: bool) -> Response:
    headers = {} if whole else {"connection": "close"}
    if text := answer.warning():
        headers["warning"] = f'299 dicomlake "{_quotable(text)}"'
    if answer.status == 503:
        headers["retry-after"] = "60"
    if answer.error is not None and not answer.results:
        return _error(answer.status, str(answer.error), headers)
    return Response(answer.body(media_type), answer.status, headers, media_type)


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps({"error": text}), status, headers, "application/json")


def _busy(text: str) -> Response:
    return _error(503, text, {"retry-after": "5", "connection": "close"})


def _hints(error: WebError) -> Mapping[str, str]:
    return {"accept-encoding": "identity"} if error.status == 415 else {}


def _quotable(text: str) -> str:
    return re.sub(r"[^ !#-\[\]-~]", "'", text)


def _asked(health: Callable[[], str]) -> str:
    try:
        return health()
    except Exception as error:
        log.error("health cannot be told: %s", type(error).__name__)
        return "unknown"


def _host(request: Request) -> str:
    return request.client.host if request.client else ""
