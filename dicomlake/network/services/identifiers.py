"""Identifiers: the data sets with the keys of a query, and those of its answers (PS3.4 section C.4.1.1.3).

They are small and many, so they are read and written without a library.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

from dicomlake.dicom import standard, values
from dicomlake.dicom.attributes import Attributes, charset_of
from dicomlake.dicom.headers import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE
from dicomlake.dicom.walk import Encoding, PixelsReached, Raw, Short, Walk
from dicomlake.errors import BrokenObject

SPECIFIC_CHARACTER_SET = 0x00080005
_MOST = 1 << 24  # bytes that an identifier may inflate to
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_LONGEST = 0xFFFE  # bytes of a value whose length has 16 bits
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_WHOLE = frozenset({"US", "SS", "UL", "SL", "UV", "SV"})


def read(dataset: bytes, transfer_syntax: str) -> Attributes:
    """The elements of an identifier. Raises BrokenObject when it cannot be read to its end."""
    if transfer_syntax == DEFLATED:
        dataset = _inflated(dataset)
    encoding = encoding_of(transfer_syntax)
    elements: dict[int, Raw] = {}
    try:
        Walk(encoding, elements, {}).take(dataset, 0, len(dataset))
    except (Short, PixelsReached, struct.error) as error:
        raise BrokenObject("the identifier is cut off, or no data set of keys: send it again") from error
    return Attributes(elements, encoding, charset_of(elements))


def _inflated(dataset: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = inflater.decompress(dataset, _MOST)
    except zlib.error as error:
        raise BrokenObject("the deflated identifier is damaged: send it again") from error
    if not inflater.eof:
        raise BrokenObject("the deflated identifier is cut off or too large: send it again")
    return found


def encoding_of(transfer_syntax: str) -> Encoding:
    """How data sets are written in a transfer syntax."""
    return Encoding(transfer_syntax == IMPLICIT_LITTLE, transfer_syntax == EXPLICIT_BIG)


def write(found: Mapping[int, Sequence[str]], transfer_syntax: str) -> bytes:
    """A data set of these values by tag, with the character set that they need.

    Values that the VR cannot hold, and those of sequences and bulk VRs, become empty.
    """
    charset, codec = _charset(found.values())
    encoding = encoding_of(transfer_syntax)
    written = {tag: _value(tag, texts, codec, encoding.big_endian) for tag, texts in found.items()}
    if charset:
        written[SPECIFIC_CHARACTER_SET] = ("CS", _padded(charset.encode("ascii"), b" "))
    body = b"".join(_element(tag, *written[tag], encoding) for tag in sorted(written))
    return _deflated(body) if transfer_syntax == DEFLATED else body


def _deflated(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return _padded(deflater.compress(body) + deflater.flush(), b"\0")


def _charset(found: Iterable[Sequence[str]]) -> tuple[str, str]:
    """The term of SpecificCharacterSet and the codec for texts: the narrowest of three that holds them."""
    whole = "".join(text for texts in found for text in texts)
    if whole.isascii():
        return "", "ascii"
    try:
        whole.encode("latin-1")
    except UnicodeEncodeError:
        return "ISO_IR 192", "utf-8"
    return "ISO_IR 100", "latin-1"


def _value(tag: int, texts: Sequence[str], codec: str, big_endian: bool) -> Raw:
    vr = values.resolve_vr(standard.vr_of(tag), signed=False)
    if vr in values.TEXT_VRS:
        raw = "\\".join(texts).encode(codec, "replace")
        raw = _padded(raw, b"\0" if vr == "UI" else b" ")
    elif vr == "AT":
        raw = _tags(texts, big_endian)
    elif vr in _NUMBERS:
        raw = _numbers(vr, texts, big_endian)
    else:
        raw = b""
    return vr, raw if len(raw) <= _LONGEST or vr in _LONG_VRS else b""


def _padded(raw: bytes, padding: bytes) -> bytes:
    return raw + padding if len(raw) % 2 else raw


def _numbers(vr: str, texts: Sequence[str], big_endian: bool) -> bytes:
    form = f"{'>' if big_endian else '<'}{len(texts)}{_NUMBERS[vr]}"
    try:
        return struct.pack(form, *(int(text) if vr in _WHOLE else float(text) for text in texts))
    except (ValueError, struct.error, OverflowError):
        return b""


def _tags(texts: Sequence[str], big_endian: bool) -> bytes:
    form = ">HH" if big_endian else "<HH"
    try:
        return b"".join(struct.pack(form, int(text[:4], 16), int(text[4:], 16)) for text in texts)
    except (ValueError, struct.error):
        return b""


def _element(tag: int, vr: str, raw: bytes, encoding: Encoding) -> bytes:
    order = ">" if encoding.big_endian else "<"
    group, element = tag >> 16, tag & 0xFFFF
    if encoding.implicit:
        return struct.pack(f"{order}HHL", group, element, len(raw)) + raw
    if vr in _LONG_VRS:
        return struct.pack(f"{order}HH2sHL", group, element, vr.encode(), 0, len(raw)) + raw
    return struct.pack(f"{order}HH2sH", group, element, vr.encode(), len(raw)) + raw
