"""Compressed frames to stored values, by the decoder that was proven for their transfer syntax.

All are imagecodecs functions that release the GIL, so threads scale. A decoder's answer is believed
only after checks it does not make itself: the stream ends where it should, its size, components and
precision agree with the header, the colour transform is known and not assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct, unpack_from

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard
from dicomlake.dicom.cells import Pixels, cells_of, extracted, frame_bits, inflated, stored_values, to_rgb
from dicomlake.dicom.frames import PixelFormat
from dicomlake.errors import BrokenObject, UnsupportedPixels

_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
_END_OF_IMAGE = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
_FILLER = b"\x55" * 64  # entropy coded bits that no complete image still needs
_RLE_HEADER = Struct("<16L")


@dataclass(frozen=True, slots=True)
class Decoder:
    """A way from an encoded frame to stored values; `decode(frame, form, transfer_syntax)`."""

    name: str
    decode: Callable[[bytes, PixelFormat, str], Pixels]


def decoder(transfer_syntax: str) -> Decoder:
    """The decoder for a transfer syntax; which ones, and why: measured equal to another and fast."""
    found = _decoders().get(transfer_syntax)
    if found is None:
        raise UnsupportedPixels(
            f"no trusted decoder for {standard.uid_name(transfer_syntax)}: convert the object to an"
            " uncompressed transfer syntax and ingest it again",
            transfer_syntax=transfer_syntax,
        )
    return found


def _decoders() -> dict[str, Decoder]:
    jpeg = Decoder("imagecodecs jpeg8 (libjpeg-turbo)", _decode_jpeg)
    jpeg_ls = Decoder("imagecodecs jpegls (CharLS)", _decode_jpeg_ls)
    # OpenJPEG for HTJ2K too: the twice as fast OpenJPH wraps overshoot of lossy images around.
    jpeg_2000 = Decoder("imagecodecs jpeg2k (OpenJPEG)", _decode_jpeg_2000)
    return {
        _ENCAPSULATED_UNCOMPRESSED: Decoder("numpy", _decode_uncompressed),
        _DEFLATED_FRAMES: Decoder("zlib", _decode_deflated),
        _RLE: Decoder("imagecodecs packbits", _decode_rle),
        # Processes 1; 2 and 4; 6 and 8; 10 and 12; 14; 14 selection value 1
        **{_JPEG + tail: jpeg for tail in ("50", "51", "53", "55", "57", "70")},
        **{_JPEG + tail: jpeg_ls for tail in ("80", "81")},
        **{_JPEG + tail: jpeg_2000 for tail in ("90", "91", "201", "202", "203")},
    }


def _is_lossy(transfer_syntax: str) -> bool:
    return transfer_syntax.removeprefix(_JPEG) in ("50", "51", "53", "55", "81", "91", "203")


def _decode_uncompressed(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    needed = (frame_bits(form) + 7) // 8
    if not 0 <= len(frame) - needed <= 1:
        raise BrokenObject(f"a frame has {len(frame)} bytes, {needed} are described")
    return stored_values(cells_of(frame, 0, 0, form, False), form, transfer_syntax)


def _decode_deflated(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    return _decode_uncompressed(inflated(frame, (frame_bits(form) + 7) // 8 + 2), form, transfer_syntax)


def _decode_rle(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """RLE (PS3.5 annex G): a segment for each byte of each sample, most significant byte first.

    Segments are decoded one by one and each must have its full length; decoders that take the whole
    frame fill what is missing with what follows.
    """
    if len(frame) < 64:
        raise BrokenObject("an RLE frame is cut off inside its header")
    count, *offsets = _RLE_HEADER.unpack_from(frame)
    width = max(form.bits_allocated // 8, 1)
    if count != form.samples * width or offsets[:count] != sorted(offsets[:count]) or offsets[0] < 64:
        raise BrokenObject(f"an RLE frame has {count} segments, {form.samples * width} are described")
    size = (form.rows * form.columns * min(form.bits_allocated, 8) + 7) // 8
    ends = [*offsets[1:count], len(frame)]
    planes = [_rle_segment(frame[begin:end], size) for begin, end in zip(offsets[:count], ends, strict=True)]
    if form.bits_allocated == 1:
        return stored_values(cells_of(planes[0].tobytes(), 0, 0, form, False), form, transfer_syntax)
    cells = np.empty((form.rows * form.columns, form.samples, width), dtype=np.uint8)
    for i, plane in enumerate(planes):
        cells[:, i // width, width - 1 - i % width] = plane
    values = extracted(cells.view(f"<u{width}").reshape(-1), form).reshape(form.shape)
    return to_rgb(values, form, transfer_syntax) if form.samples == 3 else values


def _rle_segment(segment: bytes, size: int) -> npt.NDArray[np.uint8]:
    import imagecodecs

    try:
        plane = imagecodecs.packbits_decode(segment)
    except Exception as exc:
        raise BrokenObject("an RLE segment is damaged or cut off") from exc
    if not size <= len(plane) <= size + 1:  # a byte of padding may read as a run
        raise BrokenObject(f"an RLE segment has {len(plane)} bytes, {size} are described")
    return np.frombuffer(plane, np.uint8, size)


def _decode_jpeg(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """JPEG (ISO 10918-1): baseline, extended, progressive and lossless, 8 to 16 bits."""
    import imagecodecs

    start = _jpeg_start(frame)
    _check_components(start.components, form, transfer_syntax)
    source = target = "GRAYSCALE"
    if form.samples == 3:
        source = _jpeg_colour(start, form, transfer_syntax)
        target = source if start.lossless else "RGB"

    def decode(stream: bytes) -> Pixels:
        return np.asarray(imagecodecs.jpeg8_decode(stream, colorspace=source, outcolorspace=target))

    if _ends(frame):
        values = _guarded(decode, frame, transfer_syntax)
    else:
        values = _without_end(decode, frame, start, transfer_syntax)
    values = _settled(values, form, start.precision, None, transfer_syntax)
    if target == "YCBCR":
        return to_rgb(values, form, transfer_syntax)
    return values


def _without_end(
    decode: Callable[[bytes], Pixels], frame: bytes, start: _JpegStart, transfer_syntax: str
) -> Pixels:
    """An image without an end marker, as some angiography writers leave it.

    libjpeg fills what is missing without a word. So the image is decoded twice, with different bits in
    place of what might be missing: equal results used none of them, and the image is complete. Scans
    or restart intervals may be missing as a whole; with those the end marker is required.
    """
    if start.progressive or start.restarts:
        raise BrokenObject("a compressed frame is cut off: its end marker is missing")
    values = _guarded(decode, frame + _END_OF_IMAGE, transfer_syntax)
    again = _guarded(decode, frame + _FILLER + _END_OF_IMAGE, transfer_syntax)
    if not np.array_equal(values, again):
        raise BrokenObject("a compressed frame is cut off: its end marker and pixels before it are missing")
    return values


@dataclass(frozen=True, slots=True)
class _JpegStart:
    """What a JPEG stream says before its first scan.

    precision: bits per sample. component_ids: as numbers. subsampled: chroma at a lower resolution.
    adobe: the transform of an APP14 marker, None without one. jfif: an APP0 JFIF marker is there.
    """

    precision: int
    component_ids: tuple[int, ...]
    subsampled: bool
    lossless: bool
    progressive: bool
    restarts: bool
    adobe: int | None
    jfif: bool

    @property
    def components(self) -> int:
        """How many."""
        return len(self.component_ids)


def _jpeg_start(frame: bytes) -> _JpegStart:
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
    return _JpegStart(
        precision=sof[0],
        component_ids=tuple(part[0] for part in parts),
        subsampled=len({part[1] for part in parts}) > 1,
        lossless=found == 0xC3,
        progressive=found == 0xC2,
        restarts=restarts,
        adobe=adobe,
        jfif=jfif,
    )


def _jpeg_colour(start: _JpegStart, form: PixelFormat, transfer_syntax: str) -> str:
    """The colour space of the coded components, YCBCR or RGB; refused when the witnesses disagree.

    The stream's own markers outrank PhotometricInterpretation, which converters forget to change: an
    Adobe marker names the transform, component identifiers may spell RGB, JFIF knows nothing but YCbCr,
    and chroma is what gets subsampled. Without any of them the header decides.
    """
    stream = set()
    if start.adobe is not None:
        stream.add("RGB" if start.adobe == 0 else "YCBCR")
    if bytes(start.component_ids) in (b"RGB", b"rgb"):
        stream.add("RGB")
    if start.jfif and not start.lossless:
        stream.add("YCBCR")
    if start.subsampled:
        stream.add("YCBCR")
    header = {"RGB": "RGB", "YBR_FULL": "YCBCR", "YBR_FULL_422": "YCBCR"}.get(form.photometric)
    if header is None or len(stream) > 1 or (stream == {"RGB"} and header != "RGB"):
        raise UnsupportedPixels(
            f"PhotometricInterpretation {form.photometric} contradicts the markers of the JPEG stream:"
            " its colours cannot be told; correct the attribute and ingest it again",
            transfer_syntax=transfer_syntax,
        )
    return stream.pop() if stream else header


def _decode_jpeg_ls(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """JPEG-LS (ISO 14495-1), lossless and near-lossless; signed values are coded as their bits."""
    import imagecodecs

    if not _ends(frame):
        raise BrokenObject("a compressed frame is cut off: its end marker is missing")
    start = frame.find(b"\xff\xf7")  # SOF55
    if frame[:2] != b"\xff\xd8" or start < 0 or len(frame) < start + 10:
        raise BrokenObject("a compressed frame does not begin as JPEG-LS")
    precision, components = frame[start + 4], frame[start + 9]
    _check_components(components, form, transfer_syntax)
    values = _guarded(lambda stream: np.asarray(imagecodecs.jpegls_decode(stream)), frame, transfer_syntax)
    values = _settled(np.ascontiguousarray(values), form, precision, None, transfer_syntax)
    return to_rgb(values, form, transfer_syntax) if form.samples == 3 else values


def _decode_jpeg_2000(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """JPEG 2000 and HTJ2K (ISO 15444-1, -15); a JP2 wrapper, which PS3.5 A.4.4 forbids, is skipped."""
    import imagecodecs

    if not _ends(frame):
        raise BrokenObject("a compressed frame is cut off: its end marker is missing")
    begin = frame.find(b"\xff\x4f\xff\x51")  # SOC, SIZ
    default = frame.find(b"\xff\x52", begin)  # COD
    if begin < 0 or default < 0 or len(frame) < max(begin + 43, default + 9):
        raise BrokenObject("a compressed frame does not begin as JPEG 2000")
    components, depth = unpack_from(">HB", frame, begin + 40)
    _check_components(components, form, transfer_syntax)
    transformed = frame[default + 8] == 1  # multiple component transform: undone by the decoder
    if form.samples == 3:
        expected = {"YBR_RCT": True, "YBR_ICT": True, "YBR_FULL": False, "RGB": transformed}
        if expected.get(form.photometric) != transformed:
            raise UnsupportedPixels(
                f"PhotometricInterpretation {form.photometric} contradicts the component transform of the"
                " JPEG 2000 stream: its colours cannot be told; correct the attribute and ingest it again",
                transfer_syntax=transfer_syntax,
            )
    values = _guarded(
        lambda stream: np.asarray(imagecodecs.jpeg2k_decode(stream)), frame[begin:], transfer_syntax
    )
    values = _settled(values, form, (depth & 0x7F) + 1, bool(depth & 0x80), transfer_syntax)
    return to_rgb(values, form, transfer_syntax) if form.photometric == "YBR_FULL" else values


# ---- checks that decoders leave to their caller ------------------------------------------------------


def _ends(frame: bytes) -> bool:
    """Whether a stream has its end marker; what follows may be padding, 00 or FF."""
    return frame.rstrip(b"\0\xff").endswith(_END_OF_IMAGE)


def _check_components(components: int, form: PixelFormat, transfer_syntax: str) -> None:
    if components != form.samples:
        raise UnsupportedPixels(
            f"the compressed stream has {components} components, SamplesPerPixel is {form.samples}",
            transfer_syntax=transfer_syntax,
        )


def _guarded(decode: Callable[[bytes], Pixels], stream: bytes, transfer_syntax: str) -> Pixels:
    """Call a decoder; whatever it raises, the frame is broken or beyond it."""
    try:
        return decode(stream)
    except MemoryError:
        raise
    except Exception as exc:  # each codec has an error class of its own
        raise BrokenObject(
            f"a {standard.uid_name(transfer_syntax)} frame cannot be decoded: {type(exc).__name__}"
        ) from exc


def _settled(
    values: Pixels, form: PixelFormat, precision: int, coded_signed: bool | None, transfer_syntax: str
) -> Pixels:
    """Decoded samples to stored values of the described shape and dtype.

    precision: bits per sample of the stream. coded_signed: whether it codes signed numbers; None when
    it can only code bit patterns.
    Lossless streams may carry bits above BitsStored (overlays, copies of the sign), which are dropped.
    Lossy ones overshoot there by compression noise: those values stay as decoded where the dtype holds
    them, as masking would turn the brightest pixel into a dark one.
    """
    if values.shape != form.shape:
        raise BrokenObject(f"the compressed frame is {values.shape}, {form.shape} is described")
    if form.kind != "integer" or form.high_bit != form.bits_stored - 1:
        raise BrokenObject("compressed pixels are integers whose HighBit is BitsStored - 1 (PS3.5 8.2)")
    lossy, pattern = _is_lossy(transfer_syntax), form.signed and not coded_signed
    if (pattern and (precision < form.bits_stored or (lossy and precision > form.bits_stored))) or (
        coded_signed and not form.signed and values.min() < 0
    ):
        raise UnsupportedPixels(
            f"PixelRepresentation and BitsStored {form.bits_stored} contradict the compressed stream, which"
            f" has {precision} {'signed' if coded_signed else 'unsigned'} bits: signs cannot be told",
            transfer_syntax=transfer_syntax,
        )
    if pattern:
        spare = values.dtype.itemsize * 8 - form.bits_stored
        signed = (values << spare).view(values.dtype.str.replace("u", "i"))
        return (signed >> spare).astype(form.dtype, copy=False)
    if not lossy and precision > form.bits_stored:
        spare = values.dtype.itemsize * 8 - form.bits_stored
        values = (values << spare) >> spare
    elif precision > form.dtype.itemsize * 8 and (values != values.astype(form.dtype)).any():
        raise UnsupportedPixels(
            f"lossy values exceed BitsStored {form.bits_stored}", transfer_syntax=transfer_syntax
        )
    return values.astype(form.dtype, copy=False)
