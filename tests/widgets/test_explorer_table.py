"""The table of the explorer: its order, its pages, its cells and its marks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from dicomlake.lake import Lake
from dicomlake.widgets.explorer.explorer import Explorer
from tests.widgets.explorer_parts import Asker, Truth

FACETS = ["Modality", "SliceThickness"]


@pytest.fixture
def lake(explored: tuple[Lake, Truth]) -> Lake:
    return explored[0]


def test_the_table_is_in_reading_order_or_sorted_with_nothing_last(explored: tuple[Lake, Truth]) -> None:
    lake, truth = explored
    explorer = Explorer(lake, facets=FACETS, columns=["SeriesInstanceUID", "KVP", "PatientID"])
    asker = Asker(explorer)
    page = asker.ask("state")["page"]
    assert [row[0] for row in page["rows"]] == [one.uid for one in lake.query()]
    rising = asker.ask("sort", path="KVP", descending=False)["rows"]
    falling = asker.ask("sort", path="KVP", descending=True)["rows"]
    order = {one.uid: place for place, one in enumerate(lake.query())}
    kvp = {uid: min(one["KVP"], default=None) for uid, one in truth.items()}
    there = [uid for uid in order if kvp[uid] is not None]
    none = [uid for uid in order if kvp[uid] is None]
    assert none
    assert [row[0] for row in rising] == sorted(there, key=lambda u: (kvp[u], order[u])) + none
    assert [row[0] for row in falling] == sorted(there, key=lambda u: (-float(kvp[u] or 0), order[u])) + none
    by_text = asker.ask("sort", path="PatientID", descending=False)["rows"]
    assert [row[2] for row in by_text] == sorted(row[2] for row in rising)


def test_pages_make_up_the_whole_table(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS, columns=["SeriesInstanceUID"])
    asker = Asker(explorer)
    total, uids, start = len(lake.query()), list[str](), 0
    while start < total:
        page = asker.ask("rows", start=start, count=7)
        assert page["total"] == total
        uids += [row[0] for row in page["rows"]]
        start += 7
    assert uids == [one.uid for one in lake.query()]
    far = asker.ask("rows", start=10**12, count=10**12)
    assert far["rows"] == []
    assert far["start"] == total
    assert len(asker.ask("rows", start=-5, count=10**9)["rows"]) == min(total, 200)


def test_cells_are_those_of_the_cohorts_table(lake: Lake) -> None:
    names = ["Modality", "SliceThickness", "StudyDate", "ImageType", "clinical.trial.ecog", "instances"]
    explorer = Explorer(lake, facets=["SliceThickness"], columns=names)
    rows = Asker(explorer).ask("state")["page"]["rows"]
    table = lake.query().table(*names)
    for row, (_i, wanted) in zip(rows, table.iterrows(), strict=True):
        for cell, name in zip(row, names, strict=True):
            value = wanted[name]
            many = value if isinstance(value, tuple) else (value,)
            texts = {_plain(one) for one in many} - {""}
            assert set(str(cell).split(", ") if cell is not None else []) == texts, name


def _plain(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float | int | np.number) and float(value).is_integer():
        return str(int(value))
    return str(value)


def test_marked_rows_are_a_cohort(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS, columns=["SeriesInstanceUID"])
    page = Asker(explorer).ask("state")["page"]
    explorer.selected_ids = [page["ids"][3], page["ids"][1], 10**9]
    assert {one.uid for one in explorer.selected} == {page["rows"][3][0], page["rows"][1][0]}
