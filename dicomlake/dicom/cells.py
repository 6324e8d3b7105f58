"""Cells of native pixels to stored values: bits, bytes, planes and colours (PS3.5 section 8)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard
from dicomlake.dicom.frames import PixelFormat
from dicomlake.errors import BrokenObject, UnsupportedPixels

Pixels = npt.NDArray[Any]


def inflated(data: bytes, size: int) -> bytes:
    """The first `size` bytes of deflated data. Raises BrokenObject when they are damaged."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size)
    except zlib.error as exc:
        raise BrokenObject("the deflated data set is damaged") from exc


def frame_bits(form: PixelFormat) -> int:
    """Bits that a frame takes as allocated."""
    bits = form.rows * form.columns * form.samples * form.bits_allocated
    if form.photometric == "YBR_FULL_422":  # two Y, one CB and one CR for each pair of pixels
        return bits * 2 // 3
    return bits


def cells_of(
    data: bytes | memoryview, offset: int, first_bit: int, form: PixelFormat, big_endian: bool
) -> Pixels:
    """The pixel cells of a frame as allocated, flat, in the order of the file."""
    if form.bits_allocated == 1:  # bit 0 first; frames need not begin at a byte (PS3.5 8.1.1)
        count = form.rows * form.columns * form.samples
        begin, skip = offset + first_bit // 8, first_bit % 8
        packed = np.frombuffer(data, np.uint8, (skip + count + 7) // 8, begin)
        return np.unpackbits(packed, bitorder="little")[skip : skip + count]
    code = "f" if form.kind != "integer" else "u"
    dtype = np.dtype(f"{'>' if big_endian else '<'}{code}{form.bits_allocated // 8}")
    count = frame_bits(form) // form.bits_allocated
    return np.frombuffer(data, dtype, count, offset + first_bit // 8)


def stored_values(cells: Pixels, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """Pixel cells to stored values: unused bits off, sign extended, colour by pixel, YBR to RGB."""
    values = extracted(cells, form)
    if form.samples == 1:
        return values.reshape(form.shape)
    if form.photometric == "YBR_FULL_422":
        return to_rgb(_upsampled(values, form, transfer_syntax), form, transfer_syntax)
    if form.planar not in (0, 1):
        raise BrokenObject("PlanarConfiguration is missing: the order of the samples is unknown")
    if form.planar == 1:
        planes = values.reshape(form.samples, form.rows, form.columns)
        values = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return to_rgb(values.reshape(form.shape), form, transfer_syntax)


def extracted(cells: Pixels, form: PixelFormat) -> Pixels:
    """The BitsStored bits below HighBit of each cell, as `form.dtype`."""
    if form.kind != "integer" or form.bits_allocated == 1:
        return cells.astype(form.dtype, copy=False)
    if form.bits_stored == form.bits_allocated:
        cells = cells.astype(cells.dtype.newbyteorder("<"), copy=False)
        return np.asarray(cells.view(form.dtype))
    above = form.bits_allocated - 1 - form.high_bit
    unused = form.bits_allocated - form.bits_stored
    if form.signed:  # to the top, then back: an arithmetic shift extends the sign
        native = cells.astype(cells.dtype.newbyteorder("="), copy=False)
        signed: Pixels = (native << above).view(native.dtype.str.replace("u", "i"))
        return np.asarray(signed >> unused, dtype=form.dtype)
    shifted: Pixels = cells >> (unused - above) if unused != above else cells
    return np.asarray(shifted & ((1 << form.bits_stored) - 1), dtype=form.dtype)


def _upsampled(values: Pixels, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """Y Y CB CR for each pair of pixels to one CB and CR per pixel, repeated (PS3.3 C.7.6.3.1.2)."""
    if form.columns % 2:
        raise UnsupportedPixels(
            "YBR_FULL_422 with an odd number of columns is not defined", transfer_syntax=transfer_syntax
        )
    pairs = values.reshape(-1, 4)
    ybr = np.empty((pairs.shape[0], 2, 3), dtype=values.dtype)
    ybr[..., 0] = pairs[:, :2]
    ybr[..., 1:] = pairs[:, None, 2:]
    return ybr.reshape(form.shape)


def to_rgb(values: Pixels, form: PixelFormat, transfer_syntax: str) -> Pixels:
    """RGB as it is, YBR_FULL by the equations of PS3.3 C.7.6.3.1.2; others are refused."""
    if form.photometric == "RGB":
        return values
    if form.photometric not in ("YBR_FULL", "YBR_FULL_422") or form.dtype != np.uint8:
        raise UnsupportedPixels(
            f"{form.photometric} with BitsStored {form.bits_stored} in"
            f" {standard.uid_name(transfer_syntax)} has no proven way to RGB",
            transfer_syntax=transfer_syntax,
        )
    y, cb, cr = np.moveaxis(values.astype(np.float32), -1, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)
