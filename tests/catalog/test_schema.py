"""The schema has a version; an older catalog is brought up to date, a newer one is left alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

import dicomlake
from dicomlake.catalog import migrations, reader, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.engine import sqlite_module
from dicomlake.errors import CatalogError, SchemaTooNew
from dicomlake.records import SeriesKey
from tests.objects import ROOT, dicom, series

TODAY = len(migrations.MIGRATIONS)


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
        return migrations.version(view)


def test_a_new_catalog_records_its_version(path: Path) -> None:
    catalog = Catalog.open(path)
    assert version(catalog) == TODAY == 6
    catalog.close()


def test_a_catalog_one_version_behind_is_brought_up_to_date(path: Path) -> None:
    catalog = Catalog.open(path)
    steps = (*migrations.MIGRATIONS, add_a_column)
    with catalog.database.write() as connection:
        assert migrations.migrate(connection, steps) == 1
    with catalog.read() as view:
        assert migrations.version(view) == TODAY + 1
        assert "colour" in {column["name"] for column in inspect(view).get_columns("study")}
    with catalog.database.write() as connection:
        assert migrations.migrate(connection, steps) == 0
    catalog.close()


def test_opening_migrates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_a_column))
    catalog = Catalog.open(path)
    assert version(catalog) == TODAY + 1
    catalog.close()


def test_a_migration_that_breaks_off_leaves_the_old_catalog(path: Path) -> None:
    catalog = Catalog.open(path)
    with pytest.raises(RuntimeError, match="power"), catalog.database.write() as connection:
        migrations.migrate(connection, (*migrations.MIGRATIONS, break_off))
    with catalog.read() as view:
        assert migrations.version(view) == TODAY
        assert not inspect(view).has_table("half")
    catalog.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_catalog_is_left_alone(path: Path, read_only: bool) -> None:
    catalog = Catalog.open(path)
    with catalog.database.write() as connection:
        connection.execute(text("UPDATE info SET value = '99' WHERE name = 'schema_version'"))
    catalog.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=f"schema 99, this dicomlake knows {TODAY}: upgrade"):
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


# ---- schema 2: versions of volumes ------------------------------------------------------------------------

VOLUME_OF_SCHEMA_1 = """
CREATE TABLE volume (
    id INTEGER NOT NULL PRIMARY KEY,
    "SeriesInstanceUID" VARCHAR NOT NULL, "StudyInstanceUID" VARCHAR NOT NULL, number INTEGER NOT NULL,
    verdict VARCHAR NOT NULL, reason VARCHAR NOT NULL, dims VARCHAR NOT NULL, shape VARCHAR NOT NULL,
    dtype VARCHAR NOT NULL, affine_lps VARCHAR, spacing_mm VARCHAR, key VARCHAR, store_sha256 VARCHAR(64),
    info VARCHAR NOT NULL, v_from INTEGER NOT NULL, v_to INTEGER, digest VARCHAR(32) NOT NULL
)
"""
KEY = SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1")


def digest_of_schema_1(row: dict[str, Any]) -> str:
    facts = {name: value for name, value in row.items() if name not in ("id", "digest")}
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def to_schema_1(path: Path) -> None:
    """What the first schema made of a lake: the volume table without its later columns."""
    connection = sqlite_module().connect(path)
    cursor = connection.execute("SELECT * FROM volume")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    connection.execute("DROP TABLE volume")
    connection.execute(VOLUME_OF_SCHEMA_1)
    kept = [row[1] for row in connection.execute("PRAGMA table_info(volume)")]
    for row in rows:
        old = {name: row[name] for name in kept}
        old["digest"] = digest_of_schema_1(old)
        marks = ", ".join("?" * len(old))
        connection.execute(f"INSERT INTO volume VALUES ({marks})", list(old.values()))
    connection.execute("UPDATE info SET value = '1' WHERE name = 'schema_version'")
    connection.commit()
    connection.close()


def rows_in(path: Path, query: str) -> list[Any]:
    connection = sqlite_module().connect(path)
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A lake whose catalog has schema 1, with a volume row of today and a closed one."""
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(4))
        lake.ingest(dicom(5))
        lake.prune()
    path = tmp_path / "lake/catalog.sqlite"
    gaps = '{"modality":"CT","units":"HU","gaps":[[1,2.5,1]],"tilt_degrees":5,"duplicates":["1.2"],'
    gaps += '"levels":1,"slab":64,"origin_mm":[0,0,0]}'
    connection = sqlite_module().connect(path)
    connection.execute("UPDATE volume SET info = ? WHERE v_to IS NOT NULL", (gaps,))
    connection.commit()
    connection.close()
    to_schema_1(path)
    assert "version" not in {row[1] for row in rows_in(path, "PRAGMA table_info(volume)")}
    return tmp_path / "lake"


def test_a_catalog_of_schema_1_gets_versions_and_its_digests_hold(old: Path) -> None:
    with dicomlake.open(old) as lake:
        assert lake.verify().ok
        (volume,) = lake.volumes()
        assert (volume.version, volume.plan_digest) == (1, None)
        assert volume.shape == (5, 16, 16)
    found = rows_in(
        old / "catalog.sqlite",
        "SELECT v_to IS NULL, version, slices, units, Modality, tilt_degrees, gaps, duplicates, partial "
        "FROM volume ORDER BY id",
    )
    assert found == [
        (0, 1, 4, "HU", "CT", 5.0, "[[1, 2.5, 1]]", 1, 0),
        (1, 1, 5, "HU", "CT", None, None, 0, 0),
    ]


def test_a_volume_of_schema_1_is_built_again_when_its_series_changes(old: Path) -> None:
    with dicomlake.open(old) as lake:
        lake.ingest(dicom(6))
        (volume,) = lake.volumes()
        assert volume.shape == (6, 16, 16)
        assert volume.plan_digest is not None
        assert [former.plan_digest for former in lake.volume_versions(KEY)] == [None]
        assert lake.verify(deep=True).ok


def test_damage_in_a_row_of_schema_1_is_still_found_after_the_migration(old: Path) -> None:
    connection = sqlite_module().connect(old / "catalog.sqlite")
    connection.execute("UPDATE volume SET verdict = 'sheared' WHERE v_to IS NULL")
    connection.commit()
    connection.close()
    with dicomlake.open(old) as lake:
        assert "row_damaged" in {finding.kind for finding in lake.verify().findings}


def test_a_migrated_table_has_the_columns_of_a_new_one(old: Path, path: Path) -> None:
    dicomlake.open(old).close()
    described = [
        {row[1]: row[2:5] for row in rows_in(file, "PRAGMA table_info(volume)")}
        for file in (old / "catalog.sqlite", path)
    ]
    assert described[0] == described[1]


def test_former_volumes_come_by_number_the_newest_first_and_each_store_once(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(2))
        for number in (3, 4):
            lake.ingest(dicom(number))
        lake.build_volumes([KEY])  # writes the row again, of the same store
        with lake._catalog.read() as view:
            former = reader.former_volumes(view)
            assert [one.volume.version for one in former] == [2, 1]
            assert all(one.closed_at for one in former)
            assert reader.former_volumes(view, SeriesKey("1", "2")) == []
            assert len(reader.store_keys(view)) == len(reader.store_keys(view, KEY)) == 3
