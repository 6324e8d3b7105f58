"""The cube that lets a browser move a brush alone: bins of one facet against those of all others.

Rows are sums up to each bin, so that what lies under a brush is one row less another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.explorer.facets import Binned, Counts
from dicomlake.widgets.explorer.universe import Rows

Cube = npt.NDArray[np.uint32]


def cube(active: Binned, others: Sequence[tuple[Binned, Rows | None]], rows: Rows | None) -> Cube:
    """(k + 2, 1 + width): series by bin of the active facet, in one column, and by those of the others.

    Row 0 is of series without a value; row 1 is zeros; row 1 + i sums the first i of the k bins. Series in
    the active facet's bin for others are in no row. rows: those that the one column counts; each other
    facet has its own. None is all.
    """
    table = [_joint(active, None, rows), *(_joint(active, other, some) for other, some in others)]
    joint = np.concatenate(table, axis=1)
    bins = active.count - 2
    found = np.zeros((bins + 2, joint.shape[1]), dtype=np.uint32)
    found[0] = joint[0]
    np.cumsum(joint[1 : bins + 1], axis=0, out=found[2:], dtype=np.uint32)
    return found


def _joint(active: Binned, other: Binned | None, rows: Rows | None) -> Counts:
    """(active.count, other.count) series in a bin of both."""
    if other is None:
        return active.counts(rows)[:, None]
    shape = active.count * other.count
    ours, theirs = active.first, other.first
    if rows is not None:
        ours, theirs = ours[rows], theirs[rows]
    joined = ours.astype(np.uint16)
    joined *= np.uint16(other.count)
    joined += theirs
    found = np.bincount(joined, minlength=shape)
    if len(active.more) or len(other.more):
        found = found + _of_pairs(active, other, rows, shape)
    return found.reshape(active.count, other.count)


def _of_pairs(active: Binned, other: Binned, rows: Rows | None, shape: int) -> Counts:
    """The same of the further values of series with several."""
    chosen = np.ones(len(active.first), dtype=bool)
    if rows is not None:
        chosen[:] = False
        chosen[rows] = True
    some, others = chosen[active.more_rows], chosen[other.more_rows]
    a_rows, a = active.more_rows[some], active.more[some].astype(np.int64)
    b_rows, b = other.more_rows[others], other.more[others].astype(np.int64)
    left, right = np.searchsorted(b_rows, a_rows), np.searchsorted(b_rows, a_rows, side="right")
    times = right - left  # each further bin of ours meets every further bin of theirs
    inner = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times) + np.repeat(left, times)
    keys = np.concatenate(
        [
            a * other.count + other.first[a_rows],
            active.first[b_rows].astype(np.int64) * other.count + b,
            np.repeat(a, times) * other.count + b[inner],
        ]
    )
    return np.bincount(keys, minlength=shape)
