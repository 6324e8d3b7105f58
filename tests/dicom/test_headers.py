"""The header reader reads what pydicom reads, at the speed of a walk, and survives any bytes."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import MAX_INFLATED, WINDOW, HeaderReader, read_header
from dicomlake.errors import BrokenObject, NotADicomObject
from tests.support import pydicom_files, real_data_folder

PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}


def _files() -> list[Path]:
    real = real_data_folder()
    return pydicom_files() + (sorted(p for p in real.rglob("*") if p.is_file()) if real else [])


def _by_pydicom(path: Path, *, force: bool) -> Dataset | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(path, force=force)
        except Exception:
            return None


def _assert_equal(ours: Attributes, theirs: Dataset, where: str) -> int:
    """Raw values, VRs and nesting are equal; returns how many elements were compared."""
    tags = sorted(set(map(int, theirs.keys())) - PIXELS)
    mine = [tag for tag in ours.elements if tag not in PIXELS]
    assert sorted(mine) == tags, where
    compared = 0
    for tag in tags:
        element = theirs.get_item(tag)
        place = f"{where} ({tag:08X})"
        if isinstance(element, RawDataElement) and element.VR != "SQ":
            vr, value = ours.elements[tag]
            if element.VR is not None:
                assert vr == element.VR, place
            if len(value) != 0 or element.length <= 1 << 20:
                assert value == (element.value or b""), place
            compared += 1
        if (element.VR == "SQ") or (isinstance(element, RawDataElement) and ours.vr(tag) == "SQ"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                full = theirs[tag]
            if full.VR == "SQ":
                items = ours.items(tag)
                assert len(items) == len(full.value), place
                for number, (mine_item, their_item) in enumerate(zip(items, full.value, strict=True)):
                    compared += _assert_equal(mine_item, their_item, f"{place}[{number}]")
        else:
            assert isinstance(element, RawDataElement | DataElement)
    return compared


def test_every_element_of_every_file_equals_pydicoms() -> None:
    compared = files = 0
    for path in _files():
        theirs = _by_pydicom(path, force=False)
        if theirs is None:
            continue
        header = read_header(path.read_bytes())
        if any("cut off" in problem or "ends inside" in problem for problem in header.problems):
            continue  # pydicom hands out the partial value; its own test below
        compared += _assert_equal(header.dataset, theirs, path.name)
        assert sorted(header.meta.elements) == sorted(map(int, theirs.file_meta.keys())), path.name
        if "TransferSyntaxUID" in theirs.file_meta:
            assert header.transfer_syntax == theirs.file_meta.TransferSyntaxUID, path.name
        files += 1
    assert files > 70
    assert compared > 5000


def test_a_reader_that_has_seen_other_headers_reads_the_same() -> None:
    reader = HeaderReader()
    for path in _files():
        data = path.read_bytes()
        try:
            expected = read_header(data)
        except NotADicomObject:
            with pytest.raises(NotADicomObject):
                reader.read(data)
            continue
        assert reader.read(data) == expected, path.name


class _Slow:
    """Bytes that are read by range only, and that count how many were asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.given = 0

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        found = self._data[start:stop]
        self.given += len(found)
        return found


def test_reading_by_range_gives_the_same_header_and_leaves_the_pixels_alone() -> None:
    for path in _files():
        data = path.read_bytes()
        try:
            expected = read_header(data)
        except NotADicomObject:
            continue
        slow = _Slow(data)
        assert read_header(slow) == expected, path.name
        if expected.pixels and expected.pixels.length and expected.pixels.length > 1 << 18:
            assert slow.given < 4 * (expected.pixels.offset + WINDOW), path.name


def test_text_and_numbers_equal_pydicoms() -> None:
    compared = 0
    for path in _files():
        theirs = _by_pydicom(path, force=False)
        if theirs is None:
            continue
        ours = read_header(path.read_bytes()).dataset
        for element in _converted(theirs):
            tag = int(element.tag)
            if element.VR in VALUES_COMPARED and ours.vr(tag) == element.VR:
                assert list(ours.texts(tag)) == _as_texts(element), f"{path.name} ({tag:08X})"
                compared += 1
    assert compared > 3000


VALUES_COMPARED = {"AE", "AT", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UI", "US", "SS", "UL", "SL", "FD"}


def _converted(dataset: Dataset) -> list[DataElement]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in map(int, dataset.keys()):
            try:
                found.append(dataset[tag])
            except Exception:  # pydicom refuses some values; ours are then not compared
                continue
    return found


def _as_texts(element: DataElement) -> list[str]:
    value = element.value
    values = [] if value is None else list(value) if element.VM > 1 else [value]
    if element.VR == "AT":
        return [f"{int(v):08X}" for v in values]
    texts = [str(v).strip(" \0") for v in values]
    return texts if any(texts) else []


def _implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def _explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HL", 0, size) if vr in LONG else struct.pack("<H", size)) + value


LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"}


def _object(*elements: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    meta = _explicit(0x00020010, b"UI", syntax)
    return b"\0" * 128 + b"DICM" + meta + b"".join(elements)


MODALITY = _explicit(0x00080060, b"CS", b"CT")
ROWS = _explicit(0x00280010, b"US", b"\x02\x00")


def test_a_claim_of_three_gigabytes_costs_nothing() -> None:
    data = _object(MODALITY, _explicit(0x00420011, b"OB", b"x" * 1000, 3_000_000_000))
    tracemalloc.start()
    header = read_header(data)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.dataset.text("Modality") == "CT"
    assert "(0042,0011)" in " ".join(header.problems)
    assert peak < 1 << 20


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_nested_without_end_are_refused_or_kept_unread(undefined: bool) -> None:
    nested = b""
    for _ in range(10_000):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF if undefined else len(nested)) + nested
        item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0) if undefined else b""
        ended = item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if undefined else item
        nested = _explicit(0x00081140, b"SQ", ended, 0xFFFFFFFF if undefined else None)
        if len(nested) > 1 << 19:
            break
    data = _object(MODALITY, nested)
    if undefined:
        with pytest.raises(BrokenObject, match="nested deeper"):
            read_header(data)
    else:
        assert read_header(data).dataset.text("Modality") == "CT"


def test_a_cut_object_keeps_what_is_whole_and_names_what_is_not() -> None:
    whole = _object(MODALITY, ROWS, _explicit(0x7FE00010, b"OW", b"\1\2" * 50))
    for size in range(132 + 28 + 1, len(whole)):
        try:
            header = read_header(whole[:size])
        except NotADicomObject:
            assert size < len(_object(MODALITY))
            continue
        between_elements = size in (len(_object(MODALITY)), len(_object(MODALITY, ROWS)))
        assert bool(header.problems) != between_elements, size
        if header.pixels is not None:
            assert header.dataset.number("Rows") == 2
            assert "cut off" in header.problems[0]


def test_elements_behind_the_pixels_are_read_too() -> None:
    padding = _explicit(0xFFFCFFFC, b"OB", b"\0\0")
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"abcd"
    encapsulated = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + fragment + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    for pixels in (b"OW", None):
        value = (
            _explicit(0x7FE00010, b"OW", b"\1\2")
            if pixels
            else _explicit(0x7FE00010, b"OB", encapsulated, 0xFFFFFFFF)
        )
        header = read_header(_object(MODALITY, value, padding))
        assert 0xFFFCFFFC in header.dataset.elements
        assert header.problems == ()


def test_an_explicit_data_set_may_hold_implicit_elements_and_items() -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 16) + _implicit(0x00081150, b"1.2.3.4\0")
    data = _object(MODALITY, _explicit(0x00081140, b"SQ", item), _implicit(0x00280010, b"\x07\x00"))
    dataset = read_header(data).dataset
    assert dataset.items("ReferencedImageSequence")[0].text("ReferencedSOPClassUID") == "1.2.3.4"
    assert dataset.number("Rows") == 7


def test_a_deflate_bomb_is_looked_at_no_further_than_the_limit() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = _explicit(0x7FE00010, b"OB", b"", 0xFFFFFFF0)
    packed = packer.compress(MODALITY + head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(200))
    data = _object(packed + packer.flush(), syntax=b"1.2.840.10008.1.2.1.99")
    tracemalloc.start()
    header = read_header(data)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.dataset.text("Modality") == "CT"
    assert peak < 3 * MAX_INFLATED


def _seeds() -> list[bytes]:
    names = {
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "reportsi.dcm",
        "image_dfl.dcm",
        "rtdose_rle_1frame.dcm",
    }
    found = [path.read_bytes() for path in pydicom_files() if path.name in names]
    assert len(found) == len(names)
    return [data[:20_000] for data in found]


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_end_in_a_header_or_a_clear_error(data: st.DataObject) -> None:
    seed = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(128, len(seed) - 1))
        seed[at : at + 4] = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"\xff\xff\xff\xff"))
    cut = data.draw(st.integers(0, len(seed)))
    damaged = bytes(seed[:cut] if data.draw(st.booleans()) else seed)
    try:
        header = read_header(damaged)
    except NotADicomObject:
        return
    assert read_header(_Slow(damaged)) == header
    for tag in header.dataset.elements:
        header.dataset.texts(tag)
        header.dataset.numbers(tag)
        with contextlib.suppress(BrokenObject):
            header.dataset.items(tag)


_SEEDS = _seeds()


def test_zeros_behind_the_pixels_are_padding_not_a_million_elements() -> None:
    pixels = _explicit(0x7FE00010, b"OW", b"\1\2" * 8)
    plain = read_header(_object(MODALITY, pixels))
    padded = _object(MODALITY, pixels) + bytes(8 << 20)
    assert read_header(padded).dataset.elements == plain.dataset.elements
    assert read_header(_Slow(padded)).dataset.elements == plain.dataset.elements
    behind = _explicit(0xFFFCFFFC, b"OB", b"\0\0")
    assert 0xFFFCFFFC in read_header(_object(MODALITY, pixels) + bytes(64) + behind).dataset.elements


def test_a_source_that_has_shrunk_ends_the_walk() -> None:
    whole = _object(MODALITY, _explicit(0x00420011, b"OB", bytes(100_000)), ROWS)

    class Shrunk(_Slow):
        def __init__(self) -> None:
            super().__init__(whole[:50_000])
            self.size = len(whole)

    header = read_header(Shrunk())
    assert header.dataset.text("Modality") == "CT"
    assert header.problems
