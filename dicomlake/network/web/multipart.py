"""Parts of a multipart body as they come, however large they are (RFC 2046 section 5.1, RFC 2387).

A strict reader: what is not a delimiter, a header or the end as the grammar has them is refused, as a
receiver that guesses where an object ends would store another one. How the body is cut into chunks makes
no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from dicomlake.network.web.failures import Malformed

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_PADDING = 256  # bytes of white space that may follow a delimiter


class Part(NamedTuple):
    """A part: its headers, names in lower case, and its content, each piece valid until the next."""

    headers: Mapping[str, str]
    pieces: Iterator[memoryview]


def parts(chunks: Iterable[bytes], boundary: bytes, *, header_bytes: int = 16 << 10) -> Iterator[Part]:
    """The parts of a body, one after another; what is left of one is drawn before the next.

    header_bytes: of the headers of one part, of the preamble and of the epilogue, at most.
    Raises Malformed, also while pieces are drawn; a part whose end was not seen never ends otherwise.
    """
    delimiter = b"\r\n--" + boundary
    reader = _Reader(chunks)
    _skip(reader.until(delimiter, "the first boundary"), header_bytes)
    while not _is_last(reader):
        headers = _read_headers(reader, header_bytes)
        pieces = _content(reader, delimiter)
        yield Part(headers, pieces)
        for _left in pieces:
            pass
    _skip(reader.rest(), header_bytes)


def _is_last(reader: _Reader) -> bool:
    """Read on to the end of the line of a delimiter; whether it was the closing one.

    The line end of another one is left, as it also ends an empty list of headers.
    """
    if reader.starts_with(b"--"):
        reader.skip(2)
        if not reader.at_end() and not any(map(reader.starts_with, (b" ", b"\t", b"\r\n"))):
            raise Malformed("the closing boundary is followed by what is no line end")
        return True
    padding = b"".join(bytes(piece) for piece in _bounded(reader.until(b"\r\n", "a line end"), _PADDING))
    if padding.strip(b" \t"):
        raise Malformed("the boundary occurs within a part, or is not followed by a line end")
    reader.give_back(2)
    return False


def _read_headers(reader: _Reader, most: int) -> Mapping[str, str]:
    block = b"".join(bytes(piece) for piece in _bounded(reader.until(b"\r\n\r\n", "headers"), most))
    reader.give_back(2)  # the empty line may also be the beginning of a delimiter, of a part without content
    unfolded = re.sub(rb"\r\n[ \t]+", b" ", block)
    headers: dict[str, str] = {}
    for line in unfolded.split(b"\r\n")[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Malformed("a header of a part is no header")
        name = match[1].decode("ascii").lower()
        if name in headers:
            raise Malformed("a header of a part is given twice")
        headers[name] = match[2].decode("latin-1")
    return headers


def _content(reader: _Reader, delimiter: bytes) -> Iterator[memoryview]:
    if not reader.starts_with(delimiter):
        reader.skip(2)  # the empty line
    return reader.until(delimiter, "the final boundary")


def _bounded(pieces: Iterator[memoryview], most: int) -> Iterator[memoryview]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise Malformed("headers, preamble or epilogue of a multipart body are longer than any sane ones")
        yield piece


def _skip(pieces: Iterator[memoryview], most: int) -> None:
    for _piece in _bounded(pieces, most):
        pass


class _Reader:
    """Chunks as a stream that is read up to marks; holds one chunk and the tail of the one before."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b"\r\n"  # the first delimiter needs no line end before it
        self._at = 0

    def until(self, mark: bytes, what: str) -> Iterator[memoryview]:
        """All before a mark, which is drawn too. Raises Malformed where there is none."""
        keep = len(mark) - 1
        while True:
            held, at = self._held, self._at
            found = held.find(mark, at)
            end = len(held) - keep if found < 0 else found
            self._at = found + len(mark) if found >= 0 else max(at, end)
            if end > at:
                yield memoryview(held)[at:end]
            if found >= 0:
                return
            if not self._more():
                raise Malformed(f"the body ends before {what}: it was cut off, or is no multipart body")

    def rest(self) -> Iterator[memoryview]:
        """All that is left."""
        while not self.at_end():
            at, self._at = self._at, len(self._held)
            yield memoryview(self._held)[at:]

    def starts_with(self, mark: bytes) -> bool:
        """Whether a mark comes next; it is not drawn."""
        while len(self._held) - self._at < len(mark) and self._more():
            pass
        return self._held.startswith(mark, self._at)

    def at_end(self) -> bool:
        """Whether nothing is left."""
        while self._at == len(self._held):
            if not self._more():
                return True
        return False

    def skip(self, size: int) -> None:
        """Draw bytes that were seen."""
        self._at += size

    def give_back(self, size: int) -> None:
        """Have the last bytes of a mark come once more."""
        self._at -= size

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._held = self._held[self._at :] + chunk
        self._at = 0
        return True
