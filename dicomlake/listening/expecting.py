"""What a series will hold, as MPPS, commitment requests or people said it."""

from __future__ import annotations

from dicomlake.catalog import network
from dicomlake.catalog.catalog import Catalog
from dicomlake.listening.tracked import Expectation, Expected
from dicomlake.records import SeriesKey


def from_catalog(catalog: Catalog) -> Expected:
    """Looks up what was noted of a series by `catalog.network.add_expectation`."""

    def expected(key: SeriesKey) -> Expectation | None:
        with catalog.read() as view:
            found = network.expectations(view, series_uid=key.series_uid)
        return combined([one for one in found if one.study_uid in ("", key.study_uid)])

    return expected


def combined(said: list[network.Expectation]) -> Expectation | None:
    """One expectation of all that was said of a series.

    Named instances add up, as several procedure steps may each make some of a series. Numbers without names
    are several words for the same thing: the greatest counts, and only where nobody named any.
    """
    named = [one for one in said if one.missing or (one.count and one.source != "told")]
    if named:
        missing = frozenset(uid for one in named for uid in one.missing)
        return Expectation(sum(one.count or 0 for one in named), 0, missing, named=True)
    counted = [one for one in said if one.count is not None]
    if not counted:
        return None
    most = max(counted, key=lambda one: one.count or 0)
    return Expectation(most.count, most.received)
