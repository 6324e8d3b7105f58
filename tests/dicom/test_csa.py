"""CSA headers are read as nibabel reads them, and hostile ones cost nothing."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.dicom import csa
from dicomlake.dicom.headers import read_header
from dicomlake.errors import BrokenObject
from tests.dicom.phantoms import as_bytes, slice_dataset
from tests.dicom.siemens import csa as csa_bytes
from tests.dicom.siemens import protocol

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its own reader experimental
    from nibabel.nicom import csareader


class Everything:
    def __contains__(self, name: object) -> bool:
        return True


TAGS = {"EchoLinePosition": ["32"], "SliceNormalVector": ["0.0", "-0.5", "0.25"], "ICE_Dims": ["X_1_1"]}
NAMES = st.text("abcXYZ_", min_size=1, max_size=20)
ITEMS = st.lists(st.text("0123456789.-", min_size=1, max_size=12), min_size=1, max_size=9)


@pytest.mark.parametrize("second", [True, False])
def test_items_of_named_tags_are_read(second: bool) -> None:
    raw = csa_bytes(TAGS, second=second)
    assert csa.read(raw, Everything()) == {name: tuple(items) for name, items in TAGS.items()}
    assert csa.read(raw, ("ICE_Dims",)) == {"ICE_Dims": ("X_1_1",)}


@given(st.dictionaries(NAMES, ITEMS, min_size=1, max_size=6))
def test_what_nibabel_reads_is_read(tags: dict[str, list[str]]) -> None:
    raw = csa_bytes(tags)
    raw = raw.replace(b"DS\0\0", b"LO\0\0").replace(
        b"IS\0\0", b"LO\0\0"
    )  # nibabel would make numbers of them
    theirs = csareader.read(raw)["tags"]
    ours = csa.read(raw, Everything())
    assert ours == {name: tuple(tag["items"]) for name, tag in theirs.items()}
    assert set(ours) == set(tags)


def test_items_beyond_the_multiplicity_are_none() -> None:
    raw = bytearray(csa_bytes({"A": ["1", "2", "3"]}))
    raw[16 + 64 : 16 + 68] = struct.pack("<i", 2)
    assert csa.read(bytes(raw), Everything()) == {"A": ("1", "2")}


def _headers(folder: Path) -> list[bytes]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".dcm" in path.name:
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                elements = read_header(raw).dataset.elements
            found += [
                value for tag, (_, value) in elements.items() if tag >> 16 == 0x29 and value[:4] == b"SV10"
            ]
    return found


@pytest.mark.parametrize("folder", ["nibabel", "mosaic-order", "ts9-siemens", "divest", "bits12", "dcmstack"])
def test_real_headers_are_read_as_nibabel_reads_them(real_data: Path, folder: str) -> None:
    headers = _headers(real_data / folder)
    assert headers
    for raw in headers:
        theirs = csareader.read(raw)["tags"]
        ours = csa.read(raw, Everything())
        assert len(theirs) > 20
        for name, tag in theirs.items():
            items = [item.strip() if isinstance(item, str) else item for item in tag["items"]]
            items = [item for item in items if item not in (None, "", b"")]
            if tag["vr"] in ("FL", "FD", "DS", "SS", "US", "SL", "UL", "IS"):
                assert list(csa.numbers(ours.get(name, ()))) == items
            elif tag["vr"] != "UN":
                assert list(ours.get(name, ())) == items


@given(st.binary(max_size=400), st.sampled_from([b"SV10\4\3\2\1", b"", b"SV10\4\3\2\1\1\0\0\0M\0\0\0"]))
def test_arbitrary_bytes_are_refused_or_read(raw: bytes, start: bytes) -> None:
    try:
        found = csa.read(start + raw, Everything())
    except BrokenObject:
        return
    assert sum(len(text) for texts in found.values() for text in texts) <= len(raw)


@given(st.data(), st.booleans())
def test_a_damaged_header_is_refused_or_read(data: st.DataObject, second: bool) -> None:
    raw = bytearray(csa_bytes(TAGS, second=second))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 4))
        raw[at : at + 4] = struct.pack("<i", data.draw(st.integers(-(2**31), 2**31 - 1)))
    try:
        found = csa.read(bytes(raw), Everything())
    except BrokenObject:
        return
    assert sum(len(text) for texts in found.values() for text in texts) <= len(raw)


@pytest.mark.parametrize("second", [True, False])
def test_a_header_cut_off_anywhere_is_refused(second: bool) -> None:
    raw = csa_bytes({"A": ["1"]}, second=second, items=1)
    for end in range(len(raw) - 2):  # the padding of the last item may be missing
        with pytest.raises(BrokenObject):
            csa.read(raw[:end], Everything())


def test_a_count_of_items_beyond_the_bytes_is_refused_at_once() -> None:
    raw = bytearray(csa_bytes({"A": ["1"]}))
    raw[16 + 76 : 16 + 80] = struct.pack("<i", 2**31 - 1)
    with pytest.raises(BrokenObject, match="makes no sense"):
        csa.read(bytes(raw), Everything())


def test_a_header_is_found_by_its_first_bytes_when_its_creator_was_renamed() -> None:
    ds = slice_dataset()
    block = ds.private_block(0x0029, "SOMEBODY ELSE", create=True)
    block.add_new(0x10, "OB", csa_bytes(TAGS))
    header = read_header(as_bytes(ds)).dataset
    assert csa.of_image(header, ("EchoLinePosition",)) == {"EchoLinePosition": ("32",)}
    assert csa.of_series(header, ("EchoLinePosition",)) == {}


def test_a_header_in_another_block_is_found_by_its_creator() -> None:
    ds = slice_dataset()
    ds.private_block(0x0029, "A FIRST ONE", create=True).add_new(0x10, "OB", b"no CSA header")
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(
        0x10, "OB", csa_bytes(TAGS, second=False)
    )
    assert csa.of_image(read_header(as_bytes(ds)).dataset, ("ICE_Dims",)) == {"ICE_Dims": ("X_1_1",)}


def test_a_damaged_header_is_as_good_as_none() -> None:
    ds = slice_dataset()
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa_bytes(TAGS)[:-40])
    assert csa.of_image(read_header(as_bytes(ds)).dataset, Everything()) == {}


def test_planned_slices_are_read_with_the_zeros_that_a_protocol_leaves_out() -> None:
    centres = np.array([[0.0, -1.5, 2.0], [0.0, 0.0, 0.0], [0.0, 1.5e-3, -2.0]])
    found = csa.slice_centres(protocol(centres))
    assert found is not None
    np.testing.assert_allclose(found, centres)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sSliceArray.lSize = 0",
        "sSliceArray.lSize = 3\nsSliceArray.asSlice[0].sPosition.dTra = 1",
        "sSliceArray.lSize = 1\nsSliceArray.asSlice[1].sPosition.dTra = 1",
        "sSliceArray.lSize = 1\nsSliceArray.asSlice[0].sPosition.dTra = 1e",
    ],
)
def test_a_protocol_that_does_not_name_its_slices_tells_nothing(text: str) -> None:
    assert csa.slice_centres(text) is None


def test_planned_slices_of_a_real_protocol_are_evenly_spaced(real_data: Path) -> None:
    ds = pydicom.dcmread(real_data / "mosaic-order/In/ep2d_Asc_2/IM-0001-0001.dcm", stop_before_pixels=True)
    text = csa.read(ds[0x0029, 0x1020].value, ("MrPhoenixProtocol",))["MrPhoenixProtocol"][0]
    centres = csa.slice_centres(text)
    assert centres is not None
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert len(centres) == 36
    np.testing.assert_allclose(steps, float(ds.SpacingBetweenSlices), atol=1e-5)
