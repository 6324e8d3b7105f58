"""A sink that counts what goes through it, study by study, and makes it wait where a pull has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

from dicomlake.network.requesting.pacing import Pacer
from dicomlake.network.seams import Sink, Stored, StoreRequest

_SAFE = frozenset({"stored", "already", "conflict"})


@dataclass(slots=True)
class Count:
    """Instances and bytes. uids: SOPInstanceUIDs that are safe. reasons: of those that were not kept."""

    safe: int = 0
    fresh: int = 0
    size: int = 0
    uids: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """A sink that hands on to another. counts: by StudyInstanceUID; "" for what was not kept."""

    sink: Sink
    pacer: Pacer
    counts: dict[str, Count] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        """As `Sink.store`."""
        stored = self.sink.store(request, pieces)
        study = stored.series.study_uid if stored.series else ""
        with self._lock:
            count = self.counts.setdefault(study, Count())
            if stored.outcome in _SAFE:
                count.safe += 1
                count.uids.add(request.sop_instance_uid.strip("\0 "))
                count.fresh += stored.fresh
                count.size += stored.size
            else:
                count.reasons.append(f"{stored.outcome}: {stored.detail}".rstrip(": "))
        self.pacer.received(stored.size)
        return stored

    def take(self, study_uid: str) -> Count:
        """What was counted for a study since the last time."""
        with self._lock:
            return self.counts.pop(study_uid, Count())

    def uids(self, study_uid: str) -> set[str]:
        """What of a study is safe, since it was taken the last time."""
        with self._lock:
            return set(self.counts.get(study_uid, Count()).uids)

    def why(self) -> str:
        """A reason why something was not kept, "" without any."""
        with self._lock:
            refused = self.counts.get("")
            return refused.reasons[-1] if refused and refused.reasons else ""
