"""Other tools that make a volume of a series, and cut patches out of one."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import voxels
from benchmarks.peers import absent, sync

if TYPE_CHECKING:
    import SimpleITK

Corner = tuple[int, int, int]


# ---- SimpleITK


def simpleitk_volume(folder: Path) -> SimpleITK.Image:
    """The series in a folder as a SimpleITK image, sorted by position."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image: SimpleITK.Image = reader.Execute()
    return image


def simpleitk_nrrd(source: Path, folder: Path) -> Path:
    """A series as compressed NRRD, durable."""
    import SimpleITK

    target = folder / "volume.nrrd"
    SimpleITK.WriteImage(simpleitk_volume(source), str(target), useCompression=True)
    sync(target)
    return target


# ---- dcm2niix


@cache
def _version_line(program: Path) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def dcm2niix_program(*, jpeg_ls: bool = False) -> Path | None:
    """dcm2niix on the path, else that of the Python package `dcm2niix`; one that reads JPEG-LS if it must,
    which Debian's does not."""
    found = [shutil.which("dcm2niix")]
    if not absent("dcm2niix"):
        found.append(import_module("dcm2niix").bin)
    programs = [Path(program) for program in found if program]
    return next((one for one in programs if not jpeg_ls or "JP-LS" in _version_line(one)), None)


def dcm2niix_version(program: Path) -> str:
    """Version and codecs, as it tells them."""
    return _version_line(program).partition("version ")[2]


def dcm2niix_gz(program: Path, source: Path, folder: Path) -> Path:
    """A series as .nii.gz, durable; compressed by pigz, on all cores, where that is installed."""
    _dcm2niix(program, source, folder, "y")
    sync(folder / "volume.nii.gz")
    return folder / "volume.nii.gz"


def dcm2niix_plain(program: Path, source: Path, folder: Path) -> Path:
    """A series as .nii."""
    _dcm2niix(program, source, folder, "n")
    return folder / "volume.nii"


def _dcm2niix(program: Path, source: Path, folder: Path, compression: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [program, "-z", compression, "-f", "volume", "-o", folder, source]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"dcm2niix ended with status {done.returncode}")


# ---- pydicom


def pydicom_stack(source: Path, target: Path) -> int:
    """A series as a durable .npy of stored values, decoded by as many processes as there are cores."""
    import pydicom

    paths = voxels.by_position(source)
    first = pydicom.dcmread(paths[0])
    shape, dtype = (len(paths), *first.pixel_array.shape), first.pixel_array.dtype
    np.lib.format.open_memmap(target, mode="w+", dtype=dtype, shape=shape).flush()
    count = os.cpu_count() or 1
    fork = multiprocessing.get_context("fork")  # only ever called in a fresh process without threads
    with ProcessPoolExecutor(count, mp_context=fork) as workers:
        parts = [range(k, len(paths), count) for k in range(count)]
        done = sum(workers.map(_stack_part, [target] * count, [paths] * count, parts))
    sync(target)
    return done


def _stack_part(target: Path, paths: Sequence[Path], part: Sequence[int]) -> int:
    import pydicom

    volume: Any = np.load(target, mmap_mode="r+")
    for k in part:
        volume[k] = pydicom.dcmread(paths[k]).pixel_array
    volume.flush()
    return len(part)


def pydicom_patch(paths: Sequence[Path], corner: Corner, side: int) -> np.ndarray:
    """A cube of stored values, from the slices that it crosses; paths: in order."""
    import pydicom

    z, y, x = corner
    return np.stack([pydicom.dcmread(p).pixel_array[y : y + side, x : x + side] for p in paths[z : z + side]])
