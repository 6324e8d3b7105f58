"""What a receiver knows of the series that it got: how many instances, what is missing, what is due when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dicomlake.listening.building import Gaps
from dicomlake.listening.events import now
from dicomlake.records import SeriesKey

State = Literal["arriving", "settling", "building", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a series is to hold, as its sender says, and how far that is.

    count: of instances, None where only some are named. received: how many of them are in the lake.
    missing: SOPInstanceUIDs that are named and not in the lake. named: whether any are.
    """

    count: int | None = None
    received: int = 0
    missing: frozenset[str] = frozenset()
    named: bool = False


Expected = Callable[[SeriesKey], Expectation | None]


class Rules(NamedTuple):
    """When a series is due; seconds.

    quiet_s: without an instance. max_wait_s: since the first instance that it does not show yet.
    """

    quiet_s: float = 30.0
    max_wait_s: float = 600.0


@dataclass(slots=True)
class Tracked:
    """A series that got instances.

    first, last: times, by a clock that only runs, of the instances that it does not show yet. since: of the
    first, in ISO 8601. fresh: how many these are. arrived: how many came to this receiver in all.
    held: how many it showed when it settled last; gaps: in their numbers. shown: how many of those that
    arrived are among them. counted: the same, of when it was ready last.
    missing: UIDs that are expected. completed: all that was expected came once.
    told: it is due at once. job: somebody works on it. only_build: it is settled. retry_at, attempts: after
    a failure, which is the problem.
    """

    key: SeriesKey
    since: str
    first: float
    last: float
    calling: str = ""
    state: State = "arriving"
    fresh: int = 0
    arrived: int = 0
    held: int = 0
    gaps: Gaps = ()
    expected: Expectation | None = None
    missing: set[str] = field(default_factory=set)
    completed: bool = False
    told: bool = False
    job: bool = False
    only_build: bool = False
    retry_at: float | None = None
    attempts: int = 0
    problem: str = ""
    shown: int = 0
    counted: int = 0

    def arrive(self, at: float, uid: str, calling: str) -> bool:
        """Count an instance; whether the series is complete by that."""
        self.come(at, 1, calling)
        self.missing.discard(uid)
        return self.completes()

    def expect(self, expected: Expectation) -> bool:
        """Take in what is expected; whether the series is complete by that."""
        if self.expected is None or expected.count != self.expected.count:
            self.completed = False
        self.expected, self.missing = expected, set(expected.missing)
        if not expected.named:
            self.held = max(self.held, expected.received - self.fresh)
        return self.completes()

    def completes(self) -> bool:
        """Whether all that is expected is there now, and was not when this was asked before."""
        if self.completed or self.lacking != 0:
            return False
        self.completed = True  # what comes in addition waits for quiet
        return True

    def come(self, at: float, count: int, calling: str = "") -> None:
        """Count some instances."""
        if not self.fresh:
            self.first, self.since = at, now()
        self.last = at
        self.fresh += count
        self.arrived += count
        self.calling = calling or self.calling
        if not self.job:
            self.state, self.only_build = "arriving", False
            self.retry_at, self.attempts = None, 0

    def due_at(self, rules: Rules) -> float | None:
        """When something is to be done with it: 0 at once, None never."""
        if self.job:
            return None
        if self.state == "failed":
            return 0.0 if self.told else self.retry_at
        if self.state != "arriving":
            return None
        if self.told or self.only_build:
            return 0.0
        return min(self.last + rules.quiet_s, self.first + rules.max_wait_s)

    def begin(self) -> None:
        """Somebody works on it from now on; what comes meanwhile is fresh again."""
        self.job, self.told, self.retry_at = True, False, None
        if self.only_build:
            self.state = "building"
        else:
            self.state, self.fresh, self.shown = "settling", 0, self.arrived

    def end(self, problem: str = "", retry_at: float | None = None) -> None:
        """Nobody works on it any more. retry_at: when it is tried again, None: not by itself."""
        self.job, self.problem = False, problem
        if self.fresh:
            self.state, self.only_build, self.attempts = "arriving", False, 0
        elif problem:
            self.state, self.retry_at = "failed", retry_at
            self.attempts += 1
        else:
            self.state, self.only_build, self.attempts, self.told = "ready", False, 0, False

    @property
    def open(self) -> bool:
        """Whether anything is still to be done with it, beyond trying again what failed."""
        return self.job or self.state == "arriving" or (self.state == "failed" and self.told)

    def row(self) -> dict[str, Any]:
        """For people and programs; JSON types."""
        return {
            "StudyInstanceUID": self.key.study_uid,
            "SeriesInstanceUID": self.key.series_uid,
            "state": self.state,
            "received": self.held + self.fresh,
            "expected": None if self.expected is None else self.expected.count,
            "missing": self.lacking,
            "missing_numbers": [list(one) for one in self.gaps],
            "since": self.since,
            "calling": self.calling,
            "problem": self.problem,
        }

    @property
    def lacking(self) -> int | None:
        """How many instances are expected and not there; None where nobody said what to expect."""
        if self.expected is None:
            return None
        if self.expected.named:
            return len(self.missing)
        return max(0, (self.expected.count or 0) - self.held - self.fresh)
