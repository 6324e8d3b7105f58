"""Plots of a table of series; each method returns a matplotlib Figure, whose `axes` can be changed further.

No plot names a patient: they are numbered in reading order, and identifying columns are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dicomlake.cohorts.telling import cells, figures
from dicomlake.cohorts.telling.cells import Codes, Mask, Numbers
from dicomlake.cohorts.telling.identifying import refuse
from dicomlake.cohorts.telling.timelines import draw_intervals, draw_timeline
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 50_000  # more than these are drawn evenly thinned: they cover each other anyway
_ROWS_OF_MAP = 200


class Plots:
    """The plots of one table of series: `Plots(table).hist("SliceThickness")`."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def __repr__(self) -> str:
        verbs = ", ".join(name for name in vars(type(self)) if not name.startswith("_"))
        return f"<Plots of {len(self._table):,} series: {verbs}>"

    def timeline(self, *, patients: int = 40, gap_days: float = 0) -> Figure:
        """The visits of each patient along time, coloured by modality.

        Of more than `patients` patients, how many series there are of each modality and month instead.
        """
        return draw_timeline(self._table, patients, gap_days)

    def intervals(self, *, gap_days: float = 0) -> Figure:
        """How many days lie between the visits of a patient."""
        return draw_intervals(self._table, gap_days)

    def hist(
        self, column: str, by: str | None = None, *, bins: int | Sequence[float] | None = None
    ) -> Figure:
        """How the numbers of a column are spread, stacked by the values of another.

        bins: their number or edges; from the data unless given: one for each value where these are few.
        """
        values, note = self._numbers(column)
        kinds = self._kinds(by)
        figure, axes = figures.new()
        edges = _edges(values, bins)
        if len(edges):
            groups = [values[mask & ~np.isnan(values)] for _, mask, _ in kinds]
            labels, colours = [name for name, _, _ in kinds], [colour for _, _, colour in kinds]
            axes.hist(groups, edges, stacked=True, color=colours, label=labels, edgecolor="white", lw=0.4)
        _labelled(axes, column, "series", note)
        if by is not None:
            figures.legend(axes, by)
        return figure

    def bar(self, column: str, *, top: int = 12) -> Figure:
        """How many series have each value: the most frequent ones, then all others together."""
        found = self._coded(column)
        counts = np.bincount(found.codes[found.codes >= 0], minlength=len(found.values))
        order = np.argsort(-counts, kind="stable")
        names = [figures.short(found.labels[at], 32) for at in order[:top]]
        shown = counts[order[:top]].tolist()
        colours = [figures.COLOURS[0]] * len(names)
        rest = int(counts[order[top:]].sum())
        for name, count in (
            (f"{len(order) - top:,} others", rest),
            ("missing", int((found.codes < 0).sum())),
        ):
            if count:
                names, shown, colours = [*names, name], [*shown, count], [*colours, figures.OTHER]
        figure, axes = figures.new(height=1.2 + 0.28 * max(len(names), 2))
        bars = axes.barh(range(len(names)), shown, color=colours)
        axes.bar_label(bars, [f"{count:,}" for count in shown], padding=3, fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.margins(x=0.12)
        axes.set_xlabel("series")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        figures.title(axes, column)
        return figure

    def facet(self, by: str, column: str, *, top: int = 6) -> Figure:
        """The numbers of a column for each of the most frequent values of another, one below the other."""
        values, note = self._numbers(column)
        kinds = self._kinds(by, top)
        edges = _edges(values, None)
        figure, grid = figures.new(
            height=0.9 + 1.15 * len(kinds), nrows=len(kinds), sharex=True, squeeze=False
        )
        for axes, (name, mask, colour) in zip(grid[:, 0], kinds, strict=True):
            held = values[mask & ~np.isnan(values)]
            if len(edges):
                axes.hist(held, edges, color=colour, edgecolor="white", lw=0.4)
            told = f"{figures.short(name, 40)}  ({len(held):,})"
            axes.set_title(told, loc="right", fontsize=9, pad=2)
            axes.locator_params(axis="y", nbins=3, integer=True)
            axes.yaxis.set_major_formatter("{x:,.0f}")
        grid[-1, 0].set_xlabel(column)
        figure.supylabel("series", fontsize=10)
        figures.title(grid[0, 0], f"{column} by {by}", note)
        return figure

    def scatter(self, x: str, y: str, colour: str | None = None) -> Figure:
        """One column of numbers against another, a point a series, coloured by the values of a third."""
        (across, _), (up, _) = self._numbers(x), self._numbers(y)
        both = ~np.isnan(across) & ~np.isnan(up)
        step = max(1, int(np.ceil(both.sum() / _POINTS)))
        drawn = np.zeros(len(both), dtype=bool)
        drawn[np.flatnonzero(both)[::step]] = True
        figure, axes = figures.new(height=4.2)
        kinds = self._kinds(colour)
        for (name, mask, paint), marker in zip(kinds, (*figures.MARKERS, ".", "."), strict=False):
            chosen = mask & drawn
            axes.scatter(
                across[chosen], up[chosen], s=18, c=paint, marker=marker, label=name, alpha=0.7, linewidths=0
            )
        notes = [f"{(~both).sum():,} series without both"] if not both.all() else []
        notes += [f"every {step}th of {both.sum():,} points drawn"] if step > 1 else []
        axes.set(xlabel=x, ylabel=y)
        figures.title(axes, f"{y} against {x}", "; ".join(notes))
        if colour is not None:
            figures.legend(axes, colour)
        return figure

    def missing(self) -> Figure:
        """Where values are missing: a row a column of the table, the series along it in reading order."""
        names = [str(name) for name in self._table.columns]
        absent = np.array([cells.coded(self._table[name]).codes < 0 for name in names]).reshape(
            len(names), -1
        )
        share = absent.mean(axis=1) if absent.size else np.zeros(len(names))
        order = np.argsort(-share, kind="stable")
        figure, axes = figures.new(height=1.3 + 0.24 * max(len(names), 2))
        axes.grid(False)
        if absent.size:
            axes.imshow(
                _blocks(absent[order]), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
                extent=(0, absent.shape[1], len(names) - 0.5, -0.5),
            )  # fmt: skip
        axes.set_yticks(range(len(names)), [f"{names[at]}  {_share(share[at])}" for at in order])
        axes.set_xlabel("series in reading order")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        figures.title(axes, "Missing values", "dark: missing")
        return figure

    def heatmap(self, x: str, y: str, *, top: int = 12) -> Figure:
        """How many series have each pair of values of two columns."""
        across, up = _leading(self._coded(x), top), _leading(self._coded(y), top)
        counts = np.zeros((len(up[1]), len(across[1])), dtype=np.int64)
        np.add.at(counts, (up[0], across[0]), 1)
        figure, axes = figures.new(
            width=2.6 + 0.62 * max(len(across[1]), 3), height=1.6 + 0.34 * max(len(up[1]), 3)
        )
        axes.grid(False)
        if counts.size:
            axes.imshow(np.log10(counts + 1), aspect="auto", cmap="Blues", vmin=0)
        dark = counts.max(initial=1) ** 0.6
        for (row, at), count in np.ndenumerate(counts):
            if count:
                paint = "white" if count > dark else "#333333"
                axes.text(at, row, _brief(int(count)), ha="center", va="center", fontsize=8, color=paint)
        axes.set_xticks(range(len(across[1])), across[1], rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(up[1])), up[1])
        axes.set(xlabel=x, ylabel=y)
        figures.title(axes, "Series")
        return figure

    # ---- columns ---------------------------------------------------------------------------------------

    def _coded(self, column: str) -> cells.Coded:
        cells.require(self._table, column)
        refuse(column)
        return cells.coded(self._table[column])

    def _numbers(self, column: str) -> tuple[Numbers, str]:
        """Its numbers, and how many series have none."""
        cells.require(self._table, column)
        refuse(column)
        values = cells.numbers(self._table[column])
        absent = int(np.isnan(values).sum())
        if absent == len(values) > 0 and not cells.is_numeric(self._table[column]):
            raise QueryError(f"{column} has no numbers: draw it with bar()")
        return values, f"{absent:,} of {len(values):,} series without a number" if absent else ""

    def _kinds(self, column: str | None, top: int = figures.FEW) -> list[tuple[str, Mask, str]]:
        """Name, rows and colour of each group of series that is told apart."""
        if column is None:
            return [("series", np.ones(len(self._table), dtype=bool), figures.COLOURS[0])]
        codes, names = _leading(self._coded(column), min(top, figures.FEW))
        if not names:
            return [("series", codes == 0, figures.OTHER)]
        greys = [name for name in names if name == "missing" or name.endswith(" others")]
        colours = dict(zip((n for n in names if n not in greys), figures.COLOURS, strict=False))
        return [(n, codes == at, colours.get(n, figures.OTHER)) for at, n in enumerate(names)]


def _leading(found: cells.Coded, top: int) -> tuple[Codes, list[str]]:
    """For each row the place of its value among the most frequent ones, others and missing last; names."""
    counts = np.bincount(found.codes[found.codes >= 0], minlength=len(found.values))
    order = np.argsort(-counts, kind="stable")
    names = [figures.short(found.labels[at]) for at in order[:top]]
    place = np.full(len(counts) + 1, len(names))
    place[order[:top]] = np.arange(len(names))
    names += [f"{len(order) - top:,} others"] if len(order) > top else []
    if (found.codes < 0).any():
        place[-1] = len(names)
        names.append("missing")
    return place[found.codes].astype(np.int64), names


def _edges(values: Numbers, bins: int | Sequence[float] | None) -> Numbers:
    """Edges of bins: a bin a value where these are few, else by the rule of Freedman and Diaconis."""
    known = values[~np.isnan(values)]
    if bins is not None or not len(known):
        return np.histogram_bin_edges(known, 10 if bins is None else bins) if len(known) else np.array([])
    different = np.unique(known)
    step = float(np.diff(different).min()) if len(different) > 1 else 1.0
    count = (different[-1] - different[0]) / step + 1
    if len(different) <= 40 and count <= 60:
        return np.asarray(different[0] + step * (np.arange(round(count) + 1) - 0.5))
    low, high = np.quantile(known, [0.25, 0.75])
    width = 2 * (high - low) / len(known) ** (1 / 3)
    wanted = (different[-1] - different[0]) / width if width > 0 else 30
    return np.linspace(different[0], different[-1], int(np.clip(wanted, 10, 60)) + 1)


def _labelled(axes: Axes, x: str, y: str, note: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    figures.title(axes, x, note)


def _blocks(absent: Mask) -> Numbers:
    """The share that is missing of each stretch of series, at most some hundred stretches."""
    count = absent.shape[1]
    starts = np.unique(np.linspace(0, count, min(count, _ROWS_OF_MAP), endpoint=False).astype(int))
    return np.add.reduceat(absent, starts, axis=1, dtype=float) / np.diff(np.append(starts, count))


def _share(share: float) -> str:
    from dicomlake.cohorts.telling.describing import percent

    return percent(round(share * 1000), 1000)


def _brief(count: int) -> str:
    for unit, size in (("M", 1_000_000), ("k", 10_000)):
        if count >= size:
            return f"{count / (1_000_000 if unit == 'M' else 1000):.3g}{unit}"
    return str(count)
