"""From stored values to values with units: lines, tables, and what must not be rescaled (PS3.3 C.11.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from dicomlake.errors import DicomlakeError

_INT16 = np.iinfo(np.int16)


def rescaled(image: xr.DataArray) -> xr.DataArray:
    """Stored x RescaleSlope + RescaleIntercept, lazily; what is rescaled already comes back as it is.

    int16 where that is exact, float32 otherwise.
    Raises DicomlakeError where some slices have a factor and others lack it.
    """
    if image.attrs.get("source") != "stored":
        return image
    if image.attrs.get("rescale_mixed"):
        raise DicomlakeError("some slices have a rescale slope and others have none: take .values as stored")
    slope, intercept = _factor(image, "rescale_slope", 1.0), _factor(image, "rescale_intercept", 0.0)
    if slope is None or intercept is None:
        return image
    if _fits_int16(image.dtype, image.attrs.get("bits_stored"), slope, intercept):
        values = image.astype(np.int16) + np.int16(intercept)
    else:
        values = image.astype(np.float32) * _float32(slope) + _float32(intercept)
    result: xr.DataArray = values.drop_vars(["rescale_slope", "rescale_intercept"], errors="ignore")
    result = result.rename(image.name)
    kept = {k: v for k, v in image.attrs.items() if not k.startswith(("rescale_", "padding_"))}
    result.attrs = kept | {"source": "rescaled"}  # not merged: a slope left behind would be applied twice
    return result


def padding_range(image: xr.DataArray) -> tuple[float, float] | None:
    """The lowest and highest value that means "no voxel here" (PS3.3 C.7.5.1.1.2); None without padding."""
    value = image.attrs.get("padding_value")
    if value is None:
        return None
    limit = image.attrs.get("padding_limit", value)
    return min(value, limit), max(value, limit)


def _factor(image: xr.DataArray, name: str, default: float) -> Any:
    if name in image.coords:
        return image.coords[name]
    return image.attrs.get(name, default)


def _fits_int16(dtype: np.dtype[Any], bits_stored: int | None, slope: Any, intercept: Any) -> bool:
    """Whether slope 1 and an integral intercept keep every possible stored value within int16."""
    if not (isinstance(slope, int | float) and isinstance(intercept, int | float)) or dtype.kind not in "iu":
        return False
    if slope != 1 or intercept != int(intercept):
        return False
    bits = bits_stored or 8 * dtype.itemsize
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)
    return bool(_INT16.min <= min(low, low + intercept) and max(high, high + intercept) <= _INT16.max)


def _float32(value: Any) -> Any:
    return value.astype(np.float32) if isinstance(value, xr.DataArray) else np.float32(value)
