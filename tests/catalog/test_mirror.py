"""The mirror follows the catalog step by step, mends itself, and can lie anywhere."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import dicomlake
from dicomlake.errors import CatalogError, QueryError
from dicomlake.lake import Lake
from tests.objects import ROOT, dicom, series

TABLES = (
    "select * exclude (series_id) from series order by all",
    "select a.* exclude (series_id), s.SeriesInstanceUID as uid "
    "from attribute a join series s using (series_id) order by all",
    "select * from study order by all",
    "select * from patient order by all",
    "select * from volume order by all",
)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """An empty lake."""
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        yield opened


def content(lake: Lake) -> list[list[tuple[Any, ...]]]:
    return [lake.sql(query).fetchall() for query in TABLES]


def state(lake: Lake) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lake.path / "mirror" / "state.json").read_text())
    return found


def uid(number: int) -> str:
    return f"{ROOT}.{number}.1"


def test_refreshing_step_by_step_equals_making_it_anew(lake: Lake) -> None:
    """New series, series that grow, conflicts: after each step, and over merges of the parts."""
    parts = []
    for step in range(12):
        objects = [dicom(n, series=uid(step), KVP=80 + step) for n in range(1, 4)]
        grown = [dicom(100 + step, series=uid(step // 2))]
        lake.ingest(objects, grown, dicom(1, series=uid(step), KVP=1), volumes=step % 3 == 0)
        follows = content(lake)
        parts.append(len(state(lake)["parts"]))
        if step % 4 == 3:
            kept = lake.path.with_name("kept")
            shutil.move(lake.path / "mirror", kept)
            assert content(lake) == follows
            shutil.rmtree(lake.path / "mirror")
            shutil.move(kept, lake.path / "mirror")
    assert max(parts) > 4  # it did go step by step
    assert parts != sorted(parts)  # and parts were merged
    assert len(lake.query()) == 12


def test_closed_rows_vanish_at_once_and_from_the_parts_when_merged(lake: Lake) -> None:
    for number in range(1, 12):
        lake.ingest(dicom(number), volumes=False)
        assert lake.sql("select instances from series").fetchall() == [(number,)]
        held = lake.sql("select instances from attribute where path = 'Modality'").fetchall()
        assert held == [(number,)]
    assert len(state(lake)["parts"]) + len(state(lake)["closed"]) < 11


def test_nothing_is_written_when_nothing_changed(lake: Lake) -> None:
    lake.ingest(dicom())
    lake.query()
    before = {path.name: path.stat().st_mtime_ns for path in (lake.path / "mirror").iterdir()}
    lake.query()
    assert {path.name: path.stat().st_mtime_ns for path in (lake.path / "mirror").iterdir()} == before


@pytest.mark.parametrize("damage", ["garbage", "empty", "missing", "state"])
def test_a_damaged_mirror_is_made_again(lake: Lake, damage: str) -> None:
    lake.ingest(series(2))
    whole = content(lake)
    for path in (lake.path / "mirror").glob("*.json" if damage == "state" else "*.parquet"):
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(b"" if damage == "empty" else b"garbage")
    assert content(lake) == whole


def test_a_mirror_of_another_catalog_is_not_believed(lake: Lake, tmp_path: Path) -> None:
    """After a rebuild row ids mean other series, though the change numbers may be the same."""
    with dicomlake.open(tmp_path / "other", create=True) as other:
        for one, number in ((other, 2), (lake, 1)):
            one.ingest(dicom(series=uid(number), KVP=number), volumes=False)
            one.query()
    shutil.rmtree(lake.path / "mirror")
    shutil.copytree(tmp_path / "other" / "mirror", lake.path / "mirror")
    assert [one.uid for one in lake.query(KVP=1)] == [uid(1)]
    assert len(lake.query(KVP=2)) == 0


def test_a_part_that_was_just_replaced_stays_for_those_who_read_it(lake: Lake) -> None:
    """Parts count as old from their replacement on, not from the day they were written."""
    lake.ingest(dicom(1), volumes=False)
    reading = lake.sql("select count(*) from attribute where path = 'Modality'")
    for path in (lake.path / "mirror").glob("*.parquet"):
        os.utime(path, (time.time() - 86400,) * 2)
    for number in range(2, 12):
        lake.ingest(dicom(number, series=uid(number)), volumes=False)
        lake.query()
    assert reading.fetchall() == [(1,)]


def test_an_empty_lake_answers(lake: Lake) -> None:
    assert len(lake.query(Modality="CT")) == 0
    assert [rows for rows in content(lake)] == [[]] * 5  # noqa: C416
    assert lake.sql("select count(*) from series").fetchall() == [(0,)]


@pytest.mark.parametrize("name", ["it's a lake", "lake [1]", "lake *?", "lake#1 100%41", "Großer See"])
def test_a_lake_may_have_any_name(tmp_path: Path, name: str) -> None:
    with dicomlake.open(tmp_path / name, create=True) as lake:
        for number in range(10):
            lake.ingest(dicom(series=uid(number)), volumes=False)
            lake.query()
        assert len(lake.query(Modality="CT")) == 10
    assert [path.name for path in tmp_path.iterdir()] == [name]


def make_read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


@pytest.mark.parametrize("name", ["lake", "it's ?#%41"])
def test_a_lake_that_cannot_be_written_answers_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with dicomlake.open(tmp_path / name, create=True) as lake:
        lake.ingest(series(3))
        whole = content(lake)
    shutil.rmtree(tmp_path / name / "mirror")
    before = snapshot(tmp_path)
    make_read_only(tmp_path / name)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and may(path, mode))  # root may all
    with dicomlake.open(tmp_path / name) as lake:
        assert lake.read_only
        assert content(lake) == whole
        assert len(lake.query(Modality="CT")) == 1
        assert lake.verify().ok
        assert lake.query()[0].open().image.shape == (3, 16, 16)
        with pytest.raises(CatalogError, match="read-only"):
            lake.ingest(dicom(9))
    assert snapshot(tmp_path) == before


def snapshot(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


# --- SQL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "copy (select 1) to '{folder}/stolen.csv'",
        "attach '{folder}/stolen.db'",
        "pragma database_list",
        "install httpfs",
        "load httpfs",
        "select 1; select 2",
        "select 1; drop view series",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('{lake}/lake.toml')",
        "select * from '/etc/passwd'",
        "select * from glob('/etc/*')",
        "select * from sniff_csv('/etc/passwd')",
        "insert into series select * from series",
        "create table stolen as select 1",
        "delete from volume",
        "update volume set key = ''",
        "drop view series",
        "set enable_external_access = true",
        "reset allowed_paths",
        "export database '{folder}/stolen'",
        "call duckdb_functions()",
        "explain analyze select 1",
        "vacuum",
        "",
        "selekt 1",
        "select nothing from series",
    ],
)
def test_sql_is_one_select_and_no_way_out(lake: Lake, tmp_path: Path, query: str) -> None:
    lake.ingest(dicom())
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((QueryError, duckdb.PermissionException)):  # the latter where it reads late
        lake.sql(query.format(folder=tmp_path, lake=lake.path)).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_selects_of_all_shapes_are_answered(lake: Lake) -> None:
    lake.ingest(series(3))
    assert lake.sql(
        "with ct as (select * from series where Modality = 'CT') select instances from ct"
    ).fetchall() == [(3,)]
    assert lake.sql("from series select count(*)").fetchall() == [(1,)]
    assert lake.sql("select * from series").df()["Modality"].tolist() == ["CT"]
    joined = "select text from attribute join series using (series_id) where path = 'StudyDate'"
    assert lake.sql(joined).fetchall() == [("20240229",)]
    assert lake.sql("select verdict from volume").fetchall() == [("regular",)]
