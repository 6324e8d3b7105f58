"""`dicomlake send`: what a peer of the real kind gets from a lake, and what the verb says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest
from pynetdicom.dsutils import split_dataset

import dicomlake
from dicomlake.cli import send
from tests.network.requesting.programs import free_port, storescp
from tests.objects import ROOT, dicom, series


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("DICOMLAKE_LAKE", raising=False)

    def call(*arguments: object) -> Result:
        import typer

        app = typer.Typer(add_completion=False)
        app.command("send")(send.command)
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
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake") / "lake"
    with dicomlake.open(folder, create=True) as opened:
        opened.ingest(*series(3), *series(2, f"{ROOT}.1.2", Modality="MR"), volumes=False)
        opened.ingest(dicom(1, series=f"{ROOT}.2.1"), volumes=False)
    return folder


def sent(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.iterdir():
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        found[uid] = path.read_bytes()[split_dataset(path)[1] :]
    return found


@pytest.mark.parametrize(
    ("arguments", "uids"),
    [
        (
            [f"{ROOT}.1"],
            [f"{ROOT}.1.1.1", f"{ROOT}.1.1.2", f"{ROOT}.1.1.3", f"{ROOT}.1.2.1", f"{ROOT}.1.2.2"],
        ),
        ([f"{ROOT}.1.2"], [f"{ROOT}.1.2.1", f"{ROOT}.1.2.2"]),
        ([f"{ROOT}.1.1.2"], [f"{ROOT}.1.1.2"]),
        ([f"{ROOT}.1.1.2", f"{ROOT}.2"], [f"{ROOT}.1.1.2", f"{ROOT}.2.1.1"]),
        (["--query", "Modality=MR"], [f"{ROOT}.1.2.1", f"{ROOT}.1.2.2"]),
    ],
)
def test_a_study_a_series_an_instance_or_a_query_is_sent_byte_for_byte(
    run: Any, lake: Path, tmp_path: Path, arguments: list[str], uids: list[str]
) -> None:
    with storescp(tmp_path) as peer:
        result = run(*arguments, peer.address, "--lake", lake, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["sent"] == len(uids)
    found = sent(peer.folder)
    assert sorted(found) == uids
    for uid, data in found.items():
        (original,) = lake.glob(f"studies/*/*/originals/{uid}.dcm")
        assert data == original.read_bytes()[split_dataset(original)[1] :]


def test_a_dry_run_lists_and_needs_no_peer(run: Any, lake: Path) -> None:
    result = run(f"{ROOT}.1.1", f"X@127.0.0.1:{free_port()}", "--lake", lake, "--dry-run")
    assert result.status == 0
    assert f"{ROOT}.1.1.3\tplanned" in result.out


def test_a_peer_that_is_not_there_is_exit_status_1(run: Any, lake: Path) -> None:
    result = run(f"{ROOT}.1.1.1", f"X@127.0.0.1:{free_port()}", "--lake", lake, "--retries", 0)
    assert result.status == 1
    assert "failed" in result.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["X@h"], "port"), (["X@h:104"], "nothing is named"), (["1.2", "h:104"], "AE title")],
)
def test_what_cannot_be_meant_is_exit_status_2(run: Any, lake: Path, arguments: list[str], word: str) -> None:
    result = run(*arguments, "--lake", lake)
    assert result.status == 2
    assert word in " ".join(result.err.replace("│", " ").split())


def test_a_uid_that_the_lake_does_not_hold_sends_nothing(lake: Path) -> None:
    from dicomlake.errors import QueryError
    from dicomlake.lake.exchanging import send as send_from

    with dicomlake.open(lake) as opened, pytest.raises(QueryError, match=r"9\.9\.9"):
        send_from(opened, [f"{ROOT}.1.1", "9.9.9"], "X@127.0.0.1:1")
