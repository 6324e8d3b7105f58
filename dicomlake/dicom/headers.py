"""The header reader: every element of a DICOM object up to and after its pixels, as raw bytes, fast.

Objects are read in windows, so one too large to hold costs no more than its header. Between the headers
of a series, what repeats is compared instead of walked.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from dicomlake.dicom.attributes import Attributes, charset_of
from dicomlake.dicom.walk import (
    TAG_AND_LENGTH,
    UNDEFINED,
    Encoding,
    InMemory,
    PixelsReached,
    Raw,
    Readable,
    Runs,
    Short,
    Walk,
    end_of_fragments,
    looks_implicit,
    take_one,
)
from dicomlake.errors import BrokenObject, NotADicomObject

WINDOW = 1 << 14  # first read of an object that is not in memory
MAX_WINDOW = 1 << 28  # the longest element of undefined length that is followed to its end
MAX_INFLATED = 1 << 26  # bytes of a deflated data set that are looked at

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_SERIES = 0x0020000E
_META = Encoding(False, False)


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
        self._runs: Runs = {}
        self._encoding: Encoding | None = None
        self._last: Attributes | None = None
        self._meta: dict[int, Raw] = {}
        self._meta_runs: Runs = {}

    def read(self, source: bytes | Readable) -> Header:
        """As `read_header`."""
        readable = InMemory(source) if isinstance(source, bytes) else source
        window = readable.read() if isinstance(readable, InMemory) else readable.read(0, WINDOW)
        problems: list[str] = []
        meta: dict[int, Raw] = {}
        begin = self._read_meta(readable, window, meta)
        syntax = _transfer_syntax(meta)
        first = begin
        if syntax == DEFLATED:
            readable = _inflate(readable, begin, problems)
            window, first = readable.data, 0
        head = window[first : first + 8]
        encoding = _encoding(head if len(head) == 8 else readable.read(first, first + 8), syntax, problems)
        elements: dict[int, Raw] = {}
        walk = Walk(encoding, elements, self._runs if encoding == self._encoding else {})
        pixels = _read_elements(readable, window, first, walk, problems)
        if not elements and pixels is None:
            raise NotADicomObject("no data element follows the start of the object: not DICOM, or cut off")
        dataset = Attributes(elements, encoding, charset_of(elements), _signed(elements))
        self._learn(dataset, window, first, len(walk.marks))
        return Header(
            Attributes(meta, _META), dataset, syntax or _assumed(encoding), begin, pixels, tuple(problems)
        )

    def _read_meta(self, readable: Readable, window: bytes, meta: dict[int, Raw]) -> int:
        """Take the File Meta Information, Explicit VR Little Endian; return where the data set begins."""
        start = _start(window)
        end = _end_of_meta(window, start)
        if end is not None:
            walk = Walk(_META, meta, self._meta_runs)
            with suppress(Short, PixelsReached):
                if walk.take(window, start, end) == end and max(meta) >> 16 == 2:
                    if len(walk.marks) * 2 > len(meta):
                        self._meta_runs = _equal_runs(self._meta, window[:end], start, _META)
                        self._meta = meta
                    return end
            meta.clear()
        return _walk_meta(readable, window, start, meta)

    def _learn(self, dataset: Attributes, window: bytes, first: int, walked: int) -> None:
        """Keep the runs that this header shares with the one before, when both are of one series."""
        before, self._last = self._last, dataset
        elements = dataset.elements
        if before is None or walked * 2 < len(elements) or before.encoding != dataset.encoding:
            return
        if before.elements.get(_SERIES) == elements.get(_SERIES):
            self._runs = _equal_runs(before.elements, window, first, dataset.encoding)
            self._encoding = dataset.encoding


def _equal_runs(before: dict[int, Raw], window: bytes, first: int, encoding: Encoding) -> Runs:
    """The runs of elements in the window that are also, equal, in the header before."""
    walk = Walk(encoding, {}, {})
    with suppress(Short, PixelsReached):
        walk.take(window, first, len(window))
    tags, marks = list(walk.out), walk.marks
    if len(tags) != len(marks):  # a tag occurs twice: no telling which mark is whose
        return {}
    runs: Runs = {}
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
    runs: Runs, window: bytes, tags: list[int], marks: list[int], begin: int, end: int, out: dict[int, Raw]
) -> None:
    if end - begin > 1:
        blob = window[marks[begin] : marks[end]]
        runs[blob[:4]] = (blob, {tag: out[tag] for tag in tags[begin:end]})


def _start(head: bytes) -> int:
    """Where the File Meta Information or, without one, the data set begins (PS3.10 section 7.1)."""
    if head[128:132] == b"DICM":
        return 132
    if head[:4] == b"DICM":
        return 4
    if len(head) < 8:
        raise NotADicomObject(f"{len(head)} bytes are too few for a DICOM object")
    return 0


def _transfer_syntax(meta: dict[int, Raw]) -> str | None:
    raw = meta.get(0x00020010)
    return raw[1].strip(b"\0 ").decode("latin-1") or None if raw else None


def _end_of_meta(window: bytes, start: int) -> int | None:
    """Where (0002,0000) says that group 0002 ends, if it does end there; writers get that wrong."""
    if window[start : start + 8] != b"\x02\x00\x00\x00UL\x04\x00":
        return None
    end = start + 12 + int.from_bytes(window[start + 8 : start + 12], "little")
    return end if len(window) >= end + 2 and window[end : end + 2] != b"\x02\x00" else None


def _walk_meta(readable: Readable, window: bytes, start: int, meta: dict[int, Raw]) -> int:
    """Take the elements of group 0002 one by one, to where the group ends; return that position."""
    p = start
    while window[p : p + 2] == b"\x02\x00":
        try:
            p = take_one(window, p, meta)
        except Short as short:
            if len(window) >= readable.size:
                raise BrokenObject("the File Meta Information is cut off") from short
            window = readable.read(0, max(short.need, 2 * len(window)))
    return p


def _encoding(head: bytes, syntax: str | None, problems: list[str]) -> Encoding:
    """The encoding that the transfer syntax names, corrected by what the first element looks like."""
    big = syntax == EXPLICIT_BIG or (syntax is None and _looks_big_endian(head))
    implicit = looks_implicit(head, 0) if len(head) >= 6 else syntax == IMPLICIT_LITTLE
    if syntax is not None and len(head) >= 6 and implicit != (syntax == IMPLICIT_LITTLE):
        found = "implicit" if implicit else "explicit"
        problems.append(f"the transfer syntax does not say so, but elements are written in {found} VR")
    return Encoding(implicit, big)


def _looks_big_endian(head: bytes) -> bool:
    """Without a transfer syntax: a first group above 0x0400 in little endian is a small one in big endian."""
    return len(head) >= 2 and int.from_bytes(head[:2], "little") >= 0x0400


def _assumed(encoding: Encoding) -> str:
    if encoding.implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if encoding.big_endian else EXPLICIT_LITTLE


def _inflate(readable: Readable, begin: int, problems: list[str]) -> InMemory:
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
    return InMemory(bytes(out))


def _signed(elements: dict[int, Raw]) -> bool:
    """PixelRepresentation, read without its VR: which VR it has is what it decides for others."""
    raw = elements.get(0x00280103)
    return raw is not None and raw[1].strip(b"\0 ") != b""


def _read_elements(
    readable: Readable, window: bytes, first: int, walk: Walk, problems: list[str]
) -> PixelData | None:
    """Walk from first to the end of the object, window by window; return where the pixels lie.

    window: the bytes of the object from its start.
    """
    base, p, size = 0, first, readable.size
    pixels: PixelData | None = None
    while True:
        p = _behind_padding(window, p) if pixels else p
        try:
            walk.take(window, p, len(window))
            resume, reach = base + len(window), 1
        except PixelsReached as found:
            located = _locate(readable, base + found.at, found, walk.encoding.big_endian, problems)
            pixels = pixels or located
            resume, reach = located.end, 1
        except Short as short:
            if base + short.need > size:
                problems.append(_cut_off(window, short.start, walk.encoding.big_endian))
                return pixels
            skipped = short.bulk
            resume = base + (short.need if skipped else short.start)
            reach = 1 if skipped else short.need - short.start
        if reach > MAX_WINDOW:
            raise BrokenObject(f"an element of undefined length does not end within {MAX_WINDOW >> 20} MiB")
        if resume >= size:
            return pixels
        if base <= resume < base + len(window) and resume + reach <= base + len(window):
            p = resume - base
        else:
            base, p, walk.runs = resume, 0, {}
            wanted = max(WINDOW, 2 * reach)
            window = readable.read(resume, resume + wanted)
            if len(window) < min(wanted, size - resume):
                size = resume + len(window)  # the source has shrunk since its size was taken


def _behind_padding(window: bytes, p: int) -> int:
    """Behind zeros that some writers leave at the end: they are no elements, however many eights they are."""
    if window[p : p + 8].strip(b"\0"):
        return p
    rest = len(window[p:].lstrip(b"\0"))
    zeros = len(window) - p - rest
    return p + (zeros // 8 * 8 if rest else zeros)


def _cut_off(window: bytes, start: int, big_endian: bool) -> str:
    if start + 8 > len(window):
        return "the object ends inside an element"
    group, element, _ = TAG_AND_LENGTH[big_endian](window, start)
    return f"the object ends inside ({group:04X},{element:04X}), which is left out"


def _locate(
    readable: Readable, offset: int, found: PixelsReached, big_endian: bool, problems: list[str]
) -> PixelData:
    if found.length == UNDEFINED:
        end = end_of_fragments(readable, offset, big_endian)
        length = None
    else:
        end, length = offset + found.length, found.length
    if end > readable.size:
        problems.append("the pixel data are cut off")
        end = readable.size
    return PixelData(found.tag, found.vr, offset, length, end)
