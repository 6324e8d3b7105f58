"""Tools that make arrays of DICOM series, each run in a process of its own, with its defaults."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks import outputs
from benchmarks.child import environment
from benchmarks.judge import Run

_TIME_LIMIT_S = 300


@dataclass(frozen=True)
class Contender:
    """A tool. command: for a folder of files and an empty one; load: what it left in the second."""

    name: str
    version: str
    used: str
    command: Callable[[Path, Path], Sequence[str | Path]]
    load: Callable[[Path], list[outputs.Output]]

    def run(self, source: Path, target: Path) -> Run:
        """Make arrays of the files in a folder; what it said goes with them."""
        target.mkdir(parents=True)
        done = subprocess.run(
            [str(part) for part in self.command(source, target)],
            env=environment() | {"PYTHONWARNINGS": "always"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_LIMIT_S,
        )
        return Run(self.load(target), f"{done.stdout}\n{done.stderr}", done.returncode)


def contenders(dcm2niix: Sequence[str] = (), dicom2nifti: str | None = None) -> list[Contender]:
    """The tools that are installed; programs named are used instead of those on the path."""
    found = [
        _package("dicomlake", "dicomlake", "a new lake, `ingest`, `series.open()`"),
        _package("SimpleITK", "simpleitk", "`ImageSeriesReader` for each ID of `GetGDCMSeriesIDs`"),
        _package(
            "highdicom",
            "highdicom",
            "`get_volume_from_series`; `imread(…).get_volume()` for an object of many frames",
        ),
    ]
    programs = [one for one in dcm2niix or ["dcm2niix"] if shutil.which(one)]
    found += [_dcm2niix(one) for one in programs]
    other = shutil.which(dicom2nifti or "dicom2nifti")
    return [one for one in found if one] + ([_dicom2nifti(other)] if other else [])


def _package(name: str, reader: str, used: str) -> Contender | None:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return Contender(
        name,
        version,
        used,
        lambda source, target: [
            sys.executable,
            "-m",
            "benchmarks.outputs",
            reader,
            source,
            target / "outputs.npz",
        ],
        lambda target: outputs.kept(target / "outputs.npz") if (target / "outputs.npz").exists() else [],
    )


def _dcm2niix(program: str) -> Contender:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return Contender(
        "dcm2niix",
        done.stdout.split()[-1],
        "`dcm2niix -f %s_%p`; NIfTI read with nibabel",
        lambda source, target: [program, "-f", "%s_%p", "-o", target, source],
        lambda target: list(outputs.nifti(target)),
    )


def _dicom2nifti(program: str) -> Contender:
    """It may live in an environment of its own: its version is asked of the Python beside it."""
    code = "from importlib.metadata import version; print(version('dicom2nifti'))"
    python = Path(program).parent / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return Contender(
        "dicom2nifti",
        done.stdout.strip() or "?",
        "`dicom2nifti FOLDER TARGET`; NIfTI read with nibabel",
        lambda source, target: [program, source, target],
        lambda target: list(outputs.nifti(target)),
    )


def system() -> str:
    """What the tools ran on."""
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
