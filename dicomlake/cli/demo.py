"""`dicomlake demo`: a lake of sample data, to look at and to play with."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicomlake.cli.common import examples, open_lake, shown

if TYPE_CHECKING:
    from dicomlake.lake import Lake

EXAMPLES = examples("dicomlake demo", "dicomlake demo my-demo --slices 300")


def command(
    folder: Annotated[Path, typer.Argument(metavar="LAKE", help="Where the lake is made.")] = Path(
        "demo-lake"
    ),
    slices: Annotated[int, typer.Option(min=3, help="Slices of the chest CT.")] = 120,
) -> None:
    """Make a lake of sample data: phantoms with known voxel values, and the real files in pydicom's wheel."""
    with open_lake(folder, create=True) as lake:
        if lake.counts()["instances"]:
            typer.echo(f"{folder} is there already; choose another name for a fresh one")
        else:
            with tempfile.TemporaryDirectory(prefix="dicomlake-demo-") as workshop:
                _generate(Path(workshop), slices)
                _ingest_all(lake, Path(workshop))
        _summarize(lake, folder)


def _generate(workshop: Path, slices: int) -> None:
    from dicomlake import datasets

    for name in datasets.names():
        started = time.perf_counter()
        chest = name.startswith("chest")
        made = datasets.make(name, workshop / name, slices=slices if chest else None)
        count = sum(1 for _ in made.iterdir())
        typer.echo(f"  made {name}: {count} files, {time.perf_counter() - started:.1f} s")


def _ingest_all(lake: Lake, workshop: Path) -> None:
    from dicomlake import datasets

    typer.echo("\nSample data")
    typer.echo(str(lake.ingest(workshop)))
    typer.echo("\nReal files in the wheel of pydicom, odd ones included")
    typer.echo(str(lake.ingest(os.path.commonpath(datasets.pydicom_samples()))))


def _summarize(lake: Lake, folder: Path) -> None:
    typer.echo(f"\nThe lake {folder}")
    for name, count in lake.counts().items():
        typer.echo(f"  {name:<10}{count:>7,}")
    cohort = lake.query(Modality="CT", Manufacturer="*dicomlake*")
    if len(cohort):
        image = cohort[0].open().image
        typer.echo(f"\nA chest CT, lazily: {dict(image.sizes)} {image.dtype}, {image.nbytes / 1e6:.0f} MB")
        middle = image.dicom.hu().isel(z=image.sizes["z"] // 2)
        low, high = shown(float(middle.min())), shown(float(middle.max()))
        typer.echo(f"  its middle slice, computed: {low} to {high} HU")
    program, python = _as_typed("dicomlake", sys.argv[0]), _as_typed("python", sys.executable)
    typer.echo(
        f"""
What to type next
  {program} ls --lake {folder}
  {program} query Modality=CT 'SliceThickness<2' --lake {folder}
  {program} ls refused --lake {folder}
  {program} verify --deep --lake {folder}
  make lab     (JupyterLab on this lake, with notebooks/00-tour.ipynb)
  {python} -c "import dicomlake as dl; print(dl.open('{folder}').series())\""""
    )


def _as_typed(name: str, path: str) -> str:
    """How to call a program from here: by name where the shell finds this very one, else by its path."""
    found = shutil.which(name)
    return name if found and os.path.abspath(found) == os.path.abspath(path) else os.path.relpath(path)
