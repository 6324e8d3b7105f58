"""Keys match values as PS3.4 section C.2.2.2 says, in no more steps than their lengths allow."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.network.matching import is_universal, key_test, matches
from tests.network.questions import plain, wild

_LETTERS = st.text(alphabet="abA*?^=.[\\]() ", max_size=12).filter(lambda text: "\\" not in text)
_VALUES = st.text(alphabet="abA^=.[]() ", max_size=12)
_NAMES = st.text(alphabet="aeEéÉöOß^", min_size=1, max_size=8)
_DAYS = st.dates(date(1, 1, 1), date(9999, 12, 31))
_TIMES = st.times()


def matched(vr: str, key: str, *values: str) -> bool:
    return is_universal(vr, key) or matches(key_test(vr, key), values)


@settings(deadline=None)
@given(_LETTERS, _VALUES)
def test_wildcards_match_what_trying_everything_finds(key: str, value: str) -> None:
    key, value = key.strip(), value.strip()
    if key.strip("*"):
        assert matched("LO", key, value) == wild(key, value)


@settings(deadline=None)
@given(st.text(alphabet="ab*?", min_size=1, max_size=10), st.text(alphabet="ab", min_size=1, max_size=10))
def test_wildcards_match_the_same_in_every_vr_that_has_them(key: str, value: str) -> None:
    found = {matched(vr, key, value) for vr in ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")}
    assert found == {wild(key, value)}


@settings(deadline=None)
@given(_NAMES, _NAMES)
def test_names_are_compared_without_case_and_accents(key: str, value: str) -> None:
    key, value = key.strip("^"), value.strip("^")
    if key:
        assert matched("PN", key, value) == (plain(key) == plain(value))


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("müller^jörg", True),
        ("MULLER^JORG", True),
        ("MULLER*", True),
        ("M?ller^*", True),
        ("MULLER", False),
        ("山田^太郎", True),
        ("山*", True),
        ("=山田*", True),
        ("山田^太郎=*", False),
        ("mul*=山田^太郎", True),
        ("mul*==やまだ^たろう", True),
        ("mul*==やまだ^じろう", False),
        ("MULLER^JORG^^^", True),
    ],
)
def test_each_component_group_of_a_name_is_matched_by_itself(key: str, found: bool) -> None:
    assert matched("PN", key, "Müller^Jörg=山田^太郎=やまだ^たろう") is found


@settings(deadline=None)
@given(_DAYS, _DAYS, _DAYS)
def test_a_range_of_dates_holds_its_ends_and_all_between(low: date, high: date, day: date) -> None:
    told = [f"{d.year:04}{d.month:02}{d.day:02}" for d in (low, high, day)]
    assert matched("DA", f"{told[0]}-{told[1]}", told[2]) == (low <= day <= high)
    assert matched("DA", f"{told[0]}-", told[2]) == (low <= day)
    assert matched("DA", f"-{told[1]}", told[2]) == (day <= high)
    assert matched("DA", told[0], told[2]) == (low == day)


@settings(deadline=None)
@given(_TIMES, _TIMES, _TIMES)
def test_a_range_of_times_holds_its_ends_and_all_between(low: object, high: object, at: object) -> None:
    told = [f"{t:%H%M%S.%f}" for t in (low, high, at)]
    assert matched("TM", f"{told[0]}-{told[1]}", told[2]) == (low <= at <= high)  # type: ignore[operator]
    assert matched("TM", f"{told[0]}-", told[2]) == (low <= at)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("vr", "key", "value", "found"),
    [
        ("TM", "10", "103000", True),
        ("TM", "1030", "103059.999999", True),
        ("TM", "1030", "103100", False),
        ("TM", "103000", "10:30:00", True),
        ("TM", "10-11", "115959", True),
        ("TM", "10-11", "120000", False),
        ("TM", "103000-", "1030", True),
        ("DA", "20240229", "2024.02.29", True),
        ("DA", "2024", "20240229", True),
        ("DA", "20240101-20241231", "", False),
        ("DA", "20240101-20241231", "2024", False),
        ("DA", "none", "20240229", False),
        ("DT", "20240229", "20240229103000", True),
        ("DT", "20240229-", "20240301", True),
        ("DT", "-20240229", "20240229235959", True),
        ("DT", "-20240229", "20240301000000", False),
        ("DT", "20240229100000-0500-20240229110000-0500", "20240229153000+0000", True),
        ("DT", "20240229100000-0500-20240229110000-0500", "20240229103000+0000", False),
        ("IS", "7", "007", True),
        ("IS", "7", "70", False),
        ("DS", "0.5", ".50", True),
        ("US", "512", "512", True),
        ("AS", "062Y", "062Y", True),
        ("UI", "1.2.3\\1.2.4", "1.2.4", True),
        ("UI", "1.2.3", "1.2.34", False),
        ("UI", "1.2.*", "1.2.3", False),
        ("CS", "ct", "CT", False),
        ("CS", "CT\\MR", "MR", True),
        ("LO", "a[b]*", "a[b]c", True),
        ("AT", "(0018,0081)", "00180081", True),
    ],
)
def test_a_key_means_what_its_vr_says(vr: str, key: str, value: str, found: bool) -> None:
    assert matched(vr, key, value) is found


@settings(deadline=None)
@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(-12, 14), st.integers(-12, 14))
def test_moments_are_compared_where_their_offsets_are_taken_off(at: datetime, one: int, other: int) -> None:
    at = at.replace(microsecond=0)
    here, there = (at.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=h))) for h in (one, other))
    assert matched("DT", f"{here:%Y%m%d%H%M%S%z}", f"{there:%Y%m%d%H%M%S%z}")
    later = there + timedelta(seconds=1)
    assert not matched("DT", f"{here:%Y%m%d%H%M%S%z}", f"{later:%Y%m%d%H%M%S%z}")


@pytest.mark.parametrize("vr", ["LO", "PN", "UI", "DA", "TM", "IS"])
def test_an_empty_key_matches_what_has_no_value(vr: str) -> None:
    assert is_universal(vr, "")
    assert is_universal(vr, " \0")
    assert not matched(vr, "20240101")


def test_a_star_alone_matches_what_has_no_value_and_a_question_mark_does_not() -> None:
    assert matched("LO", "*")
    assert matched("LO", "**")
    assert not matched("LO", "?")
    assert not matched("LO", "?*")


@pytest.mark.parametrize("vr", ["LO", "PN"])
def test_a_pattern_of_many_stars_ends_soon(vr: str) -> None:
    key, value = "*a" * 2000 + "b", "a" * 20_000
    begun = time.perf_counter()
    assert not matched(vr, key, value)
    assert time.perf_counter() - begun < 5
