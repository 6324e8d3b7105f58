"""The engine: one bad series stops no other, stores are the same wherever they are built, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomlake
from dicomlake.errors import BrokenObject, StorageError, StorageFull, VolumeError
from dicomlake.lake import Lake
from dicomlake.records import Volume
from dicomlake.volumes import builder, engine, pools
from tests.objects import ROOT, dicom, series
from tests.support import PROJECT

MANY = 6


def uid(number: int) -> str:
    return f"{ROOT}.{number}.1"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """A lake with series that have no volumes yet."""
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        for number in range(MANY):
            opened.ingest(series(3 + number, uid(number)), volumes=False)
        yield opened


def built(lake: Lake) -> list[str]:
    return [volume.series_uid for volume in lake.volumes() if volume.built]


def assert_tidy(lake: Lake) -> None:
    """No lock, no store that nobody lists, nothing half written."""
    assert list(lake.path.glob("*building*")) == []
    assert list(lake.path.glob(".staging/*/*/*")) == []
    assert lake.verify().ok


# ---- failures ----------------------------------------------------------------------------------------------


def test_a_series_that_cannot_be_decoded_stops_no_other(lake: Lake) -> None:
    lake.ingest(dicom(9, series=uid(2), PixelData=b"\0\0"), volumes=False)
    volumes = lake.build_volumes()
    assert sorted(volume.series_uid for volume in volumes) == [uid(number) for number in range(MANY)]
    (failed,) = [volume for volume in volumes if not volume.built]
    assert failed.series_uid == uid(2)
    assert failed.reason
    (finding,) = lake.findings()
    assert (finding.kind, finding.scope) == ("volume_failed", uid(2))
    assert len(built(lake)) == MANY - 1
    assert_tidy(lake)


def test_a_finding_goes_when_the_volume_can_be_built(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(builder, "build", raising(VolumeError("no luck")))
        lake.build_volumes()
    assert {finding.message for finding in lake.findings()} == {"volume 0 was not built: no luck"}
    keys = [volume.series for volume in lake.volumes()]
    assert built(lake) == []
    assert [v.version for v in lake.build_volumes(keys)] == [1] * MANY
    assert lake.findings() == []


def raising(error: BaseException) -> Any:
    def fail(*_given: object, **_named: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("where", ["build", "plan"])
def test_an_error_that_nobody_foresaw_is_told_by_its_kind_alone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Its text may hold anything, the name of a patient too."""
    monkeypatch.setattr(builder if where == "build" else engine, where, raising(ValueError("Phantom^Small")))
    lake.build_volumes()
    assert len(lake.findings()) == MANY
    for finding in lake.findings():
        assert "ValueError" in finding.message
        assert "Phantom" not in finding.message


def test_a_series_that_cannot_be_planned_keeps_the_volumes_it_has(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lake.build_volumes()
    monkeypatch.setattr(engine, "plan", raising(BrokenObject("Rows is missing")))
    assert lake.build_volumes([volume.series for volume in before]) == before
    assert len(lake.findings()) == MANY
    assert_tidy(lake)


def test_damaged_headers_of_one_series_stop_no_other(lake: Lake) -> None:
    from sqlalchemy import text

    with lake._catalog.database.write() as connection:
        connection.execute(text("UPDATE series_header SET block = x'00ff' WHERE series_id = 2"))
    lake.build_volumes()
    assert len(built(lake)) == MANY - 1
    assert len(lake.findings()) == 1


def test_a_full_disk_ends_it_and_what_was_built_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builder.build

    def build(storage: Any, one: Any, instances: Any) -> Volume:
        if one.volume.series_uid == uid(3):
            raise StorageFull("no space")
        return really(storage, one, instances)

    monkeypatch.setattr(builder, "build", build)
    with pytest.raises(StorageFull, match="no space"):
        lake.build_volumes(workers=1)
    assert built(lake) == [uid(number) for number in range(3)]
    assert_tidy(lake)
    monkeypatch.undo()
    lake.build_volumes()
    assert len(built(lake)) == MANY
    assert_tidy(lake)


def test_a_full_disk_drops_the_other_volumes_of_the_series(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a series is not entered, and the stores that were made for it go."""
    lake.ingest(dicom(50, series=uid(0), FrameOfReferenceUID="1.2.3"), volumes=False)
    really = builder.build

    def build(storage: Any, one: Any, instances: Any) -> Volume:
        if one.volume.number == 1:
            raise StorageFull("no space")
        return really(storage, one, instances)

    monkeypatch.setattr(builder, "build", build)
    with pytest.raises(StorageFull):
        lake.build_volumes([one.key for one in lake.query(SeriesInstanceUID=uid(0))])
    assert lake.volumes() == []
    assert list(lake.path.glob("studies/*/*/volumes/*")) == []
    assert_tidy(lake)


def test_an_interrupt_leaves_neither_locks_nor_unlisted_stores(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._Run, "_enter", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        lake.build_volumes()
    assert lake.volumes() == []
    assert list(lake.path.glob("studies/*/*/volumes/*")) == []
    assert_tidy(lake)


def test_a_series_that_was_withdrawn_meanwhile_is_no_error(lake: Lake) -> None:
    from dicomlake.records import SeriesKey

    assert lake.build_volumes([SeriesKey("1.2", "3.4")]) == []


# ---- results -----------------------------------------------------------------------------------------------


def test_what_is_done_is_visible_while_the_rest_is_built(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    really, proceed = builder.build, threading.Event()

    def build(storage: Any, one: Any, instances: Any) -> Volume:
        if one.volume.series_uid == uid(MANY - 1):
            assert proceed.wait(60)
        return really(storage, one, instances)

    monkeypatch.setattr(builder, "build", build)
    thread = threading.Thread(target=lake.build_volumes)
    thread.start()
    while len(built(lake)) < MANY - 1:
        thread.join(0.01)
        assert thread.is_alive()
    proceed.set()
    thread.join()
    assert len(built(lake)) == MANY


def test_what_a_query_gives_can_be_built(lake: Lake) -> None:
    volumes = lake.build_volumes(lake.query(SeriesInstanceUID=[uid(1), uid(4)]), workers=1)
    assert sorted(volume.series_uid for volume in volumes) == [uid(1), uid(4)] == built(lake)


def test_large_volumes_are_built_one_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps all cores busy and needs memory for its slabs."""
    really, lock, most = builder.build, threading.Lock(), []
    now = 0

    def build(storage: Any, one: Any, instances: Any) -> Volume:
        nonlocal now
        with lock:
            now += 1
            most.append(now)
        try:
            return really(storage, one, instances)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(builder, "build", build)
    monkeypatch.setattr(engine, "_LARGE_BYTES", 1)
    lake.build_volumes(workers=4)
    assert max(most) == 1
    assert len(built(lake)) == MANY


def test_columns_for_queries_say_what_the_record_says(lake: Lake) -> None:
    from dicomlake.catalog import writer

    key = lake.query()[0].key
    info = {
        "tilt_degrees": 5,
        "gaps": [[3, 4.5, 1, 2.0]],
        "duplicates": ["1.2", "1.3"],
        "split_by": "orientation, echo",
        "partial": True,
        "units": "HU",
        "modality": "CT",
    }
    dims = ("echo", "time", "z", "y", "x")
    one = Volume(key, 0, "sheared", dims, (2, 5, 7, 16, 16), "u2", None, None, info=info)
    two = Volume(
        key, 1, "none", ("frame", "y", "x", "rgb"), (9, 16, 16, 3), "u1", None, None, reason="no place"
    )
    three = Volume(key, 2, "none", ("detector", "y", "x"), (2, 16, 16), "u2", None, None, reason="no place")
    with lake._catalog.change("test") as (connection, v):
        writer.set_volumes(connection, v, key, [one, two, three])
    assert lake.volumes() == [one, two, three]
    names = ["tilt_degrees", "gaps", "duplicates", "extra_dims", "split_by", "partial"]
    names += ["slices", "units", "Modality", "version"]
    wanted = [
        (5.0, "[[3, 4.5, 1, 2.0]]", 2, "echo,time", "orientation, echo", 1, 7, "HU", "CT", 1),
        (None, None, 0, None, None, 0, 9, None, None, 1),
        (None, None, 0, "detector", None, 0, None, None, None, 1),
    ]
    table = lake.volume_table()
    assert [tuple(row[name] for name in names) for row in lake.rows("volumes")] == wanted
    assert lake.sql(f"select {', '.join(names)} from volume order by number").fetchall() == wanted
    assert table["slices"].tolist()[:2] == [7, 9]
    assert list(table)[-2:] == ["SeriesInstanceUID", "StudyInstanceUID"]
    assert lake.verify().ok


# ---- Dask --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    environment = {"PYTHONPATH": str(PROJECT)}
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as found,
    ):
        yield found


def hashes(lake: Lake) -> list[str | None]:
    return [volume.store_sha256 for volume in lake.volumes()]


def test_a_cluster_builds_the_very_same_stores(
    lake: Lake, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.ingest(dicom(9, series=uid(2), PixelData=b"\0\0"), volumes=False)
    with monkeypatch.context() as patch:
        patch.setattr(builder, "build", None)  # not in this process
        volumes = lake.build_volumes(client=client)
    assert len(built(lake)) == len(volumes) - 1 == MANY - 1
    assert [finding.scope for finding in lake.findings()] == [uid(2)]
    assert_tidy(lake)
    before = hashes(lake)
    lake.build_volumes([volume.series for volume in lake.volumes()], workers=2, rebuild=True)
    assert hashes(lake) == before
    assert [volume.version for volume in lake.volumes() if volume.built] == [2] * (MANY - 1)


def test_the_active_client_is_used_where_it_sees_the_lake(
    lake: Lake, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "build", None)
    with client.as_current():
        assert lake.ingest(series(3, uid(20))).built != []
        lake.build_volumes()
    assert len(built(lake)) == MANY + 1


def test_a_task_does_not_wait_for_other_tasks(client: Any) -> None:
    """A worker that waits for its own cluster may wait for itself."""
    assert client.submit(found_client, pure=False).result() is None


def found_client() -> object:
    return pools.active_client()


class Blind:
    """A client whose workers lie elsewhere."""

    def run(self, _function: object, *_given: object) -> dict[str, bytes | None]:
        return {"tcp://elsewhere": None}


def test_workers_that_do_not_see_the_lake_are_refused_or_left_aside(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="1 of 1 Dask workers do not see the lake"):
        lake.build_volumes(client=Blind())  # type: ignore[arg-type]  # what matters of a client
    assert built(lake) == []
    monkeypatch.setattr(pools, "active_client", Blind)
    lake.build_volumes()
    assert len(built(lake)) == MANY


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, client: Any) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for number in range(4):
            lake.ingest(series(40, uid(number), size=256), volumes=False)
        before = set(client.run(os.getpid).values())
        thread = threading.Thread(target=lake.build_volumes, kwargs={"client": client})
        thread.start()
        while not any(client.processing().values()):
            time.sleep(0.005)
        os.kill(min(before), signal.SIGKILL)
        thread.join(90)
        assert not thread.is_alive()
        assert len(built(lake)) == 4
        assert lake.findings() == []
        assert lake.verify(deep=True).ok


def test_building_does_not_load_what_only_clusters_need(tmp_path: Path) -> None:
    script = (
        "import sys, dicomlake\n"
        "from tests.objects import dicom\n"
        "with dicomlake.open(sys.argv[1], create=True) as lake:\n"
        "    assert lake.ingest(dicom(1)).built\n"
        "assert 'distributed' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", script, tmp_path / "lake"], env=environment, check=True)
