"""The full headers of a series as one compressed block: equal elements once, varying ones as columns.

The block is JSON under Zstandard. Value fields are kept as they are, byte for byte (as Latin-1 text), so
every conversion can be made again. Values that only their original should hold (pixels, CSA headers and
other bulk, contours beyond a limit) are kept as their VR and length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from operator import itemgetter

import zstandard

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.values import BULK_VRS
from dicomlake.dicom.walk import Encoding, Raw
from dicomlake.errors import CatalogError

FORMAT = 1
MAX_BULK_VALUE = 1 << 10  # bytes kept of OB, OW, UN …; longer values stay in the original only
MAX_VALUE = 1 << 20
MAX_SEQUENCE = 1 << 23
_LEVEL = 3
_INSTANCE_NUMBER = 0x00200013
_DAMAGED = "the headers of a series are damaged: `dicomlake rebuild` recreates them"

_Cell = list[str]  # [VR, value field], or [VR, "", "length"] when the value stays in the original


@dataclass(frozen=True, slots=True)
class Group:
    """The instances of a series that are encoded alike.

    rows: positions in `SeriesHeaders.instances`. constant: elements equal in all of them.
    varying: for the others, one entry per row, None where an instance lacks the element.
    """

    rows: tuple[int, ...]
    encoding: Encoding
    charset: tuple[str, ...]
    signed: bool
    constant: dict[int, Raw]
    varying: dict[int, tuple[Raw | None, ...]]

    def attributes(self, elements: dict[int, Raw]) -> Attributes:
        """Elements of this group with the means to convert them."""
        return Attributes(elements, self.encoding, self.charset, self.signed)


@dataclass(frozen=True, slots=True)
class SeriesHeaders:
    """The headers of a series: SOPInstanceUIDs, in the order of InstanceNumber, and their elements."""

    instances: tuple[str, ...]
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return len(self.instances)

    def of(self, sop_instance_uid: str) -> Attributes:
        """The header of one instance. Raises KeyError when it is not in the series."""
        for uid, attributes in self:
            if uid == sop_instance_uid:
                return attributes
        raise KeyError(sop_instance_uid)

    def __iter__(self) -> Iterator[tuple[str, Attributes]]:
        """(SOPInstanceUID, header) of every instance."""
        found: dict[int, Attributes] = {}
        for group in self.groups:
            for i, row in enumerate(group.rows):
                own = {tag: cells[i] for tag, cells in group.varying.items()}
                elements = group.constant | {tag: raw for tag, raw in own.items() if raw is not None}
                found[row] = group.attributes(elements)
        for row, uid in enumerate(self.instances):
            yield uid, found[row]


def collect(headers: Sequence[tuple[str, Attributes]]) -> SeriesHeaders:
    """Bring the headers of a series together: (SOPInstanceUID, header) in any order."""
    ordered = sorted(headers, key=_order)
    alike: dict[tuple[Encoding, tuple[str, ...], bool], list[int]] = {}
    for row, (_uid, header) in enumerate(ordered):
        alike.setdefault((header.encoding, header.charset, header.signed), []).append(row)
    groups = tuple(
        _group(tuple(rows), [ordered[row][1].elements for row in rows], *way) for way, rows in alike.items()
    )
    return SeriesHeaders(tuple(uid for uid, _header in ordered), groups)


def _order(entry: tuple[str, Attributes]) -> tuple[float, str]:
    raw = entry[1].elements.get(_INSTANCE_NUMBER)
    try:
        number = float(raw[1]) if raw else inf
    except ValueError:
        number = inf
    return (number, entry[0])


def _group(
    rows: tuple[int, ...],
    headers: list[dict[int, Raw]],
    encoding: Encoding,
    charset: tuple[str, ...],
    signed: bool,
) -> Group:
    constant = _constant(headers)
    tags = dict.fromkeys(tag for tag in headers[0] if tag not in constant)
    for header in headers[1:]:
        if header.keys() != headers[0].keys():
            tags |= dict.fromkeys(tag for tag in header if tag not in constant)
    varying = {tag: tuple(header.get(tag) for header in headers) for tag in filter(is_catalogued, tags)}
    return Group(
        rows, encoding, charset, signed, {t: r for t, r in constant.items() if is_catalogued(t)}, varying
    )


def _constant(headers: list[dict[int, Raw]]) -> dict[int, Raw]:
    """The elements that all headers share. Compared as a whole: only where that fails, one by one."""
    constant = dict(headers[0])
    for header in headers[1:]:
        if len(constant) < 2:
            return {t: r for t, r in constant.items() if all(h.get(t) == r for h in headers)}
        try:
            if itemgetter(*constant)(header) == tuple(constant.values()):
                continue
        except KeyError:
            pass
        constant = {tag: raw for tag, raw in constant.items() if header.get(tag) == raw}
    return constant


def is_catalogued(tag: int) -> bool:
    """Whether an element says something about the object: group lengths and paddings do not."""
    return tag & 0xFFFF != 0 and tag >> 16 != 0xFFFC


def pack(headers: SeriesHeaders) -> bytes:
    """The block of a series."""
    body = {
        "format": FORMAT,
        "instances": headers.instances,
        "groups": [
            {
                "rows": group.rows,
                "encoding": group.encoding,
                "charset": group.charset,
                "signed": group.signed,
                "constant": {f"{tag:08X}": _cell(raw) for tag, raw in group.constant.items()},
                "varying": {
                    f"{tag:08X}": [None if raw is None else _cell(raw) for raw in cells]
                    for tag, cells in group.varying.items()
                },
            }
            for group in headers.groups
        ],
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    return compressor.compress(text.encode("utf-8", "surrogatepass"))


def _cell(raw: Raw) -> _Cell:
    vr, value = raw
    limit = MAX_BULK_VALUE if vr in BULK_VRS else MAX_SEQUENCE if vr == "SQ" else MAX_VALUE
    if len(value) > limit:
        return [vr, "", str(len(value))]
    return [vr, value.decode("latin-1")]


def content_digest(block: bytes) -> str:
    """BLAKE2b-128 over what a block says, however it was compressed. Raises BlockError when it is damaged."""
    try:
        text = zstandard.ZstdDecompressor().decompress(block)
    except zstandard.ZstdError as error:
        raise BlockError(_DAMAGED) from error
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class BlockError(CatalogError):
    """A block that cannot be read."""


def unpack(block: bytes) -> SeriesHeaders:
    """The headers in a block. Raises BlockError when it is damaged."""
    try:
        body = json.loads(zstandard.ZstdDecompressor().decompress(block))
    except (zstandard.ZstdError, ValueError, MemoryError) as error:  # a damaged size asks for all memory
        raise BlockError(_DAMAGED) from error
    return SeriesHeaders(
        tuple(body["instances"]),
        tuple(
            Group(
                tuple(group["rows"]),
                Encoding(*group["encoding"]),
                tuple(group["charset"]),
                group["signed"],
                {int(tag, 16): _raw(cell) for tag, cell in group["constant"].items()},
                {
                    int(tag, 16): tuple(None if cell is None else _raw(cell) for cell in cells)
                    for tag, cells in group["varying"].items()
                },
            )
            for group in body["groups"]
        ),
    )


def _raw(cell: _Cell) -> Raw:
    return (cell[0], cell[1].encode("latin-1"))
