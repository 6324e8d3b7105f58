"""Look-up tables against pydicom, against the standard's own palettes, and by hand."""

from __future__ import annotations

import json
import struct
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_palette_files
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.luts import Lut, modality_lut, palette, voi_luts, window
from dicomlake.dicom.pixels import decode_frame
from dicomlake.errors import BrokenObject
from tests.dicom.phantoms import as_bytes, slice_dataset
from tests.support import pydicom_files, real_data_folder

SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]


def written(ds: Dataset, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> tuple[Dataset, Attributes]:
    """The data set as pydicom reads it back, and as we do."""
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian and ds.BitsAllocated == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    data = as_bytes(ds)
    return pydicom.dcmread(BytesIO(data)), read_header(data).dataset


def with_table(
    keyword: str, first: int, values: np.ndarray, bits: int, vr: str = "US", signed: bool = False
) -> Dataset:
    """An image with a look-up table; data as numbers (US) or as little endian bytes (OW)."""
    pixels = np.linspace(-1000 if signed else 0, 3000, 64).astype("i2" if signed else "u2").reshape(8, 8)
    ds = slice_dataset(pixels=pixels)
    item = Dataset()
    item.add_new(0x00283002, "SS" if signed else "US", [len(values) % 65536, first, bits])
    item.LUTExplanation = "secret^words"
    item.ModalityLUTType = "OD"
    item.add_new(0x00283006, vr, values.tolist() if vr == "US" else values.astype("<u2").tobytes())
    setattr(ds, keyword, Sequence([item]))
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("signed", [False, True])
def test_a_modality_lut_is_applied_as_pydicom_does(syntax: uid.UID, signed: bool) -> None:
    table = np.random.default_rng(1).integers(0, 65536, 900)
    ds, ours = written(
        with_table("ModalityLUTSequence", -200 if signed else 300, table, 16, signed=signed), syntax
    )
    lut = modality_lut(ours)
    assert lut is not None
    stored = ds.pixel_array
    assert np.array_equal(lut.apply(stored), apply_modality_lut(stored, ds))
    assert lut.first == (-200 if signed else 300)
    assert lut.units == "OD"


def test_stored_values_beyond_a_table_take_its_ends() -> None:
    lut = Lut(first=10, values=(7, 8, 9), bits=8)
    assert lut.apply(np.array([[-5, 9, 10], [11, 12, 60000]])).tolist() == [[7, 7, 7], [8, 9, 9]]
    assert lut.apply(np.array([255, 0], np.uint8)).dtype == np.uint8
    assert Lut(-3, (5, 6), 8).apply(np.array([0, 1], np.uint8)).tolist() == [6, 6]


def test_no_entries_in_the_descriptor_means_65536() -> None:
    table = np.arange(65536)[::-1]
    _, ours = written(with_table("ModalityLUTSequence", 0, table, 16, vr="OW"))
    lut = modality_lut(ours)
    assert lut is not None
    assert len(lut.values) == 65536
    assert lut.apply([0, 1, 65535]).tolist() == [65535, 65534, 0]


@pytest.mark.parametrize("syntax", SYNTAXES[::2])
def test_bytes_packed_into_words_are_entries_of_their_own(syntax: uid.UID) -> None:
    """PS3.3 C.11.1.1.1: 8-bit entries may share a word, the low byte first; here five of them."""
    ds = with_table("ModalityLUTSequence", 0, np.zeros(5), 8, vr="OW")
    item = ds.ModalityLUTSequence[0]
    raw = bytes([10, 20, 30, 40, 50, 0])
    big = syntax == uid.ExplicitVRBigEndian
    item.LUTData = np.frombuffer(raw, "<u2").byteswap().tobytes() if big else raw
    lut = modality_lut(written(ds, syntax)[1])
    assert lut is not None
    assert lut.values == (10, 20, 30, 40, 50)


def test_entries_in_both_bytes_of_a_word_are_taken_once() -> None:
    ds = with_table("ModalityLUTSequence", 0, np.array([0x0101, 0xFFFF, 0x8080]), 8)
    lut = modality_lut(written(ds)[1])
    assert lut is not None
    assert lut.values == (1, 255, 128)


@pytest.mark.parametrize(
    ("descriptor", "size", "what"),
    [
        ([4, 0, 16], 3, "4 entries are described"),
        ([4, 0, 16], 5, "4 entries are described"),
        ([4, 0, 8], 4, "larger entries"),
        ([4, 0, 9], 4, "9 bits"),
        ([4, 0], 4, "no descriptor"),
    ],
)
def test_a_table_that_contradicts_its_descriptor_is_refused(
    descriptor: list[int], size: int, what: str
) -> None:
    ds = with_table("ModalityLUTSequence", 0, np.full(size, 3000), 16)
    ds.ModalityLUTSequence[0].LUTDescriptor = descriptor
    with pytest.raises(BrokenObject, match=what) as caught:
        modality_lut(written(ds)[1])
    assert "secret" not in str(caught.value)


def test_a_lut_survives_json_and_does_not_tell_its_explanation() -> None:
    lut = modality_lut(written(with_table("ModalityLUTSequence", 5, np.arange(900), 16))[1])
    assert lut is not None
    text = json.dumps(lut.to_json())
    assert Lut.from_json(json.loads(text)) == lut
    assert "secret" not in text + repr(lut)


def test_an_image_without_tables_has_none() -> None:
    _, ours = written(slice_dataset())
    assert modality_lut(ours) is None
    assert palette(ours) is None
    assert voi_luts(ours, signed=False) == ()


# ---- values of interest ----


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_lut_is_applied_as_pydicom_does(syntax: uid.UID, bits: int) -> None:
    table = np.random.default_rng(bits).integers(0, 1 << bits, 300)
    ds, ours = written(with_table("VOILUTSequence", 1100, table, bits), syntax)
    (lut,) = voi_luts(ours, signed=False)
    if bits == 8:  # pydicom 3.0 indexes with 8 bits there
        expected = table[np.clip(ds.pixel_array.astype(int) - 1100, 0, 299)]
    else:
        expected = apply_voi(ds.pixel_array, ds)
    assert np.array_equal(lut.apply(ds.pixel_array), expected)


def test_the_input_of_a_voi_lut_decides_the_sign_of_its_first_value() -> None:
    """C.11.2.1.1: a CT is stored unsigned and has negative HU, which the table maps."""
    ds = with_table("VOILUTSequence", 64512, np.arange(300), 16)
    _, ours = written(ds)
    assert voi_luts(ours, signed=True)[0].first == -1024
    assert voi_luts(ours, signed=False)[0].first == 64512


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (2048, 4096), (-0.5, 2.5)])
def test_windows_are_those_of_pydicom(function: str, center: float, width: float) -> None:
    ds = slice_dataset(
        WindowCenter=center, WindowWidth=width, VOILUTFunction=function, BitsStored=12, HighBit=11
    )
    values = np.linspace(-300, 4000, 997)
    theirs = apply_windowing(values, ds) / 4095  # from 0 to the largest stored value
    assert np.allclose(window(values, center, width, function), theirs, rtol=0, atol=1e-12)


def test_the_example_of_the_standard_is_met() -> None:
    """PS3.3 C.11.2.1.2.1: center 2048, width 4096 is x / 4095 of the output range."""
    assert window([0, 2047.5, 4095], 2048, 4096).tolist() == [0, 0.5, 1]
    assert window([-1, 0, 1], 0, 1).tolist() == [0, 1, 1]  # width 1 is a threshold at center - 0.5
    assert window([1e6, -1e6], 0, 1, "SIGMOID").tolist() == [1, 0]


def test_windows_that_are_not_defined_are_refused() -> None:
    for width, function in ((0.5, "LINEAR"), (0, "LINEAR_EXACT"), (-1, "SIGMOID")):
        with pytest.raises(ValueError, match="width"):
            window([0], 0, width, function)
    with pytest.raises(ValueError, match="VOILUTFunction"):
        window([0], 0, 1, "CUBIC")


# ---- palettes ----


def with_palette(first: int, colours: np.ndarray, bits: int, raw: list[bytes] | None = None) -> Dataset:
    ds = slice_dataset(pixels=np.arange(256, dtype=np.uint8).reshape(16, 16))
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for k, name in enumerate(("Red", "Green", "Blue")):
        word = f"{name}PaletteColorLookupTable"
        setattr(ds, f"{word}Descriptor", [len(colours) % 65536, first, bits])
        data = colours[:, k].astype("<u2" if bits == 16 else "u1").tobytes()
        setattr(ds, f"{word}Data", raw[k] if raw else data)
    return ds


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("first", "entries"), [(0, 256), (17, 100), (200, 56)])
def test_a_palette_is_applied_as_pydicom_does(bits: int, first: int, entries: int) -> None:
    colours = np.random.default_rng(bits).integers(0, 1 << bits, (entries, 3))
    ds, ours = written(with_palette(first, colours, bits))
    found = palette(ours)
    assert found is not None
    assert found.first == first
    assert np.array_equal(found.colours, colours)
    assert np.array_equal(found.apply(ds.pixel_array), apply_color_lut(ds.pixel_array, ds))


def test_eight_bit_entries_in_words_are_detected_by_their_length() -> None:
    """PS3.3 C.7.6.3.1.5, the note."""
    colours = np.random.default_rng(3).integers(0, 256, (4, 3))
    ds = with_palette(0, colours, 8, [colours[:, k].astype("<u2").tobytes() for k in range(3)])
    found = palette(written(ds)[1])
    assert found is not None
    assert np.array_equal(found.colours, colours)
    assert found.colours.dtype == np.uint8


def segmented(data: bytes, entries: int, bits: int) -> Dataset:
    ds = with_palette(0, np.zeros((entries, 3)), bits)
    for name in ("Red", "Green", "Blue"):
        delattr(ds, f"{name}PaletteColorLookupTableData")
        setattr(ds, f"Segmented{name}PaletteColorLookupTableData", data)
    return ds


def test_a_segmented_palette_is_expanded_by_hand() -> None:
    """Discrete 0 100; linear over 4 to 108; indirect: the linear segment at byte 8 again, from 108."""
    words = [0, 2, 0, 100, 1, 4, 108, 2, 1, 8, 0]
    found = palette(written(segmented(struct.pack("<11H", *words), 10, 16))[1])
    assert found is not None
    assert found.colours[:, 0].tolist() == [0, 100, 102, 104, 106, 108, 108, 108, 108, 108]


def test_a_segmented_palette_of_bytes_counts_its_offsets_in_bytes() -> None:
    data = bytes([0, 1, 10, 1, 5, 20, 2, 1, 0, 0, 0, 0])  # 10; 12 … 20; the first segment again
    found = palette(written(segmented(data, 7, 8))[1])
    assert found is not None
    assert found.colours[:, 1].tolist() == [10, 12, 14, 16, 18, 20, 10]


@pytest.mark.parametrize(
    "words",
    [
        [1, 4, 108],  # nothing to start the line from
        [0, 9, 1, 2],  # longer than the data
        [7, 1, 1, 1],  # no such segment
        [0, 1, 5, 2, 1, 6, 0],  # an indirect segment that points at itself
        [0, 1, 5, 2, 65535, 0, 0],  # far more than described
        [0, 1, 5, 1, 65535, 9, 1, 65535, 1, 1, 65535, 9],
        [0, 3, 1, 2, 3],  # fewer than described
    ],
)
def test_a_segmented_palette_without_sense_is_refused(words: list[int]) -> None:
    ds = segmented(struct.pack(f"<{len(words)}H", *words), 10, 16)
    with pytest.raises(BrokenObject, match="segment"):
        palette(written(ds)[1])


def test_a_segmented_palette_of_far_too_many_entries_is_refused_before_they_are_made() -> None:
    """One indirect segment, which names 5,000 lines of 65,535 entries."""
    words = [0, 1, 5, 2, 5000, 14, 0, *([1, 65535, 9] * 5000)]
    ds = segmented(struct.pack(f"<{len(words)}H", *words), 65536, 16)
    started = time.perf_counter()
    with pytest.raises(BrokenObject, match="more than 65536"):
        palette(written(ds)[1])
    assert time.perf_counter() - started < 2


def test_tables_that_differ_in_their_descriptors_are_refused() -> None:
    ds = with_palette(0, np.zeros((4, 3)), 8)
    ds.BluePaletteColorLookupTableDescriptor = [4, 1, 8]
    with pytest.raises(BrokenObject, match="different descriptors"):
        palette(written(ds)[1])


@pytest.mark.parametrize("path", get_palette_files("*.dcm"), ids=lambda path: Path(path).stem)
def test_the_palettes_of_the_standard_are_those_of_pydicom(path: str) -> None:
    found = palette(read_header(Path(path).read_bytes()).dataset)
    assert found is not None
    index = np.arange(256)
    assert np.array_equal(found.apply(index), apply_color_lut(index, pydicom.dcmread(path)))


def test_colours_of_real_images_are_those_of_pydicom() -> None:
    compared, folder = 0, real_data_folder()
    for path in [*(sorted(folder.rglob("*.dcm")) if folder else ()), *pydicom_files()]:
        data = path.read_bytes()
        if b"PALETTE COLOR" not in data[:8192]:
            continue
        header = read_header(data)
        found = palette(header.dataset)
        if found is None or header.pixels is None:
            continue
        stored = decode_frame(data, header)
        assert np.array_equal(found.apply(stored), apply_color_lut(stored, pydicom.dcmread(path))), path.name
        compared += 1
    assert compared >= 1
