"""How the intensities of a region are distributed: statistics, and the features of their histogram.

Definitions, names and codes of the IBSI reference manual, sections 3.3 and 3.4 (`features.nomenclature`).
Intensities are those of the voxels inside, in any order; NaN is no intensity and is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicomlake.errors import QuantityError
from dicomlake.features.nomenclature import HISTOGRAM, STATISTICS

Values = npt.NDArray[np.float64]
_MANY_BINS = 1 << 16


def intensity_statistics(intensities: npt.ArrayLike) -> dict[str, float]:
    """The 18 intensity-based statistical features (IBSI UHIW), by name, in the order of the manual.

    intensities: of the voxels of the region, any shape, in a unit that means something (HU, SUV …).
    Percentiles are interpolated linearly between values. Variance has no bias correction; skewness and
    kurtosis of equal values are 0; a ratio whose divisor is 0 is NaN.
    Raises QuantityError when no intensity is left, or one is infinite.
    """
    return dict(zip((one.name for one in STATISTICS), _statistics(_finite(intensities)), strict=True))


def discretised(
    intensities: npt.ArrayLike,
    *,
    bins: int | None = None,
    width: float | None = None,
    lowest: float | None = None,
) -> npt.NDArray[np.int64]:
    """The number of the bin of each intensity, from 1 (IBSI section 2.7).

    bins: fixed bin number (K15C): that many equal bins from the smallest intensity to the largest, which is
        in the last one.
    width: fixed bin size (Q3RU), in the unit of the intensities; the first bin begins at `lowest`, the
        smallest intensity unless given. Give the same `lowest` for all regions that are compared.
    Raises ValueError unless one of `bins` and `width` is given and positive; QuantityError for intensities
    below `lowest`, and for a width that makes more than 65,536 bins.
    """
    values = _finite(intensities)
    if (bins is None) == (width is None) or (bins if width is None else width) <= 0:  # type: ignore[operator]
        raise ValueError("pass either bins=, a number of them, or width=, in the unit of the values")
    low, high = float(values.min()), float(values.max())
    if bins is not None:
        if lowest is not None:
            raise ValueError("lowest= goes with width=: a fixed number of bins begins at the smallest value")
        span = high - low
        found = np.floor(bins * (values - low) / span) + 1 if span > 0 else np.ones_like(values)
        return np.minimum(found, bins).astype(np.int64)
    assert width is not None
    start = low if lowest is None else float(lowest)
    if low < start:
        raise QuantityError(
            "intensities lie below the first bin: pass a smaller lowest=, or leave them out of the region"
        )
    if (high - start) / width >= _MANY_BINS:
        raise QuantityError(f"bins of this width would be more than {_MANY_BINS}: pass a larger width=")
    return (np.floor((values - start) / width) + 1).astype(np.int64)


def histogram_features(levels: npt.ArrayLike) -> dict[str, float]:
    """The 23 intensity histogram features (IBSI ZVCW), by name, in the order of the manual.

    levels: the numbers of the bins, as `discretised` gives them, from 1. Entropy is in bits. Gradients are
    NaN where there is one bin only. Raises QuantityError for levels that are not such numbers.
    """
    values = _finite(levels)
    if values.min() < 1 or (values != np.rint(values)).any() or values.max() > _MANY_BINS:
        raise QuantityError("levels are the whole numbers of bins, from 1: take those of discretised()")
    mean, variance, skewness, kurtosis, median, low, p10, p90, high, iqr, span, *deviations = _statistics(
        values
    )
    mad, rmad, medad, variation, dispersion = deviations[:5]
    counts = np.bincount(values.astype(np.int64))[1:]
    shares = counts[counts > 0] / counts.sum()
    found = (
        *(mean, variance, skewness, kurtosis, median, low, p10, p90, high),
        _mode(counts, mean),
        *(iqr, span, mad, rmad, medad, variation, dispersion),
        float(-(shares * np.log2(shares)).sum()) + 0.0,
        float((shares**2).sum()),
        *_gradients(counts),
    )
    return dict(zip((one.name for one in HISTOGRAM), found, strict=True))


def _finite(given: npt.ArrayLike) -> Values:
    """The values that are there, flat."""
    values = np.asarray(given, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if not values.size:
        raise QuantityError("no voxel with an intensity lies in the region: it has no statistics")
    if np.isinf(values).any():
        raise QuantityError("an intensity of the region is infinite: leave it out, or mend the image")
    return values


def _statistics(values: Values) -> tuple[float, ...]:
    """The features of STATISTICS, in that order."""
    mean = float(values.mean())
    apart = values - mean
    squares = apart * apart
    variance = float(squares.mean())
    p10, p25, median, p75, p90 = (float(p) for p in np.percentile(values, [10, 25, 50, 75, 90]))
    low, high = float(values.min()), float(values.max())
    equal = low == high or not variance
    middle = values[(values >= p10) & (values <= p90)]
    energy = float((values**2).sum())
    return (
        mean,
        variance,
        0.0 if equal else float((squares * apart).mean()) / variance**1.5,
        0.0 if equal else float((squares * squares).mean()) / variance**2 - 3,
        median,
        low,
        p10,
        p90,
        high,
        p75 - p25,
        high - low,
        float(np.abs(apart).mean()),
        float(np.abs(middle - middle.mean()).mean()) if middle.size else float("nan"),
        float(np.abs(values - median).mean()),
        _ratio(variance**0.5, mean),
        _ratio(p75 - p25, p75 + p25),
        energy,
        (energy / values.size) ** 0.5,
    )


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")


def _mode(counts: npt.NDArray[np.int64], mean: float) -> float:
    """The fullest bin; of several the one closest to the mean, of two of these the lower."""
    fullest = np.flatnonzero(counts == counts.max()) + 1
    return float(fullest[np.argmin(np.abs(fullest - mean))])


def _gradients(counts: npt.NDArray[np.int64]) -> tuple[float, float, float, float]:
    """The steepest rise and fall of the histogram, each with its bin."""
    if len(counts) < 2:
        return (float("nan"),) * 4
    slope = np.gradient(counts.astype(np.float64))
    up, down = int(slope.argmax()), int(slope.argmin())
    return float(slope[up]), float(up + 1), float(slope[down]), float(down + 1)
