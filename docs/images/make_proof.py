"""Draw the pictures of docs/explanation/proof.md: `python docs/images/make_proof.py [FOLDER]`.

Diagrams, not data: planes are seen from the side, the normal of the slices runs to the right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

INK, PALE, PAPER = "#22303c", "#9aa7b2", "#ffffff"
BLUE, ORANGE, RED = "#2f6db5", "#e08a1e", "#c0392b"
ECHOES = (BLUE, ORANGE, "#3a9d6e")
DPI = 110
PLACES = 5  # of the tables


def panes(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with empty panes side by side."""
    figure, found = plt.subplots(1, count, figsize=(width, height), layout="constrained", facecolor=PAPER)
    axes = [found] if count == 1 else list(found)
    for one in axes:
        one.axis("off")
    return figure, axes


def plane(
    axes: Axes, height: float, colour: str, *, low: float = 0.0, high: float = 1.0, lean: float = 0.0
) -> None:
    """One plane seen from the side; lean moves its upper end along the normal."""
    axes.plot((height, height + lean), (low, high), color=colour, lw=3.5, solid_capstyle="butt")


def note(axes: Axes, x: float, y: float, text: str, *, colour: str = INK, size: float = 9.5) -> None:
    """Words in a pane, centred."""
    axes.text(x, y, text, color=colour, size=size, ha="center", va="center")


def title(axes: Axes, text: str) -> None:
    """What a pane shows."""
    axes.set_title(text, color=INK, size=10.5, pad=6)


# ---- places ----------------------------------------------------------------------------------------


def places() -> Figure:
    """Frames sorted into places along the normal: by position, whatever their numbers."""
    figure, (axes,) = panes(1, 7.4, 2.3)
    numbers = ((5, 2), (1, 8), (7, 4), (3, 6))  # InstanceNumber of the frames at each place
    for place, pair in enumerate(numbers):
        for k, (number, colour) in enumerate(zip(pair, ECHOES, strict=False)):
            low = 0.62 * k
            plane(axes, 3 * place, colour, low=low, high=low + 0.55)
            axes.text(3 * place + 0.14, low + 0.27, f"frame {number}", color=colour, size=9, va="center")
        note(axes, 3 * place, -0.5, f"place {place}")
    axes.annotate("", (11.2, -0.22), (-0.8, -0.22), arrowprops={"arrowstyle": "->", "color": PALE, "lw": 1.3})
    axes.text(11.3, -0.22, "n · position", color=INK, size=9.5, va="center")
    axes.set(xlim=(-1, 13), ylim=(-0.65, 1.2))
    return figure


# ---- products --------------------------------------------------------------------------------------


def products() -> Figure:
    """A complete product, a series that was cut short, and two frames for one cell."""
    figure, (whole, short, double) = panes(3, 10.2, 3.1)
    table(whole, 3, "a complete product", "echo", ("9", "46", "110"))
    cells(whole, {(row, column) for row in range(3) for column in range(PLACES)})
    note(whole, 2.5, -1.8, "one frame in each cell:\nimage (echo, z, y, x)")

    table(short, 4, "cut short", "time", ("0", "1", "2", "3"))
    cells(short, {(row, column) for row in range(3) for column in range(PLACES)})
    cells(short, {(3, column) for column in range(3)}, colour=ORANGE)
    note(short, 2.5, -1.8, "whole rounds: image (time, z, y, x)\nthe rest: a partial image (z, y, x)")

    table(double, 1, "two frames for one cell", "", ("",))
    cells(double, {(0, column) for column in range(PLACES)})
    double.add_patch(Rectangle((2.26, 0.26), 0.66, 0.66, facecolor=ORANGE, edgecolor=PAPER, lw=1.5))
    note(double, 2.5, -1.8, "equal pixels: a duplicate, recorded\nother pixels: a conflict, kept apart")
    return figure


def table(axes: Axes, rows: int, name: str, axis: str, labels: Sequence[str]) -> None:
    """An empty table of places and values."""
    for row in range(rows):
        for column in range(PLACES):
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=PALE, lw=0.8))
        axes.text(-0.15, row + 0.5, labels[row], color=INK, size=9, ha="right", va="center")
    for column in range(PLACES):
        note(axes, column + 0.5, -0.3, str(column), size=9)
    note(axes, PLACES / 2, -0.85, "place", size=9)
    axes.text(-1.0, rows / 2, axis, color=INK, size=9, ha="right", va="center")
    note(axes, PLACES / 2, 4.6, name, size=10.5)
    axes.set(xlim=(-2.2, PLACES + 1.2), ylim=(-2.4, 5.0))
    axes.set_aspect("equal")


def cells(axes: Axes, filled: set[tuple[int, int]], *, colour: str = BLUE) -> None:
    """Frames in the cells of a table."""
    for row, column in filled:
        axes.add_patch(Rectangle((column + 0.12, row + 0.12), 0.76, 0.76, facecolor=colour, edgecolor="none"))


# ---- gaps ------------------------------------------------------------------------------------------


def gaps() -> Figure:
    """Steps along the normal: constant, with places left empty, of no common length."""
    figure, (even, missing, uneven) = panes(3, 10.2, 2.1)
    row(even, "regular", np.arange(8.0), "every step 2 mm")
    row(
        missing,
        "missing_slices",
        np.array([0, 1, 3, 4, 5, 6, 7.0]),
        "a constant step, and a place left empty",
    )
    missing.plot((2, 2), (0, 1), color=RED, lw=1.5, ls=(0, (3, 3)))
    note(missing, 2, 1.17, "missing", colour=RED)
    row(
        uneven,
        "irregular",
        np.array([0, 0.7, 2.2, 3.9, 4.6, 6.1, 7.0]),
        "no common step: each keeps its position",
    )
    return figure


def row(axes: Axes, name: str, heights: np.ndarray, words: str) -> None:
    """Planes at heights, and what is said of them."""
    for height in heights:
        plane(axes, float(height), BLUE)
    axes.annotate("", (7.8, -0.14), (-0.6, -0.14), arrowprops={"arrowstyle": "->", "color": PALE, "lw": 1.3})
    note(axes, 3.5, -0.42, words)
    title(axes, name)
    axes.set(xlim=(-0.9, 8.0), ylim=(-0.6, 1.3))


# ---- tilt ------------------------------------------------------------------------------------------


def tilt() -> Figure:
    """What the affine must give back: the corners of every plane."""
    figure, (upright, leaning, turned) = panes(3, 10.2, 2.5)
    box(upright, "regular", lambda k: (k, 0.0), "the step follows the normal")
    box(leaning, "sheared", lambda k: (k, 0.28 * k), "a constant step that leans: a tilted gantry")
    box(turned, "not one grid", lambda k: (k, 0.0), "a corner is not where the affine puts it", off=4)
    return figure


def box(
    axes: Axes,
    name: str,
    place: Callable[[int], tuple[float, float]],
    words: str,
    off: int | None = None,
) -> None:
    """Seven planes with their corners, and the box that the affine makes."""
    first, last = place(0), place(6)
    outline = [first, last, (last[0], last[1] + 2), (first[0], first[1] + 2)]
    axes.add_patch(Polygon(outline, closed=True, facecolor="#e8eff7", edgecolor=PALE, lw=1))
    for k in range(7):
        x, y = place(k)
        lean = 0.42 if k == off else 0.0
        colour = RED if k == off else BLUE
        plane(axes, x, colour, low=y, high=y + 2, lean=lean)
        axes.plot((x, x + lean), (y, y + 2), "o", color=colour, markersize=5)
    if off is not None:
        x, y = place(off)
        axes.plot(x, y + 2, "o", color=RED, fillstyle="none", markersize=8)
    note(axes, 3, -0.75, words)
    title(axes, name)
    axes.set(xlim=(-1, 7.4), ylim=(-1.1, 4.0))


PICTURES = {"places": places, "products": products, "gaps": gaps, "tilt": tilt}


def draw(folder: Path) -> None:
    """Draw all of them."""
    for name, make in PICTURES.items():
        figure = make()
        figure.savefig(folder / f"proof-{name}.png", dpi=DPI, facecolor=PAPER, pil_kwargs={"optimize": True})
        plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
