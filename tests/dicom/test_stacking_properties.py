"""What holds for any frames: none lost, order of files without meaning, products proven cell by cell."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.dicom import geometry
from dicomlake.dicom.coordinates import coordinates, lead_dims
from dicomlake.dicom.frames import Facet, Frame, Tile
from dicomlake.dicom.stacking import Stack, stack
from tests.dicom.phantoms import slice_frame

BASE = slice_frame()
# Facets that are exact, and what an axis along them is called.
EXACT = ("component", "echo", "b", "inversion", "flip", "kernel", "kvp", "temporal", "dim_asl_context")
CALLED = {"temporal": "time", "dim_asl_context": "asl_context"}
_INDEXED = ("temporal", "acquisition")
HARD = {
    "patient_key": b"another",
    "study_instance_uid": "1.9",
    "series_instance_uid": "1.9",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
    "frame_of_reference_uid": "1.9",
    "spacing_mm": (0.5, 0.7),
    "units": "US",
    "localizer": True,
    "pixel": replace(BASE.pixel, rows=5),
}


@dataclass(frozen=True)
class Pile:
    """Where planes lie: positions (n, 3) in mm along a normal, or leaning from it."""

    orientation: tuple[float, ...]
    spacing: float
    positions: np.ndarray

    def frame(self, number: int, place: int, **facets: Facet) -> Frame:
        """The frame at a place; its UID is its number."""
        x, y, z = map(float, self.positions[place])
        return replace(
            BASE,
            sop_instance_uid=f"1.{number}",
            instance_number=number,
            orientation=self.orientation,
            spacing_mm=(self.spacing, self.spacing),
            position=(x, y, z),
            facets=facets,
        )


@st.composite
def piles(draw: st.DrawFn, least: int = 1, most: int = 6) -> Pile:
    """Even piles in any direction, upright or leaning, from micro-CT to localizers, with float noise."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    turned, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    across, down = turned[:, 0], turned[:, 1]
    spacing = draw(st.sampled_from([0.009, 0.3, 0.5, 2.0]))
    step = spacing * draw(st.floats(0.8, 6))
    lean = draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
    slices = draw(st.integers(least, most))
    steps = np.arange(slices)[:, None] * step * (np.cross(across, down) + lean * across)
    noise = rng.uniform(-5e-3, 5e-3, (slices, 3)) if spacing >= 0.3 and draw(st.booleans()) else 0.0
    return Pile(tuple(map(float, (*across, *down))), spacing, rng.uniform(-200, 200, 3) + steps + noise)


def shape(found: Stack) -> tuple[int, ...]:
    return tuple(size for _, size in lead_dims(found))


def shuffled(frames: Sequence[Frame], seed: int) -> list[Frame]:
    return random.Random(seed).sample(frames, len(frames))


def uids(stacks: Sequence[Stack]) -> list[list[str]]:
    return [[f"{f.sop_instance_uid} {f.frame_index}" for f in s.frames] for s in stacks]


def value(name: str, number: int) -> Facet:
    return f"{number}" if name in ("component", "kernel", "dim_asl_context") else 1.5 + number


# ---- what must hold of any answer --------------------------------------------------------------------


def check(frames: Sequence[Frame], stacks: Sequence[Stack], seed: int = 0) -> None:
    """All frames are there once, in a sound stack each, however they came."""
    placed = [f for s in stacks for f in (*s.frames, *s.duplicates)]
    assert sorted(map(id, placed)) == sorted(map(id, frames))
    assert uids(stacks) == uids(stack(shuffled(frames, seed)).stacks)
    for found in stacks:
        assert math.prod(shape(found)) == len(found.frames)
        check_places(found)
        check_cells(found)
        for coordinate in coordinates(found).values():
            lengths = dict(lead_dims(found)) | {"axis": 3}
            assert np.array(coordinate.values, dtype=object).shape[: len(coordinate.dims)] == tuple(
                lengths[dim] for dim in coordinate.dims
            )


def check_places(found: Stack) -> None:
    """Frames of one place lie at one place, places ascend, and an affine gives every corner back."""
    if found.heights is None:
        return
    first = found.frames[0]
    assert first.spacing_mm is not None
    rows = np.array([f.position for f in found.frames], dtype=float).reshape(-1, found.places, 3)
    same_mm = min(0.02, 0.05 * min(first.spacing_mm))
    assert np.linalg.norm(rows - rows.mean(axis=0), axis=-1).max() <= same_mm * 1.0001
    assert (np.diff(rows.mean(axis=0) @ geometry.normal(first.orientation or ())) > 0).all()
    if found.affine is None:
        return
    smallest = min(np.linalg.norm(found.affine[:3, :3], axis=0))
    for i, frame in enumerate(found.frames):
        across, down = np.reshape(frame.orientation, (2, 3))
        far = np.array(frame.position) + across * first.spacing_mm[1] * 5 + down * first.spacing_mm[0] * 3
        for stated, index in ((frame.position, (0, 0)), (far, (3, 5))):
            given_back = geometry.to_lps(found.affine, (i % found.places, *index))
            assert np.linalg.norm(given_back - np.array(stated)) <= 0.0501 * smallest


def check_cells(found: Stack) -> None:
    """What proves an axis is constant over the others and differs along it; ranks ascend in every cell."""
    cells = np.empty(len(found.frames), dtype=object)
    cells[:] = found.frames
    block = cells.reshape(shape(found))
    meant = np.array([f.facets.get("component", "") for f in found.frames]).reshape(-1, found.places)
    if found.heights is not None and (meant != "").all() and "conflict" not in found.split_by:
        assert (meant == meant[:, :1]).all()
    for number, axis in enumerate(found.axes):
        lines = np.moveaxis(block, number, -1).reshape(-1, axis.size)
        said = [[stated(frame, axis.facet) for frame in line] for line in lines]
        if axis.facet == "repeat":
            counted = [[(f.instance_number, f.frame_index) for f in line] for line in lines]
            assert all(sorted(line) == line for line in counted) or axis.name == "b"
        elif axis.ranked:
            assert all(sorted(line) == line for line in said) or axis.name == "b"
        else:
            assert all(line == said[0] for line in said)
            assert len({(v, lines[0][i].facets.get("gradient")) for i, v in enumerate(said[0])}) == axis.size


def stated(frame: Frame, facet: str) -> Facet | None:
    found = frame.facets.get(facet)
    return None if found != found else found


# ---- clean series ------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(pile=piles(), names=st.lists(st.sampled_from(EXACT), max_size=3, unique=True), data=st.data())
def test_any_complete_product_is_one_stack_with_these_dimensions(
    pile: Pile, names: list[str], data: st.DataObject
) -> None:
    sizes = [data.draw(st.integers(2, 4)) for _ in names]
    slices = len(pile.positions)
    frames = [
        pile.frame(i + 1, index[-1], **{n: value(n, v) for n, v in zip(names, index, strict=False)})
        for i, index in enumerate(np.ndindex(*sizes, slices))
    ]
    (found,) = stacks = stack(shuffled(frames, data.draw(st.integers(0, 99)))).stacks
    check(frames, stacks)
    named = [(CALLED.get(n, n), size) for n, size in zip(names, sizes, strict=True)]
    assert sorted(lead_dims(found)) == sorted([*named, ("z", slices)])
    assert found.verdict in ("regular", "sheared")
    assert found.split_by == ()
    assert not found.partial


@settings(max_examples=60, deadline=None)
@given(
    pile=piles(least=2),
    rounds=st.integers(2, 6),
    facet=st.sampled_from(["trigger", "acquisition_time", "content_time", "frame_reference_time"]),
    in_turn=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_times_that_differ_from_place_to_place_are_one_ranked_dimension(
    pile: Pile, rounds: int, facet: str, in_turn: bool, seed: int
) -> None:
    """in_turn: plane after plane, round after round; otherwise each plane has all its rounds first."""
    rng = np.random.default_rng(seed)
    slices = len(pile.positions)
    order = rng.permutation(slices)
    times = {
        (t, z): (100.0 * t + 90 * order[z] / slices if in_turn else 1000.0 * order[z] + 90 * t)
        + float(rng.uniform(0, 5))
        for t, z in np.ndindex(rounds, slices)
    }
    frames = [
        pile.frame(i + 1, z, **{facet: 1.6e9 + times[t, z]})
        for i, (t, z) in enumerate(np.ndindex(rounds, slices))
    ]
    stacks = stack(shuffled(frames, seed)).stacks
    check(frames, stacks)
    (found,) = stacks
    assert lead_dims(found) == (("phase" if facet == "trigger" else "time", rounds), ("z", slices))
    assert found.axes[0].ranked
    assert [f.sop_instance_uid for f in found.frames] == [f.sop_instance_uid for f in frames]


# ---- broken series -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    pile=piles(least=2),
    rounds=st.integers(2, 5),
    facet=st.sampled_from(["acquisition_time", "content_time", "temporal", "acquisition", None]),
    in_turn=st.booleans(),
    jitter=st.booleans(),
    data=st.data(),
)
def test_frames_of_two_rounds_are_never_one_round_though_some_are_lost(
    pile: Pile, rounds: int, facet: str | None, in_turn: bool, jitter: bool, data: st.DataObject
) -> None:
    """Which round a frame is from is told to nobody; conflicts say that nothing was proven.

    Where the first frames are lost, what is left is a series that began at another place: its rounds are
    shifted, alike in all. Planes taken one after the other, all rounds of each, have no clock in common:
    they are counted as most of them count.
    """
    slices = len(pile.positions)
    truth, frames = {}, []
    for number, (t, z) in enumerate(np.ndindex(rounds, slices)):
        index = (t, z) if in_turn else (number % rounds, number // rounds)
        when = 1.6e9 + (2.0 * number if jitter or not in_turn else 10.0 * index[0])
        says = index[0] + 1.0 if facet in ("temporal", "acquisition") else when
        frames.append(pile.frame(number + 1, index[1], **({facet: says} if facet else {})))
        truth[f"1.{number + 1}"] = index[0]
    lost = data.draw(st.sets(st.integers(0, len(frames) - 1), max_size=3))
    left = [f for i, f in enumerate(frames) if i not in lost]
    stacks = stack(left).stacks
    check(left, stacks)
    for found in stacks:
        if found.axes and "conflict" not in found.split_by:
            rows = np.array([truth[f.sop_instance_uid] for f in found.frames]).reshape(-1, found.places)
            shift = rows - rows[:, :1]
            if facet in _INDEXED or (in_turn and min(lost, default=slices) >= slices):
                assert (shift == 0).all()
            elif in_turn or 2 * len({i // rounds for i in lost}) < slices:
                assert (shift == shift[0]).all()


@st.composite
def messes(draw: st.DrawFn) -> list[Frame]:
    """Anything: planes beside each other, turned, without geometry or numbers, as tiles, conflicting."""
    pile = draw(piles())
    names = draw(st.lists(st.sampled_from([*EXACT, "trigger", "content_time"]), max_size=4, unique=True))
    found: list[Frame] = []
    for i in range(draw(st.integers(1, 24))):
        place = draw(st.integers(0, len(pile.positions) - 1))
        says = {name: value(name, draw(st.integers(0, 2))) for name in names if draw(st.integers(0, 9))}
        frame = pile.frame(i + 1, place, **says)
        odd = draw(st.integers(0, 19))
        if odd == 0:
            frame = replace(frame, position=None, orientation=None, spacing_mm=None, flaw="nothing stated")
        elif odd == 1:
            frame = replace(frame, instance_number=None)
        elif odd == 2:
            frame = replace(frame, orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
        elif odd == 3:
            frame = replace(frame, position=tuple(float(p) + 7.5 for p in frame.position or ()))
        elif odd == 4 and found:
            frame = replace(found[-1], tile=Tile(0, 6, 4, 6), frame_index=i)
        elif odd == 5:
            frame = replace(frame, facets={**frame.facets, "b": float("nan")})
        found.append(frame)
    return found


@settings(max_examples=200, deadline=None)
@given(frames=messes(), seed=st.integers(0, 99))
def test_whatever_frames_there_are_none_is_lost_and_every_stack_is_sound(
    frames: list[Frame], seed: int
) -> None:
    check(frames, stack(frames).stacks, seed)


@settings(max_examples=60, deadline=None)
@given(frames=messes(), data=st.data())
def test_frames_that_differ_in_what_no_array_can_mix_never_share_a_stack(
    frames: list[Frame], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(HARD)))
    mixed = [
        replace(f, **{key: HARD[key]}) if (f.has_geometry or key != "spacing_mm") and other else f
        for f, other in zip(frames, data.draw(st.lists(st.booleans(), min_size=24)), strict=False)
    ]
    stacks = stack(mixed).stacks
    check(mixed, stacks)
    for found in stacks:
        if "every frame names a frame of reference" not in found.reason:
            assert len({getattr(f, key) for f in found.frames}) == 1


@settings(max_examples=60, deadline=None)
@given(frames=messes(), strangers=messes())
def test_frames_of_another_series_change_nothing(frames: list[Frame], strangers: list[Frame]) -> None:
    others = [
        replace(f, series_instance_uid="1.9", sop_instance_uid=f"2.{f.instance_number}") for f in strangers
    ]
    alone = stack(frames).stacks
    among = [s for s in stack([*frames, *others]).stacks if s.frames[0].series_instance_uid != "1.9"]
    assert uids(among) == uids(alone)
    assert [(s.verdict, s.axes, s.partial, s.reason) for s in among] == [
        (s.verdict, s.axes, s.partial, s.reason) for s in alone
    ]


@settings(max_examples=60, deadline=None)
@given(pile=piles(), copies=st.lists(st.integers(0, 11), min_size=1, max_size=6), echoes=st.integers(1, 2))
def test_copies_are_duplicates_of_what_they_copy(pile: Pile, copies: list[int], echoes: int) -> None:
    slices = len(pile.positions)
    frames = [pile.frame(i + 1, i % slices, echo=1.0 + i // slices) for i in range(slices * echoes)]
    sent_again = [
        replace(frames[c % len(frames)], sop_instance_uid=f"2.{i}", instance_number=100 + i)
        for i, c in enumerate(copies)
    ]
    pixels = {id(f): str((f.position, f.facets)).encode() for f in (*frames, *sent_again)}
    (found,) = stack([*sent_again, *frames], lambda f: pixels[id(f)]).stacks
    assert sorted(map(id, found.frames)) == sorted(map(id, frames))
    assert sorted(map(id, found.duplicates)) == sorted(map(id, sent_again))


@settings(max_examples=60, deadline=None)
@given(pile=piles(least=8, most=30), data=st.data())
def test_gaps_lie_where_slices_were_taken_away(pile: Pile, data: st.DataObject) -> None:
    """Up to an eighth is taken, never at the ends; gaps are where slices are not, and no affine is given."""
    slices = len(pile.positions)
    taken = data.draw(st.sets(st.integers(1, slices - 2), min_size=1, max_size=max(1, slices // 8)))
    frames = [pile.frame(i + 1, i) for i in range(slices) if i not in taken]
    (found,) = stack(frames).stacks
    assert found.affine is None
    if found.verdict == "missing_slices":  # noise may hide it, then nothing is claimed
        at = [gap.after + 1 + sum(g.missing for g in found.gaps[:i]) for i, gap in enumerate(found.gaps)]
        located = {first + k for first, gap in zip(at, found.gaps, strict=True) for k in range(gap.missing)}
        assert located == taken
    else:
        assert found.verdict == "irregular"
