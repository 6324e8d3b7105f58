"""No patient is in two parts, sizes and strata are met, and the same seed gives the same split."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicomlake.cohorts.training.splitting import Split, folds, split
from dicomlake.errors import QueryError

ROWS = st.lists(
    st.tuples(
        st.integers(0, 25), st.sampled_from(["", "A", "B"]), st.integers(0, 60), st.sampled_from("MFO")
    ),
    min_size=1,
    max_size=80,
)


def table_of(rows: list[tuple[int, str, int, str]]) -> pd.DataFrame:
    columns = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID", "PatientSex"]
    found = pd.DataFrame(rows, columns=columns)
    found["PatientID"] = found["PatientID"].map("P{}".format)
    found["StudyInstanceUID"] = found["StudyInstanceUID"].map("1.2.{}".format)
    found["SeriesInstanceUID"] = [f"1.3.{n}" for n in range(len(found))]
    return found


def many(patients: int, series: int = 3) -> pd.DataFrame:
    number = np.repeat(np.arange(patients), series)
    return pd.DataFrame(
        {
            "PatientID": [f"P{n}" for n in number],
            "StudyInstanceUID": [f"1.2.{n}" for n in number],
            "SeriesInstanceUID": [f"1.3.{n}" for n in range(len(number))],
            "PatientSex": np.where(number % 4 == 0, "M", "F"),
            "age": number * 0.5,
        }
    )


def parts(found: Split) -> list[set[int]]:
    return [set(found.positions[name].tolist()) for name in found.names]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.booleans(), st.integers(-5, 5), st.booleans())
def test_no_patient_study_or_series_crosses(rows: list, stable: bool, seed: int, stratified: bool) -> None:  # type: ignore[type-arg]
    table = table_of(rows)
    found = split(table, seed=seed, stable=stable, stratify="PatientSex" if stratified else None)
    sets = parts(found)
    assert set.union(*sets) == set(range(len(table)))
    for one, other in combinations(sets, 2):
        assert not one & other
        for a in one:
            for b in other:
                first, second = rows[a], rows[b]
                assert first[2] != second[2]  # the study
                if first[0] == second[0]:  # one ID crosses only between two issuers that are both named
                    assert "" not in (first[1], second[1])
                    assert first[1] != second[1]
    proof = found.proof()
    assert (proof.filter(like="shared_").to_numpy() == 0).all()
    assert proof["rows"].sum() == len(table)


def test_the_proof_counts_what_crosses_in_a_split_that_is_wrong() -> None:
    table = many(4, series=2)
    good = split(table)
    wrong = Split(
        good.names, good.shares, np.arange(8) % 2, good.group, good.stratum, good.strata, False, table
    )
    proof = wrong.proof()
    assert list(proof.shared_PatientID) == [4, 4, 0]
    assert list(proof.shared_StudyInstanceUID) == [4, 4, 0]
    assert list(proof.shared_SeriesInstanceUID) == [0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(0, 3))
def test_sizes_are_exact_to_one_patient(patients: int, a: int, b: int, c: int, seed: int) -> None:
    shares = np.array([a, b, c]) / (a + b + c)
    train, val = float(shares[0]), float(shares[1])
    found = split(many(patients), train=train, val=val, test=1 - train - val, seed=seed)
    proof = found.proof()
    assert (abs(proof.groups - shares * patients) < 1 + 1e-6).all()
    assert proof.groups[shares == 0].sum() == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 3))
@example([3, 1, 1, 1, 1, 1], 0)
def test_each_stratum_is_shared_out_to_one_patient(sizes: list[int], seed: int) -> None:
    values = [f"S{n}" for n, size in enumerate(sizes) for _ in range(size)]
    table = pd.DataFrame({"PatientID": [f"P{n}" for n in range(len(values))], "site": values})
    found = split(table, train=0.6, val=0.2, test=0.2, stratify="site", seed=seed)
    strata = found.strata_table()
    wanted = np.array(sizes)[:, None] * np.array([0.6, 0.2, 0.2])
    order = [f"S{n}" for n in range(len(sizes))]
    assert (abs(strata.loc[order].to_numpy() - wanted) < 1 + 1e-6).all()
    assert (abs(strata.sum().to_numpy() - len(values) * np.array([0.6, 0.2, 0.2])) < len(sizes) + 1).all()


def test_the_order_of_the_rows_changes_nothing_and_the_seed_does() -> None:
    table = many(40)
    shuffled = table.sample(frac=1, random_state=3)
    one, other = split(table, seed=1), split(shuffled, seed=1)
    by_series = dict(zip(table.SeriesInstanceUID, one.of_rows, strict=True))
    assert [by_series[uid] for uid in shuffled.SeriesInstanceUID] == list(other.of_rows)
    assert list(split(table, seed=2).of_rows) != list(one.of_rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_a_stable_split_moves_nobody_when_patients_are_added(few: int, more: int, seed: int) -> None:
    small, large = split(many(few), seed=seed, stable=True), split(many(few + more), seed=seed, stable=True)
    assert list(large.of_rows[: 3 * few]) == list(small.of_rows)


def test_further_series_of_a_patient_move_nobody() -> None:
    for group in ("PatientID", "StudyInstanceUID"):
        few, more = many(30, series=1), many(30, series=4)
        more["SeriesInstanceUID"] = [f"1.1.{n}" for n in range(len(more))]
        if group != "PatientID":
            few, more = few.drop(columns="PatientID"), more.drop(columns="PatientID")
        for stable in (False, True):
            one, other = (split(table, group=group, stable=stable) for table in (few, more))
            assert list(other.of_rows[::4]) == list(one.of_rows)


def test_a_stable_split_meets_its_shares_on_average() -> None:
    proof = split(many(4000, series=1), train=0.5, val=0.3, test=0.2, stable=True).proof()
    assert list(proof.share) == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_other_patient_ids_link_two_patients() -> None:
    table = pd.DataFrame({"PatientID": [f"P{n}" for n in range(30)]})
    table["OtherPatientIDs"] = [None, "P0", ("P1", "X"), "X\\Y", *[None] * 25, "P28"]
    for seed in range(8):
        found = split(table, seed=seed)
        assert len(found.stratum) == 26
        assert len(set(found.of_rows[:4])) == 1
        assert found.of_rows[28] == found.of_rows[29]


def test_two_issuers_make_two_patients_and_no_issuer_links_them() -> None:
    ids = {"PatientID": ["1", "1", "2"], "IssuerOfPatientID": ["A", "B", "A"]}
    assert len(split(pd.DataFrame(ids)).stratum) == 3
    ids = {"PatientID": ["1", "1", "1"], "IssuerOfPatientID": ["A", "B", None]}
    assert len(split(pd.DataFrame(ids)).stratum) == 1


def test_a_row_without_a_patient_is_refused_and_nobody_is_named() -> None:
    table = pd.DataFrame({"PatientID": ["Doe^Jane", "", None]})
    with pytest.raises(QueryError, match="2 of 3 rows have no PatientID") as caught:
        split(table)
    assert "Doe" not in str(caught.value)
    with pytest.raises(QueryError, match="no column"):
        split(pd.DataFrame({"Modality": ["CT"]}))
    assert "Doe" not in repr(split(pd.DataFrame({"PatientID": ["Doe^Jane"]})))


def test_another_group_keeps_its_values_and_the_patients_together() -> None:
    table = many(30)
    table["site"] = [f"H{n % 7}" for n in range(30) for _ in range(3)]
    table.loc[1, "site"] = "H6"  # the first patient was at H0 and at H6
    found = split(table, group="site", train=0.5, val=0.25, test=0.25)
    assert len(found.stratum) == 6
    for site in table.site.unique():
        assert len(set(found.of_rows[table.site == site])) == 1
    assert (found.proof().shared_PatientID == 0).all()


def test_many_numbers_are_cut_at_their_quartiles() -> None:
    found = split(many(40), stratify="age")
    assert list(found.strata) == ["quarter 1", "quarter 2", "quarter 3", "quarter 4"]
    assert list(found.strata_table().sum(axis=1)) == [10, 10, 10, 10]


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 40), st.integers(2, 5), st.booleans())
def test_each_patient_is_tested_in_exactly_one_fold(patients: int, k: int, stratified: bool) -> None:
    table = many(patients)
    found = folds(table, k, stratify="PatientSex" if stratified else None, seed=3)
    tested = np.sort(np.concatenate([one["test"] for one in found]))
    assert tested.tolist() == list(range(len(table)))
    for one in found:
        assert not set(table.PatientID.iloc[one["train"]]) & set(table.PatientID.iloc[one["test"]])
        assert (one.proof().filter(like="shared_").to_numpy() == 0).all()
        assert abs(len(one["test"]) / 3 - patients / k) < 1 + 1e-6 + stratified


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        split(many(3), train=0.7, val=0.7, test=0.1)
    with pytest.raises(ValueError, match="from 2"):
        folds(many(3), 4)
    with pytest.raises(QueryError, match="stratify"):
        split(many(3), stratify="nothing")
