"""What compressed streams say about themselves before their pixels: size, precision, components, colour.

Read before a decoder is called, so that a stream which contradicts the header, or asks for more memory
than the image needs, is refused in time. JPEG, JPEG-LS, JPEG 2000 and JPEG XL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from

from dicomlake.errors import BrokenObject


@dataclass(frozen=True, slots=True)
class Start:
    """What all streams say. precision: bits per sample, of all components."""

    rows: int
    columns: int
    components: int
    precision: int


@dataclass(frozen=True, slots=True)
class JpegStart(Start):
    """JPEG. component_ids: as numbers. subsampled: chroma at a lower resolution.

    adobe: the transform of an APP14 marker, None without one. jfif: an APP0 JFIF marker is there.
    """

    component_ids: tuple[int, ...]
    subsampled: bool
    lossless: bool
    progressive: bool
    restarts: bool
    adobe: int | None
    jfif: bool


def jpeg_start(frame: bytes) -> JpegStart:
    """The marker segments up to the first scan (ISO 10918-1 annex B)."""
    if frame[:2] != b"\xff\xd8":
        raise BrokenObject("a compressed frame does not begin as JPEG")
    adobe: int | None = None
    jfif = restarts = False
    sof, found = b"", 0
    p = 2
    while p + 4 <= len(frame) and frame[p] == 0xFF and frame[p + 1] != 0xDA:
        marker = frame[p + 1]
        if marker == 0xFF:  # fill byte
            p += 1
            continue
        length = int.from_bytes(frame[p + 2 : p + 4], "big")
        segment = frame[p + 4 : p + 2 + length]
        if marker == 0xE0 and segment[:4] == b"JFIF":
            jfif = True
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif marker == 0xDD and any(segment):
            restarts = True
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            sof, found = segment, marker
        p += 2 + max(length, 2)
    if len(sof) < 6 or len(sof) < 6 + 3 * sof[5]:
        raise BrokenObject("a compressed frame is cut off before its pixels")
    parts = [sof[6 + 3 * i : 9 + 3 * i] for i in range(sof[5])]
    precision, rows, columns, components = unpack_from(">BHHB", sof)
    return JpegStart(
        rows=rows,
        columns=columns,
        components=components,
        precision=precision,
        component_ids=tuple(part[0] for part in parts),
        subsampled=len({part[1] for part in parts}) > 1,
        lossless=found == 0xC3,
        progressive=found == 0xC2,
        restarts=restarts,
        adobe=adobe,
        jfif=jfif,
    )


def jpeg_ls_start(frame: bytes) -> Start:
    """The frame header (ISO 14495-1 C.2.2)."""
    start = frame.find(b"\xff\xf7")  # SOF55
    if frame[:2] != b"\xff\xd8" or start < 0 or len(frame) < start + 10:
        raise BrokenObject("a compressed frame does not begin as JPEG-LS")
    precision, rows, columns, components = unpack_from(">BHHB", frame, start + 4)
    return Start(rows, columns, components, precision)


@dataclass(frozen=True, slots=True)
class Jpeg2000Start(Start):
    """JPEG 2000. begin: of the codestream within the frame, behind any JP2 boxes.

    signed: of all components. uniform: all have this precision, sign and full resolution.
    transformed: a multiple component transform, which the decoder undoes.
    """

    begin: int
    signed: bool
    uniform: bool
    transformed: bool


def jpeg_2000_start(frame: bytes) -> Jpeg2000Start:
    """SIZ and COD of the main header (ISO 15444-1 A.5.1 and A.6.1)."""
    begin = frame.find(b"\xff\x4f\xff\x51")  # SOC, SIZ
    if begin < 0 or len(frame) < begin + 45:
        raise BrokenObject("a compressed frame does not begin as JPEG 2000")
    default = begin + 2
    while frame[default : default + 2] not in (b"\xff\x52", b"\xff\x90", b""):  # COD; the first tile
        default += 2 + max(int.from_bytes(frame[default + 2 : default + 4], "big"), 2)
    if frame[default + 1 : default + 2] != b"\x52" or len(frame) < default + 9:
        raise BrokenObject("a compressed frame is cut off before its pixels")
    right, bottom, left, top = unpack_from(">4L", frame, begin + 8)
    (components,) = unpack_from(">H", frame, begin + 40)
    parts = frame[begin + 42 : begin + 42 + 3 * components]  # depth and steps of each component
    return Jpeg2000Start(
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(parts[0] & 0x7F) + 1,
        begin=begin,
        signed=bool(parts[0] & 0x80),
        uniform=parts == (parts[:1] + b"\1\1") * components,
        transformed=frame[default + 8] == 1,
    )


@dataclass(frozen=True, slots=True)
class JpegXlStart(Start):
    """JPEG XL. components: 0, as it takes a colour profile to tell.

    plain: integer samples in the colours of the image itself, nothing but them: no XYB, no alpha, no
    rotation, no preview, no animation.
    """

    plain: bool


def jpeg_xl_start(codestream: bytes) -> JpegXlStart:
    """SizeHeader and the beginning of ImageMetadata (ISO 18181-1 annex D)."""
    if codestream[:2] != b"\xff\x0a" or len(codestream) < 16:
        raise BrokenObject("a compressed frame does not begin as JPEG XL")
    bits = _Bits(codestream[2:])
    rows, columns = _jpeg_xl_size(bits)
    if bits.take(1) or bits.take(1):  # all default, which is XYB; or fields for rotation, animation …
        return JpegXlStart(rows, columns, 0, 8, False)
    floating = bits.take(1)
    precision = 32 if floating else bits.choose((0, 8), (0, 10), (0, 12), (6, 1))
    bits.take(1)  # sizes of buffers
    extra = 1 if floating else bits.choose((0, 0), (0, 1), (4, 2), (12, 1))
    xyb = bool(extra or bits.take(1))
    return JpegXlStart(rows, columns, 0, precision, not xyb and not floating)


def _jpeg_xl_size(bits: _Bits) -> tuple[int, int]:
    """Rows and columns; the second may be given as a ratio."""
    small = bits.take(1)

    def side() -> int:
        return (1 + bits.take(5)) * 8 if small else bits.choose((9, 1), (13, 1), (18, 1), (30, 1))

    rows = side()
    ratio = bits.take(3)
    if ratio == 0:
        return rows, side()
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return rows, rows * across // down


class _Bits:
    """Bits from the least significant of the first byte on, as JPEG XL counts them."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data[:64], "little"), 8 * min(len(data), 64)

    def take(self, count: int) -> int:
        if count > self._left:
            raise BrokenObject("a compressed frame is cut off before its pixels")
        found = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return found

    def choose(self, *ways: tuple[int, int]) -> int:
        """Two bits choose a way: so many bits, plus an offset."""
        count, offset = ways[self.take(2)]
        return self.take(count) + offset


def jpeg_xl_boxes(frame: bytes) -> dict[bytes, bytes]:
    """The boxes of a JPEG XL container by type, those of one type joined; a bare codestream as `jxlc`.

    Parts of a codestream (`jxlp`) come out as `jxlc`, without their counters.
    """
    if frame[:2] == b"\xff\x0a":
        return {b"jxlc": frame}
    if frame[:12] != b"\0\0\0\x0cJXL \r\n\x87\n":
        raise BrokenObject("a compressed frame does not begin as JPEG XL")
    found: dict[bytes, bytes] = {}
    for kind, value in _boxes(frame):
        part = value[4:] if kind == b"jxlp" else value
        kind = b"jxlc" if kind == b"jxlp" else kind
        found[kind] = found.get(kind, b"") + part
    return found


def _boxes(frame: bytes) -> Iterator[tuple[bytes, bytes]]:
    p = 0
    while p + 8 <= len(frame):
        length, begin = int.from_bytes(frame[p : p + 4], "big"), p + 8
        kind = frame[p + 4 : p + 8]
        if length == 1:  # a long one
            length, begin = int.from_bytes(frame[p + 8 : p + 16], "big"), p + 16
        end = p + length if length else len(frame)  # 0: to the end
        if end < begin:
            return
        yield kind, frame[begin:end]
        p = end
