"""What planes travel as: stored whole numbers with one line to their units, else float32, else 8-bit colour.

Nothing that was measured is lost on the way: 8 and 16 bits go as they are stored. Only values that no single
line of a volume explains (slices scaled apart, a Modality LUT, 32 bits) are computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.errors import QuantityError

if TYPE_CHECKING:
    import xarray as xr

_NATIVE = {"bool": "uint8", "uint8": "uint8", "int8": "int16", "int16": "int16", "uint16": "uint16"}
_FACTORS = ("rescale_slope", "rescale_intercept")
_UNITS = {"GY": "Gy", "BQML": "Bq/ml", "CNTS": "counts", "US": "", "PROPCNTS": "counts", "GML": "SUV"}
_QUALITY = 80  # of JPEG: a tenth of the bytes, and no seams at a usual window


@dataclass(frozen=True, slots=True)
class Encoding:
    """How values of an image become numbers that travel.

    kind: "int16", "uint16", "uint8", "float32" or "rgb8". value = number * slope + intercept, in `units`.
    factor: what windows of the header, which are for rescaled values, are multiplied by (SUV).
    padding: lowest and highest number that means "no voxel here", None without; in float32 that is NaN.
    convert: a part of the image to the numbers of it; may be called by any thread.
    """

    kind: str
    slope: float
    intercept: float
    units: str
    factor: float
    padding: tuple[float, float] | None
    convert: Callable[[xr.DataArray], np.ndarray]

    @property
    def as_stored(self) -> bool:
        """Whether numbers follow from the array alone, and not from what is said of it beside."""
        return self.kind not in ("float32", "rgb8")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return np.dtype("uint8" if self.kind == "rgb8" else self.kind)


def encoding_of(image: xr.DataArray, palette: xr.DataArray | None = None) -> Encoding:
    """How an image travels. palette: that of its Dataset, for PALETTE COLOR."""
    if "rgb" in image.dims:
        return _colour(lambda part: eight_bits(part.values, image.attrs.get("bits_stored")))
    if palette is not None and image.attrs.get("photometric_interpretation") == "PALETTE COLOR":
        from dicomlake.dicom.luts import Palette

        table = Palette(int(palette.attrs["first"]), np.asarray(palette.values))
        return _colour(lambda part: eight_bits(table.apply(part.values), None))
    factor, units = display_units(image)
    line = _line(image)
    if line is not None and image.dtype.name in _NATIVE:
        kind = _NATIVE[image.dtype.name]
        dtype = np.dtype(kind)
        return Encoding(
            kind,
            line[0] * factor,
            line[1] * factor,
            units,
            factor,
            _padding(image),
            lambda part: part.values.astype(dtype, copy=False),
        )
    return Encoding("float32", 1.0, 0.0, units, factor, None, _in_units(image, factor))


def _colour(convert: Callable[[xr.DataArray], np.ndarray]) -> Encoding:
    return Encoding("rgb8", 1.0, 0.0, "", 1.0, None, convert)


def eight_bits(colours: np.ndarray, bits_stored: int | None) -> np.ndarray:
    """Colours of more than 8 bits by their upper 8."""
    if colours.dtype == np.uint8:
        return colours
    if colours.dtype.kind not in "iu":
        return np.asarray(np.clip(np.rint(colours), 0, 255), np.uint8)
    upper = colours >> max((bits_stored or 8 * colours.dtype.itemsize) - 8, 0)
    return np.asarray(upper, np.uint8)


def display_units(image: xr.DataArray) -> tuple[float, str]:
    """What rescaled values are multiplied by to be shown, and the units then."""
    if _unknown(image):
        return 1.0, ""
    table = image.attrs.get("modality_lut") or {}
    units = str(table.get("units") or image.attrs.get("units") or "")
    pet = image.attrs.get("pet")
    if pet is not None and image.attrs.get("source") in ("stored", "rescaled"):
        from dicomlake.dicom.suv import suv

        try:
            return suv(pet, "bw").factor, "SUV"
        except QuantityError:
            pass  # what is missing for it is told by image.dicom.suv()
    return 1.0, _UNITS.get(units, units)


def _line(image: xr.DataArray) -> tuple[float, float] | None:
    """The one slope and intercept of all values; None where there is none."""
    attrs = image.attrs
    if attrs.get("source") != "stored" or _unknown(image):
        return 1.0, 0.0
    if attrs.get("modality_lut") or any(name in image.coords for name in _FACTORS):
        return None
    return float(attrs.get("rescale_slope", 1.0)), float(attrs.get("rescale_intercept", 0.0))


def _unknown(image: xr.DataArray) -> bool:
    """Whether nobody can say what stored values mean: then they are shown as stored, without units."""
    attrs = image.attrs
    lost = any(name not in image.coords for name in attrs.get("rescale_varies", ()))
    table = attrs.get("modality_lut")
    broken = bool(table) and not isinstance(table, Mapping)
    return attrs.get("source") == "stored" and (bool(attrs.get("rescale_mixed")) or lost or broken)


def _padding(image: xr.DataArray) -> tuple[float, float] | None:
    from dicomlake.volumes.rescale import padding_range

    return padding_range(image)


def _in_units(image: xr.DataArray, factor: float) -> Callable[[xr.DataArray], np.ndarray]:
    """Rescaled values x factor as float32, NaN for padding."""
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`
    from dicomlake.volumes.rescale import without_padding

    stated = image.attrs.get("source") in ("stored", "rescaled") and not _unknown(image)

    def convert(part: xr.DataArray) -> np.ndarray:
        values = without_padding(part)
        values = values.dicom.rescaled() if stated else values
        return (values.values * np.float64(factor)).astype(np.float32) if factor != 1 else values.values

    return lambda part: convert(part).astype(np.float32, copy=False)


# ---- pictures ----------------------------------------------------------------------------------------


def grey(
    numbers: np.ndarray,
    window: tuple[float, float],
    shape: str = "linear",
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> np.ndarray:
    """uint8 of numbers through a window (PS3.3 C.11.2.1.2 and .3); NaN is black.

    window: centre and width in units, in which value = number * slope + intercept. shape: "linear" (which is
    "linear_exact" below a width of 1, where the clause has none), "linear_exact" or "sigmoid".
    """
    from dicomlake.dicom import luts

    center, width = window[0], max(window[1], float(np.finfo(np.float32).tiny))
    function = shape.upper() if shape in ("linear", "linear_exact", "sigmoid") else "LINEAR"
    function = "LINEAR_EXACT" if function == "LINEAR" and width < 1 else function
    if numbers.dtype.kind in "iu" and numbers.dtype.itemsize <= 2 and numbers.size > 1 << 16:
        low, high = int(numbers.min()), int(numbers.max())
        values = np.arange(low, high + 1) * slope + intercept
        return np.asarray(_byte(luts.window(values, center, width, function))[numbers.astype(np.int32) - low])
    values = numbers * np.float64(slope) + intercept
    return _byte(np.nan_to_num(luts.window(values, center, width, function)))


def _byte(part: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(part * 255), dtype=np.uint8)


def jpeg(picture: np.ndarray, quality: int = _QUALITY) -> bytes:
    """JPEG of uint8 (rows, cols) or (rows, cols, 3)."""
    return _encoded(picture, "JPEG", quality=quality)


def png(picture: np.ndarray) -> bytes:
    """PNG of uint8 (rows, cols) or (rows, cols, 3)."""
    return _encoded(picture, "PNG", compress_level=6)


def _encoded(picture: np.ndarray, form: str, **how: Any) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, form, **how)
    return file.getvalue()


def scaled(picture: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """uint8 (rows, cols[, 3]) made larger or smaller, without aliasing."""
    from PIL import Image

    how = Image.Resampling.BOX if rows < picture.shape[0] else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((cols, rows), how))
