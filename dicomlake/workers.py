"""Processes that work for this one: spawned, without running the caller's script, and gone when it is."""

from __future__ import annotations

import os
import sys
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock, Thread
from types import ModuleType

_STARTING = Lock()  # two threads that start workers at once would mistake the stand-in for the script


class Worker(SpawnProcess):
    """A process that does not run the caller's script again, as spawning does where it lacks a guard."""

    def start(self) -> None:
        """Start it; see `multiprocessing.Process.start`."""
        with _STARTING:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


class Context(SpawnContext):
    """Spawns, as a notebook holds threads and locks that a fork would break."""

    Process = Worker


def end_with_parent() -> None:
    """Let a worker end when the process that gives it work was killed; by itself it would wait forever."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True, name="parent").start()
