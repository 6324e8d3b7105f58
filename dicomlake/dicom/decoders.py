"""Compressed frames to stored values, by the decoder that was proven for their transfer syntax.

All are imagecodecs functions that release the GIL, so threads scale. A decoder's answer is believed
only after checks it does not make itself: the stream ends where it should, its size, components and
precision agree with the header, the colour transform is known and not assumed.

What stays refused, and why: video is not decoded here; arithmetic coding and hierarchical JPEG (retired),
multi-component JPEG 2000 (part 2) and lossy JPEG XL have no second decoder to be proven by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard
from dicomlake.dicom.cells import Pixels, cells_of, extracted, frame_bits, inflated, stored_values, to_rgb
from dicomlake.dicom.codestreams import (
    Jpeg2000Start,
    JpegStart,
    Start,
    jpeg_2000_start,
    jpeg_ls_start,
    jpeg_start,
    jpeg_xl_boxes,
    jpeg_xl_start,
)
from dicomlake.dicom.frames import PixelFormat
from dicomlake.errors import BrokenObject, UnsupportedPixels

_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
# MPEG2, H.264 and HEVC, their fragmentable forms, SMPTE ST 2110
_VIDEO = (*(f"{_JPEG}10{digit}" for digit in range(9)), "1.2.840.10008.1.2.7.")
_END_OF_IMAGE = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
MAX_SAMPLES = 1 << 30  # of one compressed frame: a few bytes must not ask for all memory
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
        video = transfer_syntax.startswith(_VIDEO)
        raise UnsupportedPixels(
            f"no trusted decoder for {standard.uid_name(transfer_syntax)}:"
            + (" it is video, which opens as bytes for a player; for pixels," if video else "")
            + " convert the object to an uncompressed transfer syntax and ingest it again",
            transfer_syntax=transfer_syntax,
        )
    return found


def _decoders() -> dict[str, Decoder]:
    jpeg = Decoder("imagecodecs jpeg8 (libjpeg-turbo)", _decode_jpeg)
    jpeg_ls = Decoder("imagecodecs jpegls (CharLS)", _decode_jpeg_ls)
    # OpenJPEG for HTJ2K too: the twice as fast OpenJPH wraps overshoot of lossy images around.
    jpeg_2000 = Decoder("imagecodecs jpeg2k (OpenJPEG)", _decode_jpeg_2000)
    jpeg_xl = Decoder("imagecodecs jpegxl (libjxl)", _decode_jpeg_xl)
    return {
        _ENCAPSULATED_UNCOMPRESSED: Decoder("numpy", _decode_uncompressed),
        _DEFLATED_FRAMES: Decoder("zlib", _decode_deflated),
        _RLE: Decoder("imagecodecs packbits", _decode_rle),
        # Processes 1; 2 and 4; 6 and 8; 10 and 12; 14; 14 selection value 1
        **{_JPEG + tail: jpeg for tail in ("50", "51", "53", "55", "57", "70")},
        **{_JPEG + tail: jpeg_ls for tail in ("80", "81")},
        **{_JPEG + tail: jpeg_2000 for tail in ("90", "91", "201", "202", "203")},
        # lossless, JPEG recompression, any
        **{_JPEG + tail: jpeg_xl for tail in ("110", "111", "112")},
    }


def _is_lossy(transfer_syntax: str) -> bool:
    tails = ("50", "51", "53", "55", "81", "91", "203", "111", "112")
    return transfer_syntax.removeprefix(_JPEG) in tails


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
    if form.kind != "integer":
        raise UnsupportedPixels(
            "floating point pixels in RLE are not defined: convert the object to an uncompressed transfer"
            " syntax and ingest it again",
            transfer_syntax=transfer_syntax,
        )
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

    start = jpeg_start(frame)
    _check_start(start, form, transfer_syntax)
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
    decode: Callable[[bytes], Pixels], frame: bytes, start: JpegStart, transfer_syntax: str
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


def _jpeg_colour(start: JpegStart, form: PixelFormat, transfer_syntax: str) -> str:
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
    start = jpeg_ls_start(frame)
    _check_start(start, form, transfer_syntax)
    values = _guarded(lambda stream: np.asarray(imagecodecs.jpegls_decode(stream)), frame, transfer_syntax)
    values = _settled(np.ascontiguousarray(values), form, start.precision, None, transfer_syntax)
    return to_rgb(values, form, transfer_syntax) if form.samples == 3 else values


def _decode_jpeg_2000(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """JPEG 2000 and HTJ2K (ISO 15444-1, -15); a JP2 wrapper, which PS3.5 A.4.4 forbids, is skipped."""
    import imagecodecs

    if not _ends(frame):
        raise BrokenObject("a compressed frame is cut off: its end marker is missing")
    start = jpeg_2000_start(frame)
    _check_start(start, form, transfer_syntax)
    _check_jpeg_2000_depth(start, transfer_syntax)
    if form.samples == 3:
        expected = {"YBR_RCT": True, "YBR_ICT": True, "YBR_FULL": False, "RGB": start.transformed}
        if expected.get(form.photometric) != start.transformed:
            raise UnsupportedPixels(
                f"PhotometricInterpretation {form.photometric} contradicts the component transform of the"
                " JPEG 2000 stream: its colours cannot be told; correct the attribute and ingest it again",
                transfer_syntax=transfer_syntax,
            )
    values = _guarded(
        lambda stream: np.asarray(imagecodecs.jpeg2k_decode(stream)), frame[start.begin :], transfer_syntax
    )
    values = _settled(values, form, start.precision, start.signed, transfer_syntax)
    return to_rgb(values, form, transfer_syntax) if form.photometric == "YBR_FULL" else values


def _check_jpeg_2000_depth(start: Jpeg2000Start, transfer_syntax: str) -> None:
    """OpenJPEG returns wrong numbers above 24 bits without a word, measured; HTJ2K ends at 16 there."""
    lossless = transfer_syntax == _JPEG + "90"
    if not start.uniform or start.precision > (24 if lossless else 16):
        raise UnsupportedPixels(
            f"no trusted decoder for a JPEG 2000 stream of {start.precision} bits"
            f"{'' if start.uniform else ' with components of different kinds'}: convert the object to an"
            " uncompressed transfer syntax and ingest it again",
            transfer_syntax=transfer_syntax,
        )


def _decode_jpeg_xl(frame: bytes, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """JPEG XL (ISO 18181) where its result is exact: lossless, or a JPEG stream that is given back whole.

    A recompressed JPEG is restored bit by bit and takes the way of JPEG. Other lossy streams leave
    rounding to the decoder, and all decoders at hand are one: refused.
    """
    import imagecodecs

    boxes = jpeg_xl_boxes(frame)
    start = jpeg_xl_start(boxes.get(b"jxlc", b""))
    _check_size(start, form)
    if b"jbrd" in boxes and transfer_syntax != _JPEG + "110":
        whole = _guarded(
            lambda stream: np.frombuffer(imagecodecs.jpegxl_decode_jpeg(stream, numthreads=1), np.uint8),
            frame,
            transfer_syntax,
        )
        return _decode_jpeg(whole.tobytes(), form, transfer_syntax)
    if transfer_syntax != _JPEG + "110" or not start.plain or form.signed:
        raise UnsupportedPixels(
            "no trusted decoder for a JPEG XL stream that is lossy, signed or more than its pixels: convert"
            " the object to an uncompressed transfer syntax and ingest it again",
            transfer_syntax=transfer_syntax,
        )
    values = _guarded(lambda stream: np.asarray(imagecodecs.jpegxl_decode(stream)), frame, transfer_syntax)
    values = _settled(values, form, start.precision, False, transfer_syntax)
    return to_rgb(values, form, transfer_syntax) if form.samples == 3 else values


# ---- checks that decoders leave to their caller ------------------------------------------------------


def _ends(frame: bytes) -> bool:
    """Whether a stream has its end marker; what follows may be padding, 00 or FF."""
    return frame.rstrip(b"\0\xff").endswith(_END_OF_IMAGE)


def _check_start(start: Start, form: PixelFormat, transfer_syntax: str) -> None:
    """What the stream says about itself is what the header describes, before memory is taken for it."""
    if start.components != form.samples:
        raise UnsupportedPixels(
            f"the compressed stream has {start.components} components, SamplesPerPixel is {form.samples}",
            transfer_syntax=transfer_syntax,
        )
    _check_size(start, form)


def _check_size(start: Start, form: PixelFormat) -> None:
    if (start.rows, start.columns) != (form.rows, form.columns):
        raise BrokenObject(
            f"the compressed frame is {start.rows} x {start.columns},"
            f" {form.rows} x {form.columns} is described"
        )
    if start.rows * start.columns * form.samples > MAX_SAMPLES:
        raise BrokenObject(f"a compressed frame of more than {MAX_SAMPLES} samples is not believed")


def _guarded(decode: Callable[[bytes], Pixels], stream: bytes, transfer_syntax: str) -> Pixels:
    """Call a decoder; whatever it raises, the frame is broken or beyond it."""
    try:
        return decode(stream)
    except (MemoryError, ImportError):
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
