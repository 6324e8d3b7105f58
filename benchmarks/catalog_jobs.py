"""The jobs about the catalog of a large lake: facets, any element, a UID, the first answer, a refresh.

Their fixture is made when the first of them is set up; see `benchmarks.scale`. Answers are compared with what
DuckDB counts in the Parquet that the fixture was made from.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import catalog_peers, child, scale
from benchmarks.harness import Case, Job, Measure, Target
from benchmarks.workload import Workload, files, read_headers

_MADE_UP_BELOW = 10_000
_SEED = 2024
_UIDS = 100


def fixture(work: Workload, series: int) -> scale.Fixture:
    """The fixture of so many series."""
    return scale.prepare(work.catalog, series, made_up=series < _MADE_UP_BELOW)


@contextmanager
def opened(made: scale.Fixture) -> Iterator[Any]:
    """Its lake."""
    import dicomlake

    with dicomlake.open(made.lake) as lake:
        yield lake


# ---- one series


def by_uid(work: Workload, _scratch: Path) -> Job:
    """Series by their UID, one at a time; the median of some."""
    made = fixture(work, work.sizes.series)
    uids = _some_uids(made)

    @contextmanager
    def lake(_folder: Path) -> Iterator[Callable[[str], Any]]:
        with opened(made) as found:
            yield lambda uid: found.find(uid)[0]

    @contextmanager
    def lake_with_facts(_folder: Path) -> Iterator[Callable[[str], str]]:
        with opened(made) as found:
            yield lambda uid: str(found.find(uid)[0].facts["SeriesInstanceUID"])

    @contextmanager
    def sqlite(_folder: Path) -> Iterator[Callable[[str], str]]:
        with catalog_peers.sqlite_by_uid(made.lake) as ask:
            yield ask

    @contextmanager
    def duckdb(_folder: Path) -> Iterator[Callable[[str], str]]:
        with catalog_peers.duckdb_by_uid(made.rows) as ask:
            yield ask

    def done(_context: object, found: Sequence[Any]) -> int:
        return sum(uid == getattr(one, "uid", one) for uid, one in zip(uids, found, strict=True))

    ours, facts = "dicomlake, lake.find(uid)[0]", "dicomlake, lake.find(uid)[0].facts"
    theirs = "DuckDB, the series in Parquet"
    few = uids[: max(1, _UIDS // 20)]
    return Job(
        name="by-uid",
        title=f"One of {made.series:,} series by its UID, the median of {len(uids)}",
        work=len(uids),
        of="series",
        unit="ms",
        cases=(
            Case(name="SQLite, the row alone", role="limit", run=_each(uids), done=done, around=sqlite),
            Case(name=ours, role="dicomlake", run=_each(uids), done=done, around=lake),
            Case(name=facts, role="dicomlake", run=_each(uids), done=done, around=lake_with_facts),
            Case(name=theirs, role="peer", run=_each(few), done=_all_of(few, len(uids)), around=duckdb),
        ),
        targets=(Target(ours, 1), Target(facts, 1), Target(facts, 1, theirs)),
    )


def _some_uids(made: scale.Fixture) -> list[str]:
    with scale.connect(made.folder) as connection:
        rows = connection.execute(
            f"SELECT SeriesInstanceUID FROM '{made.rows}' ORDER BY series_id"
        ).fetchall()
    return [uid for (uid,) in random.Random(_SEED).sample(rows, min(_UIDS, len(rows)))]


def _each(uids: Sequence[str]) -> Callable[[Callable[[str], Any]], Measure]:
    """Ask for each UID, after a first one that does not count; milliseconds of one, the median."""

    def run(ask: Callable[[str], Any]) -> Measure:
        ask(uids[0])
        found, ms = [], []
        for uid in uids:
            started = time.perf_counter()
            found.append(ask(uid))
            ms.append(1000 * (time.perf_counter() - started))
        return Measure(statistics.median(ms), None, found)

    return run


def _all_of(few: Sequence[str], work: int) -> Callable[[object, Sequence[str]], int]:
    """A slow peer is asked for a few and has done all when those were right."""
    return lambda _context, found: work if list(found) == list(few) else 0


# ---- a refresh


def refresh(work: Workload, scratch: Path) -> Job:
    """What a new series costs whoever asks next: the mirror in memory is brought up to date."""
    made = fixture(work, work.sizes.series)
    lake = _copied(made.lake, scratch / "refresh-lake")
    images = files(work.ct)
    numbers = itertools.count()

    @contextmanager
    def with_new_series(_folder: Path) -> Iterator[Any]:
        import dicomlake

        with dicomlake.open(lake) as found:
            found._mirror.session()
            _add_series(found, images, next(numbers))
            yield found

    def counted(_context: object, session: Any) -> int:
        """Whether the session has all series and the newest is whole."""
        (series,) = session.execute("SELECT count(*) FROM series")[0]
        (newest,) = session.execute("SELECT instances FROM series ORDER BY series_id DESC LIMIT 1")[0]
        return int(newest) if series > made.series else 0

    def session(found: Any) -> Measure:
        started = time.perf_counter()
        current = found._mirror.session()
        return Measure(1000 * (time.perf_counter() - started), None, current)

    def anew(_folder: Path) -> Measure:
        started = time.perf_counter()
        read = catalog_peers.duckdb_reads_series(made.rows)
        return Measure(1000 * (time.perf_counter() - started), None, read)

    ours, theirs = "dicomlake, Mirror.session()", "DuckDB, all series read again"
    return Job(
        name="refresh",
        title=f"After one new series of {len(images)} instances, beside {made.series:,} series",
        work=len(images),
        of="instances",
        unit="ms",
        cases=(
            Case(name=ours, role="dicomlake", run=session, done=counted, around=with_new_series),
            Case(
                name=theirs,
                role="peer",
                run=anew,
                done=lambda _, read: len(images) if read == made.series else 0,
            ),
        ),
        targets=(Target(ours, 20), Target(ours, 1 / 20, theirs)),
    )


def _copied(lake: Path, target: Path) -> Path:
    """A lake that may be changed; what is never written again is linked."""

    def copy(source: str, copied: str) -> None:
        if source.endswith(".parquet"):
            os.link(source, copied)
        else:
            subprocess.run(["cp", "--reflink=auto", source, copied], check=True)

    shutil.copytree(lake, target, copy_function=copy)
    return target


def _add_series(lake: Any, images: Sequence[Path], number: int) -> None:
    """The images as a further series, settled as an ingest does it; no originals."""
    from dicomlake.catalog import blocks, writer
    from dicomlake.records import SeriesKey

    key = SeriesKey("2.25.9000", f"2.25.9001.{number}")
    own = {_STUDY_UID: ("UI", key.study_uid.encode()), _SERIES_UID: ("UI", key.series_uid.encode())}
    headers = [
        (f"{key.series_uid}.{place}", replace(header, elements=header.elements | own))
        for place, (_uid, header) in enumerate(read_headers(images))
    ]
    with lake._catalog.change("ingest") as (view, v):
        writer.settle(view, v, key, blocks.collect(headers), 0)


_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E


# ---- the first answer


def first_answer(work: Workload, _scratch: Path) -> Job:
    """How many MR series there are, asked by a new process."""
    made = fixture(work, work.sizes.series)
    true = count(made, "Modality = 'MR'")
    ours, theirs = "dicomlake, lake.query", "idc-index, sql_query"
    child.whole_process("first-dicomlake", made.lake)  # the mirror is there from now on
    python = catalog_peers.idc_python()
    missing = "" if python else "idc-index"
    return Job(
        name="first-answer",
        title=f"How many of {made.series:,} series are MR, asked by a new process",
        work=true,
        of="series",
        cases=(
            Case(
                name=ours,
                role="dicomlake",
                run=lambda _: child.whole_process("first-dicomlake", made.lake),
                done=_returned,
            ),
            Case(
                name="DuckDB, the same rows in Parquet",
                role="peer",
                run=lambda _: child.whole_process("first-duckdb", made.rows),
                done=_returned,
            ),
            Case(
                name=theirs,
                role="peer",
                run=lambda _: catalog_peers.first_of_idc_index(python or Path()),
                done=_returned,
                absent=missing if made.series == scale.FULL else "idc-index for made-up rows",
            ),
        ),
        targets=(Target(ours, 1 / 20, theirs),),
    )


def _returned(_context: object, result: int) -> int:
    return result


def count(made: scale.Fixture, where: str) -> int:
    """How many series of the fixture meet a condition in SQL."""
    with scale.connect(made.folder) as connection:
        found = connection.execute(f"SELECT count(*) FROM '{made.rows}' WHERE {where}").fetchone()
    return int(found[0]) if found else 0
