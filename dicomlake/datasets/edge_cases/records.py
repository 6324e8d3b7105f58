"""What an edge case is: the files of a series and, known from how they were made, the volumes they form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets._truth import Affine, shuffled

Vector = tuple[float, float, float]
Pixels = Literal["grey16", "grey8", "rgb", "bit"]
Array = NDArray[Any]


def encoded(first: int, shape: tuple[int, ...], pixels: Pixels) -> Array:
    """Values that tell their place: voxel i of the array, in C order, has the number n = first + i.

    shape: (…, y, x); colour adds an axis of three. grey16 and grey8 hold n itself, rgb the bytes
    n // 256, n % 256 and 255 - n % 256, bit the bit 16 of n times 2654435761: no two frames look alike.
    Raises ValueError when n does not fit.
    """
    numbers = first + np.arange(prod(shape), dtype=np.int64).reshape(shape)
    if pixels == "bit":
        return np.asarray((numbers * 2_654_435_761 >> 16) % 2, dtype=bool)
    if numbers.max() >= (256 if pixels == "grey8" else 65_536):
        raise ValueError(f"{numbers.max() + 1} voxels are too many for {pixels}: make the case smaller")
    if pixels == "rgb":
        low = numbers % 256
        return np.stack([numbers // 256, low, 255 - low], axis=-1).astype(np.uint8)
    return numbers.astype(np.uint8 if pixels == "grey8" else np.uint16)


@dataclass(frozen=True)
class Coordinate:
    """Numbers or terms along axes of a volume."""

    name: str
    """Name of the coordinate."""
    dims: tuple[str, ...]
    """The axes it lies along; a further one of three, `lps`, for vectors."""
    values: tuple[Any, ...]
    """Nested as the dims are; a vector of NaN where there is no direction."""
    units: str | None = None
    """In UCUM: ms, s, s/mm2, deg, kV; None where the numbers are no quantities."""
    from_first: bool = False
    """Whether only the distance from the first value is known: clocks may start anywhere."""


@dataclass(frozen=True)
class VolumeTruth:
    """One volume as it must open."""

    dims: tuple[str, ...]
    """Names of the axes, slowest first."""
    shape: tuple[int, ...]
    """Length of each axis, colour included."""
    sources: tuple[tuple[str, int], ...]
    """SOPInstanceUID and frame index (from 0) of each plane, in C order over the axes before y and x."""
    first: int = 0
    """Number of the first voxel: see `encoded`."""
    pixels: Pixels = "grey16"
    """How the numbers are stored."""
    verdict: str = "regular"
    """What is true of the positions."""
    affine_lps: Affine | None = None
    """Index (z, y, x) to LPS, mm; None where no affine places every plane."""
    positions_lps: tuple[Vector, ...] | None = None
    """Of the first voxel of each place along z or frame, mm; None without geometry."""
    orientations: tuple[tuple[float, ...], ...] | None = None
    """ImageOrientationPatient of each place, where they differ."""
    tolerance_mm: float = 1e-6
    """How far positions may be off: more than rounding only where the case adds noise."""
    coordinates: tuple[Coordinate, ...] = ()
    """What must lie along the axes."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the catalog's `info`: gaps, duplicates, tilt_degrees, units …"""

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""
        return self.shape[: self.dims.index("y")]

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Rows and columns."""
        at = self.dims.index("y")
        return self.shape[at], self.shape[at + 1]

    def array(self) -> Array:
        """Every stored value."""
        return encoded(self.first, (*self.leading, *self.plane_shape), self.pixels)

    def plane(self, number: int) -> Array:
        """The stored values of a plane, counted as `sources` are."""
        return encoded(self.first + number * prod(self.plane_shape), self.plane_shape, self.pixels)

    @property
    def end(self) -> int:
        """The first number behind this volume's, for the next one in the case."""
        return self.first + prod(self.leading) * prod(self.plane_shape)


@dataclass(frozen=True)
class EdgeCase:
    """A series that is easily misread, and what it is.

    A case is the smallest one of its kind: a few slices of a few voxels, with rows unlike columns.
    """

    name: str
    """Short, in kebab case."""
    story: str
    """One sentence: what is odd, and what is right."""
    volumes: tuple[VolumeTruth, ...]
    """All volumes of all series that the files form; their order means nothing."""
    writers: tuple[Callable[[], bytes], ...] = field(repr=False)
    """One for each file, in the order of acquisition."""
    duplicates: tuple[str, ...] = ()
    """SOPInstanceUIDs of files whose image is another one's."""
    no_images: tuple[str, ...] = ()
    """SOPInstanceUIDs of files that are no part of a volume."""
    findings: frozenset[str] = frozenset()
    """Kinds of findings that must be recorded."""
    unreadable: tuple[str, ...] = ()
    """SOPInstanceUIDs of files whose pixels are not all there: no volume may show any value for them."""

    def files(self) -> list[bytes]:
        """The DICOM files, out of order; the same bytes each time."""
        return [self.writers[i]() for i in shuffled(len(self.writers))]
