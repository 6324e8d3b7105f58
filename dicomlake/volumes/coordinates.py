"""The coordinates of a volume, from its record alone: mm along its axes, and what tells its frames apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from dicomlake.records import Volume
from dicomlake.storage.arrays import level_shape

_SPACE = frozenset("zyx")


def leading_dims(volume: Volume) -> tuple[str, ...]:
    """The dimensions over which the frames lie: all before y."""
    return volume.dims[: volume.dims.index("y")]


def leading_shape(volume: Volume) -> tuple[int, ...]:
    """Their lengths; the frames are in C order over them."""
    return volume.shape[: volume.dims.index("y")]


def coordinates(
    volume: Volume, level: int = 0
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
    """All coordinates of a level: name to dims, values and attributes.

    Those along z, y or x, beyond the positions in mm, belong to level 0 only.
    """
    found = axis_coordinates(volume, level)
    for name in ("rescale_slope", "rescale_intercept"):
        values = volume.info.get(name)
        if isinstance(values, list) and not level:
            by_frame = np.asarray(values, dtype=np.float64).reshape(leading_shape(volume))
            found[name] = (leading_dims(volume), by_frame, {})
    for name, given in volume.info.get("coords", {}).items():
        dims = tuple(given["dims"])
        if not (level and _SPACE & {*dims}):
            units = {"units": given["units"]} if given.get("units") else {}
            found[name] = (dims, _array(given["values"]), units)
    return found


def _array(values: Any) -> np.ndarray:
    """Numbers with nan, or text with an empty one, where a frame has no value."""
    found = np.asarray(values)
    if found.dtype != object:
        return found
    if any(isinstance(value, str) for value in found.flat):
        text = ["" if value is None else str(value) for value in found.flat]
        return np.array(text).reshape(found.shape)
    return found.astype(np.float64)


def steps_mm(volume: Volume) -> tuple[float, float, float] | None:
    """Distances of voxel centres along z (the normal of the slices), y and x in mm, where they are even.

    In a sheared volume the step along z is shorter than the distance between voxel centres of two slices.
    """
    found = volume.info.get("step_mm") or volume.spacing_mm
    return None if found is None else (found[0], found[1], found[2])


def axis_coordinates(
    volume: Volume, level: int = 0
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
    """Positions of voxel centres in mm along z, y, x; empty without geometry."""
    origin, steps, heights = volume.info.get("origin_mm"), steps_mm(volume), volume.info.get("z_mm")
    if steps is None and heights is not None:
        steps = (0.0, *volume.info["pixel_spacing_mm"])
    if steps is None or origin is None or "z" not in volume.dims:
        return {}
    lengths = dict(zip(volume.dims, level_shape(volume.shape, volume.dims, level), strict=True))
    found: dict[str, Any] = {}
    for axis, first, step in zip("zyx", origin, steps, strict=True):
        if axis == "z" and heights is not None:
            values = _means(np.asarray(heights, dtype=np.float64), level)
        else:
            centre = first + step * (2**level - 1) / 2  # of the voxels that were averaged
            values = centre + step * 2**level * np.arange(lengths[axis])
        found[axis] = ((axis,), values, {"units": "mm", "long_name": f"{axis} along the volume's own axis"})
    return found


def _means(values: np.ndarray, level: int) -> np.ndarray:
    """The heights of slices that were averaged two by two; an odd last one stays as it is."""
    for _ in range(level):
        values = np.pad(values, (0, values.size % 2), "edge").reshape(-1, 2).mean(axis=1)
    return values
