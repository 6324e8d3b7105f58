"""Which values of an acquisition parameter count as the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.cohorts.telling import cells
from dicomlake.cohorts.telling.cells import Codes, Mask, Numbers

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 0.01
"""Relative; what rounding of 2000 ms to 2000.01 ms, or of 0.7 mm to 0.703 mm, stays below."""
WIDER = {"MagneticFieldStrength": 0.05, "ExposureTime": 0.05}
"""Parameters whose same setting is written further apart: 2.89 T is a 3 T magnet."""
_MOST_PARTS = 16
_ROUNDING = 1 + 1e-9
Tolerance = float | Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One acquisition parameter of every row.

    code: rows with the same code agree; -1 where it is missing, which agrees with nothing but missing.
    values: for each row its number, or the first of several; None for a parameter that is text.
    shown: for each code the value that stands for it: the most frequent one of numbers, or the text.
    """

    name: str
    code: Codes
    values: Numbers | None
    shown: list[Any]


def tolerance_of(name: str, tolerance: Tolerance | None) -> float:
    """The relative tolerance of a parameter; raises ValueError unless it is from 0 to below 1."""
    given = tolerance.get(name) if isinstance(tolerance, Mapping) else tolerance
    found = WIDER.get(name, TOLERANCE) if given is None else given
    if not 0 <= found < 1:
        raise ValueError("a tolerance is relative, from 0 to below 1: 0.01 for 1 %")
    return float(found)


def clusters(values: Numbers, tolerance: float, counts: Codes | None = None) -> tuple[Codes, Numbers]:
    """The cluster of each value, from 0 in ascending order, -1 for NaN; and the value each is named after.

    The most frequent value, of equals the smallest, takes all that differ from it by at most `tolerance`
    times its magnitude; of the rest again the most frequent one takes its own, and so on. That does not
    depend on the order of rows, and odd values between two usual ones do not chain these together.
    counts: how many rows each entry of `values` stands for, 1 unless given.
    """
    different, inverse = np.unique(values, return_inverse=True)  # one NaN, at the end
    weight = np.bincount(inverse, counts, minlength=len(different))
    known = int(np.count_nonzero(~np.isnan(different)))
    different, weight = different[:known], weight[:known]
    leader = np.arange(known)
    reach = tolerance * np.abs(different)
    low = np.searchsorted(different, different - reach * _ROUNDING, side="left")
    high = np.searchsorted(different, different + reach * _ROUNDING, side="right")
    taken = np.zeros(known, dtype=bool)
    crowded = np.flatnonzero(_with_neighbours(low, high))
    for at in crowded[np.lexsort((crowded, -weight[crowded]))].tolist():
        if not taken[at]:
            span = slice(low[at], high[at])
            free = ~taken[span]
            leader[span][free] = at
            taken[span] = True
    named, code = np.unique(leader, return_inverse=True)
    return np.append(code, -1)[np.minimum(inverse, known)].astype(np.int64), different[named]


def _with_neighbours(low: Codes, high: Codes) -> Mask:
    """Which values reach another one, or are reached by one."""
    place = np.arange(len(low))
    reaching = (high - low) > 1
    bounds = np.zeros(len(low) + 1, dtype=np.int64)
    np.add.at(bounds, low[reaching], 1)
    np.add.at(bounds, high[reaching], -1)
    return np.asarray(reaching | (np.cumsum(bounds)[place] > 0))


def parameter(column: pd.Series[Any], tolerance: float) -> Parameter:
    """A column of acquisition parameters with the values that agree under one code.

    Numbers agree by `clusters`, each of several in a cell by itself; text agrees when it is equal.
    """
    name = str(column.name)
    if column.dtype.kind in "iuf":
        return _numeric(name, cells.numbers(column), tolerance)
    found = cells.coded(column)
    parts = _parts(found.values) if cells.is_numeric(column) else None
    if parts is None:
        return Parameter(name, found.codes, None, found.labels)
    if parts.shape[1] == 1:
        return _numeric(name, found.take(parts[:, 0], np.nan, np.float64), tolerance)
    counts = np.bincount(found.codes[found.codes >= 0], minlength=len(parts))
    each = [clusters(part, tolerance, counts) for part in parts.T]
    together, code = np.unique(np.stack([codes for codes, _ in each]), axis=1, return_inverse=True)
    shown = [
        tuple(float(named[at]) for at, (_, named) in zip(codes, each, strict=True) if at >= 0)
        for codes in together.T
    ]
    return Parameter(
        name,
        found.take(code.reshape(-1), -1, np.int64),
        found.take(parts[:, 0], np.nan, np.float64),
        [one[0] if len(one) == 1 else one for one in shown],
    )


def _numeric(name: str, values: Numbers, tolerance: float) -> Parameter:
    code, named = clusters(values, tolerance)
    return Parameter(name, code, values, named.tolist())


def _parts(different: list[Any]) -> Numbers | None:
    """Each value as a row of numbers, NaN behind the shorter; None where some are no numbers or too many."""
    rows = [value if isinstance(value, tuple) else (value,) for value in different]
    width = max(map(len, rows), default=1)
    if width > _MOST_PARTS:
        return None
    found = np.full((len(rows), width), np.nan)
    for at, row in enumerate(rows):
        found[at, : len(row)] = [cells.number(part) for part in row]
        if np.isnan(found[at, : len(row)]).any():
            return None
    return found
