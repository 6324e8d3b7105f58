"""A lake that listens, as a whole: what is pushed becomes volumes, and success means that it is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import dicomlake
from dicomlake.errors import CannotListen, CatalogError, SettingsError
from dicomlake.listening.fronts import Fronts
from dicomlake.listening.receiver import Receiver
from tests.network.raw import RELEASE, Raw, dataset_of, digest, store, until
from tests.objects import ROOT, dicom, series
from tests.support import real_data_folder

WAYS: dict[str, dict[str, Any]] = {"one process": {}, "two": {"processes": 2}, "pynetdicom": {"plain": True}}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[dicomlake.Lake]:
    made = dicomlake.open(tmp_path / "lake", create=True)
    yield made
    made.close()


def listening(lake: dicomlake.Lake, **how: Any) -> Receiver:
    return lake.listen(**{"port": 0, "peers": "any", "quiet": 0.3, "builders": 0} | how)


def push(port: int, files: dict[str, bytes]) -> list[int]:
    """Send files one after the other; the statuses that answered."""
    with Raw(port) as peer:
        peer.associate()
        statuses = []
        for uid, file in files.items():
            peer.send(store(uid, dataset_of(file)))
            statuses.append(peer.status())
    return statuses


def numbered(files: list[bytes]) -> dict[str, bytes]:
    return {f"{ROOT}.1.1.{number}": file for number, file in enumerate(files, 1)}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_pushed_becomes_a_volume_with_its_values(lake: dicomlake.Lake, way: str) -> None:
    files = numbered(series(5))
    with listening(lake, **WAYS[way]) as receiver:
        assert push(receiver.port, files) == [0] * 5
        (key,) = receiver.wait(studies=1, timeout=60)
        (found,) = lake.query()
        assert found.key == key
        image = found.open().image
        assert image.shape == (5, 16, 16)
        np.testing.assert_array_equal(image[2], pydicom.dcmread(_file(lake, f"{ROOT}.1.1.3")).pixel_array)
        assert receiver.stats()["stored"] == 5
    held = {i.sop_instance_uid: dataset_of(lake.original(i)) for i in lake.instances(key)}
    assert held == {uid: dataset_of(file) for uid, file in files.items()}
    arrivals = lake.arrivals()
    assert set(arrivals["calling"]) == {"TESTER"}
    assert set(arrivals["outcome"]) == {"stored"}


def _file(lake: dicomlake.Lake, uid: str) -> Path:
    (path,) = (lake.path / "studies").rglob(f"{uid}.dcm")
    return path


def test_late_slices_build_the_volume_again_and_make_no_second_series(lake: dicomlake.Lake) -> None:
    files = numbered(series(6))
    first, late = dict(list(files.items())[:4]), dict(list(files.items())[4:])
    with listening(lake) as receiver:
        push(receiver.port, first)
        receiver.wait(instances=4, timeout=60)
        before = lake.query()[0].open().image
        push(receiver.port, late)
        receiver.wait(instances=6, timeout=60)
    assert len(lake.query()) == 1
    assert lake.query()[0].open().image.shape == (6, 16, 16)
    assert before.shape == (4, 16, 16)
    assert np.isfinite(before.to_numpy()).all(), "the former version stays open"


def test_the_same_again_is_success_and_other_bytes_are_both_kept(lake: dicomlake.Lake) -> None:
    one, other = dicom(1), dicom(1, SeriesDescription="another")
    uid = f"{ROOT}.1.1.1"
    with listening(lake) as receiver:
        assert push(receiver.port, {uid: one}) == push(receiver.port, {uid: one}) == [0]
        assert push(receiver.port, {uid: other}) == [0]
    counts = receiver.stats()
    assert (counts["stored"], counts["already"], counts["conflict"]) == (1, 1, 1)
    assert len(lake.conflicts()) == 1
    assert "SeriesDescription" in next(f.message for f in lake.findings() if f.kind == "conflict")
    kept = {digest(dataset_of(path.read_bytes())) for path in (lake.path / "studies").rglob("*.dcm")}
    assert kept == {digest(dataset_of(one)), digest(dataset_of(other))}


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_an_object_that_is_sent_again_heals_its_damaged_original(lake: dicomlake.Lake, harm: str) -> None:
    """Success lets a scanner delete its copy: it must not rest on an original that is damaged."""
    uid, file = f"{ROOT}.1.1.1", dicom(1, size=200)
    with listening(lake) as receiver:
        push(receiver.port, {uid: file})
        path = _file(lake, uid)
        whole = path.read_bytes()
        path.unlink()
        if harm != "gone":
            path.write_bytes(whole[:-200] + (bytes(200) if harm == "changed" else b""))
        assert push(receiver.port, {uid: file}) == [0]
    assert digest(dataset_of(_file(lake, uid).read_bytes())) == digest(dataset_of(file))
    assert {finding.kind for finding in lake.findings()} == {"original_replaced"}
    assert not lake.verify().findings


def test_the_same_bytes_in_another_transfer_syntax_are_another_object(lake: dicomlake.Lake) -> None:
    from tests.network.raw import CT, EXPLICIT, VERIFICATION

    uid, dataset = f"{ROOT}.1.1.1", dataset_of(dicom(1))
    private = "1.2.826.0.1.3680043.8.498.77"
    with listening(lake) as receiver, Raw(receiver.port) as peer:
        peer.associate([(1, VERIFICATION, [EXPLICIT]), (3, CT, [EXPLICIT]), (5, CT, [private])])
        assert peer.send(store(uid, dataset)).status() == 0
        assert peer.send(store(uid, dataset, context=5)).status() == 0
    assert receiver.stats()["conflict"] == 1
    first, second = lake.conflicts(), lake.instances(lake.query()[0].key)
    assert {one.transfer_syntax for one in (*first, *second)} == {EXPLICIT, private}


def test_objects_whose_sender_went_away_before_the_answer_settle_all_the_same(lake: dicomlake.Lake) -> None:
    with listening(lake, volumes=False) as receiver:
        for number in range(1, 9):
            series_uid = f"{ROOT}.9.{number}"
            peer = Raw(receiver.port)
            peer.associate()
            peer.send(store(f"{series_uid}.1", dataset_of(dicom(1, series=series_uid))))
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.socket.close()
        until(lambda: receiver.associations == 0)
        known = lake.counts()["instances"]
        until(lambda: len(lake.query()) == known, 30)


def test_a_series_that_never_stops_growing_becomes_visible_and_holds_up_no_other(
    lake: dicomlake.Lake,
) -> None:
    ends = threading.Event()
    grown = f"{ROOT}.7.1"

    def grow(port: int) -> None:
        with Raw(port) as peer:
            peer.associate()
            for number in range(1, 2000):
                if ends.is_set():
                    return
                peer.send(store(f"{grown}.{number}", dataset_of(dicom(number, series=grown))))
                assert peer.status() == 0

    with listening(lake, volumes=False) as receiver:
        growing = threading.Thread(target=grow, args=(receiver.port,))
        growing.start()
        try:
            until(lambda: receiver.stats()["stored"] > 20)
            receiver.settle_now()
            until(lambda: len(lake.query()) == 1, 20)
            push(receiver.port, numbered(series(2)))
            until(lambda: len(lake.query()) == 2, 20)
        finally:
            ends.set()
            growing.join()
    counts = {key.series_uid: len(lake.instances(key)) for key in lake.query().keys}
    assert counts[grown] == receiver.stats()["stored"] - 2


def test_a_lake_that_is_opened_beside_a_receiver_leaves_its_series_to_it(lake: dicomlake.Lake) -> None:
    with listening(lake, quiet=3600) as receiver:
        push(receiver.port, numbered(series(3)))
        until(lambda: (lake.path / "receivers").is_dir())
        with dicomlake.open(lake.path) as other:
            assert len(other.query()) == 0
            assert other.status().unsettled_instances == 3


def test_an_association_at_work_is_not_cut_off_when_the_receiver_stops(lake: dicomlake.Lake) -> None:
    files = numbered(series(60))
    receiver = listening(lake, volumes=False)
    stopping = threading.Timer(0.05, receiver.stop, args=(20.0,))
    with Raw(receiver.port) as peer:
        peer.associate()
        stopping.start()
        statuses = []
        for uid, file in files.items():
            statuses.append(peer.send(store(uid, dataset_of(file))).status())
            time.sleep(0.005)
        assert peer.send(RELEASE).pdu()[0] == 6
    stopping.join()
    assert statuses == [0] * 60
    assert lake.counts()["instances"] == 60


def test_what_is_no_uid_is_told_to_nobody(lake: dicomlake.Lake, caplog: pytest.LogCaptureFixture) -> None:
    named = dicom(1)
    at = named.index(b"\x20\x00\x0d\x00UI") + 8
    length = int.from_bytes(named[at - 2 : at], "little")
    named = named[:at] + b"Mustermann Erika".ljust(length, b"\0") + named[at + length :]
    with listening(lake) as receiver:
        push(receiver.port, {f"{ROOT}.1.1.1": named})
        receiver.events.flush()
        told = json.dumps([event.as_dict() for event in receiver.events.recent()]) + caplog.text
    assert lake.counts()["instances"] + len(lake.refused()) == 1
    assert "Mustermann" not in told


def test_what_cannot_be_read_is_answered_so_kept_and_listed(lake: dicomlake.Lake) -> None:
    broken = dataset_of(dicom(1))[:-100]
    with listening(lake) as receiver, Raw(receiver.port) as peer:
        peer.associate()
        assert peer.send(store(f"{ROOT}.1.1.1", broken)).status() == 0xC000
        assert peer.send(store("1.2.3", dataset_of(dicom(2)))).status() == 0xA900
    refused = lake.refused()
    assert len(refused) == 2
    for one in refused:
        bytes_kept = (lake.path / "quarantine" / f"{one.sha256}.bin").read_bytes()
        assert dataset_of(bytes_kept) in (broken, dataset_of(dicom(2)))
        assert one.origin == "C-STORE from TESTER"
    assert lake.counts()["instances"] == 0


def test_nobody_is_let_in_unless_listed(lake: dicomlake.Lake) -> None:
    with listening(lake, peers=None) as receiver, Raw(receiver.port) as peer:
        from tests.network.raw import DEFAULT, proposal

        kind, body = peer.send(proposal(DEFAULT)).pdu()
        assert (kind, body[1:4]) == (3, b"\x01\x01\x03"), "rejected: calling AE title not recognized"
        assert receiver.stats()["stored"] == 0


def test_everybody_from_everywhere_must_be_meant(lake: dicomlake.Lake) -> None:
    with pytest.raises(SettingsError, match="open-to-all"):
        lake.listen(port=0, host="0.0.0.0", peers="any")


def test_a_port_that_is_taken_is_told_and_nothing_stays_behind(lake: dicomlake.Lake) -> None:
    threads = set(threading.enumerate())
    with listening(lake) as receiver:
        for processes in (1, 2):
            with pytest.raises(CannotListen, match=f":{receiver.port}"):
                listening(lake, port=receiver.port, processes=processes)
    until(lambda: set(threading.enumerate()) <= threads)


def test_a_lake_that_cannot_be_written_does_not_listen(lake: dicomlake.Lake) -> None:
    lake.read_only = True
    with pytest.raises(CatalogError, match="read-only"):
        listening(lake)
    lake.read_only = False


def test_what_was_not_settled_when_it_stopped_is_there_when_the_lake_is_opened(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        receiver = listening(lake, quiet=3600)
        push(receiver.port, numbered(series(3)))
        receiver.stop(0.0)
        assert lake.counts()["series"] == 0
    with dicomlake.open(tmp_path / "lake") as lake:
        assert lake.counts()["instances"] == 3
        assert len(lake.query()) == 1


def test_stopping_settles_what_came(lake: dicomlake.Lake) -> None:
    with listening(lake, quiet=3600) as receiver:
        push(receiver.port, numbered(series(3)))
    assert lake.query()[0].open().image.shape == (3, 16, 16)


def test_a_process_that_receives_is_replaced_when_it_is_killed(lake: dicomlake.Lake) -> None:
    with listening(lake, processes=2) as receiver:
        front = receiver._front
        assert isinstance(front, Fronts)
        former = set(front.pids)
        for pid in former:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(front.pids) == 2 and not former & set(front.pids), 30)
        assert push(receiver.port, numbered(series(2))) == [0, 0]
        receiver.wait(instances=2, timeout=60)


def test_who_waits_at_the_door_is_let_in_by_the_first_process_that_is_ready(lake: dicomlake.Lake) -> None:
    """Senders that connected while the processes were starting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sent: list[int] = []

    def knock(number: int) -> None:
        series_uid = f"{ROOT}.5.{number}"
        until(lambda: _listens(port), 30)
        sent.extend(push(port, {f"{series_uid}.1": dicom(1, series=series_uid)}))

    knocking = [threading.Thread(target=knock, args=(number,)) for number in range(1, 9)]
    for thread in knocking:
        thread.start()
    with listening(lake, port=port, processes=2, volumes=False):
        for thread in knocking:
            thread.join(30)
        assert sent == [0] * 8


def test_http_tells_health_metrics_and_takes_objects(lake: dicomlake.Lake) -> None:
    with listening(lake, http_port=0) as receiver:
        push(receiver.port, numbered(series(2)))
        base = f"http://127.0.0.1:{receiver.http_port}"

        def got(path: str, body: bytes | None = None, kind: str = "") -> bytes:
            request = urllib.request.Request(base + path, body, {"Content-Type": kind} if kind else {})
            with urllib.request.urlopen(request, timeout=20) as response:
                assert response.status == 200
                return bytes(response.read())

        got("/healthz")
        metrics = got("/metrics").decode()
        assert 'dicomlake_instances_total{calling="other",outcome="stored"} 2.0' in metrics
        answer = json.loads(got("/dicomweb/studies", dicom(3), "application/dicom"))
        assert answer["00081199"]["Value"][0]["00081155"]["Value"] == [f"{ROOT}.1.1.3"]
        receiver.wait(instances=3, timeout=60)
        assert json.loads(got("/status"))["stats"]["stored"] == 3
    assert lake.counts()["instances"] == 3


def test_real_objects_arrive_as_at_the_receiver_of_their_sender_or_get_a_listed_status(
    lake: dicomlake.Lake, tmp_path: Path
) -> None:
    """dcmsend writes data sets anew, so what its own receiver keeps bit by bit is what it has sent."""
    folder = real_data_folder()
    if folder is None or not shutil.which("dcmsend") or not shutil.which("storescp"):
        pytest.skip("needs the real files (DICOMLAKE_TESTDATA), dcmsend and storescp of DCMTK")
    report = tmp_path / "report"
    with listening(lake, quiet=3600, volumes=False) as receiver:
        _dcmsend(folder, receiver.port, "--create-report-file", str(report))
    counts = receiver.stats()
    statuses = [line.split()[-1] for line in report.read_text().splitlines() if "Status Code" in line]
    assert {int(status, 16) for status in statuses if status.startswith("0x")} <= statuses_known()
    theirs = _received_by_storescp(folder, tmp_path / "theirs")
    held: dict[str, set[str]] = {}
    for path in (lake.path / "studies").rglob("originals/*.dcm"):
        held.setdefault(path.stem.partition("~")[0], set()).add(digest(_dataset(path)))
    assert sum(map(len, held.values())) == counts["stored"] + counts["conflict"] > 400
    assert [uid for uid in held.keys() & theirs.keys() if theirs[uid] not in held[uid]] == []
    assert len(held.keys() - theirs.keys()) < 10, "storescp knows few classes and syntaxes less"
    lost = theirs.keys() - held.keys()
    assert len(lost) <= sum(counts.get(word, 0) for word in ("unreadable", "mismatch")) == len(lake.refused())


def statuses_known() -> set[int]:
    from dicomlake.network import statuses

    return {one.code for one in statuses.TABLE}


def _dcmsend(folder: Path, port: int, *options: str) -> None:
    how = ["--no-halt", "--no-illegal-proposal", "--decompress-never", "--scan-directories", "--recurse"]
    command = ["dcmsend", *how, *options, "-aec", "DICOMLAKE", "127.0.0.1", str(port), str(folder)]
    environment = os.environ | {"TCP_NODELAY": "1"}
    subprocess.run(command, capture_output=True, timeout=200, check=False, env=environment)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _received_by_storescp(folder: Path, into: Path) -> dict[str, str]:
    """SOPInstanceUID -> digest of the data set that came last."""
    into.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["storescp", "+B", "-aet", "DICOMLAKE", "--accept-all", "-od", str(into), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port))
            _dcmsend(folder, port)
        finally:
            process.terminate()
    return {path.name.partition(".")[2]: digest(_dataset(path)) for path in into.iterdir()}


def _dataset(path: Path) -> bytes:
    """What follows the File Meta Information, by its group length; nothing where there is none."""
    data = path.read_bytes()
    if data[128:136] != b"DICM\2\0\0\0":
        return b""
    return data[144 + int.from_bytes(data[140:144], "little") :]
