"""Peaks: the highest mean over a sphere of 1 cm3, such as SUVpeak (IBSI reference manual, section 3.2)."""

from __future__ import annotations

from math import pi

import numpy as np
import numpy.typing as npt

from dicomlake.errors import GeometryError, QuantityError
from dicomlake.features.nomenclature import LOCAL
from dicomlake.features.shape import upright

_RADIUS_MM = 10 * (3 / (4 * pi)) ** (1 / 3)


def peak_features(
    mask: npt.ArrayLike, intensities: npt.ArrayLike, spacing_mm: npt.ArrayLike
) -> dict[str, float]:
    """Local (VJGA) and global (0F91) intensity peak, in the unit of the intensities.

    mask: bool, (z, y, x): where the sphere may be centred. intensities: (z, y, x), all of them: the mean is
    over all voxels whose centres lie in the sphere, in the region or not; those outside the array, and NaN,
    are left out. spacing_mm: as in `shape_features`. The local peak is that at the maximum of the region, the
    highest where several voxels have it. Raises QuantityError when no intensity is inside.
    """
    inside, values = np.asarray(mask, dtype=bool), np.asarray(intensities, dtype=np.float64)
    if inside.shape != values.shape or inside.ndim != 3:
        raise GeometryError(f"a mask of shape {inside.shape} is not on the grid of {values.shape} voxels")
    known = ~np.isnan(values)
    centres = np.argwhere(inside & known)
    if not len(centres):
        raise QuantityError("no voxel with an intensity lies in the region: it has no peak")
    offsets = _offsets(upright(spacing_mm))
    near = _nearly(values, known, offsets)[tuple(centres.T)]
    own = values[tuple(centres.T)]
    highest = (int(np.where(own == own.max(), near, -np.inf).argmax()), int(near.argmax()))
    found = _means(values, known, centres[list(highest)], offsets).tolist()
    return dict(zip((one.name for one in LOCAL), found, strict=True))


def _offsets(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The voxels in a sphere around one, (n, 3), as differences of index along z, y, x."""
    reach = np.ceil(_RADIUS_MM * np.linalg.norm(np.linalg.inv(steps), axis=1)).astype(int)
    axes = [np.arange(-n, n + 1) for n in reach]
    near = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(near[np.linalg.norm(near @ steps.T, axis=1) <= _RADIUS_MM])


def _nearly(
    values: npt.NDArray[np.float64], known: npt.NDArray[np.bool_], offsets: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """The mean over the sphere around every voxel, to the rounding of a Fourier transform."""
    from scipy.signal import oaconvolve

    reach = np.abs(offsets).max(axis=0)
    ball = np.zeros(2 * reach + 1)
    ball[tuple((offsets + reach).T)] = 1
    total = oaconvolve(np.where(known, values, 0.0), ball, mode="same")
    count = oaconvolve(known.astype(np.float64), ball, mode="same")
    return np.asarray(total / np.maximum(np.rint(count), 1))


def _means(
    values: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_],
    centres: npt.NDArray[np.intp],
    offsets: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    """The mean over the sphere around each centre."""
    total, count = np.zeros(len(centres)), np.zeros(len(centres))
    for offset in offsets:
        at = centres + offset
        within = ((at >= 0) & (at < values.shape)).all(axis=1)
        places = tuple(at[within].T)
        counted = known[places]
        total[within] += np.where(counted, values[places], 0.0)
        count[within] += counted
    return np.asarray(total / count)
