"""Reading what somebody else packed, without ever holding more than was meant to be held."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from dicomlake.ingest.sources.content import CHUNK, BytesContent, Content, SpooledContent
from dicomlake.ingest.sources.items import Limits


class ExpandsTooMuch(Exception):
    """An archive has used up its budget; ends the outermost archive, however deep it was raised."""


class ObjectTooLarge(Exception):
    """A member is larger than `Limits.max_object`."""


class HeaderTooLarge(Exception):
    """The directory of an archive, or the header of a member, is larger than what is read of it."""


class Budget:
    """How many bytes may still be unpacked."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size

    def take(self, size: int) -> None:
        """Count bytes; raises ExpandsTooMuch when there were not that many left."""
        self._left -= size
        if self._left < 0:
            raise ExpandsTooMuch


class Stream(Protocol):
    """Whatever bytes can be read from, in order."""

    def read(self, size: int, /) -> bytes:
        """Up to this many bytes; none at the end."""


class CappedReads(io.RawIOBase):
    """A seekable file that never gives more than `cap` bytes at once.

    zipfile reads the whole directory of an archive in one go and makes some 600 bytes of objects from
    every 46 bytes of it.
    """

    def __init__(self, file: BinaryIO, cap: int) -> None:
        self._file = file
        self._cap = cap

    def read(self, size: int = -1, /) -> bytes:
        """Up to this many bytes; raises HeaderTooLarge when asked for more than the cap."""
        if size > self._cap:
            raise HeaderTooLarge
        return self._file.read(self._cap if size < 0 else size)

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """As for files."""
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """As for files."""
        return self._file.tell()


class Unpacked(io.RawIOBase):
    """A stream that counts what it yields against a budget and goes forward only.

    Made for tarfile, which believes what a header says: a negative size is an endless loop, and a
    long pax record or sparse map takes all the memory, or all the time in a regular expression.
    skip: moves the stream to a position without reading, where it can.
    """

    def __init__(
        self, stream: Stream, budget: Budget, *, skip: Callable[[int], object] | None = None
    ) -> None:
        self._stream = stream
        self._budget = budget
        self._skip = skip
        self._position = 0
        self._allowed: int | None = None
        self.last_read = b""

    def allow(self, size: int | None) -> None:
        """Let no more than this many bytes be read, seeking apart, until the next call; None: any."""
        self._allowed = size

    def read(self, size: int = -1, /) -> bytes:
        """Up to this many bytes; none at the end. Raises HeaderTooLarge beyond what is allowed."""
        if size < 0:
            raise ValueError("an archive header holds a negative size")
        if self._allowed is not None:
            self._allowed -= size
            if self._allowed < 0:
                raise HeaderTooLarge
        return self._take(size)

    def tell(self) -> int:
        """Bytes from the start."""
        return self._position

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Go forward to a position in bytes, or to the end if that comes first."""
        if whence != os.SEEK_SET or position < self._position:
            raise ValueError("an archive header points backwards")
        if self._skip is not None:
            self._skip(position)
            self._position = position
        while self._position < position and self._take(min(CHUNK, position - self._position)):
            pass
        return self._position

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._budget.take(len(data))
        self._position += len(data)
        self.last_read = data
        return data


def gather(head: bytes, stream: Stream, limits: Limits) -> Content:
    """The head already read and all that follows: in memory, or in a temporary file if it is large.

    Raises ObjectTooLarge beyond `limits.max_object`, and whatever the stream raises.
    """
    parts = _parts(head, stream, limits.max_object)
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > limits.in_memory:
            return _spool(chain(held, parts), limits.spool_folder)
    return BytesContent(b"".join(held))


def _parts(head: bytes, stream: Stream, at_most: int) -> Iterator[bytes]:
    part, size = head, 0
    while part:
        size += len(part)
        if size > at_most:
            raise ObjectTooLarge
        yield part
        part = stream.read(CHUNK)


def _spool(parts: Iterator[bytes], folder: Path | None) -> SpooledContent:
    with tempfile.NamedTemporaryFile(prefix="dicomlake-", suffix=".part", dir=folder, delete=False) as file:
        try:
            size = sum(map(file.write, parts))
        except BaseException:
            os.unlink(file.name)
            raise
    return SpooledContent(Path(file.name), size)
