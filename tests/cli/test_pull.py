"""`dicomlake pull`: what a lake gets from real peers, also when the process is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dicomlake
from dicomlake.cli import pull
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.requesting.outgoing import Original
from dicomlake.network.requesting.send import send
from tests.cli.test_send import Result
from tests.network.requesting.programs import dcmqrscp, free_port
from tests.network.requesting.test_pull import datasets, objects, uid_of
from tests.network.requesting.web_peer import serving
from tests.support import PROJECT

_CALL = """
import typer
from dicomlake.cli import pull
app = typer.Typer()
app.command("pull")(pull.command)
app()
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("DICOMLAKE_LAKE", raising=False)

    def call(*arguments: object) -> Result:
        import typer

        app = typer.Typer(add_completion=False)
        app.command("pull")(pull.command)
        monkeypatch.setattr(sys, "argv", ["dicomlake", *map(str, arguments)])
        capsys.readouterr()
        try:
            app()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Result(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    destination = free_port()
    with dcmqrscp(tmp_path_factory.mktemp("qr"), destination) as found:
        waits = Waits(connect_s=5, answer_s=10)
        assert send([Original.of(data) for data in objects()], found.address, waits=waits).ok
        found.destination = destination
        yield found


def held(lake: Path) -> dict[str, bytes]:
    """What the lake holds: SOPInstanceUID -> data set, by the catalog and the files."""
    from pynetdicom.dsutils import split_dataset

    with dicomlake.open(lake) as opened:
        found = {}
        for row in opened.series().itertuples():
            for series in opened.find(row.SeriesInstanceUID):
                for one in series.instances:
                    path = lake / one.key
                    found[one.sop_instance_uid] = path.read_bytes()[split_dataset(path)[1] :]
        assert opened.verify().ok
        return found


@pytest.mark.parametrize("by", ["get", "move"])
def test_a_table_of_accessions_fills_the_lake(run: Any, peer: Any, tmp_path: Path, by: str) -> None:
    lake, table = tmp_path / "lake", tmp_path / "list.csv"
    table.write_text("AccessionNumber\nA1\nA4\nNONE\n")
    more = ["--by", "move", "--listen", f"127.0.0.1:{peer.destination}"] if by == "move" else []
    result = run(peer.address, "--accessions", table, "--lake", lake, "--json", *more)
    assert result.status == 1  # one row has no study
    rows = json.loads(result.out)["studies"]
    assert [(row["AccessionNumber"], row["outcome"]) for row in rows] == [
        ("A1", "pulled"),
        ("A4", "pulled"),
        ("NONE", "not_found"),
    ]
    roots = (f"{uid_of(1)}.", f"{uid_of(4)}.")
    assert held(lake) == {uid: data for uid, data in datasets().items() if uid.startswith(roots)}
    again = json.loads(
        run(peer.address, "--accessions", table, "--lake", lake, "--json", "--resume", *more).out
    )
    assert (again["bytes"], again["not_found"]) == (0, 1)
    assert [row["resumed"] for row in again["studies"]] == [True, True, False]


def test_volumes_of_what_came_are_built(run: Any, peer: Any, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert run(peer.address, "--study", uid_of(1), "--lake", lake).status == 0
    with dicomlake.open(lake) as opened:
        assert [volume.built for volume in opened.volumes()] == [True, True]


def test_a_pull_that_is_killed_goes_on_and_whole_studies_are_not_sent_again(
    peer: Any, tmp_path: Path
) -> None:
    lake, journal = tmp_path / "lake", tmp_path / "lake" / "pulls"
    uids = [part for number in (1, 2, 3, 4) for part in ("--study", uid_of(number))]
    command = [
        sys.executable,
        "-c",
        _CALL,
        peer.address,
        *uids,
        "--lake",
        str(lake),
        "--json",
        "--no-volumes",
    ]
    slow = subprocess.Popen([*command, "--rate", "60studies/min"], cwd=PROJECT, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not any(path.stat().st_size for path in journal.glob("*.jsonl")):
            assert slow.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.kill(slow.pid, signal.SIGKILL)
        slow.wait()
    done = sum(len(path.read_bytes().splitlines()) for path in journal.glob("*.jsonl"))
    assert 1 <= done < 4
    ended = subprocess.run([*command, "--resume"], cwd=PROJECT, capture_output=True, text=True, check=True)
    report = json.loads(ended.stdout)
    assert sum(row["resumed"] for row in report["studies"]) == done
    assert report["instances"] <= 6 * (4 - done)
    assert held(lake) == datasets()


def test_a_web_service_fills_the_lake(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pull.TOKEN, "secret")
    with serving(objects()) as web:
        web.token = "secret"
        result = run(web.url, "--query", "PatientID=ZZPLANTED", "--lake", tmp_path / "lake", "--no-volumes")
    assert result.status == 0, result.err
    assert held(tmp_path / "lake") == datasets()


def test_a_dry_run_fetches_nothing(run: Any, peer: Any, tmp_path: Path) -> None:
    result = run(peer.address, "--study", uid_of(1), "--lake", tmp_path / "lake", "--dry-run")
    assert result.status == 0
    assert "planned" in result.out
    assert held(tmp_path / "lake") == {}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere", "--study", "1.2"], "AE title"),
        (["X@h:104"], "say what to fetch"),
        (["X@h:104", "--study", "1.2", "--query", "PatientID=1"], "say what to fetch"),
        (["X@h:104", "--study", "1.2", "--by", "mail"], "no way to fetch"),
        (["X@h:104", "--study", "1.2", "--window", "night"], "window"),
        (["X@h:104", "--study", "1.2", "--rate", "fast"], "rate"),
        (["X@h:104", "--query", "Patient=1"], "Patient"),
        (["https://h/dicom-web", "--study", "1.2", "--by", "get"], "AE@HOST:PORT"),
    ],
)
def test_what_cannot_be_meant_is_exit_status_2(
    run: Any, tmp_path: Path, arguments: list[str], word: str
) -> None:
    result = run(*arguments, "--lake", tmp_path / "lake")
    assert result.status == 2
    assert word in " ".join(result.err.replace("│", " ").split())
