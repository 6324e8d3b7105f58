"""A JupyterLab server of its own: nothing of the user's settings, nothing outside its folder, one port."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import PROJECT

_FOLDERS = (
    *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"),
    *("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"),
)
_QUIET = {  # pop-ups cover the notebook, news come from another host
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page
}


@dataclass(frozen=True)
class Server:
    """A running server. root: where notebooks lie; runtime: where the connection files of kernels lie."""

    url: str
    token: str
    root: Path
    runtime: Path

    def ask(self, path: str, method: str = "GET") -> Any:
        """What the REST API answers, as JSON."""
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop_sessions(self) -> None:
        """End every kernel; they take hundreds of megabytes each."""
        for session in self.ask("/api/sessions"):
            self.ask(f"/api/sessions/{session['id']}", "DELETE")


@contextmanager
def serving(folder: Path, *, program: str = "jupyterlab", seconds: float = 120) -> Iterator[Server]:
    """JupyterLab on a free port of 127.0.0.1, with settings and notebooks in an empty folder."""
    if importlib.util.find_spec(program) is None:
        pytest.skip(f"no {program}: pip install 'dicomlake[lab]'")
    server = _planned(folder)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            _command(server, program), env=_environment(folder), cwd=server.root, stdout=log, stderr=log
        )
    try:
        _wait(server, process, folder / "server.log", seconds)
        yield server
        server.stop_sessions()
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _planned(folder: Path) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = folder / "notebooks"
    root.mkdir()
    for name, settings in _QUIET.items():
        path = folder / "JUPYTERLAB_SETTINGS_DIR" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    return Server(f"http://127.0.0.1:{port}", uuid4().hex, root, folder / "JUPYTER_RUNTIME_DIR")


def _command(server: Server, program: str) -> list[str]:
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": server.url.rpartition(":")[2],
        "ServerApp.port_retries": "0",
        "ServerApp.root_dir": str(server.root),
        "ServerApp.allow_root": "True",
        "ServerApp.open_browser": "False",
        "IdentityProvider.token": server.token,
        "LabApp.expose_app_in_browser": "True",
    }
    return [sys.executable, "-m", program, *(f"--{name}={value}" for name, value in options.items())]


def _environment(folder: Path) -> dict[str, str]:
    own = {name: str(folder / name) for name in _FOLDERS}
    for path in own.values():
        Path(path).mkdir(exist_ok=True)
    return {**os.environ, **own, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def _wait(server: Server, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Until the server answers; it takes half a minute on a busy machine."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            server.ask("/api")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError("the server does not answer: " + log.read_text(errors="replace")[-2000:])
