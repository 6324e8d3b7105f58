"""What the catalog is measured against: Orthanc, idc-index, DuckDB, polars and SQLite on the same rows."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path

from benchmarks import peers, scale, scale_attributes
from benchmarks.workload import files
from dicomlake.storage import layout

_AT_ONCE = 10_000  # series
_QUOTE = "'"

# ---- Orthanc


def orthanc_archive(program: Path, made: Path) -> Path:
    """Orthanc's store of the files in `made / "files"`, uploaded unless that was done before."""
    store, done = made / "orthanc", made / "orthanc-is-complete"
    if not done.exists():
        paths = files(made / "files")
        with peers.orthanc(program, store)(made) as server:
            server.post(paths)
            if server.instances() != len(paths):
                raise RuntimeError(f"Orthanc holds {server.instances():,} of {len(paths):,} instances")
        done.touch()
    return store


def orthanc_series_id(facts: Mapping[str, str]) -> str:
    """What Orthanc calls a series: the SHA-1 of three identifiers, in groups of eight digits."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    digest = hashlib.sha1("|".join(facts[name] for name in names).encode()).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


# ---- idc-index


def idc_python() -> Path | None:
    """A Python that has idc-index: this one, or the one in IDC_INDEX_PYTHON, as it wants an older DuckDB."""
    if not peers.absent("idc_index"):
        return Path(sys.executable)
    given = os.environ.get("IDC_INDEX_PYTHON")
    return Path(given) if given else None


def first_of_idc_index(python: Path) -> int:
    """How many MR series idc-index counts, from the start of a process."""
    code = (
        "from idc_index import IDCClient; "
        "print(IDCClient().sql_query(\"SELECT count(*) FROM index WHERE Modality = 'MR'\").iloc[0, 0])"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


# ---- one series by its UID


@contextmanager
def sqlite_by_uid(lake: Path) -> Iterator[Callable[[str], str]]:
    """The row alone, by the index, without anything around it."""
    connection = sqlite3.connect(f"file:{lake / layout.CATALOG}?mode=ro", uri=True)
    query = "SELECT * FROM series WHERE SeriesInstanceUID = ? AND v_to IS NULL"
    try:
        yield lambda uid: str(connection.execute(query, (uid,)).fetchone()[1])
    finally:
        connection.close()


@contextmanager
def duckdb_by_uid(rows: Path) -> Iterator[Callable[[str], str]]:
    """A scan of one column of the Parquet."""
    import duckdb

    query = f"SELECT SeriesInstanceUID, * FROM '{rows}' WHERE SeriesInstanceUID = ?"
    with duckdb.connect(":memory:") as connection:
        yield lambda uid: str((connection.execute(query, [uid]).fetchone() or ("",))[0])


# ---- full headers as JSON


def json_key(path: str) -> str:
    """What an element is called in a JSON header: its path, without the quotes that JSON paths stumble on."""
    return path.replace('"', "'")


def json_headers(made: scale.Fixture) -> Path:
    """A Parquet file with the header of each series as JSON text, element path to value."""
    target = made.folder / "headers.parquet"
    if target.exists():
        return target
    unfinished = target.with_suffix(".part")
    with scale.connect(made.folder) as connection:
        long = scale_attributes.select(connection, "chosen")
        connection.execute("CREATE TABLE header (series_id BIGINT, header VARCHAR)")
        for first in range(1, made.series + 1, _AT_ONCE):
            last = first + _AT_ONCE - 1
            connection.execute(
                f"INSERT INTO header WITH chosen AS "
                f"(SELECT * FROM '{made.rows}' WHERE series_id BETWEEN {first} AND {last}) "
                f"SELECT series_id, json_group_object(replace(path, '\"', ''''), text) "
                f"FROM ({long}) GROUP BY series_id ORDER BY series_id"
            )
        connection.execute(f"COPY header TO '{unfinished}' (FORMAT parquet, COMPRESSION zstd)")
    unfinished.rename(target)
    return target


def sqlite_headers(made: scale.Fixture) -> Path:
    """The same as a table of SQLite."""
    target = made.folder / "headers.sqlite"
    if target.exists():
        return target
    unfinished = target.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    with scale.connect(made.folder) as source, closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("CREATE TABLE header (series_id INTEGER PRIMARY KEY, header TEXT)")
        found = source.execute(f"SELECT series_id, header FROM '{json_headers(made)}' ORDER BY series_id")
        while rows := found.fetchmany(_AT_ONCE):
            connection.executemany("INSERT INTO header VALUES (?, ?)", rows)
        connection.commit()
    unfinished.rename(target)
    return target


def duckdb_json_count(headers: Path, path: str, condition: str) -> int:
    """How many headers hold a value under a path that meets a condition on `value`."""
    import duckdb

    value = f"json_extract_string(header, '$.\"{json_key(path).replace(_QUOTE, _QUOTE * 2)}\"')"
    query = f"SELECT count(*) FROM (SELECT {value} AS value FROM '{headers}') WHERE {condition}"
    found = duckdb.execute(query).fetchone()
    return int(found[0]) if found else 0


def sqlite_json_count(headers: Path, path: str, condition: str) -> int:
    """The same by SQLite."""
    value = f"json_extract(header, '$.\"{json_key(path).replace(_QUOTE, _QUOTE * 2)}\"')"
    query = f"SELECT count(*) FROM (SELECT {value} AS value FROM header) WHERE {condition}"
    with closing(sqlite3.connect(f"file:{headers}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


# ---- facets


Counts = dict[str, dict[str | None, int]]


def duckdb_facets(rows: Path, facets: Sequence[str], chosen: Mapping[str, str]) -> Counts:
    """Facet -> value -> series; each facet counts those that meet the choices made in the others."""
    import duckdb

    found: Counts = {}
    with duckdb.connect(":memory:") as connection:
        for facet in facets:
            others = {name: value for name, value in chosen.items() if name != facet}
            where = " AND ".join(f"{name} = ?" for name in others) or "true"
            query = f"SELECT {facet}, count(*) FROM '{rows}' WHERE {where} GROUP BY 1"
            found[facet] = dict(connection.execute(query, list(others.values())).fetchall())
    return found


def polars_facets(rows: Path, facets: Sequence[str], chosen: Mapping[str, str]) -> Counts:
    """The same by polars, all facets in one go."""
    polars = import_module("polars")
    scan = polars.scan_parquet(rows)
    asked = []
    for facet in facets:
        others = [polars.col(name) == value for name, value in chosen.items() if name != facet]
        asked.append((scan.filter(*others) if others else scan).group_by(facet).len())
    frames = polars.collect_all(asked)
    return {facet: dict(frame.iter_rows()) for facet, frame in zip(facets, frames, strict=True)}


def duckdb_reads_series(rows: Path) -> int:
    """The series anew into memory, as a table of DuckDB; returns how many."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        found = connection.execute(f"CREATE TABLE series AS SELECT * FROM '{rows}'").fetchone()
    return int(found[0]) if found else 0
