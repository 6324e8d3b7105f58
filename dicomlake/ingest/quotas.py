"""How much the lake keeps of each peer, and how much more it may keep."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from dicomlake.catalog import network
from dicomlake.catalog.catalog import Catalog
from dicomlake.records import Sender

_FRESH_S = 60.0  # then the catalog is asked again: other processes take objects in, too


class Quotas:
    """Counts bytes of data sets by peer, kept and on their way; nothing is done where a peer has no quota.

    Between two readings of the catalog a second process may take in as much again as is left of a quota.
    An object that is registered just while the catalog is read counts twice until the next reading.
    """

    def __init__(self, catalog: Catalog, of: Callable[[Sender], int | None] | None) -> None:
        self._catalog, self._of = catalog, of
        self._lock = threading.Lock()
        self._kept: dict[str, int] = {}
        self._coming: defaultdict[str, int] = defaultdict(int)
        self._read_at: float | None = None

    def reserve(self, sender: Sender) -> Reserved | None:
        """Begin to count an object of a sender's peer; None where there is no limit."""
        quota = None if self._of is None else self._of(sender)
        if quota is None:
            return None
        with self._lock:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at > _FRESH_S:
                with self._catalog.read() as view:
                    self._kept = network.bytes_of_peers(view)
                self._read_at = now
        return Reserved(self, sender.peer, quota)

    def _add(self, reserved: Reserved, size: int) -> bool:
        peer = reserved.peer
        with self._lock:
            used = self._kept.get(peer, 0) + self._coming[peer]
            fits = used + size <= reserved.quota
            # What does not fit gives its place up at once: of many that come together the last ones fit.
            change = size if fits else -reserved.size
            self._coming[peer] += change
            reserved.size += change
        return fits

    def _end(self, reserved: Reserved, kept: bool) -> None:
        peer = reserved.peer
        with self._lock:
            self._coming[peer] -= reserved.size
            if kept:
                self._kept[peer] = self._kept.get(peer, 0) + reserved.size
            reserved.size = 0


class Reserved:
    """Bytes of one object on its way, which no other object of the peer can have meanwhile."""

    __slots__ = ("_quotas", "peer", "quota", "size")

    def __init__(self, quotas: Quotas, peer: str, quota: int) -> None:
        self._quotas, self.peer, self.quota = quotas, peer, quota
        self.size = 0

    def add(self, size: int) -> bool:
        """Take more bytes; False, and none are held any longer, where the quota has no room for them."""
        return self._quotas._add(self, size)

    def end(self, *, kept: bool) -> None:
        """The object is in: count it from now on if the lake keeps it as new, else give its bytes back."""
        self._quotas._end(self, kept)
