"""Parts of the image that is shown, as arrays in units with their coordinates; places in mm and in voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.errors import GeometryError

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.widgets.images.stack import Stack

Box = Mapping[int, "slice | int"]


def mm_of(affine: np.ndarray | None, index: Sequence[float]) -> list[float]:
    """LPS, mm, of a voxel (z, y, x); [] without geometry."""
    if affine is None:
        return []
    return [round(float(v), 3) for v in (affine @ [*index, 1.0])[:3]]


def exact_index(affine: np.ndarray, mm: Sequence[float]) -> np.ndarray:
    """(z, y, x) between voxels, of a place in LPS, mm."""
    return np.asarray(np.linalg.solve(affine, [*mm, 1.0])[:3])


def lies_in(affine: np.ndarray, mm: Sequence[float], index: Sequence[int]) -> bool:
    """Whether a place lies in a voxel, or on its border."""
    return len(mm) == 3 and bool((np.abs(exact_index(affine, mm) - index) <= 0.51).all())


def nearest_index(
    affine: np.ndarray, mm: Sequence[float], shape: Sequence[int], *, inside: bool = False
) -> list[int]:
    """The voxel nearest to a place. inside: raise GeometryError for a place outside the volume."""
    place = np.asarray(mm, dtype=float)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise GeometryError("a position is x, y, z in mm, LPS: three finite numbers")
    exact = exact_index(affine, place.tolist())
    if inside and ((exact < -0.5) | (exact > np.asarray(shape) - 0.5)).any():
        raise GeometryError("this position lies outside the image: .image.dicom.grid says where it lies")
    return [int(np.clip(round(float(v)), 0, n - 1)) for v, n in zip(exact, shape, strict=True)]


def cut(stack: Stack, box: Box, extra: Sequence[int]) -> xr.DataArray:
    """A part of the image in units. box: axis of (z, y, x) -> what of it, all where it is not named."""
    dims = axes_of(stack)
    where: dict[str, Any] = {name: int(i) for name, i in zip(stack.extras, extra, strict=True)}
    where |= {dims[axis]: part for axis, part in box.items() if dims[axis] in stack.image.dims}
    return in_units(stack, stack.image.isel(where))


def axes_of(stack: Stack) -> tuple[str, str, str]:
    """Names of the image's dimensions that z, y, x of the stack are; of one plane, z may be none of it."""
    spatial = [str(d) for d in stack.image.dims if d not in (*stack.extras, "y", "x", "rgb")]
    return (spatial[0] if spatial else "frame", "y", "x")


def in_units(stack: Stack, part: xr.DataArray) -> xr.DataArray:
    """Values of a part of the image in the units that are shown: rescaled, SUV; colours as they are."""
    if stack.colour:
        return part
    if part.attrs.get("source") in ("stored", "rescaled"):
        found = part.dicom.rescaled()
        factor = stack.encoding.factor
        if factor != 1:
            found = (found * np.float32(factor)).assign_attrs(found.attrs)
    else:
        found = part
    units = {"units": stack.units} if stack.units else {}
    told: xr.DataArray = found.assign_attrs({**found.attrs, **units})
    return told


def box_around(stack: Stack, index: Sequence[int], mm: float | Sequence[float]) -> Box:
    """Voxels whose centres lie in a box of these edges (z, y, x) around a voxel."""
    edges = np.broadcast_to(np.asarray(mm, dtype=float), (3,))
    if not (np.isfinite(edges).all() and (edges > 0).all()):
        raise GeometryError("the edges of a box are lengths above 0 mm: one, or three along z, y, x")
    found: dict[int, slice | int] = {}
    for axis, (at, edge, step) in enumerate(zip(index, edges, steps_mm(stack), strict=True)):
        reach = int(edge / 2 / step + 1e-9)
        found[axis] = slice(max(at - reach, 0), min(at + reach + 1, stack.shape[axis]))
    return found


def steps_mm(stack: Stack) -> list[float]:
    """Distances between voxels along z, y, x."""
    if stack.affine is not None:
        return [float(v) for v in np.linalg.norm(stack.affine[:3, :3], axis=0)]
    plane = next(iter(stack.planes.values()))
    found = [0.0, 0.0, 0.0]
    for axis, step in zip(plane.axes, (plane.step_mm, plane.row_mm, plane.col_mm), strict=True):
        found[axis] = step
    return found


def box_seen(stack: Stack, names: Sequence[str], view: Mapping[str, Any]) -> Box:
    """What is on the screen of all these planes' panes; their views say it in `seen`, else they show all."""
    low, high = [0, 0, 0], [n - 1 for n in stack.shape]
    for name in names:
        seen = (view.get(name) or {}).get("seen")
        if not seen:
            continue
        to_index = stack.planes[name].to_index
        ends = np.array([to_index @ [0, seen[i], seen[i + 1], 1] for i in (0, 2)])[:, :3]
        for axis in stack.planes[name].axes[1:]:
            low[axis] = max(low[axis], int(ends[:, axis].min()))
            high[axis] = min(high[axis], int(ends[:, axis].max()))
    return {axis: slice(a, max(a, b) + 1) for axis, (a, b) in enumerate(zip(low, high, strict=True))}
