"""The jobs over all series of the large catalog, or over all their headers: `facets` and `any-tag`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import catalog_peers, peers, scale
from benchmarks.catalog_jobs import count, fixture, opened
from benchmarks.harness import Case, Job, Measure, Target
from benchmarks.workload import Workload

_TIMES = 5
FACETS = (
    *("Modality", "BodyPartExamined", "Manufacturer", "ManufacturerModelName"),
    *("PatientSex", "InstitutionName", "ConvolutionKernel", "PatientPosition"),
)
CHOSEN = {"Modality": "CT", "BodyPartExamined": "CHEST", "Manufacturer": "SIEMENS"}
"""What somebody has clicked on; the counts of a facet ignore its own choice."""


def _median(ask: Callable[[], Any]) -> Measure:
    """Milliseconds of an answer, the median of some."""
    ms = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        answer = ask()
        ms.append(1000 * (time.perf_counter() - started))
    return Measure(statistics.median(ms), None, answer)


# ---- facets


def facets(work: Workload, _scratch: Path) -> Job:
    """Counts of eight facets under three choices."""
    made = fixture(work, work.sizes.series)
    true = catalog_peers.duckdb_facets(made.rows, FACETS, CHOSEN)
    ours, theirs = "dicomlake.catalog.facets", "DuckDB, the same series in Parquet"

    def right(_context: object, found: catalog_peers.Counts) -> int:
        return sum(found.get(facet) == counts for facet, counts in true.items())

    @contextmanager
    def lake(_folder: Path) -> Iterator[Callable[[], catalog_peers.Counts]]:
        with opened(made) as found:
            _facets_of(found)
            yield lambda: _facets_of(found)

    return Job(
        name="facets",
        title=f"{len(FACETS)} cross-filtered facets of {made.series:,} series, the median of {_TIMES}",
        work=len(FACETS),
        of="facets",
        unit="ms",
        cases=(
            Case(name=ours, role="dicomlake", run=_median, done=right, around=lake),
            Case(
                name=theirs,
                role="peer",
                run=lambda _: _median(lambda: catalog_peers.duckdb_facets(made.rows, FACETS, CHOSEN)),
                done=right,
            ),
            Case(
                name="polars, the same",
                role="peer",
                run=lambda _: _median(lambda: catalog_peers.polars_facets(made.rows, FACETS, CHOSEN)),
                done=right,
                absent=peers.absent("polars"),
            ),
        ),
        targets=(Target(ours, 60), Target(ours, 1, theirs)),
    )


def _facets_of(lake: Any) -> catalog_peers.Counts:
    """Facet -> value -> series, by the module that the widgets use."""
    from dicomlake.catalog.facets import counts

    return counts(lake._mirror.session(), FACETS, CHOSEN)


# ---- any element


@dataclass(frozen=True, slots=True)
class _Question:
    """A condition on an element. wanted: of `lake.query`. condition: in SQL, on its JSON `value`.

    true: the same in SQL on the columns of the series and their numbers, by the formula of the fixture.
    """

    name: str
    path: str
    wanted: Any
    condition: str
    true: str


_QUESTIONS = (
    _Question(
        "a range of KVP", "KVP", (110, 120), "CAST(value AS DOUBLE) BETWEEN 110 AND 120", "KVP IN (110, 120)"
    ),
    _Question(
        "a private element",
        '0019,xx0C["SIEMENS MR HEADER"]',
        5,
        "value = '5'",
        "Modality = 'MR' AND Manufacturer ILIKE 'siemens%' AND (series_id * 31 + 5) % 12 = 5",
    ),
    _Question(
        "a nested element",
        "ProcedureCodeSequence.CodeMeaning",
        "VALUE 17",
        "value = 'VALUE 17'",
        "(series_id * 7919 + 33) % 300 = 17",
    ),
)


def any_tag(work: Workload, _scratch: Path) -> Job:
    """One condition over the full headers of many series."""
    made = fixture(work, work.sizes.tagged)
    stores = (
        ("DuckDB, JSON in Parquet", catalog_peers.duckdb_json_count, catalog_peers.json_headers(made)),
        ("SQLite, JSON", catalog_peers.sqlite_json_count, catalog_peers.sqlite_headers(made)),
    )
    cases, targets = [], []
    for question in _QUESTIONS:
        true = count(made, question.true)
        ours = f"dicomlake: {question.name}"
        cases.append(_ours(ours, made, question, true))
        targets.append(Target(ours, 50))
        for name, ask, store in stores:
            cases.append(_theirs(f"{name}: {question.name}", ask, store, question, true))
            targets.append(Target(ours, 1, f"{name}: {question.name}"))
    return Job(
        name="any-tag",
        title=f"One condition over the headers of {made.series:,} series, the median of {_TIMES}",
        work=1,
        of="questions",
        unit="ms",
        cases=tuple(cases),
        targets=tuple(targets),
    )


def _ours(name: str, made: scale.Fixture, question: _Question, true: int) -> Case:
    @contextmanager
    def lake(_folder: Path) -> Iterator[Any]:
        with opened(made) as found:
            len(found.query(**{question.path: question.wanted}))
            yield found

    return Case(
        name=name,
        role="dicomlake",
        run=lambda lake: _median(lambda: len(lake.query(**{question.path: question.wanted}))),
        done=lambda _, found: int(found == true),
        around=lake,
    )


def _theirs(
    name: str, ask: Callable[[Path, str, str], int], store: Path, question: _Question, true: int
) -> Case:
    return Case(
        name=name,
        role="peer",
        run=lambda _: _median(lambda: ask(store, question.path, question.condition)),
        done=lambda _, found: int(found == true),
    )
