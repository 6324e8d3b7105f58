"""A sink and a watcher that keep what they are given, for tests of servers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from dicomlake.network.seams import Sender, Stored, StoreRequest


@dataclass
class Collecting:
    """Keeps the hash of each data set, or the data set itself, by SOP Instance UID; answers `outcome`."""

    answer: Stored = field(default_factory=lambda: Stored("stored", fresh=True))
    whole: bool = False
    received: dict[str, tuple[StoreRequest, bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        digest, parts = hashlib.sha256(), []
        for piece in pieces:
            digest.update(piece)
            if self.whole:
                parts.append(bytes(piece))
        with self.lock:
            content = b"".join(parts) if self.whole else digest.digest()
            self.received[request.sop_instance_uid] = (request, content)
        return self.answer


@dataclass
class Noting:
    """Keeps what a watcher is told."""

    events: list[tuple[str, ...]] = field(default_factory=list)

    def opened(self, sender: Sender) -> None:
        self.events.append(("opened", sender.calling, sender.peer))

    def refused(self, host: str, calling: str, reason: str) -> None:
        self.events.append(("refused", calling, reason))

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        assert seconds >= 0
        self.events.append(("stored", request.sop_instance_uid, result.outcome))

    def closed(self, sender: Sender, how: str) -> None:
        self.events.append(("closed", sender.calling, how))
