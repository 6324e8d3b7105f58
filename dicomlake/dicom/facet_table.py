"""What frames say about themselves, as a table: a column for each facet, a row for each frame.

A column holds ranks of values, so that facets of any type compare as whole numbers, and a part of the
table is taken without looking at the frames again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.frames import Frame

Codes = npt.NDArray[np.int64]

# Facet -> dimension it makes, in the order they are tried: what was set before what merely happened.
DIMENSIONS = {
    "component": "component",
    "echo": "echo",
    "b": "b",
    "inversion": "inversion",
    "flip": "flip",
    "quantity": "quantity",
    "image_type": "image_type",
    "kernel": "kernel",
    "kvp": "kvp",
    "energy": "energy",
    "optical_path": "optical_path",
    "segment": "segment",
    "energy_window": "energy_window",
    "detector": "detector",
    "phase": "phase",
    "rr_interval": "rr_interval",
    "time_slot": "time_slot",
    "rotation": "rotation",
    "angular_view": "angular_view",
    "temporal": "time",
    "cardiac_phase": "phase",
    "trigger": "phase",
    "frame_reference_time": "time",
    "dynamic_time": "time",
    "time_slice": "time",
    "acquisition": "acquisition",
    "acquisition_time": "time",
    "reference_time": "time",
    "content_time": "time",
}
OTHER = "dim_"  # prefix of any other dimension of an object; these come last
CLOCKS = frozenset({"acquisition_time", "reference_time", "content_time"})  # seconds, of a day or since 1970
# Times differ a little from place to place, as planes are acquired one after another: compared by rank, too.
TIMES = (
    "trigger",
    "frame_reference_time",
    "dynamic_time",
    "acquisition_time",
    "reference_time",
    "content_time",
)

_SAME_NUMBER = 2e-6  # relative difference of one number written twice: some pass through 32-bit floats
_SAME_TIME = 1e-6  # in the unit of the facet: times are not scaled, and those since 1970 are long
_SAME_DIRECTION = 1e-4  # difference of a component of a unit vector
_DAY, _HALF_DAY = 86_400.0, 43_200.0


@dataclass(frozen=True, slots=True, eq=False)
class FacetTable:
    """Facets that differ between frames.

    columns: by facet, in the order they are tried, the rank of each frame's value; -1 where the frame
        does not say. Numbers that differ by less than rounding are one value.
    """

    frames: tuple[Frame, ...]
    columns: Mapping[str, Codes]

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> FacetTable:
        """The table of these frames."""
        present = dict.fromkeys(name for frame in frames for name in frame.facets)
        others = [name for name in present if name.startswith(OTHER)]
        names = [name for name in (*DIMENSIONS, *sorted(others)) if name in present]
        columns = {name: ranks_of([_stated(frame, name) for frame in frames], name) for name in names}
        return cls(tuple(frames), {name: c for name, c in columns.items() if c.min() < c.max()})

    def take(self, index: Codes) -> FacetTable:
        """The table of some of the frames."""
        parts = {name: column[index] for name, column in self.columns.items()}
        varying = {name: part for name, part in parts.items() if part.min() < part.max()}
        return FacetTable(tuple(self.frames[i] for i in index.tolist()), varying)

    def codes(self, facet: str) -> Codes:
        """The rank of each frame's value among those of this table, from 0; absent is lowest."""
        return compact(self.columns[facet])

    def is_complete(self, facet: str) -> bool:
        """Whether every frame states it."""
        return bool(self.columns[facet].min() >= 0)

    def groups(self, facet: str) -> list[Codes]:
        """The rows with each value of a facet, values ascending."""
        column = self.columns[facet]
        order = np.argsort(column, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(column[order])) + 1)


def compact(codes: Codes) -> Codes:
    """Codes without unused ones: 0, 1, … in the same order."""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def is_broken_clock(values: Sequence[Any]) -> bool:
    """Whether times of day without a date may have passed midnight: then nothing says which came first."""
    times = [value for value in values if isinstance(value, int | float)]
    return bool(times) and min(times) < 2 * _DAY and max(times) - min(times) > _HALF_DAY


def _stated(frame: Frame, facet: str) -> Any:
    """The value of a facet, b-value with its direction; None when absent or no number."""
    value = frame.facets.get(facet)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if facet == "b" and value is not None:
        gradient = frame.facets.get("gradient", frame.facets.get("gradient_stated"))
        return (value, *(gradient if isinstance(gradient, tuple) else ()))
    return value


def ranks_of(values: Sequence[Any], facet: str) -> Codes:
    """The rank of each value of a facet among those that can be told apart, -1 for None.

    All are -1 for times whose order is not known.
    """
    if facet in CLOCKS and is_broken_clock(values):
        return np.full(len(values), -1, dtype=np.int64)
    merged = _merged(values, facet)
    ranks = {value: i for i, value in enumerate(sorted({v for v in merged if v is not None}, key=_sort_key))}
    return np.array([-1 if value is None else ranks[value] for value in merged], dtype=np.int64)


def _merged(values: Sequence[Any], facet: str) -> Sequence[Any]:
    """The values with those that differ by less than rounding made equal."""
    absolute, relative = (_SAME_TIME, 0.0) if facet in TIMES else (0.0, _SAME_NUMBER)
    numbers = _representatives({v for v in values if isinstance(v, int | float)}, absolute, relative)
    tuples = [v for v in values if isinstance(v, tuple)]
    if not tuples:
        return [numbers.get(v, v) if isinstance(v, int | float) else v for v in values]
    first = _representatives({v[0] for v in tuples if v}, 0.0, relative) if facet == "b" else {}
    parts = _representatives({p for v in tuples for p in (v[1:] if first else v)}, _SAME_DIRECTION, 0.0)

    def same(value: Any) -> Any:
        if not isinstance(value, tuple):
            return numbers.get(value, value) if isinstance(value, int | float) else value
        head = (first[value[0]],) if first and value else ()
        return (*head, *(parts[part] for part in value[len(head) :]))

    return [same(value) for value in values]


def _representatives(numbers: set[Any], absolute: float, relative: float) -> dict[Any, Any]:
    """Each number -> the lowest of those it cannot be told from."""
    found: dict[Any, Any] = {}
    before = lowest = None
    for number in sorted(numbers):
        if before is None or number - before > absolute + relative * abs(before):
            lowest = number
        found[number], before = lowest, number
    return found


def _sort_key(value: Any) -> tuple[int, Any]:
    """Numbers, then text, then directions."""
    return (1, value) if isinstance(value, str) else (2, value) if isinstance(value, tuple) else (0, value)
