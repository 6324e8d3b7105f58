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
from dicomlake.catalog.query.folding import fold_value
from dicomlake.dicom import standard, values
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.walk import MAX_DEPTH, Raw
from dicomlake.errors import BrokenObject

FORMAT = 2
MAX_DISTINCT = 64  # an element with more values in a series is summed up in one row and checked in the block
MAX_TEXT = 1024  # characters of a value in a row; an element's longer values are summed up as well


class AttributeRow(NamedTuple):
    """One value of an element in a series, or the summary of its many values (text is None).

    text: as written; empty where an instance or item has the element without a value, and for sequences
        and bulk values. fold: without case and accents (`query.folding.fold_value`), None for VRs compared
        as written and in summaries.
    low, high: the value as a number (`values.typed`: AS in years, DA in days, TM and DT in seconds), or the
        range of the many; None for text.
    instances: how many of the series hold it.
    vm_low, vm_high: fewest and most values that the element has where it is present; items of a sequence.
        A bulk value counts as one.
    """

    path: str
    creator: str | None
    vr: str
    text: str | None
    fold: str | None
    low: float | None
    high: float | None
    instances: int
    vm_low: int
    vm_high: int


class Key(NamedTuple):
    """What the rows of one element of a series share."""

    path: str
    creator: str | None
    vr: str


class Occurrence(NamedTuple):
    """An element in one data set or item: its values as text, and how many it has.

    A sequence counts its items; a bulk value, which has no text, counts as one.
    """

    key: Key
    texts: tuple[str, ...]
    multiplicity: int


class _Tally:
    """Counts the values of each element over the instances of a series."""

    def __init__(self) -> None:
        self.texts: dict[Key, dict[str, int]] = {}
        self.multiplicity: dict[Key, tuple[int, int]] = {}

    def add(self, found: Iterable[Occurrence], instances: int) -> None:
        """Count what `instances` instances hold alike; a value that recurs in an instance counts once."""
        seen: set[tuple[Key, str]] = set()
        for key, texts, count in found:
            low, high = self.multiplicity.get(key, (count, count))
            self.multiplicity[key] = (min(low, count), max(high, count))
            counts = self.texts.setdefault(key, {})
            for text in texts or ("",):
                if (key, text) not in seen:
                    seen.add((key, text))
                    counts[text] = counts.get(text, 0) + instances

    def rows(self) -> Iterator[AttributeRow]:
        """The rows of all that was counted."""
        for key, texts in self.texts.items():
            yield from _rows_of(key, texts, *self.multiplicity[key])


def rows(headers: SeriesHeaders) -> list[AttributeRow]:
    """All rows of a series."""
    tally = _Tally()
    summaries: list[AttributeRow] = []
    for group in headers.groups:
        unsteady = _unsteady_blocks(group)
        steady = {tag: raw for tag, raw in group.constant.items() if tag & 0xFFFF0000 not in unsteady}
        tally.add(occurrences(group.attributes(steady)), len(group.rows))
        for tag, cells in group.varying.items():
            if tag & 0xFFFF0000 not in unsteady:
                summaries += _count_cells(tally, group, tag, cells)
        if unsteady:
            _count_one_by_one(tally, group, unsteady)
    return [*tally.rows(), *summaries]


def _unsteady_blocks(group: Group) -> frozenset[int]:
    """Private groups (gggg0000) whose creators differ from instance to instance: rare, and told apart."""
    return frozenset(tag & 0xFFFF0000 for tag in group.varying if _is_creator(tag))


def _is_creator(tag: int) -> bool:
    return tag & 0x00010000 != 0 and tag & 0xFF00 == 0


def _count_cells(
    tally: _Tally, group: Group, tag: int, cells: tuple[Raw | None, ...]
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
        if vr != "SQ" and len(found) > MAX_DISTINCT:
            creator = attributes.creator(tag) if tag & 0x00010000 else None
            yield _summary(Key(name_of(tag, creator), creator, vr), found, group)
            continue
        for value, holders in found.items():
            one = group.attributes({**around, tag: (written, value)})
            tally.add(occurrences(one, only=tag), holders)


def _summary(key: Key, found: Counter[bytes], group: Group) -> AttributeRow:
    vm_low, vm_high = _multiplicity(key.vr, found, group)
    low, high = _range(key.vr, found, group.encoding.big_endian)
    return AttributeRow(*key, None, None, low, high, found.total(), vm_low, vm_high)


def _multiplicity(vr: str, raws: Iterable[bytes], group: Group) -> tuple[int, int]:
    """Fewest and most values among value fields."""
    if vr in values.NUMERIC_TEXT_VRS | values.TEMPORAL_VRS | {"UI", "CS"}:  # one byte is one character
        counts = {raw.count(b"\\") + 1 if raw.strip(b" \0\\") else 0 for raw in raws}
    else:
        counts = {_count(vr, values.texts(vr, raw, group.charset, group.encoding.big_endian)) for raw in raws}
    return min(counts), max(counts)


def _count(vr: str, texts: tuple[str, ...]) -> int:
    """How many values a value field has: where it is bulk, it may have been left in the original."""
    return 1 if vr in values.BULK_VRS else len(texts)


def _range(vr: str, raws: Iterable[bytes], big_endian: bool) -> tuple[float | None, float | None]:
    """The smallest and the largest number among value fields; None where there is no number."""
    if vr not in values.NUMBER_VRS | values.TEMPORAL_VRS:
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
            if (number := values.typed(vr, text)) is not None
        ]
    return (min(numbers), max(numbers)) if numbers else (None, None)


def _count_one_by_one(tally: _Tally, group: Group, blocks: frozenset[int]) -> None:
    for i in range(len(group.rows)):
        own = {tag: cells[i] for tag, cells in group.varying.items() if tag & 0xFFFF0000 in blocks}
        elements = {tag: raw for tag, raw in group.constant.items() if tag & 0xFFFF0000 in blocks}
        elements |= {tag: raw for tag, raw in own.items() if raw is not None}
        tally.add(occurrences(group.attributes(elements)), 1)


def _rows_of(key: Key, texts: dict[str, int], vm_low: int, vm_high: int) -> Iterator[AttributeRow]:
    listed = [t for t in texts if len(t) <= MAX_TEXT] if len(texts) <= MAX_DISTINCT else []
    for text in listed:
        number = values.typed(key.vr, text)
        folded = fold_value(key.vr, text)
        yield AttributeRow(*key, text, folded, number, number, texts[text], vm_low, vm_high)
    if len(listed) < len(texts):
        summed = texts.keys() - set(listed)
        numbers = [number for text in summed if (number := values.typed(key.vr, text)) is not None]
        low, high = (min(numbers), max(numbers)) if numbers else (None, None)
        holders = sum(texts[text] for text in summed)
        yield AttributeRow(*key, None, None, low, high, holders, vm_low, vm_high)


def listing(attributes: Attributes) -> dict[str, tuple[str, ...]]:
    """Path -> values of one header, in the order of the object; bulk and empty elements have none."""
    found: dict[str, tuple[str, ...]] = {}
    for key, texts, count in occurrences(attributes):
        if key.vr != "SQ" or not count:
            found[key.path] = found.get(key.path, ()) + tuple(text for text in texts if text)
    return found


def occurrences(attributes: Attributes, *, only: int | None = None) -> Iterator[Occurrence]:
    """Every element of a data set and, through all sequences, of its items. only: the one tag wanted."""
    return _occurrences(attributes, "", only)


def _occurrences(
    attributes: Attributes, prefix: str, only: int | None = None, depth: int = 0
) -> Iterator[Occurrence]:
    for tag in attributes.elements if only is None else (only,):
        vr = attributes.vr(tag)
        creator = attributes.creator(tag) if tag & 0x00010000 else None
        path = prefix + name_of(tag, creator)
        key = Key(path, creator, vr)
        if vr != "SQ":
            texts = attributes.texts(tag)
            yield Occurrence(key, texts, _count(vr, texts))
        elif depth >= MAX_DEPTH:  # deeper than any real object's
            yield Occurrence(key, (), 1)
        else:
            items = items_of(attributes, tag)
            yield Occurrence(key, (), len(items))
            for item in items:
                yield from _occurrences(item, path + ".", None, depth + 1)


def items_of(attributes: Attributes, tag: int) -> tuple[Attributes, ...]:
    """The items of a sequence; none of one that cannot be read."""
    try:
        return attributes.items(tag)
    except BrokenObject:
        return ()


def name_of(tag: int, creator: str | None) -> str:
    """The name of an element in a path."""
    group, element = tag >> 16, tag & 0xFFFF
    if tag & 0x00010000:
        if creator is not None:
            return f'{group:04x},xx{element & 0xFF:02X}["{creator}"]'
        return f"{group:04X},{element:04X}"
    entry = standard.lookup(tag)
    return entry[1] if entry and entry[1] else f"{group:04X},{element:04X}"
