"""How much the lake keeps of each peer, and how much more it may keep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dicomlake.catalog import network
from dicomlake.catalog.catalog import Catalog
from dicomlake.records import Sender, Stored

_FRESH_S = 60.0  # then the catalog is asked again: other processes take objects in, too


class Quotas:
    """Counts bytes of data sets by peer; the catalog is read only where a peer has a quota.

    Between two readings a second process may take in as much again as is left of a quota.
    """

    def __init__(self, catalog: Catalog, of: Callable[[Sender], int | None] | None) -> None:
        self._catalog, self._of = catalog, of
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}
        self._read_at: float | None = None

    def left(self, sender: Sender) -> int | None:
        """Bytes that may still come from a sender's peer; None where there is no limit."""
        quota = None if self._of is None else self._of(sender)
        if quota is None:
            return None
        with self._lock:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at > _FRESH_S:
                with self._catalog.read() as view:
                    self._used = network.bytes_of_peers(view)
                self._read_at = now
            return max(0, quota - self._used.get(sender.peer, 0))

    @contextmanager
    def counting(self, sender: Sender, size: int) -> Iterator[Callable[[Stored], None]]:
        """Count an object while it is stored, and from then on if it is new in the lake."""
        kept = False

        def count(stored: Stored) -> None:
            nonlocal kept
            kept = stored.fresh

        self._add(sender, size)
        try:
            yield count
        finally:
            if not kept:
                self._add(sender, -size)

    def _add(self, sender: Sender, size: int) -> None:
        if self._of is not None:
            with self._lock:
                self._used[sender.peer] = self._used.get(sender.peer, 0) + size
