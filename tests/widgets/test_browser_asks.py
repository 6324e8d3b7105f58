"""The browser answers as the lake would: lists, selections, details, headers, documents."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pydicom
import pytest
import traitlets

import dicomlake
from dicomlake.dicom import standard
from dicomlake.errors import QueryError
from dicomlake.records import SeriesKey
from dicomlake.widgets.browser import identifying
from dicomlake.widgets.browser.browser import Browser
from dicomlake.widgets.browser.tagviewer import TagViewer
from tests.objects import as_bytes
from tests.widgets.browsed import EVIL, FakeLake, odd, real_lake

Ask = Callable[..., tuple[dict[str, Any], list[Any]]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dicomlake.Lake]:
    made = real_lake(tmp_path_factory.mktemp("asked"))
    yield made
    made.close()


def asker(widget: Any) -> Ask:
    """Asks of a widget, answered at once; what failed raises AssertionError with what is shown."""
    widget.told = []

    def send(content: Any, buffers: Any = None) -> None:
        widget.told.append((content, buffers or []))

    def ask(name: str, _buffers: Any = (), **args: Any) -> tuple[dict[str, Any], list[Any]]:
        widget._handle_custom_msg({"ask": name, "id": len(widget.told) + 1, "args": args}, list(_buffers))
        content, buffers = next(one for one in reversed(widget.told) if "answer" in one[0])
        assert "failed" not in content, content["failed"]
        json.dumps(content)
        return content["data"], buffers

    widget.send = send
    return ask


@pytest.fixture
def browser(lake: dicomlake.Lake) -> Browser:
    return Browser(lake)


def _series_of(ask: Ask, text: str, sort: str = "patient") -> list[dict[str, Any]]:
    listed, _ = ask("list", text=text, sort=sort)
    found = []
    for study in range(listed["counts"]["studies"]):
        rows, _ = ask("children", list=listed["list"], level="series", of=study, start=0, count=200)
        found += rows["rows"]
    return found


def test_the_rows_listed_are_those_of_lake_query(browser: Browser, lake: dicomlake.Lake) -> None:
    rows = _series_of(asker(browser), "Modality=CT,PT StudyDescription~chest")
    wanted = lake.query("Modality=CT,PT", "StudyDescription~chest").rows()
    assert len(wanted) > 3
    names = ("SeriesInstanceUID", "SeriesDescription", "instances", "bytes", "Modality")
    assert [[row[n] for n in names] for row in rows] == [[row[n] for n in names] for row in wanted]
    verdicts = {v.series_uid: v.verdict for v in lake.volumes()}
    assert {row["SeriesInstanceUID"]: row["volumes"][0]["verdict"] for row in rows} == {
        row["SeriesInstanceUID"]: verdicts[row["SeriesInstanceUID"]] for row in wanted
    }


def test_patients_and_studies_have_their_words(browser: Browser, lake: dicomlake.Lake) -> None:
    ask = asker(browser)
    listed, _ = ask("list", text="", sort="patient")
    rows, _ = ask("children", list=listed["list"], level="patients", of=0, start=0, count=100)
    known = {row["PatientID"]: row for row in lake.rows("patients")}
    assert [row["PatientID"] for row in rows["rows"]] == sorted(known)
    for row in rows["rows"]:
        assert row["PatientName"] == known[row["PatientID"]]["PatientName"]
        assert row["children"] == known[row["PatientID"]]["studies"]
        studies, _ = ask("children", list=listed["list"], level="studies", of=row["at"], start=0, count=100)
        assert len(studies["rows"]) == row["children"]


def test_what_is_chosen_is_a_table_and_a_cohort_of_the_lake(browser: Browser, lake: dicomlake.Lake) -> None:
    ask = asker(browser)
    listed, _ = ask("list", text="Modality=CT", sort="patient")
    told, _ = ask("select", list=listed["list"], ranges=[[1, 3], [4, 5]])
    assert told["places"] == [1, 2, 4]
    wanted = [lake.query(Modality="CT")[i].uid for i in (1, 2, 4)]
    assert browser.selected == wanted
    expected = lake.query(SeriesInstanceUID=wanted).table()
    got = browser.selection.sort_values("SeriesInstanceUID", ignore_index=True)
    assert got.equals(expected.sort_values("SeriesInstanceUID", ignore_index=True))


def test_all_matching_is_kept_as_a_query_not_as_a_list(browser: Browser, lake: dicomlake.Lake) -> None:
    ask = asker(browser)
    listed, _ = ask("list", text="Modality=CT trial", sort="patient")
    told, _ = ask("select", list=listed["list"], all=True)
    assert told["all"] is True
    assert told["same"] is True
    assert browser.selected == []
    assert browser.selects_all
    assert set(browser.cohort.table()["SeriesInstanceUID"]) == {
        row["SeriesInstanceUID"] for row in _series_of(ask, "Modality=CT trial")
    }
    assert browser.cohort.expression is not None
    later, _ = ask("list", text="Modality=PT", sort="patient")
    assert later["same"] is False  # what is chosen is of the search before


def test_a_selection_survives_another_search(browser: Browser) -> None:
    ask = asker(browser)
    listed, _ = ask("list", text="Modality=CT", sort="patient")
    ask("select", list=listed["list"], ranges=[[0, 2]])
    chosen = set(browser.selected)
    again, _ = ask("list", text="", sort="size")
    rows = _series_of(ask, "", "size")
    assert {rows[place]["SeriesInstanceUID"] for place in again["places"]} == chosen
    none, _ = ask("list", text="Modality=SR", sort="patient")
    assert (none["chosen"], none["places"]) == (2, [])


def test_python_moves_the_browser(browser: Browser, lake: dicomlake.Lake) -> None:
    ask = asker(browser)
    browser.query = "Modality=PT"
    assert browser.told[-1][0] == {"news": "query", "data": {"text": "Modality=PT", "by": ""}}
    uid = lake.query(Modality="PT")[0].uid
    browser.selected = [uid]
    assert browser.told[-1][0]["news"] == "selected"
    assert browser.cohort.keys[0].series_uid == uid
    listed, _ = ask("list", text="Modality=PT", sort="patient")
    assert listed["places"] == [0]
    browser.select_all()
    assert len(browser.cohort) == len(lake.query(Modality="PT"))
    browser.query = "Modalit=PT"
    with pytest.raises(QueryError, match="Modality"):
        browser.select_all()


def test_an_unknown_series_or_too_many_cannot_be_selected(browser: Browser) -> None:
    with pytest.raises(QueryError, match=r"no series 1\.2\.3\.4"):
        browser.selected = ["1.2.3.4"]
    with pytest.raises(traitlets.TraitError, match="select_all"):
        browser.selected = [f"1.2.{i}" for i in range(501)]


def test_a_text_that_cannot_be_understood_is_told_and_fails_nothing(browser: Browser) -> None:
    told, _ = asker(browser)("list", text="Modalit=CT", sort="patient")
    assert "Modality=CT" in told["problem"]["instead"]
    wrong, _ = asker(browser)("list", text="SeriesDescription__regex=(?=a)", sort="patient")
    assert "regular expression" in wrong["problem"]["message"]
    assert browser.error == ""


def test_all_of_a_list_is_what_was_typed_for_it_whatever_the_box_says_now(browser: Browser) -> None:
    ask = asker(browser)
    listed, _ = ask("list", text="Modality=CT", sort="patient")
    ask("list", text="Modalit=CT", sort="patient")
    ask("select", list=listed["list"], all=True)
    assert {row.key for row in browser.cohort} == {row.key for row in browser._lake.query(Modality="CT")}


def test_nothing_that_identifies_is_in_the_state_that_is_saved(browser: Browser) -> None:
    ask = asker(browser)
    listed, _ = ask("list", text="trial^000", sort="patient")
    ask("select", list=listed["list"], ranges=[[0, 2]])
    saved = json.dumps(browser.get_state(), default=str).lower()
    saved = saved.replace(browser._esm.lower(), "")
    state = {k: v for k, v in browser.get_state().items() if k not in ("_esm", "_css")}
    assert "query" not in state
    assert "selected" not in state
    for value in ("trial^000", "DL-TRIAL", browser.selected[0]):
        assert value.lower() not in json.dumps(state, default=str).lower()
    assert len(json.dumps(state, default=str)) < 10_000
    assert "Trial" not in repr(browser)


def test_the_still_counts_and_names_nobody(browser: Browser, lake: dicomlake.Lake) -> None:
    count = lake.counts()
    told = f"{count['patients']} patients, {count['studies']} studies, {count['series']} series"
    assert browser.still() == f"Browser of a lake: {told}; run the cell to browse"


def test_details_tell_facts_volumes_labels_findings(browser: Browser, lake: dicomlake.Lake) -> None:
    ask = asker(browser)
    series = lake.query(Modality="CT")[0]
    lake.set_label(series, "quality", "good")
    data, _ = ask("details", id=series.id)
    assert dict(data["facts"])["SeriesInstanceUID"] == series.uid
    assert data["volumes"][0]["shape"] == list(series.volumes[0].shape)
    assert [(one["name"], one["text"]) for one in data["labels"]] == [("quality", "good")]
    (row,) = _series_of(ask, f"SeriesInstanceUID={series.uid}")
    assert [(one["name"], one["level"]) for one in row["labels"]] == [("quality", "series")]
    lake.remove_label(series, "quality")


def test_what_a_viewer_saved_is_a_label_without_its_text(browser: Browser, lake: dicomlake.Lake) -> None:
    ask = asker(browser)
    series = lake.query(Modality="CT")[0]
    given = {
        "viewer_marks": '{"version":1}',
        "viewer_marks_anna": "{}",
        "viewer_marksman": "yes",
        "viewerXmarks": "x",
    }
    for name, text in given.items():
        lake.set_label(series, name, text)
    wanted = {"viewer_marks": None, "viewer_marks_anna": None, "viewer_marksman": "yes", "viewerXmarks": "x"}
    (row,) = _series_of(ask, f"SeriesInstanceUID={series.uid}")
    assert {one["name"]: one["text"] for one in row["labels"]} == wanted
    data, _ = ask("details", id=series.id)
    assert {one["name"]: one["text"] for one in data["labels"]} == wanted
    for name in given:
        lake.remove_label(series, name)


def test_the_first_of_what_is_chosen_are_those_first_in_the_list(lake: dicomlake.Lake) -> None:
    opened: list[str] = []

    def opener(key: SeriesKey) -> ipywidgets.Widget:
        opened.append(key.series_uid)
        return ipywidgets.HTML()

    browser = Browser(lake, opener=opener)
    ask = asker(browser)
    wanted = [one.uid for one in lake.query(Modality="CT")]
    listed, _ = ask("list", text="Modality=CT", sort="patient")
    ask("select", list=listed["list"], ranges=[[1, 2], [3, 4]])
    ask("view", chosen=0)
    ask("view", chosen=1, other=True)
    assert opened == [wanted[1], wanted[3]]
    assert browser.other is not None
    with pytest.raises(AssertionError, match="not selected any more"):
        ask("view", chosen=2)
    ask("select", list=listed["list"], all=True)
    ask("view", chosen=1)
    assert opened[2:] == [wanted[1]]
    with pytest.raises(AssertionError, match="not selected any more"):
        ask("view", chosen=len(wanted))
    ask("select", list=listed["list"], ranges=[])
    with pytest.raises(AssertionError, match="not selected any more"):
        ask("view", chosen=0)


def test_documents_of_a_study_are_listed_beside_its_images_and_can_be_read(
    browser: Browser, lake: dicomlake.Lake
) -> None:
    ask = asker(browser)
    report = lake.query(Modality="SR")[0]
    image = lake.query(Modality="CT", StudyInstanceUID=report.key.study_uid)[0]
    data, _ = ask("details", id=image.id)
    assert [one["id"] for one in data["documents"]] == [report.id]
    read, _ = ask("document", id=report.id, number=0)
    assert read["kind"] == "report"
    whole = str(lake.open(report.uid).tree())
    assert [line.strip() for line in whole.splitlines() if line.strip()] == [
        line.strip() for item in read["items"] for line in item["text"].splitlines() if line.strip()
    ]


def test_pictures_come_in_batches_of_24_at_most(browser: Browser, lake: dicomlake.Lake) -> None:
    from PIL import Image

    ask = asker(browser)
    ids = [series.id for series in lake.query()]
    data, pngs = ask("thumbs", ids=ids * 3)
    assert len(data["asked"]) == 24
    assert len(data["ids"]) == len(pngs) > 0
    images = {series.id for series in lake.query(Modality=["CT", "PT"])}
    assert set(data["ids"]) <= images
    for png in pngs:
        picture = Image.open(io.BytesIO(bytes(png)))
        assert max(picture.size) <= 96
        assert np.ptp(np.asarray(picture.convert("L"))) > 20


@pytest.mark.parametrize(
    ("ask", "args"),
    [
        ("children", {"list": 99, "level": "patients", "of": 0, "start": 0, "count": 1}),
        ("list", {"text": "", "sort": "colour"}),
        ("details", {"id": "1; drop table series"}),
        ("details", {"id": 10**12}),
        ("tags", {"id": 1, "number": 10**9, "path": []}),
        ("tags", {"id": 1, "number": 0, "path": ["x"]}),
        ("tags", {"id": 1, "number": 0, "path": [1, 2]}),
        ("document", {"id": 1, "number": 99999}),
        ("thumbs", {"ids": "all"}),
        ("view", {"id": 1}),
        ("upload_piece", {"upload": "none", "parts": []}),
        ("upload_begin", {"size": -5, "files": 0}),
    ],
)
def test_bad_asks_are_refused_with_words(browser: Browser, ask: str, args: dict[str, Any]) -> None:
    asker(browser)
    browser._handle_custom_msg({"ask": ask, "id": 7, "args": args}, [])
    failed = browser.told[-1][0]["failed"]
    assert len(failed.split()) > 3
    assert "see last_exception" not in failed


def test_a_series_opens_in_a_viewer_and_a_second_beside_it(lake: dicomlake.Lake) -> None:
    made: list[SeriesKey] = []

    def opener(key: SeriesKey) -> ipywidgets.Widget:
        made.append(key)
        return ipywidgets.HTML(f"viewer {len(made)}")

    browser = Browser(lake, opener=opener)
    ask = asker(browser)
    one, two = lake.query(Modality="CT")[:2]
    ask("view", id=one.id)
    first = browser.viewer
    ask("view", id=two.id, other=True)
    assert made == [one.key, two.key]
    assert browser.viewer is first
    assert browser.other is not None
    assert browser.other.value == "viewer 2"
    ask("view", id=two.id)
    assert first is not None
    assert first.comm is None  # closed, as nobody shows it any more
    ask("unview", other=True)
    assert browser.other is None


# ---- headers ----------------------------------------------------------------------------------------------


def _odd_id(lake: dicomlake.Lake) -> int:
    return lake.query(PatientID="ODD-1")[0].id


def test_every_element_of_a_header_is_a_row_as_pydicom_reads_it(
    browser: Browser, lake: dicomlake.Lake
) -> None:
    ask = asker(browser)
    series = lake.query(Modality="CT", PatientID="DL-TRIAL-0000-000")[0]
    stored = pydicom.dcmread(io.BytesIO(lake.original(series.instances[0])))
    rows = ask("tags", id=series.id, number=0, path=[])[0]["rows"]
    got = [row["tag"].replace(",", "") for row in rows]
    wanted = [f"{int(e.tag):08X}" for e in [*stored.file_meta, *stored]]
    assert got == wanted
    by_tag = {row["tag"]: row for row in rows}
    assert by_tag["0010,0010"]["value"] == str(stored.PatientName)
    assert by_tag["7FE0,0010"]["bytes"] == len(stored.PixelData)
    assert [row["vr"] for row in rows if row["vr"] != "OW"] == [
        e.VR for e in [*stored.file_meta, *stored] if e.VR != "OW"
    ]


def test_nested_items_private_creators_and_long_values(browser: Browser, lake: dicomlake.Lake) -> None:
    ask, i = asker(browser), _odd_id(lake)

    def below(*path: int) -> dict[str, dict[str, Any]]:
        rows = ask("tags", id=i, number=0, path=list(path))[0]["rows"]
        return {row.get("keyword") or row.get("tag") or str(row["item"]): row for row in rows}

    top = below()
    requests = top["RequestAttributesSequence"]
    assert requests["children"] == 1
    (item,) = below(*requests["path"]).values()
    assert item["children"] == 2
    inside = below(*item["path"])
    assert inside["RequestedProcedureID"]["value"] == "RP-7"
    codes = inside["ProcedureCodeSequence"]
    (code,) = below(*codes["path"]).values()
    assert below(*code["path"])["CodeMeaning"]["value"] == EVIL
    assert top["0019,1010"]["creator"] == "ACME 1.0"
    assert top["0019,1010"]["value"] == "private words"
    assert top["0019,1010"]["mark"] == "X"
    assert top["0019,1011"]["bytes"] == 60
    long = top["ImageComments"]
    assert (len(long["value"]), long["more"]) == (160, True)
    whole = ask("tags", id=i, number=0, path=long["path"], all=True)[0]["value"]
    assert whole.strip() == ("long " * 200).strip()


def test_identifying_elements_are_marked_and_others_are_not(browser: Browser, lake: dicomlake.Lake) -> None:
    rows = asker(browser)("tags", id=_odd_id(lake), number=0, path=[])[0]["rows"]
    marks = {row["keyword"]: row["mark"] for row in rows}
    expected = {
        **dict.fromkeys(("PatientName", "PatientID", "StudyDate"), "Z"),
        **dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "U"),
        **dict.fromkeys(("Modality", "Rows", "SOPClassUID", "PixelSpacing", "TransferSyntaxUID"), ""),
        "SeriesDescription": "X",
    }
    assert {name: marks[name] for name in expected} == expected


def test_the_marked_keywords_are_keywords_of_the_standard_each_once() -> None:
    listed = [name for names in identifying._ACTIONS.values() for name in names.split()]
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) - standard.keywords() == set()
    assert identifying.action(0x00189306, "DS") == ""
    assert identifying.action(0x00401010, "PN") == "X"
    assert identifying.action(0x00080012, "DA") == "?"


def test_the_condition_of_a_row_finds_its_series(browser: Browser, lake: dicomlake.Lake) -> None:
    ask, i = asker(browser), _odd_id(lake)
    rows = ask("tags", id=i, number=0, path=[])[0]["rows"]
    rows += ask("tags", id=i, number=0, words="RP-7")[0]["rows"]
    asked = [row["add"] for row in rows if row["add"]]
    assert "RequestAttributesSequence.RequestedProcedureID=RP-7" in asked
    uid = lake.query(PatientID="ODD-1")[0].uid
    for text in asked:
        found = {row["SeriesInstanceUID"] for row in _series_of(ask, text)}
        assert uid in found, text


def test_a_search_in_the_header_looks_at_tags_keywords_creators_and_values(
    browser: Browser, lake: dicomlake.Lake
) -> None:
    ask, i = asker(browser), _odd_id(lake)

    def found(words: str) -> set[str]:
        return {row["tag"] for row in ask("tags", id=i, number=0, words=words)[0]["rows"]}

    assert found("0019,1010") == found("private words") == {"0019,1010"}
    assert {"0019,1010", "0019,1011"} <= found("acme")
    assert "0008,0104" in found("onerror")
    assert "0010,0020" in found("patientid")
    assert found("nothing holds this") == set()


def test_the_tag_viewer_reads_a_series_a_path_and_bytes(lake: dicomlake.Lake, tmp_path: Path) -> None:
    path = tmp_path / "odd.dcm"
    path.write_bytes(as_bytes(odd()))
    for source in (lake.query(PatientID="ODD-1")[0], path, str(path), path.read_bytes()):
        ask = asker(TagViewer(source))
        assert ask("instances", start=0)[0]["total"] == 1
        rows = ask("tags", number=0, path=[])[0]["rows"]
        assert next(row["value"] for row in rows if row["keyword"] == "PatientID") == "ODD-1"
    assert "ODD" not in TagViewer(path).still()


def test_a_million_series_are_paged_and_searched_by_numbers() -> None:
    fake = FakeLake(patients=50_000, per_patient=20)
    browser = Browser(fake)  # type: ignore[arg-type]
    ask = asker(browser)
    listed, _ = ask("list", text="", sort="date")
    assert listed["counts"]["series"] == 1_000_000
    assert sum(map(len, fake.served)) == 0
    rows, _ = ask("children", list=listed["list"], level="patients", of=0, start=49_950, count=200)
    assert len(rows["rows"]) == 50
    assert sum(map(len, fake.served)) == 50
    told, _ = ask("select", list=listed["list"], all=True)
    assert told["places"] == []
    assert len(json.dumps(browser.told)) < 40_000
