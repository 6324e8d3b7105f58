"""Parallel planes into layers: sets of frames with one plane, or one grid of planes, at each place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from dicomlake.dicom import products
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.planes import Layer, Placed, Planes, by_height, columns, grouped, place

PixelHash = Callable[[Frame], bytes | None]

MIN_ACQUISITION = 3  # frames that an acquisition needs to be a proven stack: any two are equidistant
_DEEPEST = 2  # facets that frames are split by, one within the other
_FEW = 32  # layers of a split that need no proof of their own: stations, beds, reconstructions
_MOST_CONFLICTS = 8  # frames that one place may hold without reason, before they are kept as a mere set
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
_BESIDE = "parallel planes lie beside each other"
_TOO_CLOSE = "planes lie so close to each other that places cannot be told apart"
_NOTHING = "many planes claim each place, and nothing they state tells them apart"


def layers(frames: Sequence[Frame], *, pixel_hash: PixelHash | None = None) -> list[Layer]:
    """The layers of parallel frames, which come in the order of InstanceNumber; no frame is left out."""
    return _layers(Planes.of(frames), pixel_hash, 0)


def _layers(planes: Planes, pixel_hash: PixelHash | None, depth: int) -> list[Layer]:
    placed = place(planes)
    if placed is None:
        return _beside(planes, pixel_hash, depth)
    return _explained(placed, pixel_hash, depth) or _conflicts(placed, depth)


def _explained(placed: Placed, pixel_hash: PixelHash | None, depth: int) -> list[Layer]:
    """The layers by the first explanation that holds for all planes; empty when none does."""
    if placed.is_single:
        return _interleaved(placed, depth)
    return (
        _product(placed)
        or _without_duplicates(placed, pixel_hash, depth)
        or _split(placed.planes, int(placed.counts.max()), depth)
        or _repeats(placed)
        or _covered(placed)
        or _cut_short(placed)
        or _uneven(placed)
    )


# ---- planes beside each other ----------------------------------------------------------------------


def _beside(planes: Planes, pixel_hash: PixelHash | None, depth: int) -> list[Layer]:
    """Planes beside each other: as columns of the same place in the plane, or by what parts them.

    Else, when the first plane at each height makes a grid, that grid and the others; else as a mere set.
    """
    piles = columns(planes)
    if depth < _DEEPEST and len(piles) > 1:
        if min(map(len, piles)) > 1:
            found = [one for pile in piles for one in _layers(planes.take(pile), pixel_hash, depth + 1)]
            return _named(found, "in_plane_position")
        parted = _split(planes, 0, depth) or _out_of_line(planes, pixel_hash, depth)
        if parted:
            return parted
    reason = _TOO_CLOSE if len(piles) == 1 else _BESIDE
    return [Layer(planes.frames, np.zeros(len(planes.frames)), unordered=reason)]


def _out_of_line(planes: Planes, pixel_hash: PixelHash | None, depth: int) -> list[Layer]:
    """The first plane at each height when these make a grid, and the planes that lie beside them."""
    places, _ = by_height(planes)
    first = np.unique(places, return_index=True)[1]
    if len(first) < MIN_ACQUISITION:
        return []
    placed = place(planes.take(first))
    main = placed.single() if placed is not None and placed.is_single else None
    if main is None or not main.is_grid:
        return []
    rest = np.setdiff1d(np.arange(len(places)), first)
    others = _layers(planes.take(rest), pixel_hash, depth + 1)
    return _named([main, *(replace(one, partial=True) for one in others)], "in_plane_position")


def _named(found: Sequence[Layer], name: str) -> list[Layer]:
    """The layers with what parts them from each other."""
    return [replace(one, split_by=(name, *one.split_by)) for one in found]


# ---- one frame at each place -----------------------------------------------------------------------


def _interleaved(placed: Placed, depth: int) -> list[Layer]:
    """One layer, or one each for what is no volume together.

    That is planes of which some are, say, magnitude and others phase; and acquisitions that interleave in
    space. Together these may look like one regular volume of half the step, yet were taken one after
    another. Those that follow each other in space, or form no grid by themselves, are not split.
    """
    table, order = placed.planes.table, np.argsort(placed.places)
    for facet in products.MEANINGS:
        if facet in table.columns and table.is_complete(facet):
            found = [one for group in table.groups(facet) for one in _interleaved(placed.take(group), depth)]
            return _named(found, facet)
    for facet in _INTERLEAVED_BY if depth < _DEEPEST else ():
        if facet not in table.columns or not table.is_complete(facet):
            continue
        groups = table.groups(facet)
        in_space = table.columns[facet][order].tolist()
        follow = 1 + sum(a != b for a, b in pairwise(in_space)) == len(groups)
        if follow or min(map(len, groups)) < MIN_ACQUISITION:
            continue
        parts = [placed.single(group) for group in groups]
        if all(part.is_grid for part in parts):
            return _named(parts, facet)
    return [placed.single()]


# ---- several frames at a place ---------------------------------------------------------------------


def _product(placed: Placed) -> list[Layer]:
    found = products.find_product(placed.planes.table, placed.places)
    return [placed.layer(found)] if found else []


def _without_duplicates(placed: Placed, pixel_hash: PixelHash | None, depth: int) -> list[Layer]:
    """The layers of what is left without exact duplicates; empty when there is none.

    Frames are duplicates when they are equal in place, in all that they say, and in their pixels.
    """
    if pixel_hash is None:
        return []
    frames = placed.planes.frames
    alike: dict[object, list[int]] = {}
    for i, frame in enumerate(frames):
        said = (frame.slope, frame.intercept, tuple(sorted(frame.facets.items(), key=str)))
        alike.setdefault((int(placed.places[i]), said), []).append(i)
    like: dict[int, int] = {}  # duplicate -> the frame that is kept
    for members in alike.values():
        seen: dict[bytes, int] = {}
        for i in members if len(members) > 1 else ():
            digest = pixel_hash(frames[i])
            if digest in seen:
                like[i] = seen[digest]
            elif digest is not None:
                seen[digest] = i
    if not like:
        return []
    kept = placed.take(np.array([i for i in range(len(frames)) if i not in like], dtype=np.int64))
    found = _explained(kept, None, depth) or _conflicts(kept, depth)
    return _hand_out(found, [(frames[i], frames[j]) for i, j in like.items()])


def _hand_out(found: list[Layer], pairs: Sequence[tuple[Frame, Frame]]) -> list[Layer]:
    """Each duplicate to the layer that holds the frame it is like."""
    extra: dict[int, list[Frame]] = {}
    for duplicate, kept in pairs:
        extra.setdefault(id(kept), []).append(duplicate)
    return [
        replace(one, duplicates=tuple(twin for frame in one.frames for twin in extra.get(id(frame), ())))
        for one in found
    ]


def _split(planes: Planes, most: int, depth: int) -> list[Layer]:
    """The fewest clean layers that the values of one facet part the frames into; empty when none does.

    Clean: each is one frame or one product at each place. Equal sets of places join to a product along
    the facet; what is left of a series that was cut short is partial. most: frames at one place.
    """
    best: list[Layer] = []
    for facet in planes.table.columns if depth < _DEEPEST else ():
        groups = planes.table.groups(facet)
        if len(groups) > min(2 * most + 2, 2 * _FEW) and len(groups) * MIN_ACQUISITION > len(planes.frames):
            continue
        parts: list[Layer] = []
        for group in groups:
            clean = _clean(planes.take(group), depth + 1)
            parts += clean
            if not clean:
                break
        else:
            found = _joined(facet, parts, planes)
            if (not best or len(found) < len(best)) and _is_worth(found, most):
                best = found
    return best


def _clean(planes: Planes, depth: int) -> list[Layer]:
    """The layers of a group when they are told apart by what its frames say; empty otherwise."""
    placed = place(planes)
    if placed is None:
        return []
    if placed.is_single:
        mixed = any(name in planes.table.columns for name in products.MEANINGS)
        return [] if mixed else [placed.single()]
    return _product(placed) or _split(planes, int(placed.counts.max()), depth)


def _is_worth(found: Sequence[Layer], most: int) -> bool:
    """Whether a split explains the frames: few layers, or layers that are proven by themselves."""
    if len(found) <= min(most + 1, _FEW):
        return True
    return all(layer.axes or (layer.places >= MIN_ACQUISITION and layer.is_grid) for layer in found)


def _joined(facet: str, parts: Sequence[Layer], planes: Planes) -> list[Layer]:
    """Layers that cover the same places, joined along the facet where that is a product."""
    groups = _alike(parts, planes.tolerance_mm)
    largest = max(groups, key=lambda group: (len(group), group[0].places))
    index = {id(frame): i for i, frame in enumerate(planes.frames)}
    found: list[Layer] = []
    for group in groups:
        members = [index[id(frame)] for layer in group for frame in layer.frames]
        placed = place(planes.take(np.array(members, dtype=np.int64))) if len(group) > 1 else None
        together = _product(placed) if placed is not None else []
        # a rest of what was cut short: fewer places than those that repeat
        rest = group is not largest and len(largest) > 1 and group[0].places < largest[0].places
        found += [
            replace(layer, split_by=(facet, *layer.split_by), partial=layer.partial or rest)
            for layer in together or group
        ]
    return found


def _alike(parts: Sequence[Layer], tolerance_mm: float) -> list[list[Layer]]:
    """Layers of equal axes and heights together."""
    groups: list[list[Layer]] = []
    near: dict[object, list[list[Layer]]] = {}  # by axes and the first height, in steps of the tolerance
    for part in parts:
        shape = (part.places, tuple((axis.name, axis.size) for axis in part.axes))
        step = math.floor(part.heights[0] / tolerance_mm)
        like = [group for by in (-1, 0, 1) for group in near.get((shape, step + by), ())]
        same = [g for g in like if np.abs(g[0].heights - part.heights).max() <= tolerance_mm]
        if same:
            same[0].append(part)
        else:
            groups.append([part])
            near.setdefault((shape, step), []).append(groups[-1])
    return groups


def _cut_short(placed: Placed) -> list[Layer]:
    """A series over time that ended before its last round was whole: the whole rounds, and the rest."""
    whole = int(placed.counts.min())
    if whole < 2 or int(placed.counts.max()) != whole + 1:
        return []
    rounds = products.rounds(placed.planes.table, placed.places)
    if rounds is None:
        return []
    kept = placed.take(np.flatnonzero(rounds < whole))
    main = _product(kept) or _repeats(kept)
    rest = [replace(placed.single(np.flatnonzero(rounds >= whole)), partial=True)]
    return _named([*main, *rest], "time") if main else []


def _repeats(placed: Placed) -> list[Layer]:
    """Frames that nothing tells apart but InstanceNumber, as often at each place: repeats."""
    found = products.repeated(placed.planes.table, placed.places)
    return [placed.layer(found)] if found else []


def _covered(placed: Placed) -> list[Layer]:
    """A product, and the few frames that contradict one of its cells."""
    found = products.covering(placed.planes.table, placed.places)
    if found is None:
        return []
    rest = _one_by_one(placed.take(found[1]))
    return _named([placed.layer(found[0]), *(replace(one, partial=True) for one in rest)], "conflict")


def _uneven(placed: Placed) -> list[Layer]:
    """Places with as many frames as most together, each other one by itself, where these are products.

    Some slices of a cine have a phase more. Two that lost a frame need not have lost the same one.
    """
    counts = placed.counts
    if counts.min() < 2 or counts.min() == counts.max():
        return []
    usual = max(np.unique(counts).tolist(), key=lambda count: (int((counts == count).sum()), count))
    numbers = np.where(counts == usual, len(counts), np.arange(len(counts)))
    found: list[Layer] = []
    for index in grouped(numbers[placed.places]):
        part = _product(placed.take(index))
        if not part:
            return []
        found += part
    return _named(found, "frames_at_place")


def _conflicts(placed: Placed, depth: int) -> list[Layer]:
    """The first frame at each place, and what contradicts it as layers of its own."""
    first = np.unique(placed.places, return_index=True)[1]
    rest = placed.take(np.setdiff1d(np.arange(len(placed.places)), first))
    others = (rest.is_single and [rest.single()]) or _explained(rest, None, depth) or _one_by_one(rest)
    return _named([placed.single(first), *(replace(one, partial=True) for one in others)], "conflict")


def _one_by_one(placed: Placed) -> list[Layer]:
    """Frames that nothing tells apart: the first at each place, the second …; many are a mere set."""
    if placed.counts.max() > _MOST_CONFLICTS:
        frames = placed.planes.frames
        return [Layer(frames, np.zeros(len(frames)), unordered=_NOTHING)]
    order = np.argsort(placed.places, kind="stable")
    starts = np.concatenate([[0], np.cumsum(placed.counts)[:-1]])
    ranks = np.arange(len(order)) - np.repeat(starts, placed.counts)
    return [placed.single(np.sort(order[ranks == rank])) for rank in range(int(ranks.max()) + 1)]
