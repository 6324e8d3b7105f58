"""Verbs that run until they are told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the program."""
    stop = threading.Event()
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def first(_number: int, _frame: object) -> None:
        stop.set()
        for each in former:
            signal.signal(each, signal.default_int_handler)

    for number in former:
        signal.signal(number, first)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
