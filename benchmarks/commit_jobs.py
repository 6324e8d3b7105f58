"""The job `commits`: whole series of 300 instances, committed by four processes while another one reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import catalog_writers, plain_rows, servers
from benchmarks.harness import Case, Job, Measure, Target
from benchmarks.workload import Workload
from dicomlake.storage import layout

Found = dict[str, Any]
_WRITERS = 4


def commits(work: Workload, _scratch: Path) -> Job:
    """What a series costs, and what a reader waits meanwhile."""
    seconds = work.sizes.writing_s
    ours, theirs = "dicomlake on SQLite", "SQLite, a row with JSON for each instance"
    server = "dicomlake on PostgreSQL"

    def on_sqlite(folder: Path) -> Found:
        found = catalog_writers.measure(folder, _WRITERS, seconds)
        return found | {"kept": _is_kept(folder, found["commits"])}

    def on_postgresql(folder: Path) -> Found:
        with servers.postgresql(folder) as url:
            return catalog_writers.measure(folder, _WRITERS, seconds, url=url)

    def with_json(folder: Path) -> Found:
        return plain_rows.measure(folder, _WRITERS, seconds)

    missing = servers.postgresql_is_missing()
    sqlite, postgresql = _Shared(on_sqlite), _Shared(on_postgresql)
    return Job(
        name="commits",
        title=f"Commits of a series of {catalog_writers.INSTANCES} instances, {_WRITERS} writers, one reader",
        work=1,
        of="runs",
        unit="ms",
        cases=(
            *_pair(ours, sqlite),
            *_pair(server, postgresql, missing),
            Case(name=theirs, role="peer", run=lambda folder: _per_series(with_json(folder)), done=_done),
        ),
        targets=(
            Target(ours, 1000 / 200),
            Target(ours, 1, theirs),
            Target(f"{ours}, the reader's median", 10),
            Target(f"{server}, the reader's median", 10),
        ),
    )


class _Shared:
    """One run for the two cases of a round: whichever comes first leaves its result to the other."""

    def __init__(self, measure: Callable[[Path], Found]) -> None:
        self._measure = measure
        self._left: list[Found] = []

    def __call__(self, folder: Path) -> Found:
        if self._left:
            return self._left.pop()
        self._left.append(self._measure(folder))
        return self._left[0]


def _pair(name: str, shared: _Shared, absent: str = "") -> tuple[Case, Case]:
    """What a series costs, and what a reader waits."""
    return (
        Case(
            name=name,
            role="dicomlake",
            run=lambda folder: _per_series(shared(folder)),
            done=_done,
            absent=absent,
        ),
        Case(
            name=f"{name}, the reader's median",
            role="dicomlake",
            run=lambda folder: _reading(shared(folder)),
            done=_done,
            absent=absent,
        ),
    )


def _per_series(found: Found) -> Measure:
    """Milliseconds a series, all writers together."""
    rate = found["series_per_s"]
    return Measure(1000 / rate, None, found, {"series/s": rate, "commit ms": found["commit_ms"]})


def _reading(found: Found) -> Measure:
    return Measure(found["read_ms"], None, found, {"p99 ms": found["read_p99_ms"]})


def _is_kept(folder: Path, commits: int) -> bool:
    """Whether the catalog holds what was counted, whole; of each writer one more may have come too late."""
    from dicomlake.catalog import reader
    from dicomlake.catalog.catalog import Catalog

    catalog = Catalog.open(folder / layout.CATALOG)
    try:
        with catalog.read() as view:
            counts = reader.counts(view)
    finally:
        catalog.close()
    whole = counts["instances"] == catalog_writers.INSTANCES * counts["series"]
    return whole and 0 <= counts["series"] - 1 - commits <= _WRITERS


def _done(_context: object, found: Found) -> int:
    return int(found["commits"] > 0 and found.get("kept", True))
