"""The verbs of `benchmarks.child`: what is measured in a process of its own.

A slice is told by its shape and checksum, so that whoever asked can tell whether it is the right one.
"""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.workload import evict, files

Found = dict[str, Any]
_MB = 1e6


def _evict(folder: str) -> Found:
    evict(files(Path(folder)))
    return {"value": 0.0, "result": folder}


# ---- one sagittal slice, in HU


def _slice(values: Any, slope: float, intercept: float, seconds: float = 0.0) -> Found:
    from benchmarks.voxels import digest, rescaled

    values = rescaled(values, slope, intercept)
    return {"value": seconds, "result": [list(values.shape), digest(values)]}


def _dicomlake_slice(series: Any, column: str) -> tuple[Any, float, float]:
    image = series.open().image.isel(x=int(column))
    return image.values, image.attrs["rescale_slope"], image.attrs["rescale_intercept"]


def _simpleitk_slice(folder: str, column: str) -> tuple[Any, float, float]:
    import SimpleITK

    from benchmarks.volume_peers import simpleitk_volume

    image = simpleitk_volume(Path(folder))  # held: the array below is a view of its memory
    return SimpleITK.GetArrayViewFromImage(image)[:, :, int(column)].copy(), 1, 0


def _nibabel_slice(folder: str, column: str) -> tuple[Any, float, float]:
    """Of volume.nii.gz. The whole file is inflated at once: slicing `dataobj` takes twice as long."""
    import nibabel

    image: Any = nibabel.load(Path(folder) / "volume.nii.gz")
    values = image.dataobj.get_unscaled()[int(column)]
    return values.T[:, ::-1], image.dataobj.slope, image.dataobj.inter


def _whole_dicomlake(lake: str, column: str) -> Found:
    """Nothing is imported or open yet."""
    import dicomlake

    with dicomlake.open(lake) as opened:
        return _slice(*_dicomlake_slice(opened.query(Modality="CT")[0], column))


def _whole_simpleitk(folder: str, column: str) -> Found:
    return _slice(*_simpleitk_slice(folder, column))


def _whole_nibabel(folder: str, column: str) -> Found:
    return _slice(*_nibabel_slice(folder, column))


def _slice_dicomlake(lake: str, column: str) -> Found:
    """The series has been found; opening it and computing a slice are timed."""
    import dask.array
    import zarrs

    import dicomlake
    from dicomlake.volumes import accessor as _accessor
    from dicomlake.volumes import read as _read

    _unused = zarrs, _accessor, _read
    dask.array.zeros(1).compute()  # Dask imports its scheduler when it first computes
    with dicomlake.open(lake) as opened:
        series = opened.query(Modality="CT")[0]
        return _cold_slice(_dicomlake_slice, series, lake, column)


def _slice_simpleitk(folder: str, column: str) -> Found:
    """SimpleITK has been imported."""
    import SimpleITK

    from benchmarks import volume_peers as _peers

    _unused = SimpleITK, _peers
    return _cold_slice(_simpleitk_slice, folder, folder, column)


def _slice_nibabel(folder: str, column: str) -> Found:
    """nibabel has been imported."""
    import nibabel

    _unused = nibabel
    return _cold_slice(_nibabel_slice, folder, folder, column)


def _cold_slice(
    take: Callable[[Any, str], tuple[Any, float, float]], given: Any, folder: str, column: str
) -> Found:
    evict(files(Path(folder)))
    started = time.perf_counter()
    taken = take(given, column)
    return _slice(*taken, time.perf_counter() - started)


# ---- memory


def _memory_of_building(lake: str) -> Found:
    """Of the volumes of a lake whose originals are there."""
    import zarrs

    import dicomlake
    from dicomlake.volumes import build as _build
    from dicomlake.volumes import plan as _plan

    _unused = zarrs, _build, _plan
    with dicomlake.open(lake) as opened:
        return _peak(lambda: sum(volume.shape[0] for volume in opened.build_volumes(progress=False)))


def _memory_of_ingest(lake: str, source: str) -> Found:
    """Of taking in a folder, copies of the originals and volumes."""
    import dicomlake

    with dicomlake.open(lake, create=True) as opened:

        def ingest() -> int:
            opened.ingest(source, progress=False)
            return sum(volume.shape[0] for volume in opened.volumes() if volume.key)

        return _peak(ingest)


def _memory_of_simpleitk(source: str) -> Found:
    """Of reading a series, or an object with many frames, whole."""
    import SimpleITK

    from benchmarks.volume_peers import simpleitk_volume

    def read() -> int:
        paths = files(Path(source))
        image = simpleitk_volume(Path(source)) if len(paths) > 1 else SimpleITK.ReadImage(str(paths[0]))
        return int(image.GetSize()[2])

    return _peak(read)


def _memory_of_dcm2niix(program: str, source: str, target: str) -> Found:
    """Of the program, which is the only child of this process."""
    from benchmarks.volume_peers import dcm2niix_plain

    started = time.perf_counter()
    made = dcm2niix_plain(Path(program), Path(source), Path(target))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / _MB
    with made.open("rb") as stream:
        slices = struct.unpack_from("<8h", stream.read(64), 40)[3]  # `dim` of the NIfTI-1 header
    made.unlink()
    return {"value": peak, "result": slices, "also": {"seconds": seconds}}


def _peak(work: Callable[[], int]) -> Found:
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


# ---- stacking


def _stack_pydicom(source: str, target: str) -> Found:
    """pydicom has been imported; the start of its processes is timed."""
    import pydicom
    import pydicom.pixels

    from benchmarks.volume_peers import pydicom_stack

    _unused = pydicom, pydicom.pixels
    started = time.perf_counter()
    done = pydicom_stack(Path(source), Path(target))
    return {"value": time.perf_counter() - started, "result": done}


# ---- a first answer


def _first_dicomlake(lake: str) -> Found:
    import dicomlake

    with dicomlake.open(lake) as opened:
        return {"value": 0.0, "result": len(opened.query(Modality="MR"))}


def _first_duckdb(rows: str) -> Found:
    import duckdb

    found = duckdb.execute(f"SELECT count(*) FROM '{rows}' WHERE Modality = 'MR'").fetchone()
    return {"value": 0.0, "result": found[0] if found else 0}


VERBS: dict[str, Callable[..., Found]] = {
    "evict": _evict,
    "whole-dicomlake": _whole_dicomlake,
    "whole-simpleitk": _whole_simpleitk,
    "whole-nibabel": _whole_nibabel,
    "slice-dicomlake": _slice_dicomlake,
    "slice-simpleitk": _slice_simpleitk,
    "slice-nibabel": _slice_nibabel,
    "memory-build": _memory_of_building,
    "memory-ingest": _memory_of_ingest,
    "memory-simpleitk": _memory_of_simpleitk,
    "memory-dcm2niix": _memory_of_dcm2niix,
    "stack-pydicom": _stack_pydicom,
    "first-dicomlake": _first_dicomlake,
    "first-duckdb": _first_duckdb,
}
