"""What is measured in a process of its own: `python -m benchmarks.child VERB ARGUMENT…` prints JSON.

The result has `value` and `result`, as `harness.Measure` has them, and may have `also`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Measure
from benchmarks.workload import evict, files

_PROJECT = Path(__file__).parents[1]
_MB = 1e6


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
    """What a verb below measures by itself."""
    found = json.loads(python("-m", "benchmarks.child", verb, *arguments))
    return Measure(found["value"], None, found["result"], found.get("also", {}))


def whole_process(verb: str, *arguments: str | Path) -> Any:
    """The result of a verb below; whoever calls it times the process, start and imports included."""
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


# ---- verbs


def _slice(values: Any, seconds: float = 0.0) -> dict[str, Any]:
    """Shape and sum of a slice, so that whoever asked can tell whether it is the right one."""
    return {"value": seconds, "result": [list(values.shape), int(values.sum(dtype="int64"))]}


def _evict(folder: str) -> dict[str, Any]:
    evict(files(Path(folder)))
    return {"value": 0.0, "result": folder}


def _dicomlake_slice(series: Any, column: str) -> Any:
    return series.open().image.isel(x=int(column)).values


def _simpleitk_slice(folder: str, column: str) -> Any:
    import SimpleITK

    from benchmarks.peers import simpleitk_volume

    image = simpleitk_volume(Path(folder))  # held: the array below is a view of its memory
    return SimpleITK.GetArrayViewFromImage(image)[:, :, int(column)].copy()


def _whole_dicomlake(lake: str, column: str) -> dict[str, Any]:
    """Nothing is imported or open yet."""
    import dicomlake

    with dicomlake.open(lake) as opened:
        return _slice(_dicomlake_slice(opened.query(Modality="CT")[0], column))


def _whole_simpleitk(folder: str, column: str) -> dict[str, Any]:
    return _slice(_simpleitk_slice(folder, column))


def _slice_dicomlake(lake: str, column: str) -> dict[str, Any]:
    """The series has been found; opening it and computing a slice are timed."""
    import dask.array
    import zarrs

    import dicomlake
    from dicomlake.volumes import read as _read

    _unused = dask.array, zarrs, _read
    with dicomlake.open(lake) as opened:
        series = opened.query(Modality="CT")[0]
        evict(files(Path(lake)))
        started = time.perf_counter()
        values = _dicomlake_slice(series, column)
        return _slice(values, time.perf_counter() - started)


def _slice_simpleitk(folder: str, column: str) -> dict[str, Any]:
    """SimpleITK has been imported."""
    import SimpleITK

    _unused = SimpleITK
    evict(files(Path(folder)))
    started = time.perf_counter()
    values = _simpleitk_slice(folder, column)
    return _slice(values, time.perf_counter() - started)


def _memory_of_dicomlake(lake: str) -> dict[str, Any]:
    """Peak resident memory of building the volumes of a lake."""
    import zarrs

    import dicomlake
    from dicomlake.volumes import build as _build
    from dicomlake.volumes import plan as _plan

    _unused = zarrs, _build, _plan
    with dicomlake.open(lake) as opened:
        return _peak(lambda: sum(volume.shape[0] for volume in opened.build_volumes(progress=False)))


def _memory_of_simpleitk(folder: str) -> dict[str, Any]:
    """Peak resident memory of reading a series whole."""
    import SimpleITK

    from benchmarks.peers import simpleitk_volume

    _unused = SimpleITK
    return _peak(lambda: simpleitk_volume(Path(folder)).GetSize()[2])


def _peak(work: Callable[[], int]) -> dict[str, Any]:
    """MB at the peak; `ru_maxrss` would not do, it keeps the peak of the process that started this one."""
    before, started = _status_mb("VmRSS"), time.perf_counter()
    done = work()
    seconds, peak = time.perf_counter() - started, _status_mb("VmHWM")
    also = {"growth MB": peak - before, "seconds": seconds}
    return {"value": peak, "result": done, "also": also}


def _status_mb(name: str) -> float:
    """A line of proc(5) status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith(f"{name}:"))


_VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "evict": _evict,
    "whole-dicomlake": _whole_dicomlake,
    "whole-simpleitk": _whole_simpleitk,
    "slice-dicomlake": _slice_dicomlake,
    "slice-simpleitk": _slice_simpleitk,
    "memory-dicomlake": _memory_of_dicomlake,
    "memory-simpleitk": _memory_of_simpleitk,
}

if __name__ == "__main__":
    print(json.dumps(_VERBS[sys.argv[1]](*sys.argv[2:])))
