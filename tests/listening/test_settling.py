"""What a receiver got becomes visible and is built: in time, whole, whatever fails beside it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

import psutil
import pydicom
import pytest

import dicomlake
from dicomlake.catalog import network, reader
from dicomlake.errors import NotArrived, StorageError
from dicomlake.listening import building
from dicomlake.listening.building import Elsewhere, Here, Outcome, Settled
from dicomlake.listening.events import Event, EventLog
from dicomlake.listening.expecting import combined, from_catalog
from dicomlake.listening.logs import LogWatcher
from dicomlake.listening.metrics import Metrics
from dicomlake.listening.settling import Settler
from dicomlake.listening.status import status
from dicomlake.listening.tracked import Expectation
from dicomlake.records import SeriesKey
from tests.listening.arriving import FIRST, SECOND, Parts, key, parts
from tests.objects import ROOT, dicom, series
from tests.support import PROJECT

QUIET_S = 0.2
LONG_S = 30.0


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path / "lake") as found:
        yield found


class Told(list[Event]):
    """Events as they came."""

    def kinds(self, series: str | None = None) -> list[str]:
        return [one.kind for one in self if series is None or one.series_uid == series]


@contextmanager
def settler(
    lake: Parts, work: building.Work | None = None, *, start: bool = True, **how: Any
) -> Iterator[Settler]:
    found = Settler(
        lake.catalog,
        lake.storage,
        work or Here(lake.catalog, lake.storage),
        **({"quiet_s": QUIET_S, "study_quiet_s": QUIET_S} | how),
    )
    if start:
        found.start()
    try:
        yield found
    finally:
        found.stop()


def until(true: Callable[[], bool], seconds: float = LONG_S) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def visible(lake: Parts, series: str) -> int:
    with lake.catalog.read() as view:
        rows = [row for row in reader.series_rows(view) if row["SeriesInstanceUID"] == series]
    assert len(rows) <= 1, "one series has one row"
    return rows[0]["instances"] if rows else 0


def volumes(lake: Parts, series: str) -> list[Any]:
    with lake.catalog.read() as view:
        return reader.volumes_of(view, key(series))


# ---- when a series settles --------------------------------------------------------------------------------


def test_a_quiet_series_settles_and_its_volume_is_built(lake: Parts) -> None:
    told = Told()
    with settler(lake, on_event=told.append) as one:
        lake.receive(one, series(5))
        assert visible(lake, FIRST) == 0
        assert one.wait(series=1, instances=5, studies=1, timeout=LONG_S) == [key(FIRST)]
        until(lambda: "study_ready" in told.kinds())
    assert visible(lake, FIRST) == 5
    (volume,) = volumes(lake, FIRST)
    assert volume.built
    assert volume.shape == (5, 16, 16)
    assert told.kinds() == ["series_settled", "series_ready", "study_ready"]
    assert [one.count for one in told] == [5, 5, 5]


def test_the_volume_holds_the_voxels_that_were_sent(lake: Parts) -> None:
    with settler(lake) as one:
        lake.receive(one, series(3))
        one.wait(series=1, timeout=LONG_S)
    with dicomlake.open(lake.root) as opened:
        values = opened.open(FIRST)["image"].values
    for number in range(3):
        sent = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom(number + 1))).pixel_array
        assert (values[number] == sent).all()


def test_a_series_that_never_is_quiet_settles_after_the_longest_wait(lake: Parts) -> None:
    with settler(lake, quiet_s=60.0, max_wait_s=0.3, volumes=False) as one:
        for number in range(1, 30):
            lake.receive(one, [dicom(number)])
            if visible(lake, FIRST):
                break
            time.sleep(0.05)
        assert visible(lake, FIRST) > 0


def test_a_series_settles_when_it_is_told_to(lake: Parts) -> None:
    with settler(lake, quiet_s=600.0, volumes=False) as one:
        lake.receive(one, [*series(2), *series(2, SECOND)])
        assert one.settle_now(series=FIRST) == 1
        one.wait(series=1, timeout=LONG_S)
        assert (visible(lake, FIRST), visible(lake, SECOND)) == (2, 0)
        assert one.settle_now(study_uid="1.2.3") == 0
        assert one.settle_now(study_uid=key(SECOND).study_uid) == 1
        one.wait(series=2, timeout=LONG_S)
        assert visible(lake, SECOND) == 2


def expect(lake: Parts, series: str = FIRST, **what: Any) -> None:
    source = "mpps" if "items" in what else "told"
    with lake.catalog.database.write() as connection:
        network.add_expectation(connection, key(series).study_uid, series, source=source, **what)


@pytest.mark.parametrize("by", ["uids", "count"])
def test_what_is_expected_settles_as_soon_as_it_is_complete(lake: Parts, by: str) -> None:
    uids = [f"{FIRST}.{number}" for number in range(1, 5)]
    expect(lake, **({"items": uids} if by == "uids" else {"count": 4}))
    with settler(lake, quiet_s=600.0, volumes=False, expected=from_catalog(lake.catalog)) as one:
        lake.receive(one, series(2))
        until(lambda: one.progress()[0]["missing"] == 2)
        (row,) = one.progress()
        assert (row["received"], row["expected"], row["state"]) == (2, 4, "arriving")
        assert visible(lake, FIRST) == 0
        lake.receive(one, series(4)[2:])
        one.wait(instances=4, timeout=LONG_S)
        assert one.progress()[0]["missing"] == 0
    assert visible(lake, FIRST) == 4


def test_what_is_told_to_be_expected_after_all_of_it_came_settles_it(lake: Parts) -> None:
    with settler(lake, quiet_s=600.0, volumes=False, expected=from_catalog(lake.catalog)) as one:
        lake.receive(one, series(3))
        expect(lake, items=[f"{FIRST}.{number}" for number in (1, 2, 3)])
        one.expectations_changed()
        one.wait(instances=3, timeout=LONG_S)


def test_instances_beyond_what_was_expected_do_not_settle_one_by_one(lake: Parts) -> None:
    told = Told()
    expect(lake, count=2)
    with settler(lake, volumes=False, expected=from_catalog(lake.catalog), on_event=told.append) as one:
        lake.receive(one, series(2))
        one.wait(instances=2, timeout=LONG_S)
        lake.receive(one, series(12)[2:])
        one.wait(instances=12, timeout=LONG_S)
    assert told.kinds().count("series_settled") <= 3


def test_two_procedure_steps_of_one_series_add_up() -> None:
    def said(source: Any, count: int, *missing: str) -> network.Expectation:
        return network.Expectation("1", "1.1", source, "", count, count - len(missing), missing, "")

    assert combined([]) is None
    both = combined([said("mpps", 3, "1.1.1"), said("mpps", 2, "1.1.5", "1.1.6"), said("told", 9)])
    assert both == Expectation(5, 0, frozenset({"1.1.1", "1.1.5", "1.1.6"}), named=True)
    assert combined([said("told", 3), said("told", 9)]) == Expectation(9, 9)


def test_gaps_are_the_numbers_between_that_nobody_has(lake: Parts) -> None:
    with settler(lake, volumes=False) as one:
        lake.receive(one, [dicom(number) for number in (1, 2, 5, 9)])
        one.wait(series=1, timeout=LONG_S)
        assert one.progress()[0]["missing_numbers"] == [[3, 4], [6, 8]]


# ---- late slices ------------------------------------------------------------------------------------------


def test_late_slices_make_a_new_version_and_no_second_series(lake: Parts) -> None:
    told = Told()
    with settler(lake, on_event=told.append) as one:
        lake.receive(one, series(6)[:4])
        one.wait(instances=4, timeout=LONG_S)
        lake.receive(one, series(6)[4:])
        assert one.progress()[0]["state"] == "arriving"
        one.wait(instances=6, timeout=LONG_S)
        assert one.wait(series=1, timeout=0) == [key(FIRST)]
    assert visible(lake, FIRST) == 6
    (volume,) = volumes(lake, FIRST)
    assert (volume.shape, volume.version) == ((6, 16, 16), 2)
    assert told.kinds(FIRST) == ["series_settled", "series_ready"] * 2


def test_slices_that_come_while_the_volume_is_built_are_not_forgotten(lake: Parts) -> None:
    begun, go_on = Flag(), Flag()

    class Slow(Here):
        def build(self, key: SeriesKey) -> Outcome:
            begun.set()
            assert go_on.wait(LONG_S)
            return super().build(key)

    with settler(lake, Slow(lake.catalog, lake.storage)) as one:
        lake.receive(one, series(5)[:3])
        assert begun.wait(LONG_S)
        lake.receive(one, series(5)[3:])
        go_on.set()
        one.wait(instances=5, timeout=LONG_S)
    (volume,) = volumes(lake, FIRST)
    assert volume.shape == (5, 16, 16)


# ---- what fails -------------------------------------------------------------------------------------------


class Failing(Here):
    """Fails a few times at one series."""

    def arm(self, series: str, *, settles: int = 0, builds: int = 0) -> Failing:
        object.__setattr__(self, "left", {"settle": settles, "build": builds})
        object.__setattr__(self, "series", series)
        return self

    left: dict[str, int]
    series: str

    def _fail(self, what: str, key: SeriesKey) -> None:
        if key.series_uid == self.series and self.left[what]:
            self.left[what] -= 1
            raise StorageError("the device is away: mount it")

    def settle(self, key: SeriesKey) -> Settled:
        self._fail("settle", key)
        return super().settle(key)

    def build(self, key: SeriesKey) -> Outcome:
        self._fail("build", key)
        return super().build(key)


def test_a_series_that_fails_stops_no_other_and_is_tried_again(lake: Parts) -> None:
    told = Told()
    work = Failing(lake.catalog, lake.storage).arm(FIRST, settles=2, builds=1)
    again = {"settle_again_s": (0.1, 0.3), "build_again_s": (0.1,)}
    with settler(lake, work, on_event=told.append, **again) as one:
        lake.receive(one, [*series(2), *series(2, SECOND)])
        assert one.wait(series=1, timeout=LONG_S) == [key(SECOND)]
        with lake.catalog.read() as view:
            assert [found.kind for found in reader.findings(view, FIRST)] == ["settle_failed"]
        one.wait(series=2, timeout=LONG_S)
    assert told.kinds(FIRST) == [
        *("settle_failed", "settle_failed", "series_settled", "volume_failed", "series_ready")
    ]
    assert told.kinds(SECOND) == ["series_settled", "series_ready"]
    with lake.catalog.read() as view:
        assert reader.findings(view, FIRST) == [], "what is mended is no finding any more"


def test_a_volume_that_cannot_be_built_is_given_up_and_told(lake: Parts) -> None:
    told = Told()
    with settler(lake, on_event=told.append, build_again_s=(0.05,)) as one:
        lake.receive(one, series(2, PixelData=b"\0" * 10))
        until(lambda: told.kinds(FIRST).count("volume_failed") == 2)
        until(lambda: "study_ready" in told.kinds())
        (row,) = one.progress()
        assert row["state"] == "failed"
        assert row["problem"]
        assert visible(lake, FIRST) == 2, "its objects are visible all the same"
        with pytest.raises(NotArrived, match=r"0 of 1 series; under way: 1 series failed; the first problem"):
            one.wait(series=1, timeout=0.1)
        assert one.settle_now(series=FIRST) == 1
        until(lambda: told.kinds(FIRST).count("volume_failed") > 2)
    assert told[-1].detail == "1 series failed" or told.kinds(FIRST)


def test_waiting_says_what_is_missing(lake: Parts) -> None:
    with settler(lake, quiet_s=600.0) as one:
        lake.receive(one, series(2))
        with pytest.raises(
            NotArrived, match="0 of 1 studies, 0 of 3 instances; under way: 1 series arriving"
        ):
            one.wait(studies=1, instances=3, timeout=0.05)


def test_nothing_is_forgotten_when_much_comes_at_once_and_much_fails(lake: Parts) -> None:
    """Instances of 60 series from 8 threads; work that is slow or fails at random, while more arrives."""
    lock, chance = Lock(), random.Random(7)
    there: Counter[SeriesKey] = Counter()
    shown: dict[SeriesKey, int] = {}
    built: dict[SeriesKey, int] = {}

    class Fake(building.Work):
        def prepare(self) -> None: ...
        def after(self) -> None: ...
        def close(self) -> None: ...

        def _luck(self) -> None:
            with lock:
                luck = chance.random()
            time.sleep(0.002 * luck)
            if luck < 0.2:
                raise StorageError("bad luck: try again")

        def settle(self, key: SeriesKey) -> Settled:
            with lock:
                shown[key] = there[key]
            self._luck()
            return Settled(shown[key])

        def build(self, key: SeriesKey) -> Outcome:
            with lock:
                built[key] = shown[key]
            self._luck()
            return Outcome(1)

    again = {"settle_again_s": (0.01,), "build_again_s": (0.01,) * 50}
    with settler(lake, Fake(), quiet_s=0.02, builders=4, **again) as one:

        def send(thread: int) -> None:
            mine = random.Random(thread)
            for number in range(400):
                of = key(f"{ROOT}.{mine.randrange(12)}.{mine.randrange(5)}")
                with lock:
                    there[of] += 1
                one.arrived(of, f"1.{thread}.{number}")
                time.sleep(0.0005 * mine.random())

        threads = [Thread(target=send, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = one.wait(instances=3200, timeout=LONG_S)
    assert set(found) == set(there)
    assert there.total() == 3200
    assert shown == built == there


# ---- the end, and the next beginning ----------------------------------------------------------------------


def test_draining_settles_and_builds_at_once(lake: Parts) -> None:
    with settler(lake, quiet_s=600.0) as one:
        lake.receive(one, [*series(3), *series(3, SECOND)])
        assert one.drain(LONG_S)
        assert one.counts() == {"arriving": 0, "settling": 0, "building": 0, "failed": 0}
    assert [volume.built for name in (FIRST, SECOND) for volume in volumes(lake, name)] == [True, True]


def test_what_a_receiver_left_undone_is_done_by_the_next(lake: Parts) -> None:
    with settler(lake, quiet_s=600.0) as one:
        lake.receive(one, series(3))  # acknowledged, and then the process ends
    lake.take(series(2, SECOND))  # not even told
    third = f"{ROOT}.2.1"
    with settler(lake, volumes=False) as one:
        lake.receive(one, series(2, third))
        one.settle_now(series=third)
        one.wait(series=1, timeout=LONG_S)
    assert volumes(lake, third) == []
    told = Told()
    with settler(lake, on_event=told.append, start=False) as one:
        one.start(backlog=[key(third)])
        until(lambda: told.kinds().count("series_ready") == 3)
        assert one.drain(LONG_S)
    assert [visible(lake, name) for name in (FIRST, SECOND, third)] == [3, 2, 2]
    assert all(volumes(lake, name)[0].built for name in (FIRST, SECOND, third))


def test_of_series_without_volumes_those_that_peers_sent_are_built(lake: Parts) -> None:
    with settler(lake, volumes=False) as one:
        lake.receive(one, [*series(2), *series(2, SECOND)])
        one.wait(series=2, timeout=LONG_S)
    with lake.catalog.database.write() as connection:
        sent = network.Arrival(
            *(f"{SECOND}.1", SECOND, key(SECOND).study_uid, "", 1, "stored"),
            *("CT1", "DICOMLAKE", "127.0.0.1", "1", "ct", network.now()),
        )
        network.add_arrivals(connection, [sent])
    with settler(lake) as one:
        assert one.drain(LONG_S)
    assert (len(volumes(lake, FIRST)), len(volumes(lake, SECOND))) == (0, 1)


def test_only_the_backlog_that_is_named_is_built(lake: Parts) -> None:
    with settler(lake, volumes=False) as one:
        lake.receive(one, [*series(2), *series(2, SECOND)])
        one.wait(series=2, timeout=LONG_S)
    with settler(lake, start=False) as one:
        one.start(backlog=[key(FIRST)])
        assert one.drain(LONG_S)
    assert (len(volumes(lake, FIRST)), len(volumes(lake, SECOND))) == (1, 0)


def test_what_other_processes_received_is_found_in_the_catalog(lake: Parts) -> None:
    with settler(lake, look_s=0.1, volumes=False) as one:
        lake.take(series(3))  # nobody tells
        assert one.wait(instances=3, timeout=LONG_S) == [key(FIRST)]
    assert visible(lake, FIRST) == 3


# ---- processes --------------------------------------------------------------------------------------------


def test_other_processes_of_low_priority_settle_and_build(lake: Parts) -> None:
    work = Elsewhere(lake.catalog, lake.storage, builders=2)
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    with settler(lake, work, builders=2) as one:
        lake.receive(one, [*series(3), *series(3, SECOND)])
        one.wait(series=2, timeout=LONG_S)
        pids = work.pids
        assert pids
        assert os.getpid() not in pids
        assert all(os.getpriority(os.PRIO_PROCESS, pid) > mine or mine > 9 for pid in pids)
    assert all(volumes(lake, name)[0].built for name in (FIRST, SECOND))
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_builder_that_is_killed_costs_one_attempt(lake: Parts) -> None:
    told = Told()
    work = Elsewhere(lake.catalog, lake.storage)
    with settler(lake, work, on_event=told.append, build_again_s=(0.05,)) as one:
        lake.receive(one, series(2))
        one.wait(series=1, timeout=LONG_S)
        settling, builder = work.pids
        os.kill(builder, signal.SIGKILL)
        lake.receive(one, series(2, SECOND))
        one.wait(series=2, timeout=LONG_S)
        assert builder not in work.pids
        assert settling in work.pids
    assert told.kinds(SECOND) == ["series_settled", "volume_failed", "series_ready"]
    assert "SIGKILL" in next(one.detail for one in told if one.kind == "volume_failed")
    with lake.catalog.read() as view:
        assert reader.findings(view, SECOND) == []


def test_a_stop_in_the_middle_of_a_build_is_no_failure_and_the_next_start_builds(lake: Parts) -> None:
    told = Told()
    work = Elsewhere(lake.catalog, lake.storage)
    with settler(lake, work, on_event=told.append, quiet_s=0.05) as one:
        lake.receive(one, series(30, size=512))
        until(lambda: one.counts()["building"] == 1)
        assert not one.stop()
    assert told.kinds() == ["series_settled"]
    with lake.catalog.read() as view:
        assert reader.findings(view) == []
    assert volumes(lake, FIRST) == []
    with settler(lake, start=False) as one:
        one.start(backlog=[key(FIRST)])
        assert one.drain(LONG_S)
    assert volumes(lake, FIRST)[0].built


def test_nothing_that_is_told_identifies_anybody(lake: Parts, caplog: pytest.LogCaptureFixture) -> None:
    """`tests.objects` names its patient Phantom^Small, with PatientID phantom."""
    told = Told()
    work = Failing(lake.catalog, lake.storage).arm(SECOND, builds=1)
    log = EventLog()
    watcher, metrics = LogWatcher(), Metrics(queue=lambda: one.counts())
    for listener in (told.append, watcher.event, metrics.event):
        log.subscribe(listener)
    with caplog.at_level("DEBUG"), settler(lake, work, on_event=log.add, build_again_s=()) as one:
        lake.receive(one, [*series(2), *series(2, SECOND), *series(2, f"{ROOT}.9.9", PixelData=b"12")])
        assert one.drain(LONG_S)
        assert log.flush()
        said = [str(event.as_dict()) for event in told] + [str(row) for row in one.progress()]
    log.close()
    said += [metrics.text().decode(), *(str(vars(record)) for record in caplog.records)]
    said += [repr(status(lake.catalog, lake.root))]
    assert len(caplog.records) >= 6
    assert [words for words in said if "hantom" in words] == []


_PARENT = """
import sys, time
from pathlib import Path
from dicomlake.listening.building import Elsewhere
from tests.listening.arriving import FIRST, Parts, key
from tests.objects import series
lake = Parts(Path(sys.argv[1]))
work = Elsewhere(lake.catalog, lake.storage)
lake.take(series(2))
work.settle(key(FIRST))
work.build(key(FIRST))
print(*work.pids, flush=True)
if sys.argv[2] == "stay":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["killed", "over"])
def test_builders_end_with_the_process_that_gives_them_work(tmp_path: Path, how: str) -> None:
    """Whether it is killed, or comes to its end without closing anything."""
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "lake"), "stay" if how == "killed" else "go"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        if how == "killed":
            assert all(psutil.pid_exists(pid) for pid in pids)
            parent.kill()
        assert parent.wait(LONG_S) == (-signal.SIGKILL if how == "killed" else 0)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


_RECEIVER = """
import sys, time
from pathlib import Path
from dicomlake.listening.building import Here
from dicomlake.listening.settling import Settler
from tests.listening.arriving import Parts
from tests.objects import series
lake = Parts(Path(sys.argv[1]))
settler = Settler(lake.catalog, lake.storage, Here(lake.catalog, lake.storage), quiet_s=600)
settler.start()
lake.receive(settler, series(5))
print("acknowledged", flush=True)
time.sleep(60)
"""


def test_what_was_acknowledged_before_a_crash_is_visible_and_built_after_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RECEIVER, str(tmp_path / "lake")]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "acknowledged\n"
        receiver.kill()
        receiver.wait(LONG_S)
    with parts(tmp_path / "lake") as lake:
        assert visible(lake, FIRST) == 0
        with settler(lake) as one:
            one.wait(instances=5, timeout=LONG_S)
        assert visible(lake, FIRST) == 5
        assert volumes(lake, FIRST)[0].built
