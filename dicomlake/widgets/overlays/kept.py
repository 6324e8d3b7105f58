"""A bounded memory of arrays that were made for planes; what was unused longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Protocol

from dicomlake.widgets.images.memory import MEMORY


class Sized(Protocol):
    """Something of a known size in memory."""

    @property
    def nbytes(self) -> int:
        """Bytes."""


class Kept:
    """Things by key, up to `limit` bytes together; one that is larger is kept alone."""

    def __init__(self, limit: int | None = None) -> None:
        """limit: a quarter of what decoded volumes may take, unless given."""
        self.limit = MEMORY.budget // 4 if limit is None else limit
        self._things: OrderedDict[Hashable, Sized] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The thing of a key, made if it is not here; two threads never make the same one twice."""
        with self._lock:
            making = self._making.setdefault(key, Lock())
        with making:
            found = self._found(key)
            if found is None:
                found = make()
                self._keep(key, found)
        return found

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._things

    def forget(self, owner: Hashable) -> None:
        """Drop all whose key begins with the owner."""
        with self._lock:
            for key in [k for k in self._things if isinstance(k, tuple) and k[0] == owner]:
                del self._things[key]
                self._making.pop(key, None)

    @property
    def nbytes(self) -> int:
        """How much is kept, in bytes."""
        with self._lock:
            return self._total()

    def _found(self, key: Hashable) -> Any:
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
            return self._things.get(key)

    def _keep(self, key: Hashable, thing: Sized) -> None:
        with self._lock:
            self._things[key] = thing
            while len(self._things) > 1 and self._total() > self.limit:
                gone, _ = self._things.popitem(last=False)
                self._making.pop(gone, None)

    def _total(self) -> int:
        return sum(int(thing.nbytes) for thing in self._things.values())
