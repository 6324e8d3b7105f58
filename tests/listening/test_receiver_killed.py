"""kill -9 at any moment of receiving: what was acknowledged is there, whole, and found."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dicomlake
from tests.network.raw import Raw, dataset_of, digest, store
from tests.objects import ROOT, dicom
from tests.support import PROJECT

ROUNDS, SENDERS, OBJECTS = 30, 4, 500
COMMAND = [sys.executable, "-m", "dicomlake", "listen", "--port", "0", "--peers", "any", "--quiet", "0.2"]


class Sending:
    """Senders that push until nobody answers any more; what was acknowledged."""

    def __init__(self, port: int, rounds: int) -> None:
        self._port, self._round = port, rounds
        self.acknowledged: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._push, args=(n,)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _push(self, sender: int) -> None:
        series = f"{ROOT}.{self._round + 1}.{sender + 1}"
        try:
            with Raw(self._port) as peer:
                peer.associate()
                for number in range(1, OBJECTS // SENDERS + 1):
                    dataset = dataset_of(dicom(number, series=series))
                    if peer.send(store(f"{series}.{number}", dataset)).status() == 0:
                        self.acknowledged[f"{series}.{number}"] = digest(dataset)
        except (OSError, AssertionError, KeyError):
            return  # killed in the middle of it

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def _receiver(lake: Path, processes: int) -> tuple[subprocess.Popen[str], int]:
    command = [*COMMAND, "--lake", str(lake), "--processes", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening"), line
    return process, int(line.split(" on ")[1].split(",")[0].rsplit(":", 1)[1])


def _children(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def test_nothing_that_was_acknowledged_is_lost_by_kill_9_of_any_process(tmp_path: Path) -> None:
    """Thirty rounds: a process of the receiver, the receiver itself or one of its workers, is killed."""
    chance, lake = random.Random(2024), tmp_path / "lake"
    acknowledged: dict[str, str] = {}
    for number in range(ROUNDS):
        process, port = _receiver(lake, processes=1 + number % 2)
        sending = Sending(port, number)
        time.sleep(chance.uniform(0.05, 1.0))
        victim = chance.choice(_children(process.pid))
        os.kill(victim, signal.SIGKILL)
        if victim != process.pid:  # the others go on; then the whole of it is killed
            time.sleep(chance.uniform(0.0, 0.5))
            process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        sending.join()
        acknowledged |= sending.acknowledged
    assert len(acknowledged) > 10 * ROUNDS, "the kills came before the work"
    with dicomlake.open(lake) as opened:
        rows = opened.sql("SELECT SOPInstanceUID FROM instances").fetchall()
        assert acknowledged.keys() <= {uid for (uid,) in rows}
        for row in opened.query().keys:
            for one in opened.instances(row):
                held = digest(dataset_of(opened.original(one)))
                assert acknowledged.get(one.sop_instance_uid, held) == held
        # files that were in place when their writer was killed before the commit: nobody was told of them
        left = {finding.kind: finding.scope for finding in opened.verify().findings}
        assert left.keys() <= {"uncatalogued"}
