"""Parallel planes and their places along the normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.facet_table import Codes, FacetTable
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.products import Axis, Product
from dicomlake.dicom.verdicts import judge

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Frames with an equal number at each of their places.

    frames: C order over `axes`, then places, ascending along the normal. heights: of each place, mm.
    unordered: why the planes have no order along the normal; None when they have one.
    """

    frames: tuple[Frame, ...]
    heights: Array
    axes: tuple[Axis, ...] = ()
    duplicates: tuple[Frame, ...] = ()
    split_by: tuple[str, ...] = ()
    partial: bool = False
    unordered: str | None = None

    @property
    def places(self) -> int:
        """Planes along the normal."""
        return len(self.frames) // self.repeats

    @property
    def repeats(self) -> int:
        """Frames at each place."""
        return math.prod(axis.size for axis in self.axes)

    @property
    def is_grid(self) -> bool:
        """Whether one affine places every voxel."""
        if self.unordered:
            return False
        return judge(self.frames, np.tile(np.arange(self.places), self.repeats), self.heights).is_grid


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Parallel frames, in the order of InstanceNumber.

    positions: ImagePositionPatient, (n, 3). orientations: ImageOrientationPatient, (n, 6).
    """

    table: FacetTable
    positions: Array
    orientations: Array

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Planes:
        """The planes of frames that all have geometry."""
        return cls(
            FacetTable.of(frames),
            np.array([frame.position for frame in frames], dtype=float),
            np.array([frame.orientation for frame in frames], dtype=float),
        )

    def take(self, index: Codes) -> Planes:
        """Some of the planes, in their order."""
        index = np.sort(index)
        return Planes(self.table.take(index), self.positions[index], self.orientations[index])

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames of the planes."""
        return self.table.frames

    @property
    def tolerance_mm(self) -> float:
        """Distance below which two planes are at the same place."""
        return geometry.same_place_mm(self.frames[0])

    def beside(self) -> Array:
        """Where each plane lies within the mean plane, along a row and along a column, (n, 2), mm."""
        axes = geometry.plane_axes(self.orientations.mean(axis=0).tolist())
        return np.asarray(self.positions @ np.stack(axes, axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Planes of which those at one height lie at one place.

    places: of each plane, from 0 along the normal. heights: of each place along the normal, mm.
    """

    planes: Planes
    places: Codes
    heights: Array

    @property
    def counts(self) -> Codes:
        """How many planes are at each place."""
        return np.bincount(self.places)

    @property
    def is_single(self) -> bool:
        """Whether no two planes share a place."""
        return len(self.heights) == len(self.places)

    def single(self, index: Codes | None = None) -> Layer:
        """The planes, or some of them, of which no two share a place, as a layer."""
        chosen = np.arange(len(self.places)) if index is None else index
        chosen = chosen[np.argsort(self.places[chosen], kind="stable")]
        frames = self.planes.frames
        return Layer(tuple(frames[i] for i in chosen.tolist()), self.heights[self.places[chosen]])

    def layer(self, found: Product) -> Layer:
        """The planes that a product orders, of whose places none is left out, as a layer."""
        frames = self.planes.frames
        return Layer(tuple(frames[i] for i in found.order), self.heights, found.axes)

    def take(self, index: Codes) -> Placed:
        """Some of the planes at the places where they were."""
        index = np.sort(index)
        kept, places = np.unique(self.places[index], return_inverse=True)
        return Placed(self.planes.take(index), places.astype(np.int64), self.heights[kept])


def by_height(planes: Planes) -> tuple[Codes, Array]:
    """The place of each plane from 0 along the normal, and the height of each place in mm."""
    heights: Array = planes.positions @ geometry.normal(planes.orientations.mean(axis=0).tolist())
    places = runs(heights, planes.tolerance_mm)
    return places, np.bincount(places, heights) / np.bincount(places)


def place(planes: Planes) -> Placed | None:
    """The places of planes; None when planes at one height lie beside each other."""
    places, heights = by_height(planes)
    counts = np.bincount(places)
    means = np.stack([np.bincount(places, planes.positions[:, axis]) / counts for axis in range(3)], axis=1)
    off = np.linalg.norm(planes.positions - means[places], axis=1)
    return None if (off > planes.tolerance_mm).any() else Placed(planes, places, heights)


def columns(planes: Planes) -> list[Codes]:
    """The planes by where they lie within the plane, as indices; a column is a straight pile of planes."""
    beside = planes.beside()
    found: list[Codes] = []
    for index in grouped(runs(beside[:, 0], planes.tolerance_mm)):
        found += [index[part] for part in grouped(runs(beside[index, 1], planes.tolerance_mm))]
    return sorted(found, key=lambda column: int(column[0]))


def grouped(numbers: Codes) -> list[Codes]:
    """The indices of each number, ascending."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def runs(values: Array, tolerance: float) -> Codes:
    """For each value the number of its run: sorted values part where they are further apart than that."""
    order = np.argsort(values, kind="stable")
    numbers = np.empty(len(values), dtype=np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > tolerance)])
    return numbers
