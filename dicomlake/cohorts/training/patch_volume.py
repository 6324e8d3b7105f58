"""One volume that patches are cut from: what is known of it, and how a part of it is read.

All is small and picklable, so that another process opens the store when it is first asked for a patch; no
lake and no catalog is needed there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.cohorts.arrays.images import Options, in_units, picked, scalar_volume, the_volume
from dicomlake.cohorts.regions.masks import Drawing, Of, regions_of
from dicomlake.cohorts.training.runs import Index, Runs
from dicomlake.errors import GeometryError, VolumeError
from dicomlake.records import SeriesKey, Volume

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.series import Series


@dataclass(frozen=True, eq=False, repr=False)
class PatchVolume:
    """A volume (z, y, x) of a series, and the regions on it.

    shape: in voxels of the level. affine: index (z, y, x) to LPS, mm, (4, 4), and origins: of the first voxel
    of each slice, (z, 3); None without geometry. regions: runs by label.
    """

    series: SeriesKey
    volume: Volume
    store: str
    options: Options
    level: int
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64] | None
    origins: npt.NDArray[np.float64] | None
    regions: tuple[tuple[str, Runs], ...]

    @cached_property
    def every(self) -> Runs:
        """The voxels that are in any region."""
        return Runs.union([runs for _, runs in self.regions])

    @cached_property
    def image(self) -> xr.DataArray:
        """The values as stored, lazily and without Dask; opened once in a process."""
        from dicomlake.volumes.read import open_volume

        opened = open_volume(self.volume, Path(self.store), chunks=None, level=self.level)
        # what each plane comes from is not asked for, and would be read with every patch
        image = opened.image.drop_vars(["instance_uid", "frame_index"], errors="ignore")
        return scalar_volume(picked(image, self.options))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is opened: another process opens it itself."""
        return {name: value for name, value in self.__dict__.items() if name != "image"}

    def read(self, start: Index, stop: Index) -> npt.NDArray[Any]:
        """The voxels from one index to another, within the shape, in the units of the options.

        Only chunks that hold a part of it are read. Raises VolumeError when the store is damaged.
        """
        part = self.image[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        return np.asarray(in_units(part.load(), self.options.units).values)

    def position_mm(self, offset: Index) -> tuple[float, float, float] | None:
        """Where the voxel at an index lies, LPS, mm, also outside the volume; None where nobody knows."""
        if self.affine is None:
            return None
        z, y, x = offset
        if self.origins is None:
            at = self.affine[:3, 3] + self.affine[:3, :3] @ np.array(offset)
        elif 0 <= z < len(self.origins):
            at = self.origins[z] + self.affine[:3, 1] * y + self.affine[:3, 2] * x
        else:
            return None
        return float(at[0]), float(at[1]), float(at[2])


def patch_volume(
    series: Series, options: Options, level: int, of: Of | None, drawing: Drawing
) -> PatchVolume:
    """What patches of a series are cut from. Draws its regions, and keeps their runs.

    Raises VolumeError when there is no such volume, GeometryError when it is no (z, y, x) or regions cannot
    be drawn on its grid, QuantityError when the units cannot be had.
    """
    record = the_volume(series, options.volume)
    opened = series.open(volume=record.number, chunks=None, level=level)
    store = str(opened.encoding["source"])
    image = scalar_volume(picked(opened.image, options))
    in_units(image[:1, :1, :1].load(), options.units)  # now, and not at the first patch
    runs = [] if of is None else _runs(series, image, of, drawing)
    depth, rows, columns = image.shape
    return PatchVolume(
        series.key, record, store, options, level, (depth, rows, columns), *_geometry(image), tuple(runs)
    )


def _runs(series: Series, image: xr.DataArray, of: Of, drawing: Drawing) -> list[tuple[str, Runs]]:
    """The regions with a voxel, by label; those of one label are one."""
    found: dict[str, list[Runs]] = {}
    for region in regions_of(series, image, of, drawing):
        runs = Runs.of(region.draw())
        if runs.inside:
            found.setdefault(region.label or str(region.number), []).append(runs)
    if not found:
        raise VolumeError(f"no voxel of series {series.uid} lies in a region that is meant: see labels=")
    return [(label, Runs.union(several)) for label, several in found.items()]


def _geometry(image: xr.DataArray) -> tuple[Any, Any]:
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    try:
        grid = image.dicom.grid
    except GeometryError:
        return None, None
    return grid.affine, grid.positions
