"""A report adds up, however it is looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import dicomlake
from dicomlake.ingest.report import OUTCOMES, Entry, Report
from dicomlake.records import SeriesKey
from tests.objects import ROOT, dicom, series


@pytest.fixture
def report(tmp_path: Path) -> Iterator[Report]:
    """One of everything, from a real ingest."""
    source = tmp_path / "in"
    source.mkdir()
    objects = {
        **{f"IM{number}": data for number, data in enumerate(series(3))},
        "twin": dicom(1),
        "conflict": dicom(1, KVP=80),
        "broken.dcm": b"<b>no DICOM</b>",
        "anonymous": dicom(9, SOPInstanceUID=None),
        "notes.txt": b"text",
        "projection": dicom(1, series=f"{ROOT}.2.1", PixelSpacing=None, ImagePositionPatient=None),
    }
    for name, data in objects.items():
        (source / name).write_bytes(data)
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        yield lake.ingest(source)


COUNTS = {"stored": 4, "already": 1, "conflict": 1, "refused": 2, "skipped": 1}


def test_the_counts_add_up_to_the_objects_met(report: Report) -> None:
    assert report.counts() == COUNTS
    assert Counter(entry.outcome for entry in report.entries) == COUNTS
    assert (report.stored, report.already) == (4, 1)
    assert [len(x) for x in (report.conflicts, report.refused, report.skipped)] == [1, 2, 1]
    assert len(report.series) == 2


def test_the_dictionary_is_json_and_names_every_object(report: Report) -> None:
    found = json.loads(json.dumps(report.as_dict()))
    assert {name: found[name] for name in OUTCOMES} == COUNTS
    assert found["met"] == len(found["objects"]) == sum(COUNTS.values())
    assert len({entry["origin"] for entry in found["objects"]}) == found["met"]
    stored = [e for e in found["objects"] if e["outcome"] in ("stored", "conflict")]
    assert found["bytes"] == sum(entry["size"] for entry in stored) > 0
    assert found["series"] == 2
    assert found["volumes"] + len(found["not_built"]) == len(report.volumes) == 2
    assert all(entry["detail"] for entry in found["objects"] if entry["outcome"] != "stored")


def test_the_table_has_one_row_an_object(report: Report) -> None:
    table = report.table()
    assert list(table.columns) == list(Entry._fields)
    assert table.outcome.value_counts().to_dict() == COUNTS
    assert Report.of([], [], 0.0).table().empty


def test_the_text_says_each_count_and_each_reason(report: Report) -> None:
    lines = str(report).splitlines()
    shown = {
        label: int(number) for label, number, *_ in (line.split() for line in lines[1:]) if label in COUNTS
    }
    assert shown == COUNTS
    assert "has no SOPInstanceUID" in str(report)
    assert lines[0].startswith("Ingest: 9 objects in ")


class Text(HTMLParser):
    """The text of an HTML document, and its tags."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.text = ""
        self.open: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_html_is_well_formed_and_says_the_same(report: Report) -> None:
    html = Text(report._repr_html_())
    assert html.open == []
    for name, count in COUNTS.items():
        assert f"{name}{count}" in html.text


def test_what_comes_from_outside_is_escaped() -> None:
    entry = Entry("<script>", "refused", "<script>alert(1)</script>")
    html = Report.of([entry], [SeriesKey("1", "2")], 1.0)._repr_html_()
    assert "<script>" not in html


def test_many_reasons_are_cut_to_the_most_frequent() -> None:
    entries = [Entry(str(i), "refused", f"reason {i % 12:02}") for i in range(30)]
    report = Report.of(entries, [], 0.0)
    assert report.reasons()[0] == ("reason 00", 3)
    assert sum(count for _reason, count in report.reasons()) == 30
    assert "… and 4 more reasons" in str(report)
    assert str(report).startswith("Ingest: 30 objects in 0.0 s")
