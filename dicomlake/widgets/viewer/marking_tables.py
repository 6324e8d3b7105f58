"""Marks and masks as tables and arrays: what a notebook goes on computing with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dicomlake.tables import frame as table_of
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.viewer.roi_statistics import center_of, in_units, ruler_of, statistics

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Mark = Mapping[str, Any]
Labels = npt.NDArray[np.uint8]

_NUMBERS = ("mean", "sd", "min", "max", "median", "value", "count")
_SIZES = ("area_mm2", "pixels_mm2", "volume_mm3", "volume_ml", "length_mm", "length_px", "area_px2")
ROIS = (
    *("id", "name", "tool", "label", "plane", "number", "through"),
    *_NUMBERS,
    *_SIZES,
    *("angle_deg", "units", "remark", "x_mm", "y_mm", "z_mm", "SOPInstanceUID", "frame"),
)
KEY_IMAGES = ("id", "name", "label", "plane", "number", "SOPInstanceUID", "frame")
MASKS = ("value", "name", "voxels", "volume_mm3", "volume_ml", "mean", "sd", "min", "max", "median", "units")
_IN_PLACE_MM = 0.5  # of a step between planes: how far points may lie from the plane they are drawn on


class Slice(NamedTuple):
    """The instance that a plane was acquired in, and its frame from 0; None where it is unknown."""

    instance_uid: str | None
    frame: int | None


def rois(stack: Any, marks: Sequence[Mark]) -> pd.DataFrame:
    """One row a mark that measures something."""
    rows = [_roi(stack, mark) for mark in marks if mark["tool"] != "key"]
    return table_of(rows, ROIS)


def _roi(stack: Any, mark: Mark) -> dict[str, Any]:
    center = center_of(mark, ruler_of(stack, mark["plane"])) or (None, None, None)
    found = slice_of(stack, mark)
    told = {name: mark[name] for name in ("id", "name", "tool", "label", "plane")}
    through = mark.get("through")
    stats = mark.get("stats") or {}
    return (
        told
        | {"number": mark["index"], "through": tuple(through) if through else None}
        | {name: stats.get(name) for name in (*_NUMBERS, *_SIZES, "angle_deg", "units", "remark")}
        | dict(zip(("x_mm", "y_mm", "z_mm"), center, strict=True))
        | {"SOPInstanceUID": found.instance_uid, "frame": found.frame}
    )


def key_images(stack: Any, marks: Sequence[Mark]) -> pd.DataFrame:
    """One row a key image."""
    rows = []
    for mark in marks:
        if mark["tool"] == "key":
            found = slice_of(stack, mark)
            told = {name: mark[name] for name in ("id", "name", "label", "plane")}
            rows.append(
                told | {"number": mark["index"], "SOPInstanceUID": found.instance_uid, "frame": found.frame}
            )
    return table_of(rows, KEY_IMAGES)


def slice_of(stack: Any, mark: Mark, index: int | None = None) -> Slice:
    """The instance of the plane that a mark lies on; None for planes cut across the acquired ones."""
    to_index = np.rint(stack.planes[mark["plane"]].to_index)
    if to_index[0, 1] or to_index[0, 2]:
        return Slice(None, None)
    z = int(to_index[0, 0] * (mark["index"] if index is None else index) + to_index[0, 3])
    image = stack.image
    at = _picked(stack, mark.get("extra") or ()) | ({pile: z} if (pile := _pile(stack)) else {})
    uid, frame = (
        image.coords[name].isel(at, missing_dims="ignore").values if name in image.coords else None
        for name in ("instance_uid", "frame_index")
    )
    single = uid is not None and np.ndim(uid) == 0 and str(uid)
    return Slice(
        str(uid) if single else None, int(frame) if frame is not None and np.ndim(frame) == 0 else None
    )


def _pile(stack: Any) -> str | None:
    """The dimension of an image along its planes; None for a single plane without one."""
    leading = [str(dim) for dim in stack.image.dims if dim not in (*stack.extras, "y", "x", "rgb")]
    return leading[-1] if leading else None


def _picked(stack: Any, extra: Sequence[int]) -> dict[str, int]:
    return dict(zip(stack.extras, extra, strict=False)) if extra else {}


def mask_array(stack: Any, labels: Labels, names: Mapping[int, str], extra: Sequence[int]) -> xr.DataArray:
    """Labels (z, y, x) with the coordinates of the image; attrs["labels"] names them."""
    at: dict[str, int] = _picked(stack, extra) | ({"rgb": 0} if "rgb" in stack.image.dims else {})
    like = stack.image.isel(at)
    like = like.transpose(*([pile] if (pile := _pile(stack)) else []), "y", "x")
    found: xr.DataArray = like.copy(deep=False, data=labels.reshape(like.shape))
    found.name = "mask"
    found.attrs = {k: v for k, v in like.attrs.items() if k in _GEOMETRY} | {"labels": dict(names)}
    return found


_GEOMETRY = {
    *("affine_lps", "spacing_mm", "step_mm", "origin_mm", "orientation", "pixel_spacing_mm", "verdict"),
    *("frame_of_reference_uid", "tilt_degrees", "slice_step"),
}


def mask_statistics(stack: Any, labels: Labels, names: Sequence[Mark], extra: Sequence[int]) -> pd.DataFrame:
    """One row a label that is painted."""
    voxel = voxel_mm3(stack)
    painted = np.flatnonzero(labels)
    of = labels.reshape(-1)[painted]
    values = None
    if len(painted) and not stack.colour:
        values = in_units(stack, np.asarray(stack.values(tuple(extra))).reshape(-1)[painted])
    rows = []
    for label in names:
        chosen = of == label["value"]
        voxels = int(chosen.sum())
        if voxels:
            volume = None if voxel is None else voxels * voxel
            told = {"value": label["value"], "name": label["name"], "voxels": voxels, "units": stack.units}
            sizes = {"volume_mm3": volume, "volume_ml": None if volume is None else volume / 1000}
            rows.append(told | sizes | statistics(np.empty(0) if values is None else values[chosen]))
    return table_of(rows, MASKS)


def voxel_mm3(stack: Any) -> float | None:
    """The volume of a voxel; None where planes lie at no one distance, and of a lone plane."""
    affine = stack.affine
    return (
        None
        if affine is None or stack.shape[0] == 1
        else float(abs(np.linalg.det(np.asarray(affine)[:3, :3])))
    )


def number_of(plane: Any, index: Sequence[int] | None) -> int:
    """The number of the plane through a voxel (z, y, x); of the middle one without."""
    if not index:
        return int(plane.count) // 2
    at = np.linalg.inv(plane.to_index) @ np.array([*index, 1.0])
    return int(min(max(round(float(at[0])), 0), plane.count - 1))


def on_plane(plane: Any, points_mm: Any) -> tuple[int, list[list[float]]]:
    """Number of the plane and (row, column) of patient positions, LPS, mm, that lie in one plane.

    Raises Refusal without geometry, and when they are further from a plane than half a step.
    """
    if plane.to_lps is None:
        raise Refusal("this plane has no place in the patient: give points in pixels instead of points_mm")
    try:
        given = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        raise Refusal("points_mm: a list of (x, y, z)") from None
    if not len(given) or not np.isfinite(given).all():
        raise Refusal("points_mm: a list of finite (x, y, z)")
    full = np.column_stack([given, np.ones(len(given))])
    at = (full @ np.linalg.inv(plane.to_lps).T)[:, :3]
    index = int(np.rint(at[:, 0].mean()))
    if not 0 <= index < plane.count or np.abs(at[:, 0] - index).max() > _IN_PLACE_MM:
        raise Refusal("the points do not lie in one plane of this name: choose another plane=")
    return index, [[float(r), float(c)] for r, c in at[:, 1:]]
