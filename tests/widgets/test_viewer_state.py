"""The viewer's state and answers, without a browser: asks, traits, what is given back as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from traitlets import TraitError

from dicomlake.errors import GeometryError
from dicomlake.widgets.viewer import Viewer

SHAPE = (12, 16, 20)  # z, y, x
STEPS = (2.0, 1.0, 0.5)


def volume(shape: tuple[int, ...] = SHAPE, **attrs: Any) -> xr.DataArray:
    """A CT whose value tells its place: 1000 z + 20 y + x, upright, with a slope of 2 and intercept -100."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape[-3:]), indexing="ij")
    values = np.broadcast_to((1000 * z + 20 * y + x).astype(np.int16), shape).copy()
    for k in range(shape[0] if len(shape) == 4 else 0):
        values[k] += k
    affine = np.array([[0, 0, STEPS[2], -5], [0, STEPS[1], 0, -8], [STEPS[0], 0, 0, 30], [0, 0, 0, 1.0]])
    coords = {d: np.arange(n) * s for d, n, s in zip("zyx", shape[-3:], STEPS, strict=True)}
    dims = ("time", "z", "y", "x")[-len(shape) :]
    known = {
        "affine_lps": affine.tolist(),
        "source": "stored",
        "modality": "CT",
        "units": "HU",
        "rescale_slope": 2.0,
        "rescale_intercept": -100.0,
        "bits_stored": 16,
        "spacing_mm": list(STEPS),
        "origin_mm": [-5.0, -8.0, 30.0],
    }
    return xr.DataArray(values, dims=dims, coords=coords, attrs=known | attrs)
