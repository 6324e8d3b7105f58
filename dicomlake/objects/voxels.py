"""Frames of a segmentation into arrays, when they are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.frames import pixel_format
from dicomlake.dicom.grid import Grid
from dicomlake.dicom.headers import Header
from dicomlake.dicom.pixels import FrameReader
from dicomlake.errors import BrokenObject
from dicomlake.objects.placing import Place

if TYPE_CHECKING:
    import dask.array as da

Voxels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Source:
    """An object in memory and its header."""

    data: bytes
    header: Header


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which frames go where to make an array.

    shape: (z, y, x), in which the frames have their places. own: the grid of that array.
    fill: value of voxels without a frame. maximum: stored value that means 1, None to keep the values.
    """

    shape: tuple[int, int, int]
    frames: tuple[tuple[int, Place], ...]
    own: Grid | None
    dtype: np.dtype[Any]
    fill: int
    maximum: int | None


def dtype_of(kind: str, header: Header) -> np.dtype[Any]:
    """bool for BINARY, float32 for FRACTIONAL, the stored unsigned integer for a label map."""
    if kind == "LABELMAP":
        return pixel_format(header.dataset).dtype
    return np.dtype(bool if kind == "BINARY" else np.float32)


def lazily(source: Source, plan: Plan, sampled: Grid | None) -> da.Array:
    """The array of a plan as one Dask block, sampled at the voxels of another grid where one is given."""
    import dask.array as da
    from dask.delayed import delayed

    shape = plan.shape if sampled is None else sampled.shape
    made = delayed(_Block(source, plan, sampled), pure=False, traverse=False)()
    found: da.Array = da.from_delayed(made, shape=shape, dtype=plan.dtype)
    return found


class _Block:
    """Makes the array of one plan. A callable, as Dask would look into a tuple or a data class."""

    def __init__(self, source: Source, plan: Plan, sampled: Grid | None) -> None:
        self._source, self._plan, self._sampled = source, plan, sampled

    def __call__(self) -> Voxels:
        filled = _filled(self._source, self._plan)
        return filled if self._sampled is None else _nearest(filled, self._plan, self._sampled)


def _filled(source: Source, plan: Plan) -> Voxels:
    out = np.full(plan.shape, plan.fill, dtype=plan.dtype)
    reader = FrameReader(source.data, source.header)
    for index, place in plan.frames:
        values = reader.frame(index)
        rows, columns = values.shape[:2]
        out[place.z, place.y : place.y + rows, place.x : place.x + columns] = _scaled(values, plan)
    return out


def _scaled(values: Voxels, plan: Plan) -> Voxels:
    """Stored values as the plan wants them; what is not 0 is inside for bool."""
    if plan.maximum is None:
        return values
    if values.max(initial=0) > plan.maximum:
        raise BrokenObject("a frame has values above MaximumFractionalValue: its fractions mean nothing")
    return values.astype(np.float32) / np.float32(plan.maximum)


def _nearest(filled: Voxels, plan: Plan, grid: Grid) -> Voxels:
    """The values of the nearest voxels at every voxel of a grid; fill outside. Slice by slice."""
    assert plan.own is not None
    out = np.full(grid.shape, plan.fill, dtype=filled.dtype)
    last = np.array(filled.shape)[:, None] - 0.5
    inverse = np.linalg.inv(plan.own.affine[:3, :3])
    rows, columns = np.indices(grid.shape[1:]).reshape(2, -1)
    in_plane = inverse @ grid.affine[:3, 1:3] @ np.stack([rows, columns])
    for z, origin in enumerate(grid.origins):
        at = in_plane + (inverse @ (origin - plan.own.affine[:3, 3]))[:, None]
        within = ((at >= -0.5) & (at < last)).all(axis=0)
        index = np.floor(at[:, within] + 0.5).astype(np.intp)
        out[z].reshape(-1)[within] = filled[tuple(index)]
    return out
