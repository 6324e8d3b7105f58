"""Counts of what a receiver took since it began: what people ask for first."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from dicomlake.network.seams import Sender, Stored, StoreRequest, Watcher


class Tally(Watcher):
    """Objects by what became of them, bytes of data sets, associations."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def _count(self, **more: int) -> None:
        with self._lock:
            self._counts.update(more)

    def opened(self, sender: Sender) -> None:  # noqa: ARG002
        """See Watcher."""
        self._count(associations=1)

    def refused(self, host: str, calling: str, reason: str) -> None:  # noqa: ARG002
        """See Watcher."""
        self._count(associations_refused=1)

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:  # noqa: ARG002
        """See Watcher."""
        self._count(**{result.outcome: 1, "bytes": result.size})

    def closed(self, sender: Sender, how: str) -> None:  # noqa: ARG002
        """See Watcher."""
        if how != "released":
            self._count(associations_broken=1)

    def counts(self) -> dict[str, int]:
        """Name to number; what never happened is 0 for what everybody looks at, else left out."""
        with self._lock:
            return {"stored": 0, "already": 0, "conflict": 0, "associations": 0, "bytes": 0} | self._counts
