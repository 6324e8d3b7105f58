"""The header reader: every element of a DICOM object up to and after its pixels, as raw bytes, fast.

A walk over tag, VR and length (PS3.5 section 7.1) that copies value fields and converts nothing.
It follows pydicom where files break the standard: items and elements that switch to implicit VR,
UN of undefined length read as an implicit VR sequence (PS3.5 6.2.2), unknown VRs with a short length.
What an object claims is never believed: lengths are checked against the bytes that are there, so a
walk ends, allocates no more than the object holds, and stops at `MAX_DEPTH` nested sequences.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, Protocol

from dicomlake.dicom import standard, values
from dicomlake.errors import BrokenObject, NotADicomObject

Raw = tuple[str, bytes]  # VR, value field; a plain tuple because one is made for each element

# First four bytes of a run of elements -> all its bytes, and what they parse to.
_Runs = dict[bytes, tuple[bytes, dict[int, Raw]]]

MAX_DEPTH = 32  # nesting beyond any real object; deeper ones are refused
BULK = 1 << 20  # values longer than this are located, not copied
WINDOW = 1 << 14  # first read of an object that is not in memory
MAX_WINDOW = 1 << 28  # the longest element of undefined length that is followed to its end
MAX_INFLATED = 1 << 26  # bytes of a deflated data set that are looked at
UNDEFINED = 0xFFFFFFFF

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

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
_SERIES = 0x0020000E
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = (b"\xfe\xff\x0d\xe0", b"\xff\xfe\xe0\x0d")  # of an item, in either byte order
_EXPLICIT = {False: Struct("<HH2sH").unpack_from, True: Struct(">HH2sH").unpack_from}
_IMPLICIT = {False: Struct("<HHL").unpack_from, True: Struct(">HHL").unpack_from}
_LENGTH = {False: Struct("<L").unpack_from, True: Struct(">L").unpack_from}


class Readable(Protocol):
    """Bytes that are read by range, such as a file too large to hold."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from start up to stop."""


class Encoding(NamedTuple):
    """How elements are written: implicit or explicit VR, byte order."""

    implicit: bool
    big_endian: bool


class PixelData(NamedTuple):
    """Where the pixels lie: the first of the elements 7FE0,0008/0009/0010.

    offset and end are bytes from the start of the object (of the inflated data set when deflated);
    length is None for encapsulated pixels.
    """

    tag: int
    vr: str
    offset: int
    length: int | None
    end: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """Elements of a data set or an item, raw, with what is needed to convert them.

    elements: tag -> (VR, value field) in the order of the file.
    charset: the terms of SpecificCharacterSet in force.
    signed: PixelRepresentation is 1; decides "US or SS".
    """

    elements: dict[int, Raw]
    encoding: Encoding
    charset: tuple[str, ...] = ()
    signed: bool = False

    def _raw(self, key: int | str) -> Raw | None:
        tag = standard.tag_of(key) if isinstance(key, str) else key
        return self.elements.get(tag) if tag is not None else None

    def __contains__(self, key: int | str) -> bool:
        return self._raw(key) is not None

    def vr(self, tag: int) -> str:
        """The VR of an element: as written, else by the dictionary, else by its private creator's."""
        vr = self.elements[tag][0]
        if vr == "UN":
            vr = self._known_vr(tag)
        return values.resolve_vr(vr, self.signed)

    def _known_vr(self, tag: int) -> str:
        if tag & 0x00010000 == 0:
            return standard.vr_of(tag)
        creator = self.creator(tag)
        return (creator and standard.private_vr(creator, tag)) or standard.vr_of(tag)

    def creator(self, tag: int) -> str | None:
        """The private creator that reserved the block of a private tag (PS3.5 7.8.1), or None."""
        raw = self.elements.get((tag & 0xFFFF0000) | (tag >> 8 & 0xFF))
        if raw is None or tag & 0xFF00 == 0:
            return None
        found = values.texts("LO", raw[1], self.charset)
        return found[0] if found else None

    def texts(self, key: int | str) -> tuple[str, ...]:
        """All values of an element as text; empty when it is absent, empty or bulk."""
        raw = self._raw(key)
        if raw is None:
            return ()
        tag = standard.tag_of(key) if isinstance(key, str) else key
        return values.texts(self.vr(tag or 0), raw[1], self.charset, self.encoding.big_endian)

    def text(self, key: int | str) -> str | None:
        """The first value as text, None when there is none."""
        found = self.texts(key)
        return found[0] if found else None

    def numbers(self, key: int | str) -> tuple[float, ...]:
        """All values as numbers; empty when absent or when any is not a number."""
        raw = self._raw(key)
        if raw is None:
            return ()
        tag = standard.tag_of(key) if isinstance(key, str) else key
        return values.numbers(self.vr(tag or 0), raw[1], self.encoding.big_endian)

    def number(self, key: int | str) -> float | None:
        """The first value as a number, None when there is none."""
        found = self.numbers(key)
        return found[0] if found else None

    def items(self, key: int | str) -> tuple[Attributes, ...]:
        """The items of a sequence; empty when absent. Raises BrokenObject when it cannot be read."""
        raw = self._raw(key)
        if raw is None:
            return ()
        encoding = Encoding(True, False) if raw[0] == "UN" else self.encoding
        return tuple(self._items(raw[1], encoding))

    def _items(self, raw: bytes, encoding: Encoding) -> Iterator[Attributes]:
        for elements, found in read_items(raw, encoding):
            charset = _charset(elements) if 0x00080005 in elements else self.charset
            yield Attributes(elements, found, charset, self.signed)


@dataclass(frozen=True, slots=True)
class Header:
    """A DICOM object without its pixels.

    meta: the File Meta Information, empty when the object has none.
    dataset: the elements, without the pixels themselves.
    dataset_offset: where the data set begins, in bytes.
    problems: what was wrong, in words without values; the elements are right all the same.
    """

    meta: Attributes
    dataset: Attributes
    transfer_syntax: str
    dataset_offset: int
    pixels: PixelData | None
    problems: tuple[str, ...] = ()


class _Short(Exception):
    """The window ends inside the element at `start`, which ends at `need` or beyond.

    bulk: its value is not wanted, the walk may go on at `need`.
    """

    def __init__(self, start: int, need: int, *, bulk: bool = False) -> None:
        self.start = start
        self.need = need
        self.bulk = bulk


class _Pixels(Exception):
    """The walk has reached pixel data whose value field begins at `at`."""

    def __init__(self, tag: int, vr: str, at: int, length: int) -> None:
        self.tag, self.vr, self.at, self.length = tag, vr, at, length


class _Bytes:
    """Bytes in memory as a Readable."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self.data[start:stop] if start or stop is not None else self.data


def read_header(source: bytes | Readable) -> Header:
    """All elements of a DICOM object but the pixels, which are located.

    source: the whole object, or something to read it from by range (then only the header is read).
    Raises NotADicomObject when the bytes hold no data set, BrokenObject when they begin as one and
    make no sense. A value field that is cut off is left out and named in `problems`.
    """
    return HeaderReader().read(source)


class HeaderReader:
    """Reads headers one after another and uses that those of a series repeat each other.

    Between two headers of one series most elements are equal, byte for byte. The reader keeps the runs
    of equal elements; where the next header continues with such a run, one comparison takes it whole,
    and the elements are shared with the header before. What differs is walked. Elements at the top
    level parse alike wherever they stand, so the result is that of `read_header`, object for object.
    One reader serves one thread.
    """

    def __init__(self) -> None:
        self._runs: _Runs = {}
        self._encoding: Encoding | None = None
        self._last: Attributes | None = None

    def read(self, source: bytes | Readable) -> Header:
        """As `read_header`."""
        readable = _Bytes(source) if isinstance(source, bytes) else source
        window = readable.read() if isinstance(readable, _Bytes) else readable.read(0, WINDOW)
        problems: list[str] = []
        meta: dict[int, Raw] = {}
        begin = _read_meta(readable, window, _start(window), meta)
        meta_attributes = Attributes(meta, Encoding(False, False))
        syntax = meta_attributes.text(0x00020010)
        first = begin
        if syntax == DEFLATED:
            readable = _inflate(readable, begin, problems)
            window, first = readable.data, 0
        encoding = _encoding(readable.read(first, first + 8), syntax, problems)
        elements: dict[int, Raw] = {}
        walk = _Walk(encoding, elements, self._runs if encoding == self._encoding else {})
        pixels = _read_elements(readable, window, first, walk, problems)
        if not elements and pixels is None:
            raise NotADicomObject("no data element follows the start of the object: not DICOM, or cut off")
        dataset = Attributes(elements, encoding, _charset(elements), _signed(elements))
        self._learn(dataset, window, first, len(walk.marks))
        return Header(meta_attributes, dataset, syntax or _assumed(encoding), begin, pixels, tuple(problems))

    def _learn(self, dataset: Attributes, window: bytes, first: int, walked: int) -> None:
        """Keep the runs that this header shares with the one before, when both are of one series."""
        before, self._last = self._last, dataset
        elements = dataset.elements
        if before is None or walked * 2 < len(elements) or before.encoding != dataset.encoding:
            return
        if before.elements.get(_SERIES) == elements.get(_SERIES):
            self._runs = _equal_runs(before.elements, window, first, dataset.encoding)
            self._encoding = dataset.encoding


def _equal_runs(before: dict[int, Raw], window: bytes, first: int, encoding: Encoding) -> _Runs:
    """The runs of elements in the window that are also, equal, in the header before."""
    walk = _Walk(encoding, {}, {})
    with suppress(_Short, _Pixels):
        walk.take(window, first, len(window))
    tags, marks = list(walk.out), walk.marks
    if len(tags) != len(marks):  # a tag occurs twice: no telling which mark is whose
        return {}
    runs: _Runs = {}
    begin: int | None = None
    for i, tag in enumerate(tags):
        if before.get(tag) == walk.out[tag]:
            begin = i if begin is None else begin
        elif begin is not None:
            _add_run(runs, window, tags, marks, begin, i, walk.out)
            begin = None
    if begin is not None:  # the end of the last element is unknown here: leave it out
        _add_run(runs, window, tags, marks, begin, len(tags) - 1, walk.out)
    return runs


def _add_run(
    runs: _Runs, window: bytes, tags: list[int], marks: list[int], begin: int, end: int, out: dict[int, Raw]
) -> None:
    if end - begin > 1:
        blob = window[marks[begin] : marks[end]]
        runs[blob[:4]] = (blob, {tag: out[tag] for tag in tags[begin:end]})


def read_items(raw: bytes, encoding: Encoding) -> Iterator[tuple[dict[int, Raw], Encoding]]:
    """The items of a sequence's value field: elements and encoding of each (PS3.5 section 7.5)."""
    p, end = 0, len(raw)
    while p + 8 <= end:
        group, element, length = _IMPLICIT[encoding.big_endian](raw, p)
        tag = group << 16 | element
        p += 8
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise BrokenObject("a sequence holds something that is no item")
        stop = end if length == UNDEFINED else min(p + length, end)
        found = _item_encoding(raw, p, encoding)
        elements: dict[int, Raw] = {}
        behind = _read_item(raw, p, stop, _Walk(found, elements, {}))
        p = behind if length == UNDEFINED else stop
        yield elements, found


def _read_item(raw: bytes, p: int, stop: int, walk: _Walk) -> int:
    while True:
        try:
            return walk.take(raw, p, stop)
        except _Pixels as found:  # an icon image: its pixels are a value like any other
            p = _end_of_value(raw, found, walk.encoding)
            walk.out[found.tag] = (found.vr, raw[found.at : p])
            if p <= stop:
                continue
        except _Short:
            pass
        raise BrokenObject("an item of a sequence is cut off")


def _start(head: bytes) -> int:
    """Where the File Meta Information or, without one, the data set begins (PS3.10 section 7.1)."""
    if head[128:132] == b"DICM":
        return 132
    if head[:4] == b"DICM":
        return 4
    if len(head) < 8:
        raise NotADicomObject(f"{len(head)} bytes are too few for a DICOM object")
    return 0


def _read_meta(readable: Readable, window: bytes, start: int, meta: dict[int, Raw]) -> int:
    """Take the elements of group 0002, Explicit VR Little Endian; return where the data set begins.

    Ends where the group ends, not where (0002,0000) claims: writers get that wrong.
    """
    p = start
    while window[p : p + 2] == b"\x02\x00":
        try:
            p = _take_one(window, p, meta)
        except _Short as short:
            if len(window) >= readable.size:
                raise BrokenObject("the File Meta Information is cut off") from short
            window = readable.read(0, max(short.need, 2 * len(window)))
    return p


def _take_one(window: bytes, p: int, into: dict[int, Raw]) -> int:
    """Take the single explicit VR element at p; return the position behind it."""
    if p + 12 > len(window):
        raise _Short(p, p + 12)
    group, element, vr, length = _EXPLICIT[False](window, p)
    q: int = p + 8
    name = _SHORT.get(vr)
    if name is None:
        length = int(_LENGTH[False](window, q if vr in _LONG else p + 4)[0])
        q += 4 if vr in _LONG else 0  # otherwise written in implicit VR, against PS3.10 7.1
        name = _LONG.get(vr) or standard.vr_of(group << 16 | element)
    if q + length > len(window):
        raise _Short(p, q + length)
    stop: int = q + length
    into[group << 16 | element] = (name, window[q:stop])
    return stop


def _encoding(head: bytes, syntax: str | None, problems: list[str]) -> Encoding:
    """The encoding that the transfer syntax names, corrected by what the first element looks like."""
    big = syntax == EXPLICIT_BIG or (syntax is None and _looks_big_endian(head))
    implicit = _looks_implicit(head, 0) if len(head) >= 6 else syntax == IMPLICIT_LITTLE
    if syntax is not None and len(head) >= 6 and implicit != (syntax == IMPLICIT_LITTLE):
        found = "implicit" if implicit else "explicit"
        problems.append(f"the transfer syntax does not say so, but elements are written in {found} VR")
    return Encoding(implicit, big)


def _looks_implicit(b: bytes, p: int) -> bool:
    vr = b[p + 4 : p + 6]
    return not (len(vr) == 2 and 0x40 < vr[0] < 0x5B and 0x40 < vr[1] < 0x5B)


def _looks_big_endian(head: bytes) -> bool:
    """Without a transfer syntax: a first group above 0x0400 in little endian is a small one in big endian."""
    return len(head) >= 2 and int.from_bytes(head[:2], "little") >= 0x0400


def _assumed(encoding: Encoding) -> str:
    if encoding.implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if encoding.big_endian else EXPLICIT_LITTLE


def _inflate(readable: Readable, begin: int, problems: list[str]) -> _Bytes:
    """The inflated data set, as far as MAX_INFLATED bytes (PS3.5 A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out, position = bytearray(), begin
    try:
        while position < readable.size and not inflater.eof and len(out) < MAX_INFLATED:
            chunk = inflater.unconsumed_tail or readable.read(position, position + WINDOW)
            if not inflater.unconsumed_tail:
                position += len(chunk)
            out += inflater.decompress(chunk, MAX_INFLATED - len(out))
    except zlib.error:
        problems.append("the deflated data set is damaged")
    return _Bytes(bytes(out))


def _charset(elements: dict[int, Raw]) -> tuple[str, ...]:
    raw = elements.get(0x00080005)
    return values.texts("CS", raw[1]) if raw else ()


def _signed(elements: dict[int, Raw]) -> bool:
    """PixelRepresentation, read without its VR: which VR it has is what it decides for others."""
    raw = elements.get(0x00280103)
    return raw is not None and raw[1].strip(b"\0 ") != b""


def _read_elements(
    readable: Readable, window: bytes, first: int, walk: _Walk, problems: list[str]
) -> PixelData | None:
    """Walk from first to the end of the object, window by window; return where the pixels lie.

    window: the bytes of the object from its start.
    """
    base, p, size = 0, first, readable.size
    pixels: PixelData | None = None
    while True:
        try:
            walk.take(window, p, len(window))
            resume, reach = base + len(window), 1
            if resume >= size:
                return pixels
        except _Pixels as found:
            located = _locate(readable, base + found.at, found, walk.encoding.big_endian, problems)
            pixels = pixels or located
            resume, reach = located.end, 1
        except _Short as short:
            if base + short.need > size:
                problems.append(_cut_off(window, short.start, walk.encoding.big_endian))
                return pixels
            skipped = short.bulk
            resume = base + (short.need if skipped else short.start)
            reach = 1 if skipped else short.need - short.start
        if reach > MAX_WINDOW:
            raise BrokenObject(f"an element of undefined length does not end within {MAX_WINDOW >> 20} MiB")
        if base <= resume < base + len(window) and resume + reach <= base + len(window):
            p = resume - base
        else:
            base, p, walk.runs = resume, 0, {}
            window = readable.read(resume, resume + max(WINDOW, 2 * reach))


def _cut_off(window: bytes, start: int, big_endian: bool) -> str:
    if start + 8 > len(window):
        return "the object ends inside an element"
    group, element, _ = _IMPLICIT[big_endian](window, start)
    return f"the object ends inside ({group:04X},{element:04X}), which is left out"


def _locate(
    readable: Readable, offset: int, found: _Pixels, big_endian: bool, problems: list[str]
) -> PixelData:
    if found.length == UNDEFINED:
        end = _end_of_fragments(readable, offset, big_endian)
        length = None
    else:
        end, length = offset + found.length, found.length
    if end > readable.size:
        problems.append("the pixel data are cut off")
        end = readable.size
    return PixelData(found.tag, found.vr, offset, length, end)


def _end_of_fragments(readable: Readable, p: int, big_endian: bool) -> int:
    """Behind the sequence delimiter of encapsulated pixels (PS3.5 A.4); size + 1 when it is missing."""
    while True:
        head = readable.read(p, p + 8)
        if len(head) < 8:
            return readable.size + 1
        group, element, length = _IMPLICIT[big_endian](head, 0)
        tag = group << 16 | element
        p += 8
        if tag == _SEQUENCE_END:
            return p
        if tag != _ITEM or length == UNDEFINED:
            return readable.size + 1
        p += length


class _Walk:
    """Takes elements one after another into `out`.

    marks: where each walked element began, counted from the window's start; elements that came with a
    run leave no mark.
    """

    __slots__ = ("depth", "encoding", "marks", "out", "runs")

    def __init__(self, encoding: Encoding, out: dict[int, Raw], runs: _Runs, depth: int = 0) -> None:
        self.encoding = encoding
        self.out = out
        self.runs = runs
        self.marks: list[int] = []
        self.depth = depth

    def take(self, b: bytes, p: int, end: int) -> int:
        """Take the elements from p up to end or an item delimiter; return the position behind them.

        Raises _Short when the bytes end inside an element, _Pixels when pixel data are reached: what
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
                        raise _Short(p, q + 4)
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
                raise _Short(p, stop)
            mark(p)
            out[tag] = (vr, b[q:stop])
            p = stop
        if p < end:
            raise _Short(p, p + 8)
        return p

    def _implicit(self, b: bytes, p: int, end: int) -> int:
        unpack = _IMPLICIT[self.encoding.big_endian]
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
                raise _Short(p, stop)
            mark(p)
            out[tag] = (vr, b[q:stop])
            p = stop
        if p < end:
            raise _Short(p, p + 8)
        return p

    def _unusual(self, b: bytes, p: int, q: int, end: int, tag: int, vr: str, length: int) -> int:
        """Pixels, an undefined length, or a value too long to copy; return the position behind it."""
        if tag in _PIXELS:
            raise _Pixels(tag, values.resolve_vr(vr, False), q, length)
        if length == UNDEFINED:
            stop = self._end_of_undefined(b, p, q, end, vr)
            self.marks.append(p)
            self.out[tag] = (vr, b[q : stop - 8])
            return stop
        self.marks.append(p)
        if vr == "SQ":
            if q + length > end:
                raise _Short(p, q + length)
            self.out[tag] = (vr, b[q : q + length])
            return q + length
        self.out[tag] = (vr, b"")
        if q + length > end:
            raise _Short(p, q + length, bulk=True)
        return q + length

    def _end_of_undefined(self, b: bytes, p: int, q: int, end: int, vr: str) -> int:
        """Behind the delimiter of the element at p, whose value of undefined length begins at q."""
        big = self.encoding.big_endian
        if vr in ("SQ", "UN"):
            inner = self.encoding if vr == "SQ" else Encoding(True, big)
            try:
                return _end_of_sequence(b, q, end, inner, self.depth + 1)
            except _Short as short:
                raise _Short(p, max(short.need, end + 1)) from None
        stop = _end_of_fragments(_Bytes(b), q, big)
        if stop > end:
            raise _Short(p, end + 1)
        return stop


def _end_of_sequence(b: bytes, p: int, end: int, encoding: Encoding, depth: int) -> int:
    """Behind the delimiter of a sequence of undefined length whose first item begins at p."""
    if depth > MAX_DEPTH:
        raise BrokenObject(f"sequences are nested deeper than {MAX_DEPTH}")
    unpack = _IMPLICIT[encoding.big_endian]
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
    raise _Short(p, p + 8)


def _item_encoding(b: bytes, p: int, encoding: Encoding) -> Encoding:
    """Items may be written in implicit VR inside an explicit VR data set; some writers do."""
    if encoding.implicit or b[p : p + 4] in _DELIMITERS or not _looks_implicit(b, p):
        return encoding
    return Encoding(True, encoding.big_endian)


def _end_of_item(b: bytes, p: int, end: int, encoding: Encoding, depth: int) -> int:
    walk = _Walk(encoding, {}, {}, depth)
    while True:
        try:
            stop = walk.take(b, p, end)
        except _Pixels as found:
            p = _end_of_value(b, found, encoding)
            if p > end:
                raise _Short(found.at, p) from None
            continue
        if b[stop - 8 : stop - 4] not in _DELIMITERS:
            raise _Short(p, end + 8)
        return stop


def _end_of_value(b: bytes, found: _Pixels, encoding: Encoding) -> int:
    if found.length == UNDEFINED:
        return _end_of_fragments(_Bytes(b), found.at, encoding.big_endian)
    return found.at + found.length
