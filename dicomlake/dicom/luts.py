"""Look-up tables: Modality LUT, VOI LUT and palettes (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5, C.7.9).

A table is data, not code: it is kept beside the volume as JSON and applied when somebody looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard, values
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import BrokenObject

Array = npt.NDArray[Any]

_DESCRIPTOR, _DATA = 0x00283002, 0x00283006  # LUTDescriptor, LUTData
_COLOURS = ("Red", "Green", "Blue")
_MAX_ENTRIES = 1 << 16
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2  # C.7.9.2


@dataclass(frozen=True, slots=True)
class Lut:
    """A table from numbers to numbers.

    first: the input of the first entry; smaller ones give it too, larger ones than the last the last.
    values: the entries, never negative. bits: per entry, as the descriptor says.
    units: ModalityLUTType (C.11.1.1.2), such as OD or HU; None for a VOI LUT.
    """

    first: int
    values: tuple[int, ...]
    bits: int
    units: str | None = None

    def apply(self, numbers: npt.ArrayLike) -> Array:
        """The entries for an array of whole numbers, of its shape; uint8 or uint16."""
        table = np.asarray(self.values, dtype=np.uint8 if self.bits <= 8 else np.uint16)
        return _looked_up(table, self.first, numbers)

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        found = {"first": self.first, "values": list(self.values), "bits": self.bits}
        return found | ({"units": self.units} if self.units else {})

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Lut:
        """What `to_json` gave."""
        return cls(found["first"], tuple(found["values"]), found["bits"], found.get("units"))


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """Colours of the stored values of a PALETTE COLOR image.

    first: the stored value of the first entry. colours: (entries, 3) red, green, blue; uint8 or uint16.
    """

    first: int
    colours: Array

    def apply(self, stored: npt.ArrayLike) -> Array:
        """Colours of stored values, shape (…, 3); beyond the ends those of the ends."""
        return _looked_up(self.colours, self.first, stored)


def _looked_up(table: Array, first: int, numbers: npt.ArrayLike) -> Array:
    place = np.asarray(numbers).astype(np.int64) - first
    return np.asarray(table[np.clip(place, 0, len(table) - 1)])


def modality_lut(dataset: Attributes) -> Lut | None:
    """The Modality LUT of an image, None when it has none (then RescaleSlope may say what values mean).

    Raises BrokenObject when the table and its descriptor do not agree.
    """
    items = dataset.items("ModalityLUTSequence")
    return _lut(items[0], dataset.signed, items[0].text("ModalityLUTType")) if items else None


def voi_luts(dataset: Attributes, *, signed: bool) -> tuple[Lut, ...]:
    """The VOI LUTs of an image, alternatives in the order of the object.

    signed: whether their input, which is the output of the modality transformation, has negative
    numbers (C.11.2.1.1); this decides how the first mapped value is written.
    Raises BrokenObject when a table and its descriptor do not agree.
    """
    return tuple(_lut(item, signed) for item in dataset.items("VOILUTSequence"))


def window(
    numbers: npt.ArrayLike, center: float, width: float, function: str = "LINEAR"
) -> npt.NDArray[np.float64]:
    """Numbers through a window, from 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    function: VOILUTFunction. Raises ValueError for an unknown one, and for a width below 1 (LINEAR) or
    not above 0.
    """
    x = np.asarray(numbers, dtype=np.float64)
    if width < 1 if function == "LINEAR" else width <= 0:
        raise ValueError(f"a {function} window cannot have the width {width:g}")
    if function == "LINEAR" and width == 1:
        return (x > center - 0.5).astype(np.float64)
    if function == "LINEAR":
        return np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    if function == "LINEAR_EXACT":
        return np.clip((x - center) / width + 0.5, 0, 1)
    if function == "SIGMOID":
        return np.asarray(0.5 + 0.5 * np.tanh(2 * (x - center) / width))  # 1 / (1 + exp(-4 …)), no overflow
    raise ValueError(f"VOILUTFunction {function} is not LINEAR, LINEAR_EXACT or SIGMOID")


def palette(dataset: Attributes) -> Palette | None:
    """The palette of a data set, None when it has none; segmented ones are expanded (C.7.9.2).

    Raises BrokenObject when the tables are missing, or do not agree with their descriptors or each other.
    """
    if "RedPaletteColorLookupTableDescriptor" not in dataset:
        return None
    found = [_colour(dataset, name) for name in _COLOURS]
    firsts, sizes = {first for first, _ in found}, {len(table) for _, table in found}
    if len(firsts) > 1 or len(sizes) > 1:
        raise BrokenObject("the three palette tables have different descriptors")
    return Palette(found[0][0], np.stack([table for _, table in found], axis=-1))


def _lut(item: Attributes, signed: bool, units: str | None = None) -> Lut:
    entries, first, bits = _descriptor(item, _DESCRIPTOR, signed)
    raw = item.elements.get(_DATA, ("OW", b""))[1]
    table = _entries(raw, entries, bits, item.encoding.big_endian)
    return Lut(first, tuple(table.tolist()), bits, units)


def _colour(dataset: Attributes, name: str) -> tuple[int, Array]:
    """First mapped value and table of one colour."""
    word = f"{name}PaletteColorLookupTable"
    tag = _tag(f"{word}Descriptor")
    entries, first, bits = _descriptor(dataset, tag, dataset.signed)
    big_endian = dataset.encoding.big_endian
    if f"{word}Data" in dataset:
        raw = dataset.elements[_tag(f"{word}Data")][1]
        return first, _entries(raw, entries, bits, big_endian)
    raw = dataset.elements.get(_tag(f"Segmented{word}Data"), ("OW", b""))[1]
    words = np.frombuffer(raw[: len(raw) // 2 * 2], ">u2" if big_endian else "<u2").astype("<u2")
    segments = words if bits > 8 else words.view(np.uint8)  # bytes are packed into words, low byte first
    table = _expanded(segments.tolist(), entries, bits)
    return first, np.asarray(table, dtype=np.uint16 if bits > 8 else np.uint8)


def _tag(keyword: str) -> int:
    return standard.tag_of(keyword) or 0


def _descriptor(item: Attributes, tag: int, signed: bool) -> tuple[int, int, int]:
    """Number of entries, first mapped value, bits per entry (C.11.1.1.1, C.7.6.3.1.5).

    The numbers are read as unsigned whatever their VR: only the second one can be negative, and a VR of
    SS makes 40,000 entries negative. 0 entries means 65,536, which does not fit.
    """
    vr, raw = item.elements.get(tag, ("US", b""))
    found = values.numbers("US", raw, item.encoding.big_endian)
    if len(found) != 3:
        raise BrokenObject("a look-up table has no descriptor of three numbers")
    entries, first, bits = (int(number) for number in found)
    if bits not in (8, *range(10, 17)):
        raise BrokenObject(f"a look-up table claims {bits} bits per entry; 8 and 10 to 16 are defined")
    if first >= 0x8000 and (signed or vr == "SS"):
        first -= 0x10000
    return entries or _MAX_ENTRIES, first, bits


def _entries(raw: bytes, entries: int, bits: int, big_endian: bool) -> Array:
    """Table data of words, or of bytes packed into words, which its length tells; uint8 or uint16."""
    words = np.frombuffer(raw[: len(raw) // 2 * 2], ">u2" if big_endian else "<u2").astype("<u2")
    if len(raw) == 2 * entries:
        found = words
    elif bits == 8 and len(raw) == entries + entries % 2:
        found = words.view(np.uint8)[:entries]
    else:
        raise BrokenObject(f"a look-up table has {len(raw)} bytes, {entries} entries are described")
    if bits == 8 and (found >> 8 == found & 0xFF).all():  # some writers fill both bytes of the word
        found = found & 0xFF
    if found.max() >= 1 << bits:  # nobody can tell the scale of such entries
        raise BrokenObject(f"a look-up table described as {bits} bits holds larger entries")
    return found.astype(np.uint8) if bits == 8 else found


def _expanded(data: list[int], entries: int, bits: int) -> list[int]:
    """A segmented table, expanded to its entries (C.7.9.2.1 to .3)."""
    table: list[int] = []
    p = 0
    while len(table) < entries and p + 2 <= len(data):
        p = _segment(data, p, table, bits, nested=False)
    if len(table) != entries:
        raise BrokenObject(f"a segmented palette has {len(table)} entries, {entries} are described")
    return table


def _segment(data: list[int], p: int, table: list[int], bits: int, *, nested: bool) -> int:
    """Expand the segment at p onto the table; return the position behind it."""
    if len(table) > _MAX_ENTRIES:
        raise BrokenObject(f"a segmented palette has more than {_MAX_ENTRIES} entries")
    code, length = data[p : p + 2] if p + 2 <= len(data) else (-1, 0)
    p += 2
    if code == _DISCRETE and p + length <= len(data):
        table += data[p : p + length]
        return p + length
    if code == _LINEAR and p < len(data) and table and length:
        start, end = table[-1], data[p]
        table += [start + _rounded((end - start) * (i + 1), length) for i in range(length)]
        return p + 1
    pointer = 2 if bits > 8 else 4  # a byte offset of 32 bits, least significant part first
    if code == _INDIRECT and p + pointer <= len(data) and not nested and table:
        step = 16 if bits > 8 else 8
        offset = sum(part << step * i for i, part in enumerate(data[p : p + pointer]))
        q = offset // (2 if bits > 8 else 1)
        for _ in range(length):
            q = _segment(data, q, table, bits, nested=True)
        return p + pointer
    raise BrokenObject("a segmented palette has a segment that makes no sense")


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number, the even one of two; the standard leaves it open, this is what others do."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))
