"""Images that pack slices as tiles: Siemens mosaics, with their CSA header, and United Imaging grids."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from math import ceil, isqrt

import numpy as np

from dicomlake.datasets._headers import Elements
from dicomlake.datasets._truth import clock, uid
from dicomlake.datasets.edge_cases import objects
from dicomlake.datasets.edge_cases.building import Axis, Made, case, volume_of
from dicomlake.datasets.edge_cases.grids import OBLIQUE, SAGITTAL, Grid, normal, upright
from dicomlake.datasets.edge_cases.objects import DATE, MR, Object, Private, number, numbers
from dicomlake.datasets.edge_cases.records import Array, Coordinate, EdgeCase, Vector, VolumeTruth

_SECONDS = 2.5  # between two times
_TIMES = 2


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield _mosaic("mosaic-ascending", "A Siemens mosaic whose tiles rise along the normal.", falling=False)
    yield _mosaic("mosaic-descending", "A Siemens mosaic whose tiles run against row x column.", falling=True)
    yield _mosaic(
        "mosaic-sagittal", "A sagittal Siemens mosaic.", falling=True, directions=SAGITTAL, slices=9
    )
    yield _uih()


def tiled(planes: Sequence[Array], across: int, down: int) -> Array:
    """The planes as tiles of one image, row by row; tiles that are left over are black."""
    rows, columns = planes[0].shape
    image = np.zeros((down * rows, across * columns), planes[0].dtype)
    for i, plane in enumerate(planes):
        top, left = i // across * rows, i % across * columns
        image[top : top + rows, left : left + columns] = plane
    return image


def _truth(name: str, grid: Grid) -> VolumeTruth:
    passed = tuple(_SECONDS * t for t in range(_TIMES))
    axis = Axis("time", ({},) * _TIMES, (Coordinate("time", ("time",), passed, "s", from_first=True),))
    sources = [(uid("edge", name, t), 0) for t in range(_TIMES) for _ in range(grid.slices)]
    return volume_of(grid, (axis,), sources, first=0, pixels="grey16")


def _common(name: str, time: int, image: Array) -> Elements:
    said = {
        **objects.series(name, "MR"),
        **objects.instance(MR, uid("edge", name, time), time + 1),
        **objects.kind(MR),
        **objects.pixels(image),
    }
    moment = clock(36_000 + int(_SECONDS * time))[:6] + (".500000" if time % 2 else ".000000")
    return said | {"AcquisitionTime": moment, "ContentTime": moment}


# ---- Siemens -----------------------------------------------------------------------------------------


def _mosaic(
    name: str,
    story: str,
    *,
    falling: bool,
    directions: tuple[Vector, Vector] = OBLIQUE,
    slices: int = 5,
) -> EdgeCase:
    """falling: the first tile is the highest slice, and SliceNormalVector points the other way."""
    grid = upright(directions, slices=slices, step_mm=3.5)
    volume = _truth(name, grid)
    across = isqrt(slices - 1) + 1  # a square of tiles
    made = []
    for t in range(_TIMES):
        planes = [volume.plane(t * slices + k) for k in range(slices)][:: -1 if falling else 1]
        said = _common(name, t, tiled(planes, across, across)) | {
            "Manufacturer": "SIEMENS",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
            "SpacingBetweenSlices": "3.5",
            "ImagePositionPatient": numbers(_corner(grid, slices - 1 if falling else 0, across)),
            "ImageOrientationPatient": numbers(grid.orientation),
            "PixelSpacing": numbers(grid.spacing),
        }
        made.append(Object(said, _siemens(grid, falling=falling)))
    return case(name, story, Made(volume, tuple(made)))


def _corner(grid: Grid, first: int, across: int) -> Vector:
    """ImagePositionPatient of a mosaic: as if the whole image, with its many tiles, were one slice about
    the centre of the first one. nibabel tells the story in its note on DICOM mosaics."""
    down_mm = grid.rows * (across - 1) / 2 * grid.spacing[0]
    right_mm = grid.columns * (across - 1) / 2 * grid.spacing[1]
    x, y, z = (
        p - c * down_mm - r * right_mm
        for p, c, r in zip(grid.position(first), grid.column, grid.row, strict=True)
    )
    return x, y, z


def _siemens(grid: Grid, *, falling: bool) -> tuple[Private, ...]:
    sign = -1 if falling else 1
    across = [sign * n for n in normal(grid.row, grid.column)]
    header = csa_header(
        (
            ("AcquisitionMatrixText", "SH", [f"{grid.rows}p*{grid.columns}"]),
            ("NumberOfImagesInMosaic", "US", [str(grid.slices)]),
            ("SliceNormalVector", "FD", [f"{n:.8f}" for n in across]),
            ("ImageOrientationPatient", "DS", [f"{n:.8f}" for n in grid.orientation]),
            ("PixelSpacing", "DS", [f"{mm:.8f}" for mm in grid.spacing]),
        )
    )
    return (
        Private(0x0019, "SIEMENS MR HEADER", 0x08, "CS", "IMAGE NUM 4"),
        Private(0x0019, "SIEMENS MR HEADER", 0x0A, "US", grid.slices),
        Private(0x0029, "SIEMENS CSA HEADER", 0x08, "CS", "IMAGE NUM 4"),
        Private(0x0029, "SIEMENS CSA HEADER", 0x10, "OB", header),
    )


def csa_header(tags: Sequence[tuple[str, str, Sequence[str]]]) -> bytes:
    """A CSA header of the second kind ("SV10"), name, VR and values of each tag; length even."""
    out = b"SV10\x04\x03\x02\x01" + struct.pack("<2I", len(tags), 77)
    for name, vr, values in tags:
        out += struct.pack("<64si4s3i", name.encode(), len(values), vr.encode(), 6, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return out


# ---- United Imaging ----------------------------------------------------------------------------------


def _uih() -> EdgeCase:
    """A grid of tiles; a private sequence gives the position of each, the data set none."""
    name, slices = "uih-grid", 5
    grid = upright(OBLIQUE, slices=slices, step_mm=3.5, rows=8, columns=8)
    volume = _truth(name, grid)
    across = isqrt(slices - 1) + 1
    made = []
    for t in range(_TIMES):
        planes = [volume.plane(t * slices + k) for k in range(slices)]
        said = _common(name, t, tiled(planes, across, ceil(slices / across))) | {
            "Manufacturer": "UIH",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "VFRAME"],
            "SpacingBetweenSlices": "3.5",
            "ImageOrientationPatient": numbers(grid.orientation),
            "PixelSpacing": numbers(grid.spacing),
        }
        items = [
            {
                "AcquisitionDate": DATE,
                "AcquisitionTime": said["AcquisitionTime"],
                "ImagePositionPatient": numbers(grid.position(k)),
                "SliceLocation": number(grid.position(k)[2]),
            }
            for k in range(slices)
        ]
        private = (
            Private(0x0065, "Image Private Header", 0x04, "SH", "8*8"),
            Private(0x0065, "Image Private Header", 0x50, "DS", str(slices)),
            Private(0x0065, "Image Private Header", 0x51, "SQ", items),
        )
        made.append(Object(said, private))
    return case(
        name,
        "A United Imaging grid: the tiles' positions are in a private sequence.",
        Made(volume, tuple(made)),
    )
