"""Bins of a histogram from values and how often they occur."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_FEW = 24  # values that need no bins
_BINS = 20
_TAIL = 0.005  # of the series at either end share the first and the last bin

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Bins = tuple[tuple[float, float], ...]


def binned(values: Floats, every: Counts, counts: Counts) -> tuple[Bins, Counts, tuple[float, ...]]:
    """Bins as (smallest, largest value in it), their counts, and their edges, ascending.

    values: the distinct ones. every: how often each occurs at all, from which the edges come, so that they
    stay while a selection changes. counts: how often each occurs under the selection. A bin that no value
    lies in is left out, so there may be fewer bins than edges tell.
    """
    order = np.argsort(values)
    values, every, counts = values[order], every[order], counts[order]
    present = every > 0
    values, every, counts = values[present], every[present], counts[present]
    if not len(values):
        return (), np.zeros(0, dtype=np.int64), ()
    if len(values) <= _FEW:
        return tuple((v, v) for v in values.tolist()), counts, tuple(values.tolist())
    edges = _edges(values, every)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    _, first = np.unique(place, return_index=True)
    last = np.append(first[1:], len(values)) - 1
    bins = tuple(zip(values[first].tolist(), values[last].tolist(), strict=True))
    totals = np.add.reduceat(counts, first)
    return bins, totals, tuple(edges.tolist())


def _edges(values: Floats, every: Counts) -> Floats:
    """Round numbers, about as many as there shall be bins, over all but the rarest values at the ends."""
    share = np.cumsum(every) / every.sum()
    low = float(values[int(np.searchsorted(share, _TAIL))])
    high = float(values[min(int(np.searchsorted(share, 1 - _TAIL)), len(values) - 1)])
    if high <= low:
        low, high = float(values[0]), float(values[-1])
    step = _round_step((high - low) / _BINS)
    start = math.floor(low / step)
    stop = max(math.floor(high / step) + 1, start + 1)
    return np.round(np.arange(start, stop + 1) * step, 12)


def _round_step(least: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, not below a step."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))
