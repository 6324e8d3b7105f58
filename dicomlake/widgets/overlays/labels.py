"""Labels: masks and segments, however many, that may overlap.

A volume holds codes; each code stands for a set of labels. So overlapping labels are all there, and a plane
is one array of small numbers whatever the number of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.overlays.base import Cut, Drawn, Placed, Request, nearest
from dicomlake.widgets.overlays.kept import Kept

Voxels = npt.NDArray[Any]
MOST_LABELS = 1024
_MOST_SETS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """volume: (z, y, x), uint8 or uint16. sets: for each code the values of its labels; code 0 is none."""

    volume: Voxels
    sets: tuple[tuple[int, ...], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the volume."""
        return int(self.volume.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels over an image.

    labels: entries of the trait. codes: makes the volume, when the first plane is asked for.
    placed: where its voxels lie; None on those of the displayed image.
    """

    key: str
    labels: list[dict[str, Any]]
    codes: Callable[[], Codes]
    placed: Placed | None = None
    kind: str = field(default="labels", init=False)

    def state(self) -> dict[str, Any]:
        """Labels and how they are drawn."""
        return {"labels": [dict(one) for one in self.labels], "style": "both"}

    def ready(self, _request: Request, kept: Kept) -> bool:
        """Whether the codes are here."""
        return (self.key, "codes") in kept

    def draw(self, request: Request, kept: Kept) -> Drawn:
        """One array of codes a plane; data["sets"] says what they stand for."""
        codes: Codes = kept.get((self.key, "codes"), self.codes)
        buffers = [self._plane(codes, cut) for cut in request.cuts]
        bits = codes.volume.dtype.itemsize * 8
        return Drawn({"sets": [list(one) for one in codes.sets], "dtype": f"uint{bits}"}, buffers)

    def _plane(self, codes: Codes, cut: Cut) -> Voxels:
        if self.placed is None:
            return cut.taken(codes.volume)
        return nearest(codes.volume, self.placed.index(cut))


def joined(shape: tuple[int, ...], masks: Iterable[tuple[int, Voxels]]) -> Codes:
    """Masks (z, y, x), with the value of each, as codes; one mask is looked at at a time.

    Raises DicomlakeError when more than 65,535 combinations of labels occur.
    """
    volume = np.zeros(shape, np.uint8)
    sets: list[tuple[int, ...]] = [()]
    numbers: dict[tuple[int, ...], int] = {(): 0}
    for value, mask in masks:
        box = _box(mask)
        if box is None:
            continue
        inside = mask[box]
        met = np.flatnonzero(np.bincount(volume[box][inside]))
        following = np.arange(len(sets))
        for old in met:
            larger = (*sets[old], value)
            if larger not in numbers:
                numbers[larger] = len(sets)
                sets.append(larger)
            following[old] = numbers[larger]
        if len(sets) > _MOST_SETS:
            raise DicomlakeError(
                "more than 65,535 combinations of overlapping labels: add fewer labels at once"
            )
        if len(sets) > 256 and volume.dtype == np.uint8:
            volume = volume.astype(np.uint16)
        part = volume[box]
        part[inside] = following[part[inside]].astype(volume.dtype)
    return Codes(volume, tuple(sets))


def _box(mask: Voxels) -> tuple[slice, ...] | None:
    """The smallest box of slices that holds all of a mask; None when it is empty."""
    along = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(along):
        return None
    planes = slice(int(along[0]), int(along[-1]) + 1)
    flat = np.asarray(mask[planes].any(axis=0))
    rows, cols = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return planes, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def numbered(values: Voxels, background: int = 0, known: Sequence[int] | None = None) -> Codes:
    """An integer array (z, y, x) whose numbers are labels, as codes.

    known: values that are labels, all but the background unless given; what is not known is nothing.
    """
    found = [v for v in (values_in(values) if known is None else known) if v != background]
    ordered = np.array(sorted(found), dtype=np.int64)
    volume = np.zeros(values.shape, np.uint8 if len(ordered) < 256 else np.uint16)
    for z, plane in enumerate(values):
        place = np.searchsorted(ordered, plane)
        hit = (place < len(ordered)) & (ordered[np.minimum(place, len(ordered) - 1)] == plane) if found else 0
        volume[z] = np.where(hit, place + 1, 0)
    return Codes(volume, ((), *((int(v),) for v in ordered)))


def values_in(values: Voxels) -> list[int]:
    """The different numbers in an integer array, ascending; raises DicomlakeError when it is no mask."""
    found: set[int] = set()
    for plane in values:
        found.update(int(v) for v in np.unique(plane))
        if len(found) > MOST_LABELS + 1:
            raise DicomlakeError(
                f"an array with more than {MOST_LABELS} different whole numbers is taken for an image, not a"
                " mask: convert it to floating point to blend it in, or give a mask for each label"
            )
    return sorted(found)
