"""Bytes that are there when asked for: in a file, in memory, or in a temporary file."""

from __future__ import annotations

import io
import os
import stat
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

CHUNK: Final = 1 << 20
"""Bytes read or written at a time."""


class Content(Protocol):
    """The bytes of one file or archive member; all methods raise OSError when they cannot be read."""

    @property
    def size(self) -> int:
        """In bytes, as it was when the content was found."""

    @property
    def path(self) -> Path | None:
        """An ordinary file (never a link) with exactly these bytes, that can be hard-linked."""

    def open(self) -> BinaryIO:
        """A new seekable stream from the first byte; the caller closes it."""

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from `start` up to, not including, `stop`."""

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """All bytes in order, at most `size` at a time."""

    def close(self) -> None:
        """Give back what is held, such as a temporary file; the bytes are gone afterwards."""


class _Openable:
    """`read` and `chunks` for whatever can be opened."""

    __slots__ = ()

    def open(self) -> BinaryIO:
        raise NotImplementedError

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        with self.open() as stream:
            stream.seek(start)
            return stream.read() if stop is None else stream.read(max(0, stop - start))

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        with self.open() as stream:
            while chunk := stream.read(size):
                yield chunk

    def close(self) -> None:
        """Nothing is held between calls."""


@dataclass(frozen=True, slots=True)
class FileContent(_Openable):
    """An ordinary file; opened only while it is read. Cheap to make, and it pickles."""

    path: Path
    size: int

    @classmethod
    def of(cls, path: str) -> FileContent:
        """The file as it is now; raises OSError when there is none."""
        real = os.path.realpath(path)
        return cls(Path(real), os.stat(real).st_size)

    def open(self) -> BinaryIO:
        return open_regular(self.path)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """As `open` and `read`, without the cost of a stream: this is called for every object."""
        fd = _without_waiting(str(self.path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            _require_regular(status)
            left = max(0, (status.st_size if stop is None else min(stop, status.st_size)) - start)
            found = os.pread(fd, left, start)
            while len(found) < left and (more := os.pread(fd, left - len(found), start + len(found))):
                found += more  # the kernel gives no more than 2 GiB at once
            return found
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class BytesContent(_Openable):
    """Bytes in memory."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def path(self) -> None:
        return None

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self.data[start:stop]


class SpooledContent(_Openable):
    """A temporary file, deleted by `close`, or else when nobody holds the content any more.

    Its path may be hard-linked before that: put `Limits.spool_folder` on the same file system.
    """

    __slots__ = ("__weakref__", "_delete", "path", "size")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._delete = weakref.finalize(self, path.unlink, missing_ok=True)

    def open(self) -> BinaryIO:
        return open_regular(self.path)

    def close(self) -> None:
        self._delete()


def open_regular(path: str | Path) -> BinaryIO:
    """Open an ordinary file for reading; OSError for anything else.

    Never blocks: a FIFO that took the file's place since it was found is opened without waiting
    for a writer, seen to be none, and closed.
    """
    stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    try:
        _require_regular(os.fstat(stream.fileno()))
    except OSError:
        stream.close()
        raise
    return stream


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not an ordinary file any more")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
