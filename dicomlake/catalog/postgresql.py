"""A catalog in a schema of its own on a PostgreSQL server, for lakes that several machines work on.

Views are REPEATABLE READ. Changes take turns by an advisory lock that ends with the transaction, so the
order of change numbers is the order of commits, as in SQLite. The locks that outlive a transaction
(`shared`, `alone`, `building`) are advisory locks of a connection: they end with the process that held
them, on whatever machine, and need a connection that no pooler hands on between transactions.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from dicomlake.catalog.database import Database
from dicomlake.errors import CatalogError, DicomlakeError, StorageFull
from dicomlake.settings import schema_of

OLDEST = 13  # of the servers that are still mended, and that this is tested on
_WAIT_S = 10  # for readers of a catalog that a rebuild replaces
_CONNECT = {"connect_timeout": 10, "application_name": "dicomlake", "keepalives_idle": 30}
_VIEW = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# LOCK takes no snapshot: a view that had to wait for the end of a rebuild sees what that made
_GATE = "; LOCK TABLE info IN ACCESS SHARE MODE"
_CHANGE = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({key})"
_FULL = ("53100",)  # disk_full
_TOLD = ("08", "28", "3D", "53", "55", "57")  # classes of SQLSTATE that speak of the server, never of a row


class PostgreSQL(Database):
    """A catalog on a server.

    url: `postgresql+psycopg://user@host/database?schema=name`; the schema is "dicomlake" unless given. The
        password is where libpq looks for it: PGPASSWORD, ~/.pgpass, a service file.
    schema: instead of the one in the URL.
    Raises CatalogError when the driver is missing or the server cannot be reached.
    """

    path = None

    def __init__(self, url: str, *, read_only: bool = False, schema: str | None = None) -> None:
        self.place = url
        self.read_only = read_only
        self.schema = schema or schema_of(url)
        self.engine = _engine(url, self.schema)
        self._made = False  # whether there are tables

    # ---- transactions ---------------------------------------------------------------------------------

    @contextmanager
    def _view(self) -> Iterator[Connection]:
        with self._begun(_VIEW + (_GATE if self._is_made() else "")) as connection:
            yield connection

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        with self._begun(_CHANGE.format(key=self._key("change"))) as connection:
            if not self._is_made():
                connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')
            yield connection

    @contextmanager
    def _begun(self, how: str) -> Iterator[Connection]:
        with self._told(how)[0] as connection, connection.begin():
            yield connection

    def _told(self, first: str) -> tuple[Connection, Any]:
        """A connection, new where the server was restarted, and its answer to a first message."""
        psycopg = _driver()
        for again in (True, False):
            connection = self.engine.connect()
            raw = _raw(connection)
            try:
                cursor = raw.execute(first, prepare=False)  # a message of two statements cannot be prepared
                return connection, cursor.fetchone() if cursor.description else None
            except psycopg.Error as error:
                lost = raw.closed
                connection.invalidate()
                connection.close()
                if not (lost and again):
                    raise DBAPIError("", None, error, hide_parameters=True) from error
                self.engine.dispose()  # the others of the pool are as old
            except BaseException:
                connection.invalidate()
                connection.close()
                raise
        raise AssertionError("the second time returns or raises")

    def _is_made(self) -> bool:
        if not self._made:
            with self.engine.connect() as connection:
                self._made = connection.execute(text("SELECT to_regclass('info') IS NOT NULL")).scalar_one()
        return self._made

    # ---- locks ----------------------------------------------------------------------------------------

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._held("writers", "pg_advisory_lock_shared", "pg_advisory_unlock_shared"):
            yield

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[bool]:
        with self._held("writers", _lock(wait)) as held:
            yield held

    @contextmanager
    def building(self, series: str, *, wait: bool = True) -> Iterator[bool]:
        with self._held(f"building {series}", _lock(wait)) as held:
            yield held

    @contextmanager
    def _held(self, name: str, lock: str, unlock: str = "pg_advisory_unlock") -> Iterator[bool]:
        """Hold a lock on a connection of its own: one connection could take the same lock twice."""
        self._require_writable()
        key = self._key(name)
        try:
            connection, answer = self._told(f"SELECT {lock}({key})")
        except DBAPIError as error:
            raise self._translated(error) from error
        held = answer[0] is not False  # a lock that was waited for answers with nothing
        try:
            yield held
        finally:
            if held:
                self._let_go(connection, f"SELECT {unlock}({key})")
            connection.close()

    def _let_go(self, connection: Connection, unlock: str) -> None:
        try:
            _raw(connection).execute(unlock)
        except _driver().Error:  # the lock went with the connection
            connection.invalidate()

    def _key(self, name: str) -> int:
        """The number of an advisory lock; the server keeps those of one database apart from another's."""
        whole = f"{self.schema} {name}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big", signed=True)

    # ---- a new one in its place -----------------------------------------------------------------------

    def fresh(self) -> PostgreSQL:
        schema = f"{self.schema}_rebuilt"
        self._alone_with(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')  # of a rebuild that broke off
        return PostgreSQL(str(self.place), schema=schema)

    def replace_with(self, fresh: PostgreSQL) -> None:
        old = f"{self.schema}_replaced"
        statements = [f'DROP SCHEMA IF EXISTS "{old}" CASCADE']
        if self._is_made():
            statements += [
                f"SET LOCAL lock_timeout = '{_WAIT_S}s'",
                "LOCK TABLE info IN ACCESS EXCLUSIVE MODE",
                f'ALTER SCHEMA "{self.schema}" RENAME TO "{old}"',
            ]
        statements += [
            f'ALTER SCHEMA "{fresh.schema}" RENAME TO "{self.schema}"',
            f'DROP SCHEMA IF EXISTS "{old}" CASCADE',
        ]
        self._alone_with(*statements)

    def set_aside(self) -> None:
        """Keep a damaged catalog as a schema of another name."""
        stamp = time.strftime("%Y%m%dt%H%M%S")
        with self.engine.connect() as connection:
            found = connection.execute(
                text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": self.schema}
            )
            if not found.scalar_one():
                return
        self._alone_with(f'ALTER SCHEMA "{self.schema}" RENAME TO "{self.schema}_damaged_{stamp}"')
        self._made = False

    def _alone_with(self, *statements: str) -> None:
        """Run statements in one transaction while nobody changes the catalog."""
        psycopg = _driver()
        try:
            with self._begun(_CHANGE.format(key=self._key("change"))) as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                message = "the old catalog is being read: close its other users and rebuild again"
                raise CatalogError(message) from error
            raise self._translated(error) from error

    def reconnect(self) -> None:
        """Nothing: the pages are the server's, and some connections hold locks."""

    def close(self) -> None:
        self.engine.dispose()

    def _translated(self, error: DBAPIError) -> DicomlakeError:
        cause = error.orig
        state = getattr(cause, "sqlstate", None) or ""
        if state in _FULL:
            return StorageFull("the disk of the catalog's server is full: free space there and try again")
        words = type(cause).__name__
        if not state or state.startswith(_TOLD):  # the texts of others may hold values of a row
            words = str(cause).splitlines()[0] if str(cause) else words
            return CatalogError(
                f"the catalog's server failed: {words}; see that it runs, that `catalog` in lake.toml is "
                "right, and that the password is in PGPASSWORD or ~/.pgpass"
            )
        return CatalogError(
            f"the catalog failed: {words} ({state}); run `dicomlake verify`; `dicomlake rebuild` recreates it"
        )


def server(url: str) -> tuple[int, float]:
    """The major version of the server at a URL, and the milliseconds that an answer takes.

    Raises CatalogError when it cannot be reached.
    """
    database = PostgreSQL(url, read_only=True)
    try:
        with database.read() as connection:
            times = []
            for _ in range(5):
                started = time.perf_counter()
                version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
                times.append(time.perf_counter() - started)
        return version // 10_000, 1000 * min(times)
    finally:
        database.close()


def _lock(wait: bool) -> str:
    return "pg_advisory_lock" if wait else "pg_try_advisory_lock"


def _driver() -> ModuleType:
    try:
        import psycopg
    except ImportError as error:
        raise CatalogError(
            "a catalog on PostgreSQL needs psycopg 3: `pip install 'dicomlake[postgres]'`"
        ) from error
    return psycopg


def _raw(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _engine(url: str, schema: str) -> Engine:
    parts = make_url(url).set(drivername="postgresql+psycopg").difference_update_query(["schema"])
    given = {name: value for name, value in _CONNECT.items() if name not in parts.query}
    psycopg = _driver()
    engine = create_engine(
        parts,
        connect_args=given,
        hide_parameters=True,  # an error's text must not carry a patient's values
        max_overflow=-1,  # locks hold connections too
    )

    class WithoutNul(psycopg.types.string.StrDumper):  # type: ignore[misc,name-defined]
        """PostgreSQL refuses NUL in text; the catalog strips it wherever text goes in."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", ""))

    @event.listens_for(engine, "connect")
    def _configure(raw: Any, _record: Any) -> None:
        raw.autocommit = True  # transactions begin where we say, see above
        if raw.info.parameter_status("server_encoding") != "UTF8":
            raise CatalogError("the database is not in UTF-8: make one with `createdb -E UTF8 -T template0`")
        raw.execute(f'SET search_path TO "{schema}"')
        raw.adapters.register_dumper(str, WithoutNul)

    return engine
