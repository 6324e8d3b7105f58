"""Plots of patients along time: their visits, and the days between these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.cohorts.telling import cells, figures
from dicomlake.cohorts.telling.visits import course, visits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_timeline(table: pd.DataFrame, patients: int, gap_days: float) -> Figure:
    """Visits along time, patients in rows; of more than `patients`, series a month and modality."""
    cells.require(table, "Modality")
    found = course(table, gap_days)
    _, day, visit = found.of_rows
    kinds = cells.coded(table["Modality"])
    dated = ~np.isnan(day)
    names = _by_frequency(kinds, dated)
    undated = int((~dated).sum())
    notes = [f"{undated:,} series without a date"] if undated else []
    count = int(found.patient.max(initial=-1)) + 1
    if count > patients:
        return _density(day, kinds, names, count, notes)
    starts = np.full(int(visit.max(initial=-1)) + 1, np.inf)
    np.minimum.at(starts, visit[dated], day[dated])
    height = 1.4 + 0.24 * max(count, 3)
    figure, axes = figures.new(height=height)
    patient = found.patient[found.study]
    for row in np.unique(patient[dated]):
        own = day[dated & (patient == row)]
        axes.plot(_dates(np.array([own.min(), own.max()])), [row + 1] * 2, color="#D0D0D0", lw=1.2, zorder=1)
    shown = min(len(names), figures.FEW)
    for at, name in enumerate(names):
        chosen = dated & (kinds.codes == kinds.labels.index(name))
        _, first = np.unique(visit[chosen], return_index=True)
        rows = np.flatnonzero(chosen)[first]
        shift = (min(at, shown) - (shown - 1) / 2) * 0.6 / max(shown, 2)
        axes.scatter(
            _dates(starts[visit[rows]]),
            patient[rows] + 1 + shift,
            s=26,
            c=figures.COLOURS[at] if at < figures.FEW else figures.OTHER,
            marker=figures.MARKERS[at] if at < figures.FEW else "o",
            label=name if at < figures.FEW else ("others" if at == figures.FEW else None),
            linewidths=0,
            zorder=2,
        )
    axes.set_ylim(count + 0.7, 0.3)
    axes.set_yticks(range(1, count + 1, 1 if count <= 20 else 5))
    axes.set(xlabel="StudyDate", ylabel="patient, numbered")
    _along_time(axes)
    figures.title(axes, "Visits", "; ".join(notes))
    if names:
        figures.legend(axes, "Modality")
    return figure


def _density(
    day: cells.Numbers, kinds: cells.Coded, names: list[str], count: int, notes: list[str]
) -> Figure:
    figure, axes = figures.new()
    known = day[~np.isnan(day)]
    if len(known):
        unit = "M" if known.max() - known.min() > 90 else "D"
        low, high = (
            np.datetime64(int(at), "D").astype(f"datetime64[{unit}]") for at in (known.min(), known.max())
        )
        edges = np.arange(low, high + 2).astype("datetime64[D]")
        groups = [_counted(day[kinds.codes == kinds.labels.index(name)], edges) for name in names]
        if len(groups) > figures.FEW:
            groups = [*groups[: figures.FEW], np.sum(groups[figures.FEW :], axis=0)]
        labels = [*names[: figures.FEW], "others"][: len(groups)]
        axes.stackplot(
            edges[:-1], groups, step="post", labels=labels, colors=[*figures.COLOURS, figures.OTHER], lw=0
        )
        axes.set_ylabel(f"series a {'month' if unit == 'M' else 'day'}")
        figures.legend(axes, "Modality")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("StudyDate")
    _along_time(axes)
    figures.title(axes, f"Series of {count:,} patients", "; ".join(notes))
    return figure


def _counted(day: cells.Numbers, edges: cells.Dates) -> cells.Codes:
    return np.histogram(day[~np.isnan(day)], edges.astype(np.int64))[0]


def draw_intervals(table: pd.DataFrame, gap_days: float) -> Figure:
    """A histogram of the days between the visits of a patient, on a logarithmic axis where they need one."""
    found = visits(table, gap_days=gap_days)
    between = found["days_since_previous"].dropna().to_numpy(dtype=float)
    figure, axes = figures.new()
    if len(between):
        wide = between.max() > 50 * max(between.min(), 1)
        low, high = between.min(), between.max() + 1
        edges = np.geomspace(max(low, 1), high, 31) if wide else np.linspace(low, high, 31)
        axes.hist(between, np.unique(np.round(edges)), color=figures.COLOURS[0], edgecolor="white", lw=0.4)
        axes.axvline(
            np.median(between), color=figures.COLOURS[3], lw=1.5, label=f"median {np.median(between):g}"
        )
        axes.legend(frameon=False, fontsize=9)
        if wide:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
    single = int((found.groupby("patient").size() == 1).sum())
    notes = [f"{single:,} of {found['patient'].nunique():,} patients have one visit"] if single else []
    notes += [f"{(~found['dated']).sum():,} studies without a date"] if not found["dated"].all() else []
    axes.set(xlabel="days since the previous visit", ylabel="visits")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    figures.title(axes, "Days between visits", "; ".join(notes))
    return figure


def _by_frequency(kinds: cells.Coded, used: cells.Mask) -> list[str]:
    codes = kinds.codes[used]
    counts = np.bincount(codes[codes >= 0], minlength=len(kinds.values))
    order = np.argsort(-counts, kind="stable")
    return [kinds.labels[at] for at in order if counts[at]]


def _dates(day: cells.Numbers) -> cells.Dates:
    return day.astype(np.int64).astype("datetime64[D]")


def _along_time(axes: Axes) -> None:
    from matplotlib import dates

    locator: Any = dates.AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
