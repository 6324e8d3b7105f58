"""Several processes at one catalog: what is acknowledged is there, whole, in the order of its number.

Each commit is one series whose instance count, row and headers must agree at every moment; series are
small here, so that there are many commits.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from benchmarks import catalog_writers
from dicomlake.catalog import instances, reader, schema, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.records import SeriesKey
from tests.support import PROJECT

WRITERS, READERS = 4, 4
SECONDS = 3
SLICES = 12
ROUNDS = 10

WRITER = """
import sys, time
from pathlib import Path
from typing import Any
from benchmarks.catalog_writers import commit, made
from dicomlake.catalog.catalog import Catalog
place, number, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
catalog = Catalog.open(place if "://" in place else Path(place))
print("ready", flush=True)
sys.stdin.readline()
end, n = time.monotonic() + seconds, 0
while time.monotonic() < end:
    one = made(number, n, 12)
    v = commit(catalog, one)
    print(one.key.series_uid, v, flush=True)  # acknowledged
    n += 1
catalog.close()
"""
READER = """
import json, sys, time
from pathlib import Path
from typing import Any
from tests.catalog.test_concurrency import look
from dicomlake.catalog.catalog import Catalog
place, seconds = sys.argv[1], float(sys.argv[2])
catalog = Catalog.open(place if "://" in place else Path(place))
print("ready", flush=True)
sys.stdin.readline()
end, wrong, heads = time.monotonic() + seconds, [], []
while time.monotonic() < end:
    head, problems = look(catalog, max(heads, default=0))
    wrong += problems
    heads.append(head)
    time.sleep(0.005)
print(json.dumps([heads, wrong]))
catalog.close()
"""


def look(catalog: Catalog, since: int) -> tuple[int, list[str]]:
    """The newest change that a view shows, and what in it does not fit together."""
    wrong: list[str] = []
    with catalog.read() as view:
        head = schema.head(view)
        numbers = [
            int(v) for (v,) in view.execute(select(schema.change.c.v).where(schema.change.c.v > since))
        ]
        if sorted(numbers) != list(range(since + 1, head + 1)):
            wrong.append(f"changes {since} to {head} have gaps")
        table = schema.series
        rows = view.execute(schema.current(table).where(table.c.v_from > since)).mappings().all()
        for row in rows:
            key = SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"])
            held = {one.sop_instance_uid for one in reader.instances_of(view, key)}
            if not len(held) == row["instances"] == SLICES:
                wrong.append(f"{len(held)} instances, {row['instances']} told")
            if set(reader.headers_of(view, row["id"]).instances) != held:
                wrong.append("headers of others")
            if row["v_from"] > head:
                wrong.append("a row from beyond the head")
        if schema.head(view) != head:
            wrong.append("the view moved on")
    return head, wrong


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Let all begin at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.fixture
def place(tmp_path: Path, catalog_url: str | None) -> Path | str:
    """Where an empty catalog is, on each database."""
    where = catalog_url or tmp_path / "catalog.sqlite"
    Catalog.open(where).close()
    return where


def assert_all_is_there(place: Path | str, acknowledged: Sequence[tuple[str, int]]) -> None:
    catalog = Catalog.open(place)
    _head, wrong = look(catalog, 0)
    assert wrong == []
    with catalog.read() as view:
        found = {row["SeriesInstanceUID"]: row["v_from"] for row in reader.series_rows(view)}
        assert reader.unsettled(view) == []
        for table in schema.DIGESTED:
            for row in view.execute(select(table)).mappings():
                assert schema.row_digest(dict(row)) == row["digest"], table.name
        if isinstance(place, Path):
            assert list(view.execute(text("PRAGMA integrity_check"))) == [("ok",)]
    assert {uid: found.get(uid) for uid, _v in acknowledged} == dict(acknowledged)
    catalog.close()


def test_writers_and_readers_do_not_meet(place: Path | str) -> None:
    writers = [started(WRITER, place, n, SECONDS) for n in range(WRITERS)]
    readers = [started(READER, place, SECONDS) for _ in range(READERS)]
    begin([*writers, *readers])
    ends = [process.communicate(timeout=120) for process in (*writers, *readers)]
    assert [error for _out, error in ends if error] == []
    lines = [line.split() for out, _error in ends[:WRITERS] for line in out.splitlines()]
    acknowledged = [(uid, int(v)) for uid, v in lines]
    for out, _error in ends[WRITERS:]:
        heads, wrong = json.loads(out)
        assert wrong == []
        assert heads == sorted(heads)  # nobody sees an older catalog than before
        assert len(set(heads)) > 3
    assert len(acknowledged) > 4 * WRITERS
    assert sorted(v for _uid, v in acknowledged) == list(range(1, len(acknowledged) + 1))
    assert_all_is_there(place, acknowledged)


def test_a_writer_that_is_killed_in_mid_commit_loses_nothing_and_holds_nobody_up(place: Path | str) -> None:
    acknowledged: list[tuple[str, int]] = []
    for number in range(ROUNDS):
        with started(WRITER, place, number, 60) as process:
            begin([process])
            assert process.stdout is not None
            lines = [process.stdout.readline()]  # it is at work
            time.sleep(random.Random(number).uniform(0, 0.1))
            process.kill()
            lines += process.stdout.readlines()
        whole = (line.split() for line in lines if line.endswith("\n"))
        acknowledged += [(uid, int(v)) for uid, v in whole]
        catalog = Catalog.open(place)  # the next writer goes on
        one = catalog_writers.made(100, number, SLICES)
        acknowledged.append((one.key.series_uid, catalog_writers.commit(catalog, one)))
        catalog.close()
    assert len(acknowledged) >= 2 * ROUNDS
    assert_all_is_there(place, acknowledged)


def test_a_change_that_fails_gives_its_number_to_the_next(place: Path | str) -> None:
    catalog = Catalog.open(place)
    one = catalog_writers.made(1, 1, SLICES)

    def break_off() -> None:
        with catalog.change("ingest") as (connection, v):
            writer.add_instances(connection, v, one.instances)
            raise RuntimeError("the power failed")

    with pytest.raises(RuntimeError, match="power"):
        break_off()
    assert catalog_writers.commit(catalog, one) == 1
    catalog.close()
    assert_all_is_there(place, [(one.key.series_uid, 1)])


def test_rows_of_many_instances_have_the_digests_of_single_rows(place: Path | str) -> None:
    """Values that JSON writes with escapes, and text that is not ASCII."""
    catalog = Catalog.open(place)
    (one,) = catalog_writers.made(1, 1, 1).instances
    from dataclasses import replace

    odd = replace(one, sop_class_uid='1.2"\\\n\x1f', sop_instance_uid="ü\u2028😀\0", key="k", conflict=True)
    with catalog.change("ingest") as (connection, v):
        instances.add(connection, v, instances.drafted([one, odd]))
    with catalog.read() as view:
        rows = [dict(row) for row in view.execute(select(schema.instance)).mappings()]
    assert [row["SOPInstanceUID"] for row in rows] == [one.sop_instance_uid, "ü\u2028😀"]
    assert [row["conflict"] for row in rows] == [0, 1]
    assert [schema.row_digest(row) for row in rows] == [row["digest"] for row in rows]
    catalog.close()


def test_writers_are_measured(tmp_path: Path) -> None:
    found = catalog_writers.measure(tmp_path, 2, 0.5)
    assert found["commits"] > 0
    assert found["reads"] > 0
    assert 0 < found["series_per_s"] <= found["commits"] / 0.5


def test_a_uid_is_found_by_its_beginning_through_an_index(place: Path | str) -> None:
    catalog = Catalog.open(place)
    for number in range(3):
        catalog_writers.commit(catalog, catalog_writers.made(7, number, 1))
    root = catalog_writers.made(7, 1, 1).key.study_uid
    with catalog.read() as view:
        (only,) = reader.series_ids_with(view, root)
        assert reader.series_ids_with(view, f"{root}.1.") == [only]
        assert reader.series_ids_with(view, root[:-1]) == []  # three begin so
        assert reader.series_ids_with(view, root + "%") == []
        column = schema.instance.c.SOPInstanceUID
        query = select(column).where(schema.begins_with(column, root))
        if isinstance(place, Path):
            plan = str(view.execute(text(f"EXPLAIN QUERY PLAN {_written(query, view)}")).all())
            assert "SEARCH instance USING COVERING INDEX ix_instance_SOPInstanceUID" in plan
        else:
            view.execute(
                text("SET LOCAL enable_seqscan = off")
            )  # the table is too small to be worth an index
            view.execute(text("SET LOCAL enable_bitmapscan = off"))
            plan = str(view.execute(text(f"EXPLAIN {_written(query, view)}")).all())
            assert "using beginning_SOPInstanceUID" in plan.replace('"', "")
    catalog.close()


def _written(query: Any, view: Connection) -> str:
    return str(query.compile(view.engine, compile_kwargs={"literal_binds": True}))
