"""A full disk under a receiver: told as such, nothing acknowledged, and all goes on once there is space."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dicomlake.catalog import reader
from dicomlake.ingest.arriving import Arrivals
from dicomlake.records import Stored
from dicomlake.storage import files
from tests.catalog.parts import Parts, parts_in
from tests.ingest.arrivals import pieces, sent
from tests.objects import dicom, series


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


def store(sink: Arrivals, data: bytes) -> Stored:
    request, body = sent(data)
    return sink.store(request, pieces(body))


def assert_held(parts: Parts, count: int) -> None:
    with parts.catalog.read() as view:
        held = list(reader.all_instances(view))
    assert len(held) == count
    for one in held:
        assert hashlib.sha256(parts.storage.get(one.key)).hexdigest() == one.sha256
    assert [path for path in parts.root.glob(".staging/*/*") if path.name != "lock"] == []


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_a_full_disk_is_told_and_reception_goes_on_once_there_is_space(
    small_disk: Path, in_memory: int
) -> None:
    parts = parts_in(small_disk / "lake")
    sink = Arrivals(parts.catalog, parts.storage, in_memory=in_memory)
    objects = series(80, size=128)
    outcomes = [store(sink, data).outcome for data in objects]
    stored = outcomes.index("full")
    assert 10 < stored < 60
    assert set(outcomes[stored:]) <= {"full", "stored"}
    assert_held(parts, outcomes.count("stored"))
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = [store(sink, data).outcome for data in objects]
    assert again == ["already" if one == "stored" else "stored" for one in outcomes]
    assert_held(parts, 80)
    parts.close()


def test_a_disk_that_is_full_for_the_catalog_alone_is_told(small_disk: Path) -> None:
    parts = parts_in(small_disk / "lake")
    sink = Arrivals(parts.catalog, parts.storage)
    assert store(sink, dicom(1)).outcome == "stored"
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 8192)  # enough for an object, and not for rows
    outcomes = [store(sink, dicom(number)).outcome for number in range(2, 9)]
    assert "full" in outcomes
    assert set(outcomes) <= {"full", "stored"}
    filler.unlink()
    assert store(sink, dicom(9)).outcome == "stored"
    assert_held(parts, 2 + outcomes.count("stored"))
    parts.close()


class FullOnce:
    """The module os as the storage sees it, with one call that finds the disk full."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number, self.calls = name, number, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._counted(real) if name == self.name else real

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls == self.number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **more)

        return call


@pytest.mark.parametrize("step", ["open", "write", "fsync", "link", "mkdir", "close"])
def test_a_disk_that_is_full_at_any_step_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from dicomlake.storage import local

    parts = parts_in(tmp_path / "lake")
    sink = Arrivals(parts.catalog, parts.storage)
    full = 0
    for number in range(1, 100):
        watched = FullOnce(step, number)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", watched)
            patch.setattr(local, "os", watched)
            data = dicom(1, series=f"1.2.{number}.4")
            first = store(sink, data)
        assert first.outcome in ("full", "stored")
        full += first.outcome == "full"
        again = store(sink, data)
        assert again.outcome == ("stored" if first.outcome == "full" else "already")
        if watched.calls < number:
            break
    assert full >= 1 or step == "close"
    assert_held(parts, number)
    parts.close()


def test_a_catalog_that_is_full_is_told(tmp_path: Path) -> None:
    """By SQLite's own limit on pages, where no small disk can be mounted."""
    parts = parts_in(tmp_path / "lake")
    sink = Arrivals(parts.catalog, parts.storage)
    store(sink, dicom(1))
    raw = parts.catalog.database.engine.raw_connection()
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    raw.close()  # back to the pool, with its limit
    outcomes = [store(sink, dicom(number)).outcome for number in range(2, 60)]
    assert outcomes[-1] == "full"
    parts.catalog.database.reconnect()
    assert [store(sink, dicom(number)).outcome for number in range(2, 60)] == [
        "already" if one == "stored" else "stored" for one in outcomes
    ]
    assert_held(parts, 59)
    parts.close()
