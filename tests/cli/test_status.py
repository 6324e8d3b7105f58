"""`dicomlake status` shows what `Lake.status` tells, for people and for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import dicomlake
from dicomlake.cli import main
from dicomlake.cli import status as verb
from tests.objects import series


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    with dicomlake.open(folder, create=True) as opened:
        opened.ingest(*series(3), b"no DICOM", volumes=False)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.delenv("DICOMLAKE_LAKE", raising=False)
    monkeypatch.setattr(sys, "argv", ["dicomlake", "status", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_status_is_a_table(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--lake", lake) == 0
    out = capsys.readouterr().out
    assert "without volumes\t1 series" in out
    assert "! 1 objects were refused: `dicomlake ls refused`" in out


def test_status_is_json_for_programs(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--lake", lake, "--json", "--hours", 1) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["hours"], found["refused"], found["receivers"]) == (1.0, 1, [])
    assert sum(found["stored_by_hour"].values()) == 3


def test_watching_shows_it_until_it_is_interrupted(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [None, None]

    def sleep(_seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    monkeypatch.setattr(verb.time, "sleep", sleep)
    assert run(monkeypatch, "--lake", lake, "--watch") == 0
    assert capsys.readouterr().out.count("without volumes") == 3
