"""The schema has a version; an older catalog is brought up to date, a newer one is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text

from dicomlake.catalog import schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError, SchemaTooNew


def add_a_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE study ADD COLUMN colour VARCHAR"))


def break_off(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE half (a INTEGER)"))
    raise RuntimeError("the power failed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalog of today."""
    Catalog.open(tmp_path / "catalog.sqlite").close()
    return tmp_path / "catalog.sqlite"


def version(catalog: Catalog) -> int:
    with catalog.read() as view:
        return schema.version(view)


def test_a_new_catalog_records_its_version(path: Path) -> None:
    catalog = Catalog.open(path)
    assert version(catalog) == len(schema.MIGRATIONS) == 1
    catalog.close()


def test_a_catalog_one_version_behind_is_brought_up_to_date(path: Path) -> None:
    catalog = Catalog.open(path)
    migrations = (*schema.MIGRATIONS, add_a_column)
    with catalog.database.write() as connection:
        assert schema.migrate(connection, migrations) == 1
    with catalog.read() as view:
        assert schema.version(view) == 2
        assert "colour" in {column["name"] for column in inspect(view).get_columns("study")}
    with catalog.database.write() as connection:
        assert schema.migrate(connection, migrations) == 0
    catalog.close()


def test_opening_migrates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_a_column))
    catalog = Catalog.open(path)
    assert version(catalog) == 2
    catalog.close()


def test_a_migration_that_breaks_off_leaves_the_old_catalog(path: Path) -> None:
    catalog = Catalog.open(path)
    with pytest.raises(RuntimeError, match="power"), catalog.database.write() as connection:
        schema.migrate(connection, (*schema.MIGRATIONS, break_off))
    with catalog.read() as view:
        assert schema.version(view) == 1
        assert not inspect(view).has_table("half")
    catalog.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_catalog_is_left_alone(path: Path, read_only: bool) -> None:
    catalog = Catalog.open(path)
    with catalog.database.write() as connection:
        connection.execute(text("UPDATE info SET value = '7' WHERE name = 'schema_version'"))
    catalog.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="schema 7, this dicomlake knows 1: upgrade"):
        Catalog.open(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_change_that_fails_leaves_no_trace(path: Path) -> None:
    catalog = Catalog.open(path)
    with pytest.raises(RuntimeError), catalog.change("test") as (connection, _v):
        break_off(connection)
    assert catalog.head() == 0
    catalog.close()


def test_a_read_only_catalog_refuses_to_change(path: Path) -> None:
    catalog = Catalog.open(path, read_only=True)
    with pytest.raises(CatalogError, match="read-only"), catalog.change("test"):
        pass
    catalog.close()


def test_a_digest_covers_every_column_but_the_two_that_may_change() -> None:
    for table in schema.DIGESTED:
        row = {column.name: "1" for column in table.columns}
        digest = schema.row_digest(row)
        for name in row:
            differs = schema.row_digest(row | {name: "2"}) != digest
            assert differs == (name not in ("id", "settled", "digest")), (table.name, name)
