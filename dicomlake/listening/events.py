"""What happens in a receiver, as small facts: kept for a while, and told to whoever listens.

Whoever adds an event waits for nobody: subscribers are called by a thread of the log. What comes at a high
rate is told together, ten times a second for each series.
"""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from queue import Empty, Full, Queue
from threading import Condition, Thread, current_thread
from typing import Any, Self

from dicomlake.network.seams import Sender, Stored, StoreRequest, Watcher
from dicomlake.storage import layout

KINDS = (
    *("association_opened", "association_closed", "association_refused"),
    *("stored", "already", "conflict", "object_refused"),
    *("series_settled", "series_ready", "study_ready", "settle_failed", "volume_failed"),
    *("commitment_requested", "commitment_reported", "commitment_failed"),
    *("disk_low", "webhook_failed", "webhook_dropped", "started", "stopped"),
)
"""All kinds there are; those that are refused or fail end so."""

_KEPT = frozenset({"stored", "already", "conflict"})
_TOGETHER_S = 0.1  # what comes within this time is told together
_QUEUED = 10_000  # events that an iterator may be behind; then the oldest are dropped


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    at: ISO 8601, UTC. kind: one of KINDS. association, calling, called, host: of whom, as in seams.Sender.
    detail: short words, free of identifying values. count: how many of the same kind this stands for.
    seconds: how long it took. number: 1, 2, … in the log.
    """

    kind: str
    at: str = ""
    association: str = ""
    calling: str = ""
    called: str = ""
    host: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_instance_uid: str = ""
    detail: str = ""
    count: int = 1
    seconds: float | None = None
    number: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what it has, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


def told_uid(uid: str) -> str:
    """A UID as it may be told; what is none may be anybody's name."""
    return layout.segment(uid) if uid else ""


def now() -> str:
    """The time, as events have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class _Many:
    """Events that are told as one. uid: SOPInstanceUID of the newest. seconds: of all."""

    first: Event
    at: str
    count: int = 0
    seconds: float = 0.0
    uid: str = ""

    def event(self) -> Event:
        seconds = self.seconds if self.uid else None
        return replace(self.first, at=self.at, count=self.count, seconds=seconds, sop_instance_uid=self.uid)


class EventLog(Watcher):
    """The newest events of a receiver, and those who listen to them. Safe to use from many threads.

    size: how many are kept.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._kept: deque[Event] = deque(maxlen=size)
        self._changed = Condition()
        self._together: dict[tuple[str, ...], _Many] = {}
        self._since = 0.0  # when the oldest of them came
        self._untold: deque[Event] = deque()
        self._subscribers: dict[Subscription, None] = {}
        self._number = 0
        self._telling: Thread | None = None
        self._busy = False
        self._closed = False

    # ---- putting in ---------------------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Keep an event and have it told."""
        with self._changed:
            self._take_together()
            self._keep(event)
            self._wake()

    def tell(self, kind: str, **facts: Any) -> None:
        """The same by its facts: `log.tell("disk_low", detail="2 GB")`."""
        self.add(Event(kind, **facts))

    def _add_together(
        self, alike: tuple[str, ...], make: Callable[[], Event], uid: str, seconds: float
    ) -> None:
        """Keep an event that may be one of many: they become one, with their count.

        alike: what they have in common. make: the event, asked for once. uid, seconds: of this one.
        """
        with self._changed:
            if self._together and time.monotonic() - self._since > _TOGETHER_S:
                self._take_together()  # nobody else does where nobody listens
            many = self._together.get(alike)
            if many is None:
                if not self._together:
                    self._since = time.monotonic()
                many = self._together[alike] = _Many(make(), now())
                self._wake()
            many.count += 1
            many.seconds += seconds
            many.uid = uid

    def _take_together(self) -> None:
        for many in self._together.values():
            self._keep(many.event())
        self._together.clear()

    def _keep(self, event: Event) -> None:
        self._number += 1
        event = replace(event, at=event.at or now(), number=self._number)
        self._kept.append(event)
        if self._subscribers:
            self._untold.append(event)

    # ---- seams.Watcher ------------------------------------------------------------------------------------

    def opened(self, sender: Sender) -> None:
        """See Watcher."""
        self.add(_of(sender, "association_opened"))

    def refused(self, host: str, calling: str, reason: str) -> None:
        """See Watcher; a flood of them becomes few events."""
        event = Event("association_refused", host=host, calling=calling, detail=reason)
        self._add_together((event.kind, host, reason), lambda: event, "", 0.0)

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        """See Watcher."""
        kept = result.outcome in _KEPT
        kind = result.outcome if kept else "object_refused"
        detail = "" if kept else f"{result.outcome}: {result.detail}".removesuffix(": ")
        study, series = result.series or ("", "")

        def make() -> Event:
            of = _of(request.sender, kind)
            return replace(of, study_uid=told_uid(study), series_uid=told_uid(series), detail=detail)

        alike = (kind, request.sender.association, study, series, detail)
        self._add_together(alike, make, told_uid(request.sop_instance_uid), seconds)

    def closed(self, sender: Sender, how: str) -> None:
        """See Watcher."""
        self.add(replace(_of(sender, "association_closed"), detail=how))

    # ---- taking out ---------------------------------------------------------------------------------------

    def recent(self, count: int | None = None, *, kinds: Collection[str] = ()) -> list[Event]:
        """The newest events, the oldest of them first; only of some kinds if given."""
        with self._changed:
            self._take_together()
            self._wake()
            found = [event for event in self._kept if not kinds or event.kind in kinds]
        return found if count is None else found[max(0, len(found) - count) :]

    def subscribe(self, call: Callable[[Event], object], *, kinds: Collection[str] = ()) -> Subscription:
        """Have a function called with each event from now on, by a thread of this log, in their order.

        What it raises is dropped. kinds: only these. Ends with `Subscription.close`.
        """
        subscription = Subscription(self, call, frozenset(kinds))
        with self._changed:
            self._take_together()
            self._subscribers[subscription] = None
            if self._telling is None and not self._closed:
                self._telling = Thread(target=self._tell_all, daemon=True, name="events")
                self._telling.start()
        return subscription

    def iter(self, *, kinds: Collection[str] = (), timeout: float | None = None) -> Iterator[Event]:
        """Events as they come, from now on. timeout: end when none came for so many seconds."""
        queue: Queue[Event] = Queue(_QUEUED)

        def put(event: Event) -> None:
            while True:
                with suppress(Full):
                    return queue.put_nowait(event)
                with suppress(Empty):
                    queue.get_nowait()

        return self._iter(queue, self.subscribe(put, kinds=kinds), timeout)

    def _iter(
        self, queue: Queue[Event], subscription: Subscription, timeout: float | None
    ) -> Iterator[Event]:
        left = float("inf") if timeout is None else timeout
        with subscription:
            while left > 0:
                try:
                    yield queue.get(timeout=min(left, 1.0))
                    left = float("inf") if timeout is None else timeout
                except Empty:
                    left -= 1.0
                    if self._closed and queue.empty():
                        return

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was added is told; whether it was."""
        with self._changed:
            self._take_together()
            self._wake()
            return self._changed.wait_for(lambda: not self._untold and not self._busy, timeout)

    def close(self) -> None:
        """Tell what is still to be told and end the thread; events are still kept afterwards."""
        with self._changed:
            self._take_together()
            self._closed = True
            self._changed.notify_all()
            telling = self._telling
        if telling is not None and telling is not current_thread():
            telling.join(10.0)

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._changed:
            self._subscribers.pop(subscription, None)

    # ---- the thread that tells ----------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._telling is not None:
            self._changed.notify_all()

    def _tell_all(self) -> None:
        while (events := self._next()) is not None:
            with self._changed:
                subscribers = list(self._subscribers)
            for event in events:
                for subscription in subscribers:
                    subscription.tell(event)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> list[Event] | None:
        """What is to be told now; None once the log is closed and all is told."""
        with self._changed:
            while True:
                wait_s = self._since + _TOGETHER_S - time.monotonic() if self._together else None
                if wait_s is not None and wait_s <= 0:
                    self._take_together()
                    wait_s = None
                if self._untold:
                    events = list(self._untold)
                    self._untold.clear()
                    self._busy = True
                    return events
                if self._closed:
                    return None
                self._changed.wait(wait_s)


class Subscription:
    """What somebody listens to, until it is closed."""

    def __init__(self, log: EventLog, call: Callable[[Event], object], kinds: frozenset[str]) -> None:
        self._log, self._call, self._kinds = log, call, kinds
        self.failures = 0

    def tell(self, event: Event) -> None:
        """Call the function, whatever it raises."""
        if self._kinds and event.kind not in self._kinds:
            return
        try:
            self._call(event)
        except Exception:  # what a listener does wrong must not stop the others
            self.failures += 1

    def close(self) -> None:
        """Listen no more."""
        self._log._unsubscribe(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Watchers(Watcher):
    """Several watchers as one; what one of them raises is dropped."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def opened(self, sender: Sender) -> None:
        """See Watcher."""
        for one in self._watchers:
            with suppress(Exception):
                one.opened(sender)

    def refused(self, host: str, calling: str, reason: str) -> None:
        """See Watcher."""
        for one in self._watchers:
            with suppress(Exception):
                one.refused(host, calling, reason)

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        """See Watcher."""
        for one in self._watchers:
            with suppress(Exception):
                one.stored(request, result, seconds)

    def closed(self, sender: Sender, how: str) -> None:
        """See Watcher."""
        for one in self._watchers:
            with suppress(Exception):
                one.closed(sender, how)


def _of(sender: Sender, kind: str) -> Event:
    return Event(
        kind,
        association=sender.association,
        calling=sender.calling,
        called=sender.called,
        host=sender.host,
    )
