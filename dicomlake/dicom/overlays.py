"""Overlays: bit planes drawn over an image (PS3.3 C.9.2), in their own element or in bits of the pixels.

They are read apart from the image and never burned into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import number_of_frames, pixel_format
from dicomlake.dicom.headers import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Header
from dicomlake.dicom.walk import InMemory, Readable
from dicomlake.errors import BrokenObject, UnsupportedPixels

Plane = npt.NDArray[np.bool_]

_GROUPS = range(0x6000, 0x6020, 2)
_ROWS, _COLUMNS, _FRAMES, _TYPE = 0x10, 0x11, 0x15, 0x40
_ORIGIN, _FRAME_ORIGIN, _ALLOCATED, _BIT, _DATA = 0x50, 0x51, 0x100, 0x102, 0x3000


@dataclass(frozen=True, slots=True)
class Overlay:
    """What an overlay says of itself, without its bits.

    group: 6000 to 601E. rows, columns: of its plane, which need not be those of the image.
    row, column: of its first bit within the image, counted from 0; may lie outside.
    kind: OverlayType, G (graphics) or R (region of interest), None when absent.
    frames: how many planes it has. first_frame: the frame of the image, from 0, that the first one goes
        with (ImageFrameOrigin); None when its only plane goes with all frames.
    bit: of the pixel cell, for an overlay in the pixel data (retired in 2004); None for OverlayData.
    """

    group: int
    rows: int
    columns: int
    row: int
    column: int
    kind: str | None
    frames: int
    first_frame: int | None
    bit: int | None

    def plane_of(self, frame: int) -> int | None:
        """Which plane goes with a frame of the image, both from 0; None when none does."""
        if self.first_frame is None:
            return 0
        plane = frame - self.first_frame
        return plane if 0 <= plane < self.frames else None


def overlays_of(dataset: Attributes) -> tuple[Overlay, ...]:
    """The overlays of an image in the order of their groups; those without a described plane are left out."""
    found = (_overlay(dataset, group) for group in _GROUPS)
    return tuple(one for one in found if one is not None)


def overlay_frame(
    header: Header, overlay: Overlay, frame: int = 0, *, source: bytes | Readable | None = None
) -> Plane:
    """The bits of an overlay over one frame of the image, bool, (rows, columns) of the image.

    What lies outside the image is cut off; a frame that the overlay does not go with has none set.
    source: the object that `header` was read from, for an overlay in its pixel data or of more than 1 MiB.
    Raises BrokenObject when the bits are cut off, UnsupportedPixels for bits in compressed pixels,
    ValueError when the source is needed and not given, IndexError when there is no such frame.
    """
    form = pixel_format(header.dataset)
    if not 0 <= frame < number_of_frames(header.dataset):
        raise IndexError(f"frame {frame} of an object with {number_of_frames(header.dataset)} frames")
    image = np.zeros((form.rows, form.columns), dtype=bool)
    plane = overlay.plane_of(frame)
    if plane is None:
        return image
    if overlay.bit is not None:
        return _in_pixels(header, overlay.bit, frame, source)
    bits = _bits(header, overlay, plane, source)
    rows, columns = (
        slice(*_common(overlay.row, overlay.rows, form.rows)),
        slice(*_common(overlay.column, overlay.columns, form.columns)),
    )
    image[rows, columns] = bits[
        rows.start - overlay.row : rows.stop - overlay.row,
        columns.start - overlay.column : columns.stop - overlay.column,
    ]
    return image


def _overlay(dataset: Attributes, group: int) -> Overlay | None:
    def number(element: int) -> int | None:
        found = dataset.number(group << 16 | element)
        return None if found is None else int(found)

    rows, columns = number(_ROWS), number(_COLUMNS)
    if not rows or not columns or rows < 1 or columns < 1:
        return None
    origin = dataset.numbers(group << 16 | _ORIGIN) or (1.0, 1.0)
    embedded = group << 16 | _DATA not in dataset
    if len(origin) != 2 or (embedded and (number(_BIT) is None or number(_ALLOCATED) in (None, 1))):
        return None
    frames, first = number(_FRAMES), number(_FRAME_ORIGIN)
    return Overlay(
        group=group,
        rows=rows,
        columns=columns,
        row=int(origin[0]) - 1,
        column=int(origin[1]) - 1,
        kind=dataset.text(group << 16 | _TYPE),
        frames=max(frames or 1, 1),
        first_frame=None if frames is None and first is None else (first or 1) - 1,
        bit=number(_BIT) if embedded else None,
    )


def _common(origin: int, length: int, size: int) -> tuple[int, int]:
    """The part of 0 … size that a stretch of `length` from `origin` covers, as start and stop."""
    start = min(max(origin, 0), size)
    return start, max(start, min(origin + length, size))


def _bits(header: Header, overlay: Overlay, plane: int, source: bytes | Readable | None) -> Plane:
    """One plane of OverlayData: planes follow each other bit by bit, without padding (PS3.5 8.1.2)."""
    tag = overlay.group << 16 | _DATA
    vr, raw = header.dataset.elements[tag]
    if not raw and source is not None:
        raw = _long_value(source, header, tag)
    if header.dataset.encoding.big_endian and vr != "OB":
        raw = np.frombuffer(raw[: len(raw) // 2 * 2], ">u2").astype("<u2").tobytes()
    count = overlay.rows * overlay.columns
    first = plane * count
    if len(raw) * 8 < first + count:
        if not raw and source is None:
            raise ValueError("the overlay data are too long to be kept with the header: pass source")
        raise BrokenObject("the overlay data are cut off")
    packed = np.frombuffer(raw, np.uint8)[first // 8 : (first + count + 7) // 8]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + count]
    return bits.astype(bool).reshape(overlay.rows, overlay.columns)


def _long_value(source: bytes | Readable, header: Header, tag: int) -> bytes:
    """A value that the header only located."""
    from pydicom import dcmread

    readable = InMemory(source) if isinstance(source, bytes) else source
    pixels = header.pixels if header.transfer_syntax != DEFLATED else None
    stop = pixels.offset if pixels else readable.size
    found = dcmread(BytesIO(readable.read(0, stop)), stop_before_pixels=True, force=True, specific_tags=[tag])
    return bytes(found[tag].value) if tag in found else b""


def _in_pixels(header: Header, bit: int, frame: int, source: bytes | Readable | None) -> Plane:
    """A bit of each pixel cell above or below the stored ones (retired; PS3.3 2003 C.9.2)."""
    form, pixels = pixel_format(header.dataset), header.pixels
    if pixels is None or pixels.length is None or not _plain(header):
        raise UnsupportedPixels(
            "an overlay in the pixel data can be read from uncompressed pixels only",
            transfer_syntax=header.transfer_syntax,
        )
    low = form.high_bit + 1 - form.bits_stored
    if form.samples != 1 or bit >= form.bits_allocated or low <= bit <= form.high_bit:
        raise BrokenObject(f"bit {bit} of a pixel cell cannot be an overlay: it is used or not there")
    if source is None:
        raise ValueError("an overlay in the pixel data needs the object: pass source")
    readable = InMemory(source) if isinstance(source, bytes) else source
    width = form.bits_allocated // 8
    size = form.rows * form.columns * width
    start = pixels.offset + frame * size
    raw = readable.read(start, min(start + size, pixels.end))
    if len(raw) < size:
        raise BrokenObject("the pixel data are cut off inside this frame")
    cells = np.frombuffer(raw, f"{'>' if header.dataset.encoding.big_endian else '<'}u{width}")
    return ((cells >> bit) & 1).astype(bool).reshape(form.rows, form.columns)


def _plain(header: Header) -> bool:
    return header.transfer_syntax in (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
