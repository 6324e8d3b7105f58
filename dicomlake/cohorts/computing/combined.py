"""Arrays that a function returned for each series: computed, put together, and parted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

Join = Literal["exact", "outer", "inner"]
_OF_FRAMES = ("instance_uid", "frame_index")  # of the image that went in; read lazily, meant for it alone


def computed(value: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """In memory, without the coordinates that lead back to stored frames."""
    return value.drop_vars(list(_OF_FRAMES), errors="ignore").compute(scheduler="synchronous").drop_encoding()


def as_dataset(value: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """A Dataset of an array under its name, or `value`."""
    import xarray as xr

    return value if isinstance(value, xr.Dataset) else value.to_dataset(name=value.name or "value")


def joined(given: Sequence[tuple[str, Any]], join: Join) -> xr.Dataset:
    """The arrays along a new first dimension `series` of SeriesInstanceUIDs; attributes that all share stay.

    Raises ValueError when there is none, or they do not fit together.
    """
    import xarray as xr

    arrays = [
        (uid, as_dataset(value)) for uid, value in given if isinstance(value, xr.DataArray | xr.Dataset)
    ]
    if not arrays:
        raise ValueError("no array was returned: see .table()")
    try:
        return xr.concat(
            [dataset for _, dataset in arrays],
            xr.DataArray(np.array([uid for uid, _ in arrays], dtype=str), dims="series", name="series"),
            data_vars="all",
            coords="different",
            compat="equals",
            join=join,
            combine_attrs="drop_conflicts",
        )
    except (ValueError, xr.MergeError) as error:  # AlignmentError is a ValueError
        raise ValueError(
            "the arrays have unlike coordinates or names: pass join='outer', or take .values one by one"
        ) from error
