"""What an array on an image's grid carries: coordinates and attributes as the image itself has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dicomlake.dicom import geometry
from dicomlake.dicom.grid import Grid


def coordinates(grid: Grid | None, sources: tuple[tuple[str, ...], ...] = ()) -> dict[str, Any]:
    """Positions of voxel centres along z (the normal), y and x in mm, as an image's own Dataset has them."""
    if grid is None:
        named = [" ".join(uids) for uids in sources]
        return {"source_instance_uid": ("frame", np.array(named, dtype=object))} if any(named) else {}
    found: dict[str, Any] = {}
    if np.isfinite(grid.affine).all():
        units = {"units": "mm"}
        origin, step = _along_axes(grid)
        for axis, name in enumerate("zyx"):
            found[name] = (name, origin[axis] + step[axis] * np.arange(grid.shape[axis]), units)
        if grid.positions is not None:
            found["z"] = ("z", grid.positions @ grid.normal, units)
            for axis, name in enumerate("xyz"):
                found[f"position_{name}"] = ("z", grid.positions[:, axis], units)
    if grid.instance_uids:
        found["instance_uid"] = ("z", np.array(grid.instance_uids, dtype=object))
    return found


def _along_axes(grid: Grid) -> tuple[list[float], list[float]]:
    """Origin and step along normal, column direction, row direction; z as far as slices lie apart."""
    z, y, x = geometry.spacing_mm(grid.affine)
    along = float(grid.normal @ grid.affine[:3, 0])
    axes = (grid.normal, grid.affine[:3, 1] / y, grid.affine[:3, 2] / x)
    origin = [float(grid.affine[:3, 3] @ axis) for axis in axes]
    return origin, [along if geometry.is_sheared(grid.affine, grid.shape[0]) else z, y, x]


def geometry_attributes(grid: Grid | None) -> dict[str, Any]:
    """What `.dicom.affine` and `.dicom.grid` go by, as an image has them; empty without geometry."""
    if grid is None or not np.isfinite(grid.affine).all():
        return {}
    origin, step = _along_axes(grid)
    row, column = grid.affine[:3, 2] / step[2], grid.affine[:3, 1] / step[1]
    found: dict[str, Any] = {
        "frame_of_reference_uid": grid.frame_of_reference_uid,
        "origin_mm": origin,
        "orientation": [*row.tolist(), *column.tolist()],
        "pixel_spacing_mm": step[1:],
        "verdict": "irregular",
    }
    if grid.positions is None:
        sheared = geometry.is_sheared(grid.affine, grid.shape[0])
        found["verdict"] = "sheared" if sheared else "regular"
        found |= {"affine_lps": grid.affine.tolist(), "step_mm": step}
    return found
