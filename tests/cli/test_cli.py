"""Every verb: a table for people, JSON for programs, exit status 0, 1 or 2, one sentence for an error."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dicomlake
from dicomlake import datasets
from dicomlake.cli import main
from tests.objects import dicom


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("DICOMLAKE_LAKE", raising=False)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["dicomlake", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Result(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    source = tmp_path_factory.mktemp("source")
    datasets.make("chest-ct", source / "ct", slices=5)
    datasets.make("dynamic-pet", source / "pet", slices=2)
    (source / "notes.txt").write_text("not DICOM")
    (source / "empty.dcm").write_bytes(b"")
    folder = tmp_path_factory.mktemp("lake") / "lake"
    with dicomlake.open(folder, create=True) as opened:
        opened.ingest(source)
    return folder


def test_init_makes_a_lake_and_leaves_one_alone(run: Any, tmp_path: Path) -> None:
    assert run("init", tmp_path / "new").status == 0
    assert (tmp_path / "new" / "lake.toml").is_file()
    again = run("init", tmp_path / "new", "--json")
    assert again.status == 0
    assert again.json["instances"] == 0


def test_init_refuses_a_folder_with_other_files(run: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    refused = run("init", tmp_path)
    assert refused.status == 1
    assert "other files" in refused.err
    assert list(tmp_path.iterdir()) == [tmp_path / "thesis.docx"]


def test_ingest_reports_and_exits_with_findings(run: Any, tmp_path: Path) -> None:
    source = datasets.make("chest-ct", tmp_path / "ct", slices=3)
    clean = run("ingest", source, "--lake", tmp_path / "lake", "--json")
    assert clean.status == 0
    assert (clean.json["stored"], clean.json["volumes"], clean.json["met"]) == (3, 1, 3)
    (tmp_path / "bad.dcm").write_bytes(b"DICM of sorts")
    found = run("ingest", tmp_path / "bad.dcm", source, "--lake", tmp_path / "lake")
    assert found.status == 1
    lines = {line.split()[0]: line.split()[1] for line in found.out.splitlines()[1:6]}
    assert (lines["stored"], lines["already"], lines["refused"]) == ("0", "3", "1")


def test_ingest_makes_no_lake_in_a_folder_of_other_files(run: Any, tmp_path: Path) -> None:
    source = datasets.make("chest-ct", tmp_path / "ct", slices=3)
    refused = run("ingest", source, "--lake", source)
    assert refused.status == 1
    assert "Traceback" not in refused.err
    assert len(list(source.iterdir())) == 3


@pytest.mark.parametrize(
    "level", ["patients", "studies", "series", "volumes", "findings", "refused", "conflicts"]
)
def test_ls_lists_every_level(run: Any, lake: Path, level: str) -> None:
    expected = {
        "patients": 2,
        "studies": 2,
        "series": 2,
        "volumes": 2,
        "findings": 0,
        "refused": 1,
        "conflicts": 0,
    }
    listed = run("ls", level, "--lake", lake)
    assert listed.status == 0
    assert len(listed.out.splitlines()) == 1 + expected[level]
    assert len(run("ls", level, "--lake", lake, "--json").json) == expected[level]


def test_query_answers_and_a_bad_condition_is_wrong_usage(run: Any, lake: Path) -> None:
    found = run("query", "Modality=CT", "SliceThickness>1", "--lake", lake, "--json")
    assert [row["Modality"] for row in found.json] == ["CT"]
    assert len(run("query", "PatientID=DL-*", "--lake", lake).out.splitlines()) == 3
    assert run("query", "Modality=MR", "--lake", lake, "--json").json == []
    wrong = run("query", "SliceThicknes<2", "--lake", lake)
    assert wrong.status == 2
    assert "SliceThickness" in wrong.err


def test_sql_answers_and_refuses_to_write(run: Any, lake: Path) -> None:
    query = "select Modality, sum(instances)::int as n from series group by all order by 1"
    found = run("sql", query, "--lake", lake, "--json")
    assert found.json == [{"Modality": "CT", "n": 5}, {"Modality": "PT", "n": 12}]
    assert run("sql", "drop table series", "--lake", lake).status == 2


def test_show_finds_by_series_study_and_instance(run: Any, lake: Path) -> None:
    truth = datasets.truth("chest-ct", slices=5)
    for uid in (truth.series_uid, truth.study_uid, truth.instance_uids[2]):
        shown = run("show", uid, "--lake", lake, "--json", "--header")
        assert shown.status == 0
        assert shown.json[0]["series"]["SeriesInstanceUID"] == truth.series_uid
        assert shown.json[0]["header"]["Modality"] == ["CT"]
    assert len(shown.json[0]["instances"]) == 1
    assert shown.json[0]["header"]["SOPInstanceUID"] == [truth.instance_uids[2]]
    assert truth.series_uid in run("show", truth.series_uid, "--lake", lake).out
    missing = run("show", "1.2.3", "--lake", lake)
    assert missing.status == 2
    assert "dicomlake ls" in missing.err


def test_verify_finds_a_flipped_byte(run: Any, lake: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lake, copy)
    assert run("verify", "--deep", "--lake", copy).status == 0
    original = next(copy.glob("studies/*/*/originals/*.dcm"))
    data = bytearray(original.read_bytes())
    data[-100] ^= 1
    original.write_bytes(data)
    found = run("verify", "--lake", copy, "--json")
    assert found.status == 1
    assert [f["kind"] for f in found.json["findings"]] == ["original_damaged"]
    assert original.name in found.json["findings"][0]["scope"]


def test_rebuild_brings_a_lost_catalog_back(run: Any, lake: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lake, copy)
    before = run("ls", "--lake", copy, "--json").json
    for path in copy.glob("catalog.sqlite*"):
        path.unlink()
    lost = run("ls", "--lake", copy)
    assert lost.status == 1
    assert "dicomlake rebuild" in lost.err
    rebuilt = run("rebuild", "--lake", copy, "--json")
    assert rebuilt.json == {"originals": 17, "series": 2, "volumes": 2}
    assert run("ls", "--lake", copy, "--json").json == before
    assert run("verify", "--lake", copy).status == 0
    assert run("rebuild", "--volumes", "--lake", copy).status == 0


def test_doctor_tells_what_it_rests_on(run: Any, lake: Path) -> None:
    checks = {check["name"]: check["state"] for check in run("doctor", "--lake", lake, "--json").json}
    assert {"Python", "SQLite", "Zarr pipeline", "Pixel decoders", "Free space", "File system"} == set(checks)
    assert set(checks.values()) <= {"ok", "warn"}
    assert run("doctor", "--lake", lake).status == 0


def test_a_missing_lake_is_one_sentence(run: Any, tmp_path: Path) -> None:
    for verb in (
        ["ls"],
        ["query", "Modality=CT"],
        ["show", "1.2"],
        ["verify"],
        ["rebuild"],
        ["sql", "select 1"],
    ):
        missing = run(*verb, "--lake", tmp_path / "nowhere")
        assert missing.status == 1, verb
        assert missing.err.startswith("dicomlake: ")
        assert missing.err.count("\n") == 1
        assert "dicomlake init" in missing.err


def test_wrong_usage_exits_with_2(run: Any) -> None:
    assert run("ls", "nonsense").status == 2
    assert run("nonsense").status == 2
    assert run("ingest").status == 2


def test_the_environment_names_the_lake(run: Any, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMLAKE_LAKE", str(lake))
    assert len(run("ls", "--json").json) == 2


def test_a_terminal_gets_a_table_that_fits(lake: Path) -> None:
    main_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "dicomlake", "ls", "--lake", str(lake)]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(main_end, 4096):
                shown += chunk
        except OSError:  # the end of a pseudo-terminal on Linux
            pass
        os.close(main_end)
        assert process.wait() == 0
    lines = shown.decode().splitlines()
    assert any("PatientID" in line and "SeriesInstanceUID" in line for line in lines)
    assert any("DL-CHEST" in line for line in lines)


def test_demo_makes_a_lake_and_says_what_to_type_next(run: Any, tmp_path: Path) -> None:
    shown = run("demo", tmp_path / "demo", "--slices", 12)
    assert shown.status == 0
    for word in ("patients", "studies", "series", "instances", "volumes", "refused", "What to type next"):
        assert word in shown.out
    with dicomlake.open(tmp_path / "demo") as opened:
        assert opened.counts()["volumes"] > 5
        assert opened.verify().ok


def test_an_interrupt_says_that_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_sources: object, **_how: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dicomlake.lake.Lake.ingest", interrupted)
    monkeypatch.setattr(sys, "argv", ["dicomlake", "ingest", str(tmp_path), "--lake", str(tmp_path / "lake")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert "is safe: run it again" in capsys.readouterr().err


def test_what_explains_a_query_is_there_for_programs_too(run: Any, tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1), volumes=False)
    asked = ["query", "Modality=CT", "KVP=70", "--lake", str(tmp_path / "lake"), "--json"]
    code, out, _err = run(*asked, "--explain")
    assert code == 0
    assert [(step["alone"], step["left"]) for step in json.loads(out)["steps"]] == [(1, 1), (0, 0)]
    code, out, _err = run(*asked, "--sql")
    assert json.loads(out)["sql"].startswith("SELECT series_id")
