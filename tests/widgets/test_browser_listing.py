"""The tree of a query: numbers against a brute-force grouping, and pages of a lake of a million series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dicomlake.widgets.base import Refusal
from dicomlake.widgets.browser.listing import MOST_ROWS, SORTS, Listing, Order
from tests.widgets.browsed import FakeLake


def _order(seed: int = 0, count: int = 400) -> Order:
    """An invented lake: ids are mixed up, studies belong to patients, days to studies."""
    rng = np.random.default_rng(seed)
    patient = np.sort(rng.integers(0, 40, count))
    study = patient * 10 + np.sort(rng.integers(0, 4, count))
    order = np.lexsort((study,))
    patient, study = patient[order], study[order]
    day = 20200101 + study % 17 * 3
    return Order(rng.permutation(count) + 1000, patient, study, day, rng.integers(1, 1000, count))


def _children(listing: Listing, level: str, of: int, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        page = listing.page(level, of, len(found), 7)
        assert page
        found += page
    return found


def _walked(listing: Listing) -> list[tuple[int, int, int]]:
    """(patient number, study number, id) of every series, by walking the pages."""
    return [
        (patient["at"], study["at"], series["id"])
        for patient in _children(listing, "patients", 0, listing.counts()["patients"])
        for study in _children(listing, "studies", patient["at"], patient["children"])
        for series in _children(listing, "series", study["at"], study["children"])
    ]


@pytest.mark.parametrize("sort", SORTS)
def test_pages_walk_every_series_once_and_keep_patients_and_studies_together(sort: Any) -> None:
    order = _order()
    chosen = order.ids[np.random.default_rng(1).permutation(len(order.ids))[:150]]
    walked = _walked(Listing(order, np.sort(chosen), sort))
    assert sorted(i for _, _, i in walked) == sorted(chosen.tolist())
    of_id = {int(i): (int(p), int(s)) for i, p, s in zip(order.ids, order.patient, order.study, strict=True)}
    patients = [of_id[i][0] for _, _, i in walked]
    studies = [of_id[i] for _, _, i in walked]
    for groups in (patients, studies):
        runs = [g for n, g in enumerate(groups) if n == 0 or groups[n - 1] != g]
        assert len(runs) == len(set(runs))


def _firsts(keys: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(keys))


def test_the_newest_patient_and_study_come_first_when_sorted_by_date() -> None:
    order = _order()
    listing = Listing(order, None, "date")
    rows = _children(listing, "patients", 0, listing.counts()["patients"])
    newest = {int(p): int(order.day[order.patient == p].max()) for p in set(order.patient.tolist())}
    assert [row["day"] for row in rows] == sorted(newest.values(), reverse=True)
    of_id = dict(zip(order.ids.tolist(), zip(order.study, order.day, strict=True), strict=True))
    for row in rows:
        studies = _children(listing, "studies", row["at"], row["children"])
        days = [int(of_id[one["id"]][1]) for one in studies]
        assert days == sorted(days, reverse=True)


def test_the_largest_come_first_when_sorted_by_size() -> None:
    order = _order()
    listing = Listing(order, None, "size")
    rows = _children(listing, "patients", 0, listing.counts()["patients"])
    sizes = [int(order.size[order.patient == p].sum()) for p in set(order.patient.tolist())]
    assert [row["bytes"] for row in rows] == sorted(sizes, reverse=True)


def test_a_page_is_never_longer_than_agreed_and_never_outside() -> None:
    order = _order(count=5000)
    listing = Listing(order, None)
    study = max(
        (row for p in range(listing.counts()["patients"]) for row in listing.page("studies", p, 0, 200)),
        key=lambda row: row["series"],
    )
    assert len(listing.page("series", study["at"], 0, 10**9)) <= MOST_ROWS
    assert listing.page("patients", 0, 10**9, 100) == []
    with pytest.raises(Refusal, match="not in this list"):
        listing.page("series", 10**9, 0, 1)
    with pytest.raises(Refusal, match="no level"):
        listing.page("frames", 0, 0, 1)


def test_too_many_chosen_one_by_one_are_refused_and_name_the_way() -> None:
    listing = Listing(_order(), None)
    assert listing.ids_in([(3, 5), (-10, 1)], 500).tolist() == [*listing.ids[3:5], listing.ids[0]]
    with pytest.raises(Refusal, match="Select all matching"):
        listing.ids_in([(0, 10**12)], 300)


def test_an_empty_lake_lists_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)
    listing = Listing(Order(none, none, none, none, none), None, "date")
    assert listing.counts() == {"patients": 0, "studies": 0, "series": 0}
    assert listing.page("patients", 0, 0, 10) == []


def test_ids_that_the_order_does_not_hold_are_left_out() -> None:
    order = _order()
    wanted = np.array([5, int(order.ids[3]), 10**9])
    assert Listing(order, wanted).ids.tolist() == [int(order.ids[3])]


def test_a_million_series_are_listed_by_their_numbers_alone() -> None:
    lake = FakeLake(patients=50_000, per_patient=20)
    order = Order.read(lake)  # type: ignore[arg-type]
    listing = Listing(order, None, "date")
    assert listing.counts()["series"] == 1_000_000
    page = listing.page("patients", 0, 25_000, 100)
    assert len(page) == 100
    assert sum(len(rows) for rows in lake.served) == 0  # no word of any series was read
