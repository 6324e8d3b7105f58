"""The walk over the elements of a data set: tag, VR, length, value field (PS3.5 section 7).

It copies value fields and converts nothing. It follows pydicom where files break the standard: items
and elements that switch to implicit VR, UN of undefined length read as an implicit VR sequence
(PS3.5 6.2.2), unknown VRs with a short length. What an object claims is never believed: lengths are
checked against the bytes that are there, so a walk ends, allocates no more than the object holds, and
stops at `MAX_DEPTH` nested sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, Protocol

from dicomlake.dicom import standard, values
from dicomlake.errors import BrokenObject

Raw = tuple[str, bytes]  # VR, value field; a plain tuple because one is made for each element

# First four bytes of a run of elements -> all its bytes, and what they parse to.
Runs = dict[bytes, tuple[bytes, dict[int, Raw]]]

MAX_DEPTH = 32  # nesting beyond any real object; deeper ones are refused
BULK = 1 << 20  # values longer than this are located, not copied
UNDEFINED = 0xFFFFFFFF

_LONG = {
    vr.encode(): vr for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
}
_SHORT = {
    vr.encode(): vr
    for vr in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
}
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = (b"\xfe\xff\x0d\xe0", b"\xff\xfe\xe0\x0d")  # of an item, in either byte order
_EXPLICIT = {False: Struct("<HH2sH").unpack_from, True: Struct(">HH2sH").unpack_from}
_LENGTH = {False: Struct("<L").unpack_from, True: Struct(">L").unpack_from}
TAG_AND_LENGTH = {False: Struct("<HHL").unpack_from, True: Struct(">HHL").unpack_from}  # by big_endian


class Readable(Protocol):
    """Bytes that are read by range, such as a file too large to hold."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from start up to stop."""


class InMemory:
    """Bytes in memory as a Readable."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self.data[start:stop] if start or stop is not None else self.data


class Encoding(NamedTuple):
    """How elements are written: implicit or explicit VR, byte order."""

    implicit: bool
    big_endian: bool


class Short(Exception):
    """The window ends inside the element at `start`, which ends at `need` or beyond.

    bulk: its value is not wanted, the walk may go on at `need`.
    """

    def __init__(self, start: int, need: int, *, bulk: bool = False) -> None:
        self.start = start
        self.need = need
        self.bulk = bulk


class PixelsReached(Exception):
    """The walk has reached pixel data whose value field begins at `at`."""

    def __init__(self, tag: int, vr: str, at: int, length: int) -> None:
        self.tag, self.vr, self.at, self.length = tag, vr, at, length


class Walk:
    """Takes elements one after another into `out`.

    marks: where each walked element began, counted from the window's start; elements that came with a
    run leave no mark.
    """

    __slots__ = ("depth", "encoding", "marks", "out", "runs")

    def __init__(self, encoding: Encoding, out: dict[int, Raw], runs: Runs, depth: int = 0) -> None:
        self.encoding = encoding
        self.out = out
        self.runs = runs
        self.marks: list[int] = []
        self.depth = depth

    def take(self, b: bytes, p: int, end: int) -> int:
        """Take the elements from p up to end or an item delimiter; return the position behind them.

        Raises Short when the bytes end inside an element, PixelsReached when pixel data are reached: what
        was taken before stays in `out`, and the caller resumes behind.
        """
        return self._implicit(b, p, end) if self.encoding.implicit else self._explicit(b, p, end)

    def _explicit(self, b: bytes, p: int, end: int) -> int:
        # Every name is local and every test in the order of likelihood: this loop is the ingest.
        big = self.encoding.big_endian
        unpack, unpack_length, short_vr, long_vr = _EXPLICIT[big], _LENGTH[big], _SHORT.get, _LONG.get
        out, runs, mark = self.out, self.runs, self.marks.append
        last = end - 8
        while p <= last:
            if runs:
                run = runs.get(b[p : p + 4])
                if run is not None and b.startswith(run[0], p):
                    out.update(run[1])
                    p += len(run[0])
                    continue
            group, element, code, length = unpack(b, p)
            tag = group << 16 | element
            q = p + 8
            vr = short_vr(code)
            if vr is None:
                vr = long_vr(code)
                if vr is not None:
                    if q + 4 > end:
                        raise Short(p, q + 4)
                    length = unpack_length(b, q)[0]
                    q += 4
                elif tag == _ITEM_END:
                    return q
                elif code.isalpha() and code.isupper():
                    vr = code.decode("ascii")  # unknown to PS3.5: taken with a short length
                else:  # one element that switches to implicit VR
                    vr, length = standard.vr_of(tag), unpack_length(b, p + 4)[0]
            if length > BULK or tag in _PIXELS:
                p = self._unusual(b, p, q, end, tag, vr, length)
                continue
            stop = q + length
            if stop > end:
                raise Short(p, stop)
            mark(p)
            out[tag] = (vr, b[q:stop])
            p = stop
        if p < end:
            raise Short(p, p + 8)
        return p

    def _implicit(self, b: bytes, p: int, end: int) -> int:
        unpack = TAG_AND_LENGTH[self.encoding.big_endian]
        out, runs, mark = self.out, self.runs, self.marks.append
        known, vr_of = standard.elements().get, standard.vr_of
        last = end - 8
        while p <= last:
            if runs:
                run = runs.get(b[p : p + 4])
                if run is not None and b.startswith(run[0], p):
                    out.update(run[1])
                    p += len(run[0])
                    continue
            group, element, length = unpack(b, p)
            tag = group << 16 | element
            q = p + 8
            entry = known(tag)
            vr = entry[0] if entry else vr_of(tag)
            if length > BULK or tag in _PIXELS:
                p = self._unusual(b, p, q, end, tag, vr, length)
                continue
            if tag == _ITEM_END:
                return q
            stop = q + length
            if stop > end:
                raise Short(p, stop)
            mark(p)
            out[tag] = (vr, b[q:stop])
            p = stop
        if p < end:
            raise Short(p, p + 8)
        return p

    def _unusual(self, b: bytes, p: int, q: int, end: int, tag: int, vr: str, length: int) -> int:
        """Pixels, an undefined length, or a value too long to copy; return the position behind it."""
        if tag in _PIXELS:
            raise PixelsReached(tag, values.resolve_vr(vr, False), q, length)
        if length == UNDEFINED:
            stop = self._end_of_undefined(b, p, q, end, vr)
            self.marks.append(p)
            self.out[tag] = (vr, b[q : stop - 8])
            return stop
        self.marks.append(p)
        if vr == "SQ":
            if q + length > end:
                raise Short(p, q + length)
            self.out[tag] = (vr, b[q : q + length])
            return q + length
        self.out[tag] = (vr, b"")
        if q + length > end:
            raise Short(p, q + length, bulk=True)
        return q + length

    def _end_of_undefined(self, b: bytes, p: int, q: int, end: int, vr: str) -> int:
        """Behind the delimiter of the element at p, whose value of undefined length begins at q."""
        big = self.encoding.big_endian
        if vr in ("SQ", "UN"):
            inner = self.encoding if vr == "SQ" else Encoding(True, big)
            try:
                return _end_of_sequence(b, q, end, inner, self.depth + 1)
            except Short as short:
                raise Short(p, max(short.need, end + 1)) from None
        stop = end_of_fragments(InMemory(b), q, big)
        if stop > end:
            raise Short(p, end + 1)
        return stop


def take_one(window: bytes, p: int, into: dict[int, Raw]) -> int:
    """Take the single explicit VR element at p; return the position behind it."""
    if p + 12 > len(window):
        raise Short(p, p + 12)
    group, element, vr, length = _EXPLICIT[False](window, p)
    q: int = p + 8
    name = _SHORT.get(vr)
    if name is None:
        length = int(_LENGTH[False](window, q if vr in _LONG else p + 4)[0])
        q += 4 if vr in _LONG else 0  # otherwise written in implicit VR, against PS3.10 7.1
        name = _LONG.get(vr) or standard.vr_of(group << 16 | element)
    if q + length > len(window):
        raise Short(p, q + length)
    stop: int = q + length
    into[group << 16 | element] = (name, window[q:stop])
    return stop


def looks_implicit(b: bytes, p: int) -> bool:
    """Whether the element at p has no VR: two capital letters are one, as no sane length looks like that."""
    vr = b[p + 4 : p + 6]
    return not (len(vr) == 2 and 0x40 < vr[0] < 0x5B and 0x40 < vr[1] < 0x5B)


def _end_of_sequence(b: bytes, p: int, end: int, encoding: Encoding, depth: int) -> int:
    """Behind the delimiter of a sequence of undefined length whose first item begins at p."""
    if depth > MAX_DEPTH:
        raise BrokenObject(f"sequences are nested deeper than {MAX_DEPTH}")
    unpack = TAG_AND_LENGTH[encoding.big_endian]
    while p + 8 <= end:
        group, element, length = unpack(b, p)
        tag = group << 16 | element
        p += 8
        if tag == _SEQUENCE_END:
            return p
        if tag != _ITEM:
            raise BrokenObject("a sequence holds something that is no item")
        if length == UNDEFINED:
            p = _end_of_item(b, p, end, _item_encoding(b, p, encoding), depth)
        else:
            p += length
    raise Short(p, p + 8)


def _item_encoding(b: bytes, p: int, encoding: Encoding) -> Encoding:
    """Items may be written in implicit VR inside an explicit VR data set; some writers do."""
    if encoding.implicit or b[p : p + 4] in _DELIMITERS or not looks_implicit(b, p):
        return encoding
    return Encoding(True, encoding.big_endian)


def _end_of_item(b: bytes, p: int, end: int, encoding: Encoding, depth: int) -> int:
    walk = Walk(encoding, {}, {}, depth)
    while True:
        try:
            stop = walk.take(b, p, end)
        except PixelsReached as found:
            p = _end_of_value(b, found, encoding)
            if p > end:
                raise Short(found.at, p) from None
            continue
        if b[stop - 8 : stop - 4] not in _DELIMITERS:
            raise Short(p, end + 8)
        return stop


def _end_of_value(b: bytes, found: PixelsReached, encoding: Encoding) -> int:
    if found.length == UNDEFINED:
        return end_of_fragments(InMemory(b), found.at, encoding.big_endian)
    return found.at + found.length


def end_of_fragments(readable: Readable, p: int, big_endian: bool) -> int:
    """Behind the sequence delimiter of encapsulated pixels (PS3.5 A.4); size + 1 when it is missing."""
    while True:
        head = readable.read(p, p + 8)
        if len(head) < 8:
            return readable.size + 1
        group, element, length = TAG_AND_LENGTH[big_endian](head, 0)
        tag = group << 16 | element
        p += 8
        if tag == _SEQUENCE_END:
            return p
        if tag != _ITEM or length == UNDEFINED:
            return readable.size + 1
        p += length


def read_items(raw: bytes, encoding: Encoding) -> Iterator[tuple[dict[int, Raw], Encoding]]:
    """The items of a sequence's value field: elements and encoding of each (PS3.5 section 7.5)."""
    p, end = 0, len(raw)
    while p + 8 <= end:
        group, element, length = TAG_AND_LENGTH[encoding.big_endian](raw, p)
        tag = group << 16 | element
        p += 8
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise BrokenObject("a sequence holds something that is no item")
        stop = end if length == UNDEFINED else min(p + length, end)
        found = _item_encoding(raw, p, encoding)
        elements: dict[int, Raw] = {}
        behind = _read_item(raw, p, stop, Walk(found, elements, {}))
        p = behind if length == UNDEFINED else stop
        yield elements, found


def _read_item(raw: bytes, p: int, stop: int, walk: Walk) -> int:
    while True:
        try:
            return walk.take(raw, p, stop)
        except PixelsReached as found:  # an icon image: its pixels are a value like any other
            p = _end_of_value(raw, found, walk.encoding)
            walk.out[found.tag] = (found.vr, raw[found.at : p])
            if p <= stop:
                continue
        except Short:
            pass
        raise BrokenObject("an item of a sequence is cut off")
