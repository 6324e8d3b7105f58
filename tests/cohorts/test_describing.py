"""What a description says, against counts by hand, and what it must not say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dicomlake.cohorts.telling import describing
from dicomlake.cohorts.telling.describing import describe
from dicomlake.cohorts.telling.identifying import free_text, identifying

SECRETS = (
    "Planted^Person",
    "ID-4711",
    "19500102",
    "ACC-99",
    "1.2.826.77",
    "Dr^Who",
    "aneurysm of Mr Planted",
)


@pytest.fixture
def table() -> pd.DataFrame:
    """Six series of four patients."""
    return pd.DataFrame(
        {
            "PatientID": ["ID-4711", "ID-4711", "b", "c", "d", "d"],
            "PatientName": ["Planted^Person"] * 6,
            "PatientBirthDate": ["19500102"] * 6,
            "AccessionNumber": ["ACC-99"] * 6,
            "OperatorsName": ["Dr^Who"] * 6,
            "StudyInstanceUID": ["1.2.826.77", "1.2.826.77", "1.2", "1.3", "1.4", "1.5"],
            "StudyDate": ["20200105", "20200105", "", "20191231", "20210601", None],
            "StudyTime": ["0805", "0805", "235959.5", None, "120000", "130000"],
            "Modality": ["CT", "CT", "CT", "MR", "MR", "PT"],
            "SliceThickness": [1.0, 2.0, 3.0, None, 5.0, 5.0],
            "EchoTime": [(1.0, 2.0), 3.0, None, "", 5.0, 5.0],
            "SeriesDescription": ["axial", "aneurysm of Mr Planted", "axial", "axial", None, None],
            "instances": [10, 20, 30, 40, 50, 60],
            "bytes": [1024] * 6,
        }
    )


def column(description: describing.Description, name: str) -> describing.Column:
    return next(one for one in description.columns if one.name == name)


def test_it_counts_patients_studies_series_instances_and_bytes(table: pd.DataFrame) -> None:
    found = describe(table)
    assert found.counts == {"patients": 4, "studies": 5, "series": 6, "instances": 210, "bytes": 6144}
    assert found.series_per_patient == (1, 1.5, 2)
    assert found.dates == ("2019-12-31", "2021-06-01")


def test_missing_several_and_different_values_of_a_column_are_counted(table: pd.DataFrame) -> None:
    found = describe(table)
    facts = {
        name: (column(found, name).missing, column(found, name).several, column(found, name).distinct)
        for name in ("StudyDate", "EchoTime", "SliceThickness", "Modality", "PatientID")
    }
    assert facts == {
        "StudyDate": (2, 0, 3),
        "EchoTime": (2, 1, 3),
        "SliceThickness": (1, 0, 4),
        "Modality": (0, 0, 3),
        "PatientID": (0, 0, 4),
    }


def test_values_are_shown_by_kind(table: pd.DataFrame) -> None:
    found = describe(table, top=2)
    assert column(found, "Modality").told == "CT (3), MR (2); 1 more"
    assert column(found, "SliceThickness").quantiles[2] == 3.0
    assert column(found, "SliceThickness").told == "1 to 5, median 3"
    assert column(found, "StudyTime").range == ("08:05", "23:59")
    assert column(found, "EchoTime").top == (("5", 2), ("1\\2", 1))


def test_no_form_of_it_holds_an_identifying_value(table: pd.DataFrame) -> None:
    found = describe(table)
    forms = (repr(found), found._repr_html_(), found.table.to_string(), json.dumps(found.to_dict()))
    assert [secret for secret in SECRETS for form in forms if secret in form] == []
    assert all("axial" in form for form in forms)  # of three patients
    assert column(found, "SeriesDescription").withheld == 1


def test_text_that_people_wrote_is_withheld_without_knowing_who_is_who(table: pd.DataFrame) -> None:
    found = describe(table[["SeriesDescription", "Modality"]])
    assert column(found, "SeriesDescription").top == ()
    assert column(found, "Modality").top[0] == ("CT", 3)


@pytest.mark.parametrize(
    "name",
    ["PatientName", "PatientBirthDate", "SeriesInstanceUID", "OtherPatientIDs", "ReferringPhysicianName"],
)
def test_elements_that_tell_who_somebody_is_are_known(name: str) -> None:
    assert identifying(name)
    assert identifying(f"RequestAttributesSequence.{name}")


@pytest.mark.parametrize("name", ["Modality", "SliceThickness", "SOPClassUID", "StudyDate", "verdict"])
def test_elements_that_tell_nothing_of_a_person_may_be_shown(name: str) -> None:
    assert not identifying(name)
    assert not free_text(name)


def test_the_table_has_a_row_a_column_and_shares_add_up(table: pd.DataFrame) -> None:
    shown = describe(table).table
    assert shown.index.tolist() == table.columns.tolist()
    assert shown["missing"].tolist() == [
        int((table[c].isna() | table[c].eq("")).sum()) for c in table.columns
    ]


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    cases = {(0, 10): "–", (1, 1000): "<1 %", (999, 1000): ">99 %", (10, 10): "100 %", (1, 3): "33 %"}
    assert {case: describing.percent(*case) for case in cases} == cases


def test_an_empty_cohort_is_described_too(table: pd.DataFrame) -> None:
    found = describe(table.iloc[:0])
    assert found.counts["series"] == found.counts["patients"] == 0
    assert "0 series" in repr(found)
    assert found._repr_html_().startswith("<div>")
    assert repr(describe(pd.DataFrame(index=range(3)))) == "3 series"


def test_columns_of_whole_numbers_and_timestamps_are_understood() -> None:
    frame = pd.DataFrame(
        {
            "SeriesNumber": pd.array([1, None, 3], dtype="Int64"),
            "when": pd.to_datetime(["2020-01-01", None, "2020-03-01"]),
            "flag": [True, False, True],
        }
    )
    found: dict[str, Any] = {one.name: one for one in describe(frame).columns}
    assert found["SeriesNumber"].quantiles == (1, 1, 1, 3, 3) or np.isclose(
        found["SeriesNumber"].quantiles[0], 1
    )
    assert found["when"].range == ("2020-01-01", "2020-03-01")
    assert found["flag"].distinct == 2


def test_sop_classes_are_told_by_name() -> None:
    frame = pd.DataFrame({"SOPClassUID": ["1.2.840.10008.5.1.4.1.1.2"] * 2})
    assert column(describe(frame), "SOPClassUID").told == "CT Image Storage (2)"
