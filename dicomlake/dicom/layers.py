"""Parallel planes into layers: sets of frames with one plane, or one grid of planes, at each place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry, products
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.verdicts import judge

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
PixelHash = Callable[[Frame], bytes | None]

MIN_ACQUISITION = 3  # frames that an acquisition needs to be a proven stack: any two are equidistant
_DEEPEST = 3  # facets that frames are split by, one within the other
# What may part frames that lie between each other though no two lie at one place.
_INTERLEAVED_BY = (
    "acquisition",
    "component",
    "echo",
    "b",
    "inversion",
    "flip",
    "image_type",
    "kernel",
    "temporal",
)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Frames with an equal number at each of their places.

    frames: C order over `axes`, then places, ascending along the normal. heights: of each place, mm.
    """

    frames: tuple[Frame, ...]
    heights: Array
    axes: tuple[products.Axis, ...] = ()
    duplicates: tuple[Frame, ...] = ()
    split_by: tuple[str, ...] = ()
    partial: bool = False
    side_by_side: bool = False

    @property
    def places(self) -> int:
        """Planes along the normal."""
        return len(self.frames) // self.repeats

    @property
    def repeats(self) -> int:
        """Frames at each place."""
        return math.prod(axis.size for axis in self.axes)


def layers(frames: Sequence[Frame], *, pixel_hash: PixelHash | None = None, depth: int = 0) -> list[Layer]:
    """The layers of parallel frames, which come in the order of InstanceNumber; no frame is left out."""
    placed = _placed(frames)
    if placed is None:
        return _columns(frames, pixel_hash, depth)
    places, heights = placed
    if places.max() + 1 == len(frames):
        return _interleaved(frames, places, heights, depth)
    found = products.find_product(frames, places)
    if found is not None:
        return [Layer(tuple(frames[i] for i in found.order), heights, found.axes)]
    return (
        _without_duplicates(frames, places, pixel_hash, depth)
        or _split(frames, places, depth)
        or _cut_short(frames, places, heights)
        or _repeats(frames, places, heights)
        or _conflicts(frames, places, depth)
    )


# ---- places ----------------------------------------------------------------------------------------


def _placed(frames: Sequence[Frame]) -> tuple[Places, Array] | None:
    """The place of each frame, from 0 along the normal, and the height of each place in mm.

    None when planes at one height lie beside each other.
    """
    tolerance = geometry.same_place_mm(frames[0])
    positions, along = _positions(frames), _orientation(frames)
    heights: Array = positions @ geometry.normal(along)
    order = np.argsort(heights, kind="stable")
    starts = np.concatenate([[True], np.diff(heights[order]) > tolerance])
    places = np.empty(len(frames), dtype=np.int64)
    places[order] = np.cumsum(starts) - 1
    counts = np.bincount(places)
    means = np.stack([np.bincount(places, positions[:, axis]) / counts for axis in range(3)], axis=1)
    if (np.linalg.norm(positions - means[places], axis=1) > tolerance).any():
        return None
    return places, np.bincount(places, heights) / counts


def _columns(frames: Sequence[Frame], pixel_hash: PixelHash | None, depth: int) -> list[Layer]:
    """Planes beside each other, as columns with the same place in the plane; else as a set of planes."""
    row, column = geometry.plane_axes(_orientation(frames))
    beside = _positions(frames) @ np.stack([row, column], axis=1)
    tolerance = geometry.same_place_mm(frames[0])
    columns: list[tuple[Array, list[Frame]]] = []
    for frame, offset in zip(frames, beside, strict=True):
        for first, members in columns:
            if np.linalg.norm(offset - first) <= tolerance:
                members.append(frame)
                break
        else:
            columns.append((offset, [frame]))
    if len(columns) == 1 or depth >= _DEEPEST or min(len(members) for _, members in columns) < 2:
        return [Layer(tuple(frames), np.zeros(len(frames)), side_by_side=True)]
    found = [one for _, members in columns for one in layers(members, pixel_hash=pixel_hash, depth=depth + 1)]
    return [replace(one, split_by=("in_plane_position", *one.split_by)) for one in found]


def _positions(frames: Sequence[Frame]) -> Array:
    return np.array([frame.position for frame in frames], dtype=float)


def _orientation(frames: Sequence[Frame]) -> list[float]:
    """The mean ImageOrientationPatient."""
    mean: list[float] = np.array([frame.orientation for frame in frames], dtype=float).mean(axis=0).tolist()
    return mean


# ---- one frame at each place -----------------------------------------------------------------------


def _single(frames: Sequence[Frame], places: Places, heights: Array) -> Layer:
    return Layer(tuple(frames[i] for i in np.argsort(places)), heights)


def _is_grid(layer: Layer) -> bool:
    if layer.side_by_side:
        return False
    return judge(layer.frames, np.tile(np.arange(layer.places), layer.repeats), layer.heights).is_grid


def _interleaved(frames: Sequence[Frame], places: Places, heights: Array, depth: int) -> list[Layer]:
    """One layer, or one each for acquisitions that interleave in space.

    Together these may look like one regular volume of half the step, yet were taken one after another.
    Those that follow each other in space, or form no grid by themselves, are not split.
    """
    single = _single(frames, places, heights)
    for facet in _INTERLEAVED_BY if depth < _DEEPEST else ():
        values = [products.value_of(frame, facet) for frame in single.frames]
        distinct = len(set(values))
        runs = 1 + sum(a != b for a, b in pairwise(values))
        if None in values or distinct == 1 or runs == distinct:
            continue
        groups = [[single.frames[i] for i in part] for part in products.groups_by(single.frames, facet)]
        if min(map(len, groups)) < MIN_ACQUISITION:
            continue
        parts = [layer for group in groups for layer in layers(group, depth=_DEEPEST)]
        if all(map(_is_grid, parts)):
            return [replace(part, split_by=(facet, *part.split_by)) for part in parts]
    return [single]


# ---- several frames at a place ---------------------------------------------------------------------


def _without_duplicates(
    frames: Sequence[Frame], places: Places, pixel_hash: PixelHash | None, depth: int
) -> list[Layer]:
    """The layers of what is left without exact duplicates; empty when there is none.

    Frames are duplicates when they are equal in place, in all that they say, and in their pixels.
    """
    if pixel_hash is None:
        return []
    alike: dict[object, list[int]] = {}
    for i, frame in enumerate(frames):
        said = (frame.slope, frame.intercept, tuple(sorted(frame.facets.items(), key=str)))
        alike.setdefault((int(places[i]), said), []).append(i)
    extra: set[int] = set()
    for members in alike.values():
        seen: set[bytes] = set()
        for i in members if len(members) > 1 else ():
            digest = pixel_hash(frames[i])
            if digest in seen:
                extra.add(i)
            elif digest is not None:
                seen.add(digest)
    if not extra:
        return []
    kept = [frame for i, frame in enumerate(frames) if i not in extra]
    return _hand_out(layers(kept, depth=depth), [frames[i] for i in sorted(extra)])


def _hand_out(found: list[Layer], duplicates: Sequence[Frame]) -> list[Layer]:
    """Each duplicate to the layer that holds its like."""
    given: list[list[Frame]] = [[] for _ in found]
    for frame in duplicates:
        which = next(k for k, layer in enumerate(found) if _holds_like(layer, frame))
        given[which].append(frame)
    return [
        replace(layer, duplicates=(*layer.duplicates, *extra))
        for layer, extra in zip(found, given, strict=True)
    ]


def _holds_like(layer: Layer, frame: Frame) -> bool:
    tolerance = geometry.same_place_mm(frame)
    place = np.array(frame.position, dtype=float)
    return any(
        one.facets == frame.facets and np.linalg.norm(np.array(one.position) - place) <= tolerance
        for one in layer.frames
    )


def _split(frames: Sequence[Frame], places: Places, depth: int) -> list[Layer]:
    """The fewest clean layers that the values of one facet part the frames into; empty when none does.

    Clean: each is one frame or one product at each place. Equal sets of places join to a product along
    the facet; what is left of a series that was cut short is partial.
    """
    best: list[Layer] = []
    most = int(np.bincount(places).max())
    for facet in products.varying(frames) if depth < _DEEPEST else ():
        groups = [[frames[i] for i in part] for part in products.groups_by(frames, facet)]
        if len(groups) > 2 * most + 2 and len(groups) * MIN_ACQUISITION > len(frames):
            continue
        parts = [_clean(group, depth + 1) for group in groups]
        found = _joined(facet, [layer for part in parts for layer in part]) if all(parts) else []
        if found and (not best or len(found) < len(best)) and _worth(found, most):
            best = found
    return best


def _clean(group: Sequence[Frame], depth: int) -> list[Layer]:
    """The layers of a group when they are told apart by what its frames say; empty otherwise."""
    placed = _placed(group)
    if placed is None:
        return []
    places, heights = placed
    if places.max() + 1 == len(group):
        return [_single(group, places, heights)]
    found = products.find_product(group, places)
    if found is not None:
        return [Layer(tuple(group[i] for i in found.order), heights, found.axes)]
    return _split(group, places, depth)


def _worth(found: Sequence[Layer], most: int) -> bool:
    """Whether a split explains the frames: few layers, or layers that are grids by themselves."""
    if len(found) <= most + 1 or any(layer.axes for layer in found):
        return True
    return all(layer.places >= MIN_ACQUISITION and _is_grid(layer) for layer in found)


def _joined(facet: str, parts: Sequence[Layer]) -> list[Layer]:
    """Layers that cover the same places, joined along the facet where that is a product."""
    alike: dict[object, list[Layer]] = {}
    for part in parts:
        axes = tuple((axis.name, axis.size) for axis in part.axes)
        steps = np.rint(part.heights / (4 * geometry.same_place_mm(part.frames[0])))
        alike.setdefault((axes, tuple(steps.tolist())), []).append(part)
    groups = list(alike.values())
    largest = max(groups, key=lambda group: (len(group), group[0].places))
    found: list[Layer] = []
    for group in groups:
        together = _product_of(group) if len(group) > 1 else None
        # a rest of what was cut short: fewer places than those that repeat
        rest = group is not largest and len(largest) > 1 and group[0].places < largest[0].places
        found += [
            replace(layer, split_by=(facet, *layer.split_by), partial=layer.partial or rest)
            for layer in ([together] if together else group)
        ]
    return found


def _product_of(group: Sequence[Layer]) -> Layer | None:
    frames = [frame for layer in group for frame in layer.frames]
    placed = _placed(frames)
    if placed is None:
        return None
    found = products.find_product(frames, placed[0])
    return Layer(tuple(frames[i] for i in found.order), placed[1], found.axes) if found else None


def _cut_short(frames: Sequence[Frame], places: Places, heights: Array) -> list[Layer]:
    """A series over time that ended before its last round was whole: the whole rounds, and the rest.

    Frames are ranked by time at each place, as times differ a little from place to place.
    """
    ranked = products.ranked_by_time(frames, places)
    if ranked is None:
        return []
    whole = int(np.bincount(places).min())
    rest = np.flatnonzero(ranked >= whole)
    if whole < 2 or int(ranked.max()) != whole:
        return []
    kept = np.flatnonzero(ranked < whole)
    found = products.find_product([frames[i] for i in kept.tolist()], places[kept])
    if found is None:
        return []
    part = [frames[i] for i in rest[np.argsort(places[rest])].tolist()]
    split_by = ("time",)
    return [
        Layer(tuple(frames[int(kept[i])] for i in found.order), heights, found.axes, split_by=split_by),
        Layer(tuple(part), heights[np.sort(places[rest])], split_by=split_by, partial=True),
    ]


def _repeats(frames: Sequence[Frame], places: Places, heights: Array) -> list[Layer]:
    """Frames that nothing tells apart but InstanceNumber, as often at each place: repeats."""
    found = products.repeated(frames, places)
    return [Layer(tuple(frames[i] for i in found.order), heights, found.axes)] if found else []


def _conflicts(frames: Sequence[Frame], places: Places, depth: int) -> list[Layer]:
    """The first frame at each place, and what contradicts it as layers of its own."""
    first: dict[int, int] = {}
    for i, place in enumerate(places.tolist()):
        first.setdefault(place, i)
    kept = sorted(first.values())
    rest = [frame for i, frame in enumerate(frames) if i not in first.values()]
    main = layers([frames[i] for i in kept], depth=_DEEPEST)
    others = layers(rest, depth=depth)
    return [
        *(replace(layer, split_by=("conflict", *layer.split_by)) for layer in main),
        *(replace(layer, split_by=("conflict", *layer.split_by), partial=True) for layer in others),
    ]
