"""A cohort as one lazy array (series, z, y, x): every volume on one grid, resampled when it is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dicomlake.cohorts.arrays import target_grid
from dicomlake.cohorts.arrays.blocks import Source, Way, block_shape, lazy_array, spatial
from dicomlake.cohorts.arrays.images import Options, SeriesList, in_units, the_volume
from dicomlake.cohorts.arrays.sampling import Interpolation
from dicomlake.cohorts.arrays.target_grid import Align, Array, Extent
from dicomlake.dicom.grid import Grid
from dicomlake.errors import DicomlakeError, GeometryError, VolumeError
from dicomlake.series import Series

if TYPE_CHECKING:
    import xarray as xr

Errors = Literal["keep", "raise"]


@dataclass(frozen=True, slots=True)
class _Row:
    """One series of the array: what it is sampled from, or why it is not."""

    series: Series
    source: Source | None = None
    failed: str = ""
    moved: Array | None = None


def common_grid(
    series: SeriesList,
    *,
    spacing: float | Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    extent: Extent = "union",
    reference: Series | xr.DataArray | Grid | None = None,
    align: Align = "scanner",
    units: str | None = None,
    interpolation: Interpolation = "linear",
    smooth: bool = False,
    fill: float | None = None,
    volume: int | None = None,
    sel: Mapping[str, Any] | None = None,
    isel: Mapping[str, int] | None = None,
    chunks: int | Sequence[int] | None = None,
    dtype: npt.DTypeLike = np.float32,
    errors: Errors = "keep",
) -> xr.DataArray:
    """All volumes on one grid as one lazy array (series, z, y, x); each block reads only what lies under it.

    spacing: mm, one number or (z, y, x); the median of the volumes unless given. shape: voxels (z, y, x).
    extent: "union" or "intersection" of the volumes, along the patient's axes (x left, y back, z head, LPS);
        "first" is the box of the first volume along its own axes.
    reference: a series, an image or a grid whose box and axes are taken instead; also its spacing, unless
        that is given.
    align: "scanner" takes patient coordinates as they are; "centre" moves the middle of each volume to the
        middle of the grid, for volumes of several frames of reference. `moved_x`, `moved_y`, `moved_z` tell.
    units: as `open_cohort`, but None rescales ("modality"): stored values of two series cannot be compared.
    interpolation: "linear", or "nearest" for labels. Planes at uneven distances, leaning ones and those
        around a gap are sampled at their true positions.
    smooth: True blurs each volume first, by a Gaussian that makes its voxels as wide as those of a coarser
        grid. False, the default, gives the values that interpolation alone gives, as other programs do.
    fill: outside a volume and where it has padding; NaN unless given.
    volume: the number of one volume of each series. sel, isel: one echo, time … of volumes that have several.
    chunks: voxels of a block, one number or (z, y, x); unless given, so that a block and what it reads are
        small. dtype: float32 unless given; whole numbers need `fill`.
    errors: "keep" leaves series that cannot be placed (no or several volumes, colour, time, no geometry, no
        units) as NaN and says why in the coordinate `failed`; "raise" raises for the first of them. What is
        damaged shows when it is read, and raises VolumeError then, with the UID of the series.
    The array has the coordinates `series` (SeriesInstanceUID), `z`, `y`, `x` in mm, and for each series
    StudyInstanceUID, FrameOfReferenceUID, Modality, volume, verdict, units and failed.
    Raises VolumeError when no series can be placed, GeometryError when the volumes share nothing.
    """
    _check(extent, align, interpolation, errors, smooth)
    way = Way(interpolation, smooth, math.nan if fill is None else fill, _fitting(dtype, fill))
    options = Options(volume, units or "modality", dict(sel or {}), dict(isel or {}), None)
    rows = [_row(one, options, errors, smooth) for one in series]
    placed = [row.source for row in rows if row.source is not None]
    if not placed:
        raise VolumeError(_why_none(rows))
    target = _target(placed, reference, extent, align, spacing, shape)
    rows = [_moved(row, target, align) for row in rows]
    sources = [row.source for row in rows]
    values = lazy_array(sources, target, block_shape(chunks, target, placed), way)
    return _described(values, rows, target, align, way)


def _check(extent: str, align: str, interpolation: str, errors: str, smooth: bool) -> None:
    known = (("extent", extent, Extent), ("align", align, Align), ("errors", errors, Errors))
    for name, given, allowed in (*known, ("interpolation", interpolation, Interpolation)):
        if given not in get_args(allowed):
            raise ValueError(f"{name} is one of {', '.join(get_args(allowed))}, not {given!r}")
    if smooth and interpolation == "nearest":
        raise ValueError("labels are not smoothed: take interpolation='linear', or smooth=False")


def _fitting(dtype: npt.DTypeLike, fill: float | None) -> np.dtype[Any]:
    found = np.dtype(dtype)
    if found.kind not in "fiu":
        raise ValueError(f"dtype is a number, not {found}")
    if found.kind != "f" and fill is None:
        raise ValueError(f"{found} holds no NaN: pass fill=, the value of what lies outside a volume")
    return found


# ---- the volumes -----------------------------------------------------------------------------------


def _row(series: Series, options: Options, errors: Errors, smooth: bool) -> _Row:
    try:
        source = source_of(series, options)
        if smooth and source.grid.positions is not None:
            raise GeometryError(
                f"the planes of {series.uid} are unevenly spaced, which cannot be smoothed: pass smooth=False"
            )
        return _Row(series, source)
    except DicomlakeError as error:
        if errors == "raise":
            raise
        return _Row(series, failed=str(error))


def source_of(series: Series, options: Options) -> Source:
    """The volume of a series that is meant, with its grid; nothing of its store is read.

    Raises VolumeError, GeometryError or QuantityError where there is no such one volume in patient space.
    """
    record = the_volume(series, options.volume)
    opened = series.open(volume=record.number, chunks=None)
    try:
        image = spatial(opened.image, options)
        grid = image.dicom.grid
        units = in_units(_blank(image), options.units).attrs.get("units")
    except DicomlakeError as error:
        raise type(error)(f"volume {record.number} of {series.uid}: {error}") from error
    return Source(record, str(opened.encoding["source"]), options, grid, units)


def _blank(image: xr.DataArray) -> xr.DataArray:
    """The image with zeros instead of its values: to learn what it would be, without reading it."""
    return image.copy(data=np.broadcast_to(np.zeros((), image.dtype), image.shape))[:, :1, :1]


def _why_none(rows: Sequence[_Row]) -> str:
    if not rows:
        return "there is no series: the query matched none"
    return f"none of {len(rows)} series can be put on a grid; the first: {rows[0].failed}"


# ---- the grid --------------------------------------------------------------------------------------


def _target(
    placed: Sequence[Source],
    reference: Series | xr.DataArray | Grid | None,
    extent: Extent,
    align: Align,
    spacing: Any,
    shape: Sequence[int] | None,
) -> Grid:
    if reference is not None or extent == "first":
        model = placed[0].grid if reference is None else _grid_of(reference)
        box = target_grid.box_of(model)
        usual = target_grid.usual_steps([model], box.axes)
        return target_grid.target_grid(box, usual, spacing, shape)
    grids = [source.grid for source in placed]
    shifts = [
        -target_grid.centre_of(grid) if align == "centre" else np.zeros(3) for grid in grids
    ]  # centred volumes lie around the origin
    box = target_grid.common_box(grids, shifts, extent)
    usual = target_grid.usual_steps(grids, box.axes)
    return target_grid.target_grid(box, usual, spacing, shape, inside=extent == "intersection")


def _grid_of(reference: Series | xr.DataArray | Grid) -> Grid:
    if isinstance(reference, Grid):
        return reference
    if isinstance(reference, Series):
        return source_of(reference, Options(chunks=None)).grid
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    found: Grid = reference.dicom.grid
    return found


def _moved(row: _Row, target: Grid, align: Align) -> _Row:
    """The row with its volume where it shall lie on the target."""
    if align == "scanner" or row.source is None:
        return row
    grid = row.source.grid
    by = target_grid.centre_of(target) - target_grid.centre_of(grid)
    matrix = grid.affine.copy()
    matrix[:3, 3] += by
    positions = None if grid.positions is None else grid.positions + by
    moved = replace(grid, affine=matrix, positions=positions)
    return replace(row, source=replace(row.source, grid=moved), moved=by)


# ---- what is said about them -----------------------------------------------------------------------


def _described(values: Any, rows: Sequence[_Row], target: Grid, align: Align, way: Way) -> xr.DataArray:
    import xarray as xr

    axes, attrs = target_grid.described(target)
    sources = [row.source for row in rows]
    coords: dict[str, Any] = {"series": ("series", _texts(row.series.uid for row in rows))} | axes
    facts: dict[str, list[Any]] = {
        "StudyInstanceUID": [row.series.key.study_uid for row in rows],
        "FrameOfReferenceUID": [s and s.volume.info.get("frame_of_reference_uid") for s in sources],
        "Modality": [s.volume.info.get("modality") if s else _modality(row) for s, row in _both(rows)],
        "verdict": [s and s.volume.verdict for s in sources],
        "units": [s and s.units for s in sources],
        "failed": [row.failed for row in rows],
    }
    coords |= {name: ("series", _texts(given)) for name, given in facts.items()}
    coords["volume"] = ("series", np.array([-1 if s is None else s.volume.number for s in sources]))
    if align == "centre":
        moved = np.array([np.full(3, np.nan) if row.moved is None else row.moved for row in rows])
        coords |= {f"moved_{n}": ("series", moved[:, i], {"units": "mm"}) for i, n in enumerate("xyz")}
    units = {s.units for s in sources if s is not None}
    attrs |= {
        "source": "stored" if any(s and s.options.units == "stored" for s in sources) else "rescaled",
        "align": _ALIGNED[align],
        "interpolation": way.interpolation,
        "smooth": way.smooth,
        "failed": sum(bool(row.failed) for row in rows),
    }
    if len(units) == 1 and None not in units:
        attrs["units"] = units.pop()
    return xr.DataArray(values, coords, ("series", "z", "y", "x"), "image", attrs)


_ALIGNED = {
    "scanner": "scanner: patient coordinates as they are",
    "centre": "centre: the middle of each volume was moved to the middle of the grid, without turning",
}


def _both(rows: Sequence[_Row]) -> list[tuple[Source | None, _Row]]:
    return [(row.source, row) for row in rows]


def _modality(row: _Row) -> str | None:
    found = row.series.facts.get("Modality")
    return None if found is None else str(found)


def _texts(given: Any) -> npt.NDArray[Any]:
    """Text of any length as numpy holds it in files, too; empty where there is none."""
    return np.array([str(one or "") for one in given], dtype=str)
