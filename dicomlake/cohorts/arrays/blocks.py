"""The blocks of a common grid: one Dask task each, which reads and samples its part of one volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.cohorts.arrays.images import Options, in_units, picked, scalar_volume
from dicomlake.cohorts.arrays.sampling import Interpolation, Region, sample
from dicomlake.cohorts.arrays.target_grid import Array, Shape, own_axes, usual_steps
from dicomlake.dicom.grid import Grid
from dicomlake.errors import DicomlakeError, GeometryError, VolumeError
from dicomlake.records import Volume

if TYPE_CHECKING:
    import xarray as xr

_BLOCK = 128  # voxels along an axis of a block: 8 MB of float32
_SOURCE_VOXELS = 16 << 20  # of a volume that one block may have to read
_UNNEEDED = ("instance_uid", "frame_index")


@dataclass(frozen=True, slots=True)
class Source:
    """A volume that a block is sampled from; small and picklable, opened where the block is computed.

    store: the folder of its Zarr store. options: selection and units. grid: its own, moved to where it shall
    lie. units: of its values, where they are stated.
    """

    volume: Volume
    store: str
    options: Options
    grid: Grid
    units: str | None

    def read(self, region: Region, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A part of the values in their units, NaN for padding; nothing else of the store is read."""
        from dicomlake.volumes.read import open_volume

        opened = open_volume(self.volume, Path(self.store), chunks=None)
        image = spatial(opened.image, self.options)
        part = image.isel(dict(zip("zyx", region, strict=True)))
        values = in_units(part, self.options.units).dicom.without_padding()
        return np.asarray(values.values, dtype=dtype)


@dataclass(frozen=True, slots=True)
class Way:
    """How values are sampled."""

    interpolation: Interpolation
    smooth: bool
    fill: float
    dtype: np.dtype[Any]


def spatial(image: xr.DataArray, options: Options) -> xr.DataArray:
    """(z, y, x) of what is picked; the values are comparable between slices once they are in units."""
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    image = scalar_volume(picked(image.drop_vars(_UNNEEDED, errors="ignore"), options))
    if image.attrs.get("photometric_interpretation") == "PALETTE COLOR":
        raise GeometryError("palette indices have no values in between: they cannot be interpolated")
    return image


def block_shape(chunks: int | Sequence[int] | None, target: Grid, placed: Sequence[Source]) -> Shape:
    """Voxels of a block: what was asked for, else so few that what it needs of any volume is bounded."""
    if chunks is not None:
        wanted = np.broadcast_to(np.asarray(chunks, dtype=int), (3,))
        if (wanted < 1).any():
            raise ValueError("chunks are whole numbers from 1, in voxels of the grid")
    else:
        voxel = abs(np.linalg.det(target.affine[:3, :3]))
        read = [(voxel / _voxel_mm3(source.grid), math.prod(source.grid.shape)) for source in placed]
        wanted = np.minimum(np.full(3, _BLOCK), target.shape)
        while wanted.max() > 1 and max(min(wanted.prod() * r, most) for r, most in read) > _SOURCE_VOXELS:
            longest = int(wanted.argmax())
            wanted[longest] = (wanted[longest] + 1) // 2
        wanted = _even(wanted, np.array(target.shape))
    z, y, x = (int(min(n, size)) for n, size in zip(wanted, target.shape, strict=True))
    return z, y, x


def _even(block: npt.NDArray[Any], shape: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Blocks of about one size, as many as before: a thin last one would read as much as a whole one."""
    return np.asarray(-(-shape // -(-shape // block)))


def _voxel_mm3(grid: Grid) -> float:
    """The volume of a voxel; of the usual one where planes are uneven."""
    steps = usual_steps([grid], own_axes(grid))
    return max(float(np.prod(steps)), 1e-9)


def lazy_array(sources: Sequence[Source | None], target: Grid, block: Shape, way: Way) -> Any:
    """The Dask array (series, z, y, x): a task for each block of each source, `fill` where there is none."""
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    edges = [
        [(start, min(start + step, size) - start) for start in range(0, size, step)]
        for step, size in zip(block, target.shape, strict=True)
    ]
    told = [source and _identity(source) for source in sources]
    name = f"common-grid-{tokenize(told, target.affine.tolist(), target.shape, block, repr(way))}"
    graph: dict[Any, Any] = {}
    for number, source in enumerate(sources):
        if source is not None:
            graph[f"{name}-volume", number] = _Held(source)
        for place in np.ndindex(*(len(axis) for axis in edges)):
            corner = [axis[i] for axis, i in zip(edges, place, strict=True)]
            start, size = tuple(c[0] for c in corner), tuple(c[1] for c in corner)
            key = (name, number, *place)
            if source is None:
                graph[key] = (_nothing, size, way.fill, way.dtype)
            else:
                graph[key] = (_block, (f"{name}-volume", number), target.affine, start, size, way)
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[])
    sizes = ((1,) * len(sources), *(tuple(n for _, n in axis) for axis in edges))
    return da.Array(layers, name, sizes, dtype=way.dtype, meta=np.empty((0,) * 4, dtype=way.dtype))


def _identity(source: Source) -> tuple[Any, ...]:
    """What the values of a row depend on: schedulers may keep what they computed under a name."""
    grid = source.grid
    positions = None if grid.positions is None else grid.positions.tolist()
    content = (source.store, source.volume.store_sha256, source.volume.number)
    return (*content, repr(source.options), grid.affine.tolist(), positions)


class _Held:
    """A source in a graph, which would take a tuple or a list apart."""

    def __init__(self, source: Source) -> None:
        self.source = source


def _block(held: _Held, matrix: Array, start: tuple[int, ...], size: Shape, way: Way) -> npt.NDArray[Any]:
    """One block of one series, (1, z, y, x)."""
    source = held.source
    corner = matrix.copy()
    corner[:3, 3] += matrix[:3, :3] @ np.asarray(start, dtype=float)
    working = np.float64 if way.dtype.itemsize > 4 else np.float32

    def read(region: Region) -> npt.NDArray[Any]:
        return source.read(region, working)

    try:
        found = sample(read, source.grid, corner, size, interpolation=way.interpolation, smooth=way.smooth)
    except DicomlakeError as error:
        raise VolumeError(
            f"series {source.volume.series_uid} cannot be read: {error}; or leave it out with"
            " .drop_sel(series=…)"
        ) from error
    return _finished(found, way)[None]


def _finished(values: npt.NDArray[Any], way: Way) -> npt.NDArray[Any]:
    if not math.isnan(way.fill):
        values = np.where(np.isnan(values), way.fill, values)
    if way.dtype.kind != "f":
        limits = np.iinfo(way.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(way.dtype, copy=False)


def _nothing(size: Shape, fill: float, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.full((1, *size), fill, dtype=dtype)
