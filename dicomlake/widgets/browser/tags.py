"""One instance's header as a tree to read: elements, items of sequences, private creators, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dicomlake.dicom import standard, values
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import Header, PixelData
from dicomlake.errors import BrokenObject
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.browser.identifying import action
from dicomlake.widgets.browser.typed import quoted

CUT = 160  # characters of a value that are shown at first
MOST_ROWS = 400  # elements or items in one answer
MOST_VALUE = 1_000_000  # characters that "show all" gives
_MOST_SEARCHED = 200_000  # elements of one header
_MOST_FOUND = 300
_ADDED_VALUE = 200  # characters of a value in a condition

Path = tuple[int, ...]
"""Tag, item number, tag, item number …: a tag names an element, an item number the item of a sequence."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where elements are: their Attributes, the path to these, and how a query names it."""

    attributes: Attributes
    path: Path = ()
    named: tuple[str, ...] = ()


def children(header: Header, path: Path, start: int = 0, count: int = MOST_ROWS) -> dict[str, Any]:
    """Rows below a path, and how many: elements of the data set or an item, or the items of a sequence."""
    begin, most = max(0, start), min(max(0, count), MOST_ROWS)
    if len(path) % 2:
        items = _items(header, path)
        rows = [
            {"path": [*path, i], "item": i + 1, "children": len(item.elements)}
            for i, item in enumerate(items)
        ]
        return {"total": len(items), "rows": rows[begin : begin + most]}
    place = _place(header, path)
    elements = _elements(header, place)
    rows = [_row(*one) for one in elements[begin : begin + most]]
    pixels = [] if path or header.pixels is None or begin + most < len(elements) else [_pixels(header.pixels)]
    return {"total": len(elements), "rows": rows + pixels}


def _pixels(pixels: PixelData) -> dict[str, Any]:
    """The row of the pixels, which are located and not read."""
    entry = standard.lookup(pixels.tag)
    return {
        "path": [pixels.tag],
        "tag": f"{pixels.tag >> 16:04X},{pixels.tag & 0xFFFF:04X}",
        "vr": pixels.vr,
        "keyword": entry[1] if entry else "",
        "name": "",
        "creator": "",
        "mark": "",
        "add": "",
        "value": "",
        "more": False,
        "bytes": pixels.end - pixels.offset,
    }


def whole(header: Header, path: Path) -> str:
    """All of the value of an element. Raises Refusal when it has none that can be read."""
    if len(path) % 2 == 0:
        raise Refusal("an item has no value of its own: open it")
    tag = path[-1]
    held = header.meta if len(path) == 1 and tag >> 16 == 0x0002 else _place(header, path[:-1]).attributes
    if tag not in held.elements:
        raise Refusal("this header has no such element: it is another instance now")
    return _text(held, tag, MOST_VALUE) or ""


def search(header: Header, words: str) -> dict[str, Any]:
    """Elements anywhere whose tag, keyword, creator or value holds words, without case."""
    low = words.strip().lower()
    found: list[dict[str, Any]] = []
    for seen, (place, tag) in enumerate(_walk(header)):
        if seen > _MOST_SEARCHED or len(found) >= _MOST_FOUND:
            return {"rows": found, "more": True}
        row = _row(place, tag)
        told = (row["tag"], row["tag"].replace(",", ""), row["keyword"], row["name"], row["creator"])
        if any(low in text.lower() for text in told) or low in _searched(place.attributes, tag):
            found.append({**row, "where": ".".join(place.named)})
    return {"rows": found, "more": False}


def _searched(attributes: Attributes, tag: int) -> str:
    return (_text(attributes, tag, 20_000) or "").lower()


def _walk(header: Header) -> Iterator[tuple[_Place, int]]:
    """All elements, those of items after their sequence."""

    def below(place: _Place) -> Iterator[tuple[_Place, int]]:
        for own, tag in _elements(header, place):
            yield own, tag
            if _is_sequence(own.attributes, tag):
                named = (*own.named, _segment(own.attributes, tag))
                for i, item in enumerate(_read_items(own.attributes, tag)):
                    yield from below(_Place(item, (*own.path, tag, i), named))

    return below(_Place(header.dataset))


def _elements(header: Header, place: _Place) -> list[tuple[_Place, int]]:
    """Elements in order; at the top also the File Meta Information, and the pixels."""
    own = [(place, tag) for tag in sorted(place.attributes.elements)]
    if place.path:
        return own
    meta = _Place(header.meta)
    return [*((meta, tag) for tag in sorted(header.meta.elements)), *own]


def _place(header: Header, path: Path) -> _Place:
    """The data set, or the item that a path leads to. Raises Refusal for a path that leads nowhere."""
    place = _Place(header.dataset)
    for tag, number in zip(path[::2], path[1::2], strict=True):
        items = _read_items(place.attributes, tag) if tag in place.attributes.elements else ()
        if not 0 <= number < len(items):
            raise Refusal("this header has no such item: it is another instance now")
        named = (*place.named, _segment(place.attributes, tag))
        place = _Place(items[number], (*place.path, tag, number), named)
    return place


def _items(header: Header, path: Path) -> tuple[Attributes, ...]:
    place = _place(header, path[:-1])
    if path[-1] not in place.attributes.elements:
        raise Refusal("this header has no such sequence: it is another instance now")
    return _read_items(place.attributes, path[-1])


def _read_items(attributes: Attributes, tag: int) -> tuple[Attributes, ...]:
    try:
        return attributes.items(tag)
    except BrokenObject:
        return ()


def _is_sequence(attributes: Attributes, tag: int) -> bool:
    return attributes.vr(tag) == "SQ"


def _row(place: _Place, tag: int) -> dict[str, Any]:
    """One element in JSON types. `more`: the value is longer than shown. `mark`: action of PS3.15 E.1-1."""
    attributes = place.attributes
    vr = attributes.vr(tag)
    creator = (attributes.creator(tag) if tag & 0x00010000 else None) or ""
    entry = standard.lookup(tag)
    row = {
        "path": [*place.path, tag],
        "tag": f"{tag >> 16:04X},{tag & 0xFFFF:04X}",
        "vr": vr,
        "keyword": entry[1] if entry else "",
        "name": _private_name(tag, creator),
        "creator": creator,
        "mark": action(tag, vr),
        "add": _condition(place, tag, vr),
    }
    if vr == "SQ":
        return row | {"children": len(_read_items(attributes, tag)), "value": "", "more": False}
    text = _text(attributes, tag, MOST_VALUE)
    size = len(attributes.elements[tag][1])
    if text is None:
        return row | {"value": "", "bytes": size, "more": False}
    return row | {"value": text[:CUT], "more": len(text) > CUT, "length": len(text)}


def _text(attributes: Attributes, tag: int, limit: int) -> str | None:
    """The values of an element as text; None for bytes."""
    vr = attributes.vr(tag)
    if vr in values.BULK_VRS or vr == "SQ":
        return None
    found = "\\".join(attributes.texts(tag))[:limit]
    if vr == "UI" and standard.uid_name(found) != found:
        return f"{found} ({standard.uid_name(found)})"
    return found


def _segment(attributes: Attributes, tag: int) -> str:
    """How a query names an element: its keyword, its private creator, or its tag."""
    if tag & 0x00010000:
        creator = attributes.creator(tag)
        if creator and '"' not in creator and "]" not in creator:
            return f'{tag >> 16:04x},xx{tag & 0xFF:02X}["{creator}"]'
        return f"{tag >> 16:04X},{tag & 0xFFFF:04X}"
    entry = standard.lookup(tag)
    return entry[1] if entry and entry[1] else f"{tag >> 16:04X},{tag & 0xFFFF:04X}"


def _condition(place: _Place, tag: int, vr: str) -> str:
    """The condition that finds series with this value; empty where no query can ask for it."""
    if tag >> 16 in (0x0002, 0x7FE0):
        return ""
    path = ".".join((*place.named, _segment(place.attributes, tag)))
    if vr == "SQ":
        return f"{path}__count>=1"
    texts = place.attributes.texts(tag) if vr not in values.BULK_VRS else ()
    value = quoted(texts[0]) if texts and len(texts[0]) <= _ADDED_VALUE else None
    if value is None or any(c in value for c in "*?"):
        return f"{path}__missing=false"
    return f"{path}={value}"


@lru_cache(maxsize=4096)
def _private_name(tag: int, creator: str) -> str:
    """What the creator's dictionary calls a private element; empty where it is not published."""
    if not creator:
        return "private creator" if tag & 0x00010000 and 0x10 <= tag & 0xFFFF <= 0xFF else ""
    from pydicom.datadict import private_dictionary_description

    try:
        return str(private_dictionary_description(tag, creator))
    except KeyError:
        return ""
