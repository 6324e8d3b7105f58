"""The verbs that ask cohorts and write down what was found: cohorts, label, clinical, search, query."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dicomlake
from dicomlake.cli import main
from dicomlake.datasets import trial


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("trial")
    trial.write(source, patients=2)
    lake = tmp_path_factory.mktemp("lake") / "lake"
    with dicomlake.open(lake, create=True) as opened:
        opened.ingest(source.glob("*.dcm"), volumes=False)
    return lake


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["dicomlake", *map(str, arguments), "--lake", str(folder)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Result(status, *capsys.readouterr())

    return call


def ct_uids() -> set[str]:
    return {made.series_uid for made in trial.made_of(2)}


def test_a_cohort_is_frozen_listed_compared_cited_and_carried(run: Any, tmp_path: Path) -> None:
    frozen = run("cohorts", "freeze", "all ct", "Modality=CT", "--who", "an author")
    assert frozen.status == 0
    assert f"{len(ct_uids())} series" in frozen.out
    (listed,) = json.loads(run("cohorts", "ls", "--json").out)
    assert (listed["name"], listed["series"], listed["who"]) == ("all ct", len(ct_uids()), "an author")
    same = run("cohorts", "diff", "all ct")
    assert (same.status, "nothing differs" in same.out) == (0, True)
    assert "an author" in run("cohorts", "cite", "all ct").out
    assert "TY  - DATA" in run("cohorts", "cite", "all ct", "--style", "ris").out
    file = tmp_path / "all-ct.json"
    assert run("cohorts", "export", "all ct", file).status == 0
    taken = run("cohorts", "import", file, "--name", "again")
    assert (taken.status, "again" in taken.out) == (0, True)
    taken_twice = run("cohorts", "freeze", "all ct", "Modality=PT")
    assert (taken_twice.status, "never changes" in taken_twice.err) == (1, True)
    run("cohorts", "freeze", "pet", "Modality=PT")
    differs = run("cohorts", "diff", "all ct", "pet", "--json")
    assert differs.status == 1
    changes = json.loads(differs.out)["changes"]
    assert {one["SeriesInstanceUID"] for one in changes if one["what"] == "gone"} == ct_uids()


def test_labels_are_set_listed_taken_off_and_remembered(run: Any) -> None:
    uid = sorted(ct_uids())[0]
    assert "1 changed" in run("label", "set", "motion", "3", uid, "--note", "breathing", "--who", "me").out
    (row,) = json.loads(run("label", "ls", "motion", "--json").out)
    assert (row["value"], row["note"], row["who"], row["SeriesInstanceUID"]) == (3, "breathing", "me", uid)
    found = json.loads(run("query", "label.motion=3", "--json").out)
    assert [one["SeriesInstanceUID"] for one in found] == [uid]
    assert run("label", "rm", "motion", uid).status == 0
    assert json.loads(run("label", "ls", "motion", "--json").out) == []
    told = json.loads(run("label", "history", uid, "--json").out)
    assert [one["value"] for one in told if one["name"] == "motion"] == [3, None]
    assert "nan" not in run("label", "history", uid).out
    of_patients = run("label", "set", "seen", "true", "--where", "Modality=CT", "--level", "patient")
    assert "2 changed" in of_patients.out
    assert run("label", "set", "seen", "true").status == 2
    unknown = run("label", "set", "seen", "true", "1.2.3.4")
    assert (unknown.status, "holds none" in unknown.err) == (1, True)


def test_a_clinical_table_is_taken_in_listed_asked_and_dropped(run: Any, tmp_path: Path) -> None:
    patients = sorted({made.patient_id for made in trial.made_of(2)})
    table = tmp_path / "arms.csv"
    table.write_text(
        "PatientID,arm\n" + "".join(f"{p},{arm}\n" for p, arm in zip(patients, "AB", strict=True))
    )
    assert run("clinical", "import", "arms", table).status == 0
    found = json.loads(run("query", "clinical.arms.arm=A", "Modality=CT", "--json").out)
    wanted = {made.series_uid for made in trial.made_of(2) if made.patient_id == patients[0]}
    assert {one["SeriesInstanceUID"] for one in found} == wanted
    assert [one["arm"] for one in json.loads(run("clinical", "ls", "arms", "--json").out)] == ["A", "B"]
    table.write_text("PatientID,arm\nnobody,A\n")
    assert run("clinical", "import", "others", table).status == 1  # a row that belongs to nobody
    assert run("clinical", "drop", "arms").status == 0
    gone = run("query", "clinical.arms.arm=A")
    assert (gone.status, "no clinical table" in gone.err) == (2, True)


def test_words_of_reports_are_searched(run: Any) -> None:
    hits = json.loads(run("search", '"lesion of" baseline', "--json").out)
    assert len(hits) == 2
    assert {hit["kind"] for hit in hits} == {"report"}
    assert "lesion" in run("search", "lesion").out
    assert run("search", "OR").status == 2


def test_columns_of_a_query_are_chosen(run: Any) -> None:
    rows = json.loads(run("query", "Modality=CT", "--columns", "KVP,ConvolutionKernel", "--json").out)
    assert {row["SeriesInstanceUID"] for row in rows} == ct_uids()
    assert all(isinstance(row["KVP"], (int, float)) and row["ConvolutionKernel"] for row in rows)
