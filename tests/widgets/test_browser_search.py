"""What is typed into the search box means what `lake.query` finds; what cannot be understood is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import dicomlake
from dicomlake.widgets.browser.hints import hints
from dicomlake.widgets.browser.typed import quoted, read
from tests.widgets.browsed import FakeLake, real_lake

NOWHERE: Any = FakeLake(1, 1)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dicomlake.Lake]:
    made = real_lake(tmp_path_factory.mktemp("searched"))
    yield made
    made.close()


def _found(lake: dicomlake.Lake, text: str) -> set[str]:
    typed = read(text, lake)
    assert typed.problem is None
    rows = lake.series_rows(lake.matching(typed.expression).tolist())
    return {row["SeriesInstanceUID"] for row in rows}


def _asked(lake: dicomlake.Lake, *conditions: str, **wanted: Any) -> set[str]:
    return {key.series_uid for key in lake.query(*conditions, **wanted).keys}


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("", ()),
        ("Modality=CT", ("Modality=CT",)),
        ("Modality = CT,PT", ("Modality=CT,PT",)),
        ("Modality=CT SliceThickness<=5", ("Modality=CT", "SliceThickness<=5")),
        ("StudyDescription~chest Modality!=CT", ("StudyDescription~chest", "Modality!=CT")),
        ('StudyDescription="CT Chest"', ("StudyDescription=CT Chest",)),
        ("KVP=100..120 verdict=regular", ("KVP=100..120", "verdict=regular")),
        ("0008,0060=SR", ("Modality=SR",)),
        ("ImageType[2]=AXIAL ImageType__count>=3", ("ImageType[2]=AXIAL", "ImageType__count>=3")),
        ('0019,xx11["ACME 1.0"]__missing=false', ('0019,xx11["ACME 1.0"]__missing=false',)),
        ('0019,xx10["ACME 1.0"]~private', ('0019,xx10["ACME 1.0"]~private',)),
        (
            "RequestAttributesSequence.RequestedProcedureID=RP-7",
            ("RequestAttributesSequence.RequestedProcedureID=RP-7",),
        ),
    ],
)
def test_conditions_find_what_lake_query_finds(
    lake: dicomlake.Lake, text: str, conditions: tuple[str, ...]
) -> None:
    assert _found(lake, text) == _asked(lake, *conditions)


def test_a_word_finds_names_identifiers_descriptions_and_reports(lake: dicomlake.Lake) -> None:
    every = _asked(lake)
    one = _found(lake, "dl-trial-0000-001")
    assert one == _asked(lake, PatientID="DL-TRIAL-0000-001")
    assert one not in (set(), every)
    assert _found(lake, "phantom^ches") == _asked(lake, "PatientName~phantom^ches") != set()
    assert _found(lake, "chest") >= _asked(lake, BodyPartExamined="CHEST") != set()
    assert _found(lake, "lesion") >= _asked(lake, Modality="SEG") != set()  # SegmentLabel
    assert _found(lake, "fdg") >= _asked(lake, "StudyDescription~fdg") != set()
    in_reports = _asked(lake, "text=lesion")
    assert in_reports
    assert _found(lake, "lesi") >= in_reports


def test_a_word_of_very_many_reports_is_found_all_the_same(
    lake: dicomlake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _found(lake, "lesion")
    assert len(lake.search("lesion", kinds=("report", "document"))) > 2
    monkeypatch.setattr("dicomlake.widgets.browser.typed._MOST_REPORTS", 2)
    assert _found(lake, "lesion") == whole


def test_words_and_conditions_must_all_hold_and_a_minus_takes_away(lake: dicomlake.Lake) -> None:
    trial, ct = _found(lake, "trial"), _asked(lake, Modality="CT")
    assert _found(lake, "trial Modality=CT") == trial & ct
    assert _found(lake, "Modality=CT -trial") == ct - trial
    assert ct - trial


def test_a_uid_and_its_beginning_find_the_series_study_and_instance(lake: dicomlake.Lake) -> None:
    key = lake.query(Modality="CT").keys[0]
    instance = lake.instances(key)[0].sop_instance_uid
    assert _found(lake, key.series_uid) == {key.series_uid}
    assert _found(lake, key.series_uid[:-3]) == {key.series_uid}
    assert key.series_uid in _found(lake, key.study_uid)
    assert _found(lake, instance) == {key.series_uid}


def test_an_unknown_name_is_told_with_what_it_may_mean() -> None:
    problem = read("chest SliceThicknes<2", NOWHERE).problem
    assert problem is not None
    assert (problem.start, problem.end) == (6, 21)
    assert "SliceThickness<2" in problem.instead
    assert read("Modality=CT", NOWHERE).problem is None


def test_an_unknown_name_is_said_once() -> None:
    problem = read("Modalityy=CT", NOWHERE).problem
    assert problem is not None
    assert problem.message.startswith("'Modalityy' is not a keyword")
    nested = read("RequestAttributesSequence.Codee=1", NOWHERE).problem
    assert nested is not None
    assert nested.message.startswith("'RequestAttributesSequence.Codee': 'Codee' is not a keyword")


@pytest.mark.parametrize("text", ["Modality=", "KVP>=abc..", 'PatientName~"Doe', "x" * 5000, "a " * 100])
def test_odd_texts_are_told_or_understood_never_raised(text: str) -> None:
    typed = read(text, NOWHERE)
    assert typed.problem is None or typed.problem.message


def test_the_message_of_a_problem_names_no_value() -> None:
    for text in ("Patientname=Secret", "KVP__ge__le=Secret", 'PatientName.famly="Secret"'):
        problem = read(text, NOWHERE).problem
        assert problem is not None
        assert "Secret" not in problem.message


@pytest.mark.parametrize("value", ["CT", "two words", "a,b", "1..2", "x*"])
def test_a_quoted_value_is_read_back_exactly(value: str) -> None:
    written = quoted(value)
    typed = read(f"SeriesDescription={written}", NOWHERE)
    assert typed.problem is None
    assert typed.expression.values == (value,)  # type: ignore[union-attr]
    assert quoted('say "x"') is None


def test_hints_complete_names_with_the_likely_ones_first(lake: dicomlake.Lake) -> None:
    found = hints(lake, "chest Slice")
    assert found["from"] == 6
    names = [one["text"] for one in found["hints"]]
    assert names[0] == "SliceThickness"
    assert all("slice" in name.lower() for name in names)


def test_hints_of_values_count_series_and_name_no_patient(lake: dicomlake.Lake) -> None:
    found = hints(lake, "Modality=C")
    counted = {one["text"]: one["about"] for one in found["hints"]}
    assert counted == {"CT": f"{len(lake.query(Modality='CT'))} series"}
    for name in ("PatientID", "PatientName", "StudyDescription", "AccessionNumber", "StudyDate"):
        assert hints(lake, f"{name}=")["hints"] == []
