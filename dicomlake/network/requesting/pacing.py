"""How fast studies are fetched, and at what time of day, so that an archive stays quick for others."""

from __future__ import annotations

import datetime
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dicomlake.errors import AddressError

_WINDOW = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(studies/min|studies/h|MB/s)")


@dataclass(frozen=True, slots=True)
class Window:
    """A span of each day, local time, in minutes after midnight; it may lie over midnight."""

    opens: int
    closes: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """From HH:MM-HH:MM. Raises AddressError."""
        found = _WINDOW.fullmatch(text.strip())
        if not found:
            raise AddressError(f"the window {text!r} is none: write it as 20:00-06:00")
        hour, minute, to_hour, to_minute = map(int, found.groups())
        window = cls(60 * hour + minute, 60 * to_hour + to_minute)
        if window.opens == window.closes:
            raise AddressError(f"the window {text!r} is empty: leave it out to fetch at any time")
        return window

    def seconds_until_open(self, now: datetime.datetime) -> float:
        """How long to wait; 0 within the window."""
        minute = 60 * now.hour + now.minute
        over_midnight = self.closes < self.opens
        inside = (
            minute >= self.opens or minute < self.closes
            if over_midnight
            else self.opens <= minute < self.closes
        )
        if inside:
            return 0.0
        return float((self.opens - minute) % (24 * 60) * 60 - now.second)


@dataclass(frozen=True, slots=True)
class Pacing:
    """Bounds of a pull; None is no bound.

    studies_per_minute: begun. megabytes_per_s: received on average, in 10**6 bytes.
    window: when studies may be begun; one that is under way at its end is finished.
    """

    studies_per_minute: float | None = None
    megabytes_per_s: float | None = None
    window: Window | None = None

    @classmethod
    def parse(cls, rate: str | None = None, window: str | None = None) -> Pacing:
        """From "30 studies/min", "20 MB/s", or both with a comma; and "20:00-06:00". Raises AddressError."""
        studies, megabytes = None, None
        for part in (rate or "").split(",") if rate else ():
            found = _RATE.fullmatch(part.strip())
            if not found or float(found[1]) <= 0:
                raise AddressError(f"the rate {part.strip()!r} is none: write 30studies/min or 20MB/s")
            if found[2] == "MB/s":
                megabytes = float(found[1])
            else:
                studies = float(found[1]) / (60 if found[2] == "studies/h" else 1)
        return cls(studies, megabytes, Window.parse(window) if window else None)


def _now() -> datetime.datetime:
    return datetime.datetime.now()  # local: the window is what the clock on the wall says


class PullEnded(Exception):
    """The pull was interrupted; nothing more is begun."""


@dataclass(slots=True)
class Pacer:
    """Makes its callers wait, until it is stopped. Safe to use from many threads.

    now, clock: of the machine by default. sleep: waits for seconds, by default no longer than until `stop`.
    """

    pacing: Pacing
    now: Callable[[], datetime.datetime] = _now
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] | None = None
    _next_study: float = 0.0
    _next_byte: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Let nobody wait any more, and no study be begun."""
        self._stopped.set()

    def _wait(self, seconds: float) -> None:
        (self.sleep or self._stopped.wait)(seconds)

    def before_study(self) -> None:
        """Wait until another study may be begun. Raises PullEnded after `stop`."""
        if self.pacing.window is not None:
            while (wait := self.pacing.window.seconds_until_open(self.now())) > 0:
                self._wait(wait)
                self._go_on()
        if self.pacing.studies_per_minute is not None:
            with self._lock:
                at = max(self._next_study, self.clock())
                self._next_study = at + 60 / self.pacing.studies_per_minute
            self._until(at)
        self._go_on()

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise PullEnded

    def received(self, size: int) -> None:
        """Wait as long as so many bytes may take."""
        if self.pacing.megabytes_per_s is None:
            return
        with self._lock:
            at = max(self._next_byte, self.clock()) + size / (self.pacing.megabytes_per_s * 1e6)
            self._next_byte = at
        self._until(at)

    def _until(self, at: float) -> None:
        if (wait := at - self.clock()) > 0:
            self._wait(wait)
