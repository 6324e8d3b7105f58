"""Whole-slide images as a pyramid of levels, read tile by tile from the originals (PS3.3 C.8.12)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import PixelFormat, number_of_frames, pixel_format
from dicomlake.errors import BrokenObject, DicomlakeError

if TYPE_CHECKING:
    import xarray as xr

_TILES_KEPT = 64  # decoded tiles that an array holds on to
_CHUNK = 2048  # pixels along each side of a Dask chunk, about
_FLAVOURS = {"LABEL": "label", "OVERVIEW": "overview", "THUMBNAIL": "thumbnail"}  # ImageType, value 3
_MOST_TILES = 10_000_000


class Frames(Protocol):
    """An object whose frames are decoded one by one."""

    def frame(self, index: int) -> np.ndarray:
        """(rows, columns[, samples])"""


Opened = Callable[[str], Frames]
"""SOPInstanceUID -> the frames of that object."""
Cell = tuple[int, int, int, int]  # optical path, focal plane, row and column of the tile


@dataclass(frozen=True, slots=True)
class Level:
    """One image of a slide: its total pixel matrix, cut into tiles.

    planes: heights above the slide in um, or 0, 1 … where none are stated (`planes_um` is False).
    tiles: from the cell of a tile to its frame; cells without one are absent (TILED_SPARSE).
    spacing_mm: between rows, between columns; None where PixelSpacing is not stated.
    """

    sop_instance_uid: str
    flavour: str
    rows: int
    columns: int
    pixel: PixelFormat
    paths: tuple[str, ...]
    planes: tuple[float, ...]
    planes_um: bool
    tiles: Mapping[Cell, int]
    spacing_mm: tuple[float, float] | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(optical path, focal plane, rows, columns[, rgb])."""
        colour = (self.pixel.samples,) if self.pixel.samples > 1 else ()
        return (len(self.paths), len(self.planes), self.rows, self.columns, *colour)


def levels_of(headers: Iterable[tuple[str, Attributes]]) -> list[Level]:
    """The images of a slide, largest first, then label, overview and thumbnail.

    Raises BrokenObject when an object does not say where its tiles lie.
    """
    found = [_level(uid, header) for uid, header in headers]
    return sorted(found, key=lambda level: (level.flavour != "level", -level.rows * level.columns))


def open_slide(headers: Iterable[tuple[str, Attributes]], opened: Opened) -> xr.DataTree:
    """The pyramid: a DataTree with nodes level0 (largest), level1 …, and label, overview, thumbnail.

    Each is a Dataset `image` (y, x[, rgb]), lazily from the tiles of the original, nothing is copied; with
    axes optical_path and focal_plane before them where there are several. y and x are mm in the plane.
    """
    import xarray as xr

    found: dict[str, Any] = {}
    for level in levels_of(headers):
        count = sum(name.startswith(level.flavour) for name in found)
        name = f"{level.flavour}{count}" if level.flavour == "level" or count else level.flavour
        found[name] = _dataset(level, opened)
    if not found:
        raise DicomlakeError("the series holds no whole-slide image")
    return xr.DataTree.from_dict(found)


def _level(uid: str, header: Attributes) -> Level:
    rows, columns = _size(header, "TotalPixelMatrixRows"), _size(header, "TotalPixelMatrixColumns")
    pixel = pixel_format(header)
    down, across = -(-rows // pixel.rows), -(-columns // pixel.columns)
    if down * across > _MOST_TILES:
        raise BrokenObject(f"{uid} claims {down * across:,} tiles, more than any slide has")
    if header.text("DimensionOrganizationType") == "TILED_FULL":
        paths, planes, tiles = _full(header, down, across)
        planes_um = _between_planes_mm(header) is not None
    else:
        paths, planes, tiles = _sparse(header, pixel)
        planes_um = True
    kind = header.texts("ImageType")
    return Level(
        sop_instance_uid=uid,
        flavour=_FLAVOURS.get(kind[2] if len(kind) > 2 else "", "level"),
        rows=rows,
        columns=columns,
        pixel=pixel,
        paths=paths,
        planes=planes,
        planes_um=planes_um,
        tiles=tiles,
        spacing_mm=_spacing(header),
    )


def _size(header: Attributes, keyword: str) -> int:
    value = header.number(keyword)
    if value is None or value < 1:
        raise BrokenObject(f"{keyword} is missing: the tiles of the slide have no place")
    return int(value)


def _measures(header: Attributes) -> Iterator[Attributes]:
    for group in header.items("SharedFunctionalGroupsSequence"):
        yield from group.items("PixelMeasuresSequence")


def _spacing(header: Attributes) -> tuple[float, float] | None:
    for item in _measures(header):
        found = item.numbers("PixelSpacing")
        if len(found) == 2 and min(found) > 0:
            return found[0], found[1]
    return None


def _between_planes_mm(header: Attributes) -> float | None:
    """SpacingBetweenSlices, which is the distance of focal planes in mm (PS3.3 C.7.6.16.2.1)."""
    found = (item.number("SpacingBetweenSlices") for item in _measures(header))
    return next((abs(value) for value in found if value), None)


def _full(
    header: Attributes, down: int, across: int
) -> tuple[tuple[str, ...], tuple[float, ...], dict[Cell, int]]:
    """TILED_FULL: along rows, then down, then by focal plane, then by optical path (PS3.3 C.7.6.16.2.1)."""
    given = header.items("OpticalPathSequence")
    count = int(header.number("NumberOfOpticalPaths") or len(given) or 1)
    planes = int(header.number("TotalPixelMatrixFocalPlanes") or 1)
    needed, frames = count * planes * down * across, number_of_frames(header)
    if needed != frames or needed > _MOST_TILES:
        raise BrokenObject(f"TILED_FULL needs {needed} frames, the object has {frames}")
    names = [item.text("OpticalPathIdentifier") or str(i + 1) for i, item in enumerate(given)]
    cells = product(range(count), range(planes), range(down), range(across))
    step = 1000 * (_between_planes_mm(header) or 1e-3)
    paths = tuple(names if len(names) == count else map(str, range(1, count + 1)))
    return paths, tuple(step * i for i in range(planes)), {cell: i for i, cell in enumerate(cells)}


def _sparse(
    header: Attributes, pixel: PixelFormat
) -> tuple[tuple[str, ...], tuple[float, ...], dict[Cell, int]]:
    """TILED_SPARSE: each frame says where it lies, counted from 1."""
    places: list[tuple[str, float, int, int]] = []
    for group in header.items("PerFrameFunctionalGroupsSequence"):
        place = next(iter(group.items("PlanePositionSlideSequence")), None)
        row = place.number("RowPositionInTotalImagePixelMatrix") if place else None
        column = place.number("ColumnPositionInTotalImagePixelMatrix") if place else None
        if place is None or row is None or column is None:
            raise BrokenObject("a frame of the slide has no place in the total pixel matrix")
        if (row - 1) % pixel.rows or (column - 1) % pixel.columns or min(row, column) < 1:
            raise BrokenObject(
                "tiles of the slide overlap or leave gaps: their places are no multiples of a tile"
            )
        path = next(iter(group.items("OpticalPathIdentificationSequence")), None)
        name = (path and path.text("OpticalPathIdentifier")) or "1"
        height = place.number("ZOffsetInSlideCoordinateSystem") or 0.0
        places.append((name, height, int(row - 1) // pixel.rows, int(column - 1) // pixel.columns))
    if len(places) != number_of_frames(header):
        raise BrokenObject(f"{len(places)} places are given for {number_of_frames(header)} frames")
    paths = tuple(dict.fromkeys(place[0] for place in places))
    planes = tuple(sorted({place[1] for place in places}))
    tiles = {(paths.index(p), planes.index(z), r, c): i for i, (p, z, r, c) in enumerate(places)}
    if len(tiles) != len(places):
        raise BrokenObject("several frames of the slide claim one place")
    return paths, planes, tiles


class TiledArray:
    """The total pixel matrix of a level as an array (optical path, focal plane, y, x[, rgb]).

    Slicing reads the tiles that are touched, and keeps the last few. Absent tiles are white in colour
    images, 0 in others. Safe to use from many threads.
    """

    def __init__(self, level: Level, opened: Opened) -> None:
        self._level, self._opened = level, opened
        self.shape, self.dtype = level.shape, level.pixel.dtype
        self.ndim = len(self.shape)
        self._lock = threading.Lock()
        self._frames: Frames | None = None
        self._tiles: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, key: Any) -> np.ndarray:
        given = key if isinstance(key, tuple) else (key,)
        given = (*given, *(slice(None),) * (self.ndim - len(given)))
        spans = [self._span(k, n) for k, n in zip(given, self.shape, strict=True)]
        block = self._block(spans[:4])
        inside = tuple(0 if not isinstance(k, slice) else slice(None, None, k.step or 1) for k in given[:4])
        found: np.ndarray = block[(*inside, *given[4:])]
        return found

    @staticmethod
    def _span(key: Any, length: int) -> range:
        if isinstance(key, slice):
            start, stop, step = key.indices(length)
            if step < 1:
                raise IndexError("slide levels are sliced forwards")
            return range(start, max(start, stop))
        index = int(key) + (length if key < 0 else 0)
        if not 0 <= index < length:
            raise IndexError(f"index {key} is outside {length}")
        return range(index, index + 1)

    def _block(self, spans: Sequence[range]) -> np.ndarray:
        paths, planes, rows, columns = spans
        pixel = self._level.pixel
        fill = 255 if pixel.samples == 3 and pixel.dtype == np.uint8 else 0
        found = np.full((*(len(s) for s in spans), *self.shape[4:]), fill, self.dtype)
        for i, j in product(range(len(paths)), range(len(planes))):
            for r in _tiles_of(rows, pixel.rows):
                for c in _tiles_of(columns, pixel.columns):
                    frame = self._level.tiles.get((paths[i], planes[j], r, c))
                    if frame is not None:
                        _put(
                            found[i, j],
                            self._tile(frame),
                            (rows, r * pixel.rows),
                            (columns, c * pixel.columns),
                        )
        return found

    def _tile(self, frame: int) -> np.ndarray:
        with self._lock:
            if frame in self._tiles:
                self._tiles.move_to_end(frame)
                return self._tiles[frame]
            if self._frames is None:
                self._frames = self._opened(self._level.sop_instance_uid)
        tile = self._frames.frame(frame)
        with self._lock:
            self._tiles[frame] = tile
            while len(self._tiles) > _TILES_KEPT:
                self._tiles.popitem(last=False)
        return tile


def _tiles_of(span: range, size: int) -> range:
    return range(span.start // size, -(-span.stop // size)) if span else range(0)


def _put(into: np.ndarray, tile: np.ndarray, rows: tuple[range, int], columns: tuple[range, int]) -> None:
    """Copy what a tile has of the wanted rows and columns; each is (wanted, first of the tile)."""
    (y, down), (x, across) = (_overlap(*rows, tile.shape[0]), _overlap(*columns, tile.shape[1]))
    into[y, x] = tile[down, across]


def _overlap(wanted: range, first: int, size: int) -> tuple[slice, slice]:
    start, stop = max(wanted.start, first), min(wanted.stop, first + size)
    return slice(start - wanted.start, stop - wanted.start), slice(start - first, stop - first)


def _dataset(level: Level, opened: Opened) -> xr.Dataset:
    import dask.array as da
    import xarray as xr

    array = TiledArray(level, opened)
    chunks = (1, 1, _whole_tiles(level.pixel.rows), _whole_tiles(level.pixel.columns), *level.shape[4:])
    meta = np.empty((0,) * array.ndim, array.dtype)
    data = da.from_array(array, chunks=chunks, asarray=False, fancy=False, meta=meta)
    dims = ("optical_path", "focal_plane", "y", "x", *(("rgb",) if array.ndim == 5 else ()))
    image = xr.DataArray(data, dims=dims, name="image", attrs=_attributes(level))
    if level.spacing_mm is not None:
        for axis, n, step in zip("yx", level.shape[2:4], level.spacing_mm, strict=True):
            image = image.assign_coords({axis: (axis, (np.arange(n) + 0.5) * step, {"units": "mm"})})
    image = image.assign_coords(
        optical_path=("optical_path", list(level.paths)),
        focal_plane=("focal_plane", list(level.planes), {"units": "um"} if level.planes_um else {}),
    )
    single = [dim for dim in ("optical_path", "focal_plane") if image.sizes[dim] == 1]
    return image.squeeze(single, drop=True).to_dataset()


def _whole_tiles(size: int) -> int:
    return max(1, _CHUNK // size) * size


def _attributes(level: Level) -> dict[str, Any]:
    cells = level.shape[0] * level.shape[1]
    cells *= -(-level.rows // level.pixel.rows) * -(-level.columns // level.pixel.columns)
    found: dict[str, Any] = {
        "SOPInstanceUID": level.sop_instance_uid,
        "photometric_interpretation": level.pixel.photometric,
        "tile": [level.pixel.rows, level.pixel.columns],
        "absent_tiles": cells - len(level.tiles),
        "source": "stored",
    }
    return found | ({"pixel_spacing_mm": list(level.spacing_mm)} if level.spacing_mm else {})
