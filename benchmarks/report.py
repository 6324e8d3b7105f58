"""Outcomes as Markdown for people and as JSON for programs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import volume_peers
from benchmarks.harness import Job, Outcome, Spread, Verdict, paired_ratio, spread, verdicts

_PACKAGES = (
    *("dicomlake", "numpy", "pydicom", "pyjpegls", "pylibjpeg-openjpeg", "SimpleITK", "nibabel"),
    *("imagecodecs", "xarray", "zarr", "zarrs", "duckdb", "SQLAlchemy"),
)
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True, slots=True)
class Result:
    """A job that was run. load: the one-minute load average before and after, per core."""

    job: Job
    outcomes: tuple[Outcome, ...]
    load: tuple[float, float]


def load_per_core() -> float:
    """The one-minute load average divided by the cores; well below 1 leaves room to measure."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def conditions(rounds: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "rounds": rounds,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": dict(_versions(_PACKAGES)) | _programs(),
    }


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"


def _programs() -> dict[str, str]:
    """dcm2niix, once or twice: Debian's does not read JPEG-LS, for which another may be there."""
    found = {volume_peers.dcm2niix_program(), volume_peers.dcm2niix_program(jpeg_ls=True)}
    versions = sorted(volume_peers.dcm2niix_version(program) for program in found if program)
    pigz = "with pigz" if shutil.which("pigz") else "without pigz"
    return {"dcm2niix": f"{' and '.join(versions)} {pigz}" if versions else "not installed"}


def as_dict(results: Sequence[Result], given: dict[str, Any]) -> dict[str, Any]:
    """All figures, round by round."""
    return {"conditions": given, "jobs": {one.job.name: _job_dict(one) for one in results}}


def _job_dict(result: Result) -> dict[str, Any]:
    return {
        "title": result.job.title,
        "work": result.job.work,
        "of": result.job.of,
        "unit": result.job.unit,
        "load_per_core": result.load,
        "cases": [
            {
                "name": one.name,
                "role": one.role,
                "values": one.values,
                "cpu_s": one.cpu_s,
                "also": [dict(each) for each in one.also],
                "trouble": one.trouble,
            }
            for one in result.outcomes
        ],
        "targets": [
            {
                "case": one.target.case,
                "against": one.target.against,
                "at_most": one.target.at_most,
                "reached": None if one.reached is None else one.reached.median,
                "range": None if one.reached is None else (one.reached.low, one.reached.high),
                "met": one.met,
            }
            for one in verdicts(result.job, result.outcomes)
        ],
    }


def markdown(results: Sequence[Result], given: dict[str, Any]) -> str:
    """The tables of all jobs."""
    packages = ", ".join(f"{name} {version}" for name, version in given["packages"].items())
    head = (
        f"{given['rounds']} rounds, {given['cores']} cores, {given['system']}, Python {given['python']}; "
        f"{packages}.\n"
    )
    return "\n".join([head, *(job_markdown(one) for one in results)])


def published(page: str, tables: str) -> str:
    """A page with these tables between its two marks. Raises ValueError when it has no marks."""
    before, begin, rest = page.partition(_BEGIN)
    _old, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {_BEGIN} and {_END} to put results between")
    return f"{before}{begin}\n\n{tables.strip()}\n\n{end}{after}"


def job_markdown(result: Result) -> str:
    """The tables of one job: its cases, then its targets."""
    job = result.job
    before, after = result.load
    lines = [
        f"### {job.title}",
        "",
        f"{job.work:,} {job.of}; load per core {before:.1f} before, {after:.1f} after.",
        "",
        f"| case | role | median {job.unit} | min..max | CPU s | {job.of}/s | against the limit |",
        "|---|---|--:|--:|--:|--:|--:|",
        *(_row(job, one, result.outcomes) for one in result.outcomes),
    ]
    judged = verdicts(job, result.outcomes)
    if judged:
        lines += ["", "| target | wanted | reached, median (min..max) | |", "|---|--:|--:|---|"]
        lines += [_target_row(job, one) for one in judged]
    return "\n".join([*lines, ""])


def _row(job: Job, one: Outcome, all_: Sequence[Outcome]) -> str:
    if one.trouble or not one.values:
        return f"| {one.name} | {one.role} | {one.trouble or 'not run'} | | | | |"
    found = spread(one.values)
    rate = f"{job.work / found.median:,.0f}" if job.unit == "s" else ""
    limit = next((o for o in all_ if o.role == "limit" and o.values and not o.trouble), None)
    ratio = _ratio(paired_ratio(one.values, limit.values)) if limit and limit is not one else ""
    cells = (
        one.name + _also(one),
        one.role,
        _digits(found.median),
        f"{_digits(found.low)}..{_digits(found.high)}",
        _digits(spread(one.cpu_s).median),
        rate,
        ratio,
    )
    return f"| {' | '.join(cells)} |"


def _also(one: Outcome) -> str:
    names = dict.fromkeys(name for each in one.also for name in each)
    parts = (f"{name} {_digits(spread([e[name] for e in one.also if name in e]).median)}" for name in names)
    text = ", ".join(parts)
    return f" ({text})" if text else ""


def _target_row(job: Job, one: Verdict) -> str:
    target = one.target
    against = f" / {target.against}" if target.against else f", {job.unit}"
    wanted = f"≤ {_digits(target.at_most)}" + ("x" if target.against else "")
    if one.reached is None:
        return f"| {target.case}{against} | {wanted} | not measured | |"
    reached = _ratio(one.reached) if target.against else _range(one.reached)
    return f"| {target.case}{against} | {wanted} | {reached} | {'met' if one.met else '**missed**'} |"


def _ratio(found: Spread) -> str:
    return f"{_digits(found.median)}x ({_digits(found.low)}..{_digits(found.high)})"


def _range(found: Spread) -> str:
    return f"{_digits(found.median)} ({_digits(found.low)}..{_digits(found.high)})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
