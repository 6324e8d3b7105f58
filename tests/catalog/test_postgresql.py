"""A lake whose catalog is on a PostgreSQL server: the same answers as with SQLite, and what is its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

import dicomlake
from dicomlake.catalog import migrations, reader, schema
from dicomlake.catalog.catalog import Catalog, require_unused
from dicomlake.catalog.postgresql import PostgreSQL, server
from dicomlake.errors import CatalogError, NotALake
from dicomlake.ingest.settle import settle_leftovers
from dicomlake.lake import Lake
from dicomlake.records import SeriesKey
from dicomlake.settings import Settings, schema_of
from tests import postgres
from tests.objects import ROOT, by_hand, dicom, explicit, series
from tests.postgres import GUARDED, PASSWORD, Server

KEY = SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1")


@pytest.fixture
def lake(tmp_path: Path, catalog_url: str | None) -> Iterator[Lake]:
    """An empty lake on each database."""
    with dicomlake.open(tmp_path / "lake", create=True, catalog=catalog_url) as opened:
        yield opened


@pytest.fixture
def server_lake(tmp_path: Path, postgres_url: str) -> Iterator[Lake]:
    """An empty lake on PostgreSQL."""
    with dicomlake.open(tmp_path / "lake", create=True, catalog=postgres_url) as opened:
        yield opened


def content(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """Every row that is in force, without what numbers it."""
    hidden = ("id", "v_from", "digest", "settled")
    found: dict[str, list[dict[str, Any]]] = {}
    with lake._catalog.read() as view:
        for table in (schema.patient, schema.study, schema.series, schema.instance, schema.finding):
            rows = view.execute(schema.current(table)).mappings()
            found[table.name] = sorted(
                ({n: v for n, v in row.items() if n not in hidden} for row in rows), key=repr
            )
    return found


# ---- the same on both ------------------------------------------------------------------------------------


def test_a_study_is_taken_in_found_and_proven(lake: Lake) -> None:
    lake.ingest(series(4), series(3, f"{ROOT}.2.1", KVP=80))
    assert [row["instances"] for row in lake.rows("series")] == [4, 3]
    assert len(lake.query(KVP=80)) == 1
    assert [volume.shape for volume in lake.volumes()] == [(4, 16, 16), (3, 16, 16)]
    assert lake.verify(deep=True).ok


def test_the_same_object_again_a_late_slice_and_a_conflict(lake: Lake) -> None:
    lake.ingest(series(3))
    again = lake.ingest(series(3)).counts()
    assert (again["already"], again["stored"]) == (3, 0)
    lake.ingest(dicom(4))
    assert [volume.shape for volume in lake.volumes()] == [(4, 16, 16)]
    lake.ingest(dicom(1, KVP=1))
    assert len(lake.conflicts()) == 1
    assert [finding.kind for finding in lake.findings()] == ["conflict"]
    assert [former.version for former in lake.volume_versions(KEY)] == [1]
    lake.prune()
    assert lake.volume_versions(KEY) == []
    assert lake.verify(deep=True).ok


def test_a_rebuilt_catalog_says_the_same(lake: Lake) -> None:
    lake.ingest(series(3), dicom(1, KVP=1), b"no DICOM" * 100)
    before, identity = content(lake), lake.stamp[0]
    lake.rebuild()
    assert content(lake) == before
    assert lake.stamp[0] != identity
    assert len(lake.query(Modality="CT")) == 1
    assert lake.verify().ok


def test_text_is_listed_in_the_order_of_code_points(lake: Lake) -> None:
    """PostgreSQL would follow the language of the database: a, A, b, B."""
    for number, patient in enumerate(["b", "A", "a", "B"]):
        lake.ingest(dicom(1, series=f"{ROOT}.{number}.1", PatientID=patient), volumes=False)
    assert [row["PatientID"] for row in lake.rows("patients")] == ["A", "B", "a", "b"]
    assert [row["PatientID"] for row in lake.rows("series")] == ["A", "B", "a", "b"]


def test_texts_may_hold_nul_and_be_long_and_numbers_wide(lake: Lake) -> None:
    long = "7" * 9000
    identity = {0x00080018: b"1.2.3.4 ", 0x0020000D: b"1.2.3.5 ", 0x0020000E: long.encode()}
    elements = [
        explicit(0x0010, 0x0020, b"LO", long.encode()),
        explicit(0x0008, 0x103E, b"LO", b"a\0b "),
        explicit(0x0020, 0x0011, b"IS", b"2147483648"),
        explicit(0x0018, 0x0060, b"DS", b"1e300 "),
    ]
    lake.ingest(by_hand(identity, b"".join(sorted(elements))), volumes=False)
    (row,) = lake.rows("series")
    assert (row["PatientID"], row["SeriesInstanceUID"]) == (long, long)
    assert (row["SeriesDescription"], row["SeriesNumber"], row["KVP"]) == ("ab", 2147483648, 1e300)
    with lake._catalog.read() as view:
        assert reader.instances_with_uids(view, ["1.2\0.3"]) == {}
    assert lake.verify().ok


def test_what_a_writer_acknowledged_before_it_ended_is_settled(lake: Lake, tmp_path: Path) -> None:
    from dicomlake.ingest.sources import discover
    from dicomlake.ingest.take import take

    take(lake._catalog, lake._storage, list(discover(series(5))))
    with lake._catalog.database.shared():
        settle_leftovers(lake._catalog, lake._storage)
        assert lake.rows("series") == []
    settle_leftovers(lake._catalog, lake._storage)
    assert [row["instances"] for row in lake.rows("series")] == [5]


def test_locks_exclude_each_other_across_threads_and_catalogs(lake: Lake) -> None:
    mine, settings = lake._catalog.database, lake.settings
    other = Catalog.open(settings.catalog or lake.path / "catalog.sqlite").database
    with mine.building("a"):
        for database in (mine, other):
            with database.building("a", wait=False) as held:
                assert not held
            with database.building("b", wait=False) as held:
                assert held
    with mine.shared(), other.shared(), other.alone() as alone:
        assert not alone
    with mine.alone() as alone, other.alone() as both:
        assert (alone, both) == (True, False)
    got = threading.Event()

    def wait() -> None:
        with other.building("a"):
            got.set()

    with mine.building("a"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.2)
    waiting.join(10)
    assert got.is_set()
    other.close()


def test_a_view_stays_as_it_was_while_others_commit(lake: Lake) -> None:
    lake.ingest(series(2), volumes=False)
    other = Catalog.open(lake.settings.catalog or lake.path / "catalog.sqlite")
    with lake._catalog.read() as view:
        before = schema.head(view)
        with other.change("test"):
            pass
        assert other.head() == before + 1
        assert schema.head(view) == before
        assert len(reader.series_rows(view)) == 1
    assert lake._catalog.head() == before + 1
    other.close()


# ---- of its own ------------------------------------------------------------------------------------------


def test_the_lake_holds_no_catalog_and_no_password(server_lake: Lake, postgres_url: str) -> None:
    server_lake.ingest(series(2))
    assert not list(server_lake.path.glob("catalog*"))
    assert Settings.parse((server_lake.path / "lake.toml").read_text()).catalog == postgres_url


def test_a_reopened_lake_finds_its_catalog(server_lake: Lake, postgres_url: str) -> None:
    server_lake.ingest(series(2))
    with dicomlake.open(server_lake.path) as again:
        assert again.counts() == server_lake.counts()
    with pytest.raises(CatalogError, match="another catalog"):
        dicomlake.open(server_lake.path, create=True, catalog=postgres_url + "_2")


def test_a_url_with_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for url in (
        "postgresql+psycopg://me:hunter2@db/lake",
        "postgresql://db/lake?password=hunter2",
        "postgresql+psycopg://me:@db/lake",
    ):
        with pytest.raises(CatalogError, match="PGPASSWORD") as caught:
            dicomlake.open(tmp_path / "lake", create=True, catalog=url)
        assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    "url", ["sqlite:///x", "db/lake", "mysql://db/lake", "postgresql://db/l?schema=A;b", 7]
)
def test_a_url_of_anything_else_is_refused(url: Any) -> None:
    with pytest.raises(CatalogError):
        schema_of(url)
    assert schema_of("postgresql://db/lake") == "dicomlake"
    assert schema_of("postgresql+psycopg:///lake?host=/run/pg&schema=two") == "two"


def test_the_password_is_taken_from_where_libpq_looks(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = postgres_server.url("guarded_lake", role=GUARDED)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with pytest.raises(CatalogError, match=r"PGPASSWORD or ~/\.pgpass"):
        require_unused(url)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with dicomlake.open(tmp_path / "lake", create=True, catalog=url) as lake:
        lake.ingest(series(2))
        assert lake.verify().ok


def test_two_lakes_in_one_database_do_not_meet(postgres_server: Server, tmp_path: Path) -> None:
    urls = [postgres_server.url(name) for name in ("first", "second")]
    with (
        dicomlake.open(tmp_path / "1", create=True, catalog=urls[0]) as one,
        dicomlake.open(tmp_path / "2", create=True, catalog=urls[1]) as two,
        one._catalog.database.alone() as first,
        two._catalog.database.alone() as second,
    ):
        assert first
        assert second
    with pytest.raises(CatalogError, match=r"\?schema="):
        dicomlake.open(tmp_path / "3", create=True, catalog=urls[0])
    assert not (tmp_path / "3").exists()


def test_a_missing_catalog_is_told_and_rebuilt(server_lake: Lake, postgres_server: Server) -> None:
    server_lake.ingest(series(3))
    server_lake.close()
    postgres_server.run(f"DROP SCHEMA {schema_of(server_lake.settings.catalog)} CASCADE")
    with pytest.raises(CatalogError, match="`dicomlake rebuild`"):
        dicomlake.open(server_lake.path)
    from dicomlake.lake.places import rebuild

    rebuild(server_lake.path)
    with dicomlake.open(server_lake.path) as again:
        assert again.counts()["instances"] == 3
        assert again.verify().ok


def test_a_rebuild_is_followed_by_readers_and_leaves_no_schema_behind(
    server_lake: Lake, postgres_server: Server
) -> None:
    server_lake.ingest(series(3))
    with dicomlake.open(server_lake.path) as other:
        assert other.counts()["series"] == 1
        for _ in range(8):  # so often that the driver prepares the statements
            other.counts()
        server_lake.rebuild()
        assert other.stamp[0] == server_lake.stamp[0]
        assert other.counts() == server_lake.counts()
    name = schema_of(server_lake.settings.catalog)
    found = postgres_server.run(f"SELECT nspname FROM pg_namespace WHERE nspname ^@ '{name}' ORDER BY 1")
    assert [row for row in found if not str(row[0])[len(name) :].isdigit()] == [(name,)]


def test_a_view_that_waits_for_a_rebuild_sees_what_it_made(postgres_url: str) -> None:
    """Its snapshot must be taken after the new tables were filled, else they would seem empty."""
    catalog, follower = Catalog.open(postgres_url), Catalog.open(postgres_url)
    with catalog.change("first"):
        pass
    wrong: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with follower.read() as view:
                head = schema.head(view)
                if head < 1 or schema.head(view) != head:
                    wrong.append(head)

    reading = threading.Thread(target=read)
    reading.start()
    for _ in range(8):
        fresh = Catalog(catalog.database.fresh())
        with fresh.change("rebuilt"):
            pass
        fresh.close()
        catalog.database.replace_with(fresh.database)
    done.set()
    reading.join()
    assert wrong == []
    catalog.close()
    follower.close()


def test_a_rebuild_does_not_wait_forever_for_a_reader(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomlake.catalog.postgresql._WAIT_S", 1)
    catalog, other = Catalog.open(postgres_url), Catalog.open(postgres_url)
    fresh = Catalog(catalog.database.fresh())
    fresh.close()
    with other.read() as view:  # which has read nothing yet, and has no snapshot
        with pytest.raises(CatalogError, match="being read"):
            catalog.database.replace_with(fresh.database)
        assert migrations.version(view) == len(migrations.MIGRATIONS)
    catalog.close()
    other.close()


def test_a_migration_that_breaks_off_leaves_the_old_catalog(postgres_url: str) -> None:
    catalog = Catalog.open(postgres_url)

    def break_off(connection: Any) -> None:
        connection.execute(text("CREATE TABLE half (a INTEGER)"))
        raise RuntimeError("the power failed")

    with pytest.raises(RuntimeError, match="power"), catalog.database.write() as connection:
        migrations.migrate(connection, (*migrations.MIGRATIONS, break_off))
    with catalog.read() as view:
        assert migrations.version(view) == len(migrations.MIGRATIONS)
        assert not inspect(view).has_table("half")
    catalog.close()


def test_a_view_and_a_read_only_catalog_cannot_write(postgres_url: str) -> None:
    Catalog.open(postgres_url).close()
    catalog = Catalog.open(postgres_url, read_only=True)
    with pytest.raises(CatalogError, match="ReadOnly"), catalog.read() as view:
        view.execute(text("DELETE FROM info"))
    with pytest.raises(CatalogError, match="read-only"), catalog.change("test"):
        pass
    with pytest.raises(CatalogError, match="read-only"), catalog.database.building("a"):
        pass
    catalog.close()


def test_an_error_tells_no_value_of_a_row(postgres_url: str) -> None:
    catalog = Catalog.open(postgres_url)
    with pytest.raises(CatalogError) as caught, catalog.database.write() as connection:
        connection.execute(text("SELECT CAST(:name AS integer)"), {"name": "Doe^Jane"})
    assert "Doe" not in str(caught.value)
    assert "22P02" in str(caught.value)
    with pytest.raises(CatalogError) as caught, catalog.database.write() as connection:
        connection.execute(text("INSERT INTO info VALUES (:name, '')"), [{"name": "Doe^Jane"}] * 2)
    assert "Doe" not in str(caught.value)
    catalog.close()


def test_a_server_that_was_restarted_is_found_again() -> None:
    try:
        with postgres.running() as own:
            catalog = Catalog.open(own.url())
            catalog.head()
            own.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")
            assert catalog.head() == 0
            with catalog.change("test") as (_connection, v):
                assert v == 1
            port = own.port
        with pytest.raises(CatalogError, match="server failed") as caught:
            catalog.head()
        assert "see that it runs" in str(caught.value)
        with pytest.raises(CatalogError, match="server failed"):
            server(f"postgresql://127.0.0.1:{port}/postgres")
        catalog.close()
    except postgres.NoServer as error:
        pytest.skip(str(error))


def test_without_the_driver_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(CatalogError, match=r"pip install 'dicomlake\[postgres\]'"):
        PostgreSQL("postgresql://db/lake")


def test_the_server_tells_its_version_and_how_soon_it_answers(postgres_url: str) -> None:
    version, ms = server(postgres_url)
    assert version >= 13
    assert 0 < ms < 1000


def test_a_lake_toml_with_a_bad_url_is_refused() -> None:
    written = Settings.new(catalog="postgresql://db/lake").text()
    assert Settings.parse(written).catalog == "postgresql://db/lake"
    with pytest.raises((CatalogError, NotALake)):
        Settings.parse(written.replace("db/lake", "me:secret@db/lake"))


def test_doctor_asks_the_server(server_lake: Lake) -> None:
    checks = {name: (state, remark) for name, state, remark in server_lake.doctor()}
    state, remark = checks["PostgreSQL"]
    assert state == "ok"
    assert "answers in" in remark


def test_processes_take_in_on_either_database(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, data in enumerate(series(40)):
        (tmp_path / "in" / f"IM{number}").write_bytes(data)
    assert lake.ingest(tmp_path / "in", workers=2, volumes=False).counts()["stored"] == 40
    assert [row["instances"] for row in lake.rows("series")] == [40]
    assert lake.verify().ok
