"""Servers that are started for a measurement and stopped after it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers

_USER = "postgres"
_START_S = "60"


def postgresql_is_missing() -> str:
    """What is not installed of PostgreSQL and its driver; empty when all is."""
    return peers.absent("psycopg") or ("" if _programs() else "PostgreSQL")


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps it out of the path."""
    found = [Path(one).parent for one in [shutil.which("pg_ctl")] if one]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((one for one in reversed(found) if (one / "initdb").exists()), None)


@contextmanager
def postgresql(_folder: Path) -> Iterator[str]:
    """A new PostgreSQL with its defaults; the URL of an empty database.

    PostgreSQL does not run as root, so root lends it to the user that its package makes.
    """
    programs = _programs()
    assert programs is not None
    user = _USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="dicomlake-postgresql-") as name:
        data = Path(name) / "data"
        if user:
            shutil.chown(name, user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={name}"

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(data), *arguments]
            subprocess.run(command, check=True, cwd=name, user=user, stdout=subprocess.DEVNULL)

        run("initdb", "--auth=trust", f"--username={_USER}", "--encoding=UTF8", "--no-locale")
        run("pg_ctl", "start", "-w", "-t", _START_S, "-o", options, "-l", str(Path(name) / "log"))
        try:
            yield f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-m", "fast")
