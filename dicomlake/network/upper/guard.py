"""One thread that ends waits: it shuts the sockets of those that waited for their peers for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic

from dicomlake.network.upper.failures import TimedOut
from dicomlake.network.upper.wire import Wire


class Guard:
    """Looks every `tick_s` seconds at the wires that `wires` gives."""

    def __init__(self, wires: Callable[[], Iterable[Wire]], tick_s: float) -> None:
        self._wires = wires
        self._tick_s = tick_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicomlake-guard", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._tick_s):
            self.look(monotonic())

    def look(self, now: float) -> None:
        """End the waits that were to end before `now`."""
        for wire in self._wires():
            if wire.until < now:
                reason = "does not read what it is sent" if wire.sending else "sends nothing"
                wire.expire(TimedOut(f"the peer {reason}"), both=wire.sending)
