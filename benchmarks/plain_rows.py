"""What a catalog costs that has a row for each instance, with its header as JSON: SQLite in WAL mode."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import catalog_writers

_START_S = 120
_TABLES = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY, SeriesInstanceUID TEXT UNIQUE, StudyInstanceUID TEXT, instances INTEGER
);
CREATE TABLE instance (id INTEGER PRIMARY KEY, SOPInstanceUID TEXT UNIQUE, series INTEGER, header TEXT);
CREATE INDEX instance_of_series ON instance (series);
"""


def measure(folder: Path, writers: int, seconds: float) -> dict[str, Any]:
    """The same as `catalog_writers.measure`, without a reader."""
    path = folder / "rows.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLES)
    connection.close()
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(writers + 1), context.Queue()
    processes = [
        context.Process(target=_write, args=(path, n, seconds, begin, results)) for n in range(writers)
    ]
    for process in processes:
        process.start()
    begin.wait(_START_S)
    ms = [one for _ in processes for one in results.get(timeout=seconds + _START_S)]
    for process in processes:
        process.join(_START_S)
    return {
        "series_per_s": max(len(ms), 1) / seconds,
        "commits": len(ms),
        "commit_ms": statistics.median(ms) if ms else None,
    }


def _write(path: Path, process: int, seconds: float, begin: Any, results: Any) -> None:
    connection = sqlite3.connect(path, timeout=_START_S, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    one = catalog_writers.made(process, 0)
    headers = [
        {f"{tag:08X}": value.decode("latin-1") for tag, (_vr, value) in header.elements.items()}
        for _uid, header in one.headers
    ]
    begin.wait(_START_S)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        _commit(connection, f"{one.key.series_uid}.{len(times)}", one.key.study_uid, headers)
        finished = time.perf_counter()
        if finished > end:
            break
        times.append(1000 * (finished - started))
    connection.close()
    results.put(times)


def _commit(
    connection: sqlite3.Connection, series_uid: str, study_uid: str, headers: list[dict[str, str]]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    values = (series_uid, study_uid, len(headers))
    series = connection.execute("INSERT INTO series VALUES (NULL, ?, ?, ?)", values).lastrowid
    rows = ((f"{series_uid}.{i}", series, json.dumps(header)) for i, header in enumerate(headers))
    connection.executemany("INSERT INTO instance VALUES (NULL, ?, ?, ?)", rows)
    connection.execute("COMMIT")
