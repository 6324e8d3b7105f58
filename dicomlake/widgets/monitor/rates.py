"""Objects and bytes a second over the last minute, from counters that are read now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SECONDS = 60


class Rate(NamedTuple):
    """Means over the last minute, or since the first reading. by_second: objects, the newest last."""

    objects: float
    bytes: float
    by_second: tuple[float, ...]


class Grown(NamedTuple):
    """How much more was counted between two times, in seconds of a clock that only runs."""

    begin: float
    end: float
    objects: int
    bytes: int


class Rates:
    """Reads counters of receivers; one that begins anew, or is new, counts from what it had before."""

    def __init__(self) -> None:
        self._grown: deque[Grown] = deque()
        self._counted: dict[str, tuple[int, int]] = {}
        self._first: float | None = None
        self._last = 0.0

    def read(self, at: float, counters: Mapping[str, tuple[int, int]]) -> None:
        """Take in (objects, bytes) of each receiver at a time."""
        objects = bytes_ = 0
        for name, (now_objects, now_bytes) in counters.items():
            before = self._counted.get(name, (0, 0) if self._first is not None else (now_objects, now_bytes))
            objects += max(0, now_objects - before[0])
            bytes_ += max(0, now_bytes - before[1])
        self._counted = dict(counters)
        if self._first is None:
            self._first = self._last = at
            return
        if objects or bytes_:
            self._grown.append(Grown(self._last, at, objects, bytes_))
        self._last = at
        while self._grown and self._grown[0].end <= at - SECONDS:
            self._grown.popleft()

    def rate(self) -> Rate:
        """As of the last reading."""
        if self._first is None:
            return Rate(0.0, 0.0, (0.0,) * SECONDS)
        shown = min(float(SECONDS), max(1.0, self._last - self._first))
        since = self._last - shown
        objects = sum(one.objects * _share(one, since, self._last) for one in self._grown)
        bytes_ = sum(one.bytes * _share(one, since, self._last) for one in self._grown)
        return Rate(objects / shown, bytes_ / shown, tuple(_by_second(self._grown, self._last)))


def _by_second(grown: Iterable[Grown], end: float) -> list[float]:
    found = [0.0] * SECONDS
    for one in grown:
        for place in range(SECONDS):
            begin = end - SECONDS + place
            if one.begin < begin + 1 and one.end > begin:
                found[place] += one.objects * _share(one, begin, begin + 1)
    return [round(value, 1) for value in found]


def _share(one: Grown, begin: float, end: float) -> float:
    """The part of what grew that falls between two times, as if it grew evenly."""
    length = one.end - one.begin
    if length <= 0:
        return float(begin < one.end <= end)
    return max(0.0, min(one.end, end) - max(one.begin, begin)) / length
