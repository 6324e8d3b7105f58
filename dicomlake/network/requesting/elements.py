"""A data set as a tree of elements that can be written in another uncompressed encoding.

Value fields are copied, never interpreted: what changes are the headers of elements, and the order of
bytes when a big endian object is written little endian (PS3.5 section 7.3). So nothing that a writer got
wrong is lost or repaired on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from struct import Struct

from dicomlake.dicom import standard, values
from dicomlake.dicom.walk import MAX_DEPTH, TAG_AND_LENGTH, UNDEFINED, Encoding, looks_implicit
from dicomlake.errors import BrokenObject

PIXEL_DATA = 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_SHORT = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST"}
) | {"TM", "UI", "UL", "US"}
_WORDS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("FD", "OD", "UV", "SV", "OV"), 8),
}  # bytes that are ordered together (PS3.5 section 7.3)
_SHORT_HEAD, _LONG_HEAD = Struct("<HH2sH"), Struct("<HH2sHL")
_IMPLICIT_HEAD = Struct("<HHL")
_END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(slots=True)
class Element:
    """An element: its value field in little endian, or the items of a sequence, or encapsulated pixels.

    fragments: all behind the length up to and with the delimiter, as PS3.5 section A.4 lays it out.
    """

    tag: int
    vr: str
    value: bytes | memoryview = b""
    items: list[Level] | None = None
    fragments: bytes | memoryview | None = None


@dataclass(slots=True)
class Level:
    """The elements of a data set or an item, in the order of tags."""

    elements: dict[int, Element] = field(default_factory=dict)

    def put(self, tag: int, vr: str, value: bytes) -> None:
        """Set an element, in its place."""
        self.elements[tag] = Element(tag, vr, value + b"\0" * (len(value) % 2))
        self.elements = dict(sorted(self.elements.items()))

    def all_levels(self) -> Iterator[Level]:
        """This level and those of all items within."""
        yield self
        for element in self.elements.values():
            for item in element.items or ():
                yield from item.all_levels()


@dataclass(frozen=True, slots=True)
class _Scope:
    """What decides how an element is read: encoding, PixelRepresentation, private creators by block."""

    encoding: Encoding
    signed: bool
    depth: int


def parse(data: bytes, start: int, encoding: Encoding, *, signed: bool) -> Level:
    """The data set that begins at `start`. Raises BrokenObject when it is cut off or makes no sense."""
    view = memoryview(data)
    level, behind = _level(view, start, len(data), _Scope(encoding, signed, 0), delimited=False)
    if behind != len(data):
        raise BrokenObject("the data set does not end where its elements end")
    return level


def written(level: Level, *, implicit: bool) -> bytes:
    """The data set in Implicit or Explicit VR Little Endian."""
    return b"".join(_level_parts(level, implicit))


# ---- reading ----------------------------------------------------------------------------------------------


def _level(b: memoryview, p: int, end: int, scope: _Scope, *, delimited: bool) -> tuple[Level, int]:
    if scope.depth > MAX_DEPTH:
        raise BrokenObject(f"sequences are nested deeper than {MAX_DEPTH}")
    level = Level()
    while p < end:
        if p + 8 > end:
            raise BrokenObject("the data set is cut off")
        group, number, length = TAG_AND_LENGTH[scope.encoding.big_endian](b, p)
        tag = group << 16 | number
        if delimited and tag == _ITEM_END:
            return level, p + 8
        vr, length, q = _head(b, p, end, tag, length, scope, level)
        element, p = _element(b, q, end, tag, vr, length, scope)
        if number:  # group lengths are retired, and would be wrong
            level.elements[tag] = element
    if delimited:
        raise BrokenObject("an item has no end")
    return level, p


def _head(
    b: memoryview, p: int, end: int, tag: int, length: int, scope: _Scope, level: Level
) -> tuple[str, int, int]:
    """VR, length, and where the value field begins."""
    code = bytes(b[p + 4 : p + 6]).decode("latin-1")
    if scope.encoding.implicit or not (code in _SHORT or code in _LONG):
        if not scope.encoding.implicit and not looks_implicit(bytes(b[p : p + 8]), 0):
            raise BrokenObject("an element has a VR that is not known")
        return _vr_of(tag, length, level, scope.signed), length, p + 8
    order = ">" if scope.encoding.big_endian else "<"
    if code in _SHORT:
        return code, Struct(order + "H").unpack_from(b, p + 6)[0], p + 8
    if p + 12 > end:
        raise BrokenObject("the data set is cut off")
    return code, Struct(order + "L").unpack_from(b, p + 8)[0], p + 12


def _vr_of(tag: int, length: int, level: Level, signed: bool) -> str:
    """The VR that an element of an implicit VR data set has in an explicit one."""
    vr = standard.vr_of(tag)
    if vr == "UN" and tag & 0x00010000:
        creator = level.elements.get((tag & 0xFFFF0000) | (tag >> 8 & 0xFF))
        name = values.texts("LO", bytes(creator.value)) if creator and tag & 0xFF00 else ()
        vr = (standard.private_vr(name[0], tag) if name else None) or "UN"
    if vr == "UN" and length == UNDEFINED:
        return "SQ"  # nothing else has no length (PS3.5 section 7.1.3)
    return values.resolve_vr(vr, signed)


def _element(
    b: memoryview, q: int, end: int, tag: int, vr: str, length: int, scope: _Scope
) -> tuple[Element, int]:
    if length == UNDEFINED:
        if vr in ("SQ", "UN"):
            inner = scope.encoding if vr == "SQ" else Encoding(True, scope.encoding.big_endian)
            items, behind = _items(b, q, end, inner, scope, delimited=True)
            return Element(tag, "SQ", items=items), behind
        behind = _end_of_fragments(b, q, end, scope.encoding.big_endian)
        return Element(tag, vr, fragments=b[q:behind]), behind
    stop = q + length
    if stop > end:
        raise BrokenObject("an element is cut off")
    if vr == "SQ":
        return Element(tag, vr, items=_items(b, q, stop, scope.encoding, scope, delimited=False)[0]), stop
    value: bytes | memoryview = b[q:stop]
    if scope.encoding.big_endian:
        value = _swapped(bytes(value), _WORDS.get(vr, 1))
    return Element(tag, vr, value), stop


def _items(
    b: memoryview, p: int, end: int, encoding: Encoding, scope: _Scope, *, delimited: bool
) -> tuple[list[Level], int]:
    found: list[Level] = []
    while p < end:
        if p + 8 > end:
            raise BrokenObject("a sequence is cut off")
        group, number, length = TAG_AND_LENGTH[encoding.big_endian](b, p)
        tag, p = group << 16 | number, p + 8
        if tag == _SEQUENCE_END:
            return found, p
        if tag != _ITEM:
            raise BrokenObject("a sequence holds something that is no item")
        stop = end if length == UNDEFINED else p + length
        if stop > end:
            raise BrokenObject("an item is cut off")
        inside = _Scope(_of_item(b, p, stop, encoding), scope.signed, scope.depth + 1)
        item, p = _level(b, p, stop, inside, delimited=length == UNDEFINED)
        found.append(item)
    if delimited:
        raise BrokenObject("a sequence has no end")
    return found, p


def _of_item(b: memoryview, p: int, stop: int, encoding: Encoding) -> Encoding:
    """Items may be written in implicit VR inside an explicit VR data set; some writers do."""
    head = bytes(b[p : min(p + 8, stop)])
    if encoding.implicit or len(head) < 8:
        return encoding
    group, number, _length = TAG_AND_LENGTH[encoding.big_endian](head, 0)
    implicit = group != 0xFFFE and bool(number) and looks_implicit(head, 0)
    return Encoding(True, encoding.big_endian) if implicit else encoding


def _end_of_fragments(b: memoryview, p: int, end: int, big_endian: bool) -> int:
    while p + 8 <= end:
        group, number, length = TAG_AND_LENGTH[big_endian](b, p)
        tag, p = group << 16 | number, p + 8
        if tag == _SEQUENCE_END:
            return p
        if tag != _ITEM or length == UNDEFINED:
            break
        p += length
    raise BrokenObject("encapsulated pixels have no end")


def _swapped(value: bytes, width: int) -> bytes:
    if width == 1:
        return value
    if len(value) % width:
        raise BrokenObject(f"a value of {len(value)} bytes does not hold words of {width}")
    import numpy as np

    return np.frombuffer(value, f"u{width}").byteswap().tobytes()


# ---- writing ----------------------------------------------------------------------------------------------


def _level_parts(level: Level, implicit: bool) -> Iterator[bytes | memoryview]:
    head: Callable[[Element, int], bytes] = _implicit_head if implicit else _explicit_head
    for element in level.elements.values():
        if element.fragments is not None:
            yield head(element, UNDEFINED)
            yield element.fragments
        elif element.items is not None:
            items = b"".join(chain.from_iterable(_item_parts(item, implicit) for item in element.items))
            # in implicit VR only the missing length says that an unknown element is a sequence
            yield head(element, UNDEFINED if implicit else len(items))
            yield items
            if implicit:
                yield _END_OF_SEQUENCE
        else:
            yield head(element, len(element.value))
            yield element.value


def _item_parts(item: Level, implicit: bool) -> Iterator[bytes]:
    content = b"".join(_level_parts(item, implicit))
    yield _IMPLICIT_HEAD.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(content))
    yield content


def _implicit_head(element: Element, length: int) -> bytes:
    return _IMPLICIT_HEAD.pack(element.tag >> 16, element.tag & 0xFFFF, length)


def _explicit_head(element: Element, length: int) -> bytes:
    tag = element.tag >> 16, element.tag & 0xFFFF
    if element.vr in _LONG:
        return _LONG_HEAD.pack(*tag, element.vr.encode(), 0, length)
    if length > 0xFFFF:  # only UN has the room (PS3.5 section 6.2.2, note 2)
        return _LONG_HEAD.pack(*tag, b"UN", 0, length)
    return _SHORT_HEAD.pack(*tag, element.vr.encode(), length)
