"""Stored values of one frame, decoded by a trusted path or refused by name.

Uncompressed pixels are read in place; compressed ones go to the decoder that was measured and proven
for their transfer syntax (`decoder_name`).

Values come out masked to BitsStored and sign-extended, never rescaled; MONOCHROME1 is not inverted,
PALETTE COLOR stays an index, YBR becomes RGB.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from dicomlake.dicom import standard
from dicomlake.dicom.cells import Pixels, cells_of, frame_bits, inflated, stored_values
from dicomlake.dicom.decoders import decoder
from dicomlake.dicom.fragments import index_frames
from dicomlake.dicom.frames import number_of_frames, pixel_format
from dicomlake.dicom.headers import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Header,
    PixelData,
    read_header,
)
from dicomlake.dicom.walk import InMemory, Readable
from dicomlake.errors import BrokenObject, UnsupportedPixels

MAX_INFLATED_PIXELS = 1 << 29  # bytes of a deflated data set that are held to read frames from

_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
_KINDS = {0x7FE00008: "float", 0x7FE00009: "double", 0x7FE00010: "integer"}
_CHUNK = 1 << 20  # bytes of what should be padding that are looked at together


class NativeLayout(NamedTuple):
    """Frames that lie in the object as they are: a memory map of `frame_bytes` can stand for one.

    offset: of frame 0, in bytes from the start of the object; frame i begins at offset + i * frame_bytes.
    dtype: of the cells, which is that of the stored values.
    """

    offset: int
    dtype: np.dtype[np.generic]
    frame_bytes: int


class FrameReader:
    """Reads the frames of one object, each from its own bytes only.

    The object is indexed once, when the reader is made: uncompressed pixels by arithmetic, encapsulated
    ones by their item headers. A deflated data set, which has no places to read from, is inflated once
    and held. Nothing changes afterwards, so threads may share a reader if they may share its source.
    """

    def __init__(self, source: bytes | Readable, header: Header | None = None) -> None:
        """Index an object.

        source: the whole object, or something to read it from by range. header: as `read_header(source)`
        gave it; read here when None.
        Raises BrokenObject when the pixels do not have the described size or are not there,
        UnsupportedPixels when no decoder is trusted with them.
        """
        readable = InMemory(source) if isinstance(source, bytes) else source
        header = header or read_header(readable)
        if header.pixels is None:
            raise BrokenObject("the object has no pixel data")
        self.header, self.form = header, pixel_format(header.dataset)
        if _KINDS[header.pixels.tag] != self.form.kind:
            raise BrokenObject("BitsStored or BitsAllocated do not go with the kind of pixel data element")
        self.frames = number_of_frames(header.dataset)
        self._pixels = header.pixels
        self._index = None
        if header.pixels.length is None:
            self._decoder = decoder(header.transfer_syntax)
            self._index = index_frames(readable, header, self.frames)
        else:
            readable = _native_source(readable, header, header.pixels)
            _check_length(readable, header.pixels, (frame_bits(self.form) * self.frames + 7) // 8)
        self._readable = readable

    def frame(self, index: int) -> Pixels:
        """The stored values of one frame; (rows, columns) or (rows, columns, samples), `PixelFormat.dtype`.

        index: from 0. Raises BrokenObject when the frame is cut off or damaged, UnsupportedPixels when
        its decoder is not trusted with it, IndexError when there is no such frame.
        A frame is never returned partly filled. The array may be a read-only view of a source in memory.
        """
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of an object with {self.frames} frames")
        if self._index is None:
            return self._native(index)
        encoded = self._index.read(self._readable, index)
        return self._decoder.decode(encoded, self.form, self.header.transfer_syntax)

    def holds_values_as_they_are(self, index: int) -> bool:
        """Whether the bytes of a frame are those of its stored values, though BitsAllocated is larger.

        True for all frames is what `native_layout(…, proven=True)` asks for.
        """
        layout = native_layout(self.header, proven=True)
        if layout is None:
            return False
        begin = layout.offset + index * layout.frame_bytes
        raw = self._readable.read(begin, begin + layout.frame_bytes)
        return self.frame(index).astype(layout.dtype, copy=False).tobytes() == raw

    def _native(self, index: int) -> Pixels:
        """A frame of native pixels (PS3.5 8.1.1 and 8.2)."""
        pixels, form = self._pixels, self.form
        bits = frame_bits(form)
        big_endian = self.header.dataset.encoding.big_endian
        words = big_endian and pixels.vr == "OW" and form.bits_allocated <= 8  # swapped as 16-bit words
        begin, end = index * bits // 8, ((index + 1) * bits + 7) // 8
        if words:
            begin, end = begin // 2 * 2, (end + 1) // 2 * 2
        stop = min(end, pixels.length or 0)
        data = _part(self._readable, pixels.offset + begin, pixels.offset + stop)
        if words:
            data = np.frombuffer(data[: len(data) // 2 * 2], "<u2").byteswap().tobytes()
        first = index * bits - 8 * begin
        if len(data) * 8 < first + bits:
            raise BrokenObject("the pixel data are cut off inside this frame")
        cells = cells_of(data, 0, first, form, big_endian)
        return stored_values(cells, form, self.header.transfer_syntax)


def decode_frame(data: bytes, header: Header, index: int = 0) -> Pixels:
    """One frame of an object in memory, as `FrameReader.frame`, which is faster for many of one object.

    data: the whole object that `header` was read from.
    """
    return FrameReader(data, header).frame(index)


def native_layout(header: Header, *, proven: bool = False) -> NativeLayout | None:
    """Where frames lie whose bytes are their stored values; None when they must be decoded.

    That is: uncompressed, little endian, one sample of whole bytes, all frames there, and no bits but
    those stored. proven: the caller knows from decoding that the unused bits of all frames are zero or
    copies of the sign (`FrameReader.holds_values_as_they_are`), as they are in most CT.
    Raises BrokenObject when the pixels are not described.
    """
    pixels = header.pixels
    if pixels is None or pixels.length is None:
        return None
    if header.transfer_syntax not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE) or header.dataset.encoding.big_endian:
        return None
    form = pixel_format(header.dataset)
    whole = form.bits_allocated == form.bits_stored or (proven and form.high_bit == form.bits_stored - 1)
    if form.samples != 1 or form.bits_allocated != form.dtype.itemsize * 8 or not whole:
        return None
    frame_bytes = form.rows * form.columns * form.dtype.itemsize
    needed = frame_bytes * number_of_frames(header.dataset)
    if _KINDS[pixels.tag] != form.kind or not 0 <= pixels.length - needed <= 1:
        return None
    if pixels.end < pixels.offset + needed or form.dtype == np.dtype(bool):
        return None
    return NativeLayout(pixels.offset, form.dtype, frame_bytes)


def frame_hash(frame: Pixels) -> bytes:
    """BLAKE2b-256 of the values as little-endian bytes in C order; proves that a copy is equal."""
    canonical = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
    return hashlib.blake2b(canonical.data, digest_size=32).digest()


def decoder_name(transfer_syntax: str) -> str:
    """What decodes pixels of a transfer syntax. Raises UnsupportedPixels when nothing does."""
    return "numpy" if transfer_syntax in _NATIVE else decoder(transfer_syntax).name


def _native_source(readable: Readable, header: Header, pixels: PixelData) -> Readable:
    """What native pixels are read from by their offsets: the object, or the inflated data set."""
    syntax = header.transfer_syntax
    if syntax not in _NATIVE:  # a private syntax may order its bytes as it likes
        raise UnsupportedPixels(
            f"{standard.uid_name(syntax)} does not say how uncompressed pixels are written:"
            " correct the transfer syntax and ingest it again",
            transfer_syntax=syntax,
        )
    if syntax != DEFLATED:
        return readable
    end = pixels.offset + (pixels.length or 0)  # not pixels.end: header reading inflates less than all
    if end > MAX_INFLATED_PIXELS:
        raise UnsupportedPixels(
            f"a deflated data set of more than {MAX_INFLATED_PIXELS >> 20} MiB is not inflated:"
            " convert the object to an uncompressed transfer syntax and ingest it again",
            transfer_syntax=syntax,
        )
    return InMemory(inflated(readable.read(header.dataset_offset, readable.size), end))


def _part(readable: Readable, start: int, stop: int) -> bytes | memoryview:
    """Some bytes of an object, not copied where it is in memory: that would cost more than decoding."""
    if isinstance(readable, InMemory):
        return memoryview(readable.data)[start:stop]
    return readable.read(start, stop)


def _check_length(readable: Readable, pixels: PixelData, needed: int) -> None:
    """The value field holds exactly the described frames.

    Beyond them only padding is believed: a longer field means that the header describes other pixels.
    """
    claimed = pixels.length or 0
    if claimed < needed:
        raise BrokenObject(f"the pixel data have {claimed} bytes, {needed} are described")
    if claimed - needed > 1:
        end = min(pixels.offset + claimed, readable.size)
        for start in range(pixels.offset + needed, end, _CHUNK):
            if readable.read(start, min(start + _CHUNK, end)).strip(b"\0"):
                raise BrokenObject(f"the pixel data have {claimed} bytes, only {needed} are described")
