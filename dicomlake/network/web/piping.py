"""Chunks of a body from the event loop to the thread that stores them, a bounded number of bytes ahead."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator

from dicomlake.network.web.failures import Gone


class Pipe(Iterator[bytes]):
    """The event loop puts, one thread iterates."""

    def __init__(self, most: int) -> None:
        """most: bytes that wait for the thread."""
        self._loop, self._most = asyncio.get_running_loop(), most
        self._lock = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = self._left = False
        self._error: Exception | None = None
        self._room: asyncio.Event = asyncio.Event()

    # ---- the event loop's end -------------------------------------------------------------------------

    async def put(self, chunk: bytes) -> None:
        """Hand a chunk on; waits for room. What comes after `leave` is dropped."""
        self._room.clear()
        with self._lock:
            if self._left:
                return
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._lock.notify()
            full = self._size > self._most
        if full:
            await self._room.wait()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; `error` is raised in the thread, before what waits."""
        with self._lock:
            self._ended, self._error = True, error or self._error
            self._lock.notify()

    def leave(self) -> None:
        """The thread reads no more; what waits is dropped."""
        with self._lock:
            self._left = True
            self._chunks.clear()
        self._room.set()

    # ---- the thread's end -----------------------------------------------------------------------------

    def __next__(self) -> bytes:
        with self._lock:
            while not self._chunks and not self._ended:
                self._lock.wait()
            if self._error is not None:
                raise self._error
            if not self._chunks:
                raise StopIteration
            chunk = self._chunks.popleft()
            was_full = self._size > self._most
            self._size -= len(chunk)
            room = was_full and self._size <= self._most
        if room:
            try:
                self._loop.call_soon_threadsafe(self._room.set)
            except RuntimeError:  # the loop is closed
                raise Gone("the server stopped before the request was whole") from None
        return chunk
