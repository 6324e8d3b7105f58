"""Which series of another study shows the same."""

from __future__ import annotations

from typing import Any

import pytest

from dicomlake.widgets.compare.prior import days_between, likeness, prior_of, priors

NOW: dict[str, Any] = {
    "StudyInstanceUID": "1.3",
    "PatientID": "A",
    "StudyDate": "20260310",
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "ConvolutionKernel": "B70f",
    "SliceThickness": 1.0,
    "SeriesDescription": "Lung 1.0",
    "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
    "ContrastBolusAgent": None,
    "instances": 300,
}


def before(**others: Any) -> dict[str, Any]:
    return NOW | {"StudyInstanceUID": "1.2", "StudyDate": "20251207"} | others


def test_the_same_kernel_and_thickness_win() -> None:
    soft = before(
        ConvolutionKernel="B30f", SliceThickness=5.0, SeriesDescription="Mediastinum 5.0", instances=60
    )
    lung = before(SliceThickness=1.25)
    bone = before(BodyPartExamined="PELVIS")
    found = prior_of(NOW, [soft, bone, lung])
    assert found is not None
    assert found.index == 2
    assert found.days == 93  # 7 December to 10 March, by the calendar: 24 + 31 + 28 + 10
    assert "same kernel" in found.reasons
    assert "similar slice thickness" in found.reasons
    assert "different kernel" in priors(NOW, [soft])[0].reasons


def test_the_latest_study_that_has_one_is_taken() -> None:
    older, newer = before(StudyInstanceUID="1.1", StudyDate="20240101"), before(SliceThickness=2.0)
    found = prior_of(NOW, [older, newer])
    assert found is not None
    assert found.index == 1


@pytest.mark.parametrize(
    "other",
    [
        before(Modality="MR"),
        before(StudyInstanceUID="1.3"),
        before(PatientID="B"),
        before(ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"),
        before(instances=2),
        before(StudyDate="20260401"),
        before(StudyDate=""),
        before(
            BodyPartExamined="HEAD", ConvolutionKernel="H30", SliceThickness=8.0, SeriesDescription="Brain"
        ),
    ],
    ids=["modality", "study", "patient", "localizer", "planes", "later", "undated", "unlike"],
)
def test_what_is_no_prior_is_not_taken(other: dict[str, Any]) -> None:
    assert prior_of(NOW, [other]) is None


def test_a_later_study_matches_where_any_time_is_asked_for() -> None:
    found = prior_of(NOW, [before(StudyDate="20260401")], earlier=False)
    assert found is not None
    assert found.days == -22


def test_series_of_mr_are_told_apart_by_their_times_and_orientation() -> None:
    t1: dict[str, Any] = NOW | {
        "Modality": "MR",
        "EchoTime": 3.0,
        "RepetitionTime": 8.0,
        "ScanningSequence": "GR",
    }
    t1["ImageOrientationPatient"] = [1, 0, 0, 0, 1, 0]
    elsewhere = {"StudyInstanceUID": "1.2", "StudyDate": "20251207"}
    t2 = t1 | elsewhere | {"EchoTime": 90.0, "RepetitionTime": 4000.0, "ScanningSequence": "SE"}
    coronal = t1 | elsewhere | {"ImageOrientationPatient": "1\\0\\0\\0\\0\\-1"}
    found = priors(t1, [t2, coronal, t1 | elsewhere])
    assert found[0].index == 2
    assert found[0].score == 1.0
    assert "different orientation" in next(one for one in found if one.index == 1).reasons


def test_what_is_not_said_counts_neither_way() -> None:
    sparse = {"Modality": "CT", "BodyPartExamined": "CHEST"}
    assert likeness(NOW, sparse) == (1.0, ("same body part",))
    assert days_between(NOW, sparse) is None


def test_reasons_hold_no_values_of_the_headers() -> None:
    named = before(SeriesDescription="Doe^John lung")
    assert "DOE" not in str(priors(NOW | {"SeriesDescription": "Doe^John"}, [named])).upper()


def test_things_with_facts_serve_as_well() -> None:
    class Series:
        def __init__(self, facts: dict[str, Any]) -> None:
            self.facts = facts

    found = prior_of(Series(NOW), [Series(before())])
    assert found is not None
    assert found.score == 1.0
