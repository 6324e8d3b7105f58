"""A DICOM file as it comes: its File Meta Information, then its data set in pieces (PS3.10 section 7.1)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import chain

from dicomlake.dicom.headers import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE
from dicomlake.dicom.walk import Encoding, PixelsReached, Raw, Short, Walk, looks_implicit, take_one
from dicomlake.errors import BrokenObject, NotADicomObject

_PREAMBLE = 132
_WINDOW = 1 << 12  # bytes of a data set that are looked at first
SOP_CLASS, SOP_INSTANCE, STUDY = 0x00080016, 0x00080018, 0x0020000D


class File:
    """What the File Meta Information says, UIDs that it does not hold empty; and the data set in `pieces`."""

    def __init__(self, meta: dict[int, Raw], pieces: Iterator[memoryview]) -> None:
        self.sop_class_uid = _uid(meta, 0x00020002)
        self.sop_instance_uid = _uid(meta, 0x00020003)
        self.transfer_syntax = _uid(meta, 0x00020010)
        self.pieces = pieces

    def look(self, tag: int, *, most: int) -> dict[int, str]:
        """The identifiers of the data set up to `tag`; as much of the data set is held, `most` bytes at most.

        Nothing of a data set that makes no sense: whoever stores it has to say what is wrong.
        """
        held, window, more = b"", _WINDOW, True
        found: dict[int, Raw] = {}
        while True:
            held = _filled(held, self.pieces, window) if more else held
            more = len(held) >= window
            try:
                found, enough, need = _walked(held[:window], self.transfer_syntax, tag)
            except (BrokenObject, zlib.error):
                enough, need = True, 0
            if enough or not more or window >= most:
                break
            window = min(most, max(need, 4 * window))
        self.pieces = chain((memoryview(held),) if held else (), self.pieces)
        return {tag: _uid(found, tag) for tag in (SOP_CLASS, SOP_INSTANCE, STUDY) if tag in found}


def read_file(pieces: Iterator[memoryview], *, meta_bytes: int = 1 << 20) -> File:
    """A DICOM file, read up to its data set.

    meta_bytes: of the File Meta Information, at most.
    Raises NotADicomObject, or BrokenObject when the File Meta Information is cut off.
    """
    head = _filled(b"", pieces, _PREAMBLE)
    at = _start(head)
    meta: dict[int, Raw] = {}
    while (head := _filled(head, pieces, at + 8))[at : at + 2] == b"\x02\0":
        try:
            at = take_one(head, at, meta)
        except Short as short:
            if short.need > meta_bytes:
                raise BrokenObject("the File Meta Information is longer than any sane one") from short
            before, head = len(head), _filled(head, pieces, short.need)
            if len(head) == before:
                raise BrokenObject("the File Meta Information is cut off") from short
        if at > meta_bytes:
            raise BrokenObject("the File Meta Information is longer than any sane one")
    rest = memoryview(head)[at:]
    return File(meta, chain((rest,) if rest else (), pieces))


def _start(head: bytes) -> int:
    """Where the File Meta Information begins: pydicom, so dicomweb-client too, may leave the preamble out."""
    if head[128:132] == b"DICM":
        return 132
    if head[:4] == b"DICM":
        return 4
    if head[:2] == b"\x02\0" and head[4:6] in (b"UL", b"OB", b"UI"):
        return 0
    raise NotADicomObject("no DICOM file: the prefix DICM of PS3.10 section 7.1 is missing")


def _walked(held: bytes, syntax: str, tag: int) -> tuple[dict[int, Raw], bool, int]:
    """The elements that are there; whether those up to the tag are; how many bytes would show more."""
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(held, 1 << 24) if syntax == DEFLATED else held
    found: dict[int, Raw] = {}
    if len(data) < 8:
        return found, False, 0
    implicit = looks_implicit(data, 0)
    walk = Walk(Encoding(implicit, syntax == EXPLICIT_BIG and syntax != IMPLICIT_LITTLE), found, {})
    need = 0
    try:
        walk.take(data, 0, len(data))
    except PixelsReached:
        return found, True, 0
    except Short as short:
        need = short.need
    return found, bool(found) and max(found) >= tag, need


def _uid(elements: dict[int, Raw], tag: int) -> str:
    return elements[tag][1].strip(b"\0 ").decode("latin-1") if tag in elements else ""


def _filled(head: bytes, pieces: Iterator[memoryview], size: int) -> bytes:
    """More of the file, up to a length, where there is more."""
    if len(head) >= size:
        return head
    parts, length = [head], len(head)
    for piece in pieces:
        parts.append(bytes(piece))
        length += len(piece)
        if length >= size:
            break
    return b"".join(parts)
