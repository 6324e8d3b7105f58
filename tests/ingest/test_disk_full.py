"""A full disk: told in one sentence, nothing half stored, and the same ingest completes later."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import dicomlake
from dicomlake.errors import StorageFull
from tests.objects import ROOT, dicom, series
from tests.support import PROJECT


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Sixty slices of 32 KiB in two series."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n in (1, 2):
        for i, data in enumerate(series(30, f"{ROOT}.1.{n}", size=128)):
            (folder / f"IM{n}-{i:02}").write_bytes(data)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB; mounting it needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


def enlarge(mount: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", mount], check=True)


def fill(path: Path) -> None:
    """Use up the disk that the path lies on."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def dicomlake_cli(*arguments: object, file_size: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return subprocess.run(
        [sys.executable, "-m", "dicomlake", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )


def assert_told(done: subprocess.CompletedProcess[str]) -> None:
    """One sentence that names the remedy, exit status 1, no traceback."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dicomlake: ")
    assert len(done.stderr.splitlines()) == 1
    assert "space" in done.stderr or "limit" in done.stderr


def assert_clean(lake_folder: Path) -> None:
    """Nothing but originals that the catalog could not take in any more; no half file among them."""
    with dicomlake.open(lake_folder) as lake:
        findings = lake.verify().findings
        assert {finding.kind for finding in findings} <= {"uncatalogued"}
        for finding in findings:
            assert (lake.path / finding.scope).stat().st_size > 32768
        for one in lake.query():
            assert one.facts["instances"] == len(one.instances)


def assert_completes(lake_folder: Path, source: Path) -> None:
    done = dicomlake_cli("ingest", source, "--lake", lake_folder)
    assert (done.returncode, done.stderr) == (0, "")
    with dicomlake.open(lake_folder) as lake:
        assert [row["instances"] for row in lake.rows("series")] == [30, 30]
        assert len(lake.volumes()) == 2
        assert lake.verify().ok


def test_a_full_disk_is_told_and_the_same_ingest_completes_later(small_disk: Path, source: Path) -> None:
    lake = small_disk / "lake"
    dicomlake.open(lake, create=True).close()
    done = dicomlake_cli("ingest", source, "--lake", lake, "--no-volumes")
    assert_told(done)
    assert not list(lake.glob(".staging/*/*"))
    enlarge(small_disk)
    assert_clean(lake)
    assert_completes(lake, source)


def test_a_lake_on_a_full_disk_can_be_read(small_disk: Path, source: Path) -> None:
    lake = small_disk / "lake"
    dicomlake.open(lake, create=True).close()
    assert_told(dicomlake_cli("ingest", source, "--lake", lake, "--no-volumes"))
    done = dicomlake_cli("ls", "--lake", lake)
    assert "Traceback" not in done.stderr


def test_the_same_lake_goes_on_once_there_is_space(small_disk: Path, source: Path) -> None:
    """Without reopening: what was acknowledged but not shown is shown then."""
    with dicomlake.open(small_disk / "lake", create=True) as lake:
        with pytest.raises(StorageFull, match="space"):
            lake.ingest(source)
        enlarge(small_disk)
        report = lake.ingest(source)
        assert report.stored + report.already == 60
        assert [row["instances"] for row in lake.rows("series")] == [30, 30]
        assert lake.verify().ok


def test_a_disk_that_is_full_for_the_catalog_alone_is_told(small_disk: Path) -> None:
    with dicomlake.open(small_disk / "lake", create=True) as lake:
        lake.ingest(dicom(1))
        filler = small_disk / "filler"
        fill(filler)
        with pytest.raises(StorageFull, match="space"):
            lake.ingest([dicom(number, PatientComments="x" * 9000) for number in range(2, 60)])
        filler.unlink()
        assert lake.ingest(dicom(2)).stored + lake.ingest(dicom(2)).already >= 1
        assert lake.verify().ok


def test_a_limit_on_file_sizes_is_told_and_the_same_ingest_completes_later(
    tmp_path: Path, source: Path
) -> None:
    lake = tmp_path / "lake"
    dicomlake.open(lake, create=True).close()
    (source / "large").write_bytes(dicom(1, series=f"{ROOT}.1.3", size=512))
    done = dicomlake_cli("ingest", source, "--lake", lake, "--no-volumes", file_size=400_000)
    assert_told(done)
    assert_clean(lake)
    (source / "large").unlink()
    assert_completes(lake, source)
