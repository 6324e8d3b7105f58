"""A cohort, opened: each series as lazy xarray, one at a time, when it is asked for."""

from __future__ import annotations

import html
import math
from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from dicomlake.cohorts.arrays.images import Options, SeriesList, chosen_image, in_units, picked
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import SeriesKey, Volume

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.series import Series

VolumesOf = Callable[[Sequence[SeriesKey]], Mapping[SeriesKey, Sequence[Volume]]]
_AT_ONCE = 500  # series whose volumes are asked for together
_HELD = 4  # opened series that stay at hand: whoever looks at one twice need not wait twice
_FEW = 12  # rows that a repr shows


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of a volume of the collection, without opening it.

    number: of the volume in its series. bytes: of the decoded image. missing: why it cannot be opened; None
    where it can. For a series without any volume, number is None and the rest is empty.
    """

    series: SeriesKey
    number: int | None = None
    modality: str | None = None
    verdict: str = "none"
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    dtype: str = ""
    bytes: int = 0
    missing: str | None = None

    @classmethod
    def of(cls, volume: Volume) -> Member:
        """The facts of a volume's record."""
        return cls(
            volume.series,
            volume.number,
            volume.info.get("modality"),
            volume.verdict,
            volume.dims,
            volume.shape,
            volume.spacing_mm,
            volume.dtype,
            math.prod(volume.shape) * _itemsize(volume.dtype) if volume.built else 0,
            None if volume.built else volume.reason or "its volume is not built",
        )


class Collection(Mapping[str, Any]):
    """The series of a cohort as lazy xarray: a mapping by SeriesInstanceUID, and by position a sequence.

    `collection[uid]` and `collection[0]` give what `Series.open` gives, `collection[:10]` a collection.
    Iterating gives the UIDs, `.values()` and `.items()` open one series after the other and hold none.
    Nothing is read before it is asked for, and no voxel before it is computed.
    """

    def __init__(
        self,
        series: SeriesList,
        options: Options,
        volumes_of: VolumesOf | None = None,
        verdicts: frozenset[str] | None = None,
    ) -> None:
        self._series = series
        self._options = options
        self._volumes_of = volumes_of
        self._verdicts = verdicts
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._failed: dict[SeriesKey, str] = {}

    # ---- one of them ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._series)

    @overload
    def __getitem__(self, which: str | int) -> Any: ...

    @overload
    def __getitem__(self, which: slice) -> Collection: ...

    def __getitem__(self, which: str | int | slice) -> Any:
        """Raises KeyError for a UID that is not here, VolumeError for a series without a volume."""
        if isinstance(which, slice):
            return Collection(self._series[which], self._options, self._volumes_of, self._verdicts)
        position = self._position(which) if isinstance(which, str) else range(len(self))[which]
        if position not in self._held:
            self._held[position] = self._open(self._series[position])
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(position)
        return self._held[position]

    def _position(self, uid: str) -> int:
        found = self._positions.get(uid, [])
        if not found:
            raise KeyError(uid)
        if len(found) > 1:
            raise VolumeError(f"series {uid} lies in {len(found)} studies: take it by position")
        return found[0]

    def _open(self, series: Series) -> Any:
        if self._verdicts is None:
            opened = series.open(volume=self._options.volume, chunks=self._options.chunks)
        else:
            numbers = [m.number for m in self._members_of(series) if m.missing is None]
            if len(numbers) != 1:
                raise VolumeError(
                    f"series {series.uid} has {len(numbers)} volumes that were selected:"
                    " take .images(), or pass volume="
                )
            opened = series.open(volume=numbers[0], chunks=self._options.chunks)
        return _with_options(opened, self._options)

    def __iter__(self) -> Iterator[str]:
        return (key.series_uid for key in self._keys)

    def __contains__(self, uid: object) -> bool:
        return uid in self._positions

    def values(self) -> ValuesView[Any]:
        """What each series opens as, one after the other; raises where one cannot be opened."""
        return _Values(self)

    def items(self) -> ItemsView[str, Any]:
        """SeriesInstanceUID and what the series opens as, one after the other."""
        return _Items(self)

    def opened(self) -> Iterator[Any]:
        """The same as `values()`, as an iterator that holds nothing."""
        return (self._open(series) for series in self._series)

    def images(self) -> Iterator[tuple[Series, xr.DataArray]]:
        """Series and image of each built volume, with units and selection; the next is opened when asked for.

        Series without a volume are left out, and so are those that fail here: `missing` lists both.
        """
        for series in self._series:
            for member in self._members_of(series):
                if member.missing is not None or member.number is None:
                    continue
                try:
                    image = chosen_image(series, self._options.of_volume(member.number))
                except DicomlakeError as error:
                    self._failed[series.key] = str(error)
                else:
                    yield series, image

    # ---- all of them ----------------------------------------------------------------------------------

    @cached_property
    def _keys(self) -> list[SeriesKey]:
        return [series.key for series in self._series]

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for position, key in enumerate(self._keys):
            found.setdefault(key.series_uid, []).append(position)
        return found

    @cached_property
    def members(self) -> list[Member]:
        """What is known of every volume without opening it; a series without any has one entry, too."""
        return [member for members in self._by_series.values() for member in members]

    @cached_property
    def _by_series(self) -> dict[SeriesKey, list[Member]]:
        return {key: self._wanted(key, volumes) for key, volumes in self._volumes(self._keys)}

    def _volumes(self, keys: Sequence[SeriesKey]) -> Iterator[tuple[SeriesKey, Sequence[Volume]]]:
        if self._volumes_of is None:
            yield from ((key, series.volumes) for key, series in zip(keys, self._series, strict=True))
            return
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            found = self._volumes_of(part)
            yield from ((key, found.get(key, ())) for key in part)

    def _members_of(self, series: Series) -> list[Member]:
        known = self.__dict__.get("_by_series")
        return self._wanted(series.key, series.volumes) if known is None else known[series.key]

    def _wanted(self, key: SeriesKey, volumes: Sequence[Volume]) -> list[Member]:
        number = self._options.volume
        found = [Member.of(volume) for volume in volumes if number in (None, volume.number)]
        if not found:
            what = "no volume" if number is None else f"no volume {number}"
            return [Member(key, missing=f"it has {what}: it holds no image, or its volumes were not built")]
        if self._verdicts is not None:
            found = [member for member in found if member.verdict in self._verdicts]
        return found or [Member(key, missing="no volume of it was selected")]

    @property
    def missing(self) -> dict[str, str]:
        """SeriesInstanceUID to the reason, for series of which nothing can be opened, or failed to open."""
        found = {
            key.series_uid: "; ".join(dict.fromkeys(str(member.missing) for member in members))
            for key, members in self._by_series.items()
            if all(member.missing is not None for member in members)
        }
        return found | {key.series_uid: reason for key, reason in self._failed.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all images when they are decoded, as stored."""
        return sum(member.bytes for member in self.members)

    def select(self, *, verdict: str | Sequence[str]) -> Collection:
        """The series with a built volume of one of these verdicts; their other volumes stay away."""
        verdicts = frozenset([verdict] if isinstance(verdict, str) else verdict)
        if self._verdicts is not None:
            verdicts &= self._verdicts
        keep = [
            position
            for position, key in enumerate(self._keys)
            if any(m.missing is None and m.verdict in verdicts for m in self._by_series[key])
        ]
        chosen = [self._series[position] for position in keep]
        return Collection(chosen, self._options, self._volumes_of, verdicts)

    def __repr__(self) -> str:
        lines = [self._headline(), *(_line(member) for member in self.members[:_FEW])]
        more = len(self.members) - _FEW
        return "\n  ".join([*lines, f"… and {more} more"] if more > 0 else lines)

    def _headline(self) -> str:
        missing = len(self.missing)
        without = f", {missing} cannot be opened: see .missing" if missing else ""
        return f"<Collection of {len(self)} series, {_size(self.nbytes)} decoded{without}>"

    def _repr_html_(self) -> str:
        heads = ("SeriesInstanceUID", "volume", "Modality", "verdict", "shape", "spacing mm", "dtype", "size")
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in heads)
        rows = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{html.escape(c)}</td>" for c in _cells(m))
            + "</tr>"
            for m in islice(self.members, _FEW)
        )
        more = len(self.members) - _FEW
        rest = f"<p>… and {more} more</p>" if more > 0 else ""
        title = html.escape(self._headline().strip("<>"))
        return f"<div><strong>{title}</strong><table><tr>{head}</tr>{rows}</table>{rest}</div>"


def open_cohort(
    series: SeriesList,
    *,
    volumes_of: VolumesOf | None = None,
    volume: int | None = None,
    units: str | None = None,
    sel: Mapping[str, Any] | None = None,
    isel: Mapping[str, int] | None = None,
    chunks: Any = "auto",
) -> Collection:
    """The series of a cohort as lazy xarray; nothing is read yet.

    volumes_of: reads the volumes of many series at once; else they are read one by one.
    volume: the number of one volume of each series; all unless given.
    units: "stored" or None for values as stored, "modality" for rescaled ones, "hu", "suv" (by body weight),
        "suv_lbm", "suv_bsa", "suv_ibw", "dose" or "adc".
    sel: one echo, component, time … by the value of its coordinate; a series without that dimension fails.
    isel: the same by place; a series without that dimension is taken as it is.
    chunks: as in `Series.open`.
    """
    return Collection(series, Options(volume, units, dict(sel or {}), dict(isel or {}), chunks), volumes_of)


class _Values(ValuesView[Any]):
    def __init__(self, of: Collection) -> None:
        super().__init__(of)
        self._of = of

    def __iter__(self) -> Iterator[Any]:
        return self._of.opened()


class _Items(ItemsView[str, Any]):
    def __init__(self, of: Collection) -> None:
        super().__init__(of)
        self._of = of

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return zip(self._of, self._of.opened(), strict=True)


def _with_options(opened: Any, options: Options) -> Any:
    """A Dataset, or a tree of them, with the selection and units asked for; other objects as they are."""
    if not (options.sel or options.isel or options.units):
        return opened
    import xarray as xr

    def convert(dataset: xr.Dataset) -> xr.Dataset:
        if "image" not in dataset:
            return dataset
        chosen = picked(dataset, options)
        return chosen.assign(image=in_units(chosen.image, options.units))

    if isinstance(opened, xr.DataTree):
        return opened.map_over_datasets(convert)
    return convert(opened) if isinstance(opened, xr.Dataset) else opened


def _itemsize(dtype: str) -> int:
    import numpy as np

    return np.dtype(dtype or "u1").itemsize


def _cells(member: Member) -> tuple[str, ...]:
    if member.number is None:
        return (member.series.series_uid, "", "", member.missing or "", "", "", "", "")
    spacing = " × ".join(f"{step:.3g}" for step in member.spacing_mm or ())
    shape = " × ".join(map(str, member.shape))
    verdict = member.verdict if member.missing is None else f"{member.verdict}, not built"
    return (
        *(member.series.series_uid, str(member.number), member.modality or "", verdict, shape, spacing),
        *(member.dtype, _size(member.bytes)),
    )


def _line(member: Member) -> str:
    return "  ".join(cell for cell in _cells(member) if cell)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
