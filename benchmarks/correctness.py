"""`python -m benchmarks.correctness [CASE…]`: every tool on every edge case, judged against the truth."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import edge_page
from benchmarks.contenders import Contender, contenders
from benchmarks.edge_truth import Truth, truth_of
from benchmarks.judge import Run, Verdict, judge, lines
from dicomlake.datasets.edge_cases import EdgeCase, cases

_WORK = Path(__file__).parent / "work" / "correctness"
_PLAIN = ("axial", "coronal", "oblique")
"""What a tool says of these, it says of anything: such lines warn of nothing."""
_AT_ONCE = 2


@dataclass(frozen=True)
class Row:
    """A case and what each tool made of it."""

    case: EdgeCase
    verdicts: Mapping[Contender, Verdict]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run and judge; return a row for each case."""
    given = _parser().parse_args(arguments)
    tools = contenders(given.dcm2niix, given.dicom2nifti)
    chosen = [case for case in cases() if not given.cases or case.name in given.cases]
    shutil.rmtree(given.work, ignore_errors=True)
    found = judged(chosen, tools, given.work)
    print(edge_page.totals(found))
    for row in found:
        for tool, verdict in row.verdicts.items():
            print(f"{row.case.name:32}{tool.name:12}{verdict.mark:9}{verdict.why}")
    _keep(found, given.work)
    if given.publish:
        given.publish.write_text(edge_page.page(found), encoding="utf-8")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.correctness", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of cases; all unless named")
    parser.add_argument("--publish", type=Path, metavar="PAGE", help="also write this page")
    parser.add_argument("--work", type=Path, default=_WORK, help="folder for files, outputs and results.json")
    parser.add_argument("--dcm2niix", action="append", metavar="PROGRAM", help="one or more; else on PATH")
    parser.add_argument("--dicom2nifti", metavar="PROGRAM", help="in an environment of its own; else on PATH")
    return parser


def judged(chosen: Sequence[EdgeCase], tools: Sequence[Contender], work: Path) -> list[Row]:
    """Run every tool on every case, two processes at a time, and on the plain ones for what it always says."""
    plain = [case for case in cases() if case.name in _PLAIN]
    every = {case.name: case for case in [*plain, *chosen]}
    for case in every.values():
        write(case, work / "cases" / case.name)
    jobs = [(tool, name) for name in every for tool in tools]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = dict(zip(jobs, pool.map(lambda job: _run(*job, work), jobs), strict=True))
    usual = {tool: lines("\n".join(runs[tool, case.name].said for case in plain)) for tool in tools}
    return [_row(truth_of(case), {t: runs[t, case.name] for t in tools}, usual) for case in chosen]


def write(case: EdgeCase, folder: Path) -> None:
    """The files of a case."""
    folder.mkdir(parents=True)
    for i, data in enumerate(case.files()):
        (folder / f"{i:03d}.dcm").write_bytes(data)


def _run(tool: Contender, name: str, work: Path) -> Run:
    return tool.run(work / "cases" / name, work / f"{tool.name}-{tool.version}" / name)


def _row(truth: Truth, runs: Mapping[Contender, Run], usual: Mapping[Contender, frozenset[str]]) -> Row:
    return Row(truth.case, {tool: judge(truth, run, usual[tool]) for tool, run in runs.items()})


def _keep(found: Sequence[Row], work: Path) -> None:
    kept = {
        row.case.name: {f"{tool.name} {tool.version}": asdict(v) for tool, v in row.verdicts.items()}
        for row in found
    }
    (work / "results.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
