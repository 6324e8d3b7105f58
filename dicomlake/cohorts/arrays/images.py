"""One image out of a series: which volume, which echo or time, in which units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from dicomlake.errors import GeometryError, QuantityError, VolumeError
from dicomlake.records import Volume

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.series import Series

    _Data = TypeVar("_Data", xr.DataArray, xr.Dataset)

SPACE = ("z", "y", "x")
UNITS = ("stored", "modality", "hu", "suv", "suv_lbm", "suv_bsa", "suv_ibw", "dose", "adc")


class SeriesList(Protocol):
    """Series in an order: a cohort, or a list."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Series]: ...

    @overload
    def __getitem__(self, index: int, /) -> Series: ...

    @overload
    def __getitem__(self, index: slice, /) -> SeriesList: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What of each series is meant.

    volume: the number of one volume; None for any. units: of UNITS, None for values as stored.
    sel, isel: dimension beside space to the value, or the place, of what is picked along it.
    chunks: as in `Series.open`.
    """

    volume: int | None = None
    units: str | None = None
    sel: Mapping[str, Any] = field(default_factory=dict)
    isel: Mapping[str, int] = field(default_factory=dict)
    chunks: Any = "auto"

    def __post_init__(self) -> None:
        if self.units not in (None, *UNITS):
            raise ValueError(f"units is one of {', '.join(UNITS)}, not {self.units!r}")
        if spatial := {*self.sel, *self.isel} & {*SPACE}:
            raise ValueError(
                f"sel and isel pick along echo, time …, not along {', '.join(sorted(spatial))}: slice what"
                " was opened"
            )

    def of_volume(self, number: int) -> Options:
        """The same for one volume."""
        return replace(self, volume=number)


def chosen_image(series: Series, options: Options) -> xr.DataArray:
    """The image of the one volume that is meant, with selection and units applied, lazily.

    Raises VolumeError when there is no built volume or several are meant, or nothing to select;
    QuantityError when the units cannot be had.
    """
    opened = series.open(volume=options.volume, chunks=options.chunks)
    return in_units(picked(_only(opened, series.uid), options), options.units)


@dataclass(frozen=True, slots=True)
class Opener:
    """One image that is opened elsewhere: small and picklable.

    store: the folder of the Zarr store of the volume.
    """

    volume: Volume
    store: str
    options: Options

    def image(self) -> xr.DataArray:
        """The image with selection and units, lazily."""
        from dicomlake.volumes.read import open_volume

        opened = open_volume(self.volume, Path(self.store), chunks=self.options.chunks)
        image: xr.DataArray = picked(opened.image, self.options)
        return in_units(image, self.options.units)


def the_volume(series: Series, number: int | None) -> Volume:
    """The built volume of a series that is meant.

    Raises VolumeError when there is none, with the reasons, or more than one.
    """
    volumes = [one for one in series.volumes if number in (None, one.number)]
    built = [one for one in volumes if one.built]
    if len(built) == 1:
        return built[0]
    if built:
        raise VolumeError(
            f"series {series.uid} has {len(built)} volumes: pass volume=, the number of one of them"
        )
    reasons = "; ".join(dict.fromkeys(one.reason for one in volumes)) or "its frames form none"
    raise VolumeError(f"series {series.uid} has no built volume: {reasons}. See series.volumes")


def opener(series: Series, options: Options) -> Opener:
    """What opens the one image that is meant. Raises VolumeError when there is no such one."""
    record = the_volume(series, options.volume)
    opened = series.open(volume=record.number, chunks=None)
    return Opener(record, str(opened.encoding["source"]), options)


def _only(opened: Any, uid: str) -> xr.DataArray:
    import xarray as xr

    if isinstance(opened, xr.DataTree):
        raise VolumeError(
            f"series {uid} has {len(opened.children)} volumes: pass volume=, the number of one of them"
        )
    if not isinstance(opened, xr.Dataset) or "image" not in opened:
        raise VolumeError(f"series {uid} holds no image: leave it out, or open it by itself")
    image: xr.DataArray = opened.image
    return image


def picked(data: _Data, options: Options) -> _Data:
    """One place along each dimension that `sel` and `isel` name.

    Raises VolumeError when `sel` names a dimension or value that is not there, or `isel` a place outside.
    """
    for name, value in options.sel.items():
        if name not in data.dims:
            raise VolumeError(f"there is no dimension {name} to select along: {_beside_space(data)}")
        try:
            data = data.sel({name: value})
        except KeyError as error:
            raise VolumeError(f"no {name} has the value asked for: see .{name}, or take isel=") from error
    for name, place in options.isel.items():
        if name not in data.dims:
            continue
        if not -data.sizes[name] <= place < data.sizes[name]:
            raise VolumeError(f"there are {data.sizes[name]} places along {name}, none is at {place}")
        data = data.isel({name: place})
    return data


def _beside_space(data: xr.DataArray | xr.Dataset) -> str:
    extra = [str(dim) for dim in data.dims if dim not in (*SPACE, "rgb")]
    return f"beside space there is {', '.join(extra)}" if extra else "it has none beside space"


def in_units(image: xr.DataArray, units: str | None) -> xr.DataArray:
    """The values in one of UNITS, lazily. Raises QuantityError when the object does not say what it takes."""
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    if units in (None, "stored"):
        return image
    of = image.dicom
    if units == "modality":
        found = of.rescaled()
    elif units == "hu":
        found = of.hu()
    elif units == "dose":
        found = of.dose()
    elif units == "adc":
        found = of.adc()
    elif units is not None and units.startswith("suv"):
        found = of.suv(units.removeprefix("suv").removeprefix("_") or "bw")
    else:
        raise QuantityError(f"{units!r} are no units that are known here: {', '.join(UNITS)}")
    converted: xr.DataArray = found
    return converted


def scalar_volume(image: xr.DataArray) -> xr.DataArray:
    """The image as (z, y, x); dimensions of length 1 beside space go.

    Raises GeometryError for colours, for more dimensions, and for frames without z.
    """
    if "rgb" in image.dims:
        raise GeometryError("it is a colour image: colours are not averaged or compared")
    extra = [str(dim) for dim in image.dims if dim not in SPACE]
    wide = [f"{dim} ({image.sizes[dim]})" for dim in extra if image.sizes[dim] > 1]
    if "z" not in image.dims:
        raise GeometryError("its frames form no volume in patient space: it has no z")
    if wide:
        raise GeometryError(f"it has more dimensions than space, {', '.join(wide)}: pick with sel= or isel=")
    return image.isel(dict.fromkeys(extra, 0)).transpose(*SPACE)
