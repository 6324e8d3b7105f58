"""Contenders that do the same work in turns: how they are run, and how their times are compared.

All cases of a job run once in each round, in an order that is shuffled with a fixed seed: on a machine
where other work comes and goes, two cases of one round met about the same conditions and two medians
did not. So ratios are taken within a round, and their median and range are what is reported.
What a case has done is counted after each run. One that lost work has failed, however fast it was.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["dicomlake", "peer", "limit"]
_SEED = 2024


@runtime_checkable
class Server(Protocol):
    """A context that works in another process, whose CPU time counts too."""

    def cpu_seconds(self) -> float:
        """CPU seconds used so far."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a run has measured by itself, such as in a process of its own.

    value: in the unit of the job. cpu_s: CPU seconds, None for those that the harness sees.
    result: what `Case.done` is given. also: further figures of the run by name.
    """

    value: float
    cpu_s: float | None = None
    result: Any = None
    also: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One contender.

    role: limit is what the hardware allows, peer what people use today.
    around: makes, in a fresh folder and untimed, what `run` is given, and cleans up behind it.
    run: the timed work. What it returns goes to `done`; a Measure replaces the harness's own timing.
    done: how many units of work are there after the run, counted untimed.
    absent: why the case cannot run on this machine; empty when it can.
    """

    name: str
    role: Role
    run: Callable[[Any], Any]
    done: Callable[[Any, Any], int]
    around: Callable[[Path], AbstractContextManager[Any]] = nullcontext
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a case should reach: at most this many times the value of another case, or this value."""

    case: str
    at_most: float
    against: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Cases that do the same work.

    work: units of work that each case must have done, such as files. unit: of the values.
    """

    name: str
    title: str
    work: int
    of: str
    cases: tuple[Case, ...]
    targets: tuple[Target, ...] = ()
    unit: str = "s"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rounds of a case gave: one value a round. trouble: why there are none, or fewer."""

    name: str
    role: Role
    values: tuple[float, ...]
    cpu_s: tuple[float, ...] = ()
    also: tuple[Mapping[str, float], ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of some values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was reached; None when one of its two cases gave nothing."""

    target: Target
    reached: Spread | None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the target."""
        return None if self.reached is None else self.reached.median <= self.target.at_most


def returned(_context: object, result: object) -> int:
    """`Case.done` of cases that return how many units they did."""
    assert isinstance(result, int)
    return result


def spread(values: Sequence[float]) -> Spread:
    """Median and range. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values: nothing was measured")
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratio(values: Sequence[float], against: Sequence[float]) -> Spread:
    """The ratios round by round, as a spread; not the ratio of the medians.

    Raises ValueError when the two were not measured in the same rounds.
    """
    return spread([value / other for value, other in zip(values, against, strict=True)])


def verdicts(job: Job, outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Each target of the job with what was reached."""
    values = {one.name: one.values for one in outcomes if one.values and not one.trouble}
    return [Verdict(target, _reached(target, values)) for target in job.targets]


def _reached(target: Target, values: Mapping[str, tuple[float, ...]]) -> Spread | None:
    mine = values.get(target.case)
    if mine is None:
        return None
    if target.against is None:
        return spread(mine)
    theirs = values.get(target.against)
    return None if theirs is None else paired_ratio(mine, theirs)


def run(job: Job, rounds: int, scratch: Path) -> list[Outcome]:
    """Run all cases of a job in turns. A case that fails is left out of the rounds that follow."""
    found: dict[str, list[Measure]] = {case.name: [] for case in job.cases}
    troubles = {case.name: f"not installed: {case.absent}" for case in job.cases if case.absent}
    for number in range(rounds):
        for case in _order(job, number):
            if case.name in troubles:
                continue
            folder = scratch / f"{job.name}-{number}-{job.cases.index(case)}"
            folder.mkdir(parents=True)
            try:
                found[case.name].append(_measured(case, folder, job.work))
            except Exception as error:  # a contender that fails is a result, not the end of the others
                troubles[case.name] = f"failed: {type(error).__name__}: {error}"
    return [_outcome(case, found[case.name], troubles.get(case.name, "")) for case in job.cases]


def _order(job: Job, number: int) -> list[Case]:
    """The cases in the order of a round; any fixed one would favour who comes behind a light case."""
    cases = list(job.cases)
    random.Random(f"{_SEED} {job.name} {number}").shuffle(cases)
    return cases


def _outcome(case: Case, measures: Sequence[Measure], trouble: str) -> Outcome:
    return Outcome(
        case.name,
        case.role,
        tuple(one.value for one in measures),
        tuple(one.cpu_s or 0.0 for one in measures),
        tuple(one.also for one in measures),
        trouble,
    )


class WorkLost(Exception):
    """A contender did less, or more, than it was given to do."""


def _measured(case: Case, folder: Path, work: int) -> Measure:
    """One timed run, and the count of what it did."""
    with case.around(folder) as context:
        os.sync()  # what the case before left to be written is not this one's load
        cpu, started = _cpu_seconds(context), time.perf_counter()
        result = case.run(context)
        seconds, cpu = time.perf_counter() - started, _cpu_seconds(context) - cpu
        own = result if isinstance(result, Measure) else Measure(seconds, cpu, result)
        done = case.done(context, own.result)
        if done != work:
            raise WorkLost(f"{done:,} of {work:,} done")
        return own if own.cpu_s is not None else Measure(own.value, cpu, own.result, own.also)


def _cpu_seconds(context: Any) -> float:
    """CPU seconds of this process, of the children that have ended, and of a server."""
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    served = context.cpu_seconds() if isinstance(context, Server) else 0.0
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime + served
