"""What dicomlake is measured against: tools that are in use, and plain copies as the limit."""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.workload import files

_START_S = 30
_STOP_S = 20
_CLIENTS = 4


def absent(module: str) -> str:
    """The name of a Python package that is not installed; empty when it is."""
    return "" if find_spec(module) else module


def loaded(*modules: str) -> None:
    """Import what a case needs, so that its first run is like the others; one not installed is left."""
    for module in modules:
        if not absent(module.partition(".")[0]):
            import_module(module)


# ---- the limit


def copy_and_sync(source: Path, folder: Path) -> None:
    """`cp -r`, then fsync of each file: what it costs to have the bytes twice, durably."""
    subprocess.run(["cp", "-r", source, folder / "copy"], check=True)
    for path in files(folder / "copy"):
        sync(path)


def sync(path: Path) -> None:
    """Make a file durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def one_file_and_sync(source: Path, folder: Path) -> None:
    """Read all files and write their bytes as one durable file."""
    target = folder / "all"
    with target.open("wb") as stream:
        for path in files(source):
            stream.write(path.read_bytes())
    sync(target)


# ---- readers


def pydicom_headers(paths: Sequence[Path]) -> int:
    """pydicom's `dcmread(stop_before_pixels=True)` of each file; returns how many name their instance."""
    import pydicom

    return sum(bool(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)


def gdcm_scan(paths: Sequence[Path]) -> int:
    """GDCM's Scanner for seven elements; returns how many files it could read."""
    gdcm = import_module("gdcm")  # has no types
    scanner = gdcm.Scanner()
    for group, element in (
        *((0x0010, 0x0020), (0x0020, 0x000D), (0x0020, 0x000E), (0x0008, 0x0018)),
        *((0x0008, 0x0060), (0x0020, 0x0032), (0x0020, 0x0037)),
    ):
        scanner.AddTag(gdcm.Tag(group, element))
    scanner.Scan([str(path) for path in paths])
    return sum(bool(scanner.IsKey(str(path))) for path in paths)


# ---- Orthanc


def orthanc_program() -> Path | None:
    """Orthanc, where it is installed; Debian keeps it out of the path of users."""
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc with an empty store."""

    pid: int
    port: int
    dicom_port: int = 0

    def cpu_seconds(self) -> float:
        """CPU seconds used so far; see proc(5), fields 14 and 15."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def post(self, paths: Sequence[Path]) -> None:
        """POST files to /instances over four connections that stay open."""
        waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for path in paths:
            waiting.put(path)
        with ThreadPoolExecutor(_CLIENTS) as clients:
            for client in [clients.submit(self._post_some, waiting) for _ in range(_CLIENTS)]:
                client.result()

    def _post_some(self, waiting: queue.SimpleQueue[Path]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                try:
                    path = waiting.get_nowait()
                except queue.Empty:
                    return
                headers = {"Content-Type": "application/dicom"}
                connection.request("POST", "/instances", path.read_bytes(), headers)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise RuntimeError(f"Orthanc answered {response.status} to {path.name}")
        finally:
            connection.close()

    def instances(self) -> int:
        """How many instances it says it holds."""
        return int(self._asked("GET", "/statistics")["CountInstances"])

    def find(self, wanted: Mapping[str, Any]) -> list[str]:
        """The identifiers that /tools/find answers with."""
        found: list[str] = self._asked("POST", "/tools/find", json.dumps(wanted))
        return found

    def _asked(self, method: str, path: str, body: str | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def orthanc(
    program: Path, store: Path | None = None, *, nodelay: bool = False
) -> Callable[[Path], AbstractContextManager[Orthanc]]:
    """A context that starts Orthanc in a folder, with its default of making every file durable.

    store: where its objects are, empty ones in that folder unless given.
    nodelay: switch Nagle's algorithm off in DCMTK, which it is linked to.
    """

    @contextmanager
    def started(folder: Path) -> Iterator[Orthanc]:
        ports = free_ports(2)
        settings = {
            "StorageDirectory": str(store or folder / "db"),
            "IndexDirectory": str(store or folder / "db"),
            "HttpPort": ports[0],
            "DicomPort": ports[1],
            "RemoteAccessAllowed": False,
            "DicomAet": "BENCH",
            "DicomCheckCalledAet": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "orthanc.log").open("wb") as log:
            environment = dict(os.environ) | ({"TCP_NODELAY": "1"} if nodelay else {})
            command = [program, folder / "orthanc.json"]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            try:
                wait_for(ports[0], process)
                yield Orthanc(process.pid, *ports)
            finally:
                stop(process)

    return started


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server listens. Raises RuntimeError when it does not."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended at once with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not listen within {_START_S} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, and see to it that it does."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
