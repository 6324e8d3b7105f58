"""Facet counts and reading order equal what pandas counts in the same rows, whatever was chosen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dicomlake.catalog import ordering, rows, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.facets import counts, facets
from dicomlake.catalog.histogram import binned
from dicomlake.catalog.mirror import Mirror
from dicomlake.catalog.mirror import parts as mirror_parts
from dicomlake.catalog.mirror import state as mirror_state
from dicomlake.errors import QueryError

TEXT = ("Modality", "Manufacturer", "BodyPartExamined", "PatientSex", "SeriesDescription")
NUMBERS = ("SliceThickness", "KVP", "PatientAge", "Rows")


class Made:
    """A catalog with rows of series alone, and their mirror."""

    def __init__(self, folder: Path) -> None:
        self.catalog = Catalog.open(folder / "catalog.sqlite")
        self.mirror = Mirror(self.catalog, folder / "mirror")
        self._luck = random.Random(4)
        self._number = 0

    def add(self, count: int) -> None:
        with self.catalog.change("test") as (view, v):
            rows.add(view, schema.series, v, [self._row() for _ in range(count)])

    def close_some(self, count: int) -> None:
        with self.catalog.change("test") as (view, v):
            held = list(view.execute(schema.current(schema.series)).mappings())
            rows.close(view, schema.series, v, self._luck.sample(held, count))

    def table(self) -> pd.DataFrame:
        """What pandas counts: the rows of the catalog."""
        with self.catalog.read() as view:
            held = [dict(row) for row in view.execute(schema.current(schema.series)).mappings()]
        columns = [column.name for column in schema.series.c]
        return pd.DataFrame(held, columns=columns).astype(object).set_index("id", drop=False)

    def _row(self) -> dict[str, Any]:
        luck = self._luck
        self._number += 1
        row: dict[str, Any] = dict.fromkeys(schema.SERIES_COLUMNS)
        row |= {
            "SeriesInstanceUID": f"1.2.{self._number}",
            "StudyInstanceUID": f"1.3.{luck.randrange(30)}",
            "IssuerOfPatientID": "",
            "PatientID": luck.choice(["a", "b", "B", "ä", ""]),
            "StudyDate": luck.choice([None, "20231231", "20240101", "20240229", "19991231", "odd"]),
            "SeriesNumber": luck.choice([None, -1, 1, 10, 2]),
            "Modality": luck.choice(["CT", "CT", "MR", "PT", None]),
            "Manufacturer": luck.choice(["A", "b", "", None, "Ünïcode", "'quoted\"", "with\\slash", "a|b"]),
            "BodyPartExamined": luck.choice(["CHEST", "HEAD", None]),
            "PatientSex": luck.choice(["M", "F", "O", None]),
            "SeriesDescription": f"series {luck.randrange(300)}",
            "SliceThickness": luck.choice([None, 0.625, 1.0, 1.25, 2.5, 1e-7, 5]),
            "KVP": luck.choice([None, 80.0, 120.0]),
            "PatientAge": luck.choice([None, *(i + 0.5 for i in range(95))]),
            "Rows": luck.choice([512, 256, None]),
            "instances": luck.randrange(1, 500),
            "bytes": luck.randrange(2**40),
        }
        return row


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """An empty catalog."""
    found = Made(tmp_path)
    yield found
    found.mirror.close()
    found.catalog.close()


@pytest.fixture
def full(made: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Series in a large part, some of them closed since, and in two small ones."""
    monkeypatch.setattr(mirror_state, "SMALL", 50)
    monkeypatch.setattr(mirror_parts, "SMALL", 50)
    made.add(700)
    made.mirror.session()
    for _ in range(2):
        made.add(30)
        made.close_some(25)
        made.mirror.session()
    held = made.mirror.session().state.held("series")
    assert sorted(part.small for part in held.parts) == [False, True, True]
    assert held.closed
    return made


def missing_none(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.where(values.notna(), None)


def brute(table: pd.DataFrame, selected: dict[str, Any], own: str) -> pd.DataFrame:
    """The rows that meet the choices in all facets but one."""
    for name, wanted in selected.items():
        if name != own:
            met = [_meets(name, value, wanted) for value in missing_none(table[name])]
            table = table[np.array(met, dtype=bool)]
    return table


def _meets(name: str, value: Any, wanted: Any) -> bool:
    value = None if value is None or value != value else value
    if isinstance(wanted, list | set):
        return any(_meets(name, value, one) for one in wanted)
    if wanted is None or value is None:
        return wanted is None and value is None
    if isinstance(wanted, tuple):
        low, high = wanted
        return (low is None or value >= low) and (high is None or value <= high)
    return value.startswith(wanted) if name.endswith("Date") else value == wanted


SELECTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"Modality": "CT"},
    {"Modality": ["CT", None], "PatientSex": {"M", "F"}},
    {"Modality": None, "SliceThickness": (1, 2.5)},
    {"SliceThickness": (None, 1.25), "KVP": 120, "Manufacturer": "'quoted\""},
    {"StudyDate": "2024", "PatientAge": (20.5, None), "Rows": 512},
    {"StudyDate": ["202402", "odd"], "Manufacturer": ["", "Ünïcode", "a|b"]},
    {"Modality": "XX"},
    {"SeriesDescription": ["series 1", "series 2", "no such"]},
)


@pytest.mark.parametrize("among", ["all", "some", "few", "none", "unknown"])
@pytest.mark.parametrize("selected", SELECTIONS)
def test_counts_equal_those_of_pandas(full: Made, selected: dict[str, Any], among: str) -> None:
    table = full.table()
    ids = {
        "all": None,
        "some": table["id"].to_numpy(dtype=np.int64)[::-2],
        "few": [int(i) for i in table["id"][:3]],
        "none": [],
        "unknown": np.array([-5, 10**12, int(table["id"].iloc[0])]),
    }[among]
    if ids is not None:
        table = table[table["id"].isin(list(ids))]
    found = counts(full.mirror.session(), (*TEXT, *NUMBERS, "StudyDate"), selected, ids)
    for name, counted in found.items():
        rest = missing_none(brute(table, selected, name)[name])
        true: dict[Any, int] = {}
        for value in rest:
            value = None if value is None or value != value else value
            true[value] = true.get(value, 0) + 1
        assert counted == true, name


def test_facets_stay_right_while_series_come_and_go(full: Made) -> None:
    for step in range(4):
        full.add(step * 40)
        full.close_some(20)
        counted = counts(full.mirror.session(), ["Modality"])["Modality"]
        true = missing_none(full.table()["Modality"]).value_counts(dropna=False)
        assert counted == {None if k != k else k: v for k, v in true.items()}


def test_another_process_maps_the_same_codes(full: Made) -> None:
    """Codes are made once; a second mirror of the same folder writes nothing."""
    first = counts(full.mirror.session(), TEXT, {"Modality": "CT"})
    folder = full.mirror.files.own
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert any("~Modality" in path.name for path in before)
    second = Mirror(full.catalog, folder)
    assert counts(second.session(), TEXT, {"Modality": "CT"}) == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    second.close()


def test_an_empty_lake_has_empty_facets(made: Made) -> None:
    found = facets(made.mirror.session(), ["Modality", "KVP", "StudyDate"], selected={"KVP": 80})
    assert [(f.values, f.counts.tolist(), f.missing) for f in found.values()] == [((), [], 0)] * 3


def test_a_text_facet_lists_the_most_frequent_and_counts_the_rest(full: Made) -> None:
    found = facets(full.mirror.session(), ["SeriesDescription"], top=10)["SeriesDescription"]
    true = full.table()["SeriesDescription"].value_counts()
    assert len(found.values) == 10
    assert found.counts.tolist() == sorted(true, reverse=True)[:10]
    assert all(true[value] == count for value, count in zip(found.values, found.counts, strict=True))
    assert found.others == len(full.table()) - found.counts.sum()
    assert found.distinct == len(true)


def test_dates_count_by_year_and_by_month(full: Made) -> None:
    found = facets(full.mirror.session(), ["StudyDate", "StudyDate.month"])
    dates = full.table()["StudyDate"].dropna()
    for name, length in (("StudyDate", 4), ("StudyDate.month", 6)):
        true = dates.str[:length].value_counts().sort_index()
        assert dict(zip(found[name].values, found[name].counts.tolist(), strict=True)) == true.to_dict()
        assert list(found[name].values) == sorted(found[name].values)
        assert found[name].missing == full.table()["StudyDate"].isna().sum()


def test_a_bin_chosen_gives_the_series_it_counted(full: Made) -> None:
    """Bins are closed ranges of values that occur, so a query by one of them finds the same number."""
    session = full.mirror.session()
    found = facets(session, ["PatientAge"])["PatientAge"]
    assert 8 <= len(found.values) <= 24
    for pair, count in zip(found.values, found.counts.tolist(), strict=True):
        chosen = facets(session, ["Modality"], selected={"PatientAge": pair})["Modality"]
        assert chosen.counts.sum() + chosen.missing == count
    assert found.counts.sum() + found.missing == len(full.table())


def test_edges_stay_while_a_choice_is_made(full: Made) -> None:
    session = full.mirror.session()
    whole = facets(session, ["PatientAge"])["PatientAge"]
    part = facets(session, ["PatientAge"], selected={"Modality": "MR"})["PatientAge"]
    assert part.edges == whole.edges
    assert part.values == whole.values
    assert 0 < part.counts.sum() < whole.counts.sum()


@pytest.mark.parametrize("spread", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize("seed", range(5))
def test_bins_hold_each_value_once_between_round_edges(seed: int, spread: float) -> None:
    luck = np.random.default_rng(seed)
    values = np.unique(luck.normal(size=400)) * spread
    every = luck.integers(1, 50, size=len(values))
    bins, totals, edges = binned(luck.permutation(values), every, every)
    assert totals.sum() == every.sum()
    assert [low for low, _ in bins] == sorted(low for low, _ in bins)
    assert all(high < low for (_, high), (low, _) in pairwise(bins))
    steps = np.diff(edges)
    assert np.allclose(steps, steps[0])
    assert 8 <= len(edges) <= 30


def test_names_and_ranges_that_mean_nothing_are_refused(full: Made) -> None:
    session = full.mirror.session()
    with pytest.raises(QueryError, match="no facet 'PatientName'"):
        facets(session, ["PatientName"])
    for wanted in ((1, 2, 3), ("a", "b")):
        with pytest.raises(QueryError, match="KVP: "):
            facets(session, ["Modality"], selected={"KVP": wanted})


# ---- reading order ----------------------------------------------------------------------------------


def in_order(table: pd.DataFrame) -> list[int]:
    """By plain Python: text by code points, no date and no number before others as the catalog has it."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        number = row["SeriesNumber"]
        number = 0 if number is None or number != number else number
        date = row["StudyDate"] if isinstance(row["StudyDate"], str) else ""
        return row["PatientID"], date, row["StudyInstanceUID"], number, row["SeriesInstanceUID"]

    return [row["id"] for row in sorted(table.to_dict("records"), key=key)]


@pytest.mark.parametrize("few", [10_000, 5])
def test_series_come_in_reading_order(full: Made, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(ordering, "_FEW", few)
    session, table = full.mirror.session(), full.table()
    luck = random.Random(1)
    for size in (len(table), 100, 7, 1, 0):
        ids = luck.sample(table["id"].tolist(), size)
        true = in_order(table[table["id"].isin(ids)])
        assert ordering.order(session, ids).tolist() == true
        assert ordering.top(session, np.array(ids, dtype=np.int64), 5).tolist() == true[:5]
    full.add(20)
    table = full.table()
    assert ordering.order(full.mirror.session(), table["id"].tolist()).tolist() == in_order(table)


def test_ids_of_closed_series_are_left_out_of_the_order(full: Made) -> None:
    closed = full.mirror.session().state.held("series").closed
    assert ordering.order(full.mirror.session(), [*closed, 10**9]).tolist() == []
