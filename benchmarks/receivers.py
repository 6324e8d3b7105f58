"""Receivers of C-STORE, ours and others', started on a free port and stopped after the measurement."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import child, peers

AE = "BENCH"
_START_S = 60


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver at work. count: of the objects that it holds, asked after it has stopped or before."""

    pids: tuple[int, ...]
    port: int
    count: Callable[[], int]

    def cpu_seconds(self) -> float:
        """CPU seconds of its processes and of their children so far; see proc(5)."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pids))

    def memory(self) -> int:
        """Bytes of memory that its processes hold."""
        return sum(_resident(pid) for pid in _family(self.pids))


def _family(pids: Sequence[int]) -> list[int]:
    found = list(pids)
    for pid in found:
        with suppress(OSError):
            tasks = Path(f"/proc/{pid}/task").glob("*/children")
            found += [int(one) for task in tasks for one in task.read_text().split()]
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) << 10 if found else 0


Around = Callable[[Path], AbstractContextManager[Receiver]]


def dicomlake(*options: str) -> Around:
    """`dicomlake listen` on a new lake."""

    @contextmanager
    def started(folder: Path) -> Iterator[Receiver]:
        lake = folder / "lake"
        (port,) = peers.free_ports(1)
        command = [sys.executable, "-m", "dicomlake", "listen", "--lake", str(lake), "--port", str(port)]
        command += ["--ae-title", AE, "--peers", "any", *options]
        with (folder / "listen.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=child.environment())
            try:
                peers.wait_for(port, process)
                yield Receiver((process.pid,), port, lambda: _instances(lake))
            finally:
                peers.stop(process)

    return started


def _instances(lake: Path) -> int:
    """How many the catalog lists, whose originals lie where it says."""
    from pysqlite3 import dbapi2

    with dbapi2.connect(f"file:{lake}/catalog.sqlite?mode=ro", uri=True) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM instance WHERE v_to IS NULL")]
    connection.close()
    return sum((lake / key).is_file() for key in keys)


def storescp(*options: str, nodelay: bool = True) -> Around:
    """DCMTK's storescp, a process for each association; it does not make files durable."""

    @contextmanager
    def started(folder: Path) -> Iterator[Receiver]:
        store = folder / "store"
        store.mkdir()
        (port,) = peers.free_ports(1)
        command = [
            "storescp",
            "-aet",
            AE,
            "--max-pdu",
            "131072",
            "--fork",
            *options,
            "-od",
            str(store),
            str(port),
        ]
        environment = dict(os.environ) | ({"TCP_NODELAY": "1"} if nodelay else {})
        with (folder / "storescp.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            try:
                peers.wait_for(port, process)
                yield Receiver((process.pid,), port, lambda: sum(1 for _ in store.iterdir()))
            finally:
                peers.stop(process)

    return started


def orthanc(nodelay: bool = True) -> Around:
    """Orthanc with its defaults, which make every file durable."""
    program = peers.orthanc_program()

    @contextmanager
    def started(folder: Path) -> Iterator[Receiver]:
        assert program is not None
        with peers.orthanc(program, nodelay=nodelay)(folder) as server:
            yield Receiver((server.pid,), server.dicom_port, server.instances)

    return started


def pynetdicom() -> Around:
    """The storescp application that comes with pynetdicom."""

    @contextmanager
    def started(folder: Path) -> Iterator[Receiver]:
        store = folder / "store"
        (port,) = peers.free_ports(1)
        command = [sys.executable, "-m", "pynetdicom", "storescp", "-aet", AE, "-od", str(store), str(port)]
        with (folder / "pynetdicom.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                peers.wait_for(port, process)
                yield Receiver((process.pid,), port, lambda: sum(1 for _ in store.iterdir()))
            finally:
                peers.stop(process)

    return started


def missing(*programs: str) -> str:
    """Which of these programs are not installed; empty when all are."""
    return ", ".join(one for one in programs if not shutil.which(one))


# ---- senders


def fast(port: int, folders: Sequence[Path], called: str = AE) -> tuple[float, float]:
    """Senders side by side, one a folder, files read before: seconds of the last, and the slowest answer."""
    command = [sys.executable, "-m", "benchmarks.sending", str(port), called]
    at_work = [
        subprocess.Popen([*command, str(one)], stdout=subprocess.PIPE, env=child.environment())
        for one in folders
    ]
    printed = [process.communicate(timeout=600)[0] for process in at_work]
    if any(process.returncode for process in at_work):
        raise RuntimeError("a sender failed")
    figures = [tuple(map(float, one.split())) for one in printed]
    return max(one[0] for one in figures), max(one[1] for one in figures)


def dcmsend(port: int, folder: Path, called: str = AE, *, nodelay: bool) -> float:
    """DCMTK's dcmsend; as it is installed it leaves Nagle's algorithm on. Seconds, its start included."""
    environment = dict(os.environ) | ({"TCP_NODELAY": "1"} if nodelay else {})
    command = ["dcmsend", "--scan-directories", "-aec", called, "127.0.0.1", str(port), str(folder)]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"dcmsend ended with {done.returncode}")
    return time.perf_counter() - started


def split(source: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """Folders of hard links to files, dealt out evenly."""
    for number, path in enumerate(source):
        target = folder / str(number % count)
        target.mkdir(parents=True, exist_ok=True)
        os.link(path, target / f"{number:05d}.dcm")
    return [folder / str(number) for number in range(count)]
