"""The catalog: opens a database, brings it up to date, and gives views and numbered changes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from dicomlake.catalog import migrations, schema, writer
from dicomlake.catalog.database import Database
from dicomlake.catalog.engine import SQLite
from dicomlake.errors import CatalogError

_MISSING = "the catalog is missing: `dicomlake rebuild` makes it from the originals"


class Catalog:
    """One lake's catalog. Safe to use from many threads and many processes at once."""

    def __init__(self, database: Database, *, must_exist: bool = False) -> None:
        self.database = database
        try:
            self._bring_up_to_date(must_exist)
        except BaseException:
            database.engine.dispose()
            raise

    @classmethod
    def open(cls, place: Path | str, *, read_only: bool = False, must_exist: bool = False) -> Catalog:
        """The catalog in a SQLite file, or on a PostgreSQL server by URL; made when it is missing.

        must_exist: raise CatalogError instead of making it.
        """
        if isinstance(place, Path):
            if must_exist and not place.exists():
                raise CatalogError(_MISSING)
            return cls(SQLite(place, read_only=read_only))
        from dicomlake.catalog.postgresql import PostgreSQL

        return cls(PostgreSQL(place, read_only=read_only), must_exist=must_exist)

    def _bring_up_to_date(self, must_exist: bool) -> None:
        with self.database.read() as connection:
            found = migrations.version(connection)
        if not found and (must_exist or self.database.read_only):
            raise CatalogError(_MISSING)
        migrations.require_known(found, migrations.MIGRATIONS)
        if found != len(migrations.MIGRATIONS):
            with self.database.write() as connection:
                migrations.migrate(connection, migrations.MIGRATIONS)

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
        """Release the connections and leave a complete catalog behind."""
        self.database.close()


def require_unused(url: str) -> None:
    """Raise CatalogError when a PostgreSQL schema holds a catalog already, or cannot be asked."""
    from dicomlake.catalog.postgresql import PostgreSQL

    database = PostgreSQL(url, read_only=True)
    try:
        with database.read() as connection:
            used = migrations.version(connection)
    finally:
        database.close()
    if used:
        raise CatalogError(
            f"the database holds a catalog in its schema {database.schema}: "
            "end the URL with another, such as ?schema=second_lake"
        )
