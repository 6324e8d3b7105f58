"""Headers to rows: one row for each element path and distinct value, from all instances of a series.

A path is made of keywords, `ReferencedSeriesSequence.SeriesInstanceUID`; a private element is
`0019,xx0C["SIEMENS MR HEADER"]`; one unknown to PS3.6 is `0019,000C`. Items of a sequence share a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import NamedTuple

from dicomlake.catalog.blocks import Group, SeriesHeaders
from dicomlake.dicom import standard, values
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.walk import MAX_DEPTH, Raw
from dicomlake.errors import BrokenObject

MAX_DISTINCT = 64  # an element with more values in a series is summed up in one row and checked in the block
MAX_TEXT = 1024  # characters of a value in a row; an element's longer values are summed up as well


class AttributeRow(NamedTuple):
    """One value of an element in a series, or the summary of its many values (text is None).

    low, high: the value as a number, or the range of the many; None for text.
    instances: how many of the series hold it.
    """

    path: str
    creator: str | None
    vr: str
    text: str | None
    low: float | None
    high: float | None
    instances: int


class _Key(NamedTuple):
    path: str
    creator: str | None
    vr: str


_Flat = frozenset[tuple[_Key, str]]


def rows(headers: SeriesHeaders) -> list[AttributeRow]:
    """All rows of a series."""
    counts: dict[_Key, dict[str, int]] = {}
    summaries: list[AttributeRow] = []
    for group in headers.groups:
        unsteady = _unsteady_blocks(group)
        steady = {tag: raw for tag, raw in group.constant.items() if tag & 0xFFFF0000 not in unsteady}
        _count(counts, flatten(group.attributes(steady)), len(group.rows))
        for tag, cells in group.varying.items():
            if tag & 0xFFFF0000 not in unsteady:
                summaries += _count_cells(counts, group, tag, cells)
        if unsteady:
            _count_one_by_one(counts, group, unsteady)
    return [row for key, texts in counts.items() for row in _rows_of(key, texts)] + summaries


def _unsteady_blocks(group: Group) -> frozenset[int]:
    """Private groups (gggg0000) whose creators differ from instance to instance: rare, and told apart."""
    return frozenset(tag & 0xFFFF0000 for tag in group.varying if _is_creator(tag))


def _is_creator(tag: int) -> bool:
    return tag & 0x00010000 != 0 and tag & 0xFF00 == 0


def _count_cells(
    counts: dict[_Key, dict[str, int]], group: Group, tag: int, cells: tuple[Raw | None, ...]
) -> Iterator[AttributeRow]:
    """Count the values that an element has in the instances of a group; yield a summary of too many."""
    around = {t: raw for t, raw in group.constant.items() if _is_creator(t)} if tag & 0x00010000 else {}
    by_vr: dict[str, Counter[bytes]] = {}
    for raw, holders in Counter(cells).items():
        if raw is not None:
            by_vr.setdefault(raw[0], Counter())[raw[1]] += holders
    for written, found in by_vr.items():
        attributes = group.attributes({**around, tag: (written, next(iter(found)))})
        vr = attributes.vr(tag)
        creator = attributes.creator(tag) if tag & 0x00010000 else None
        key = _Key(name_of(tag, creator), creator, vr)
        if vr == "SQ":
            for value, holders in found.items():
                flat = flatten(group.attributes({**around, tag: (written, value)}), only=tag)
                _count(counts, flat, holders)
        elif len(found) > MAX_DISTINCT:
            low, high = _range(vr, found, group.encoding.big_endian)
            yield AttributeRow(*key, None, low, high, found.total())
        else:
            for value, holders in found.items():
                texts = values.texts(vr, value, group.charset, group.encoding.big_endian)
                _count(counts, {(key, text) for text in texts} or {(key, "")}, holders)


def _range(vr: str, raws: Iterable[bytes], big_endian: bool) -> tuple[float | None, float | None]:
    """The smallest and the largest number among value fields; None where there is no number."""
    if vr not in values.NUMBER_VRS:
        return None, None
    if vr in values.NUMERIC_TEXT_VRS:
        parts = [part for raw in raws for part in raw.split(b"\\")]
        try:
            numbers = [number for number in map(float, parts) if isfinite(number)]
        except ValueError:  # an empty or a wrong value among them
            texts = [part.decode("latin-1").strip(" \0") for part in parts]
            numbers = [number for text in texts if (number := values.number(vr, text)) is not None]
    else:
        numbers = [
            number
            for raw in raws
            for text in values.texts(vr, raw, big_endian=big_endian)
            if (number := values.number(vr, text)) is not None
        ]
    return (min(numbers), max(numbers)) if numbers else (None, None)


def _count_one_by_one(counts: dict[_Key, dict[str, int]], group: Group, blocks: frozenset[int]) -> None:
    for i in range(len(group.rows)):
        own = {tag: cells[i] for tag, cells in group.varying.items() if tag & 0xFFFF0000 in blocks}
        elements = {tag: raw for tag, raw in group.constant.items() if tag & 0xFFFF0000 in blocks}
        elements |= {tag: raw for tag, raw in own.items() if raw is not None}
        _count(counts, flatten(group.attributes(elements)), 1)


def _count(counts: dict[_Key, dict[str, int]], flat: Iterable[tuple[_Key, str]], instances: int) -> None:
    for key, text in flat:
        texts = counts.setdefault(key, {})
        texts[text] = texts.get(text, 0) + instances


def _rows_of(key: _Key, texts: dict[str, int]) -> Iterator[AttributeRow]:
    listed = [t for t in texts if len(t) <= MAX_TEXT] if len(texts) <= MAX_DISTINCT else []
    for text in listed:
        number = values.number(key.vr, text)
        yield AttributeRow(*key, text, number, number, texts[text])
    if len(listed) < len(texts):
        summed = texts.keys() - set(listed)
        numbers = [number for text in summed if (number := values.number(key.vr, text)) is not None]
        low, high = (min(numbers), max(numbers)) if numbers else (None, None)
        yield AttributeRow(*key, None, low, high, sum(texts[text] for text in summed))


def flatten(attributes: Attributes, *, only: int | None = None) -> _Flat:
    """(path, creator, VR) and text of every value, through all sequences.

    An element without a value, or with a bulk one, is there with an empty text; so is a sequence nested
    deeper than any real object's. only: the one tag wanted.
    """
    return frozenset(_flatten(attributes, "", only))


def listing(attributes: Attributes) -> dict[str, tuple[str, ...]]:
    """Path -> values of one header, in the order of the object; bulk and empty elements have none."""
    found: dict[str, list[str]] = {}
    for key, text in _flatten(attributes, ""):
        values_of_path = found.setdefault(key.path, [])
        if text:
            values_of_path.append(text)
    return {path: tuple(texts) for path, texts in found.items()}


def _flatten(
    attributes: Attributes, prefix: str, only: int | None = None, depth: int = 0
) -> Iterator[tuple[_Key, str]]:
    for tag in attributes.elements if only is None else (only,):
        vr = attributes.vr(tag)
        creator = attributes.creator(tag) if tag & 0x00010000 else None
        path = prefix + name_of(tag, creator)
        key = _Key(path, creator, vr)
        if vr == "SQ" and depth < MAX_DEPTH:
            yield from _flatten_items(attributes, tag, path, key, depth + 1)
            continue
        texts = attributes.texts(tag)
        if not texts:
            yield key, ""
        for text in texts:
            yield key, text


def _flatten_items(
    attributes: Attributes, tag: int, path: str, key: _Key, depth: int
) -> Iterator[tuple[_Key, str]]:
    try:
        items = attributes.items(tag)
    except BrokenObject:
        items = ()
    if not items:
        yield key, ""
    for item in items:
        yield from _flatten(item, path + ".", None, depth)


def name_of(tag: int, creator: str | None) -> str:
    """The name of an element in a path."""
    group, element = tag >> 16, tag & 0xFFFF
    if tag & 0x00010000:
        if creator is not None:
            return f'{group:04x},xx{element & 0xFF:02X}["{creator}"]'
        return f"{group:04X},{element:04X}"
    entry = standard.lookup(tag)
    return entry[1] if entry and entry[1] else f"{group:04X},{element:04X}"
