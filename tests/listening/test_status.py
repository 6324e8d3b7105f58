"""The status is true, from the catalog and from what running receivers leave, in any process."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicomlake.catalog import lately, network
from dicomlake.ingest.settle import settle
from dicomlake.listening.live import FOLDER, Live, receivers
from dicomlake.listening.status import status
from dicomlake.network.seams import Sender
from tests.listening.arriving import FIRST, SECOND, Parts, key, parts
from tests.objects import dicom, series
from tests.support import PROJECT


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path / "lake") as found:
        yield found


def until(true: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def arrived(lake: Parts, uid: str, calling: str, at: str) -> None:
    with lake.catalog.database.write() as connection:
        row = network.Arrival(
            *(uid, FIRST, key(FIRST).study_uid, "", 1, "stored", calling, "L", "192.0.2.7", "a", "p", at),
        )
        network.add_arrivals(connection, [row])


def test_a_lake_tells_what_came_and_what_is_due(lake: Parts) -> None:
    lake.take(series(3))
    settle(lake.catalog, lake.storage, key(FIRST))
    lake.take([*series(2, SECOND), dicom(1, SeriesDescription="another"), b"no DICOM at all"])
    arrived(lake, f"{FIRST}.1", "CT1", "2026-01-01T00:00:00.000+00:00")  # long ago
    arrived(lake, f"{FIRST}.2", "CT1", network.now())
    arrived(lake, f"{FIRST}.3", "CT1", (last := network.now()))
    sender = Sender("CT1", "L", "192.0.2.7", "a")
    with lake.catalog.database.write() as connection:
        for transaction in ("1.2.3", "1.2.4"):
            network.add_commitment(connection, transaction, sender, [("1.2", f"{FIRST}.1")])
        network.update_commitment(connection, 1, state="reported")
    found = status(lake.catalog, lake.root)
    assert sum(found.stored_by_hour.values()) == 6
    assert list(found.stored_by_hour)[-1] == last[:13] or len(found.stored_by_hour) == 2
    assert found.last_arrivals == ({"calling": "CT1", "at": last, "instances": 2},)
    assert (found.unsettled, found.unsettled_instances) == (2, 3)
    assert (found.without_volumes, found.volume_failures) == (1, 0)
    assert (found.refused, found.conflicts, found.open_commitments) == (1, 1, 1)
    assert found.originals == sum(len(one) for one in series(3))
    assert 0 < found.disk_free <= found.disk_total
    assert found.receivers == ()
    assert json.loads(json.dumps(found.as_dict()))["unsettled"] == 2
    assert "! 1 objects were refused" in repr(found)
    assert "<table>" in found._repr_html_()


def test_an_empty_lake_has_a_status(lake: Parts) -> None:
    found = status(lake.catalog, lake.root)
    assert (found.stored_by_hour, found.unsettled, found.originals) == ({}, 0, 0)
    assert found.problems == []
    assert "none" in repr(found)


def test_only_what_came_lately_counts(lake: Parts) -> None:
    lake.take([*series(2), b"no DICOM"])
    with lake.catalog.database.write() as connection:
        connection.exec_driver_sql("UPDATE change SET at = '2026-01-01T00:00:00+00:00'")
    lake.take(series(5)[2:])
    found = status(lake.catalog, lake.root)
    assert sum(found.stored_by_hour.values()) == 3
    assert found.refused == 0
    with lake.catalog.read() as view:
        assert lately.instances_by_hour(view, "2025-12-31")["2026-01-01T00"] == 2
        assert lately.refused_since(view, "2025-12-31") == 1
        assert lately.instances_by_hour(view, "2999-01-01") == {}


def test_a_receiver_is_seen_as_long_as_it_runs(lake: Parts) -> None:
    facts: dict[str, Any] = {"ports": [11112], "ae_titles": ["DICOMLAKE"], "associations": 0}
    live = Live(lake.root, lambda: facts, every_s=0.02)
    live.start()
    try:
        (one,) = status(lake.catalog, lake.root).receivers
        assert (one["pid"], one["token"], one["associations"]) == (os.getpid(), live.token, 0)
        path = lake.root / FOLDER / f"{live.token}.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        facts["associations"], facts["queue"] = 3, {"arriving": 2}
        until(lambda: receivers(lake.root)[0]["associations"] == 3)
        shown = repr(status(lake.catalog, lake.root))
        assert "DICOMLAKE at 11112  3 associations" in shown
        assert "series: 2 arriving" in shown
        before = path.stat().st_mtime_ns
        time.sleep(0.1)
        assert path.stat().st_mtime_ns == before, "what did not change is not written"
    finally:
        live.stop()
    assert receivers(lake.root) == []
    assert not (lake.root / FOLDER).exists()


_RECEIVER = """
import sys, time
from pathlib import Path
from dicomlake.listening.live import Live
Live(Path(sys.argv[1]), lambda: {"ports": [104]}).start()
print("up", flush=True)
time.sleep(60)
"""

_ASKER = """
import json, sys
from pathlib import Path
from dicomlake.catalog.catalog import Catalog
from dicomlake.listening.status import status
root = Path(sys.argv[1])
found = status(Catalog.open(root / "catalog.sqlite"), root)
assert not {"pydicom", "zarr", "pandas", "prometheus_client", "pynetdicom"} & set(sys.modules)
print(json.dumps(found.as_dict()))
"""


def test_other_processes_see_a_receiver_and_that_it_was_killed(lake: Parts) -> None:
    def asked() -> dict[str, Any]:
        command = [sys.executable, "-c", _ASKER, str(lake.root)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    command = [sys.executable, "-c", _RECEIVER, str(lake.root)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "up\n"
        (one,) = asked()["receivers"]
        assert (one["pid"], one["ports"]) == (receiver.pid, [104])
        assert len(list((lake.root / FOLDER).iterdir())) == 2
        receiver.kill()
        assert receiver.wait(20) == -signal.SIGKILL
    assert asked()["receivers"] == []
    assert list((lake.root / FOLDER).iterdir()) == [], "what a crash left is removed"


def test_receiving_goes_on_where_nothing_can_be_written(lake: Parts) -> None:
    (lake.root / FOLDER).write_text("a file in the way")
    live = Live(lake.root, dict)
    live.start()
    live.stop()
    assert receivers(lake.root) == []


def test_a_disk_that_gets_full_is_told_once(lake: Parts) -> None:
    told: list[int] = []
    live = Live(lake.root, dict, on_low=told.append, least=1 << 62, every_s=0.01)
    live.start()
    until(lambda: told)
    time.sleep(0.1)
    live.stop()
    assert len(told) == 1
    assert told[0] > 0
