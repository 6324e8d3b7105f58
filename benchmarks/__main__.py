"""`python -m benchmarks [JOB…]`: measure, print the tables, keep them with all figures in a folder."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import report, workload
from benchmarks.harness import Job, run
from benchmarks.jobs import JOBS

_WORK = Path(__file__).parent / "work"


def main(arguments: Sequence[str] | None = None) -> list[report.Result]:
    """Run the jobs named; return what was measured."""
    given = _parser().parse_args(arguments)
    rounds = given.rounds or (1 if given.quick else 3)
    sizes = workload.QUICK if given.quick else workload.Sizes()
    scratch, results = given.work / "scratch", given.work / "results"
    for folder in (scratch, results):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        work = workload.prepare(given.work / "data", sizes)
        found = []
        for name in given.jobs or JOBS:
            job = JOBS[name](work, scratch)
            job = replace(job, targets=()) if given.quick else job  # tiny sizes prove nothing about speed
            found.append(_measured(job, rounds, scratch))
            print(report.job_markdown(found[-1]), flush=True)
        tables = _keep(found, results, rounds)
        if given.publish:
            page = given.publish.read_text(encoding="utf-8")
            given.publish.write_text(report.published(page, tables), encoding="utf-8")
    finally:
        # Only now: ext4 leaves inodes unused for minutes after their files are deleted, and searching
        # past them slows whoever creates files next.
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"kept in {results}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)}; all unless named")
    parser.add_argument("--rounds", type=int, help="how often each case runs (3)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it run at all?")
    parser.add_argument("--publish", type=Path, metavar="PAGE", help="also put the tables into this page")
    parser.add_argument(
        "--work", type=Path, default=_WORK, help="folder for the workload (7 GB), scratch (10 GB), results"
    )
    return parser


def _measured(job: Job, rounds: int, scratch: Path) -> report.Result:
    before = report.load_per_core()
    outcomes = run(job, rounds, scratch)
    return report.Result(job, tuple(outcomes), (before, report.load_per_core()))


def _keep(found: Sequence[report.Result], folder: Path, rounds: int) -> str:
    given = report.conditions(rounds)
    text = report.markdown(found, given)
    (folder / "results.md").write_text(text, encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(report.as_dict(found, given), indent=1))
    return text


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
