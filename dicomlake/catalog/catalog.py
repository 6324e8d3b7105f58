"""The catalog: opens a database, brings it up to date, and gives views and numbered changes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from dicomlake.catalog import schema, writer
from dicomlake.catalog.engine import Database


class Catalog:
    """One lake's catalog. Safe to use from many threads and many processes at once."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.read() as connection:
            found = schema.version(connection)
        schema.require_known(found, schema.MIGRATIONS)
        if found != len(schema.MIGRATIONS):
            self._migrate()

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Catalog:
        """The catalog in a SQLite file, made when it is missing."""
        return cls(Database(path, read_only=read_only))

    def _migrate(self) -> None:
        with self.database.write() as connection:
            schema.migrate(connection, schema.MIGRATIONS)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with self.database.read() as connection:
            yield connection

    @contextmanager
    def change(self, kind: str) -> Iterator[tuple[Connection, int]]:
        """One transaction and its change number; nothing of it is visible before it is durable."""
        with self.database.write() as connection:
            yield connection, writer.begin_change(connection, kind)

    def head(self) -> int:
        """The number of the newest change."""
        with self.database.read() as connection:
            return schema.head(connection)

    def close(self) -> None:
        """Release the connections and leave one complete file behind."""
        self.database.close()
