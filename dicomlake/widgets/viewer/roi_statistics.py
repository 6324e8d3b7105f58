"""What a mark measures: numbers of the stored values in their units, never of what the browser shows.

Statistics are those of the pixels whose centres lie inside (`roi_shapes`), on the plane itself, also while a
slab of planes is shown. Values are raw numbers x slope + intercept in float64; sd is that of the pixels
themselves (divided by n); pixels that hold padding or no number are left out and counted. `area_mm2` is of
the shape, `pixels_mm2` of the pixels; the volume of a shape through several planes is the area of its pixels
times the distance between planes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.viewer.measuring import Plane, Ruler
from dicomlake.widgets.viewer.roi_shapes import REGIONS, area, crosses, inside, outline

Stats = dict[str, Any]
Array = npt.NDArray[np.float64]

_AT_ONCE = 8  # planes that a stack gives at a time


class Stack(Protocol):
    """What is needed of a stack."""

    @property
    def image(self) -> Any:
        """The array it shows."""

    @property
    def planes(self) -> Mapping[str, Any]:
        """Planes by name."""

    @property
    def colour(self) -> bool:
        """Whether its pixels are colours."""

    @property
    def calibrated(self) -> bool:
        """Whether distances in planes are known in mm."""

    @property
    def encoding(self) -> Any:
        """What its raw numbers are; `padding` tells which mean that there is no pixel."""

    @property
    def slope(self) -> float:
        """Of raw numbers."""

    @property
    def intercept(self) -> float:
        """Of raw numbers."""

    @property
    def units(self) -> str:
        """Of values."""

    def run(self, plane: str, start: int, count: int, extra: Sequence[int] = ()) -> npt.NDArray[Any]:
        """Raw numbers of planes (count, rows, cols[, 3]) as displayed."""


def ruler_of(stack: Stack, plane: str) -> Ruler:
    """What measures on planes of this name."""
    return Ruler.of(stack.planes[plane], calibrated=stack.calibrated)


def stats_of(stack: Stack, mark: Mapping[str, Any]) -> Stats:
    """What a mark measures; JSON types.

    A length gives `length_mm`; an angle `angle_deg`; a point `value`; a region count, mean, sd, min, max,
    median, area_mm2, pixels_mm2, and volume_mm3, volume_ml where it goes through several planes. Where the
    size of pixels is unknown, names end in `_px` and `_px2` instead. All say `units`.
    """
    tool = mark["tool"]
    points = np.asarray(mark["points"], dtype=np.float64).reshape(-1, 2)
    ruler = ruler_of(stack, mark["plane"])
    if tool == "length":
        found: Stats = {f"length_{ruler.unit}": ruler.length(points)}
    elif tool == "angle":
        found = {"angle_deg": ruler.angle(points)}
    elif tool == "point":
        found = _at_point(stack, mark, points)
    elif tool in REGIONS:
        found = _of_region(stack, mark, points, ruler)
    else:
        return {}
    at_detector = stack.image.attrs.get("pixel_spacing_of") == "ImagerPixelSpacing"
    return found | ({"remark": "at the detector"} if at_detector and tool != "point" else {})


def _at_point(stack: Stack, mark: Mapping[str, Any], points: Array) -> Stats:
    plane: Plane = stack.planes[mark["plane"]]
    row, col = (int(v) for v in np.floor(points[0] + 0.5))
    if stack.colour or not (0 <= row < plane.rows and 0 <= col < plane.cols):
        return {"value": None, "units": stack.units}
    value = _values(stack, mark, mark["index"], 1)[0, row, col]
    return {"value": float(value) if np.isfinite(value) else None, "units": stack.units}


def _of_region(stack: Stack, mark: Mapping[str, Any], points: Array, ruler: Ruler) -> Stats:
    plane: Plane = stack.planes[mark["plane"]]
    first, last = mark.get("through") or (mark["index"], mark["index"])
    found = inside(mark["tool"], points, (plane.rows, plane.cols))
    values = np.empty(0)
    if not stack.colour and found.mask.any():
        starts = range(first, last + 1, _AT_ONCE)
        runs = (_values(stack, mark, start, min(_AT_ONCE, last + 1 - start)) for start in starts)
        values = np.concatenate([run[:, *found.box][:, found.mask].ravel() for run in runs])
    pixels = int(found.mask.sum())
    shape_area = area(mark["tool"], points)
    unit = f"{ruler.unit}2"
    stats = statistics(values) | {"units": stack.units, "count": pixels * (last + 1 - first)}
    stats[f"area_{unit}"] = (pixels if shape_area is None else shape_area) * ruler.pixel_area
    stats[f"pixels_{unit}"] = pixels * ruler.pixel_area
    if shape_area is None:
        stats["remark"] = "the outline crosses itself: its area is that of its pixels"
    return stats | (_volume(pixels * (last + 1 - first), ruler) if last > first else {})


def _volume(voxels: int, ruler: Ruler) -> Stats:
    """None where the distance between planes is not one."""
    volume = None if ruler.step is None else voxels * ruler.pixel_area * ruler.step
    return {"volume_mm3": volume, "volume_ml": None if volume is None else volume / 1000}


def _values(stack: Stack, mark: Mapping[str, Any], start: int, count: int) -> Array:
    """Planes in units, float64; NaN for padding."""
    raw = stack.run(mark["plane"], start, count, tuple(mark.get("extra") or ()))
    return in_units(stack, raw)


def in_units(stack: Stack, raw: npt.NDArray[Any]) -> Array:
    """Raw numbers in units, float64; NaN for padding (PS3.3 C.7.5.1.1.2)."""
    values: Array = raw.astype(np.float64) * stack.slope + stack.intercept
    padding = stack.encoding.padding
    if padding is not None:
        values[(raw >= padding[0]) & (raw <= padding[1])] = np.nan
    return values


def statistics(values: Array) -> Stats:
    """mean, sd, min, max, median of values that are numbers, and how many were left out; None without any."""
    kept = values[np.isfinite(values)]
    left_out = {"left_out": int(values.size - kept.size)} if kept.size < values.size else {}
    if not kept.size:
        return dict.fromkeys(("mean", "sd", "min", "max", "median")) | left_out
    numbers = (kept.mean(), kept.std(), kept.min(), kept.max(), np.median(kept))
    return dict(zip(("mean", "sd", "min", "max", "median"), map(float, numbers), strict=True)) | left_out


def center_of(mark: Mapping[str, Any], ruler: Ruler) -> list[float] | None:
    """The middle of a mark in the patient, LPS, mm: of the shape itself; None without geometry."""
    points = np.asarray(mark["points"], dtype=np.float64).reshape(-1, 2)
    if not len(points):
        return None
    first, last = mark.get("through") or (mark["index"], mark["index"])
    at = ruler.to_mm((first + last) / 2, _middle(mark["tool"], points)[None])
    return None if at is None else [float(v) for v in at[0]]


def _middle(tool: str, points: Array) -> Array:
    """The centroid of a region, the vertex of an angle, the mean of other points."""
    if tool == "angle":
        vertex: Array = points[1]
        return vertex
    mean: Array = points.mean(axis=0)
    if tool not in ("polygon", "freehand") or crosses(points):
        return mean
    a = outline(tool, points) - mean
    b = np.roll(a, -1, axis=0)
    weight = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    total = weight.sum()
    if abs(total) < 1e-9:
        return mean
    centroid: Array = mean + ((a + b) * weight[:, None]).sum(axis=0) / (3 * total)
    return centroid
