"""Visits and the chosen one of each patient, against loops over the rows."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.cohorts.telling.following import followed_by
from dicomlake.cohorts.telling.visits import nearest, per_patient, visits
from dicomlake.errors import QueryError

DATES = ("20200101", "20200101", "20200102", "20200229", "20200229", "20210301", None, "2020-13-45")
TIMES = ("080000", "0800", "093000.5", "235959.25", None)
BASE = datetime.date(1970, 1, 1)


def row(patient: str | None, study: str, date: Any, time: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "PatientID": patient,
        "IssuerOfPatientID": "",
        "StudyInstanceUID": study,
        "StudyDate": date,
        "StudyTime": time,
        "Modality": "CT",
        **more,
    }


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        list(rows),
        columns=list(row("", "", "")) + sorted({k for r in rows for k in r} - set(row("", "", ""))),
    )


@st.composite
def tables(draw: st.DrawFn, size: int = 14) -> pd.DataFrame:
    """Series of a few studies of a few patients, interleaved."""
    known = [
        row(
            draw(st.sampled_from(["a", "a", "a", "b", None])),
            f"1.{n}",
            draw(st.sampled_from(DATES)),
            draw(st.sampled_from(TIMES)),
            IssuerOfPatientID=draw(st.sampled_from(["", "", "", "x"])),
        )
        for n in range(5)
    ]
    chosen = draw(st.lists(st.sampled_from(range(5)), min_size=size // 2, max_size=size))
    return table(*({**known[n], "Modality": draw(st.sampled_from(["CT", "PT"]))} for n in chosen))


def slow_day(date: Any) -> int | None:
    try:
        return (datetime.datetime.strptime(str(date), "%Y%m%d").date() - BASE).days
    except ValueError:
        return None


def slow_second(time: Any) -> float | None:
    if not isinstance(time, str):
        return None
    head = time[:6].ljust(6, "0")
    return int(head[:2]) * 3600 + int(head[2:4]) * 60 + int(head[4:]) + float(time[6:] or 0)


def slow_courses(frame: pd.DataFrame) -> dict[Any, list[tuple[Any, list[int]]]]:
    """For each patient its (sort key, rows) a study, in order."""
    found: dict[Any, dict[str, list[int]]] = {}
    keys: dict[tuple[Any, str], Any] = {}
    for at, one in enumerate(frame.to_dict("records")):
        who = (
            (one["PatientID"], one["IssuerOfPatientID"])
            if one["PatientID"] in ("a", "b")
            else one["StudyInstanceUID"]
        )
        found.setdefault(who, {}).setdefault(one["StudyInstanceUID"], []).append(at)
        day, second = slow_day(one["StudyDate"]), slow_second(one["StudyTime"])
        keys[who, one["StudyInstanceUID"]] = (
            (day is None, day, second is None, second or 0) if day is not None else (True, None, True, 0)
        )
    return {
        who: sorted(
            ((keys[who, study], rows) for study, rows in studies.items()),
            key=lambda one: (one[0][0], one[0][1] or 0, one[0][2], one[0][3], one[1][0]),
        )
        for who, studies in found.items()
    }


@settings(deadline=None, max_examples=80)
@given(tables(), st.sampled_from([0, 1, 60]))
def test_visits_are_those_of_a_loop_over_the_studies(frame: pd.DataFrame, gap: int) -> None:
    expected = []
    for studies in slow_courses(frame).values():
        dated = [(key[1], rows) for key, rows in studies if not key[0]]
        groups: list[list[tuple[int, list[int]]]] = []
        for day, rows in dated:
            if groups and day - groups[-1][-1][0] <= gap:
                groups[-1].append((day, rows))
            else:
                groups.append([(day, rows)])
        for number, group in enumerate(groups, 1):
            held = [at for _, rows in group for at in rows]
            since = group[0][0] - groups[number - 2][0][0] if number > 1 else None
            modalities = tuple(sorted(set(frame["Modality"].iloc[held])))
            expected.append((number, group[0][0] - groups[0][0][0], since, len(group), len(held), modalities))
        expected += [
            (None, None, None, 1, len(rows), tuple(sorted(set(frame["Modality"].iloc[rows]))))
            for key, rows in studies
            if key[0]
        ]
    found = visits(frame, gap_days=gap)
    shown = found[["visit", "days", "days_since_previous", "studies", "series", "modalities"]].astype(object)
    assert [
        tuple(None if one is pd.NA else one for one in r) for r in shown.itertuples(index=False)
    ] == expected
    assert found["dated"].tolist() == [one[0] is not None for one in expected]


@settings(deadline=None, max_examples=80)
@given(tables(), st.sampled_from(["first", "last"]), st.sampled_from(["study", "series"]))
def test_first_and_last_are_those_of_a_loop(frame: pd.DataFrame, which: Any, level: Any) -> None:
    expected = []
    for studies in slow_courses(frame).values():
        usable = [rows for key, rows in studies if not key[0] or len(studies) == 1]
        if usable:
            rows = usable[0 if which == "first" else -1]
            expected += rows if level == "study" else [rows[0 if which == "first" else -1]]
    assert per_patient(frame, which, level=level).tolist() == sorted(expected)


@settings(deadline=None, max_examples=80)
@given(
    tables(),
    st.sampled_from(["20200103", "20200229", "20201230"]),
    st.sampled_from([None, 0, 30]),
    st.sampled_from(["before", "after", "either"]),
)
def test_the_nearest_study_is_that_of_a_loop(frame: pd.DataFrame, date: str, within: Any, side: Any) -> None:
    goal = slow_day(date)
    assert goal is not None
    expected: list[int] = []
    for studies in slow_courses(frame).values():
        near = [
            (abs(key[1] - goal), n, rows)
            for n, (key, rows) in enumerate(studies)
            if not key[0]
            and (within is None or abs(key[1] - goal) <= within)
            and {"before": key[1] <= goal, "after": key[1] >= goal, "either": True}[side]
        ]
        expected += min(near)[2] if near else []
    assert per_patient(frame, nearest(date, within_days=within, side=side)).tolist() == sorted(expected)


def test_nearest_takes_a_date_of_each_patient_from_a_mapping_or_a_column() -> None:
    frame = table(
        row("a", "1.1", "20200101"),
        row("a", "1.2", "20200201"),
        row("b", "1.3", "20200101"),
        row("b", "1.4", "20200201"),
        row("c", "1.5", "20200201"),
    )
    dates = {"a": "20200110", ("b", ""): datetime.date(2020, 1, 30)}
    assert per_patient(frame, nearest(dates)).tolist() == [0, 3]
    assert per_patient(frame, nearest(pd.Series({"a": "20200110", "b": None}))).tolist() == [0]
    frame["clinical.surgery"] = ["20200131", "20200131", "20200102", "20200102", None]
    assert per_patient(frame, nearest("clinical.surgery")).tolist() == [1, 2]
    assert (nearest("clinical.surgery").column, nearest("20200101").column, nearest(dates).column) == (
        "clinical.surgery",
        None,
        None,
    )
    with pytest.raises(QueryError, match="a column of the table"):
        per_patient(frame, nearest("clinical.surgeon"))


def test_on_one_day_a_study_with_a_time_comes_before_one_without() -> None:
    frame = table(row("a", "1.1", "20200101"), row("a", "1.2", "20200101", "235959.9"))
    assert per_patient(frame, "first").tolist() == [1]
    assert per_patient(frame, "last").tolist() == [0]


def test_the_day_itself_is_on_both_sides_of_a_date() -> None:
    frame = table(row("a", "1.1", "20200101"), row("a", "1.2", "20200103"), row("a", "1.3", "20200105"))
    assert per_patient(frame, nearest("20200103", side="before")).tolist() == [1]
    assert per_patient(frame, nearest("20200103", side="after")).tolist() == [1]
    assert per_patient(frame, nearest("20200104", side="before")).tolist() == [1]
    assert per_patient(frame, nearest("20200104", side="after")).tolist() == [2]


def test_series_of_one_day_are_one_pair_in_either_order() -> None:
    one, other = (table(row("a", f"1.{n}", "20200101", "10")) for n in (1, 2))
    assert followed_by(one, other, within_days=5, order="either").table.to_numpy().tolist() == [[0, 0, 0]]


def test_all_series_of_the_first_visit_are_taken_over_its_studies() -> None:
    frame = table(row("a", "1.1", "20200101"), row("a", "1.2", "20200103"), row("a", "1.3", "20200301"))
    assert per_patient(frame, "first", level="visit", gap_days=3).tolist() == [0, 1]
    assert per_patient(frame, "first", level="visit").tolist() == [0]


def test_a_study_is_dated_by_the_earliest_of_its_dates() -> None:
    frame = table(row("a", "1.1", ("20200105", "20200103")), row("a", "1.1", datetime.date(2020, 1, 4)))
    assert visits(frame)["StudyDate"].tolist() == [pd.Timestamp("2020-01-03")]
    frame["StudyDate"] = pd.to_datetime(["2020-02-03", "2020-02-01"])
    assert visits(frame)["StudyDate"].tolist() == [pd.Timestamp("2020-02-01")]


def test_a_table_without_a_needed_column_is_refused_with_its_name() -> None:
    frame = table(row("a", "1.1", "20200101"))
    with pytest.raises(QueryError, match="no column StudyInstanceUID"):
        visits(frame.drop(columns="StudyInstanceUID"))
    with pytest.raises(QueryError, match="no column StudyDate"):
        visits(frame.drop(columns="StudyDate"))
    with pytest.raises(ValueError, match="gap_days"):
        visits(frame, gap_days=-1)
    for wrong in ({"which": "second"}, {"which": "first", "level": "instance"}):
        with pytest.raises(ValueError, match="is '"):
            per_patient(frame, **wrong)  # type: ignore[arg-type]


def test_no_repr_holds_a_date_or_a_patient() -> None:
    assert "Duck" not in repr(nearest({"Duck^Donald": "20200101"}))
    assert "2020" not in repr(nearest("20200101", within_days=3))


# ---- pairs -------------------------------------------------------------------------------------------------


def slow_pairs(a: pd.DataFrame, b: pd.DataFrame, low: int, high: int, order: str) -> tuple[set[Any], int]:
    found, undecided = set(), 0
    sides = [list(enumerate(frame.to_dict("records"))) for frame in (a, b)]
    for (i, one), (j, other) in itertools.product(*sides):
        same = one["PatientID"] in ("a", "b") and one["PatientID"] == other["PatientID"]
        first, second = slow_day(one["StudyDate"]), slow_day(other["StudyDate"])
        if (
            not same
            or one["IssuerOfPatientID"] != other["IssuerOfPatientID"]
            or first is None
            or second is None
        ):
            continue
        if one["SeriesInstanceUID"] == other["SeriesInstanceUID"] or not low <= abs(second - first) <= high:
            continue
        times = slow_second(one["StudyTime"]), slow_second(other["StudyTime"])
        if order != "either" and first == second:
            if None in times:
                undecided += 1
                continue
            later, before = times[1] > times[0], times[1] < times[0]  # type: ignore[operator]
        else:
            later, before = second > first, second < first
        if {"later": later, "before": before, "either": True}[order]:
            found.add((i, j, second - first))
    return found, undecided


@settings(deadline=None, max_examples=120)
@given(
    tables(20),
    st.sets(st.integers(0, 19)),
    st.sets(st.integers(0, 19)),
    st.sampled_from([(0, 0), (0, 4), (1, 60), (3, 3), (0, 9999)]),
    st.sampled_from(["later", "before", "either"]),
)
def test_pairs_are_those_of_two_loops(
    frame: pd.DataFrame, of_a: set[int], of_b: set[int], days: tuple[int, int], order: Any
) -> None:
    frame["SeriesInstanceUID"] = [f"2.{n}" for n in range(len(frame))]
    a, b = (
        frame.iloc[[n for n in sorted(of) if n < len(frame)]].reset_index(drop=True) for of in (of_a, of_b)
    )
    found = followed_by(a, b, at_least_days=days[0], within_days=days[1], order=order)
    expected, undecided = slow_pairs(a, b, *days, order)
    listed = list(found.table[["a", "b", "days"]].itertuples(index=False, name=None))
    assert len(listed) == len(set(listed))
    assert set(listed) == expected
    assert found.undecided == undecided
    assert found.a.tolist() == sorted({i for i, _, _ in expected})
    assert found.b.tolist() == sorted({j for _, j, _ in expected})
    assert found.undated == tuple(sum(slow_day(d) is None for d in t["StudyDate"]) for t in (a, b))


def test_pairs_may_have_to_agree_in_a_column_or_the_study() -> None:
    a = table(
        row("a", "1.1", "20200101", "08", BodyPartExamined="CHEST", SeriesDate="20200101", SeriesTime="0801")
    )
    later = [
        ("1.1", "CHEST", "0830"),
        ("1.2", "CHEST", "0900"),
        ("1.2", "HEAD", "0930"),
        ("1.2", None, "0800"),
    ]
    b = table(
        *(
            row("a", s, "20200101", "08", BodyPartExamined=part, SeriesDate="20200101", SeriesTime=time)
            for s, part, time in later
        )
    )
    by = {"within_days": 1, "date": "SeriesDate"}
    assert followed_by(a, b, **by).b.tolist() == [0, 1, 2]  # type: ignore[arg-type]
    assert followed_by(a, b, same="BodyPartExamined", **by).b.tolist() == [0, 1]  # type: ignore[arg-type]
    assert followed_by(a, b, same="study", **by).b.tolist() == [0]  # type: ignore[arg-type]
    assert len(followed_by(a, b, within_days=1)) == 0  # by StudyTime all began together


def test_the_nearest_pair_of_each_is_the_one_with_the_fewest_days() -> None:
    a = table(row("a", "1.1", "20200110"))
    b = table(row("a", "1.2", "20200101"), row("a", "1.3", "20200112"), row("a", "1.4", "20200108"))
    pairs = followed_by(a, b, within_days=30, order="either")
    assert pairs.nearest().values.tolist() == [[0, 1, 2]]
    assert "1 series and 3 others" in repr(pairs)
    assert pairs._repr_html_().startswith("<div>")


def test_an_empty_cohort_has_neither_visits_nor_pairs() -> None:
    empty = table()
    assert len(visits(empty)) == len(per_patient(empty, "last")) == 0
    assert len(followed_by(empty, table(row("a", "1.1", "20200101")), within_days=3)) == 0


def test_a_pair_needs_a_span_that_makes_sense() -> None:
    one = table(row("a", "1.1", "20200101"))
    with pytest.raises(ValueError, match="at_least_days"):
        followed_by(one, one, within_days=1, at_least_days=2)
    with pytest.raises(ValueError, match="order is"):
        followed_by(one, one, within_days=1, order="after")  # type: ignore[arg-type]


def test_positions_are_whole_numbers_that_index_a_cohort() -> None:
    found = per_patient(table(row("a", "1.1", "20200101")), "first")
    assert found.dtype == np.int64
