"""Parts of a multipart/related body as they come (RFC 2046 section 5.1), and DICOM files within them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message
from typing import NamedTuple

from dicomlake.dicom.walk import Raw, Short, take_one
from dicomlake.errors import PeerError
from dicomlake.network.requesting.failures import Lost

_MOST_HEAD = 1 << 20  # bytes of part headers, or of File Meta Information


class File(NamedTuple):
    """A DICOM file as it comes: what its File Meta Information says, and its data set in pieces."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    pieces: Iterator[bytes]


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart body. Raises PeerError when it is no such body."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        raise PeerError("the peer's answer is not multipart: is the URL the root of a DICOMweb service?")
    return boundary.encode("latin-1", "replace")


def parts(chunks: Iterable[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    """The content of each part, without its headers; what is left of one is drawn before the next.

    Raises Lost when the body ends before its closing delimiter.
    """
    reader, delimiter = _Reader(chunks), b"--" + boundary
    _drain(reader.until(delimiter))
    while reader.take(2) != b"--":
        reader.give_back(2)
        head = b""
        for piece in reader.until(b"\r\n\r\n"):
            head += piece
            if len(head) > _MOST_HEAD:
                raise PeerError("the headers of a part are longer than any sane ones")
        body = reader.until(b"\r\n" + delimiter)
        yield body
        _drain(body)


def file_of(body: Iterator[bytes]) -> File:
    """A DICOM file of PS3.10 section 7.1. Raises PeerError when it is none."""
    head, at = _fill(b"", body, 132), 132
    if head[128:132] != b"DICM":
        raise PeerError("a part is no DICOM file")
    elements: dict[int, Raw] = {}
    while True:
        head = _fill(head, body, at + 2)
        if head[at : at + 2] != b"\x02\0":
            break
        try:
            at = take_one(head, at, elements)
        except Short as short:
            if short.need > _MOST_HEAD or len(more := _fill(head, body, short.need)) == len(head):
                raise PeerError("the File Meta Information of a part is cut off") from None
            head = more

    def uid(tag: int) -> str:
        return elements.get(tag, ("UI", b""))[1].rstrip(b"\0 ").decode("latin-1")

    return File(uid(0x00020002), uid(0x00020003), uid(0x00020010), _after(head[at:], body))


def _fill(head: bytes, body: Iterator[bytes], size: int) -> bytes:
    while len(head) < size:
        piece = next(body, None)
        if piece is None:
            break
        head += piece
    return head


def _after(rest: bytes, body: Iterator[bytes]) -> Iterator[bytes]:
    if rest:
        yield rest
    yield from body


def _drain(pieces: Iterator[bytes]) -> None:
    for _piece in pieces:
        pass


class _Reader:
    """Chunks as a stream that is read up to markers."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._held, self._at = iter(chunks), b"", 0

    def take(self, size: int) -> bytes:
        while len(self._held) - self._at < size:
            self._more()
        self._at += size
        return self._held[self._at - size : self._at]

    def give_back(self, size: int) -> None:
        self._at -= size

    def until(self, marker: bytes) -> Iterator[bytes]:
        """What comes before a marker, which is taken too."""
        while True:
            found = self._held.find(marker, self._at)
            if found >= 0:
                piece, self._at = self._held[self._at : found], found + len(marker)
                if piece:
                    yield piece
                return
            safe = len(self._held) - len(marker) + 1  # a marker may begin behind
            if safe > self._at:
                piece, self._at = self._held[self._at : safe], safe
                yield piece
            self._more()

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise Lost("the answer was cut off")
        self._held, self._at = self._held[self._at :] + chunk, 0
