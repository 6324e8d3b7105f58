"""Stored values of one frame, decoded by a trusted path or refused by name.

Uncompressed pixels are read in place; compressed ones go to the decoder that was measured and proven
for their transfer syntax (`decoder_name`).

Values come out masked to BitsStored and sign-extended, never rescaled; MONOCHROME1 is not inverted,
PALETTE COLOR stays an index, YBR becomes RGB.
"""

from __future__ import annotations

import hashlib
from io import BytesIO

import numpy as np

from dicomlake.dicom import standard
from dicomlake.dicom.cells import Pixels, cells_of, frame_bits, inflated, stored_values
from dicomlake.dicom.decoders import decoder
from dicomlake.dicom.frames import PixelFormat, number_of_frames, pixel_format
from dicomlake.dicom.headers import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Header,
    PixelData,
)
from dicomlake.errors import BrokenObject, UnsupportedPixels

_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
_KINDS = {0x7FE00008: "float", 0x7FE00009: "double", 0x7FE00010: "integer"}


def decode_frame(data: bytes, header: Header, index: int = 0) -> Pixels:
    """The stored values of one frame; (rows, columns) or (rows, columns, samples), `PixelFormat.dtype`.

    data: the whole object that `header` was read from. index: of the frame, from 0.
    The array may be a read-only view of `data`.
    Raises BrokenObject when the pixels are cut off or do not have the described size,
    UnsupportedPixels when no decoder is trusted with them, IndexError when there is no such frame.
    A frame is never returned partly filled.
    """
    pixels, form = header.pixels, pixel_format(header.dataset)
    if pixels is None:
        raise BrokenObject("the object has no pixel data")
    if _KINDS[pixels.tag] != form.kind:
        raise BrokenObject("BitsStored or BitsAllocated do not go with the kind of pixel data element")
    frames = number_of_frames(header.dataset)
    if not 0 <= index < frames:
        raise IndexError(f"frame {index} of an object with {frames} frames")
    if pixels.length is not None:
        return _native(data, header, pixels, form, index, frames)
    encoded = _encoded_frame(data, header, pixels, index, frames)
    return decoder(header.transfer_syntax).decode(encoded, form, header.transfer_syntax)


def frame_hash(frame: Pixels) -> bytes:
    """BLAKE2b-256 of the values as little-endian bytes in C order; proves that a copy is equal."""
    canonical = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
    return hashlib.blake2b(canonical.data, digest_size=32).digest()


def decoder_name(transfer_syntax: str) -> str:
    """What decodes pixels of a transfer syntax. Raises UnsupportedPixels when nothing does."""
    return "numpy" if transfer_syntax in _NATIVE else decoder(transfer_syntax).name


def _native(
    data: bytes, header: Header, pixels: PixelData, form: PixelFormat, index: int, frames: int
) -> Pixels:
    """A frame of native pixels (PS3.5 8.1.1 and 8.2), whose value field must have the right length."""
    if header.transfer_syntax not in _NATIVE:  # a private syntax may order its bytes as it likes
        raise UnsupportedPixels(
            f"{standard.uid_name(header.transfer_syntax)} does not say how uncompressed pixels are written:"
            " correct the transfer syntax and ingest it again",
            transfer_syntax=header.transfer_syntax,
        )
    if header.transfer_syntax == DEFLATED:
        data = inflated(data[header.dataset_offset :], pixels.end)
    bits = frame_bits(form)
    first = index * bits
    _check_length(data, pixels, bits, frames, first + bits)
    big_endian = header.dataset.encoding.big_endian
    offset = pixels.offset
    if big_endian and pixels.vr == "OW" and form.bits_allocated <= 8:  # swapped as 16-bit words
        field = data[offset : pixels.end]
        field = field[: len(field) // 2 * 2]
        data, offset = np.frombuffer(field, "<u2").byteswap().tobytes(), 0
    return stored_values(cells_of(data, offset, first, form, big_endian), form, header.transfer_syntax)


def _check_length(data: bytes, pixels: PixelData, frame_bits: int, frames: int, until_bit: int) -> None:
    """The value field holds exactly the described frames, and this one is there.

    Beyond them only padding is believed: a longer field means that the header describes other pixels.
    """
    needed, claimed = (frame_bits * frames + 7) // 8, pixels.length or 0
    if claimed < needed:
        raise BrokenObject(f"the pixel data have {claimed} bytes, {needed} are described")
    if claimed - needed > 1 and data[pixels.offset + needed : pixels.end].strip(b"\0"):
        raise BrokenObject(f"the pixel data have {claimed} bytes, only {needed} are described")
    if pixels.offset * 8 + until_bit > min(pixels.end, len(data)) * 8:
        raise BrokenObject("the pixel data are cut off inside this frame")


def _encoded_frame(data: bytes, header: Header, pixels: PixelData, index: int, frames: int) -> bytes:
    """The fragments of one frame, joined: by offset table, else one item each, else by end marker."""
    from pydicom.encaps import get_frame

    elements = header.dataset.elements
    tables = [elements[tag][1] for tag in (0x7FE00001, 0x7FE00002) if tag in elements]
    stream = BytesIO(data)
    stream.seek(pixels.offset)
    try:
        return get_frame(
            stream,
            index,
            extended_offsets=(tables[0], tables[1]) if len(tables) == 2 and all(tables) else None,
            number_of_frames=frames,
        )
    except (ValueError, EOFError) as exc:
        raise BrokenObject("the fragments of the pixel data do not make up the described frames") from exc
