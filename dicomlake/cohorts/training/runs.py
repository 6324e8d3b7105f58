"""Masks as runs of voxels: a thousandth of their size, to draw voxels from and to cut patches out of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Index = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The voxels inside a mask, in C order of (z, y, x); small and picklable.

    starts, stops: flat index of the first voxel of each run, and of the one behind it; ascending.
    before: how many voxels lie inside before each run.
    """

    shape: tuple[int, int, int]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_]) -> Runs:
        """The runs of a bool array (z, y, x)."""
        flat = np.concatenate([[False], mask.ravel(), [False]])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        starts, stops = edges[::2].astype(np.int64), edges[1::2].astype(np.int64)
        before = np.cumsum(stops - starts) - (stops - starts)
        depth, rows, columns = mask.shape
        return cls((depth, rows, columns), starts, stops, before)

    @property
    def inside(self) -> int:
        """The number of voxels inside."""
        return int((self.stops - self.starts).sum())

    @property
    def outside(self) -> int:
        """The number of voxels outside."""
        return int(np.prod(self.shape)) - self.inside

    def voxel_inside(self, number: int) -> Index:
        """Index (z, y, x) of a voxel inside; they are counted from 0."""
        run = int(np.searchsorted(self.before, number, side="right")) - 1
        return self._index(int(self.starts[run] + number - self.before[run]))

    def voxel_outside(self, number: int) -> Index:
        """Index (z, y, x) of a voxel outside; they are counted from 0."""
        runs = int(np.searchsorted(self.starts - self.before, number, side="right"))
        passed = 0 if not runs else int(self.before[runs - 1] + self.stops[runs - 1] - self.starts[runs - 1])
        return self._index(number + passed)

    def _index(self, flat: int) -> Index:
        z, y, x = np.unravel_index(flat, self.shape)
        return int(z), int(y), int(x)

    def cut(self, start: Index, stop: Index) -> npt.NDArray[np.bool_]:
        """The mask from one index to another, which lie within its shape."""
        size = tuple(b - a for a, b in zip(start, stop, strict=True))
        out = np.zeros(size, np.bool_)
        _, rows, columns = self.shape
        for z in range(start[0], stop[0]):
            low, high = (z * rows + start[1]) * columns, (z * rows + stop[1]) * columns
            first = int(np.searchsorted(self.stops, low, side="right"))
            last = int(np.searchsorted(self.starts, high, side="left"))
            if first < last:
                band = np.zeros(high - low + 1, np.int8)
                np.add.at(band, np.maximum(self.starts[first:last], low) - low, 1)
                np.subtract.at(band, np.minimum(self.stops[first:last], high) - low, 1)
                filled = np.cumsum(band[:-1]).astype(np.bool_).reshape(-1, columns)
                out[z - start[0]] = filled[:, start[2] : stop[2]]
        return out

    @classmethod
    def union(cls, several: list[Runs]) -> Runs:
        """The voxels that are in any of several masks of one shape."""
        if len(several) == 1:
            return several[0]
        edges = np.concatenate([one.starts for one in several] + [one.stops for one in several])
        half = len(edges) // 2
        steps = np.repeat([1, -1], [half, half])
        order = np.lexsort((-steps, edges))
        depth = np.cumsum(steps[order])
        begins = (depth == 1) & (steps[order] == 1)
        starts, stops = edges[order][begins], edges[order][depth == 0]
        before = np.cumsum(stops - starts) - (stops - starts)
        return cls(several[0].shape, starts, stops, before)

    def __reduce__(self) -> tuple[Any, ...]:
        return Runs, (self.shape, self.starts, self.stops, self.before)
