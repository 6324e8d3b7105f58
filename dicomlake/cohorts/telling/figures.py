"""How figures look: colours that all eyes tell apart, no display needed, shown in a notebook as they are."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), its yellow and black left out: too light, and that of the text.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P")
OTHER = "#8C8C8C"
FEW = len(COLOURS)
"""How many kinds are told apart by colour; the rest is one, in grey."""


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class Shown(Figure):
        """A figure that pyplot knows nothing of and that a notebook shows all the same."""

        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            self.savefig(stream, format="png", dpi=100)
            return stream.getvalue()

    return Shown


def new(width: float = 7.0, height: float = 3.6, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of so many inches and its axes, as `Figure.subplots` gives them."""
    figure = _figure_class()(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(**subplots)
    for one in figure.axes:
        plain(one)
    return figure, axes


def plain(axes: Axes) -> None:
    """Two spines and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def title(axes: Axes, text: str, note: str = "") -> None:
    """A title, and below it in grey what the figure leaves out."""
    axes.set_title(text, loc="left", fontsize=11, pad=20 if note else 8)
    if note:
        axes.annotate(
            note, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8.5, color="#666666", va="bottom"
        )


def legend(axes: Axes, heading: str) -> None:
    """A legend beside the axes, where it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title=heading, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)


def short(text: str, length: int = 24) -> str:
    """A label that fits; what is cut ends in an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
