"""Several processes at one lake: nothing is locked or doubled, a series is seen whole or not at all."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dicomlake
from dicomlake.ingest.report import Report
from tests.objects import ROOT, as_bytes, dataset, dicom, series
from tests.support import PROJECT

SERIES = 12
SLICES = 30
WRITER = """
import json, sys
import dicomlake
with dicomlake.open(sys.argv[1]) as lake:
    print("ready", flush=True)
    sys.stdin.readline()
    report = lake.ingest(*sys.argv[2:], volumes=False)
    print(json.dumps(report.counts()))
"""
READER = """
import json, sys
import dicomlake
from dicomlake.catalog import reader
with dicomlake.open(sys.argv[1]) as lake:
    lake.query(Rows=16)
    print("ready", flush=True)
    polls, seen, wrong = 0, set(), []
    while len(seen) < int(sys.argv[2]):
        polls += 1
        with lake._catalog.read() as view:
            for row in reader.series_rows(view):
                held = len(reader.headers_of(view, row["id"]))
                if held != row["instances"]:
                    wrong.append("header count")
                if held != int(sys.argv[3]):
                    wrong.append(f"{held} instances")
                seen.add(row["SeriesInstanceUID"])
        earlier = len(lake.query(Rows=16)) if polls % 8 == 0 else 0
        if polls % 8 == 0 and not earlier <= len(lake.query(Modality="CT")) <= int(sys.argv[2]):
            wrong.append("query")
    print(json.dumps([polls, wrong]))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends_of(processes: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """Let all begin at once; what they wrote. The last one is ended when it does not end by itself."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    try:
        return [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_two_writers_of_the_same_objects_and_a_reader_do_not_meet(tmp_path: Path) -> None:
    """Both writers bring overlapping series, each in another order, so that they race for every object."""
    for part, numbers in (("a", range(8)), ("b", range(4, SERIES))):
        for number in numbers:
            folder = tmp_path / part / str(number)
            folder.mkdir(parents=True)
            for i, data in enumerate(series(SLICES, f"{ROOT}.{number}.1")):
                (folder / f"IM{i}").write_bytes(data)
    dicomlake.open(tmp_path / "lake", create=True).close()
    forward = sorted((tmp_path / "a").iterdir())
    backward = sorted((tmp_path / "b").iterdir(), reverse=True)
    random.Random(1).shuffle(forward)
    processes = [
        start(WRITER, tmp_path / "lake", *forward),
        start(WRITER, tmp_path / "lake", *backward),
        start(READER, tmp_path / "lake", SERIES, SLICES),
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ends = ends_of(processes)
    assert [error for _out, error in ends] == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    one, other = (json.loads(out) for out, _error in ends[:2])
    assert one["stored"] + other["stored"] == SERIES * SLICES
    assert one["already"] + other["already"] == 4 * SLICES
    assert one["conflict"] == other["conflict"] == 0
    polls, wrong = json.loads(ends[2][0])
    assert wrong == []
    assert polls > 1
    with dicomlake.open(tmp_path / "lake") as lake:
        assert [row["instances"] for row in lake.rows("series")] == [SLICES] * SERIES
        assert lake.counts()["instances"] == SERIES * SLICES
        assert lake.findings() == []
        assert lake.verify().ok


def race(lake: dicomlake.Lake, one: bytes, other: bytes) -> list[Report]:
    """Two threads that take an object each, and begin at once."""
    barrier = threading.Barrier(2)

    def take(data: bytes) -> Report:
        barrier.wait()
        return lake.ingest(data, volumes=False)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(take, [one, other]))


def outcomes(reports: list[Report]) -> list[str]:
    return sorted(entry.outcome for report in reports for entry in report.entries)


def test_racing_objects_under_one_uid_are_both_kept_and_told(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for number in range(10):
            uid = f"{ROOT}.{number}.1"
            reports = race(lake, dicom(series=uid, KVP=80), dicom(series=uid, KVP=120))
            assert outcomes(reports) == ["conflict", "stored"]
        assert [f.message.rpartition(" ")[2] for f in lake.findings()] == ["KVP"] * 10
        assert lake.counts()["instances"] == 20
        assert lake.verify().ok


def test_racing_objects_under_one_uid_in_two_series_are_told(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for number in range(10):
            uids = [f"{ROOT}.{number}.{n}" for n in (1, 2)]
            objects = [dicom(series=uid, SOPInstanceUID=f"{ROOT}.{number}.9") for uid in uids]
            assert outcomes(race(lake, *objects)) == ["conflict", "stored"]
        assert len(lake.findings()) == 10
        assert len(lake.rows("series")) == 20
        assert lake.verify().ok


def test_racing_objects_with_one_data_set_are_stored_once(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for number in range(10):
            uid = f"{ROOT}.{number}.1"
            objects = [as_bytes(dataset(series=uid), version=version) for version in ("ONE", "TWO")]
            assert outcomes(race(lake, *objects)) == ["already", "stored"]
        assert lake.findings() == []
        assert lake.counts()["instances"] == 10
        assert lake.verify().ok


def test_a_series_that_grows_from_two_sides_ends_whole(tmp_path: Path) -> None:
    """Whoever settles last must have seen what the other registered."""
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for number in range(10):
            race(lake, dicom(2 * number + 1), dicom(2 * number + 2))
            (row,) = lake.rows("series")
            assert row["instances"] == 2 * number + 2
        assert lake.verify().ok


def test_headers_that_grew_stale_while_a_series_settles_are_read_again(tmp_path: Path) -> None:
    """Another writer adds an instance between reading and committing: it must not stay unseen."""
    from dicomlake.catalog.catalog import Catalog
    from dicomlake.ingest import settle as module
    from dicomlake.records import SeriesKey

    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1))
        catalog, added = lake._catalog, [dicom(2)]
        change = Catalog.change

        class Slow(Catalog):
            def __init__(self) -> None:
                self.database = catalog.database

            def change(self, kind: str):  # type: ignore[no-untyped-def]
                if added:
                    lake.ingest(added.pop())
                return change(self, kind)

        module.settle(Slow(), lake._storage, SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1"))
        assert [row["instances"] for row in lake.rows("series")] == [2]
        assert lake.verify().ok
