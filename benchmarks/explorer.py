"""The jobs of the cohort explorer at the size of the large catalog: letting go of a brush, and taking one.

Values are CPU milliseconds of the process, all threads together: on a hub these are what many users share.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.catalog_jobs import fixture, opened
from benchmarks.harness import Case, Job, Measure, Target
from benchmarks.workload import Workload

_TIMES = 7
_TEXTS = ("Modality", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "PatientSex")
_KERNEL = "ConvolutionKernel"
_NUMBERS = {"SliceThickness": 0.5, "PatientAge": 2.5, "MagneticFieldStrength": 0.5}  # widths of peers' bins
FACETS = (*_TEXTS, _KERNEL, *_NUMBERS, "StudyDate")
_PAGE = ("PatientID", "StudyDate", "Modality", "BodyPartExamined", "SeriesDescription", "instances")
_CHOSEN = ("CT", "MR")

Recount = Callable[[float, float], Mapping[str, Any]]
"""Ends of an age to what is shown: "sizes" (series, studies, patients) and "Modality", value -> series."""


def _cpu(ask: Callable[[float, float], Any]) -> Measure:
    """CPU milliseconds for one age range after another, the median; the last answer, with its range."""
    ms, answer = [], None
    ages = itertools.islice(itertools.product((40.0, 45.0, 50.0, 55.0), (60.0, 65.0)), _TIMES)
    for low, high in ages:
        started = time.process_time()
        answer = ask(low, high)
        ms.append(1000 * (time.process_time() - started))
    return Measure(statistics.median(ms), None, ((low, high), answer))


def release(work: Workload, _scratch: Path) -> Job:
    """Counts of ten facets, of studies and patients, and the first page, under a brush that was let go."""
    made = fixture(work, work.sizes.series)

    @contextmanager
    def ours(_folder: Path) -> Iterator[Recount]:
        with opened(made) as lake:
            explorer, _ask = _explorer(lake)
            yield lambda low, high: _released(explorer, low, high)

    @contextmanager
    def duckdb(_folder: Path) -> Iterator[Recount]:
        with _duckdb(made.rows) as connection:
            yield lambda low, high: _duckdb_recount(connection, low, high)

    @contextmanager
    def polars(_folder: Path) -> Iterator[Recount]:
        frame = import_module("polars").read_parquet(made.rows)
        yield lambda low, high: _polars_recount(frame, low, high)

    with _duckdb(made.rows) as connection:
        true = {(a, b): _duckdb_true(connection, a, b) for a in (40, 45, 50, 55) for b in (60, 65)}

    def right(_context: object, found: Any) -> int:
        ends, told = found
        return len(FACETS) if {name: told[name] for name in true[ends]} == true[ends] else 0

    name, theirs = "dicomlake explorer", "DuckDB, series in memory"
    return Job(
        name="explore",
        title=f"A brush let go: {len(FACETS)} facets of {made.series:,} series and a page, CPU",
        work=len(FACETS),
        of="facets",
        unit="ms",
        cases=(
            Case(name=name, role="dicomlake", run=_cpu, done=right, around=ours),
            Case(name=theirs, role="peer", run=_cpu, done=right, around=duckdb),
            Case(
                name="polars, series in memory",
                role="peer",
                run=_cpu,
                done=right,
                around=polars,
                absent=peers.absent("polars"),
            ),
        ),
        targets=(Target(name, 150), Target(name, 1, theirs)),
    )


def brush(work: Workload, _scratch: Path) -> Job:
    """The cube that is made when a brush is taken, after which nothing is asked until it is let go."""
    made = fixture(work, work.sizes.series)

    @contextmanager
    def ours(_folder: Path) -> Iterator[Any]:
        with opened(made) as lake:
            explorer, _ask = _explorer(lake)
            yield explorer._engine

    def cubes(engine: Any) -> Measure:
        ms, shape = [], (0, 0)
        for _ in range(_TIMES):
            started = time.process_time()
            found, _places = engine.cube("PatientAge")
            ms.append(1000 * (time.process_time() - started))
            shape = found.shape
        return Measure(statistics.median(ms), None, found, {"kB": found.nbytes / 1000, "rows": shape[0]})

    def right(engine: Any, found: Any) -> int:
        """The last sum, with those that have no value, is all series that have an age or none."""
        return len(FACETS) if int(found[-1, 0] + found[0, 0]) == engine.sizes()["series"] else 0

    name = "dicomlake explorer"
    return Job(
        name="brush",
        title=f"A brush taken: the cube of {len(FACETS)} facets of {made.series:,} series, CPU",
        work=len(FACETS),
        of="facets",
        unit="ms",
        cases=(Case(name=name, role="dicomlake", run=cubes, done=right, around=ours),),
        targets=(Target(name, 60),),
    )


# ---- ours


def _explorer(lake: Any) -> tuple[Any, Any]:
    """An explorer of which everything is in memory, as after its first picture."""
    from dicomlake.widgets.explorer.explorer import Explorer

    explorer = Explorer(lake, facets=FACETS, columns=_PAGE)
    explorer.hold_columns()
    return explorer, explorer._shown()


def _released(explorer: Any, low: float, high: float) -> Mapping[str, Any]:
    """What the widget does: one ask, one trait, one answer."""
    explorer.query = f"Modality={','.join(_CHOSEN)}"
    ends = [f"{low:g}", f"{high:g}"]
    shown = explorer._brush({"facet": "PatientAge", "ends": ends, "missing": False}, []).data
    facet = next(one for one in shown["facets"] if one["name"] == "Modality")
    counts = dict(zip(facet["values"], facet["now"][1:], strict=False))
    sizes = shown["sizes"]
    return {
        "sizes": (sizes["series"], sizes["studies"], sizes["patients"]),
        "Modality": {name: n for name, n in counts.items() if n},
        "page": len(shown["page"]["rows"]),
    }


# ---- peers


@contextmanager
def _duckdb(rows: Path) -> Iterator[Any]:
    """The columns that are asked for, in memory."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        columns = dict.fromkeys((*FACETS, *_PAGE, "series_id", "StudyInstanceUID"))
        connection.execute(
            f"CREATE TABLE series AS SELECT {', '.join(columns)} FROM '{rows}' ORDER BY series_id"
        )
        yield connection


def _where(low: float, high: float, without: str = "") -> str:
    tests = {
        "Modality": f"Modality IN ({', '.join(repr(one) for one in _CHOSEN)})",
        "PatientAge": f"PatientAge BETWEEN {low} AND {high}",
    }
    return " AND ".join(test for name, test in tests.items() if name != without)


def _duckdb_true(connection: Any, low: float, high: float) -> dict[str, Any]:
    counts = "count(*), count(DISTINCT StudyInstanceUID), count(DISTINCT PatientID)"
    sizes = connection.execute(f"SELECT {counts} FROM series WHERE {_where(low, high)}").fetchone()
    query = f"SELECT Modality, count(*) FROM series WHERE {_where(low, high, 'Modality')} GROUP BY 1"
    return {"sizes": tuple(sizes), "Modality": dict(connection.execute(query).fetchall())}


def _duckdb_recount(connection: Any, low: float, high: float) -> Mapping[str, Any]:
    for facet in (*_TEXTS[1:], _KERNEL):
        where = _where(low, high, facet)
        connection.execute(f"SELECT {facet}, count(*) FROM series WHERE {where} GROUP BY 1").fetchall()
    for facet, width in _NUMBERS.items():
        bins, where = f"floor({facet} / {width})", _where(low, high, facet)
        connection.execute(f"SELECT {bins}, count(*) FROM series WHERE {where} GROUP BY 1").fetchall()
    years = f"SELECT left(StudyDate, 4), count(*) FROM series WHERE {_where(low, high)} GROUP BY 1"
    connection.execute(years).fetchall()
    page = f"SELECT {', '.join(_PAGE)} FROM series WHERE {_where(low, high)} LIMIT 200"
    rows = connection.execute(page).fetchall()
    return _duckdb_true(connection, low, high) | {"page": len(rows)}


def _polars_recount(frame: Any, low: float, high: float) -> Mapping[str, Any]:
    pl = import_module("polars")
    lazy = frame.lazy()
    tests = {
        "Modality": pl.col("Modality").is_in(_CHOSEN),
        "PatientAge": pl.col("PatientAge").is_between(low, high),
    }

    def met(without: str = "") -> Any:
        return lazy.filter(*(test for name, test in tests.items() if name != without))

    asked = [met(facet).group_by(facet).len() for facet in (*_TEXTS, _KERNEL)]
    asked += [met(n).group_by((pl.col(n) / width).floor()).len() for n, width in _NUMBERS.items()]
    asked.append(met().group_by(pl.col("StudyDate").str.head(4)).len())
    asked.append(
        met().select(pl.len(), pl.col("StudyInstanceUID").n_unique(), pl.col("PatientID").n_unique())
    )
    asked.append(met().select(_PAGE).head(200))
    found = pl.collect_all(asked)
    return {
        "sizes": found[-2].row(0),
        "Modality": dict(found[0].iter_rows()),
        "page": len(found[-1]),
    }


JOBS: dict[str, Callable[[Workload, Path], Job]] = {"explore": release, "brush": brush}
