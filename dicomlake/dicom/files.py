"""What kind of file is this? Answered from its first bytes, never from its name.

A DICOM file is recognised in two shapes:

- *part10*: the DICOM File Format of PS3.10 section 7.1, a 128 byte preamble and the prefix
  ``DICM``, or the prefix alone, as written by tools that forget the preamble.
- *bare*: a data set without preamble and File Meta Information, as older archives and C-STORE
  dumps leave behind. Nothing marks such a file, so its first elements must read as elements.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Final

HEAD_BYTES: Final = 4096
"""How much of a file `sniff` and its companions want to see."""

MEDIA_STORAGE_DIRECTORY: Final = b"1.2.840.10008.1.3.10"
"""SOP Class UID of Media Storage Directory Storage, a DICOMDIR (PS3.10 section 8.6)."""

_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_SEQUENCE_DELIMITER: Final = 0xFFFEE0DD
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002

_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_NESTING_VRS: Final = frozenset((b"SQ", b"UN", None))

_FIRST_GROUPS: Final = frozenset((0x0002, 0x0004, 0x0008))
"""Groups a bare data set may begin with: file meta, directory information, identification."""

_LAST_EARLY_GROUP: Final = 0x0028
"""Highest group of a second element: test objects leave out all up to Image Pixel (0028)."""

_ELEMENTS_TO_CHECK: Final = 3
"""A bare data set is believed after this many elements; one alone could be chance."""


class Kind(StrEnum):
    """What the first bytes of a file say it is."""

    PART10 = "part10"
    BARE = "bare"
    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    OTHER = "other"
    EMPTY = "empty"


def sniff(head: bytes) -> Kind:
    """Tell the kind of a file from its first `HEAD_BYTES` bytes (all of them, if it is shorter).

    The DICOM prefix wins over every other signature: PS3.10 leaves the preamble to the
    application, so that one file can also be, for example, a TIFF.
    """
    if not head:
        return Kind.EMPTY
    if head[128:132] == b"DICM" or (head[:4] == b"DICM" and _reads_as_elements(head, 4)):
        return Kind.PART10
    for signature, kind in _ARCHIVES:
        if head.startswith(signature):
            return kind
    if _is_tar(head):
        return Kind.TAR
    if _reads_as_elements(head, 0):
        return Kind.BARE
    return Kind.OTHER


def is_dicomdir(head: bytes) -> bool:
    """Whether a file is a DICOMDIR, told by its Media Storage SOP Class UID, not by its name.

    A bare data set that begins with the directory group 0004 is one as well.
    """
    kind = sniff(head)
    if kind is Kind.BARE and _group_at_start(head) == 0x0004:
        return True
    if kind not in (Kind.PART10, Kind.BARE):
        return False
    return _media_storage_sop_class(head) == MEDIA_STORAGE_DIRECTORY


def describe(head: bytes) -> str:
    """Name for people what a file is: "PDF document", "NIfTI", "text", "unknown binary"."""
    kind = sniff(head)
    if kind in _KIND_NAMES:
        return _KIND_NAMES[kind]
    if name := _signed(head, _SIGNATURES):
        return name
    if _is_text(head):
        return next((name for pattern, name in _TEXTS if pattern.match(head)), "text")
    return _signed(head, _WEAK_SIGNATURES) or "unknown binary"


# --- data elements -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How elements are written: PS3.5 sections 7.1 and 7.3."""

    order: str  # "<" or ">", as in struct
    explicit: bool  # whether the VR is written


@dataclass(frozen=True, slots=True)
class _Element:
    """The header of one data element."""

    tag: int  # group << 16 | element
    vr: bytes | None  # None when implicit
    start: int  # offset of the value, bytes
    length: int  # of the value, bytes; 0xFFFFFFFF when undefined

    @property
    def group(self) -> int:
        return self.tag >> 16

    @property
    def end(self) -> int:
        return self.start + self.length


_EXPLICIT_LITTLE: Final = _Encoding("<", explicit=True)
_IMPLICIT_LITTLE: Final = _Encoding("<", explicit=False)
# Explicit first: an explicit header also reads as an implicit one with a large length.
_ENCODINGS: Final = tuple(_Encoding(order, explicit) for explicit, order in product((True, False), "<>"))


def _element(head: bytes, at: int, encoding: _Encoding) -> _Element | None:
    """The element header at an offset; None where none can be read."""
    if len(head) < at + 8:
        return None
    group, number = struct.unpack_from(f"{encoding.order}HH", head, at)
    tag = group << 16 | number
    vr = head[at + 4 : at + 6]
    if not encoding.explicit or group == 0xFFFE:
        (length,) = struct.unpack_from(f"{encoding.order}I", head, at + 4)
        return _Element(tag, None, at + 8, length)
    if vr in _SHORT_VRS:
        (length,) = struct.unpack_from(f"{encoding.order}H", head, at + 6)
        return _Element(tag, vr, at + 8, length)
    if vr in _LONG_VRS and len(head) >= at + 12 and head[at + 6 : at + 8] == b"\0\0":
        (length,) = struct.unpack_from(f"{encoding.order}I", head, at + 8)
        return _Element(tag, vr, at + 12, length)
    return None


def _group_at_start(head: bytes) -> int | None:
    """The group of the first tag in whichever byte order makes it a possible first group."""
    groups = (struct.unpack_from(f"{order}H", head)[0] for order in "<>") if len(head) >= 8 else ()
    return next((group for group in groups if group in _FIRST_GROUPS), None)


def _reads_as_elements(head: bytes, at: int) -> bool:
    """Whether a data set may begin at an offset, under any of the encodings."""
    for encoding in _ENCODINGS:
        first = _element(head, at, encoding)
        if first is not None and first.group in _FIRST_GROUPS and _reads_on(head, first, encoding, 1):
            return True
    return False


def _reads_on(head: bytes, element: _Element, encoding: _Encoding, checked: int) -> bool:
    """Whether this element, and those after it in the head, are plausible; `checked` counts them."""
    if element.length == _UNDEFINED_LENGTH:
        return element.vr in _NESTING_VRS and _item_follows(head, element.start, encoding)
    if element.length % 2 and not encoding.explicit:
        return False
    if checked == 2 and element.group > _LAST_EARLY_GROUP:
        return False
    if checked == _ELEMENTS_TO_CHECK:
        return True
    if element.end > len(head):  # only a sequence is long so early in a data set
        return element.vr == b"SQ" or checked > 1
    if len(head) - element.end < 8:
        return element.end == len(head) or checked > 1
    # After the file meta, the transfer syntax that it names takes over (PS3.10 section 7.1).
    encodings = _ENCODINGS if element.group == 0x0002 else (encoding,)
    for following in encodings:
        after = _element(head, element.end, following)
        if after is not None and after.tag > element.tag and _reads_on(head, after, following, checked + 1):
            return True
    return False


def _item_follows(head: bytes, at: int, encoding: _Encoding) -> bool:
    if len(head) < at + 8:
        return len(head) >= HEAD_BYTES
    item = _element(head, at, encoding)
    return item is not None and item.tag in (_ITEM, _SEQUENCE_DELIMITER)


def _media_storage_sop_class(head: bytes) -> bytes | None:
    """The value of (0002,0002), for which implicit File Meta Information is forgiven."""
    at = 132 if head[128:132] == b"DICM" else 4 if head[:4] == b"DICM" else 0
    while True:
        element = _element(head, at, _EXPLICIT_LITTLE) or _element(head, at, _IMPLICIT_LITTLE)
        if element is None or element.group != 0x0002:
            return None
        if element.tag == _MEDIA_STORAGE_SOP_CLASS_UID:
            return head[element.start : element.end].strip(b"\0 ")
        at = element.end


# --- other signatures ----------------------------------------------------------------------

_ARCHIVES: Final = (
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),  # without members
    (b"PK\x07\x08", Kind.ZIP),  # first part of a split archive
    (b"\x1f\x8b\x08", Kind.GZIP),
    *((b"BZh%d1AY&SY" % level, Kind.BZIP2) for level in range(1, 10)),
    (b"\xfd7zXZ\0", Kind.XZ),
)

_KIND_NAMES: Final = {
    Kind.PART10: "DICOM file",
    Kind.BARE: "DICOM data set without file meta",
    Kind.ZIP: "ZIP archive",
    Kind.TAR: "tar archive",
    Kind.GZIP: "gzip archive",
    Kind.BZIP2: "bzip2 archive",
    Kind.XZ: "xz archive",
    Kind.EMPTY: "empty file",
}

_SIGNATURES: Final = (
    (0, b"%PDF", "PDF document"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
    (0, b"\xff\xd8\xff", "JPEG image"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000 image"),
    (0, b"\0\0\0\x0cjP  \r\n", "JPEG 2000 image"),
    (0, b"GIF8", "GIF image"),
    (0, b"II*\0", "TIFF image"),
    (0, b"MM\0*", "TIFF image"),
    (0, b"II+\0", "BigTIFF image"),
    (0, b"MM\0+", "BigTIFF image"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "NIfTI header"),
    (4, b"n+2\0\r\n\x1a\n", "NIfTI-2"),
    (4, b"ni2\0\r\n\x1a\n", "NIfTI-2 header"),
    (0, b"\x5c\x01\0\0", "Analyze header"),  # after NIfTI, which begins with the same 348
    (0, b"\0\0\x01\x5c", "Analyze header"),
    (0, b"NRRD000", "NRRD image"),
    (0, b"ObjectType = ", "MetaImage header"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (0, b"CDF\x01", "NetCDF file"),
    (0, b"\x93NUMPY", "NumPy array"),
    (0, b"PAR1", "Parquet file"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (36, b"acsp", "ICC profile"),
    (4, b"ftyp", "MP4 video"),
    (0, b"RIFF", "audio or video (RIFF)"),
    (0, b"\0\0\x01\xba", "MPEG video"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (0, b"Rar!\x1a\x07", "RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (0, b"\x04\x22\x4d\x18", "LZ4 archive"),
    (0, b"MSCF", "Cabinet archive"),
    (0, b"\0\x05\x16\x07", "macOS resource fork"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office document or Thumbs.db"),
    (0, b"\x7fELF", "Linux program"),
    (0, b"\xff\xfe", "text (UTF-16)"),
    (0, b"\xfe\xff", "text (UTF-16)"),
)

# Two letters may also begin a text, so these are tried after it.
_WEAK_SIGNATURES: Final = ((0, b"MZ", "Windows program"), (0, b"BM", "BMP image"))

_TEXTS: Final = (
    (re.compile(rb'(\xef\xbb\xbf)?\s*(\{\s*["}]|\[\s*[\[{"\]\d-])'), "JSON"),
    (re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype )?html", re.IGNORECASE), "HTML document"),
    (re.compile(rb"(\xef\xbb\xbf)?\s*<\?xml"), "XML document"),
)

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def _signed(head: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str | None:
    """The name that goes with the first signature, at its offset in bytes, that the head bears."""
    return next((name for offset, mark, name in signatures if head.startswith(mark, offset)), None)


def _is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes are a tar header, proved by its checksum (POSIX pax, ustar)."""
    block = head[:512]
    digits = block[148:156].strip(b" \0")
    if len(block) < 512 or block[:1] == b"\0" or not re.fullmatch(rb"[0-7]+", digits):
        return False
    return sum(block[:148]) + sum(block[156:]) + 8 * ord(" ") == int(digits, 8)


def _is_text(head: bytes) -> bool:
    """Whether the bytes hold nothing but characters, in UTF-8 or a Latin code page."""
    if _CONTROL.search(head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        at_the_end = error.start > len(head) - 4  # a character cut by the end of the head
        high = sum(byte >= 0x80 for byte in head)
        return at_the_end or high * 4 < len(head)
    return True
