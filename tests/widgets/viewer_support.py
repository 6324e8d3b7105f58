"""Images for tests of the viewer: every voxel tells its place, numbers have a slope and an intercept."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from tests.widgets.images_support import image_on

SHAPE = (12, 16, 20)  # z, y, x
STEPS_MM = (2.0, 1.0, 0.5)
SLOPE, INTERCEPT = 2.0, -1000.0
# z, y, x -> LPS: patient x to the left, y to posterior, z to superior, as axial slices usually lie
AFFINE = np.array([[0, 0, 0.5, -5], [0, 1, 0, -8], [2, 0, 0, 30], [0, 0, 0, 1.0]])


def numbers(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Stored numbers, int16: 1000 z + 30 y + x."""
    z, y, x = np.indices(shape)
    return (1000 * z + 30 * y + x).astype(np.int16)


def volume(shape: tuple[int, int, int] = SHAPE, **attrs: Any) -> xr.DataArray:
    """A CT of these numbers; value = 2 x number - 1000 HU."""
    known = {
        "source": "stored",
        "modality": "CT",
        "units": "HU",
        "rescale_slope": SLOPE,
        "rescale_intercept": INTERCEPT,
        "bits_stored": 16,
    }
    return image_on(AFFINE, numbers(shape), **known | attrs)


def course(times: int = 6) -> xr.DataArray:
    """The CT at several times: number k of time is raised by k."""
    still = volume()
    image = xr.concat([still + k for k in range(times)], "time", combine_attrs="drop")
    image = image.assign_coords(time=("time", np.arange(times) * 1.5, {"units": "s"}))
    return image.astype(np.int16).assign_attrs(still.attrs).transpose("time", "z", "y", "x")


def colours() -> xr.DataArray:
    """Eight colour frames without geometry, like ultrasound."""
    z, y, x = np.indices((8, 24, 32))
    values = np.stack([20 * z + y, 10 * z + x, 255 - y - x], axis=-1).astype(np.uint8)
    attrs = {"source": "stored", "modality": "US", "photometric_interpretation": "RGB"}
    return xr.DataArray(values, dims=("frame", "y", "x", "rgb"), attrs=attrs)
