"""The answer to a query is that of a scan of the files with pydicom, for any element that occurs in them."""

from __future__ import annotations

import random
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

import dicomlake
from dicomlake.dicom.values import BULK_VRS
from dicomlake.errors import QueryError
from dicomlake.lake import Lake
from tests.objects import ROOT, by_hand, dicom, explicit, series

SAMPLE = 60  # conditions of each kind
Value = str | float

# What one series holds, path by path.
Held = dict[str, set[Value]]


# --- an independent scan ---------------------------------------------------------------------


def scanned(ds: Dataset) -> Iterator[tuple[str, Value]]:
    """(path, value) of all values that pydicom sees, through all sequences."""
    for element in ds:
        name = path_of(ds, element)
        if name is None:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from ((f"{name}.{path}", value) for path, value in scanned(item))
        elif element.VR not in BULK_VRS:
            yield from ((name, plain(element.VR, value)) for value in values_of(element))


def path_of(ds: Dataset, element: DataElement) -> str | None:
    tag = element.tag
    if tag.element == 0 or tag.group == 0xFFFC:  # group lengths and paddings are not catalogued
        return None
    if tag.is_private:
        creator = ds.get((tag.group, tag.element >> 8)) if tag.element > 0xFF else None
        if creator is None or not creator.value:
            return f"{tag.group:04X},{tag.element:04X}"
        return f'{tag.group:04x},xx{tag.element & 0xFF:02X}["{creator.value}"]'
    return pydicom.datadict.keyword_for_tag(tag) or f"{tag.group:04X},{tag.element:04X}"


def values_of(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    many = isinstance(value, (list, tuple, pydicom.multival.MultiValue))
    return [one for one in (value if many else [value]) if one is not None and one != ""]


def plain(vr: str, value: Any) -> Value:
    if isinstance(value, PersonName):
        return str(value)
    if vr == "AT":
        return f"{int(value):08X}"
    if isinstance(value, str):
        return value.strip(" \0") if vr not in ("LT", "ST", "UT", "UR") else value.rstrip(" \0")
    return float(value)


@pytest.fixture(scope="module")
def real_lake(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake of real files, of each folder some, without volumes."""
    chosen = random.Random(3)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(path for path in real_data.rglob("*") if path.is_file()):
        folders[path.parent].append(path)
    files = [path for some in folders.values() for path in chosen.sample(some, min(len(some), 6))]
    with dicomlake.open(tmp_path_factory.mktemp("real") / "lake", create=True) as lake:
        lake.ingest(files, volumes=False)
        yield lake


@pytest.fixture(scope="module")
def truth(real_lake: Lake) -> dict[str, Held]:
    """SeriesInstanceUID -> path -> values, scanned by pydicom from the originals of the series."""
    found: dict[str, Held] = defaultdict(lambda: defaultdict(set))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in real_lake.query():
            for instance in one.instances:
                if instance.conflict:
                    continue
                ds = pydicom.dcmread(real_lake.path / instance.key, stop_before_pixels=True, force=True)
                try:
                    pairs = list(scanned(ds))
                except Exception:  # a value that pydicom cannot convert: not a file to compare with
                    found[one.uid]["unreadable"] = {1.0}
                    continue
                for path, value in pairs:
                    found[one.uid][path].add(value)
    return found


def answer(lake: Lake, path: str, value: Any) -> set[str]:
    return {one.uid for one in lake.query(**{path: value})}


def expected(truth: dict[str, Held], path: str, holds: Callable[[Value], bool]) -> set[str]:
    return {uid for uid, held in truth.items() if any(holds(value) for value in held.get(path, ()))}


def pairs_of(truth: dict[str, Held], kind: type) -> list[tuple[str, Any]]:
    """A sample, the same each time, of (path, value) of text or of numbers, every path among them."""
    readable = [held for held in truth.values() if "unreadable" not in held]
    every = sorted(
        {(p, v) for held in readable for p, values in held.items() for v in values if type(v) is kind}
    )
    chosen = random.Random(20240229)
    chosen.shuffle(every)
    by_path = {path: (path, value) for path, value in every}
    return [*by_path.values(), *every][:SAMPLE]


def agreed(truth: dict[str, Held], found: set[str]) -> set[str]:
    """Series that the scan could read to the end."""
    return {uid for uid in found if "unreadable" not in truth[uid]}


def test_an_exact_text_finds_the_series_that_a_scan_finds(real_lake: Lake, truth: dict[str, Held]) -> None:
    tried = 0
    for path, text in pairs_of(truth, str):
        if "*" in text or "?" in text or "\\" in text:
            continue
        tried += 1
        assert agreed(truth, answer(real_lake, path, text)) == agreed(
            truth, expected(truth, path, lambda value, text=text: value == text)
        ), path
    assert tried > SAMPLE // 2


def test_an_exact_number_finds_the_series_that_a_scan_finds(real_lake: Lake, truth: dict[str, Held]) -> None:
    for path, number in pairs_of(truth, float)[: SAMPLE // 2]:
        found = answer(real_lake, path, number)
        assert agreed(truth, found) == agreed(truth, expected(truth, path, lambda v, n=number: v == n)), path


def test_a_list_finds_what_its_members_find(real_lake: Lake, truth: dict[str, Held]) -> None:
    pairs = [pair for pair in pairs_of(truth, str) if not {"*", "?"} & set(pair[1])]
    for path, text in pairs[::4]:
        other = next((v for held in truth.values() for v in held.get(path, ()) if v != text), "nothing")
        found = answer(real_lake, path, [text, other])
        assert agreed(truth, found) == agreed(
            truth, expected(truth, path, lambda v, both=(text, other): v in both)
        ), path


@pytest.mark.parametrize("kind", [str, float])
def test_a_range_finds_the_series_that_a_scan_finds(
    real_lake: Lake, truth: dict[str, Held], kind: type
) -> None:
    chosen = random.Random(7)
    for path, bound in pairs_of(truth, kind)[::4]:
        others = sorted(v for held in truth.values() for v in held.get(path, ()) if type(v) is kind)
        low, high = sorted([bound, chosen.choice(others)])
        for wanted in ((low, high), (low, None), (None, high)):
            try:
                found = answer(real_lake, path, wanted)
            except QueryError:  # a range of text in an element of numbers
                continue

            def holds(value: Value, low: Any = wanted[0], high: Any = wanted[1]) -> bool:
                if type(value) is not kind:
                    return False
                return (low is None or value >= low) and (high is None or value <= high)

            assert agreed(truth, found) == agreed(truth, expected(truth, path, holds)), (path, wanted)


def test_a_wildcard_finds_the_series_that_a_scan_finds(real_lake: Lake, truth: dict[str, Held]) -> None:
    chosen = random.Random(11)
    for path, text in pairs_of(truth, str)[::3]:
        if len(text) < 3 or {"*", "?"} & set(text):
            continue
        at = chosen.randrange(1, len(text) - 1)
        for pattern in (f"{text[:at]}*", f"*{text[at:]}", f"{text[:at]}?{text[at + 1 :]}"):
            regex = re.compile(
                "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.DOTALL
            )
            found = answer(real_lake, path, pattern)
            assert agreed(truth, found) == agreed(
                truth,
                expected(truth, path, lambda v, r=regex: isinstance(v, str) and r.fullmatch(v) is not None),
            ), (path, pattern)


def test_conditions_together_find_the_intersection(real_lake: Lake, truth: dict[str, Held]) -> None:
    both = {uid for uid, held in truth.items() if "CT" in held["Modality"] and 512.0 in held["Rows"]}
    assert {one.uid for one in real_lake.query(Modality="CT", Rows=512)} == both != set()
    assert {one.uid for one in real_lake.query("Modality=CT", "Rows>=512", "Rows<=512")} == both


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


# --- what cannot be understood ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"Modalty": "CT"}, "did you mean Modality"),
        ({"SliceThickness": (1, 2, 3)}, "a pair"),
        ({"SliceThickness": ("thin", None)}, "holds numbers"),
        ({"Modality": None}, "cannot be compared"),
        ({"Modality": {"CT": 1}}, "cannot be compared"),
        ({"ReferencedSeriesSequence.Modalty": 1}, "not a keyword"),
    ],
)
def test_a_condition_that_cannot_be_understood_is_named(
    tmp_path: Path, condition: dict[str, Any], message: str
) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake, pytest.raises(QueryError, match=message):
        lake.query(**condition)


@pytest.mark.parametrize("text", ["Modality", "=CT", "Modality!CT"])
def test_a_text_that_is_no_condition_is_refused(tmp_path: Path, text: str) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake, pytest.raises(QueryError):
        lake.query(text)
