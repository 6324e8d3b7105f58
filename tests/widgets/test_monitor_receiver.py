"""The monitor of real receivers: in this process by its events, in another one by what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

import dicomlake
from dicomlake.catalog import network, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError, DicomlakeError
from dicomlake.ingest.settle import settle
from dicomlake.listening.building import Here, Outcome
from dicomlake.listening.events import EventLog
from dicomlake.listening.live import Live
from dicomlake.listening.monitoring import LakeSource, ReceiverSource
from dicomlake.listening.receiver import Receiver
from dicomlake.listening.settling import Settler
from dicomlake.network.seams import Sender
from dicomlake.records import Finding, SeriesKey
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from dicomlake.widgets.monitor import Monitor
from tests.listening.arriving import FIRST, SECOND, Parts, key, parts
from tests.objects import dicom, series
from tests.support import PROJECT
from tests.widgets.stage import Stage

NAME = "Planted^Name-4711"
_TAKEN = "count => document.querySelector('.dl-mon-rates').textContent.includes(`${count} objects in all`)"
_OPTIONS = ("--peers", "any", "--port", "0", "--quiet", "1")
_AN_HOUR_AGO = "UPDATE change SET at = strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', '-1 hour')"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path / "lake") as found:
        yield found


def until(truth: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def push(port: int, files: list[bytes], calling: str = "CT_ROOM_3") -> list[int]:
    """Send files on one association of pynetdicom; the statuses."""
    entity = AE(ae_title=calling)
    entity.add_requested_context(CTImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title="DICOMLAKE")
    assert association.is_established
    try:
        return [int(association.send_c_store(pydicom.dcmread(BytesIO(one))).Status) for one in files]
    finally:
        association.release()


def source_of(receiver: Receiver, lake: dicomlake.Lake) -> ReceiverSource:
    lake_source = LakeSource(lake._catalog, lake._storage, lake.path)
    return ReceiverSource(receiver.events, receiver._settler, lake_source, receiver.as_dict)


def of(lake: Parts) -> LakeSource:
    return LakeSource(lake.catalog, lake.storage, lake.root)


# ---- in this process ----------------------------------------------------------------------------------


def test_what_pynetdicom_pushes_is_seen_to_arrive_and_to_become_ready(stage: Stage, tmp_path: Path) -> None:
    with (
        dicomlake.open(tmp_path / "lake", create=True) as lake,
        lake.listen(port=0, peers="any", quiet=0.3, builders=0) as receiver,
    ):
        monitor = Monitor(source_of(receiver, lake))
        stage.draw(monitor)
        page = stage.page
        page.wait_for_selector("[data-dl-state=ready]")
        assert f"127.0.0.1:{receiver.port}" in page.inner_text(".dl-mon-who")
        files = series(5, PatientName=NAME, PatientID=NAME, StudyDescription="Chest follow-up")
        assert push(receiver.port, files) == [0] * 5
        page.wait_for_selector("tr.dl-mon-study [data-state=ready]")
        row = page.inner_text("tr.dl-mon-study")
        assert "CT_ROOM_3" in row
        assert page.inner_text("tr.dl-mon-study .dl-mon-number") == "5"
        page.wait_for_function(
            "document.querySelector('.dl-mon-rates').textContent.includes('5 objects in all')"
        )
        assert NAME not in page.content()
        page.click("text=Show names")
        page.wait_for_function("name => document.querySelector('tbody').textContent.includes(name)", arg=NAME)
        assert "Chest follow-up" in page.inner_text("tbody")
        assert NAME not in page.evaluate("JSON.stringify([...models.values()].map(model => model.state))")
        push(receiver.port, [dicom(1, series=FIRST, Rows=8, Columns=8, PixelData=bytes(128))])  # the same UID
        page.wait_for_selector(".dl-mon-failures li")
        assert "conflict" in page.inner_text(".dl-mon-failures li")
        page.click("summary")
        page.wait_for_selector(".dl-mon-log tr")
        log = page.inner_text(".dl-mon-log")
        assert "series ready" in log
        assert "association opened" in log
        monitor.close()


def test_settle_now_does_not_wait_for_quiet(stage: Stage, tmp_path: Path) -> None:
    with (
        dicomlake.open(tmp_path / "lake", create=True) as lake,
        lake.listen(port=0, peers="any", quiet=600, builders=0) as receiver,
    ):
        monitor = Monitor(source_of(receiver, lake))
        stage.draw(monitor)
        push(receiver.port, series(3))
        stage.page.wait_for_selector("tr.dl-mon-study [data-state=arriving]")
        stage.page.click("text=Settle now")
        stage.page.wait_for_selector("tr.dl-mon-study [data-state=ready]")
        assert len(lake.query()) == 1
        monitor.close()


class _Unlucky(Here):
    """Builds what it is asked for the second time."""

    tried: dict[SeriesKey, int] = {}  # noqa: RUF012

    def build(self, key: SeriesKey) -> Outcome:
        self.tried[key] = self.tried.get(key, 0) + 1
        return Outcome(0, ("no step is constant",)) if self.tried[key] == 1 else Outcome(1)


def test_a_failed_series_is_a_failure_until_it_is_tried_again(lake: Parts) -> None:
    _Unlucky.tried.clear()
    events = EventLog()
    settler = Settler(
        lake.catalog,
        lake.storage,
        _Unlucky(lake.catalog, lake.storage),
        quiet_s=0.05,
        on_event=events.add,
        build_again_s=(),
    )
    settler.start([])
    source = ReceiverSource(events, settler, of(lake), lambda: {"ae_titles": ["L"]})
    told: list[int] = []
    stop = source.subscribe(lambda: told.append(1))
    lake.receive(settler, series(3))
    until(lambda: source.snapshot()["failures"])
    now = source.snapshot()
    (row,), (one,) = now["series"], now["failures"]
    assert (row["state"], row["problem"], row["modality"]) == ("failed", "no step is constant", "CT")
    assert (one["kind"], one["retry"], one["reason"]) == ("volume_failed", True, "no step is constant")
    source.retry(SeriesKey(one["study_uid"], one["series_uid"]))
    until(lambda: source.snapshot()["series"][0]["state"] == "ready")
    assert source.snapshot()["failures"] == []
    events.flush()
    assert told
    stop()
    settler.stop()
    events.close()


def test_objects_refused_alike_are_one_failure_with_its_count(lake: Parts) -> None:
    events = EventLog()
    settler = Settler(lake.catalog, lake.storage, Here(lake.catalog, lake.storage), on_event=events.add)
    source = ReceiverSource(events, settler, of(lake), lambda: {"ae_titles": ["L"]})
    for number in range(4):
        events.tell("object_refused", calling="CT1" if number else "MR1", detail="full: no room")
    events.tell("stored", calling="CT1", study_uid=key(FIRST).study_uid, series_uid=FIRST)
    failures = source.snapshot()["failures"]
    assert [(one["calling"], one["count"], one["retry"]) for one in failures] == [
        ("MR1", 1, False),
        ("CT1", 3, False),
    ]
    assert [one["kind"] for one in source.snapshot()["log"]] == ["object_refused"] * 4 + ["stored"]
    settler.stop()
    events.close()


def test_a_receiver_that_stopped_does_not_receive(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        with lake.listen(port=0, peers="any", builders=0) as receiver:
            source = source_of(receiver, lake)
            (one,) = source.snapshot()["receivers"]
            assert one["ports"] == [receiver.port]
        assert source.snapshot()["receivers"] == []
        assert source.snapshot()["log"][-1]["kind"] == "stopped"


def test_a_disk_that_was_low_is_a_failure_no_more(lake: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    events = EventLog()
    settler = Settler(lake.catalog, lake.storage, Here(lake.catalog, lake.storage))
    source, looked = ReceiverSource(events, settler, of(lake), dict), of(lake).disk()
    events.tell("disk_low", detail="4.0 GB free")
    for low in (True, False):
        monkeypatch.setattr(LakeSource, "disk", lambda _self, low=low: {**looked, "low": low})
        assert [one["kind"] for one in source.snapshot()["failures"]] == ["disk_low"] * low
    settler.stop()
    events.close()


def test_what_failed_before_the_receiver_began_is_shown_too(lake: Parts) -> None:
    lake.take([b"no DICOM at all"])
    with lake.catalog.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE change SET at = strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', '-1 hour')"
        )
    events = EventLog()
    settler = Settler(lake.catalog, lake.storage, Here(lake.catalog, lake.storage))
    source = ReceiverSource(events, settler, of(lake), lambda: {"since": network.now()})
    (one,) = source.snapshot()["failures"]
    assert (one["kind"], one["retry"]) == ("object_refused", False)
    settler.stop()
    events.close()


# ---- from another process -----------------------------------------------------------------------------


def note(lake: Parts, uid: str, calling: str = "CT1") -> None:
    with lake.catalog.database.write() as connection:
        row = network.Arrival(
            *(uid, FIRST, key(FIRST).study_uid, "", 1, "stored", calling, "L", "192.0.2.7", "a", "p"),
            network.now(),
        )
        network.add_arrivals(connection, [row])


def test_a_lake_tells_what_came_from_the_catalog_alone(lake: Parts) -> None:
    files = series(6)
    lake.take([files[0], files[1], files[4]])
    for number in (1, 2, 5):
        note(lake, f"{FIRST}.{number}")
    with lake.catalog.database.write() as connection:
        network.add_expectation(connection, key(FIRST).study_uid, FIRST, source="told", count=6)
    source = of(lake)
    (row,) = source.snapshot()["series"]
    assert (row["state"], row["received"], row["expected"], row["missing"]) == ("arriving", 3, 6, 3)
    assert (row["calling"], row["modality"], row["missing_numbers"]) == ("CT1", "CT", [])
    assert row["since"]
    (logged,) = source.snapshot()["log"]
    assert (logged["kind"], logged["count"], logged["series_uid"]) == ("stored", 3, FIRST)
    assert source.names([key(FIRST).study_uid]) == {}, "nothing of it is visible"
    source.settle(key(FIRST).study_uid)
    (row,) = source.snapshot()["series"]
    assert (row["state"], row["missing_numbers"]) == ("ready", [[3, 4]])
    (named,) = source.names([key(FIRST).study_uid]).values()
    assert named["PatientID"] == "phantom"
    with lake.catalog.read() as view:
        assert view.exec_driver_sql("SELECT count(*) FROM volume WHERE v_to IS NULL").scalar() == 1


def test_failures_come_from_quarantine_conflicts_findings_and_commitments(lake: Parts) -> None:
    lake.take(series(3))
    settle(lake.catalog, lake.storage, key(FIRST))
    lake.take([b"no DICOM at all", dicom(1, SeriesDescription="another"), *series(2, SECOND)])
    with lake.catalog.change("findings") as (connection, v):
        writer.add_findings(connection, v, [Finding("error", "volume_failed", FIRST, "no step is constant")])
        writer.add_findings(connection, v, [Finding("error", "settle_failed", SECOND, "an original is gone")])
        writer.add_findings(connection, v, [Finding("warning", "truncated", FIRST, "of no interest here")])
    with lake.catalog.database.write() as connection:
        sender = Sender("CT1", "L", "192.0.2.7", "a")
        network.add_commitment(connection, "1.2.3", sender, [("1.2", f"{FIRST}.1")])
        network.update_commitment(connection, 1, state="failed")
    for uid in (f"{FIRST}.1", f"{SECOND}.1"):
        note(lake, uid)
    found = {one["kind"]: one for one in of(lake).snapshot()["failures"]}
    assert set(found) == {"object_refused", "conflict", "volume_failed", "settle_failed", "commitment_failed"}
    assert {kind for kind, one in found.items() if one["retry"]} == {"volume_failed", "settle_failed"}
    assert found["conflict"]["series_uid"] == FIRST
    assert "1 object came" in found["conflict"]["reason"]
    assert found["settle_failed"]["study_uid"] == key(SECOND).study_uid
    states = {row["series_uid"]: row["state"] for row in of(lake).snapshot()["series"]}
    assert states == {FIRST: "failed", SECOND: "failed"}


def test_retry_settles_and_builds_and_says_what_still_fails(lake: Parts) -> None:
    lake.take(series(3))
    source = of(lake)
    with lake.catalog.change("findings") as (connection, v):
        writer.add_findings(connection, v, [Finding("error", "settle_failed", FIRST, "an original is gone")])
    assert source.snapshot()["series"][0]["state"] == "failed"
    source.retry(key(FIRST))
    assert source.snapshot()["series"][0]["state"] == "ready"
    assert source.snapshot()["failures"] == []
    lake.take(series(3, SECOND))
    for path in (lake.root / "studies").rglob(f"{SECOND}*.dcm"):
        path.unlink()
    with pytest.raises(DicomlakeError):
        source.retry(key(SECOND))


def test_a_read_only_lake_can_be_watched_and_not_settled(tmp_path: Path) -> None:
    with parts(tmp_path / "lake") as made:
        made.take(series(3))
    root = tmp_path / "lake"
    catalog, storage = Catalog.open(root / layout.CATALOG, read_only=True), LocalStorage(root)
    source = LakeSource(catalog, storage, root)
    assert source.snapshot()["series"][0]["state"] == "arriving"
    with pytest.raises(CatalogError, match="read-only"):
        source.settle(key(FIRST).study_uid)
    catalog.close()
    storage.close()


def test_building_is_told_only_while_a_receiver_is_at_it(lake: Parts) -> None:
    lake.take(series(3))
    settle(lake.catalog, lake.storage, key(FIRST))
    note(lake, f"{FIRST}.1")
    source = of(lake)
    assert [row["state"] for row in source.snapshot()["series"]] == ["ready"]
    live = Live(lake.root, lambda: {"ae_titles": ["L"], "ports": [1], "queue": {"building": 1}}, every_s=0.02)
    live.start()
    try:
        assert [row["state"] for row in source.snapshot()["series"]] == ["building"]
        (one,) = source.snapshot()["receivers"]
        assert (one["ae_title"], one["ports"], one["token"]) == ("L", [1], live.token)
    finally:
        live.stop()


def test_a_receiver_in_another_process_is_watched_through_the_lake(stage: Stage, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    dicomlake.open(root, create=True).close()
    command = [
        sys.executable,
        "-m",
        "dicomlake",
        "listen",
        "--lake",
        str(root),
        "--peers",
        "any",
        "--port",
        "0",
    ]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen([*command, *_OPTIONS], env=environment, stdout=log, stderr=log)
    try:
        with dicomlake.open(root) as lake:
            source = LakeSource(lake._catalog, lake._storage, lake.path)
            until(lambda: source.snapshot()["receivers"])
            monitor = Monitor(source)
            stage.draw(monitor)
            stage.page.wait_for_selector("[data-dl-state=ready]")
            push(source.snapshot()["receivers"][0]["ports"][0], series(4))
            stage.page.wait_for_selector("tr.dl-mon-study [data-state=ready]")
            assert "CT_ROOM_3" in stage.page.inner_text("tr.dl-mon-study")
            stage.page.wait_for_function(_TAKEN, arg=4)
            monitor.close()
    finally:
        running.terminate()
        running.wait(60)
