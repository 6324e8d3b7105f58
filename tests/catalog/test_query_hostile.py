"""Series with more or longer values than rows hold, and objects that were made to break a reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomlake
from dicomlake.lake import Lake
from tests.objects import ROOT, by_hand, dicom, explicit, series

# --- elements with many values -----------------------------------------------------------------


@pytest.fixture(scope="module")
def long_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A series of 100 instances, so that values which differ by instance are summed up; and a short one."""
    with dicomlake.open(tmp_path_factory.mktemp("long") / "lake", create=True) as lake:
        objects = [
            dicom(n, TriggerTime=n / 4, ImageComments=f"slice {n}", ContentTime=f"12{n % 60:02}{n // 60:02}")
            for n in range(1, 101)
        ]
        lake.ingest(objects, series(3, f"{ROOT}.2.1", TriggerTime=90), volumes=False)
        yield lake


LONG, SHORT = f"{ROOT}.1.1", f"{ROOT}.2.1"


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"TriggerTime": 12.25}, {LONG}),
        ({"TriggerTime": 12.3}, set()),
        ({"TriggerTime": 90}, {SHORT}),
        ({"TriggerTime": [90, 25]}, {LONG, SHORT}),
        ({"TriggerTime": (12.26, 12.49)}, set()),
        ({"TriggerTime": (12.26, 12.5)}, {LONG}),
        ({"TriggerTime": (24.9, 95)}, {LONG, SHORT}),
        ({"TriggerTime": (None, 0.24)}, set()),
        ({"TriggerTime": (25.01, None)}, {SHORT}),
        ({"ImageComments": "slice 77"}, {LONG}),
        ({"ImageComments": "slice 101"}, set()),
        ({"ImageComments": "slice ?7"}, {LONG}),
        ({"ImageComments": "slice 7??"}, set()),
        ({"ContentTime": ("123901", "123901")}, {LONG}),
        ({"ContentTime": ("124500", "124400")}, set()),
        ({"SOPInstanceUID": f"{ROOT}.1.1.50"}, {LONG}),
        ({"SOPInstanceUID": f"{ROOT}.1.1.101"}, set()),
    ],
)
def test_values_that_are_summed_up_are_decided_exactly(
    long_lake: Lake, condition: dict[str, Any], found: set[str]
) -> None:
    summed = long_lake.sql("select count(*) from attribute where text is null").fetchall()
    assert summed != [(0,)]
    assert {one.uid for one in long_lake.query(**condition)} == found


def test_open_ended_comparisons_leave_their_bound_out(long_lake: Lake) -> None:
    assert [one.uid for one in long_lake.query("TriggerTime>25")] == [SHORT]
    assert [one.uid for one in long_lake.query("TriggerTime<0.25")] == []
    assert [one.uid for one in long_lake.query("TriggerTime<=0.25")] == [LONG]


def test_a_value_longer_than_a_row_holds_is_found_by_its_end(tmp_path: Path) -> None:
    text = "x" * 3000 + " the end"
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(ImageComments=text), dicom(series=f"{ROOT}.1.2", ImageComments="x" * 3000))
        assert [one.uid for one in lake.query(ImageComments=text)] == [f"{ROOT}.1.1"]
        assert [one.uid for one in lake.query(ImageComments="*the end")] == [f"{ROOT}.1.1"]
        assert len(lake.query(ImageComments="xxx*")) == 2


def test_an_open_range_asks_for_any_value(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(KVP=80), dicom(series=f"{ROOT}.1.2", SeriesDescription=""))
        assert [one.uid for one in lake.query(KVP=(None, None))] == [f"{ROOT}.1.1"]
        assert [one.uid for one in lake.query(SeriesDescription=(None, None))] == [f"{ROOT}.1.1"]


# --- hostile values ------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """A sequence in a sequence in …, each with its length written out."""
    inner = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
        inner = explicit(0x0040, 0xA730, b"SQ", item)
    return inner


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(nested(3000), id="nested 3000 deep"),
        pytest.param(explicit(0x0020, 0x4000, b"LT", b"\\u0000\\x "), id="an escape as text"),
        pytest.param(explicit(0x0020, 0x4000, b"LT", b"a\0b'\"\n\x1b\xff{}"), id="control characters"),
        pytest.param(explicit(0x0018, 0x0060, b"DS", b"1e999\\nan\\inf "), id="numbers that are none"),
        pytest.param(explicit(0x0040, 0xA730, b"SQ", b"\xfe\xff\x00\xe0\xff"), id="a broken sequence"),
    ],
)
def test_a_hostile_value_does_not_keep_others_from_being_found(tmp_path: Path, more: bytes) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(by_hand(more=more), dicom(), volumes=False)
        assert len(lake.query()) == 2
        assert [one.uid for one in lake.query(Modality="CT")] == [f"{ROOT}.1.1"]
        for one in lake.query():
            assert one.header()["SOPClassUID"]
