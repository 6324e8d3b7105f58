"""Protocols and drift, against tables whose protocols are known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.cohorts.telling.agreement import clusters
from dicomlake.cohorts.telling.drift import drift
from dicomlake.cohorts.telling.protocols import protocols
from dicomlake.errors import QueryError

EPI = {
    "Modality": "MR",
    "MagneticFieldStrength": 3.0,
    "RepetitionTime": 2000.0,
    "EchoTime": 30.0,
    "FlipAngle": 90.0,
    "SliceThickness": 3.0,
    "ScanningSequence": "EP",
}
T1 = {
    "Modality": "MR",
    "MagneticFieldStrength": 1.5,
    "RepetitionTime": 500.0,
    "EchoTime": 12.0,
    "FlipAngle": 70.0,
    "SliceThickness": 5.0,
    "ScanningSequence": ("SE", "IR"),
}
CT = {"Modality": "CT", "KVP": 120.0, "SliceThickness": 1.0, "PixelSpacing": (0.7, 0.7)}


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def test_series_that_differ_by_rounding_only_are_one_protocol_with_a_readable_name() -> None:
    found = protocols(
        table(*[EPI] * 6, {**EPI, "RepetitionTime": 2000.01}, {**EPI, "MagneticFieldStrength": 2.8936})
    )
    assert len(found) == 1
    assert found.dominant == {"MR": "MR 3 T, TR 2000, TE 30, FA 90, 3 mm, EP"}
    assert len(found.outliers) == 0


def test_each_series_is_in_the_protocol_that_it_was_made_from() -> None:
    rows = [EPI, T1, CT] * 10
    found = protocols(table(*rows))
    names = dict(zip(found.table["protocol"], found.table["name"], strict=True))
    assert [names[number] for number in found.of] == [
        "MR 3 T, TR 2000, TE 30, FA 90, 3 mm, EP",
        "MR 1.5 T, TR 500, TE 12, FA 70, 5 mm, SE\\IR",
        "CT 120 kV, 1 mm, pixels 0.7 mm",
    ] * 10
    assert found.members(int(found.of[1])).tolist() == list(range(1, 30, 3))


def test_an_outlier_is_told_by_its_parameters_from_the_protocol_most_like_it() -> None:
    odd = {**T1, "EchoTime": 15.0, "ScanningSequence": "SE"}
    rows = [EPI] * 60 + [T1] * 39 + [odd]
    found = protocols(table(*rows))
    assert found.strays.tolist() == [99]
    names = dict(zip(found.table["protocol"], found.table["name"], strict=True))
    assert {names[at].split(",")[0] for at in found.outliers["like"]} == {"MR 1.5 T"}
    told = found.outliers.set_index("parameter")
    assert told.loc["EchoTime", ["value", "expected"]].tolist() == ["15", "12"]
    assert told.loc["EchoTime", ["difference", "relative"]].tolist() == [3.0, 0.25]
    assert told.loc["ScanningSequence", ["value", "expected"]].tolist() == ["SE", "SE\\IR"]
    assert np.isnan(told.loc["ScanningSequence", "difference"])
    assert sorted(told.index) == ["EchoTime", "ScanningSequence"]


def test_a_missing_parameter_is_a_difference() -> None:
    found = protocols(table(*[EPI] * 40, {**EPI, "FlipAngle": None}))
    assert found.outliers[["position", "parameter", "expected"]].to_numpy().tolist() == [
        [40, "FlipAngle", "90"]
    ]
    assert found.outliers["value"].isna().all()


def test_each_of_several_values_agrees_by_itself() -> None:
    near, far = {**CT, "PixelSpacing": (0.703, 0.698)}, {**CT, "PixelSpacing": (0.7, 0.8)}
    found = protocols(table(*[CT] * 30, near, far))
    assert len(found) == 2
    assert found.strays.tolist() == [31]
    assert found.outliers[["value", "expected"]].to_numpy().tolist() == [["0.7\\0.8", "0.7\\0.7"]]


def test_odd_values_between_two_usual_ones_do_not_chain_them_together() -> None:
    between = [{**EPI, "RepetitionTime": float(tr)} for tr in range(510, 2000, 4)]
    found = protocols(table(*[EPI] * 500, *[{**EPI, "RepetitionTime": 500.0}] * 500, *between), rare=0.2)
    assert (~found.table["rare"]).sum() == 2


def test_the_parameters_and_tolerances_may_be_chosen() -> None:
    rows = [EPI] * 3 + [{**EPI, "EchoTime": 31.0, "FlipAngle": 80.0}]
    assert len(protocols(table(*rows), by=["EchoTime"])) == 2
    assert len(protocols(table(*rows), by=["EchoTime"], tolerance=0.05)) == 1
    assert len(protocols(table(*rows), by={"MR": ["EchoTime"]}, tolerance={"EchoTime": 0.05})) == 1
    assert len(protocols(table(*rows), by=["RepetitionTime"])) == 1
    with pytest.raises(QueryError, match="no column EchoTrainLength"):
        protocols(table(*rows), by=["EchoTrainLength"])
    with pytest.raises(ValueError, match="tolerance is relative"):
        protocols(table(*rows), tolerance=5)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from([0.0, -1.0, 99.5, 100.0, 100.4, 101.2, 102.0, np.nan]), max_size=30),
    st.randoms(),
)
def test_clusters_do_not_depend_on_the_order_of_rows(values: list[float], random: Any) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    given_values = np.array(values, dtype=float)
    code, named = clusters(given_values, 0.01)
    other, other_named = clusters(given_values[order], 0.01)
    assert other.tolist() == code[order].tolist()
    assert named.tolist() == other_named.tolist()
    for value, at in zip(values, code, strict=True):
        assert (at == -1) == np.isnan(value)
        assert at == -1 or abs(value - named[at]) <= 0.01 * abs(named[at]) + 1e-9


def slow_clusters(values: list[float], tolerance: float) -> dict[float, float]:
    """The value that each different one is named after, by the rule word for word."""
    left = sorted(set(values))
    found: dict[float, float] = {}
    while left:
        leader = max(left, key=lambda v: (values.count(v), -v))
        taken = [v for v in left if abs(v - leader) <= tolerance * abs(leader) * (1 + 1e-9)]
        found |= dict.fromkeys(taken, leader)
        left = [v for v in left if v not in taken]
    return found


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(-30, 300).map(float), max_size=40), st.sampled_from([0.0, 0.01, 0.05, 0.3]))
def test_clusters_are_those_of_the_rule_word_for_word(values: list[float], tolerance: float) -> None:
    code, named = clusters(np.array(values), tolerance)
    assert [named[at] for at in code] == [slow_clusters(values, tolerance)[value] for value in values]


def test_protocols_whose_names_are_equal_are_told_apart() -> None:
    rows = [{**EPI, "Units": "a"}, {**EPI, "SliceThickness": 3.00001}]
    names = protocols(table(*rows), tolerance=0).table["name"]
    assert len(set(names)) == 2


def test_patients_are_counted_where_the_table_tells_them_apart() -> None:
    rows = [{**EPI, "PatientID": name, "StudyInstanceUID": name} for name in "aabc"]
    assert protocols(table(*rows)).table["patients"].tolist() == [3]
    assert "patients" not in protocols(table(EPI)).table


def test_protocols_show_themselves() -> None:
    found = protocols(table(*[EPI] * 30, {**EPI, "EchoTime": 40.0}))
    assert "97%  MR 3 T" in repr(found)
    assert "EchoTime 1" in found._repr_html_()
    assert len(protocols(table(EPI).iloc[:0])) == 0


# ---- drift -------------------------------------------------------------------------------------------------


def days_of(first: str, last: str, step: int = 3) -> list[str]:
    return [d.strftime("%Y%m%d") for d in pd.date_range(first, last, freq=f"{step}D")]


def scanner(
    name: str, changed: str | None, before: float = 30.0, after: float = 33.0
) -> list[dict[str, Any]]:
    return [
        {
            "StationName": name,
            "StudyDate": day,
            "SoftwareVersions": "A" if day < "20210615" else "B",
            "EchoTime": before if changed is None or day < changed else after,
        }
        for day in days_of("20210101", "20211231")
    ]


def test_a_change_is_dated_to_the_first_day_of_the_new_value_on_its_scanner() -> None:
    rows = [
        r
        for pair in itertools.zip_longest(scanner("one", "20210517"), scanner("two", None))
        for r in pair
        if r
    ]
    found = drift(table(*rows), "EchoTime")
    first = min(day for day in days_of("20210101", "20211231") if day >= "20210517")
    changes = found.changes[["StationName", "date", "before", "after", "difference"]].to_numpy().tolist()
    assert changes == [["one", pd.Timestamp(first), 30.0, 33.0, 3.0]]
    software = min(day for day in days_of("20210101", "20211231") if day >= "20210615")
    assert found.software["date"].tolist() == [pd.Timestamp(software)] * 2
    assert found.software[["before", "after"]].to_numpy().tolist() == [["A", "B"]] * 2
    assert found.scanners == 2


def test_there_and_back_are_two_changes_and_stray_series_are_none() -> None:
    rows = scanner("one", None)
    for row in rows:
        if "20210401" <= row["StudyDate"] < "20210901":
            row["EchoTime"] = 40.0
    rows[5]["EchoTime"] = 40.0
    found = drift(table(*rows), "EchoTime").changes
    assert found[["before", "after"]].to_numpy().tolist() == [[30.0, 40.0], [40.0, 30.0]]
    assert found["astray"].tolist() == [1, 0]


def test_rounding_is_no_drift_and_what_has_no_date_is_counted() -> None:
    rows = scanner("one", "20210517", 30.0, 30.01)
    rows[3]["StudyDate"] = None
    rows[4]["EchoTime"] = None
    found = drift(table(*rows), "EchoTime")
    assert len(found) == 0
    assert found.unplaced == 2
    assert "0 changes" in repr(found)
    assert "2 series without" in found._repr_html_()


def test_text_drifts_too() -> None:
    rows = [
        {**row, "ConvolutionKernel": "B30f" if row["EchoTime"] == 30 else "Br40"}
        for row in scanner("one", "20210701")
    ]
    found = drift(table(*rows), "ConvolutionKernel", period="week", at_least=2).changes
    assert found[["before", "after"]].to_numpy().tolist() == [["B30f", "Br40"]]


def test_drift_needs_its_columns_and_a_known_period() -> None:
    frame = table(*scanner("one", None))
    with pytest.raises(QueryError, match="no column FlipAngle"):
        drift(frame, "FlipAngle")
    with pytest.raises(ValueError, match="period"):
        drift(frame, "EchoTime", period="hour")  # type: ignore[arg-type]
    assert len(drift(frame.iloc[:0], "EchoTime")) == 0
