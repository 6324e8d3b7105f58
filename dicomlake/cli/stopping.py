"""Verbs that run until they are told to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_AT_ONCE_S = 0.5


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or SIGINT sets; another one ends the program.

    What comes at once again does not count: `timeout` and shells signal a process and its group.
    """
    stop, first_at = threading.Event(), 0.0
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def told(_number: int, _frame: object) -> None:
        nonlocal first_at
        if not stop.is_set():
            first_at = time.monotonic()
            stop.set()
        elif time.monotonic() - first_at > _AT_ONCE_S:
            raise KeyboardInterrupt

    for number in former:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
