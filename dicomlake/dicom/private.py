"""Private elements by their creator, wherever its block lies, whatever VR a writer gave their values."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from dicomlake.dicom import values
from dicomlake.dicom.attributes import Attributes

_NUMBER = re.compile(rb" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")
_BINARY_SIZES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8}


class PrivateElement(NamedTuple):
    """An element as its maker documents it: group, private creator, last byte of the tag, VR."""

    group: int
    creator: str
    element: int
    vr: str


def creators(dataset: Attributes) -> frozenset[str]:
    """The private creators that reserve blocks, case folded: one pass that spares many searches."""
    found = (
        values.texts("LO", raw, dataset.charset)
        for tag, (_, raw) in dataset.elements.items()
        if tag & 0x1FF00 == 0x10000 and tag & 0xF0
    )
    return frozenset(texts[0].casefold() for texts in found if texts)


def tag_of(dataset: Attributes, wanted: PrivateElement) -> int | None:
    """The tag of a private element in the block its creator reserved (PS3.5 7.8.1); None when absent.

    The block is wherever the creator is, since archives move blocks. Creators compare without case.
    """
    group, name = wanted.group << 16, wanted.creator.casefold()
    for block in range(0x10, 0x100):
        if group | block in dataset.elements:
            tag = group | block << 8 | wanted.element
            if tag in dataset.elements and (dataset.creator(tag) or "").casefold() == name:
                return tag
    return None


def texts(dataset: Attributes, wanted: PrivateElement) -> tuple[str, ...]:
    """The values as text; empty when the element is absent or holds none."""
    tag = tag_of(dataset, wanted)
    if tag is None:
        return ()
    vr, raw = dataset.elements[tag]
    return values.texts("LO" if vr in values.BULK_VRS else vr, raw, dataset.charset)


def numbers(dataset: Attributes, wanted: PrivateElement) -> tuple[float, ...]:
    """The values as finite numbers; empty when the element is absent or any value is not one.

    Anonymisers and archives rewrite private elements as UN, or numbers as text: text that is nothing but
    numbers is read as such under any VR, and UN otherwise as the VR that the maker documents. Bytes with a
    NUL are no text under UN: the binary 48 of a US is a digit and a NUL.
    """
    tag = tag_of(dataset, wanted)
    if tag is None:
        return ()
    vr, raw = dataset.elements[tag]
    if vr in _BINARY_SIZES:
        found = values.numbers(vr, raw, dataset.encoding.big_endian)
    else:
        text = raw if vr in values.BULK_VRS else raw.rstrip(b"\0")
        found = strict_numbers(text) or _as_documented(vr, raw, wanted.vr, dataset.encoding.big_endian)
    return found if all(map(math.isfinite, found)) else ()


def number(dataset: Attributes, wanted: PrivateElement) -> float | None:
    """The first value as a number, None when there is none."""
    found = numbers(dataset, wanted)
    return found[0] if found else None


def strict_numbers(raw: bytes) -> tuple[float, ...]:
    r"""Decimal numbers separated by backslashes; empty when anything else is among them."""
    parts = raw.split(b"\\") if raw else []
    return tuple(map(float, parts)) if all(map(_NUMBER.fullmatch, parts)) else ()


def _as_documented(vr: str, raw: bytes, documented: str, big_endian: bool) -> tuple[float, ...]:
    size = _BINARY_SIZES.get(documented)
    if vr not in values.BULK_VRS or size is None or len(raw) % size:
        return ()
    return values.numbers(documented, raw, big_endian)
