"""Tells other programs by HTTP what happened: signed, tried again, never in the way of receiving."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread

import httpx

from dicomlake.errors import DicomlakeError
from dicomlake.listening.events import KINDS, Event, EventLog

SIGNATURE, TIMESTAMP, DELIVERY = "X-Dicomlake-Signature", "X-Dicomlake-Timestamp", "X-Dicomlake-Delivery"
DEFAULT = ("series_ready", "study_ready", "object_refused")

_AGAIN_S = (1.0, 5.0, 30.0, 120.0)
_TIMEOUT_S = 10.0
_WAITING = 1000  # deliveries; then the oldest are dropped, and that is an event
_LEAST_SECRET = 16  # bytes
_OWN = ("webhook_failed", "webhook_dropped")


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What the header holds: HMAC-SHA256 over the timestamp, a full stop and the body."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def read_secret(path: Path) -> bytes:
    """A secret in a file, without white space around it. Raises DicomlakeError for none, or a short one."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise DicomlakeError(
            f"the webhook's secret cannot be read ({error.strerror}): check {path}"
        ) from error
    if len(secret) < _LEAST_SECRET:
        raise DicomlakeError(
            f"the webhook's secret in {path} is too short: write {_LEAST_SECRET} bytes or more"
        )
    return secret


@dataclass(slots=True)
class _Delivery:
    body: bytes
    kind: str
    due: float = 0.0
    attempts: int = 0
    id: str = field(default_factory=lambda: secrets.token_hex(16))


class Webhooks:
    """Posts events of some kinds to a URL, in their order as long as the other side answers.

    A delivery counts as made when the answer is 2xx. It is tried again after connection failures, 429 and
    5xx, with the same id, so that the other side can tell what it has. Redirects are not followed.
    log: where events come from, and failures are told. secret: signs each delivery; None signs none.
    """

    def __init__(
        self,
        log: EventLog,
        url: str,
        *,
        kinds: Collection[str] = DEFAULT,
        secret: bytes | None = None,
        timeout_s: float = _TIMEOUT_S,
        again_s: Sequence[float] = _AGAIN_S,
        waiting: int = _WAITING,
    ) -> None:
        unknown = sorted(set(kinds) - set(KINDS) | set(kinds) & set(_OWN))
        if unknown:
            raise DicomlakeError(
                f"there are no such events for webhooks: {', '.join(unknown)}; see events.KINDS"
            )
        self._log, self._url, self._secret = log, url, secret
        self._again_s, self._most = tuple(again_s), waiting
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False)
        self._waiting: deque[_Delivery] = deque()
        self._changed = Condition()
        self._closed = False
        self._drop_at = float("inf")
        self._subscription = log.subscribe(self._put, kinds=kinds)
        self._thread = Thread(target=self._run, daemon=True, name="webhooks")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many deliveries are to be made."""
        with self._changed:
            return len(self._waiting)

    def close(self, drain_s: float = 5.0) -> int:
        """End, after so many seconds for what waits; how many deliveries were not made."""
        self._subscription.close()
        with self._changed:
            self._closed, self._drop_at = True, time.monotonic() + drain_s
            self._changed.notify_all()
        self._thread.join(drain_s + _TIMEOUT_S)
        self._client.close()
        with self._changed:
            return len(self._waiting)

    def _put(self, event: Event) -> None:
        body = json.dumps(event.as_dict(), separators=(",", ":")).encode()
        with self._changed:
            full = len(self._waiting) >= self._most
            if full:
                self._waiting.popleft()
            self._waiting.append(_Delivery(body, event.kind))
            self._changed.notify_all()
        if full:
            self._log.tell("webhook_dropped", detail="too many wait: the other side does not keep up")

    def _run(self) -> None:
        while (one := self._next()) is not None:
            problem, again = self._post(one)
            if problem is None:
                self._done(one)
                continue
            one.attempts += 1
            if not again or one.attempts > len(self._again_s):
                self._done(one)
                self._log.tell("webhook_failed", detail=f"{one.kind}: {problem}; given up")
                continue
            if one.attempts == 1:
                self._log.tell("webhook_failed", detail=f"{one.kind}: {problem}; it is tried again")
            with self._changed:
                one.due = time.monotonic() + self._again_s[one.attempts - 1]

    def _next(self) -> _Delivery | None:
        """The first delivery, once it is due; None at the end."""
        with self._changed:
            while True:
                at = time.monotonic()
                if at >= self._drop_at or (self._closed and not self._waiting):
                    return None
                first = self._waiting[0] if self._waiting else None
                if first is not None and first.due <= at:
                    return first
                until = min(self._drop_at, float("inf") if first is None else first.due)
                self._changed.wait(None if until == float("inf") else until - at)

    def _done(self, one: _Delivery) -> None:
        with self._changed, suppress(ValueError):
            self._waiting.remove(one)  # may have been dropped meanwhile

    def _post(self, one: _Delivery) -> tuple[str | None, bool]:
        """What went wrong, and whether it may go right another time."""
        timestamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", TIMESTAMP: timestamp, DELIVERY: one.id}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret, timestamp, one.body)
        try:
            with self._client.stream("POST", self._url, content=one.body, headers=headers) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return type(error).__name__, not isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol)
        if 200 <= status < 300:
            return None, False
        return f"status {status}", status == 429 or status >= 500


def verified(secret: bytes, timestamp: str, body: bytes, header: str, *, within_s: float = 300.0) -> bool:
    """For the other side: whether a delivery is ours and not old."""
    try:
        fresh = abs(time.time() - int(timestamp)) <= within_s
    except ValueError:
        return False
    return fresh and hmac.compare_digest(signature(secret, timestamp, body), header)
