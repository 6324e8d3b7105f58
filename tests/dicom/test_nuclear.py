"""Nuclear medicine: what the vectors of a multi-frame image say, and where reconstructed slices lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from dicomlake.dicom import standard
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header
from tests.dicom.enhanced import Item, expand, item
from tests.dicom.phantoms import slice_dataset

AXIAL_DETECTOR: Item = {"ImagePositionPatient": [10, 20, 30], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}


def nuclear(vectors: dict[str, list[int]], *detectors: Item, **keywords: Any) -> tuple[Frame, ...]:
    """The frames of an NM image; FrameIncrementPointer names the vectors in the order given."""
    count = keywords.pop("NumberOfFrames", len(next(iter(vectors.values()))))
    ds: Dataset = slice_dataset(
        None,
        orientation=None,
        SOPClassUID=NuclearMedicineImageStorage,
        NumberOfFrames=count,
        FrameIncrementPointer=[standard.tag_of(name) for name in vectors],
        DetectorInformationSequence=[item(content) for content in detectors],
        **vectors,
    )
    for keyword, value in keywords.items():
        setattr(ds, keyword, [item(part) for part in value] if keyword.endswith("Sequence") else value)
    return expand(ds)


def column(frames: tuple[Frame, ...], facet: str) -> list[object]:
    return [frame.facets.get(facet) for frame in frames]


@pytest.mark.parametrize(
    ("step", "heights"), [(4.5, [30, 34.5, 39]), (-4.5, [30, 25.5, 21])], ids=["behind", "in front"]
)
def test_the_sign_of_the_spacing_is_the_direction_of_stacking(step: float, heights: list[float]) -> None:
    frames = nuclear({"SliceVector": [1, 2, 3]}, AXIAL_DETECTOR, SpacingBetweenSlices=step)
    assert [frame.position for frame in frames] == [(10, 20, z) for z in heights]
    assert all(frame.orientation == (1, 0, 0, 0, 1, 0) and frame.flaw is None for frame in frames)
    assert all((frame.spacing_mm, frame.nominal_step_mm) == ((0.5, 0.5), 4.5) for frame in frames)


def test_slices_are_placed_by_their_number_not_by_their_order() -> None:
    frames = nuclear({"SliceVector": [3, 1, 2]}, AXIAL_DETECTOR, SpacingBetweenSlices=2)
    assert [frame.position for frame in frames] == [(10, 20, 34), (10, 20, 30), (10, 20, 32)]


def test_slices_follow_the_normal_of_an_oblique_plane() -> None:
    c, s = math.cos(0.3), math.sin(0.3)
    detector = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [c, s, 0, 0, 0, -1]}
    frames = nuclear({"SliceVector": [1, 2]}, detector, SpacingBetweenSlices=-10)
    assert frames[1].position == pytest.approx((1 + 10 * s, 2 - 10 * c, 3))  # n = (c, s, 0) x (0, 0, -1)


def test_gated_slices_share_their_places_and_differ_by_time_slot() -> None:
    vectors = {"RRIntervalVector": [1] * 4, "TimeSlotVector": [1, 1, 2, 2], "SliceVector": [1, 2, 1, 2]}
    frames = nuclear(vectors, AXIAL_DETECTOR, SpacingBetweenSlices=5)
    assert [frame.position for frame in frames] == 2 * [(10, 20, 30), (10, 20, 35)]
    assert column(frames, "time_slot") == [1, 1, 2, 2]
    assert column(frames, "rr_interval") == [1] * 4
    assert column(frames, "dim_slice") == [None] * 4


def test_the_top_level_stands_in_for_a_detector_that_says_nothing() -> None:
    frames = nuclear(
        {"SliceVector": [1, 2]},
        {},
        SpacingBetweenSlices=5,
        ImagePositionPatient=[1, 2, 3],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )
    assert [frame.position for frame in frames] == [(1, 2, 3), (1, 2, 8)]


@pytest.mark.parametrize(
    ("detectors", "keywords", "culprit"),
    [
        ((), {"SpacingBetweenSlices": 5}, "ImagePositionPatient"),
        (
            ({"ImagePositionPatient": [1, 2, 3]},),
            {"SpacingBetweenSlices": 5},
            "ImageOrientationPatient",
        ),
        ((AXIAL_DETECTOR,), {}, "SpacingBetweenSlices"),
        ((AXIAL_DETECTOR,), {"SpacingBetweenSlices": 0}, "SpacingBetweenSlices"),
        ((AXIAL_DETECTOR,), {"SliceThickness": 5}, "SpacingBetweenSlices"),
    ],
)
def test_slices_whose_place_is_not_stated_have_none_and_keep_their_number(
    detectors: tuple[Item, ...], keywords: dict[str, Any], culprit: str
) -> None:
    frames = nuclear({"SliceVector": [2, 1]}, *detectors, **keywords)
    assert all(frame.position is None and culprit in str(frame.flaw) for frame in frames)
    assert column(frames, "dim_slice") == [2, 1]


def test_projections_have_no_place_even_where_the_detector_has() -> None:
    frames = nuclear(
        {"EnergyWindowVector": [1, 2, 1, 2], "DetectorVector": [1, 1, 2, 2]},
        AXIAL_DETECTOR,
        AXIAL_DETECTOR,
        ImagePositionPatient=[1, 2, 3],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        SpacingBetweenSlices=5,
    )
    assert all(frame.position is None and "projections" in str(frame.flaw) for frame in frames)
    assert column(frames, "energy_window") == [1, 2, 1, 2]
    assert column(frames, "detector") == [1, 1, 2, 2]


@pytest.mark.parametrize("vector", ["SliceVector", "EnergyWindowVector"])
def test_a_vector_of_another_length_than_the_object_places_nothing(vector: str) -> None:
    frames = nuclear({vector: [1, 2]}, AXIAL_DETECTOR, NumberOfFrames=3, SpacingBetweenSlices=5)
    assert len(frames) == 3
    assert all(f"{vector} has 2 values for 3 frames" == frame.flaw for frame in frames)
    assert all(frame.position is None for frame in frames)


def turn(**changes: Any) -> Item:
    return {"StartAngle": 10, "AngularStep": 6, "RotationDirection": "CC", **changes}


@pytest.mark.parametrize(
    ("turns", "detectors", "angles"),
    [
        ([turn()], ({},), [10, 16, 22]),
        ([turn(RotationDirection="CW")], ({},), [10, 4, 358]),
        ([turn()], ({"StartAngle": 180},), [180, 186, 192]),
        ([turn(RotationDirection="")], ({},), [None] * 3),
        ([], ({},), [None] * 3),
    ],
    ids=["counter-clockwise", "clockwise", "detector", "no direction", "no rotation"],
)
def test_views_have_the_angle_of_their_rotation(
    turns: list[Item], detectors: tuple[Item, ...], angles: list[object]
) -> None:
    vectors = {"RotationVector": [1, 1, 1], "AngularViewVector": [1, 2, 3]}
    frames = nuclear(vectors, *detectors, RotationInformationSequence=turns)
    assert column(frames, "angle") == angles
    assert column(frames, "angular_view") == [1, 2, 3]


def test_of_several_detectors_each_begins_at_its_own_angle_or_none_is_known() -> None:
    vectors = {"DetectorVector": [1, 1, 2, 2], "AngularViewVector": [1, 2, 1, 2]}
    opposite = ({"StartAngle": 0}, {"StartAngle": 180})
    frames = nuclear(vectors, *opposite, RotationInformationSequence=[turn()])
    assert column(frames, "angle") == [0, 6, 180, 186]
    frames = nuclear(vectors, {}, {}, RotationInformationSequence=[turn()])
    assert column(frames, "angle") == [None] * 4


def test_dynamic_frames_begin_after_those_before_them() -> None:
    """Two frames of 1 s with 100 ms between, a pause of 500 ms, then two frames of 10 s."""
    phases = [
        {
            "PhaseDelay": 250,
            "ActualFrameDuration": 1000,
            "PauseBetweenFrames": 100,
            "NumberOfFramesInPhase": 2,
        },
        {
            "PhaseDelay": 500,
            "ActualFrameDuration": 10000,
            "PauseBetweenFrames": 0,
            "NumberOfFramesInPhase": 2,
        },
    ]
    vectors = {"PhaseVector": [1, 1, 2, 2], "TimeSliceVector": [1, 2, 1, 2]}
    frames = nuclear(vectors, PhaseInformationSequence=phases)
    assert column(frames, "frame_time") == [0, 1100, 2600, 12600]
    assert column(frames, "phase") == [1, 1, 2, 2]
    assert column(frames, "time_slice") == [1, 2, 1, 2]


def test_a_lone_projection_keeps_what_it_states() -> None:
    frames = nuclear(
        {"EnergyWindowVector": [1]},
        ImagePositionPatient=[1, 2, 3],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )
    assert [frame.position for frame in frames] == [(1, 2, 3)]


def test_a_real_heart_without_a_position_is_thirteen_numbered_slices(real_data: Path) -> None:
    data = (real_data / "nm-heart" / "NM-MONO2-16-13x-heart").read_bytes()
    frames = frames_of(read_header(data).dataset)
    assert column(frames, "dim_slice") == list(range(1, 14))
    assert all("ImagePositionPatient" in str(frame.flaw) for frame in frames)
