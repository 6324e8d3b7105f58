"""Objects that are to be sent: an original that can be read by range, and what is known of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from dicomlake.dicom.headers import DEFLATED, Header, read_header
from dicomlake.dicom.walk import InMemory, Readable
from dicomlake.errors import BrokenObject
from dicomlake.records import Instance
from dicomlake.storage.objectstore import Storage

_PIECE = 1 << 20


class Outgoing(Protocol):
    """An object to send.

    transfer_syntax: of its data set. size: bytes of the original.
    """

    @property
    def sop_class_uid(self) -> str: ...

    @property
    def sop_instance_uid(self) -> str: ...

    @property
    def transfer_syntax(self) -> str: ...

    @property
    def size(self) -> int: ...

    def open(self) -> AbstractContextManager[Readable]:
        """The original, in the DICOM File Format or a bare data set, read by range."""


@dataclass(frozen=True, slots=True)
class Original:
    """An object to send, as facts and a way to open it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    size: int
    opener: Callable[[], AbstractContextManager[Readable]] = field(repr=False)
    series_uid: str = ""

    def open(self) -> AbstractContextManager[Readable]:
        """As `Outgoing.open`."""
        return self.opener()

    @classmethod
    def of(cls, data: bytes | str | os.PathLike[str]) -> Original:
        """From a file, or an object in memory. Raises NotADicomObject, BrokenObject, OSError."""
        if isinstance(data, bytes):
            held = data
            return cls._read(lambda: _held(held))
        path = Path(data)
        return cls._read(lambda: _opened(path))

    @classmethod
    def _read(cls, opener: Callable[[], AbstractContextManager[Readable]]) -> Original:
        with opener() as readable:
            header, size = read_header(readable), readable.size
        facts = header.dataset
        return cls(
            facts.text("SOPClassUID") or "",
            facts.text("SOPInstanceUID") or "",
            header.transfer_syntax,
            size,
            opener,
            facts.text("SeriesInstanceUID") or "",
        )


def originals(instances: Iterable[Instance], storage: Storage) -> Iterator[Original]:
    """Stored instances as objects to send."""
    for one in instances:
        yield Original(
            one.sop_class_uid,
            one.sop_instance_uid,
            one.transfer_syntax,
            one.size,
            _stored(storage, one.key, one.size),
            one.series.series_uid,
        )


def data_set(readable: Readable, header: Header) -> Iterator[bytes]:
    """The data set behind the File Meta Information, byte for byte, in pieces.

    A deflated one of odd length gets the byte that PS3.5 section A.5 wants. Raises BrokenObject for another
    of odd length, which no message can carry (PS3.8 section E.2).
    """
    deflated = header.transfer_syntax == DEFLATED
    if not deflated:
        check_even(readable.size - header.dataset_offset)
    return _pieces(readable, header, deflated)


def check_even(size: int) -> None:
    """Raises BrokenObject for a data set that no message can carry."""
    if size % 2:
        raise BrokenObject("the data set has an odd number of bytes, which no message can carry (PS3.8 E.2)")


def _pieces(readable: Readable, header: Header, deflated: bool) -> Iterator[bytes]:
    for start in range(header.dataset_offset, readable.size, _PIECE):
        yield readable.read(start, min(start + _PIECE, readable.size))
    if deflated and (readable.size - header.dataset_offset) % 2:
        yield b"\0"


def _stored(storage: Storage, key: str, size: int) -> Callable[[], AbstractContextManager[Readable]]:
    @contextmanager
    def opener() -> Iterator[Readable]:
        yield _InStorage(storage, key, size)

    return opener


@contextmanager
def _held(data: bytes) -> Iterator[Readable]:
    yield InMemory(data)


@contextmanager
def _opened(path: Path) -> Iterator[Readable]:
    with path.open("rb") as file:
        yield _InFile(file, os.fstat(file.fileno()).st_size)


class _InFile:
    """An open file as a Readable."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        self._file.seek(start)
        return self._file.read(-1 if stop is None else max(stop - start, 0))


class _InStorage:
    """A stored object as a Readable."""

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        self._storage, self._key, self.size = storage, key, size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self._storage.get(self._key, start, stop)
