"""kill -9 at any moment loses nothing that was acknowledged and leaves nothing half visible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dicomlake
from dicomlake.lake import Lake
from dicomlake.storage.local import LocalStorage
from tests.objects import ROOT, series, uids_of
from tests.support import PROJECT

ROUNDS = 50
SLICES = 12  # of each of the two series of a round

CHILDREN = """
import os, random, signal, sys, time
import dicomlake, zarr, zarrs, xarray, pysqlite3, duckdb, sqlalchemy.dialects.sqlite
import dicomlake.lake, dicomlake.ingest.pipeline, dicomlake.volumes.build, dicomlake.volumes.plan
from pathlib import Path

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])

def work(number, report):
    with dicomlake.open(folder / "lake", create=True) as lake:
        for part in sorted((folder / f"in{number}").iterdir()):
            taken = lake.ingest(part, volumes=number % 2 == 0)
            uids = [entry.sop_instance_uid for entry in taken.entries if entry.outcome == "stored"]
            os.write(report, "".join(f"{uid}\\n" for uid in uids).encode())
    os.write(report, b"done\\n")

for number in range(rounds):
    report = os.open(folder / f"acknowledged{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    child = os.fork()  # nothing runs in this process that a fork could break
    if child == 0:
        try:
            work(number, report)
        finally:
            os._exit(0)
    time.sleep(random.Random(number).uniform(0.01, 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(report)
    print(number, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sources in which the slices of two series arrive a few at a time, for each round."""
    for number in range(ROUNDS):
        slices = [series(SLICES, f"{ROOT}.{number}.{n}") for n in (1, 2)]
        for part in range(SLICES // 3):
            into = tmp_path / f"in{number}" / f"part{part}"
            into.mkdir(parents=True)
            for n, stack in enumerate(slices):
                for i in range(3 * part, 3 * part + 3):
                    (into / f"IM{n}-{i}").write_bytes(stack[i])
    return tmp_path


def assert_nothing_is_lost(lake: Lake, acknowledged: set[str], bytes_of: dict[str, bytes]) -> None:
    held = {one.sop_instance_uid: one for series in lake.query() for one in series.instances}
    assert acknowledged <= held.keys()
    for uid, one in held.items():
        assert lake.original(one) == bytes_of[uid]


def assert_whole(lake: Lake) -> None:
    """No series is half visible, no file half written, and verify finds at most originals to take in."""
    for one in lake.query():
        uids = {instance.sop_instance_uid for instance in one.instances}
        assert one.facts["instances"] == len(uids)
        assert set(dict(iter(lake.headers(one.id)))) == uids
        for volume in one.volumes:
            assert volume.shape[0] <= len(uids)
    findings = lake.verify().findings
    assert {finding.kind for finding in findings} <= {"uncatalogued"}


def known_bytes(folder: Path) -> dict[str, bytes]:
    files = (path.read_bytes() for path in folder.glob("in*/part*/*"))
    return {uids_of(data)[0]: data for data in files}


def test_nothing_acknowledged_is_lost_by_kill_9_at_any_moment(folder: Path) -> None:
    bytes_of = known_bytes(folder)
    cut_short: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", CHILDREN, str(folder), str(ROUNDS)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as children:
        assert children.stdin is not None
        assert children.stdout is not None
        acknowledged: set[str] = set()
        for line in children.stdout:
            number = int(line)
            lines = (folder / f"acknowledged{number}").read_text().splitlines()
            if "done" not in lines:
                cut_short.append(len(lines))
            acknowledged |= set(lines) - {"done"}
            if number % 5 == 4:  # a lake may also be killed again before anybody looks at it
                with dicomlake.open(folder / "lake", create=True) as lake:
                    assert_nothing_is_lost(lake, acknowledged, bytes_of)
                    assert_whole(lake)
            children.stdin.write("\n")
            children.stdin.flush()
    assert children.returncode == 0
    assert (
        sum(0 < count < 2 * SLICES for count in cut_short) >= 2
    )  # kills hit the work, on a busy machine too
    with dicomlake.open(folder / "lake") as lake:
        lake.ingest(*sorted(folder.glob("in*")))
        assert lake.verify().ok
        assert {row["instances"] for row in lake.rows("series")} == {SLICES}
        assert len(lake.rows("series")) == 2 * ROUNDS
        assert {volume.shape[0] for volume in lake.volumes()} == {SLICES}
        assert len(lake.volumes()) == 2 * ROUNDS
        assert_nothing_is_lost(lake, set(bytes_of), bytes_of)
    names = [path.name for path in (folder / "lake" / "studies").rglob("*") if path.is_file()]
    assert not [name for name in names if "tmp" in name]
    LocalStorage(folder / "lake").sweep(older_than_s=0)
    assert not list((folder / "lake").glob(".staging/*"))


def test_a_series_of_a_killed_writer_settles_when_the_lake_is_opened(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        acknowledge_without_settling(lake, series(5))
        assert lake.rows("series") == []
        assert [finding.kind for finding in lake.verify().findings] == ["series_unsettled"]
    with dicomlake.open(tmp_path / "lake") as lake:
        assert [row["instances"] for row in lake.rows("series")] == [5]
        assert lake.verify().ok


def test_opening_a_lake_does_not_show_what_a_living_writer_has_begun(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        with lake._catalog.database.shared():
            acknowledge_without_settling(lake, series(5))
            with dicomlake.open(tmp_path / "lake") as other:
                assert other.rows("series") == []
        with dicomlake.open(tmp_path / "lake") as other:
            assert [row["instances"] for row in other.rows("series")] == [5]


def acknowledge_without_settling(lake: Lake, objects: list[bytes]) -> None:
    """What an ingest does up to the moment at which it is killed."""
    from dicomlake.ingest.sources import discover
    from dicomlake.ingest.take import take

    take(lake._catalog, lake._storage, list(discover(objects)))


def test_worker_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """By themselves they would wait for work forever."""
    for number, data in enumerate(series(200)):
        (tmp_path / f"IM{number}").write_bytes(data)
    script = """
import sys, threading, multiprocessing, json
import dicomlake
def tell():
    while len(multiprocessing.active_children()) < 2:
        pass
    print(json.dumps([p.pid for p in multiprocessing.active_children()]), flush=True)
    while True:
        pass
def endless():
    import pathlib
    while True:
        yield from sorted(pathlib.Path(sys.argv[1]).glob("IM*"))
threading.Thread(target=tell, daemon=True).start()
with dicomlake.open(sys.argv[1] + "/lake", create=True) as lake:
    lake.ingest(endless(), workers=2)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        workers: list[int] = json.loads(parent.stdout.readline())
        parent.kill()
        assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline, "the workers outlive their parent"
        os.sched_yield()


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_script_without_a_guard_may_use_processes(tmp_path: Path) -> None:
    """A spawned worker would run such a script again, and every researcher writes one."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, dicomlake\n"
        "with dicomlake.open(sys.argv[1] + '/lake', create=True) as lake:\n"
        "    print(lake.ingest(sys.argv[1] + '/in', workers=2).stored)\n"
    )
    (tmp_path / "in").mkdir()
    for number, data in enumerate(series(5)):
        (tmp_path / "in" / f"IM{number}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("5\n", "", 0)
