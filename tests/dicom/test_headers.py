"""The header reader reads what pydicom reads, at the speed of a walk, and survives any bytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from dicomlake.dicom.headers import Attributes, read_header
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
