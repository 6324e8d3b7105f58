"""Thick planes: the largest, smallest or mean value across a slab that is centred on a plane."""

from __future__ import annotations

from typing import Any

import numpy as np

MODES = ("max", "min", "mean")
_MOST = 1 << 20  # planes: no volume has as many


def reach(slab_mm: float, step_mm: float) -> int:
    """How many planes on either side belong to a slab: those whose centres lie within half of it."""
    if not (slab_mm > 0 and step_mm > 0):
        return 0
    return int(min(slab_mm / 2 / step_mm + 1e-6, _MOST))


def projected(
    planes: np.ndarray, first: int, count: int, around: int, mode: str, padding: tuple[float, float] | None
) -> np.ndarray:
    """`count` planes from `first` on, each over `around` more on either side, as far as there are any.

    planes: (planes, rows, cols[, rgb]). Whole numbers stay whole: a mean is rounded to the nearest. Padding
    counts only where there is nothing else; so does NaN.
    """
    missing = _missing(planes, padding)
    fill = planes.dtype.type(0) if padding is None else planes.dtype.type(padding[0])
    found = np.empty((count, *planes.shape[1:]), planes.dtype)
    for k in range(count):
        low, high = max(first + k - around, 0), min(first + k + around + 1, len(planes))
        part = planes[low:high]
        gone = None if missing is None else missing[low:high]
        found[k] = _one(part, gone, mode, np.float32(np.nan) if planes.dtype.kind == "f" else fill)
    return found


def over(samples: np.ndarray, mode: str) -> np.ndarray:
    """Across axis 0 of floating-point samples; NaN only where all are."""
    if len(samples) == 1:
        return np.asarray(samples[0])
    return _one(samples, _missing(samples, None), mode, np.nan)


def _missing(planes: np.ndarray, padding: tuple[float, float] | None) -> np.ndarray | None:
    if planes.dtype.kind == "f":
        found = np.isnan(planes)
    elif padding is not None:
        found = (planes >= padding[0]) & (planes <= padding[1])
    else:
        return None
    return found if found.any() else None


def _one(part: np.ndarray, missing: np.ndarray | None, mode: str, fill: Any) -> np.ndarray:
    if mode == "mean":
        return _mean(part, missing, fill)
    best = np.fmax if mode == "max" else np.fmin
    if missing is None or part.dtype.kind == "f":
        return np.asarray(best.reduce(part, axis=0))
    info = np.iinfo(part.dtype)
    worst = info.min if mode == "max" else info.max
    found = best.reduce(np.where(missing, part.dtype.type(worst), part), axis=0)
    return np.asarray(np.where(missing.all(axis=0), fill, found), part.dtype)


def _mean(part: np.ndarray, missing: np.ndarray | None, fill: Any) -> np.ndarray:
    number: Any = len(part) if missing is None else (~missing).sum(axis=0)
    values = part if missing is None else np.where(missing, part.dtype.type(0), part)
    total = values.sum(axis=0, dtype=np.int64 if part.dtype.kind in "iu" else np.float64)
    mean = total / np.maximum(number, 1)
    mean = np.rint(mean) if part.dtype.kind in "iu" else mean
    found = mean if missing is None else np.where(missing.all(axis=0), fill, mean)
    return np.asarray(found).astype(part.dtype)
