"""A catalog in a SQLite file beside the data, in WAL mode.

One writer at a time, across processes: an exclusive lock on `catalog.lock` spans BEGIN IMMEDIATE to
COMMIT and every checkpoint. No writer ever meets "database is locked", and no checkpoint overlaps a
commit, which is the race that corrupts WAL databases before SQLite 3.51.3.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from dicomlake.catalog.database import Database
from dicomlake.errors import CatalogError, DicomlakeError, StorageFull

SAFE_SQLITE = (3, 51, 3)
_CHECKPOINT_BYTES = 32 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY_S = 120  # a reader may wait this long for a schema change; writers wait for the lock instead


def sqlite_module() -> ModuleType:
    """The newest SQLite at hand: the interpreter's own if it is safe, else the bundled one."""
    if sqlite3.sqlite_version_info >= SAFE_SQLITE:
        return sqlite3
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return sqlite3
    bundled: ModuleType = dbapi2
    return bundled


def sqlite_version() -> tuple[str, bool]:
    """The version of SQLite in force, and whether it is free of the WAL-reset race."""
    module = sqlite_module()
    return str(module.sqlite_version), tuple(module.sqlite_version_info) >= SAFE_SQLITE


class SQLite(Database):
    """A catalog in one SQLite file.

    path: of the file. read_only: never writes, not even a journal; for lakes on read-only media.
    """

    path: Path

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.place = self.path = path
        self.read_only = read_only
        self._file = _identity(path)
        self.engine = _sqlite_engine(path, read_only)

    @contextmanager
    def _view(self) -> Iterator[Connection]:
        self._follow()
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        with self._lock(), self.engine.connect() as connection:
            writing = connection.execution_options(dicomlake_write=True)
            with writing.begin():
                yield writing
            self._checkpoint(connection)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._flock(".lock", fcntl.LOCK_EX):
            self._follow()
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._flock(".writers", fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[bool]:
        with self._flock(".writers", fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)) as held:
            yield held

    @contextmanager
    def _flock(self, suffix: str, how: int) -> Iterator[bool]:
        """Hold a lock file beside the catalog; False when it is taken and `how` says not to wait."""
        self._require_writable()
        lock = _opened(self.path.with_suffix(suffix))
        try:
            try:
                fcntl.flock(lock, how)
                held = True
            except BlockingIOError:
                held = False
            yield held
        finally:
            os.close(lock)

    def _follow(self) -> None:
        """Let go of a file that a rebuild has replaced: what is written there would be lost."""
        found = _identity(self.path)
        if found != self._file and found is not None:
            self._file = found
            self.engine.dispose()

    def fresh(self) -> SQLite:
        path = self.path.with_name(f".{self.path.name}.rebuilt")
        for suffix in ("", "-wal", "-shm"):  # of a rebuild that broke off
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return SQLite(path)

    def replace_with(self, fresh: SQLite) -> None:
        target = self.path
        with self._lock():
            with self.engine.connect() as connection:
                raw: Any = connection.connection.dbapi_connection
                busy = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                raise CatalogError("the old catalog is being read: close its other users and rebuild again")
            self.engine.dispose()
            for suffix in ("-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            os.replace(fresh.path, target)
            _sync_folder(target.parent)
        for suffix in (".lock", ".writers"):
            fresh.path.with_suffix(suffix).unlink(missing_ok=True)

    @contextmanager
    def building(self, series: str, *, wait: bool = True) -> Iterator[bool]:
        """As the base says; the lock file, named by a hash, is gone afterwards."""
        self._require_writable()
        name = hashlib.blake2b(series.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        path = self.path.with_suffix(f".building-{name}")
        lock = _taken(path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield lock is not None
        finally:
            if lock is not None:
                path.unlink(missing_ok=True)
                os.close(lock)

    def reconnect(self) -> None:
        self.engine.dispose()

    def _checkpoint(self, connection: Connection, *, always: bool = False) -> None:
        wal = self.path.with_name(self.path.name + "-wal")
        if always or (wal.exists() and wal.stat().st_size > _CHECKPOINT_BYTES):
            raw: Any = connection.connection.dbapi_connection
            with suppress(sqlite_module().Error):  # a full disk: the journal holds all, the next one tries
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Fold the journal into the file, so that it can travel, and drop the connections."""
        try:
            if not self.read_only:
                with self._lock(), self.engine.connect() as connection:
                    self._checkpoint(connection, always=True)
        except DBAPIError as error:
            raise self._translated(error) from error
        finally:
            self.engine.dispose()

    def _translated(self, error: DBAPIError) -> DicomlakeError:
        words = str(error.orig).splitlines()[0] if error.orig is not None else type(error).__name__
        if "full" in words:
            return StorageFull(f"the catalog failed: {words}; free space and try again")
        return CatalogError(
            f"the catalog failed: {words}; run `dicomlake verify`; `dicomlake rebuild` recreates it"
        )


def _identity(path: Path | None) -> tuple[int, int] | None:
    try:
        status = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else CatalogError
        raise kind(f"the catalog cannot be locked ({error.strerror}): make {path.name} writable") from error


def _taken(path: Path, how: int) -> int | None:
    """A descriptor that holds a lock file which its holders remove; None where it is taken by another."""
    while True:
        lock = _opened(path)
        try:
            fcntl.flock(lock, how)
            status = os.fstat(lock)
            if _identity(path) == (status.st_dev, status.st_ino):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # its last holder removed the file while it was waited for


def _sqlite_engine(path: Path, read_only: bool) -> Engine:
    wal = path.with_name(path.name + "-wal")
    if read_only and wal.exists() and wal.stat().st_size and not os.access(path.parent, os.W_OK):
        raise CatalogError(
            "the catalog has an unfinished journal: open the lake once where it can be written"
        )
    engine = create_engine(
        _sqlite_url(path, read_only),
        module=sqlite_module(),
        hide_parameters=True,  # an error's text must not carry a patient's values
        poolclass=NullPool if read_only else QueuePool,
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # transactions begin where we say, see below
        if not read_only:
            dbapi_connection.execute("PRAGMA journal_mode=WAL").fetchall()
            dbapi_connection.execute("PRAGMA synchronous=FULL")
            dbapi_connection.execute("PRAGMA wal_autocheckpoint=0")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("dicomlake_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _sqlite_url(path: Path, read_only: bool) -> URL:
    """Made of parts, as a folder's name may hold what means something in a URL."""
    if not read_only:
        return URL.create("sqlite", database=str(path))
    return URL.create(
        "sqlite", database=f"file:{quote(str(path))}", query={"uri": "true", "mode": "ro", "immutable": "1"}
    )
