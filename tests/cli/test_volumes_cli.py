"""`dicomlake volumes`: what is printed, what is done, what the exit status says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import dicomlake
from dicomlake.cli.app import app
from tests.objects import ROOT, dicom, series

CT, MR = f"{ROOT}.1.1", f"{ROOT}.2.1"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with a CT and an MR, and no volumes yet."""
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        opened.ingest(
            series(3), [dicom(n, series=MR, Modality="MR") for n in (1, 2, 3, 5, 6, 7)], volumes=False
        )
    return tmp_path / "lake"


def run(lake: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["volumes", *map(str, words), "--lake", str(lake)])


def built(lake: Path) -> dict[str, int]:
    """Series with a built volume, and its version."""
    with dicomlake.open(lake) as opened:
        return {volume.series_uid: volume.version for volume in opened.volumes() if volume.built}


def test_build_makes_what_is_missing_and_again_makes_a_new_version(lake: Path) -> None:
    done = run(lake, "build", "--where", "Modality=CT")
    assert (done.exit_code, done.output) == (0, "1 of 1 volumes are built\n")
    assert built(lake) == {CT: 1}
    run(lake, "build", "--workers", 1)
    assert built(lake)[CT] == 1
    assert run(lake, "build").output == "0 of 0 volumes are built\n"
    assert run(lake, "build", "--again", "--where", "Modality=CT").exit_code == 0
    assert built(lake)[CT] == 2


def test_build_says_what_could_not_be_built(lake: Path) -> None:
    with dicomlake.open(lake) as opened:
        opened.ingest(dicom(4, PixelData=b"\0\0"), volumes=False)
    done = run(lake, "build", "--where", "Modality=CT")
    assert done.exit_code == 1
    assert f"  not built: volume 0 of {CT}: " in done.output
    rows = json.loads(run(lake, "build", "--where", "Modality=CT", "--json").output)
    assert [(row["series_uid"], row["state"]) for row in rows] == [(CT, "not built")]


def test_ls_lists_what_was_found(lake: Path) -> None:
    run(lake, "build")
    header, *lines = run(lake, "ls").output.splitlines()
    columns = header.split("\t")
    rows = {line.split("\t")[0]: dict(zip(columns, line.split("\t"), strict=True)) for line in lines}
    assert {name: rows[CT][name] for name in ("number", "version", "verdict", "dims", "shape")} == {
        "number": "0",
        "version": "1",
        "verdict": "regular",
        "dims": "z,y,x",
        "shape": "3 × 16 × 16",
    }
    assert rows[CT]["spacing_mm"] == "1 × 0.5 × 0.5"
    assert rows[MR]["verdict"] == "missing_slices"
    assert MR in run(lake, "ls", "--verdict", "missing_slices", "--verdict", "none").output
    assert CT not in run(lake, "ls", "--verdict", "missing_slices").output
    (row,) = json.loads(run(lake, "ls", "--where", "Modality=MR", "--json").output)
    assert row["series_uid"] == MR


def test_prune_tells_first_and_deletes_then(lake: Path) -> None:
    run(lake, "build")
    for _ in range(2):
        run(lake, "build", "--again", "--where", "Modality=CT")
    told = run(lake, "prune", "--dry-run")
    assert told.output.splitlines()[1:] == [
        f"  version 2 of volume 0 of {CT}",
        f"  version 1 of volume 0 of {CT}",
    ]
    assert told.output.startswith("Prune: would delete 2 former versions, 0.0 MB\n")
    done = json.loads(run(lake, "prune", "--keep", 1, "--json").output)
    assert [volume["version"] for volume in done["volumes"]] == [1]
    assert not done["dry_run"]
    assert done["bytes"] > 0
    assert run(lake, "prune", "--older-than", 1).output == "Prune: deleted 0 former versions, 0.0 MB\n"
    assert run(lake, "prune").output.startswith("Prune: deleted 1 former versions")
    assert built(lake)[CT] == 3


def test_prune_names_what_a_crash_left(lake: Path) -> None:
    run(lake, "build")
    store = next(lake.glob("studies/*/*/volumes/0.zarr"))
    left = store.with_name("7.zarr")
    left.mkdir()
    (left / "zarr.json").write_text("{}")
    assert run(lake, "prune").output.splitlines()[1:] == [f"  {left.relative_to(lake).as_posix()}"]
    assert not left.exists()


@pytest.mark.parametrize("verb", ["build", "ls"])
def test_a_condition_that_cannot_be_understood_is_wrong_usage(lake: Path, verb: str) -> None:
    assert run(lake, verb, "--where", "Nonsense").exit_code == 2
