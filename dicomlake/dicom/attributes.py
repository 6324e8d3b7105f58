"""Elements by tag or keyword, converted when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from dicomlake.dicom import standard, values
from dicomlake.dicom.walk import Encoding, Raw, read_items


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
            charset = charset_of(elements) if 0x00080005 in elements else self.charset
            yield Attributes(elements, found, charset, self.signed)


def charset_of(elements: dict[int, Raw]) -> tuple[str, ...]:
    """The terms of SpecificCharacterSet; none means the default repertoire."""
    raw = elements.get(0x00080005)
    return _terms(raw[1]) if raw else ()


@lru_cache(maxsize=64)
def _terms(value: bytes) -> tuple[str, ...]:
    return values.texts("CS", value)
