"""From stored values to values with units: lines, tables, padding, real-world values (PS3.3 C.11.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from dicomlake.dicom.luts import Lut
from dicomlake.dicom.real_world import RealWorldMapping
from dicomlake.errors import GeometryError, QuantityError

_INT16 = np.iinfo(np.int16)
_EXACT_BITS = 24  # whole numbers of more bits than this are not exact in float32
FACTORS = ("rescale_slope", "rescale_intercept")
_PADDING = ("padding_value", "padding_limit")


def rescaled(image: xr.DataArray) -> xr.DataArray:
    """The values in their units, lazily; what is rescaled already comes back as it is.

    By the Modality LUT where there is one, else stored x RescaleSlope + RescaleIntercept. int16 where that is
    exact, float64 for stored values of more than 24 bits, else float32; colours, bool and images that state
    no rescale keep their values. Padding becomes NaN where it could not be told from values afterwards:
    behind a table, and where slices are scaled apart.
    Raises QuantityError where some slices have a factor and others lack it, where the factors or the table
    are not at hand, and for an array that does not say what its values are.
    """
    if _is_rescaled(image):
        return image
    _check_factors(image)
    if image.attrs.get("modality_lut"):
        return _by_table(image)
    slope, intercept = (_factor(image, name, n) for name, n in zip(FACTORS, (1.0, 0.0), strict=True))
    if not states_a_line(image):
        return _described(image, image, _stated_padding(image))
    if _fits_int16(image.dtype, image.attrs.get("bits_stored"), slope, intercept):
        return _described(image.astype(np.int16) + np.int16(intercept), image, _moved_padding(image))
    dtype = _float_for(image)
    source = without_padding(image, dtype) if _varies(image) else image.astype(dtype)
    values = source * _as(dtype, slope) + _as(dtype, intercept)
    return _described(values, image, {} if _varies(image) else _moved_padding(image))


def in_units(image: xr.DataArray, factor: float, units: str, rule: str) -> xr.DataArray:
    """Rescaled values x factor, float32, lazily; the attributes say the units and the rule."""
    values = rescaled(image)
    exact = values.dtype.type if values.dtype.kind == "f" else np.float64
    found: xr.DataArray = (values * exact(factor)).astype(np.float32).rename(image.name)
    kept = {k: v for k, v in values.attrs.items() if k != "pet"}  # an SUV is made once
    padding = {
        name: float(np.float32(exact(kept[name]) * exact(factor))) for name in _PADDING if name in kept
    }
    found.attrs = kept | padding | {"units": units, "rule": rule}
    return found


def real_world(image: xr.DataArray, label: str | None) -> xr.DataArray:
    """Real-world values of stored ones (PS3.3 C.7.6.16.2.11), float32, lazily; NaN where none is defined.

    label: LUTLabel, which tells several mappings apart. Raises QuantityError when there is no such mapping,
    or more than one, and for values that are no longer the stored ones.
    """
    if image.attrs.get("source") != "stored":
        raise QuantityError(
            "real-world values are of stored values: take them from the image as it was opened"
        )
    given = [RealWorldMapping.from_json(one) for one in image.attrs.get("real_world", ())]
    found = [one for one in given if label is None or one.label == label]
    if len(found) != 1:
        raise QuantityError(
            f"{len(found)} of {len(given)} real-world mappings are meant: "
            + (
                "name one with label=, its LUTLabel"
                if given
                else "the image states none, use .dicom.rescaled()"
            )
        )
    (mapping,) = found
    values = _elementwise(without_padding(image), lambda v: mapping.apply(v).astype(np.float32), np.float32)
    described = _described(values, image, {})
    rule = "RealWorldValueLUTData" if mapping.values else "RealWorldValueSlope and RealWorldValueIntercept"
    described.attrs.pop("units", None)
    described.attrs |= {"rule": rule} | ({"units": mapping.units} if mapping.units else {})
    return described


def interpolable(image: xr.DataArray) -> xr.DataArray:
    """The array whose values may be averaged: itself, or rescaled where stored values cannot be compared.

    Raises GeometryError for palette indices, between which there is nothing.
    """
    if image.attrs.get("photometric_interpretation") == "PALETTE COLOR":
        raise GeometryError("palette indices have no values in between: they cannot be interpolated")
    apart = _varies(image) or image.attrs.get("modality_lut") or image.attrs.get("rescale_mixed")
    return rescaled(image) if apart and image.attrs.get("source") == "stored" else image


def without_padding(image: xr.DataArray, dtype: Any = None) -> xr.DataArray:
    """The array with NaN for padding, as `dtype`: float32 unless that loses digits. Itself if it has none."""
    span = padding_range(image)
    if span is None:
        return image if dtype is None else image.astype(dtype)
    inside = (image >= span[0]) & (image <= span[1])
    found: xr.DataArray = image.astype(dtype or _float_for(image)).where(~inside)
    found.attrs = {k: v for k, v in image.attrs.items() if not k.startswith("padding_")}
    return found


def padding_range(image: xr.DataArray) -> tuple[float, float] | None:
    """The lowest and highest value that means "no voxel here" (PS3.3 C.7.5.1.1.2); None without padding."""
    value = image.attrs.get("padding_value")
    if value is None:
        return None
    limit = image.attrs.get("padding_limit", value)
    return min(value, limit), max(value, limit)


def states_a_line(image: xr.DataArray) -> bool:
    """Whether there is anything to do: numbers with factors, not colours or bool."""
    stated = any(name in image.coords or name in image.attrs for name in FACTORS)
    return stated and "rgb" not in image.dims and image.dtype != bool


# ---- what the array says ---------------------------------------------------------------------------


def _is_rescaled(image: xr.DataArray) -> bool:
    source = image.attrs.get("source")
    if source not in ("stored", "rescaled", "palette"):
        raise QuantityError(
            "this array does not say whether its values are stored or rescaled: it comes from no image, or an"
            " operation dropped its attributes; keep them with xr.set_options(keep_attrs=True)"
        )
    return bool(source != "stored")


def _check_factors(image: xr.DataArray) -> None:
    if image.attrs.get("rescale_mixed"):
        raise QuantityError("some slices have a rescale slope and others have none: take .values as stored")
    lost = [name for name in image.attrs.get("rescale_varies", ()) if name not in image.coords]
    if lost:
        raise QuantityError(
            f"{' and '.join(lost)} vary between slices, and an operation dropped them: rescale first, then"
            " compute"
        )


def _varies(image: xr.DataArray) -> bool:
    return any(name in image.coords for name in FACTORS)


def _factor(image: xr.DataArray, name: str, default: float) -> Any:
    return image.coords[name] if name in image.coords else image.attrs.get(name, default)


def _fits_int16(dtype: np.dtype[Any], bits_stored: int | None, slope: Any, intercept: Any) -> bool:
    """Whether slope 1 and an integral intercept keep every possible stored value within int16."""
    if not (isinstance(slope, int | float) and isinstance(intercept, int | float)) or dtype.kind not in "iu":
        return False
    if slope != 1 or intercept != int(intercept):
        return False
    bits = bits_stored or 8 * dtype.itemsize
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)
    return bool(_INT16.min <= min(low, low + intercept) and max(high, high + intercept) <= _INT16.max)


def _float_for(image: xr.DataArray) -> np.dtype[Any]:
    """float32, or float64 where float32 would lose digits of what is stored."""
    if image.dtype.kind in "iu":
        bits = image.attrs.get("bits_stored") or 8 * image.dtype.itemsize
        return np.dtype(np.float64 if bits > _EXACT_BITS else np.float32)
    return np.dtype(np.float64 if image.dtype == np.float64 else np.float32)


def _as(dtype: np.dtype[Any], value: Any) -> Any:
    return value.astype(dtype) if isinstance(value, xr.DataArray) else dtype.type(value)


# ---- what becomes of it ----------------------------------------------------------------------------


def _by_table(image: xr.DataArray) -> xr.DataArray:
    given = image.attrs["modality_lut"]
    if not isinstance(given, Mapping):
        raise QuantityError(
            "the image has a Modality LUT that is damaged, or not known to be that of all slices: take"
            " .values as stored"
        )
    table = Lut.from_json(dict(given))
    values = _elementwise(without_padding(image), *_looked_up(table))
    described = _described(values, image, {})
    described.attrs |= {"units": table.units} if table.units else {}
    return described


def _looked_up(table: Lut) -> tuple[Callable[[Any], Any], Any]:
    """What a table makes of a block, and its dtype; NaN stays NaN, then all are float32."""
    dtype = np.dtype(np.uint8 if table.bits <= 8 else np.uint16)

    def apply(block: np.ndarray) -> np.ndarray:
        if block.dtype.kind != "f":
            return table.apply(block)
        missing = np.isnan(block)
        return np.where(missing, np.float32(np.nan), table.apply(np.where(missing, 0, block)))

    return apply, dtype


def _elementwise(image: xr.DataArray, function: Callable[[Any], Any], dtype: Any) -> xr.DataArray:
    """A function of each block, lazily; float32 from floating point, where NaN may be."""
    made = np.dtype(np.float32) if image.dtype.kind == "f" else np.dtype(dtype)
    found: xr.DataArray = xr.apply_ufunc(
        lambda block: function(block).astype(made, copy=False),
        image,
        dask="parallelized",
        output_dtypes=[made],
        keep_attrs=True,
    )
    return found


def _moved_padding(image: xr.DataArray) -> dict[str, float]:
    """The padding values after the line of the image, rounded as its values are."""
    dtype = _float_for(image)
    slope, intercept = (_as(dtype, _factor(image, n, d)) for n, d in zip(FACTORS, (1.0, 0.0), strict=True))
    stated = _stated_padding(image)
    return {name: float(dtype.type(value) * slope + intercept) for name, value in stated.items()}


def _stated_padding(image: xr.DataArray) -> dict[str, float]:
    return {name: image.attrs[name] for name in _PADDING if name in image.attrs}


def _described(values: xr.DataArray, image: xr.DataArray, padding: Mapping[str, float]) -> xr.DataArray:
    """Values that are rescaled now: factors left behind would be applied twice."""
    gone = ("rescale_", "padding_", "modality_lut", "real_world")
    found: xr.DataArray = values.drop_vars(list(FACTORS), errors="ignore").rename(image.name).copy(deep=False)
    kept = {k: v for k, v in image.attrs.items() if not str(k).startswith(gone)}
    found.attrs = kept | dict(padding) | {"source": "rescaled"}
    return found
