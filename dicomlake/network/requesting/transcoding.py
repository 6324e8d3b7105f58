"""An original in another transfer syntax, for a peer that does not take its own.

Uncompressed objects are written again element by element. Compressed ones are decoded by the project's
own decoders, whose values are those that the volumes hold; what they do not trust is not sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomlake.dicom import standard
from dicomlake.dicom.cells import inflated
from dicomlake.dicom.headers import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Header
from dicomlake.dicom.walk import Encoding, Readable
from dicomlake.errors import UnsupportedPixels
from dicomlake.network.requesting.elements import PIXEL_DATA, Level, parse, written
from dicomlake.network.requesting.outgoing import check_even

if TYPE_CHECKING:
    import numpy as np

    from dicomlake.dicom.cells import Pixels
    from dicomlake.dicom.frames import PixelFormat
    from dicomlake.dicom.pixels import FrameReader

TARGETS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
"""What any object may be written as, the better one first."""
MOST_BYTES = 4 << 30  # of an object that is held while it is written again
_NATIVE = (*TARGETS, EXPLICIT_BIG, DEFLATED)
_PHOTOMETRIC, _PLANAR = 0x00280004, 0x00280006
_ALLOCATED, _STORED, _HIGH, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_LOSSY, _LOSSY_METHOD = 0x00282110, 0x00282114
_ONLY_ENCAPSULATED = (0x7FE00001, 0x7FE00002, 0x7FE00003)  # offset tables and total length
_METHODS = {  # of syntaxes that are always lossy (PS3.3 section C.7.6.1.1.5.1)
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
}
_CAN_BE_LOSSY = frozenset(
    f"1.2.840.10008.1.2.4.{tail}" for tail in ("50", "51", "53", "55", "81", "91", "203", "111", "112")
)


def transcoded(readable: Readable, header: Header, target: str) -> bytes:
    """The data set in Explicit or Implicit VR Little Endian; every value that is not pixels is the same.

    Lossy pixels become uncompressed and keep their history (PS3.3 section C.7.6.1.1.5).
    Raises UnsupportedPixels when no decoder is trusted with it, BrokenObject when it cannot be followed to
    its end.
    """
    syntax = header.transfer_syntax
    if readable.size > MOST_BYTES:
        raise UnsupportedPixels(
            f"an object of more than {MOST_BYTES >> 30} GiB is sent only as it is: "
            "let the peer accept its transfer syntax",
            transfer_syntax=syntax,
        )
    level = _tree(readable, header)
    if syntax not in _NATIVE:
        for inner in level.all_levels():
            pixels = inner.elements.get(PIXEL_DATA)
            if pixels is not None and pixels.fragments is not None:
                _make_native(inner, syntax)
    content = written(level, implicit=target == IMPLICIT_LITTLE)
    check_even(len(content))
    if syntax == EXPLICIT_BIG and header.pixels is not None:
        _check_frames(readable, header, content, target)
    return content


def _tree(readable: Readable, header: Header) -> Level:
    syntax = header.transfer_syntax
    data, start = readable.read(), header.dataset_offset
    if syntax == DEFLATED:
        data, start = inflated(data[start:], MOST_BYTES), 0
    # encapsulated: PS3.5 section A.4
    encoding = header.dataset.encoding if syntax in _NATIVE else Encoding(False, False)
    return parse(data, start, encoding, signed=header.dataset.signed)


def _make_native(level: Level, syntax: str) -> None:
    """Decode the pixels of a data set, or of an icon within, and describe them as they are then."""
    from dicomlake.dicom.pixels import FrameReader

    if any(_hides_overlay(level, tag) for tag in level.elements):
        raise UnsupportedPixels(
            "an overlay lies in unused bits of compressed pixels, which decoding does not keep",
            transfer_syntax=syntax,
        )
    reader = FrameReader(part10(written(level, implicit=False), syntax))
    pixels = _native_bytes(reader, syntax)
    _describe(level, reader.form, syntax)
    for tag in _ONLY_ENCAPSULATED:
        level.elements.pop(tag, None)
    level.put(PIXEL_DATA, "OW" if reader.form.bits_allocated > 8 else "OB", pixels)


def _hides_overlay(level: Level, tag: int) -> bool:
    """Whether the element is the bit position of an overlay that has no data of its own (retired)."""
    if tag & 0xFF00FFFF != 0x60000102:
        return False
    return any(bytes(level.elements[tag].value)) and (tag & 0xFFFF0000 | 0x3000) not in level.elements


def _native_bytes(reader: FrameReader, syntax: str) -> bytes:
    import numpy as np

    form = reader.form
    frames = [_in_range(reader.frame(index), form, syntax) for index in range(reader.frames)]
    if form.bits_allocated == 1:  # frames follow each other without padding (PS3.5 section 8.1.1)
        return np.packbits(np.concatenate([f.ravel() for f in frames]), bitorder="little").tobytes()
    container = _container(form)
    return b"".join(np.ascontiguousarray(frame, dtype=container).tobytes() for frame in frames)


def _in_range(frame: Pixels, form: PixelFormat, syntax: str) -> Pixels:
    """A frame whose values BitsStored can hold: where lossy compression overshoots, it is cut off."""
    import numpy as np

    if form.bits_allocated == 1:
        return frame
    low = -(1 << form.bits_stored - 1) if form.signed else 0
    high = low + (1 << form.bits_stored) - 1
    if frame.min() >= low and frame.max() <= high:
        return frame
    if syntax not in _CAN_BE_LOSSY:
        raise UnsupportedPixels(
            "decoded values are larger than BitsStored, though nothing was lost: correct the object",
            transfer_syntax=syntax,
        )
    return np.clip(frame, low, high)


def _container(form: PixelFormat) -> np.dtype[np.generic]:
    """Cells as wide as BitsAllocated says."""
    import numpy as np

    return np.dtype(f"<{'i' if form.signed else 'u'}{form.bits_allocated // 8}")


def _describe(level: Level, form: PixelFormat, syntax: str) -> None:
    if form.samples > 1:
        level.put(_PLANAR, "US", _short(0))
    if form.photometric.startswith("YBR"):  # the decoders give RGB
        level.put(_PHOTOMETRIC, "CS", b"RGB ")
    if form.bits_allocated > 1 and form.high_bit != form.bits_stored - 1:
        level.put(_HIGH, "US", _short(form.bits_stored - 1))
    if syntax in _METHODS and _LOSSY not in level.elements:
        level.put(_LOSSY, "CS", b"01")
        level.put(_LOSSY_METHOD, "CS", _METHODS[syntax].encode())


def _short(value: int) -> bytes:
    return value.to_bytes(2, "little")


def part10(content: bytes, syntax: str) -> bytes:
    """A data set as a DICOM file for our own readers: no more File Meta Information than they need."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = b"\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid
    return bytes(128) + b"DICM" + b"\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little") + meta + content


def _check_frames(readable: Readable, header: Header, content: bytes, target: str) -> None:
    """Byte order is where readers disagree: the pixels must be the same to ours before and after."""
    import numpy as np

    from dicomlake.dicom.pixels import FrameReader

    before, after = FrameReader(readable, header), FrameReader(part10(content, target))
    for index in range(before.frames):
        if not np.array_equal(before.frame(index), after.frame(index)):
            raise UnsupportedPixels(
                f"{standard.uid_name(header.transfer_syntax)} does not become little endian without doubt",
                transfer_syntax=header.transfer_syntax,
            )
