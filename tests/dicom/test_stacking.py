"""Which frames belong together: phantoms of what scanners and archives do, and real series."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import MRImageStorage, generate_uid

from dicomlake.dicom import geometry, stacking
from dicomlake.dicom.coordinates import coordinates, lead_dims
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.pixels import decode_frame
from dicomlake.dicom.stacking import Gap, Stack, stack
from dicomlake.errors import GeometryError
from tests.dicom.phantoms import AXIAL, CORONAL, SAGITTAL, as_bytes, place_values, slice_dataset, slice_frame


def axial(heights: list[float] | np.ndarray, first_number: int = 1, **keywords: Any) -> list[Frame]:
    return [slice_frame((0, 0, z), number=first_number + i, **keywords) for i, z in enumerate(heights)]


def shuffled(frames: list[Frame]) -> list[Frame]:
    return random.Random(7).sample(frames, len(frames))


def only(frames: list[Frame]) -> Stack:
    (found,) = stack(shuffled(frames)).stacks
    return found


def verdicts(frames: list[Frame]) -> list[tuple[str, int]]:
    return [(found.verdict, len(found.frames)) for found in stack(shuffled(frames)).stacks]


# ---- one volume ----


def test_every_voxel_of_a_shuffled_series_lands_at_its_place() -> None:
    """Names and numbers say nothing, the voxel value says where it belongs."""
    objects = {}
    for i in random.Random(3).sample(range(6), 6):
        ds = slice_dataset((5, 6, 10 - 2.5 * i), number=99 - i, pixels=place_values(i, 4, 6))
        objects[ds.SOPInstanceUID] = as_bytes(ds)
    headers = {uid: read_header(data) for uid, data in objects.items()}
    found = only([frame for header in headers.values() for frame in frames_of(header.dataset)])
    volume = np.stack(
        [decode_frame(objects[f.sop_instance_uid], headers[f.sop_instance_uid]) for f in found.frames]
    )
    assert found.verdict == "regular"
    assert found.affine is not None
    for z, y, x in np.ndindex(volume.shape):
        i = 5 - z  # written from head to feet, ordered along the normal
        assert volume[z, y, x] == 10_000 * i + 100 * y + x
        expected = (5 + 0.5 * x, 6 + 0.5 * y, 10 - 2.5 * i)
        assert geometry.to_lps(found.affine, (z, y, x)) == pytest.approx(expected)


def test_a_regular_stack_knows_its_step_from_positions() -> None:
    found = only(axial([0, 1.5, 3, 4.5], SliceThickness="9"))
    assert (found.verdict, found.slice_step, found.is_grid, found.gaps) == ("regular", "measured", True, ())
    assert found.positions is not None
    assert found.positions[:, 2] == pytest.approx([0, 1.5, 3, 4.5])
    assert "1.5 mm" in found.reason


def test_gantry_tilt_is_a_sheared_volume_with_an_exact_affine() -> None:
    a = math.radians(19.3)
    tilted = (1.0, 0.0, 0.0, 0.0, math.cos(a), math.sin(a))
    frames = [slice_frame((0, 0, 2.0 * i), orientation=tilted, number=i) for i in range(8)]
    found = only(frames)
    assert (found.verdict, found.is_grid) == ("sheared", True)
    assert found.affine is not None
    assert geometry.tilt_degrees(found.affine) == pytest.approx(19.3)
    for z, frame in enumerate(found.frames):
        assert geometry.to_lps(found.affine, (z, 0, 0)) == pytest.approx(frame.position)


def test_float_noise_of_5_um_is_no_distance() -> None:
    noise = np.random.default_rng(2).uniform(-5e-3, 5e-3, (30, 3))
    frames = [slice_frame(tuple(noise[i] + (0, 0, 1.25 * i)), number=i) for i in range(30)]
    assert verdicts(frames) == [("regular", 30)]
    repeated = [*axial([0, 1, 2]), slice_frame((0, 0, 1.005), number=9)]
    assert verdicts(repeated) == [("regular", 3), ("regular", 1)]


def test_slices_of_a_9_um_micro_ct_are_distances() -> None:
    found = only(axial(np.arange(40) * 0.009, spacing=(0.009, 0.009)))
    assert (found.verdict, len(found.frames)) == ("regular", 40)
    assert found.affine is not None
    assert geometry.spacing_mm(found.affine) == pytest.approx((0.009, 0.009, 0.009))


def test_a_missing_slice_of_a_micro_ct_is_seen() -> None:
    heights = np.delete(np.arange(40) * 0.009, 12)
    assert only(axial(heights, spacing=(0.009, 0.009))).verdict == "missing_slices"


def test_a_lone_slice_has_a_nominal_step_and_says_so() -> None:
    assert only([slice_frame(SliceThickness="3")]).slice_step == "nominal"
    found = only([slice_frame()])
    assert (found.verdict, found.slice_step) == ("regular", "unknown")


def test_planes_that_turn_a_little_are_not_forced_into_a_box() -> None:
    """0.9 mrad pass as one orientation; 2 corners of a 512 mm plane are then half a pixel off."""
    turned = (1.0, 0.0009, 0.0, -0.0009, 1.0, 0.0)
    wide = {"Rows": 512, "Columns": 512, "spacing": (1.0, 1.0)}
    frames = [
        slice_frame((0, 0, i), number=i, orientation=turned if i % 2 else AXIAL, **wide) for i in range(6)
    ]
    assert verdicts(frames) == [("irregular", 6)]


def test_bits_stored_may_differ_and_the_widest_dtype_holds_all() -> None:
    frames = [slice_frame((0, 0, i), number=i, BitsStored=8 + i, HighBit=7 + i) for i in range(3)]
    found = only(frames)
    assert found.verdict == "regular"
    assert found.dtype == np.dtype("u2")


# ---- gaps ----


def test_a_missing_slice_is_reported_with_its_position() -> None:
    found = only(axial([0, 2, 4, 8, 10, 12]))
    assert (found.verdict, found.affine, found.is_grid) == ("missing_slices", None, False)
    assert found.gaps == (
        Gap(after=2, position_mm=pytest.approx(6.0), missing=1, width_mm=pytest.approx(4.0)),
    )
    assert found.positions is not None
    assert found.positions[:, 2] == pytest.approx([0, 2, 4, 8, 10, 12])


def test_several_gaps_are_each_located() -> None:
    heights = [z for z in range(30) if z not in (5, 17, 18, 19)]
    found = only(axial(heights))
    assert [(gap.after, gap.position_mm, gap.missing) for gap in found.gaps] == [
        (4, pytest.approx(5), 1),
        (15, pytest.approx(17), 3),
    ]
    assert "4 of 30" in found.reason


def test_with_too_many_gaps_the_step_is_not_believed() -> None:
    assert verdicts(axial([0, 1, 3, 4, 6, 7, 9, 10])) == [("irregular", 8)]


def test_steps_of_no_common_length_are_irregular_and_keep_their_positions() -> None:
    found = only(axial([0, 4.22, 8.44, 9.58, 16.96, 24.34]))
    assert (found.verdict, found.affine) == ("irregular", None)
    assert found.positions is not None
    assert found.positions.shape == (6, 3)


def test_a_slice_out_of_line_is_not_averaged_away() -> None:
    frames = [slice_frame((0.3 if i == 4 else 0.0, 0, i), number=i) for i in range(9)]
    assert verdicts(frames) == [("irregular", 9)]


# ---- several frames where one is expected ----


def facets(frames: list[Frame], **values: Any) -> list[Frame]:
    """The frames with these facets; a list has one value for each frame."""
    return [
        replace(f, facets={**f.facets, **{k: v[i] if isinstance(v, list) else v for k, v in values.items()}})
        for i, f in enumerate(frames)
    ]


def rounds(count: int, slices: int = 4) -> list[Frame]:
    """`count` times the same places, InstanceNumber ascending."""
    return [frame for k in range(count) for frame in axial(np.arange(slices) * 2.0, 1 + k * slices)]


def shape_of(found: Stack) -> tuple[tuple[str, int], ...]:
    return lead_dims(found)


def test_a_frame_that_contradicts_another_is_kept_apart_from_the_volume() -> None:
    """The lower InstanceNumber stays; nothing is dropped."""
    stacks = stack(shuffled([*axial([0, 1, 2, 3]), slice_frame((0, 0, 2), number=9)])).stacks
    assert [(s.verdict, len(s.frames), s.partial) for s in stacks] == [
        ("regular", 4, False),
        ("regular", 1, True),
    ]
    assert [s.split_by for s in stacks] == [("conflict",), ("conflict",)]
    assert stacks[1].frames[0].instance_number == 9


def test_an_exact_duplicate_is_recorded_and_not_stacked() -> None:
    frames = [*axial([0, 1, 2, 3]), slice_frame((0, 0, 2), number=9)]
    (found,) = stack(shuffled(frames), lambda _frame: b"alike").stacks
    assert (found.verdict, len(found.frames)) == ("regular", 4)
    assert [f.instance_number for f in found.duplicates] == [9]


def test_frames_of_other_pixels_or_other_facets_are_no_duplicates() -> None:
    frames = [*axial([0, 1, 2, 3]), slice_frame((0, 0, 2), number=9)]
    assert len(stack(frames, lambda frame: frame.sop_instance_uid.encode()).stacks) == 2
    echoes = facets(rounds(2), echo=[10.0] * 4 + [20.0] * 4)
    assert shape_of(stack(echoes, lambda _frame: b"alike").stacks[0]) == (("echo", 2), ("z", 4))
    assert len(stack(frames, lambda _frame: None).stacks) == 2


def test_what_was_set_tells_frames_apart_and_names_the_dimension() -> None:
    found = only(
        facets(rounds(3), echo=[20.0] * 4 + [5.0] * 4 + [10.0] * 4, acquisition=[1.0] * 4 + [2.0] * 8)
    )
    assert shape_of(found) == (("echo", 3), ("z", 4))
    assert [f.facets["echo"] for f in found.frames] == [5.0] * 4 + [10.0] * 4 + [20.0] * 4
    assert [f.position[2] for f in found.frames if f.position] == [0, 2, 4, 6] * 3
    assert found.verdict == "regular"


def test_two_facets_make_two_dimensions() -> None:
    frames = facets(rounds(6), echo=[e for e in (1.0, 2.0, 3.0) for _ in range(8)])
    frames = facets(frames, temporal=[t for _ in range(3) for t in (1.0, 2.0) for _ in range(4)])
    assert shape_of(only(frames)) == (("echo", 3), ("time", 2), ("z", 4))


def test_times_that_jitter_from_slice_to_slice_are_ranked_at_each_place() -> None:
    noise = np.random.default_rng(1).uniform(-4, 4, 24)
    trigger = [float(k // 4 * 100 + noise[k]) for k in range(24)]
    found = only(facets(rounds(6), trigger=trigger))
    assert shape_of(found) == (("phase", 6), ("z", 4))
    assert [f.facets["trigger"] for f in found.frames] == trigger
    assert coordinates(found)["trigger_time"].dims == ("phase", "z")
    assert "phase" not in coordinates(found)


def test_a_series_that_was_cut_short_keeps_its_whole_rounds_together() -> None:
    frames = facets(rounds(4), temporal=[float(k) for k in range(4) for _ in range(4)])[:-1]
    stacks = stack(shuffled(frames)).stacks
    assert [(shape_of(s), s.partial) for s in stacks] == [
        ((("time", 3), ("z", 4)), False),
        ((("z", 3),), True),
    ]
    assert stacks[0].split_by == ("temporal",)
    ticking = facets(rounds(4), acquisition_time=[float(k) for k in range(16)])[:-1]
    stacks = stack(shuffled(ticking)).stacks
    assert [(shape_of(s), s.partial) for s in stacks] == [
        ((("time", 3), ("z", 4)), False),
        ((("z", 3),), True),
    ]


def test_repeats_that_nothing_tells_apart_follow_their_numbers() -> None:
    found = only(rounds(5))
    assert shape_of(found) == (("repeat", 5), ("z", 4))
    assert [f.instance_number for f in found.frames] == list(range(1, 21))


def test_repeats_may_follow_each_other_slice_by_slice() -> None:
    frames = [slice_frame((0, 0, z), number=1 + 5 * z + k) for z in range(4) for k in range(5)]
    found = only(frames)
    assert shape_of(found) == (("repeat", 5), ("z", 4))
    assert [f.instance_number for f in found.frames[:4]] == [1, 6, 11, 16]


def test_numbers_that_do_not_count_alike_make_no_repeats() -> None:
    """Which frame of one place belongs with which of another is then a guess: they are kept apart."""
    frames = [
        slice_frame((0, 0, z), number=n)
        for z, n in zip([0, 0, 1, 1, 2, 2], [1, 9, 10, 12, 2, 3], strict=True)
    ]
    stacks = stack(shuffled(frames)).stacks
    assert [(len(s.frames), s.split_by, s.partial) for s in stacks] == [
        (3, ("conflict",), False),
        (3, ("conflict",), True),
    ]
    without = [replace(f, instance_number=None) for f in rounds(2)]
    assert [s.split_by for s in stack(without).stacks] == [("conflict",), ("conflict",)]


def test_a_diffusion_series_is_told_apart_by_b_and_direction() -> None:
    directions = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    frames = facets(rounds(4), b=[0.0] * 4 + [1000.0] * 12)
    frames = frames[:4] + [
        g for k, d in enumerate(directions) for g in facets(frames[4 + 4 * k : 8 + 4 * k], gradient=d)
    ]
    found = only(frames)
    assert shape_of(found) == (("b", 4), ("z", 4))
    named = coordinates(found)
    assert (named["b"].values, named["b"].units) == ([0.0, 1000.0, 1000.0, 1000.0], "s/mm2")
    assert named["gradient"].dims == ("b", "axis")
    assert named["gradient"].values[0] == [None] * 3
    assert sorted(map(tuple, named["gradient"].values[1:])) == sorted(directions)


def test_a_repeated_b_value_is_told_apart_by_time_and_still_named_b() -> None:
    b = [value for value in (0.0, 0.0, 500.0, 1000.0) for _ in range(4)]
    found = only(facets(rounds(4), b=b, temporal=[float(k) for k in range(4) for _ in range(4)]))
    assert shape_of(found) == (("b", 4), ("z", 4))
    assert coordinates(found)["b"].values == [0.0, 0.0, 500.0, 1000.0]


def test_magnitudes_of_two_echoes_and_one_phase_are_two_volumes() -> None:
    frames = facets(rounds(3), echo=[1.0] * 4 + [2.0] * 8, component=["magnitude"] * 8 + ["phase"] * 4)
    stacks = stack(shuffled(frames)).stacks
    assert [shape_of(s) for s in stacks] == [(("echo", 2), ("z", 4)), (("z", 4),)]
    assert [s.split_by for s in stacks] == [("component",), ("component",)]
    assert not any(s.partial for s in stacks)


def test_partly_overlapping_acquisitions_are_two_volumes() -> None:
    first = facets(axial(np.arange(10) * 2.0), acquisition=1.0)
    second = facets(axial(np.arange(10) * 2.0 + 16, first_number=11), acquisition=2.0)
    stacks = stack(shuffled(first + second)).stacks
    assert [(s.verdict, len(s.frames)) for s in stacks] == [("regular", 10), ("regular", 10)]
    assert [{f.facets["acquisition"] for f in s.frames} for s in stacks] == [{1.0}, {2.0}]


def test_columns_of_planes_side_by_side_are_volumes_of_their_own() -> None:
    frames = [slice_frame((x, 0, z), number=z + x) for x in (0, 40) for z in range(5)]
    stacks = stack(shuffled(frames)).stacks
    assert [(s.verdict, len(s.frames), s.split_by) for s in stacks] == [
        ("regular", 5, ("in_plane_position",)),
        ("regular", 5, ("in_plane_position",)),
    ]


def test_nuclear_frames_without_geometry_are_a_product_of_their_vectors() -> None:
    frames = [slice_frame(None, number=1) for _ in range(6)]
    frames = [replace(f, frame_index=i) for i, f in enumerate(frames)]
    frames = facets(frames, detector=[1.0, 1.0, 1.0, 2.0, 2.0, 2.0], phase=[1.0, 2.0, 3.0] * 2)
    found = only(frames)
    assert (found.verdict, shape_of(found)) == ("none", (("detector", 2), ("phase", 3)))
    assert [f.frame_index for f in found.frames] == list(range(6))


def test_planes_nearly_in_one_plane_are_no_stack() -> None:
    frames = [slice_frame((300.0 * i, 0, 0.5 * i), number=i) for i in range(3)]
    assert verdicts(frames) == [("plane_set", 3)]


def test_two_interleaved_acquisitions_are_two_volumes() -> None:
    """Together they look like one volume of half the step; they were taken one after the other."""
    first = axial(np.arange(10) * 2.0, AcquisitionNumber=1)
    second = axial(np.arange(10) * 2.0 + 1, first_number=11, AcquisitionNumber=2)
    stacks = stack(shuffled(first + second)).stacks
    assert [(s.verdict, {f.facets["acquisition"] for f in s.frames}) for s in stacks] == [
        ("regular", {1}),
        ("regular", {2}),
    ]


def test_overlapping_acquisitions_of_unlike_step_are_two_volumes() -> None:
    first = axial(np.arange(10) * 2.0, AcquisitionNumber=1)
    second = axial(np.arange(10) * 3.0 + 9.5, first_number=11, AcquisitionNumber=2)
    assert verdicts(first + second) == [("regular", 10), ("regular", 10)]


def test_acquisitions_that_follow_each_other_in_space_are_one_volume() -> None:
    """Axial CT: each rotation is an acquisition of a few neighbouring slices."""
    frames = [slice_frame((0, 0, i), number=i, AcquisitionNumber=i // 4) for i in range(16)]
    assert verdicts(frames) == [("regular", 16)]


# ---- what never shares an array ----


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "another"},
        {"StudyInstanceUID": generate_uid()},
        {"SeriesInstanceUID": generate_uid()},
        {"FrameOfReferenceUID": generate_uid()},
        {"SOPClassUID": MRImageStorage},
        {"PixelRepresentation": 1},
        {"spacing": (0.5, 0.6)},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"RescaleSlope": "1", "RescaleType": "US"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"pixels": place_values(0, 5, 6)},
        {"pixels": np.zeros((4, 6, 3), np.uint8)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_frames_that_differ_in_a_hard_key_never_share_a_stack(other: dict) -> None:
    frames = axial([0, 2, 4, 6]) + axial([1, 3, 5, 7], first_number=5, **other)
    assert verdicts(frames) == [("regular", 4), ("regular", 4)]


def test_a_frame_of_reference_of_its_own_for_every_frame_tells_nothing() -> None:
    """De-identification of the LIDC collection drew a new UID for each slice of a series."""
    frames = [slice_frame((0, 0, i), number=i, FrameOfReferenceUID=generate_uid()) for i in range(8)]
    found = only(frames)
    assert found.verdict == "regular"
    assert "frame of reference" in found.reason
    assert found.frame_of_reference_uid is None


def test_frames_of_reference_that_line_up_by_chance_of_few_stay_apart() -> None:
    frames = [slice_frame((0, 0, i), number=i, FrameOfReferenceUID=generate_uid()) for i in range(4)]
    assert verdicts(frames) == [("regular", 1)] * 4
    irregular = [
        slice_frame((0, 0, z), number=i, FrameOfReferenceUID=generate_uid())
        for i, z in enumerate([0, 1, 2.4, 2.9, 4.5, 9.1])
    ]
    assert verdicts(irregular) == [("regular", 1)] * 6


def test_a_localizer_of_three_planes_is_never_a_box() -> None:
    frames = [slice_frame(orientation=o, number=i) for i, o in enumerate((AXIAL, CORONAL, SAGITTAL))]
    assert verdicts(frames) == [("plane_set", 3)]
    two_each = [
        slice_frame(tuple(geometry.normal(o) * 10 * k), orientation=o, number=3 * k + i)
        for i, o in enumerate((AXIAL, CORONAL, SAGITTAL))
        for k in range(2)
    ]
    assert verdicts(two_each) == [("regular", 2)] * 3


def test_a_scout_does_not_join_the_axial_slices() -> None:
    frames = [slice_frame(orientation=CORONAL, number=1), *axial(np.arange(10.0), first_number=2)]
    assert verdicts(frames) == [("regular", 1), ("regular", 10)]


def test_radial_planes_are_a_plane_set() -> None:
    frames = [
        slice_frame(orientation=(math.cos(a), math.sin(a), 0, 0, 0, -1), number=i)
        for i, a in enumerate(np.radians(np.arange(10) * 18))
    ]
    found = only(frames)
    assert (found.verdict, len(found.frames), found.affine) == ("plane_set", 10, None)


def test_frames_without_geometry_keep_the_order_of_their_numbers() -> None:
    found = only([slice_frame(None, number=i) for i in (3, 1, 2)])
    assert (found.verdict, found.positions) == ("none", None)
    assert [frame.instance_number for frame in found.frames] == [1, 2, 3]
    assert "ImagePositionPatient" in found.reason


def test_a_slice_without_position_does_not_spoil_the_volume() -> None:
    frames = [*axial([0, 1, 2, 3]), slice_frame(None, number=9)]
    assert verdicts(frames) == [("regular", 4), ("none", 1)]


def test_what_parts_the_stacks_of_a_series_is_named() -> None:
    frames = axial([0, 1, 2]) + axial([0, 1, 2], first_number=4, PatientID="another", spacing=(0.5, 0.6))
    assert [s.split_by for s in stack(frames).stacks] == [("patient",), ("patient",)]
    matrices = axial([0, 1, 2]) + axial([0, 1, 2], first_number=4, pixels=place_values(0, 5, 6))
    assert [s.split_by for s in stack(matrices).stacks] == [("matrix",), ("matrix",)]


# ---- the whole ----


def test_stacks_do_not_depend_on_the_order_of_files() -> None:
    frames = axial([0, 1, 2]) + axial([5, 6, 7], first_number=4, PatientID="another") + [slice_frame(None)]
    results = {
        tuple(tuple(f.sop_instance_uid for f in s.frames) for s in stack(order).stacks)
        for order in (frames, frames[::-1], shuffled(frames))
    }
    assert len(results) == 1


def test_stacks_come_by_their_smallest_instance_number() -> None:
    frames = axial([0, 1], first_number=5) + axial([0, 1], first_number=3, PatientID="another")
    numbers = [min(f.instance_number or 0 for f in s.frames) for s in stack(shuffled(frames)).stacks]
    assert numbers == [3, 5]


def test_no_frames_no_stacks() -> None:
    assert stack([]).stacks == ()


def test_a_frame_that_gets_lost_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original = stacking._stacks_of
    monkeypatch.setattr(stacking, "_stacks_of", lambda group, pixels: original(group[1:], pixels))
    with pytest.raises(GeometryError, match="3 frames were given and 2 are in stacks"):
        stack(axial([0, 1, 2]))


def test_every_real_frame_is_in_exactly_one_stack(real_data: Path) -> None:
    frames: list[Frame] = []
    for folder in ("ct-tilt-ge", "dicom2nifti", "divest", "nibabel", "rt-utils", "pet-ge", "fmri-ge-4d"):
        for path in sorted((real_data / folder).rglob("*")):
            if path.is_file() and path.suffix in {"", ".dcm", ".ima", ".IMA"}:
                header = read_header(path.read_bytes())
                if header.pixels is not None:
                    frames.extend(frames_of(header.dataset))
    stacks = stack(frames).stacks
    assert len(frames) > 200
    assert sorted(id(f) for s in stacks for f in s.frames) == sorted(map(id, frames))


def test_uneven_steps_of_a_real_head_ct_are_not_smoothed(real_data: Path) -> None:
    """dcm2niix writes this series as a volume of constant step; its gaps are 1.1 to 7.0 mm."""
    headers = [read_header(p.read_bytes()) for p in sorted((real_data / "ct-tilt-ge").glob("*.dcm"))]
    found = only([frame for header in headers for frame in frames_of(header.dataset)])
    assert (found.verdict, len(found.frames)) == ("irregular", 28)
    assert found.positions is not None
    gaps = np.linalg.norm(np.diff(found.positions, axis=0), axis=1)
    assert gaps.max() > 6 * gaps.min()


def test_one_series_in_two_studies_is_not_one_volume(real_data: Path) -> None:
    """The two slices line up, but name two studies: a series belongs to one (PS3.3 A.1.2.3)."""
    folder = real_data / "rt-utils" / "tests" / "oriented_data"
    headers = [read_header(p.read_bytes()) for p in sorted(folder.glob("[12].dcm"))]
    frames = [frame for header in headers for frame in frames_of(header.dataset)]
    assert len({frame.study_instance_uid for frame in frames}) == 2
    assert verdicts(frames) == [("regular", 1), ("regular", 1)]
