"""Images that pack many slices as tiles: Siemens mosaics and United Imaging grids.

Neither is in the standard. What the makers leave to be known: tiles lie row by row, so many a row that
they fit into a square; ImagePositionPatient of a mosaic is that of an image as large as the mosaic
around the centre of a tile, and the next slice is along SliceNormalVector, which also says when a
protocol counts slices the other way round. A grid of United Imaging states the position of each tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import csa, facets, private
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Facet, Frame, Tile, Vector, plane_geometry
from dicomlake.dicom.private import PrivateElement
from dicomlake.dicom.times import seconds, seconds_of_datetime
from dicomlake.errors import BrokenObject

MAX_TILES = 1 << 12

_SIEMENS_TILES = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0A, "US")
_SIEMENS_TIMES = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x29, "FD")
_UIH_TILES = PrivateElement(0x0065, "Image Private Header", 0x50, "DS")
_UIH_FRAMES = PrivateElement(0x0065, "Image Private Header", 0x51, "SQ")

_IMAGE_TAGS = ("NumberOfImagesInMosaic", "SliceNormalVector", "MosaicRefAcqTimes", "ProtocolSliceNumber")
_PROTOCOLS = ("MrPhoenixProtocol", "MrProtocol")
_PARALLEL = 0.999  # cosine of the angle that a normal may be off, 2.5 degrees
_STEP_TOLERANCE = 0.01  # how far the protocol's step may be from SpacingBetweenSlices, of the step
_NEAR_MM = 0.1  # how far the first tile may be from the end of the protocol that it is said to be

Array = npt.NDArray[np.float64]
Tags = dict[str, tuple[str, ...]]


class _Unproven(Exception):
    """Why the tiles cannot be placed, in a few words."""


def is_packed(dataset: Attributes) -> bool:
    """Whether one image holds many slices as tiles: a Siemens mosaic or a UIH grid.

    Both are recognised by ImageType and by the private element that counts the tiles, since
    de-identification may remove either.
    """
    image_type = dataset.texts("ImageType")
    if "MOSAIC" in image_type or "VFRAME" in image_type:
        return True
    return any((private.number(dataset, counts) or 0) > 1 for counts in (_SIEMENS_TILES, _UIH_TILES))


def needs_original(dataset: Attributes) -> bool:
    """Whether the tiles are described in bulk values that this header, kept without such values, lacks."""
    if not is_packed(dataset):
        return False
    sequence = private.tag_of(dataset, _UIH_FRAMES)
    grid_left_out = sequence is not None and not dataset.elements[sequence][1]
    return grid_left_out or csa.is_left_out(dataset)


def frames(dataset: Attributes, first: Frame) -> tuple[Frame, ...]:
    """One record per tile that holds a slice, in the order of the tiles, row by row.

    `tile` and `pixel` are those of the slice, `facets` those of the image; `slice_time` is when a slice
    was acquired, ms since the start of the volume. Where the number of tiles or their geometry is not
    proven, the whole image is one frame without geometry, and `flaw` says why.
    """
    grid = private.tag_of(dataset, _UIH_FRAMES) is not None or "VFRAME" in dataset.texts("ImageType")
    try:
        tiles = _grid(dataset, first) if grid else _mosaic(dataset, first)
    except _Unproven as why:
        return (_whole(dataset, first, str(why)),)
    return tiles


def _whole(dataset: Attributes, first: Frame, why: str) -> Frame:
    orientation = _orientation(dataset)
    flaw = f"its slices are tiles of one image, and {why}"
    found = replace(first, position=None, orientation=None, spacing_mm=None, flaw=flaw)
    return replace(found, facets={**first.facets, **facets.facets_of(dataset, orientation)})


def _orientation(dataset: Attributes) -> tuple[float, ...] | None:
    orientation = dataset.numbers("ImageOrientationPatient")
    return orientation if len(orientation) == 6 else None


def _tiles(first: Frame, count: float | None, rows: int | None = None) -> list[Tile]:
    """The tiles of an image, row by row.

    rows: how many rows of tiles there are; as many as columns when None.
    """
    if count is None or count != int(count) or not 1 <= count <= MAX_TILES:
        raise _Unproven("how many there are is not stated")
    columns = math.isqrt(int(count) - 1) + 1  # the square root, rounded up
    rows = columns if rows is None else rows
    height, odd_row = divmod(first.pixel.rows, rows)
    width, odd_column = divmod(first.pixel.columns, columns)
    if odd_row or odd_column or not height or not width:
        raise _Unproven(f"{int(count)} of them do not divide its rows and columns evenly")
    return [
        Tile(index // columns * height, index % columns * width, height, width) for index in range(int(count))
    ]


# ---- Siemens ---------------------------------------------------------------------------------------


class _Plane(NamedTuple):
    """The plane of a mosaic: its ImagePositionPatient, steps of one row and one column (mm), unit normal."""

    position: Array
    row_step: Array
    column_step: Array
    normal: Array

    def at(self, rows: float, columns: float) -> Array:
        """LPS mm so many rows and columns from the position."""
        return np.asarray(self.position + rows * self.row_step + columns * self.column_step)


def _plane(first: Frame) -> _Plane:
    if first.position is None or first.orientation is None or first.spacing_mm is None:
        raise _Unproven(first.flaw or "the image has no geometry")
    along_row, along_column = np.array(first.orientation).reshape(2, 3)
    between_rows, between_columns = first.spacing_mm
    normal = np.cross(along_row, along_column)
    return _Plane(
        np.array(first.position),
        along_column * between_rows,
        along_row * between_columns,
        normal / np.linalg.norm(normal),
    )


def _mosaic(dataset: Attributes, first: Frame) -> tuple[Frame, ...]:
    tags = csa.of_image(dataset, _IMAGE_TAGS)
    tiles = _tiles(first, _number_of_tiles(dataset, tags))
    plane = _plane(first)
    whole, tile = first.pixel, tiles[0]
    corner = plane.at((whole.rows - tile.rows) / 2, (whole.columns - tile.columns) / 2)
    step = _step(dataset, tags, plane, plane.at(whole.rows / 2, whole.columns / 2), len(tiles))
    shared = facets.facets_of(dataset, first.orientation)
    times = csa.numbers(tags.get("MosaicRefAcqTimes", ())) or private.numbers(dataset, _SIEMENS_TIMES)
    timed = len(times) == len(tiles)
    return tuple(
        _tile_frame(
            replace(first, position=_vector(corner + index * step)),
            tile,
            {**shared, "slice_time": times[index]} if timed else shared,
        )
        for index, tile in enumerate(tiles)
    )


def _number_of_tiles(dataset: Attributes, tags: Tags) -> float | None:
    """What the CSA header and the private element say, when they agree or one is silent."""
    in_csa = csa.numbers(tags.get("NumberOfImagesInMosaic", ()))
    elsewhere = private.number(dataset, _SIEMENS_TILES)
    if in_csa and elsewhere is not None and in_csa[0] != elsewhere:
        raise _Unproven("it contradicts itself on how many there are")
    return in_csa[0] if in_csa else elsewhere


def _step(dataset: Attributes, tags: Tags, plane: _Plane, centre: Array, count: int) -> Array:
    """From one tile to the next, LPS mm; zero for a lone tile.

    centre: that of the first slice. The step goes along SliceNormalVector by SpacingBetweenSlices; both
    are checked against the slices of the protocol where there is one. Without a normal the protocol
    decides, if one of its ends is where the first tile is.
    """
    if count == 1:
        return np.zeros(3)
    spacing = dataset.number("SpacingBetweenSlices")
    stated = csa.numbers(tags.get("SliceNormalVector", ()))
    centres = _planned_centres(dataset, count)
    planned = None if centres is None else _planned_step(centres, plane.normal)
    if len(stated) == 3:
        direction = _direction(plane.normal, stated)
    elif centres is not None and planned is not None:
        direction = _direction_of_plan(centres, planned, centre, plane.normal)
    else:
        raise _Unproven("which way their slices are counted is not stated")
    if planned is not None:
        _check_plan(planned * direction, spacing, tags, count)
        spacing = spacing or abs(planned)
    if spacing is None or spacing <= 0:
        raise _Unproven("the distance of their slices is not stated")
    return np.asarray(direction * spacing * plane.normal)


def _direction(normal: Array, stated: tuple[float, ...]) -> float:
    """1 when SliceNormalVector goes along the normal of ImageOrientationPatient, -1 when against it."""
    cosine = float(normal @ stated)
    if abs(cosine) < _PARALLEL:
        raise _Unproven("SliceNormalVector is no normal of ImageOrientationPatient")
    return math.copysign(1.0, cosine)


def _planned_centres(dataset: Attributes, count: int) -> Array | None:
    """Centres of the slices of the protocol, when there are as many as tiles."""
    tags = csa.of_series(dataset, _PROTOCOLS)
    for name in _PROTOCOLS:
        for text in tags.get(name, ()):
            centres = csa.slice_centres(text)
            if centres is not None and len(centres) == count:
                return centres
    return None


def _planned_step(centres: Array, normal: Array) -> float:
    """The step of the protocol's slices along the normal, mm, with its sign."""
    steps = np.diff(centres, axis=0)
    mean = steps.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if np.abs(steps - mean).max() > _STEP_TOLERANCE * length:
        raise _Unproven("the slices of its protocol are not evenly spaced")
    along = float(mean @ normal)
    if abs(along) < _PARALLEL * length:
        raise _Unproven("the slices of its protocol are not parallel to it")
    return along


def _check_plan(counted: float, spacing: float | None, tags: Tags, count: int) -> None:
    """Raise _Unproven when the slices of the protocol are not where the tiles would be put.

    counted: step of the protocol, positive when it counts slices as the tiles are. Only steps are
    compared: a scanner that follows a moving head leaves the protocol as it was.
    """
    if spacing is not None and abs(abs(counted) - spacing) > _STEP_TOLERANCE * abs(counted):
        raise _Unproven("SpacingBetweenSlices is not that of its protocol")
    number = csa.numbers(tags.get("ProtocolSliceNumber", ()))
    if number and ((number[0] == 0 and counted < 0) or (number[0] == count - 1 and counted > 0)):
        raise _Unproven("SliceNormalVector contradicts the order of slices in its protocol")


def _direction_of_plan(centres: Array, planned: float, centre: Array, normal: Array) -> float:
    """1 when tiles go along the normal, -1 when against it: by which end of the plan the first one is at."""
    near = _STEP_TOLERANCE * abs(planned) + _NEAR_MM
    along = math.copysign(1.0, planned)
    at_begin, at_end = (abs(float((centre - end) @ normal)) < near for end in (centres[0], centres[-1]))
    if at_begin == at_end:
        raise _Unproven("which way their slices are counted is not stated")
    return along if at_begin else -along


# ---- United Imaging --------------------------------------------------------------------------------


def _grid(dataset: Attributes, first: Frame) -> tuple[Frame, ...]:
    items = _grid_items(dataset)
    count = private.number(dataset, _UIH_TILES)
    if count is not None and count != len(items):
        raise _Unproven("it contradicts itself on how many there are")
    columns = math.isqrt(len(items) - 1) + 1 if items else 1
    tiles = _tiles(first, len(items), -(-len(items) // columns))
    shared = facets.facets_of(dataset, _orientation(dataset))
    return tuple(
        _tile_frame(_placed(first, dataset, item), tile, {**shared, **times})
        for tile, item, times in zip(tiles, items, _grid_times(items), strict=True)
    )


def _grid_items(dataset: Attributes) -> tuple[Attributes, ...]:
    tag = private.tag_of(dataset, _UIH_FRAMES)
    try:
        items = dataset.items(tag) if tag is not None else ()
    except BrokenObject as error:
        raise _Unproven("their description cannot be read") from error
    if not items:
        raise _Unproven("their positions are not stated")
    return items


def _placed(first: Frame, dataset: Attributes, item: Attributes) -> Frame:
    position, orientation, spacing, flaw = plane_geometry(item, dataset, dataset)
    if flaw is not None:
        raise _Unproven(flaw)
    return replace(first, position=position, orientation=orientation, spacing_mm=spacing, flaw=None)


def _grid_times(items: tuple[Attributes, ...]) -> Iterator[dict[str, Facet]]:
    """The facets acquisition_time, of the volume, and slice_time of each tile; none unless all state it.

    The volume begins with its first slice: so the tiles share a time, and each has its own offset.
    """
    stated = [
        seconds_of_datetime(item.text("AcquisitionDateTime"))
        or seconds(item.text("AcquisitionDate"), item.text("AcquisitionTime"))
        for item in items
    ]
    times = [time for time in stated if time is not None]
    for time in stated:
        complete = time is not None and len(times) == len(stated)
        since = round(1000 * (time - min(times)), 3) if time is not None else 0.0
        yield {"acquisition_time": min(times), "slice_time": since} if complete else {}


# ---- both ------------------------------------------------------------------------------------------


def _tile_frame(placed: Frame, tile: Tile, found: dict[str, Facet]) -> Frame:
    pixel = replace(placed.pixel, rows=tile.rows, columns=tile.columns)
    return replace(placed, tile=tile, pixel=pixel, facets={**placed.facets, **found})


def _vector(array: Array) -> Vector:
    x, y, z = (float(value) for value in array)
    return x, y, z
