"""Real peers on 127.0.0.1, as subprocesses: DCMTK's storescp and dcmqrscp, Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest


def program(name: str) -> str:
    """The path of an installed program; skips the test without it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it listens until the end of the block."""
    environment = {**os.environ, "TCP_NODELAY": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            _wait(process, port, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server does not listen")


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[SimpleNamespace]:
    """DCMTK's storescp, which writes what comes exactly as it is (+B)."""
    received, port = folder / "received", free_port()
    received.mkdir(exist_ok=True)
    command = [program("storescp"), "-aet", "SCP", "-od", str(received), "+B", *options, str(port)]
    with running(command, port, folder / "storescp.log"):
        yield SimpleNamespace(address=f"SCP@127.0.0.1:{port}", folder=received, port=port)


@contextmanager
def dcmqrscp(folder: Path, destination: int = 0) -> Iterator[SimpleNamespace]:
    """DCMTK's dcmqrscp, which answers C-STORE, C-FIND, C-MOVE (to DICOMLAKE at `destination`) and C-GET."""
    store, port = folder / "qr", free_port()
    store.mkdir(exist_ok=True)
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nlake = (DICOMLAKE, 127.0.0.1, {destination or 1})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {store} RW (500, 1024mb) ANY\nAETable END\n"
    )
    command = [program("dcmqrscp"), "-c", str(config), "--log-level", "warn"]
    with running(command, port, folder / "dcmqrscp.log"):
        yield SimpleNamespace(address=f"QR@127.0.0.1:{port}", folder=store, port=port)


@contextmanager
def orthanc(folder: Path, destination: int = 0) -> Iterator[SimpleNamespace]:
    """Orthanc, which knows DICOMLAKE at `destination`."""
    port, web = free_port(), free_port()
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "Name": "ORTHANC",
                "StorageDirectory": str(folder / "db"),
                "IndexDirectory": str(folder / "db"),
                "HttpPort": web,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "DicomAlwaysAllowGet": True,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowMove": True,
                "DicomModalities": {"lake": ["DICOMLAKE", "127.0.0.1", destination or 1]},
                "Plugins": [],
            }
        )
    )
    with running([program("Orthanc"), str(config)], port, folder / "orthanc.log"):
        yield SimpleNamespace(address=f"ORTHANC@127.0.0.1:{port}", port=port, web=f"http://127.0.0.1:{web}")
