"""Frames by range: offset tables, items, end markers, and objects that lie about them."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import get_frame

from dicomlake.dicom.fragments import index_frames
from dicomlake.dicom.frames import number_of_frames
from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.pixels import FrameReader, decode_frame, native_layout
from dicomlake.dicom.walk import InMemory
from dicomlake.errors import BrokenObject, DicomlakeError, UnsupportedPixels
from tests.dicom.phantoms import as_bytes, place_values, slice_dataset
from tests.support import pydicom_files, real_data_folder

ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


class Counting:
    """A file read by range that counts the bytes it gives."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.given = data, len(data), 0

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        found = self.data[start:stop]
        self.given += len(found)
        return found


def item(value: bytes, length: int | None = None) -> bytes:
    return ITEM + struct.pack("<L", len(value) if length is None else length) + value


def even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


def frames_of_value(count: int) -> tuple[list[np.ndarray], list[bytes]]:
    """Frames of their number, and what JPEG-LS makes of them; all streams have an even length."""
    frames = [place_values(k % 6, 12, 10) + k for k in range(count)]
    return frames, [even(bytes(imagecodecs.jpegls_encode(frame))) for frame in frames]


def encapsulated(
    value: bytes, frames: int, *, vr: bytes = b"OB", syntax: str = uid.JPEGLSLossless, tables: bytes = b""
) -> bytes:
    """An object whose encapsulated pixel data have these bytes, behind elements `tables`."""
    ds = slice_dataset(pixels=place_values(1, 12, 10), NumberOfFrames=frames)
    ds.file_meta.TransferSyntaxUID = syntax
    del ds.PixelData
    head = b"\xe0\x7f\x10\x00" + vr + b"\0\0\xff\xff\xff\xff"
    return as_bytes(ds) + tables + head + value


def extended(offsets: list[int], lengths: list[int]) -> bytes:
    """The two elements of an Extended Offset Table."""
    out = b""
    for element, numbers in ((1, offsets), (2, lengths)):
        value = struct.pack(f"<{len(numbers)}Q", *numbers)
        out += b"\xe0\x7f" + struct.pack("<H", element) + b"OV\0\0" + struct.pack("<L", len(value)) + value
    return out


def offsets_of(streams: list[bytes], fragments: int = 1) -> list[int]:
    """Where each frame begins, counted from the first fragment, with so many fragments a frame."""
    found, p = [], 0
    for stream in streams:
        found.append(p)
        p += len(stream) + 8 * fragments
    return found


def table(offsets: list[int]) -> bytes:
    return item(struct.pack(f"<{len(offsets)}L", *offsets))


def halves(stream: bytes) -> bytes:
    """A stream in two fragments."""
    cut = len(stream) // 4 * 2
    return item(stream[:cut]) + item(stream[cut:])


def all_frames(data: bytes) -> list[np.ndarray]:
    reader = FrameReader(data)
    return [reader.frame(k) for k in range(reader.frames)]


FRAMES, STREAMS = frames_of_value(4)
WHOLE = b"".join(map(item, STREAMS))
SPLIT = b"".join(map(halves, STREAMS))

WAYS = {
    "empty table": item(b"") + WHOLE + DELIMITER,
    "table": table(offsets_of(STREAMS)) + WHOLE + DELIMITER,
    "table that points nowhere": table([0, 3, 999_999, 7]) + WHOLE + DELIMITER,
    "table of another length": table([0]) + WHOLE + DELIMITER,
    "two fragments, table": table(offsets_of(STREAMS, 2)) + SPLIT + DELIMITER,
    "two fragments, end markers": item(b"") + SPLIT + DELIMITER,
    "two fragments, wrong table": table([0, 1, 2, 3]) + SPLIT + DELIMITER,
    "no delimiter": item(b"") + WHOLE,
    "bytes behind the last fragment": item(b"") + WHOLE + b"\1\2\3\4\5\6\7\x08\x09" + DELIMITER,
    "zeros behind the delimiter": item(b"") + WHOLE + DELIMITER + bytes(64),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vr", [b"OB", b"OW", b"UN"])
def test_every_way_of_telling_frames_gives_the_frames_that_went_in(way: str, vr: bytes) -> None:
    found = all_frames(encapsulated(WAYS[way], 4, vr=vr))
    assert all(np.array_equal(a, b) for a, b in zip(found, FRAMES, strict=True))


@pytest.mark.parametrize("fragments", [1, 2])
def test_an_extended_table_tells_frames(fragments: int) -> None:
    offsets = offsets_of(STREAMS, fragments)
    tables = extended(offsets, list(map(len, STREAMS)))
    body = WHOLE if fragments == 1 else SPLIT
    found = all_frames(encapsulated(item(b"") + body + DELIMITER, 4, tables=tables))
    assert all(np.array_equal(a, b) for a, b in zip(found, FRAMES, strict=True))


def test_a_stream_of_odd_length_in_an_odd_item_is_read() -> None:
    """PS3.5 A.4 wants even lengths; some writers do not care."""
    stream = bytes(imagecodecs.jpegls_encode(FRAMES[0])).rstrip(b"\0")
    stream += b"\0" * (1 - len(stream) % 2)
    assert len(stream) % 2 == 1
    assert np.array_equal(all_frames(encapsulated(item(b"") + item(stream) + DELIMITER, 1))[0], FRAMES[0])


def test_one_frame_takes_all_fragments() -> None:
    stream = STREAMS[2]
    pieces = b"".join(item(stream[p : p + 10]) for p in range(0, len(stream), 10))
    assert np.array_equal(all_frames(encapsulated(item(b"") + pieces + DELIMITER, 1))[0], FRAMES[2])


def test_frames_before_a_cut_are_still_there() -> None:
    for body, first in ((WHOLE, table(offsets_of(STREAMS))), (SPLIT, table(offsets_of(STREAMS, 2)))):
        data = encapsulated(first + body, 4)[:-20]
        reader = FrameReader(data)
        assert all(np.array_equal(reader.frame(k), FRAMES[k]) for k in range(3))
        with pytest.raises(BrokenObject, match="cut off"):
            reader.frame(3)


def test_a_frame_behind_a_cut_is_refused() -> None:
    data = encapsulated(table(offsets_of(STREAMS)) + WHOLE[: offsets_of(STREAMS)[2] + 30], 4)
    reader = FrameReader(data)
    assert np.array_equal(reader.frame(1), FRAMES[1])
    for index in (2, 3):
        with pytest.raises(BrokenObject, match="cut off"):
            reader.frame(index)


HOSTILE = {
    "fewer fragments than frames": (item(b"") + WHOLE + DELIMITER, 5),
    "a million frames in a tiny object": (item(b"") + WHOLE + DELIMITER, 1_000_000),
    "a table in another order": (table(sorted(offsets_of(STREAMS), reverse=True)) + WHOLE + DELIMITER, 4),
    "a table that overlaps": (table([0, 0, 10, 10]) + item(b"ab") * 8 + DELIMITER, 4),
    "a table that points outside": (table([0, 10, 20, 2**32 - 1]) + item(b"ab") * 8 + DELIMITER, 4),
    "a table that points between items": (table([0, 11, 20, 30]) + item(b"ab") * 8 + DELIMITER, 4),
    "no end markers": (item(b"") + item(b"ab") * 8 + DELIMITER, 4),
    "no fragments": (item(b"") + DELIMITER, 1),
    "no items": (DELIMITER, 1),
    "a table longer than the object": (item(b"", 2**31) + WHOLE, 4),
    "nothing": (b"", 1),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_object_that_lies_about_its_frames_is_refused_at_once(case: str) -> None:
    value, frames = HOSTILE[case]
    data = encapsulated(value, frames)
    header = read_header(data)
    started = time.perf_counter()
    with pytest.raises(BrokenObject):
        FrameReader(data, header)
    assert time.perf_counter() - started < 0.5


def test_a_frame_begins_behind_an_end_marker_only() -> None:
    """A start marker within a frame, of a preview for example, may by chance begin a fragment."""
    frame = item(b"\xff\xd8\xff\xe0 preview ") + item(b"\xff\xd8\xff\xdb image \xff\xd9\0")
    data = encapsulated(item(b"") + frame * 3 + DELIMITER, 3)
    index = index_frames(InMemory(data), read_header(data), 3)
    assert index.first == [0, 2, 4, 6]


def test_a_frame_without_bytes_is_refused() -> None:
    data = encapsulated(item(b"") + item(STREAMS[0]) + item(b"") + DELIMITER, 2)
    reader = FrameReader(data)
    assert np.array_equal(reader.frame(0), FRAMES[0])
    with pytest.raises(BrokenObject, match="empty"):
        reader.frame(1)


def test_a_fragment_longer_than_the_object_is_refused() -> None:
    data = encapsulated(item(b"") + item(STREAMS[0], 2**31), 1)
    with pytest.raises(BrokenObject, match="cut off"):
        FrameReader(data).frame(0)


def test_a_million_native_frames_in_a_tiny_object_are_refused_at_once() -> None:
    data = as_bytes(slice_dataset(NumberOfFrames=1_000_000))
    with pytest.raises(BrokenObject, match="48000000 are described"):
        FrameReader(data)


def test_random_damage_never_raises_anything_but_our_errors() -> None:
    """And what is returned has the described shape: each byte flip is a frame or a refusal."""
    rng = np.random.default_rng(7)
    data = encapsulated(WAYS["two fragments, table"], 4)
    begin = data.index(b"\xe0\x7f\x10\x00")
    for _ in range(400):
        broken = bytearray(data)
        broken[rng.integers(begin + 8, len(data))] ^= 1 << int(rng.integers(8))
        try:
            reader = FrameReader(bytes(broken))
            assert all(reader.frame(k).shape == (12, 10) for k in range(4))
        except DicomlakeError:
            continue


# ---- only the bytes of the wanted frame ----


@pytest.mark.parametrize("compressed", [False, True])
def test_a_frame_costs_its_own_bytes(compressed: bool) -> None:
    pixels = np.random.default_rng(2).integers(0, 65536, (40, 64, 64)).astype("<u2")
    ds = slice_dataset(pixels=pixels[0], NumberOfFrames=40)
    if compressed:
        ds.PixelData = pydicom.encaps.encapsulate([bytes(imagecodecs.jpegls_encode(p)) for p in pixels])
        ds["PixelData"].VR, ds.file_meta.TransferSyntaxUID = "OB", uid.JPEGLSLossless
    else:
        ds.PixelData = pixels.tobytes()
    source = Counting(as_bytes(ds))
    header = read_header(source)
    source.given = 0
    reader = FrameReader(source, header)
    assert source.given < 2000  # item headers and the offset table, no pixels
    for index in (39, 0, 17):
        source.given = 0
        assert np.array_equal(reader.frame(index), pixels[index])
        assert source.given < 1.2 * 64 * 64 * 2


def test_single_bits_are_read_from_the_bytes_they_touch() -> None:
    frames = np.random.default_rng(0).integers(0, 2, (50, 7, 9)).astype(bool)
    ds = slice_dataset(pixels=np.zeros((7, 9), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.NumberOfFrames, ds.PixelData = 50, np.packbits(frames.ravel(), bitorder="little").tobytes()
    for syntax in (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        ds.file_meta.TransferSyntaxUID = syntax
        packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
        packed += b"\0" * (len(packed) % 2)
        big = syntax == uid.ExplicitVRBigEndian
        ds.PixelData = np.frombuffer(packed, "<u2").byteswap().tobytes() if big else packed
        source = Counting(as_bytes(ds))
        reader = FrameReader(source)
        for index in range(50):
            source.given = 0
            assert np.array_equal(reader.frame(index), frames[index])
            assert source.given <= 12  # 63 bits, at any position within words


def test_threads_share_a_reader() -> None:
    reader = FrameReader(encapsulated(WAYS["two fragments, table"], 4))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reader.frame, [k % 4 for k in range(200)]))
    assert all(np.array_equal(frame, FRAMES[k % 4]) for k, frame in enumerate(found))


def test_a_deflated_data_set_larger_than_what_headers_look_at_is_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dicomlake.dicom.headers.MAX_INFLATED", 4096)
    pixels = np.random.default_rng(3).integers(0, 65536, (6, 32, 32)).astype("<u2")
    ds = slice_dataset(pixels=pixels[0], NumberOfFrames=6)
    ds.PixelData = pixels.tobytes()
    ds.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    assert all(np.array_equal(a, b) for a, b in zip(all_frames(as_bytes(ds)), pixels, strict=True))


def test_a_deflated_data_set_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomlake.dicom.pixels.MAX_INFLATED_PIXELS", 100)
    ds = slice_dataset()
    ds.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    with pytest.raises(UnsupportedPixels, match="not inflated"):
        FrameReader(as_bytes(ds))


# ---- layout of uncompressed frames ----


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_memory_map_at_the_native_layout_is_the_frame(dtype: str, syntax: uid.UID, tmp_path: Path) -> None:
    info = np.iinfo(dtype)
    pixels = np.linspace(info.min, info.max, 3 * 35).astype(dtype).reshape(3, 5, 7)
    ds = slice_dataset(pixels=pixels[0], NumberOfFrames=3)
    ds.PixelData, ds.file_meta.TransferSyntaxUID = pixels.tobytes(), syntax
    (tmp_path / "object").write_bytes(as_bytes(ds))
    layout = native_layout(read_header((tmp_path / "object").read_bytes()))
    assert layout is not None
    for index in range(3):
        where = layout.offset + index * layout.frame_bytes
        mapped = np.memmap(tmp_path / "object", layout.dtype, "r", where, (5, 7))
        assert np.array_equal(mapped, pixels[index])


def not_as_they_are() -> Iterator[tuple[str, bytes]]:
    yield "big endian", as_bytes(_with(slice_dataset(), uid.ExplicitVRBigEndian))
    yield "deflated", as_bytes(_with(slice_dataset(), uid.DeflatedExplicitVRLittleEndian))
    yield "bits unused", as_bytes(slice_dataset(BitsStored=12, HighBit=11))
    yield "colour", as_bytes(slice_dataset(pixels=np.zeros((2, 2, 3), np.uint8)))
    yield "compressed", encapsulated(WAYS["table"], 4)
    yield "cut off", as_bytes(slice_dataset())[:-4]
    yield "too long", as_bytes(slice_dataset(PixelData=bytes(80)))
    bits = slice_dataset(pixels=np.zeros((8, 8), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    bits.PixelData = bytes(8)
    yield "single bits", as_bytes(bits)
    empty = slice_dataset()
    del empty.PixelData
    yield "no pixels", as_bytes(empty)


def _with(ds: pydicom.Dataset, syntax: uid.UID) -> pydicom.Dataset:
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


@pytest.mark.parametrize("case", list(not_as_they_are()), ids=lambda case: case[0])
def test_frames_that_must_be_decoded_have_no_native_layout(case: tuple[str, bytes]) -> None:
    assert native_layout(read_header(case[1])) is None


def test_unused_bits_are_trusted_only_when_proven() -> None:
    pixels = np.array([[0x0123, 0x0FFF]], dtype="<u2")
    clean = as_bytes(slice_dataset(pixels=pixels, BitsStored=12, HighBit=11))
    dirty = as_bytes(slice_dataset(pixels=pixels | 0x1000, BitsStored=12, HighBit=11))
    shifted = as_bytes(slice_dataset(pixels=pixels << 4, BitsStored=12, HighBit=15))
    assert FrameReader(clean).holds_values_as_they_are(0)
    assert not FrameReader(dirty).holds_values_as_they_are(0)
    assert not FrameReader(shifted).holds_values_as_they_are(0)
    assert native_layout(read_header(clean), proven=True) is not None
    assert native_layout(read_header(shifted), proven=True) is None


# ---- real files ----


def real_encapsulated() -> Iterator[tuple[Path, bytes, Header]]:
    folder = real_data_folder()
    paths = sorted(folder.rglob("*")) if folder else []
    for path in [*paths, *pydicom_files()]:
        if path.is_file() and path.suffix not in {".nii", ".json", ".tsv", ".md"}:
            data = path.read_bytes()
            try:
                header = read_header(data)
            except DicomlakeError:
                continue
            if header.pixels is not None and header.pixels.length is None:
                yield path, data, header


def test_fragments_of_real_files_are_those_of_pydicom() -> None:
    compared = 0
    for path, data, header in real_encapsulated():
        try:
            frames = number_of_frames(header.dataset)
            index = index_frames(InMemory(data), header, frames)
        except BrokenObject:
            assert path.name in {"example3.dcm"}, path.name
            continue
        assert header.pixels is not None
        value = data[header.pixels.offset : header.pixels.end]
        for frame in {0, frames // 2, frames - 1}:
            assert index.read(InMemory(data), frame) == get_frame(value, frame, number_of_frames=frames)
            compared += 1
    assert compared > 20


def test_one_frame_decoded_alone_is_that_of_the_reader() -> None:
    data = encapsulated(WAYS["two fragments, end markers"], 4)
    header = read_header(data)
    assert np.array_equal(decode_frame(data, header, 2), FrameReader(data).frame(2))
    with pytest.raises(IndexError):
        decode_frame(data, header, 4)
