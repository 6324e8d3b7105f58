"""The mirror equals the catalog after any changes, is shared, mends itself, and can lie anywhere."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, select

import dicomlake
from dicomlake.catalog import attributes, reader, rows, schema, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror
from dicomlake.catalog.mirror import parts as mirror_parts
from dicomlake.catalog.mirror import state as mirror_state
from dicomlake.catalog.mirror import tables as mirror_tables
from dicomlake.errors import CatalogError
from dicomlake.lake import Lake
from dicomlake.records import Finding
from tests.objects import ROOT, dicom, series

Rows = list[tuple[Any, ...]]
_HIDDEN = {"id", "v_from", "v_to", "digest", "settled"}


@pytest.fixture
def either(tmp_path: Path, catalog_url: str | None) -> Iterator[Lake]:
    """An empty lake, on either database."""
    how = {} if catalog_url is None else {"catalog": catalog_url}
    with dicomlake.open(tmp_path / "lake", create=True, **how) as opened:
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """An empty lake in one folder, which other processes can open too."""
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        yield opened


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts so small that some series make several, which are soon merged."""
    for module in (mirror_state, mirror_parts):
        monkeypatch.setattr(module, "SMALL", 60)
    for name, value in {"_FEW": 200, "_MANY": 4, "_FAN": 3}.items():
        monkeypatch.setattr(mirror_state, name, value)
    monkeypatch.setattr(mirror_tables, "_SERIES_A_PART", 2)
    monkeypatch.setattr(mirror_tables, "_SERIES_A_STRETCH", 3)
    monkeypatch.setattr(mirror_tables, "_FEW_CHANGES", 1)


def uid(number: int) -> str:
    return f"{ROOT}.{number}.1"


# ---- what the catalog says, without the mirror -------------------------------------------------------


def current(view: Connection, table: Table, *names: str) -> list[dict[str, Any]]:
    columns = [table.c[name] for name in names] if names else list(table.c)
    return [dict(row) for row in view.execute(select(*columns).where(table.c.v_to.is_(None))).mappings()]


def shown(table: Table) -> list[str]:
    return [column.name for column in table.c if column.name not in _HIDDEN]


def truth(catalog: Catalog) -> dict[str, Rows]:
    """Every documented table, by plain loops over the rows of the catalog."""
    with catalog.read() as view:
        held = current(view, schema.series)
        ids = {(row["StudyInstanceUID"], row["SeriesInstanceUID"]): row["id"] for row in held}
        found: dict[str, Rows] = {
            "series": [(row["id"], *(row[name] for name in schema.SERIES_COLUMNS)) for row in held],
            "attributes": [
                (row["id"], *one)
                for row in held
                for one in attributes.rows(reader.headers_of(view, row["id"]))
            ],
        }
        for table in (schema.volume, schema.instance):
            names = schema.VOLUME_COLUMNS if table is schema.volume else shown(table)
            found[f"{table.name}s"] = [
                (ids[key], *(row[name] for name in names))
                for row in current(view, table)
                if (key := (row["StudyInstanceUID"], row["SeriesInstanceUID"])) in ids
                if row.get("settled", 1)
            ]
        for name, table in {
            "findings": schema.finding,
            "labels": schema.label,
            "clinical": schema.clinical,
            "documents": schema.document,
        }.items():
            found[name] = [tuple(row.values()) for row in current(view, table, *shown(table))]
        found["cohorts"] = [
            tuple(row.values())
            for row in current(view, schema.cohort, "name", "series", "at", "who", "change", "program")
        ]
        found["studies"] = [
            (*(row[n] for n in shown(schema.study)), sorted({s["Modality"] for s in of}), *_sums(of))
            for row in current(view, schema.study)
            if (of := [s for s in held if s["StudyInstanceUID"] == row["StudyInstanceUID"]])
        ]
        found["patients"] = [
            (*(row[n] for n in shown(schema.patient)), len({s["StudyInstanceUID"] for s in of}), *_sums(of))
            for row in current(view, schema.patient)
            if (of := [s for s in held if _same_patient(s, row)])
        ]
    return {name: ordered(some) for name, some in found.items()}


def _sums(of: list[dict[str, Any]]) -> tuple[int, int]:
    return len(of), sum(row["instances"] for row in of)


def _same_patient(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("PatientID", "IssuerOfPatientID"))


def ordered(some: Rows) -> Rows:
    return sorted(some, key=repr)


def mirrored(mirror: Mirror) -> dict[str, Rows]:
    session = mirror.session()
    return {
        name: ordered(session.execute(f"SELECT * FROM {name}").fetchall()) for name in mirror_tables.TABLES
    }


def of_lake(lake: Lake) -> tuple[Catalog, Mirror]:
    return lake._catalog, lake._mirror


def files(lake: Lake, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in (lake.path / "mirror").glob(pattern))


# ---- changes ----------------------------------------------------------------------------------------


def new_series(lake: Lake, luck: random.Random) -> None:
    number = luck.randrange(1000)
    lake.ingest(series(luck.randint(1, 3), uid(number), KVP=number), volumes=luck.random() < 0.3)


def late_instances(lake: Lake, luck: random.Random) -> None:
    found = uids(lake)
    if found:
        late = dicom(luck.randrange(100, 600), series=luck.choice(found), KVP=luck.randrange(200))
        lake.ingest(late, volumes=luck.random() < 0.3)


def conflict(lake: Lake, luck: random.Random) -> None:
    found = uids(lake)
    if found:
        lake.ingest(dicom(1, series=luck.choice(found), KVP=luck.randrange(1000, 2000)), volumes=False)


def series_gone(lake: Lake, luck: random.Random) -> None:
    with lake._catalog.change("test") as (view, v):
        held = view.execute(schema.current(schema.series)).mappings().all()
        rows.close(view, schema.series, v, luck.sample(list(held), min(1, len(held))))


def volumes_gone(lake: Lake, luck: random.Random) -> None:
    with lake._catalog.change("test") as (view, v):
        held = list(view.execute(schema.current(schema.volume)).mappings())
        rows.close(view, schema.volume, v, luck.sample(held, min(2, len(held))))


def findings(lake: Lake, luck: random.Random) -> None:
    with lake._catalog.change("test") as (view, v):
        if luck.random() < 0.5:
            writer.add_findings(view, v, [Finding("warning", "odd", uid(luck.randrange(9)), "it is")])
        else:
            writer.close_findings(view, v, uid(luck.randrange(9)), ["odd"])


def annotations(lake: Lake, luck: random.Random) -> None:
    text = str(luck.random())
    label = {"level": "patient", "PatientID": "phantom", "name": "n", "text": text, "who": "w", "at": "now"}
    cell = {"source": "s", "row": 1, "PatientID": "phantom", "name": "n", "text": text, "number": 0.5}
    words = {"StudyInstanceUID": uid(1), "SeriesInstanceUID": uid(2), "kind": "report", "text": text}
    cohort = {"name": text, "query": "{}", "series": 0, "members": b"", "change": 1, "program": "1"}
    cohort |= {"who": "w", "at": "now"}
    given = {schema.label: label, schema.clinical: cell, schema.document: words, schema.cohort: cohort}
    with lake._catalog.change("test") as (view, v):
        for table, row in given.items():
            if luck.random() < 0.7:
                rows.add(view, table, v, [dict.fromkeys(shown(table)) | row])
            else:
                held = list(view.execute(schema.current(table)).mappings())
                rows.close(view, table, v, luck.sample(held, min(1, len(held))))


CHANGES: tuple[Callable[[Lake, random.Random], None], ...] = (
    *(new_series, new_series, late_instances, conflict, series_gone, volumes_gone),
    *(findings, annotations),
)


def uids(lake: Lake) -> list[str]:
    return [row["SeriesInstanceUID"] for row in lake.rows("series")]


# ---- equality ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_every_table_equals_the_catalog_after_any_changes(
    either: Lake, small_parts: None, seed: int, tmp_path: Path
) -> None:
    """Step by step, and as a mirror that begins in the middle, and as one made at the end."""
    luck, (catalog, mirror) = random.Random(seed), of_lake(either)
    (tmp_path / "second").mkdir()
    second = Mirror(catalog, tmp_path / "second" / "mirror")
    for step in range(24):
        luck.choice(CHANGES)(either, luck)
        if step % 3 == 0:
            assert mirrored(mirror) == truth(catalog)
        elif luck.random() < 0.5:
            mirror.session()  # series and attributes only: the others have more to catch up with
        if step % 10 == 9:
            assert mirrored(second) == truth(catalog)
    assert mirrored(mirror) == mirrored(second) == truth(catalog)
    second.close()


def test_parts_are_merged_as_they_become_many(lake: Lake, small_parts: None) -> None:
    catalog, mirror = of_lake(lake)
    most = 0
    for number in range(1, 24):
        one = uid(number % 16)
        lake.ingest(dicom(1, series=one), dicom(number, series=one), volumes=False)
        state = mirror.session().state
        most = max(most, len(state.held("series").parts), len(state.held("attributes").parts))
    assert mirrored(mirror) == truth(catalog)
    assert any(not part.small for part in mirror.session().state.held("attributes").parts)
    assert 3 < most < 12


def test_one_new_series_leaves_the_other_parts_as_they_are(lake: Lake, small_parts: None) -> None:
    for number in range(9):
        lake.ingest(series(2, uid(number)), volumes=False)
    lake._mirror.session()
    before = {path: path.stat().st_mtime_ns for path in (lake.path / "mirror").glob("*.parquet")}
    lake.ingest(dicom(series=uid(100)), volumes=False)
    lake._mirror.session()
    assert before
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_part_whose_rows_are_all_closed_goes(lake: Lake) -> None:
    for number in range(1, 12):
        lake.ingest(dicom(number), volumes=False)
        held = lake._mirror.session().state.held("attributes")
        assert len(held.parts) == 1
        assert held.closed == ()
    assert lake._mirror.session().execute("select instances from series")[0] == (11,)


def test_nothing_is_written_when_nothing_changed(lake: Lake) -> None:
    lake.ingest(dicom())
    mirrored(lake._mirror)
    before = {path.name: path.stat().st_mtime_ns for path in (lake.path / "mirror").iterdir()}
    mirrored(lake._mirror)
    assert {path.name: path.stat().st_mtime_ns for path in (lake.path / "mirror").iterdir()} == before


def test_instances_are_brought_up_to_date_only_when_asked_for(lake: Lake) -> None:
    lake.ingest(series(2))
    session = lake._mirror.session()
    session.execute("select count(*) from series join volumes using (series_id)").fetchall()
    assert files(lake, "instances-*") == []
    assert session.execute("select count(*) from instances")[0] == (2,)
    assert len(files(lake, "instances-*")) == 1


def test_large_parts_are_merged_beside_those_who_read(
    lake: Lake, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, mirror = of_lake(lake)
    monkeypatch.setattr("dicomlake.catalog.mirror._AT_ONCE", 0)
    monkeypatch.setattr("dicomlake.catalog.mirror._MERGED_FOR_ONE", 0)  # nothing is merged by a refresh
    for number in range(12):
        lake.ingest(series(2, uid(number)), volumes=False)
        mirror.session()
        while (thread := mirror._merging) is not None and thread.is_alive():
            thread.join(1)
    assert len(mirror.session().state.held("attributes").parts) < 8
    assert mirrored(mirror) == truth(catalog)


def test_an_empty_lake_answers(lake: Lake) -> None:
    assert len(lake.query(Modality="CT")) == 0
    assert set(map(tuple, mirrored(lake._mirror).values())) == {()}


# ---- several at once, and crashes -------------------------------------------------------------------


def test_threads_refresh_and_ask_at_once(lake: Lake) -> None:
    catalog, mirror = of_lake(lake)
    failures: list[BaseException] = []
    counts: list[int] = []

    def ask() -> None:
        try:
            for _ in range(15):
                found = mirror.session().execute("select count(*), count(distinct series_id) from series")[0]
                assert found[0] == found[1]
                counts.append(found[0])
        except BaseException as error:  # told below
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(8):
        lake.ingest(dicom(series=uid(number)), volumes=False)
    for thread in threads:
        thread.join()
    assert failures == []
    assert mirrored(mirror) == truth(catalog)


_CHILD = """
import os, signal, sys
from pathlib import Path
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror, parts
folder, how = Path(sys.argv[1]), sys.argv[2]

def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)

if how == "a part is half written":
    write = parts.Files.write
    def broken(self, connection, table, rows):
        part = write(self, connection, table, rows)
        path = self.path(part.name)
        path.write_bytes(path.read_bytes()[:part.size // 2])
        die()
    parts.Files.write = broken
elif how == "before the state is written":
    Mirror._save = die
elif how == "before the state is put in place":
    Path.replace = die
catalog = Catalog.open(folder / "catalog.sqlite")
mirror = Mirror(catalog, folder / "mirror")
for _ in range(5):
    print(mirror.session().execute("select count(*) from series")[0][0], flush=True)
mirror.close()
catalog.close()
"""


def child(lake: Lake, how: str = "whole") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CHILD, str(lake.path), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "moment",
    ["a part is half written", "before the state is written", "before the state is put in place"],
)
def test_a_process_killed_in_a_refresh_leaves_no_trace_in_the_tables(lake: Lake, moment: str) -> None:
    catalog, mirror = of_lake(lake)
    lake.ingest(series(2, uid(1)))
    mirrored(mirror)
    lake.ingest(series(2, uid(2)), dicom(7, series=uid(1)))
    with child(lake, moment) as killed:
        killed.wait()
    assert killed.returncode == -signal.SIGKILL
    assert mirrored(mirror) == truth(catalog)
    lake.ingest(dicom(3, series=uid(2)))
    assert mirrored(mirror) == truth(catalog)


def test_processes_that_refresh_at_once_do_it_once(lake: Lake) -> None:
    catalog, mirror = of_lake(lake)
    for number in range(6):
        lake.ingest(series(2, uid(number)), volumes=False)
    children = [child(lake) for _ in range(3)]
    for one in children:
        assert one.communicate()[0].split() == ["6"] * 5
    assert mirrored(mirror) == truth(catalog)
    assert len(files(lake, "series-*")) == 1
    assert len(files(lake, "attributes-*")) == 1


def test_what_another_process_refreshed_is_picked_up(lake: Lake) -> None:
    lake.ingest(dicom())
    session = lake._mirror.session()
    lake.ingest(dicom(series=uid(5)))
    with child(lake) as other:
        assert other.communicate()[0].split() == ["2"] * 5
    before = files(lake)
    assert session.execute("select count(*) from series")[0] == (1,)  # as of when it was asked for
    assert lake._mirror.session().execute("select count(*) from series")[0] == (2,)
    assert files(lake) == before


# ---- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reopened", [True, False])
@pytest.mark.parametrize("damage", ["garbage", "same size", "empty", "missing", "state"])
def test_a_damaged_mirror_is_made_again(lake: Lake, small_parts: None, damage: str, reopened: bool) -> None:
    catalog, mirror = of_lake(lake)
    for number in range(6):
        lake.ingest(series(2, uid(number)), volumes=False)
    whole = mirrored(mirror)
    assert files(lake, "*.parquet")
    for path in (lake.path / "mirror").glob("state.json" if damage == "state" else "*-*.*"):
        spoil(path, damage)
    other = Mirror(catalog, lake.path / "mirror") if reopened else mirror
    if not reopened:  # what is in memory is right; only files that are read again can be seen to be damaged
        lake.ingest(dicom(series=uid(50)), volumes=False)
        whole = truth(catalog)
    assert mirrored(other) == whole
    other.close()


def spoil(path: Path, damage: str) -> None:
    if damage == "missing":
        path.unlink()
    elif damage == "same size":
        path.write_bytes(b"x" * path.stat().st_size)
    else:
        path.write_bytes(b"" if damage == "empty" else b"garbage")


def test_damage_within_a_part_that_still_opens_is_found_when_it_is_read(
    lake: Lake, small_parts: None
) -> None:
    catalog, mirror = of_lake(lake)
    for number in range(6):
        lake.ingest(series(2, uid(number)), volumes=False)
    whole = mirrored(mirror)
    for path in (lake.path / "mirror").glob("*.parquet"):
        data = bytearray(path.read_bytes())
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)  # the footer is at the end
        path.write_bytes(data)
    other = Mirror(catalog, lake.path / "mirror")
    assert mirrored(other) == whole
    other.close()


def test_a_mirror_of_another_catalog_is_not_believed(lake: Lake, tmp_path: Path) -> None:
    """After a rebuild row ids mean other series, though the change numbers may be the same."""
    with dicomlake.open(tmp_path / "other", create=True) as other:
        for one, number in ((other, 2), (lake, 1)):
            one.ingest(dicom(series=uid(number), KVP=number), volumes=False)
            one._mirror.session()
    shutil.rmtree(lake.path / "mirror")
    shutil.copytree(tmp_path / "other" / "mirror", lake.path / "mirror")
    assert mirrored(lake._mirror) == truth(lake._catalog)
    assert [one.uid for one in lake.query(KVP=1)] == [uid(1)]


def test_a_rebuilt_catalog_is_followed(lake: Lake) -> None:
    lake.ingest(series(2, uid(1)), series(2, uid(2)))
    before = mirrored(lake._mirror)
    old = lake._mirror.session()
    lake.rebuild()
    assert mirrored(lake._mirror) == truth(lake._catalog)
    assert lake._mirror.session().catalog != old.catalog
    with pytest.raises(CatalogError, match="rebuilt"):
        old.execute("select count(*) from attributes")
    assert [row[1] for row in mirrored(lake._mirror)["series"]] == [row[1] for row in before["series"]]


# ---- answers and places -----------------------------------------------------------------------------


def test_an_answer_is_as_of_when_it_was_asked_for(lake: Lake, small_parts: None) -> None:
    """Though parts are merged before it is fetched; they count as old from then on only."""
    lake.ingest(dicom(1), volumes=False)
    reading = lake.sql("select count(*) from attributes where path = 'Modality'")
    for path in (lake.path / "mirror").glob("*-*"):
        os.utime(path, (time.time() - 86400,) * 2)
    for number in range(2, 12):
        lake.ingest(dicom(number, series=uid(number)), volumes=False)
        lake._mirror.session()
    assert reading.fetchall() == [(1,)]
    assert reading.df().iloc[0, 0] == 1


def test_parts_that_no_state_names_are_swept_in_the_end(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.ingest(dicom(), volumes=False)
    lake._mirror.session()
    names = ("series-00.parquet", "series-00.parquet~KVP.npy", "attributes-00.jsonl")
    for name in (*names, "series-01.parquet"):
        (lake.path / "mirror" / name).write_bytes(b"of a process that was killed")
    for name in names:
        os.utime(lake.path / "mirror" / name, (time.time() - 86400,) * 2)
    lake.ingest(dicom(series=uid(3)), volumes=False)
    lake._mirror.session()
    assert set(names) <= set(files(lake))  # it has looked a moment ago
    monkeypatch.setattr("dicomlake.catalog.mirror._SWEEP_S", 0)
    lake.ingest(dicom(series=uid(4)), volumes=False)
    lake._mirror.session()
    assert not set(names) & set(files(lake))
    assert "series-01.parquet" in files(lake)  # somebody may be writing it


@pytest.mark.parametrize("name", ["it's a lake", "lake [1]", "lake *?", "lake#1 100%41", "Großer See", "{x}"])
def test_a_lake_may_have_any_name(tmp_path: Path, small_parts: None, name: str) -> None:
    with dicomlake.open(tmp_path / name, create=True) as lake:
        for number in range(6):
            lake.ingest(dicom(series=uid(number)), volumes=False)
            lake._mirror.session()
        assert files(lake, "*.parquet")
        assert mirrored(lake._mirror) == truth(lake._catalog)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder one that cannot be written."""
    may = os.access

    def make(folder: Path) -> None:
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        monkeypatch.setattr(
            os, "access", lambda path, mode: mode != os.W_OK and may(path, mode)
        )  # root may all

    return make


def snapshot(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.mark.parametrize("kept", ["no mirror", "an older mirror", "the mirror"])
@pytest.mark.parametrize("name", ["lake", "it's ?#%41"])
def test_a_lake_that_cannot_be_written_answers_and_changes_nothing(
    tmp_path: Path, read_only: Callable[[Path], None], name: str, kept: str
) -> None:
    with dicomlake.open(tmp_path / name, create=True) as lake:
        lake.ingest(series(3))
        if kept != "no mirror":
            mirrored(lake._mirror)
        lake.ingest(dicom(series=uid(9)), dicom(4))
        if kept == "the mirror":
            mirrored(lake._mirror)
        whole = truth(lake._catalog)
    before = snapshot(tmp_path)
    read_only(tmp_path / name)
    with dicomlake.open(tmp_path / name) as lake:
        assert lake.read_only
        assert mirrored(lake._mirror) == whole
        written = [path.name for path in lake._mirror.files.own.glob("series-*")]
        assert len(written) == (0 if kept == "the mirror" else 1)  # what the folder has is not made again
        with pytest.raises(CatalogError, match="read-only"):
            lake.ingest(dicom(9))
    assert snapshot(tmp_path) == before


def test_a_closed_lake_leaves_no_thread_and_no_spill(lake: Lake) -> None:
    lake.ingest(series(2))
    mirrored(lake._mirror)
    lake._mirror.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dicomlake-mirror"]
    assert not files(lake, "spill*")
    assert json.loads((lake.path / "mirror" / "state.json").read_text())["format"] == mirror_state.FORMAT


def test_what_a_killed_process_spilled_is_swept(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        mirror = lake.path / "mirror"
        mirror.mkdir()
        script = [sys.executable, "-c", "import os; print(os.getpid())"]
        ended = subprocess.run(script, capture_output=True, text=True, check=True)
        dead, alive = mirror / f"spill-{ended.stdout.strip()}-00", mirror / f"spill-{os.getpid()}-00"
        fresh = mirror / f"spill-{ended.stdout.strip()}-01"
        for folder in (dead, alive, fresh):
            folder.mkdir()
            (folder / "values").write_bytes(b"of patients")
        for folder in (dead, alive):
            os.utime(folder, (1, 1))
        lake.ingest(series(1), volumes=False)
        lake.query()
        assert [folder.exists() for folder in (dead, alive, fresh)] == [False, True, True]
