"""A staged object as something to read: received, on the disk, not yet in its place."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from dicomlake.ingest.sources.content import CHUNK
from dicomlake.storage.objectstore import Staged, Storage


class StagedContent:
    """The bytes of a staged object; gone once it is published or discarded."""

    path = None

    def __init__(self, storage: Storage, staged: Staged) -> None:
        self._storage, self._staged = storage, staged
        self.size = staged.size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from `start` up to `stop`."""
        return self._storage.get(self._staged.temporary, start, stop)

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """All bytes in order, at most `size` at a time."""
        for start in range(0, self.size, size):
            yield self.read(start, start + size)

    def open(self) -> BinaryIO:
        """A stream over all of it, in memory."""
        return io.BytesIO(self.read())

    def close(self) -> None:
        """Nothing is held between calls."""
