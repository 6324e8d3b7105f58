"""Draw first-lake.png, the picture in the README: `python docs/images/make_first_lake.py [TARGET]`.

Makes the chest CT of `dicomlake.datasets`, takes it into a lake and shows what comes back: three planes
in mm with orientation letters, and the facts that a notebook would print. All of it is read from the lake.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import dicomlake as dl

SLICES = 240
WINDOW_HU = (-450, 420)
POINT_LPS_MM = {"x": 8.0, "y": 8.0, "z": 22.0}  # where the planes cross
BODY_Y_MM = slice(-135, 130)  # the air in front of and behind the body is left out
SIZE_INCH = (12.0, 3.7)
PAPER, INK, PALE, LINE = "#0f1419", "#e6e9ec", "#8b96a0", "#f2b84b"
GAP = 0.012  # between planes, in figure widths
SCALE = 0.222 / 384  # figure widths for each mm, the same for all planes


def draw(target: Path) -> None:
    """Make the lake in a temporary folder and draw it."""
    with tempfile.TemporaryDirectory() as folder, dl.open(Path(folder, "my-lake"), create=True) as lake:
        report = lake.ingest(dl.datasets.make("chest-ct", Path(folder, "dicom"), slices=SLICES))
        series = lake.query(Modality="CT")[0]
        hu = series.open().image.dicom.hu()
        figure = plt.figure(figsize=SIZE_INCH, dpi=110, facecolor=PAPER)
        draw_planes(figure, hu)
        write_facts(figure, facts(lake, report, series, hu))
        figure.savefig(target, facecolor=PAPER, pil_kwargs={"optimize": True})
    plt.close(figure)


def draw_planes(figure: Figure, hu: xr.DataArray) -> None:
    """Axial, coronal and sagittal plane through one patient position, at true aspect and one scale."""
    hu = hu.sel(y=BODY_Y_MM)
    left = GAP
    for name, across, letters in (
        ("axial", "z", "RLAP"),
        ("coronal", "y", "RLSI"),
        ("sagittal", "x", "APSI"),
    ):
        plane = hu.sel({across: POINT_LPS_MM[across]}, method="nearest")
        vertical, horizontal = map(str, plane.dims)
        x0, x1 = edges_mm(plane, horizontal)
        y0, y1 = edges_mm(plane, vertical)
        width = (x1 - x0) * SCALE
        height = (y1 - y0) * SCALE * SIZE_INCH[0] / SIZE_INCH[1]
        axes = figure.add_axes((left, 0.47 - height / 2, width, height))
        show(axes, plane)
        axes.axhline(POINT_LPS_MM[vertical], color=LINE, lw=0.6, alpha=0.7)
        axes.axvline(POINT_LPS_MM[horizontal], color=LINE, lw=0.6, alpha=0.7)
        axes.set_title(name, color=INK, fontsize=10, pad=5)
        for letter, place in zip(letters, ((0.03, 0.5), (0.97, 0.5), (0.5, 0.95), (0.5, 0.05)), strict=True):
            axes.text(*place, letter, color=LINE, ha="center", va="center", transform=axes.transAxes)
        left += width + GAP


def edges_mm(plane: xr.DataArray, axis: str) -> tuple[float, float]:
    """Where a plane begins and ends along an axis: half a voxel beyond the outer centres."""
    centres = plane[axis].values
    half = float(centres[1] - centres[0]) / 2
    return float(centres[0]) - half, float(centres[-1]) + half


def show(axes: Axes, plane: xr.DataArray) -> None:
    """A plane in mm; z grows upwards (superior), y downwards (posterior)."""
    vertical, horizontal = map(str, plane.dims)
    low, high = edges_mm(plane, vertical)
    upwards = vertical == "z"
    axes.imshow(
        plane.values,
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        extent=(*edges_mm(plane, horizontal), *((low, high) if upwards else (high, low))),
        origin="lower" if upwards else "upper",
    )
    axes.axis("off")


def facts(lake: dl.Lake, report: Any, series: dl.Series, hu: xr.DataArray) -> list[str]:
    """What the lake says, line by line; what a user types begins with >>>."""
    (volume,) = series.volumes
    assert volume.spacing_mm is not None
    return [
        ">>> report = lake.ingest(folder)",
        f"stored   {report.stored} objects",
        f"volumes  {len(report.built)} built",
        "",
        '>>> series = lake.query(Modality="CT")[0]',
        f"verdict  {volume.verdict}",
        f"shape    {' × '.join(map(str, volume.shape))}  (z, y, x)",
        f"spacing  {' × '.join(f'{step:g}' for step in volume.spacing_mm)} mm",
        "",
        ">>> series.open().image.dicom.hu()",
        f"{hu.dtype}, {hu.nbytes / 1e6:.0f} MB, lazy",
        "",
        ">>> lake.verify()",
        str(lake.verify()).partition("(")[0].strip(),
    ]


def write_facts(figure: Figure, lines: list[str]) -> None:
    """The lines at the right, as a notebook would print them."""
    for row, line in enumerate(lines):
        colour = PALE if line.startswith(">>>") else INK
        figure.text(
            0.652, 0.9 - row * 0.0635, line, color=colour, fontsize=9.5, family="monospace", va="center"
        )


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("first-lake.png"))
