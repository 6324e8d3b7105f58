"""The series and studies that a receiver got, as long as they matter; guarded by whoever keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from dicomlake.listening.events import now
from dicomlake.listening.tracked import Tracked
from dicomlake.records import SeriesKey


@dataclass(slots=True)
class _Study:
    """A study of which not everybody knows yet that it is ready.

    last: when an instance came. told: it need not be quiet.
    """

    last: float
    told: bool = False


class ReadyStudy(NamedTuple):
    """A study all of whose series are ready, or failed."""

    study_uid: str
    instances: int
    failed: int


class Ledger:
    """All that is under way, and the newest `remembered` series that are done."""

    def __init__(self, remembered: int = 10_000) -> None:
        self._remembered = remembered
        self._live: dict[SeriesKey, Tracked] = {}
        self._done: dict[SeriesKey, Tracked] = {}
        self._studies: dict[str, _Study] = {}
        self._forgotten = {"studies": 0, "series": 0, "instances": 0}

    def get(self, key: SeriesKey) -> Tracked | None:
        """A series, if it is remembered."""
        return self._live.get(key) or self._done.get(key)

    def touch(self, key: SeriesKey, at: float) -> Tracked:
        """The series, under way from now on."""
        one = self._live.get(key)
        if one is None:
            one = self._done.pop(key, None) or Tracked(key, now(), at, at)
            self._live[key] = one
        study = self._studies.get(key.study_uid)
        if study is None:
            self._studies[key.study_uid] = _Study(at)
        else:
            study.last, study.told = at, False
        return one

    def settle_down(self, one: Tracked) -> None:
        """A series is ready: nothing is to be done with it."""
        if self._live.pop(one.key, None) is not None:
            self._done[one.key] = one
        while len(self._done) > self._remembered:
            self._forget(next(iter(self._done)))

    def _forget(self, key: SeriesKey) -> None:
        one = self._done.pop(key)
        if one.counted:
            last = not any(other.key.study_uid == key.study_uid for other in self)
            self._forgotten["studies"] += last
            self._forgotten["series"] += 1
            self._forgotten["instances"] += one.counted

    def __iter__(self) -> Iterator[Tracked]:
        """The series that are remembered, those that are done first."""
        yield from self._done.values()
        yield from self._live.values()

    @property
    def live(self) -> list[Tracked]:
        """What is under way, and what failed."""
        return list(self._live.values())

    @property
    def busy(self) -> bool:
        """Whether anything is to be done now or soon."""
        return any(one.open for one in self._live.values())

    def arrived(self) -> list[SeriesKey]:
        """The series of which instances came, and are ready."""
        return [one.key for one in self if one.counted]

    def ready(self) -> dict[str, int]:
        """How many studies, series and instances came and are ready."""
        done = [one for one in self if one.counted]
        found = {
            "studies": len({one.key.study_uid for one in done}),
            "series": len(done),
            "instances": sum(one.counted for one in done),
        }
        return {name: number + self._forgotten[name] for name, number in found.items()}

    def states(self) -> dict[str, int]:
        """State to how many series are in it, without those that are ready."""
        found = {"arriving": 0, "settling": 0, "building": 0, "failed": 0}
        for one in self._live.values():
            if one.state in found:
                found[one.state] += 1
        return found

    def rows(self, study_uid: str | None = None) -> list[dict[str, Any]]:
        """One dict a series."""
        return [one.row() for one in self if study_uid in (None, one.key.study_uid)]

    # ---- studies ------------------------------------------------------------------------------------------

    def hurry(self, study_uid: str) -> None:
        """Do not wait for a study to be quiet."""
        if study_uid in self._studies:
            self._studies[study_uid].told = True

    def study_dues(self, quiet_s: float) -> dict[str, float]:
        """When which study may be called ready; those with open series not at all yet."""
        waiting = {one.key.study_uid for one in self._live.values() if one.open}
        return {
            uid: 0.0 if study.told else study.last + quiet_s
            for uid, study in self._studies.items()
            if uid not in waiting
        }

    def take_ready_studies(self, at: float, quiet_s: float) -> list[ReadyStudy]:
        """The studies that are ready now; each is given once, until something comes again."""
        due = [uid for uid, when in self.study_dues(quiet_s).items() if when <= at]
        for uid in due:
            del self._studies[uid]
        return [self._ready_study(uid) for uid in due]

    def _ready_study(self, uid: str) -> ReadyStudy:
        series = [one for one in self if one.key.study_uid == uid]
        failed = sum(one.state == "failed" for one in series)
        return ReadyStudy(uid, sum(one.held for one in series), failed)
