"""What a lake must let go of in a process that was forked: connections and threads are the parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What is at work in a process."""

    def forked(self) -> None:
        """Begin anew in a child; called there, right after the fork."""


_AT_WORK: WeakSet[Forked] = WeakSet()
_PARENTS: list[object] = []
"""What is the parent's: never closed nor freed in a child, where that ends in a crash."""


def watch(lake: Forked) -> None:
    """Have a lake begin anew in every child of this process."""
    _AT_WORK.add(lake)


def leave(*what: object) -> None:
    """Keep what the parent has from being freed here."""
    _PARENTS.extend(what)


def _in_child() -> None:
    for lake in list(_AT_WORK):
        lake.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
