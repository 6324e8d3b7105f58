"""Which fragments of encapsulated pixels make up which frame (PS3.5 A.4), told by range, once per object.

A frame has one or more fragments and no fragment has parts of two frames. So as many fragments as frames
leave no choice; otherwise an offset table decides, else the start and end markers of JPEG streams. What
none of them tells is refused: a table is believed only where it agrees with the items that are there.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct

from dicomlake.dicom.headers import Header
from dicomlake.dicom.walk import UNDEFINED, Readable
from dicomlake.errors import BrokenObject

_ITEM = 0xE000FFFE  # group and element as one little-endian number
_TAG_AND_LENGTH = Struct("<LL").unpack
_EXTENDED_OFFSETS = 0x7FE00001
_MARKED = "1.2.840.10008.1.2.4."  # the syntaxes whose streams have start and end markers
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")  # JPEG and JPEG-LS; J2K; JP2
_END = b"\xff\xd9"
_EDGE = 16  # bytes looked at on either side of a fragment: a marker and padding


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Where the bytes of each frame are.

    starts, lengths: of the value of each fragment, in bytes from the start of the object; the last one
        may reach beyond its end when the object is cut off.
    first: number of the first fragment of each frame that is there, and behind the last frame's; None
        when each frame has one fragment.
    """

    starts: Sequence[int]
    lengths: Sequence[int]
    first: Sequence[int] | None

    def read(self, readable: Readable, frame: int) -> bytes:
        """The fragments of one frame, joined. Raises BrokenObject when they are cut off or empty."""
        if self.first is None:
            begin, end = frame, frame + 1
        elif frame + 1 < len(self.first):
            begin, end = self.first[frame], self.first[frame + 1]
        else:
            raise BrokenObject("the pixel data are cut off before the end of this frame")
        joined = b"".join(self._fragment(readable, k) for k in range(begin, end))
        if not joined:
            raise BrokenObject("the fragments of this frame are empty")
        return joined

    def _fragment(self, readable: Readable, k: int) -> bytes:
        start, length = self.starts[k], self.lengths[k]
        value = readable.read(start, start + length) if start + length <= readable.size else b""
        if len(value) != length:
            raise BrokenObject("the pixel data are cut off inside this frame")
        return value


def index_frames(readable: Readable, header: Header, frames: int) -> FrameIndex:
    """The fragments of each of `frames` frames; item headers and offset tables are read, no pixels.

    Raises BrokenObject when the fragments do not make up the described frames.
    """
    offset = header.pixels.offset if header.pixels else 0
    table = _item(readable, offset)
    if table is None:
        raise BrokenObject("the encapsulated pixel data do not begin with an offset table")
    starts, lengths, cut = _items(readable, offset + 8 + table)
    if not starts:
        raise BrokenObject("the encapsulated pixel data have no fragments")
    offsets = _basic(readable, offset + 8, table, frames) or _extended(header, frames)
    tags = [start - starts[0] for start in starts]
    if len(starts) == frames:
        if offsets and sorted(offsets) == tags != list(offsets):
            raise BrokenObject("the offset table and the fragments name the frames in different orders")
        return FrameIndex(starts, lengths, None)
    if frames == 1:
        return FrameIndex(starts, lengths, [0, len(starts)])
    first = _by_table(offsets, [*tags, tags[-1] + 8 + lengths[-1]], cut) if offsets else None
    if first is None and header.transfer_syntax.startswith(_MARKED):
        first = _by_markers(readable, starts, lengths, frames)
    if first is None:
        raise BrokenObject(f"{len(starts)} fragments do not make up the described {frames} frames")
    return FrameIndex(starts, lengths, first)


def _item(readable: Readable, p: int) -> int | None:
    """The length of the item whose tag is at p; None when there is no item."""
    head = readable.read(p, p + 8)
    if len(head) < 8:
        return None
    tag, length = _TAG_AND_LENGTH(head)
    return length if tag == _ITEM and length != UNDEFINED else None


def _items(readable: Readable, p: int) -> tuple[Sequence[int], Sequence[int], bool]:
    """Start and length of each item from p on, and whether the last one is cut off."""
    starts, lengths, size = array("Q"), array("Q"), readable.size
    while p <= size and (length := _item(readable, p)) is not None:
        starts.append(p + 8)
        lengths.append(length)
        p += 8 + length
    return starts, lengths, p > size


def _basic(readable: Readable, p: int, length: int, frames: int) -> Sequence[int]:
    """The Basic Offset Table, empty when there is none for this number of frames."""
    if length != 4 * frames:
        return ()
    value = readable.read(p, p + length)
    return Struct(f"<{frames}L").unpack(value) if len(value) == length else ()


def _extended(header: Header, frames: int) -> Sequence[int]:
    """The Extended Offset Table (PS3.3 C.7.6.3.1.8), empty when there is none for these frames."""
    _, value = header.dataset.elements.get(_EXTENDED_OFFSETS, ("", b""))
    return Struct(f"<{frames}Q").unpack(value) if len(value) == 8 * frames else ()


def _by_table(offsets: Sequence[int], borders: Sequence[int], cut: bool) -> Sequence[int] | None:
    """The first fragment of each frame by an offset table; None when the table cannot be true.

    borders: where each item begins and the last one ends, counted as the table counts.
    """
    if offsets[0] != 0 or any(a >= b for a, b in pairwise(offsets)):
        return None
    there = [offset for offset in offsets if offset < borders[-1]]
    if len(there) < len(offsets) and not cut:
        return None
    first = [bisect_left(borders, offset) for offset in there]
    if any(borders[k] != offset for k, offset in zip(first, there, strict=True)):
        return None
    return [*first, len(borders) - 1]


def _by_markers(
    readable: Readable, starts: Sequence[int], lengths: Sequence[int], frames: int
) -> Sequence[int] | None:
    """The first fragment of each frame: it begins with a start marker, behind an end marker."""
    first, ended = [], True
    for k, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        stop = start + length
        if ended and readable.read(start, min(start + _EDGE, stop)).startswith(_STARTS):
            first.append(k)
        tail = readable.read(max(start, stop - _EDGE), stop)
        ended = tail.rstrip(b"\0\xff").endswith(_END)
    return [*first, len(starts)] if len(first) == frames and first[0] == 0 else None
