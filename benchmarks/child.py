"""What is measured in a process of its own: `python -m benchmarks.child VERB ARGUMENT…` prints JSON.

The verbs are in `benchmarks.verbs`. The result has `value` and `result`, as `harness.Measure` has them,
and may have `also`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Measure

_PROJECT = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """That of this process; byte code is cached, as it is for users."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(_PROJECT), "DICOMLAKE_LAKE": ""}


def python(*arguments: str | Path) -> str:
    """Run Python in a fresh process; return what it printed."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}")
    return done.stdout


def measured(verb: str, *arguments: str | Path) -> Measure:
    """What a verb measures by itself."""
    found = json.loads(python("-m", "benchmarks.child", verb, *arguments))
    return Measure(found["value"], None, found["result"], found.get("also", {}))


def whole_process(verb: str, *arguments: str | Path) -> Any:
    """The result of a verb; whoever calls it times the process, start and imports included."""
    return json.loads(python("-m", "benchmarks.child", verb, *arguments))["result"]


def process_cpu_s(*arguments: str | Path) -> Measure:
    """CPU seconds of a Python process, with what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = python(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measure(cpu, cpu, printed)


def import_s(statement: str, arguments: Sequence[str] = (), *, times: int = 5) -> Measure:
    """Seconds that a statement takes in a fresh process; the median of a few."""
    code = f"import sys, time\nt = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    found = sorted(float(python("-c", code, *arguments)) for _ in range(times))
    return Measure(found[times // 2], None, len(found))


def main(verb: str, *arguments: str) -> None:
    """Print what a verb has found."""
    from benchmarks.verbs import VERBS

    print(json.dumps(VERBS[verb](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
