"""What scanners and archives really send, as a physicist would sort it; and what nobody can sort."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from dicomlake.dicom.coordinates import coordinates, lead_dims
from dicomlake.dicom.facet_table import FacetTable
from dicomlake.dicom.frames import Facet, Frame
from dicomlake.dicom.stacking import Stack, stack
from tests.dicom.phantoms import AXIAL, CORONAL, SAGITTAL, slice_frame

BASE = slice_frame()
NOON = 1.6e9  # seconds since 1970
Dims = tuple[tuple[str, int], ...]


def plane(
    z: float, x: float = 0.0, y: float = 0.0, orientation: Sequence[float] = AXIAL, **says: Facet | None
) -> Frame:
    """A frame without a number, see `numbered`."""
    facets = {name: value for name, value in says.items() if value is not None}
    return replace(BASE, position=(x, y, z), orientation=tuple(orientation), facets=facets)


def numbered(frames: Iterable[Frame]) -> list[Frame]:
    return [replace(f, instance_number=i, sop_instance_uid=f"1.{i}") for i, f in enumerate(frames, 1)]


def found(frames: Sequence[Frame]) -> list[tuple[str, Dims, tuple[str, ...], bool]]:
    return [(s.verdict, lead_dims(s), s.split_by, s.partial) for s in stack(frames[::-1]).stacks]


def only(frames: Sequence[Frame]) -> Stack:
    (one,) = stack(frames[::-1]).stacks
    return one


def numbers_of(one: Stack) -> list[int]:
    return [frame.instance_number or 0 for frame in one.frames]


# ---- magnetic resonance ----


def test_inversions_and_the_image_made_of_both_are_told_apart_by_image_type() -> None:
    kinds = [("INV1", 700.0), ("INV2", 2500.0), ("UNI", 700.0)]
    one = only(
        numbered(plane(z, image_type=f"O\\P\\M\\{k}", inversion=t) for k, t in kinds for z in range(4))
    )
    assert lead_dims(one) == (("image_type", 3), ("z", 4))
    assert coordinates(one)["inversion"].values == [700.0, 2500.0, 700.0]


def test_what_an_axis_shows_beside_its_own_values_is_told() -> None:
    """Echo proves the axis; that the second is a phase image must not go unseen."""
    kinds = [(5.0, "magnitude"), (10.0, "phase")]
    one = only(numbered(plane(z, echo=e, component=c) for e, c in kinds for z in range(3)))
    assert coordinates(one)["component"].dims == ("component",)
    labels = ["label", "control"] * 2
    one = only(
        numbered(
            plane(z, temporal=t + 1.0, dim_asl_context=c) for t, c in enumerate(labels) for z in range(3)
        )
    )
    assert lead_dims(one) == (("time", 4), ("z", 3))
    assert coordinates(one)["asl_context"].values == labels


def test_velocity_encoding_is_an_axis_of_directions() -> None:
    axes = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    one = only(numbered(plane(z, dim_velocity_encoding=v) for v in axes for z in range(3)))
    assert lead_dims(one) == (("velocity_encoding", 3), ("z", 3))
    named = coordinates(one)
    assert "velocity_encoding" not in named
    assert sorted(zip(*(named[f"velocity_encoding_{a}"].values for a in "xyz"), strict=True)) == sorted(axes)


def test_a_diffusion_volume_taken_again_is_in_its_place_by_b() -> None:
    shots = [(0.0, None), (900.0, (1.0, 0.0, 0.0)), (900.0, (0.0, 1.0, 0.0)), (900.0, (1.0, 0.0, 0.0))]
    one = only(numbered(plane(z, b=b, gradient=g) for b, g in shots for z in range(3)))
    assert lead_dims(one) == (("b", 4), ("z", 3))
    assert coordinates(one)["b"].values == [0.0, 900.0, 900.0, 900.0]
    assert coordinates(one)["gradient_x"].values == [None, 1.0, 0.0, 1.0]


def test_directions_recomputed_for_each_slice_are_one_direction() -> None:
    noise = np.random.default_rng(0).uniform(-2e-6, 2e-6, (4, 6, 3))
    frames = [
        plane(
            z,
            b=1000 * (1 + float(noise[t, z, 0]) / 10),
            gradient=tuple(map(float, np.array([0.12345 + 0.1 * t, 0.6, 0.3]) + noise[t, z])),
        )
        for t in range(4)
        for z in range(6)
    ]
    one = only(numbered(frames))
    assert lead_dims(one) == (("b", 4), ("z", 6))
    assert coordinates(one)["gradient_x"].dims == ("b",)


def cine(phases: Sequence[int]) -> list[Frame]:
    """Slice after slice, each triggered by beats of its own length."""
    noise = np.random.default_rng(4).uniform(0, 3, (len(phases), max(phases)))
    return numbered(
        plane(8.0 * z, trigger=(800 + 37 * z) / count * i + float(noise[z, i]))
        for z, count in enumerate(phases)
        for i in range(count)
    )


def test_slices_of_a_cine_with_other_phases_are_volumes_of_their_own() -> None:
    """Rank by rank, phases after a lost one would be those of the next in one slice."""
    assert found(cine([10, 10, 12, 10])) == [
        ("irregular", (("phase", 10), ("z", 3)), ("frames_at_place",), False),
        ("regular", (("phase", 12), ("z", 1)), ("frames_at_place",), False),
    ]
    lost = [f for i, f in enumerate(cine([10] * 5)) if i != 24]
    assert sorted(dims for _, dims, *_ in found(lost)) == [
        (("phase", 9), ("z", 1)),
        (("phase", 10), ("z", 4)),
    ]
    assert len(found(cine([9, 10, 11, 12]))) == 4


def ticking(rounds: int, slices: int) -> list[Frame]:
    return numbered(
        plane(3.0 * z, acquisition_time=NOON + 2 * t + 0.1 * z) for t in range(rounds) for z in range(slices)
    )


def test_a_slice_lost_in_the_middle_moves_no_other_to_another_time() -> None:
    lost = [f for i, f in enumerate(ticking(6, 6)) if i != 14]
    assert found(lost) == [
        ("missing_slices", (("time", 6), ("z", 5)), ("frames_at_place",), False),
        ("regular", (("time", 5), ("z", 1)), ("frames_at_place",), False),
    ]


def test_a_slice_lost_at_each_place_is_noticed_by_the_rhythm() -> None:
    """As many are left at both places, and rank by rank they would be of two different rounds."""
    lost = [f for i, f in enumerate(ticking(6, 2)) if i not in (0, 9)]
    assert [dims for _, dims, *_ in found(lost)] == [(("time", 5), ("z", 1))] * 2
    unnamed = [replace(f, facets={}) for f in lost]
    assert all("conflict" in split_by for _, _, split_by, _ in found(unnamed))


def test_rounds_without_times_that_end_early_are_told_by_numbers() -> None:
    frames = [replace(f, facets={}) for f in ticking(6, 6)[:-2]]
    assert found(frames) == [
        ("regular", (("repeat", 5), ("z", 6)), ("time",), False),
        ("regular", (("z", 4),), ("time",), True),
    ]


def test_magnitude_and_phase_are_never_mixed_by_rank() -> None:
    """Each place has two images at two times, but not everywhere one of each kind."""
    kinds = [("magnitude", "phase"), ("magnitude", "magnitude"), ("magnitude", "phase")]
    frames = numbered(
        plane(z, component=kind, content_time=NOON + 10 * z + i)
        for z, pair in enumerate(kinds)
        for i, kind in enumerate(pair)
    )
    for one in stack(frames).stacks:
        rows = np.array([f.facets["component"] for f in one.frames]).reshape(-1, one.places)
        assert (rows == rows[:, :1]).all()


def test_slabs_of_magnitude_and_of_phase_do_not_continue_each_other() -> None:
    frames = numbered(plane(z, component="magnitude" if z < 4 else "phase") for z in range(8))
    assert found(frames) == [("regular", (("z", 4),), ("component",), False)] * 2


def test_volumes_that_follow_the_moving_head_are_grids_each() -> None:
    """Prospective motion correction: each volume has a position and an orientation of its own."""

    def corrected(t: int, k: int) -> Frame:
        s, c = math.sin(2e-4 * t), math.cos(2e-4 * t)
        return plane(3 * k * c + 0.04 * t, 0.03 * t, -3 * k * s, (1, 0, 0, 0, c, s), acquisition=float(t))

    stacks = stack(numbered(corrected(t, k) for t in range(8) for k in range(10))).stacks
    assert [(s.verdict, s.places) for s in stacks] == [("regular", 10)] * 8
    assert all(len({f.facets["acquisition"] for f in s.frames}) == 1 for s in stacks)


def test_times_of_day_are_compared_to_the_millisecond() -> None:
    """45,296.04 s without a date: six digits would make one time of several."""
    frames = numbered(
        plane(z, acquisition_time=45_296 + 0.04 * t + 0.002 * z) for t in range(20) for z in range(6)
    )
    one = only(frames)
    assert lead_dims(one) == (("time", 20), ("z", 6))
    assert one.axes[0].facet == "acquisition_time"


def test_times_of_day_that_pass_midnight_without_a_date_order_nothing() -> None:
    times = [86_397.0, 86_399.0, 1.0, 3.0]
    one = only(numbered(plane(z, acquisition_time=t) for t in times for z in range(3)))
    assert lead_dims(one) == (("repeat", 4), ("z", 3))
    assert numbers_of(one) == list(range(1, 13))
    assert "acquisition_time" not in coordinates(one)


# ---- computed tomography and PET ----


def test_two_positions_in_turn_are_one_volume_over_time() -> None:
    """Shuttle mode of CT perfusion, to and fro."""
    beds = [(t, bed) for t in range(6) for bed in ((0, 1) if t % 2 == 0 else (1, 0))]
    frames = numbered(
        plane(5 * (4 * bed + k), acquisition=n + 1.0, acquisition_time=NOON + 1.5 * n)
        for n, (t, bed) in enumerate(beds)
        for k in range(4)
    )
    one = only(frames)
    assert lead_dims(one) == (("time", 6), ("z", 8))
    assert coordinates(one)["acquisition_time"].dims == ("time", "z")
    unclocked = [replace(f, facets={"acquisition": f.facets["acquisition"]}) for f in frames]
    assert [dims for _, dims, *_ in found(unclocked)] == [(("acquisition", 6), ("z", 4))] * 2


def test_beds_that_overlap_are_volumes_each() -> None:
    frames = numbered(
        plane(3 * (8 * bed + k), acquisition_time=NOON + 180 * bed) for bed in range(5) for k in range(10)
    )
    assert found(frames) == [("regular", (("z", 10),), ("acquisition_time",), False)] * 5


def test_overlap_that_nothing_explains_is_called_a_conflict() -> None:
    frames = numbered(plane(2.0 * k + start) for start in (0, 30) for k in range(20))
    assert found(frames) == [
        ("regular", (("z", 35),), ("conflict",), False),
        ("regular", (("z", 5),), ("conflict",), True),
    ]


def test_one_conflicting_frame_leaves_a_time_series_whole() -> None:
    frames = [plane(z, temporal=t + 1.0) for t in range(5) for z in range(6)]
    assert found(numbered([*frames, plane(2, temporal=3.0)])) == [
        ("regular", (("time", 5), ("z", 6)), ("conflict",), False),
        ("regular", (("z", 1),), ("conflict",), True),
    ]


def test_respiratory_phases_named_in_comments_only_are_repeats() -> None:
    one = only(numbered(plane(z) for _ in range(10) for z in range(6)))
    assert lead_dims(one) == (("repeat", 10), ("z", 6))
    rng = np.random.default_rng(2)
    made = [plane(z, content_time=NOON + float(rng.uniform(0, 99))) for _ in range(10) for z in range(6)]
    assert lead_dims(only(numbered(made))) == (("repeat", 10), ("z", 6))  # when they were made says nothing


# ---- planes beside each other, and in many directions ----


def test_a_plane_beside_a_volume_does_not_undo_it() -> None:
    for lean in (0.0, 0.7):
        frames = [plane(2.0 * k, y=lean * k) for k in range(20)]
        assert found(numbered([*frames, plane(8, 3, 4)])) == [
            ("sheared" if lean else "regular", (("z", 20),), ("in_plane_position",), False),
            ("regular", (("z", 1),), ("in_plane_position",), True),
        ]


def test_leaning_volumes_at_the_same_heights_are_parted_by_acquisition() -> None:
    frames = [plane(2.0 * k, 5.0 * a, 0.7 * k, acquisition=float(a)) for a in range(2) for k in range(12)]
    assert found(numbered(frames)) == [("sheared", (("z", 12),), ("acquisition",), False)] * 2


def test_radial_planes_stay_a_set_when_one_was_taken_twice() -> None:
    turned = [(math.cos(a), math.sin(a), 0, 0, 0, -1) for a in np.radians([*range(0, 180, 18), 36])]
    stacks = stack(numbered(plane(0, orientation=o) for o in turned)).stacks
    assert [(s.verdict, len(s.frames)) for s in stacks] == [("plane_set", 9), ("regular", 2)]


def test_planes_that_turn_in_tiny_steps_are_a_set() -> None:
    frames = [
        plane(0, 100 * math.cos(a), 100 * math.sin(a), (math.cos(a), math.sin(a), 0, 0, 0, -1))
        for a in np.radians(np.arange(400) * 0.036)
    ]
    assert [(s.verdict, len(s.frames)) for s in stack(numbered(frames)).stacks] == [("plane_set", 400)]


def test_three_directions_of_a_localizer_are_three_volumes() -> None:
    frames = [
        plane(*(tuple(10.0 * k * np.cross(o[:3], o[3:]))[i] for i in (2, 0, 1)), orientation=o)
        for o in (AXIAL, CORONAL, SAGITTAL)
        for k in range(5)
    ]
    assert found(numbered(frames)) == [("regular", (("z", 5),), ("orientation",), False)] * 3


# ---- what nothing explains ----


@pytest.mark.parametrize("count", [3, 2000])
def test_frames_that_say_nothing_are_kept_as_what_they_are(count: int) -> None:
    """No number, no time, one place: few are kept one by one, many as a set, and none is in a volume."""
    frames = [replace(plane(0), sop_instance_uid=f"1.{i}", instance_number=None) for i in range(count)]
    stacks = stack(frames).stacks
    assert sum(len(s.frames) for s in stacks) == count
    assert all("conflict" in s.split_by for s in stacks)
    assert [s.verdict for s in stacks] == ["regular"] * 3 if count == 3 else ["regular", "plane_set"]


# ---- verdicts ----


def verdict(heights: Iterable[float], **where: float) -> str:
    return only(numbered(plane(z, **where) for z in heights)).verdict


def test_a_slice_far_away_is_no_gap_of_whole_steps() -> None:
    """A fit over all positions bends towards it: 100.4 mm pass for 100 steps of 1.004 mm."""
    assert verdict([0, 1, 2, 3, 103.4]) == "irregular"
    assert verdict([*range(20), 20.3]) == "irregular"


def test_two_stations_far_apart_are_no_volume_with_a_hole() -> None:
    assert verdict([*range(0, 45, 3), *range(300, 345, 3)]) == "irregular"
    assert verdict([*range(0, 45, 3), *range(60, 105, 3)]) == "missing_slices"


def test_whole_multiples_alone_prove_no_missing_slice() -> None:
    """Three slices at 0, 10.5 and 31.5 mm may have been planned so."""
    assert verdict([0, 10.5, 31.5]) == "irregular"
    assert verdict([0, 2, 3, 5, 7, 8, 10]) == "irregular"  # the usual distance is not the smallest


def test_repeats_of_one_slice_must_coincide_at_its_corners() -> None:
    turned = (1.0, 0.0009, 0.0, -0.0009, 1.0, 0.0)
    wide = replace(BASE.pixel, rows=512, columns=512)
    frames = [
        replace(plane(0, orientation=turned if t % 2 else AXIAL, temporal=float(t)), pixel=wide)
        for t in range(4)
    ]
    one = only(numbered(frames))
    assert (one.verdict, one.affine) == ("irregular", None)


# ---- what frames say, as a table ----


def test_numbers_that_went_through_32_bits_are_equal() -> None:
    values = [4.92, float(np.float32(4.92)), 7.38, None, float("nan")]
    table = FacetTable.of([plane(0, echo=v) for v in values])
    assert table.columns["echo"].tolist() == [0, 0, 1, -1, -1]
    assert not table.is_complete("echo")


def test_a_part_of_the_table_forgets_what_no_longer_differs() -> None:
    table = FacetTable.of([plane(0, echo=e, kvp=k) for e, k in ((1.0, 80.0), (2.0, 80.0), (2.0, 120.0))])
    part = table.take(np.array([1, 2]))
    assert list(part.columns) == ["kvp"]
    assert part.codes("kvp").tolist() == [0, 1]
    assert [group.tolist() for group in table.groups("echo")] == [[0], [1, 2]]
