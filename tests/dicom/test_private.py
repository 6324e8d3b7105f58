"""Private elements are found by creator and read strictly, whatever VR they were given."""

from __future__ import annotations

import pytest

from dicomlake.dicom import private
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.private import PrivateElement
from tests.dicom.phantoms import as_bytes, slice_dataset

COUNT = PrivateElement(0x0019, "MAKER", 0x0A, "US")
WEIGHT = PrivateElement(0x0019, "MAKER", 0x0B, "FD")


def numbers(wanted: PrivateElement, vr: str, value: object) -> tuple[float, ...]:
    ds = slice_dataset()
    ds.private_block(0x0019, "ANOTHER", create=True).add_new(wanted.element, "US", 1)
    ds.private_block(0x0019, "MAKER", create=True).add_new(wanted.element, vr, value)
    return private.numbers(read_header(as_bytes(ds)).dataset, wanted)


@pytest.mark.parametrize(
    ("vr", "value"), [("US", 48), ("UN", b"0\0"), ("UN", b"48"), ("LO", "48"), ("IS", "48"), ("OB", b"0\0")]
)
def test_a_number_is_read_whatever_vr_it_was_given(vr: str, value: object) -> None:
    assert numbers(COUNT, vr, value) == (48,)


@pytest.mark.parametrize(
    ("vr", "value"),
    [("UN", b"\1\2\3"), ("UN", b""), ("FD", float("inf")), ("LO", "4 8"), ("LO", "x"), ("DS", "1\\")],
)
def test_what_is_no_number_is_nothing(vr: str, value: object) -> None:
    assert numbers(WEIGHT, vr, value) == ()


def test_creators_are_those_that_reserve_a_block() -> None:
    ds = slice_dataset()
    ds.private_block(0x0029, "Maker Two", create=True).add_new(0x10, "LO", "NO CREATOR")
    assert private.creators(read_header(as_bytes(ds)).dataset) == {"maker two"}


def test_texts_are_read_under_any_vr() -> None:
    ds = slice_dataset()
    ds.private_block(0x0019, "MAKER", create=True).add_new(0x0A, "UN", b"one\\two ")
    assert private.texts(read_header(as_bytes(ds)).dataset, COUNT) == ("one", "two")
