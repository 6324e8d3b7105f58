"""The CSA header: what Siemens MR scanners of the syngo MR A to E lines write into private elements.

A list of named tags, each with text items. There are two forms: CSA2 begins with `SV10`; CSA1 has no
magic and states the length of an item in a way of its own. Nothing is published about either; the
layout was found out by many readers and agrees between them. Lengths are checked against the bytes
that are there, so hostile input costs no more than it weighs.
"""

from __future__ import annotations

import re
from collections.abc import Container
from struct import Struct

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import private
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.private import PrivateElement
from dicomlake.errors import BrokenObject

IMAGE = PrivateElement(0x0029, "SIEMENS CSA HEADER", 0x10, "OB")
SERIES = PrivateElement(0x0029, "SIEMENS CSA HEADER", 0x20, "OB")

MAX_TAGS = 1 << 10  # real headers have about 100
MAX_SLICES = 1 << 12  # of a protocol; a mosaic has at most some hundred

_MAGIC = b"SV10"
_CHECK = (77, 205)  # what stands behind the number of tags, and behind that of items
_TAG = Struct("<64si4s3i")
_ITEM = Struct("<4i")
_SLICE = re.compile(
    rb"sSliceArray\.asSlice\[(\d{1,4})\]\.sPosition\.d(Sag|Cor|Tra)[ \t]*=[ \t]*([-+.eE\d]{1,40})"
)
_SIZE = re.compile(rb"sSliceArray\.lSize[ \t]*=[ \t]*(\d{1,4})\b")
_AXES = {b"Sag": 0, b"Cor": 1, b"Tra": 2}


def read(raw: bytes, names: Container[str]) -> dict[str, tuple[str, ...]]:
    """The items of the named tags as text, padding removed, empty ones left out.

    Raises BrokenObject when the bytes are no CSA header or a length leads out of them; what was read
    before is not returned, since it cannot be told from damage.
    """
    second = raw[:4] == _MAGIC
    at = 8 if second else 0
    if len(raw) < at + 8:
        raise BrokenObject("a CSA header is cut off")
    count, check = (int.from_bytes(raw[at + i : at + i + 4], "little") for i in (0, 4))
    if not 1 <= count <= MAX_TAGS or check not in _CHECK:
        raise BrokenObject("a private element is no CSA header")
    at += 8
    found: dict[str, tuple[str, ...]] = {}
    base = 0
    for index in range(count):
        if at + _TAG.size > len(raw):
            raise BrokenObject("a CSA header is cut off")
        name, multiplicity, _vr, _type, items, check = _TAG.unpack_from(raw, at)
        if check not in _CHECK or not 0 <= items <= len(raw) // _ITEM.size:
            raise BrokenObject("a tag of a CSA header makes no sense")
        base = items if index == 0 else base
        spans, at = _items(raw, at + _TAG.size, items, None if second else base)
        key = _text(name)
        if key in names:
            texts = (_text(raw[a:b]) for a, b in (spans[:multiplicity] if multiplicity > 0 else spans))
            found[key] = tuple(text for text in texts if text)
    return found


def _items(raw: bytes, at: int, count: int, base: int | None) -> tuple[list[tuple[int, int]], int]:
    """Where the items of a tag begin and end, and where the next tag does.

    base: for CSA1, where the first number of an item is its length plus the number of items of the first
    tag; None for CSA2, where the second number is the length.
    """
    spans = []
    for _ in range(count):
        if at + _ITEM.size > len(raw):
            raise BrokenObject("a CSA header is cut off")
        numbers = _ITEM.unpack_from(raw, at)
        length = numbers[1] if base is None else numbers[0] - base
        at += _ITEM.size
        if length < 0 or at + length > len(raw):
            raise BrokenObject("an item of a CSA header is longer than the header")
        spans.append((at, at + length))
        at += (length + 3) // 4 * 4
    return spans, at


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("latin-1").strip()


def of_image(dataset: Attributes, names: Container[str]) -> dict[str, tuple[str, ...]]:
    """Tags of the CSA image header; empty when the data set has none or it is damaged."""
    return _of(dataset, IMAGE, names)


def of_series(dataset: Attributes, names: Container[str]) -> dict[str, tuple[str, ...]]:
    """Tags of the CSA series header; empty when the data set has none or it is damaged."""
    return _of(dataset, SERIES, names)


def _of(dataset: Attributes, wanted: PrivateElement, names: Container[str]) -> dict[str, tuple[str, ...]]:
    tag = tag_of(dataset, wanted)
    if tag is None or not dataset.elements[tag][1]:
        return {}
    try:
        return read(dataset.elements[tag][1], names)
    except BrokenObject:
        return {}


def tag_of(dataset: Attributes, wanted: PrivateElement) -> int | None:
    """The tag of a CSA header: by its creator, else by its first bytes, since creators get renamed."""
    tag = private.tag_of(dataset, wanted)
    if tag is not None:
        return tag
    ending = wanted.group << 16 | wanted.element
    candidates = (t for t, (_, raw) in dataset.elements.items() if raw[:4] == _MAGIC)
    return next((t for t in candidates if t & 0xFFFF00FF == ending and t & 0xFF00), None)


def is_left_out(dataset: Attributes) -> bool:
    """Whether a header without bulk values lacks the value of what seems a CSA image header.

    By tag alone, since creators get renamed: an element of another maker costs a look at the original.
    """
    return any(
        not raw and tag & 0xFFFF00FF == IMAGE.group << 16 | IMAGE.element and tag & 0xFF00
        for tag, (_, raw) in dataset.elements.items()
    )


def numbers(texts: tuple[str, ...]) -> tuple[float, ...]:
    """Items as numbers; empty when any is not one."""
    return private.strict_numbers("\\".join(texts).encode("latin-1"))


def slice_centres(protocol: str) -> npt.NDArray[np.float64] | None:
    """Centres of the planned slices, LPS mm, shape (slices, 3), in the order of the protocol.

    protocol: text of MrPhoenixProtocol or MrProtocol; it leaves out coordinates that are zero. None
    when it does not name every slice it counts or two lie at one place.
    """
    text = protocol.encode("latin-1", "replace")
    size = _SIZE.search(text)
    count = int(size[1]) if size else 0
    if not 1 <= count <= MAX_SLICES:
        return None
    centres, named = np.zeros((count, 3)), np.zeros(count, bool)
    for match in _SLICE.finditer(text):
        index, value = int(match[1]), private.strict_numbers(match[3])
        if index >= count or not value:
            return None
        centres[index, _AXES[match[2]]], named[index] = value[0], True
    return centres if named.sum() >= count - 1 else None  # one slice may lie at the origin
