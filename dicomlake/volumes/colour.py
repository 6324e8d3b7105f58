"""Colours of PALETTE COLOR images: stored values stay what they are, colours are looked up when wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dicomlake.dicom.luts import Palette
from dicomlake.errors import VolumeError

if TYPE_CHECKING:
    import xarray as xr


def to_rgb(dataset: xr.Dataset) -> xr.DataArray:
    """The image in colour, (…, y, x, rgb), by its palette (PS3.3 C.7.6.3.1.5); one in colour as it is.

    dataset: an opened volume, or a part of it. uint8, or uint16 for palettes of more than 8 bits; stored
    values beyond the ends of the palette get the colours of its ends. Reads the palette; the image stays
    lazy where it was opened with Dask, and is computed where not.
    Raises VolumeError when the image has no palette, or its objects have different ones.
    """
    import xarray as xr

    image = dataset["image"]
    if "rgb" in image.dims:
        return image
    table = _palette_of(dataset)
    found: xr.DataArray = xr.apply_ufunc(
        table.apply,
        image,
        output_core_dims=[["rgb"]],
        dask="parallelized",
        output_dtypes=[table.colours.dtype],
        dask_gufunc_kwargs={"output_sizes": {"rgb": 3}},
    )
    gone = ("padding_", "window", "rescale_", "bits_stored", "units")  # they are about the indices
    kept = {k: v for k, v in image.attrs.items() if not str(k).startswith(gone)}
    found.attrs = kept | {"photometric_interpretation": "RGB", "source": "palette"}
    return found.rename(image.name)


def _palette_of(dataset: xr.Dataset) -> Palette:
    if "palette" not in dataset:
        photometric = dataset["image"].attrs.get("photometric_interpretation", "not said to be PALETTE COLOR")
        raise VolumeError(
            "the objects of this volume have different palettes, or broken ones: its values are indices only"
            if dataset.attrs.get("palette_differs")
            else f"the image has no palette, it is {photometric}: use its values as they are"
        )
    table = dataset["palette"]
    return Palette(int(table.attrs["first"]), np.asarray(table.values))
