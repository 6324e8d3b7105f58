"""DA, TM and DT become seconds that order as the moments do, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.dicom.times import seconds, seconds_of_datetime

MOMENTS = st.datetimes(min_value=datetime(1800, 1, 1), max_value=datetime(2200, 1, 1))


@given(MOMENTS)
def test_a_date_and_a_time_count_from_1970(moment: datetime) -> None:
    found = seconds(moment.strftime("%Y%m%d").zfill(8), moment.strftime("%H%M%S.%f"))
    assert found == pytest.approx((moment - datetime(1970, 1, 1)).total_seconds(), abs=1e-5)


@given(MOMENTS, st.integers(-12 * 60, 14 * 60))
def test_a_datetime_with_an_offset_counts_in_utc(moment: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    text = moment.strftime("%Y%m%d%H%M%S.%f") + f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}"
    found = seconds_of_datetime(text + f"{abs(minutes) % 60:02}")
    assert found == pytest.approx(
        (moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds(), abs=1e-5
    )


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("00", 0),
        ("23", 23 * 3600),
        ("1030", 37800),
        ("103015", 37815),
        ("103015.5", 37815.5),
        ("103015.123456 ", 37815.123456),
        ("10:30:15.5", 37815.5),
        ("235960", 86400),
    ],
)
def test_a_time_without_a_date_counts_from_midnight(time: str, expected: float) -> None:
    assert seconds(None, time) == seconds("", time) == pytest.approx(expected)


@pytest.mark.parametrize(
    "time", ["", "1", "103", "2400", "1060", "103061", "10301", "1030.5", "1030-1100", "١٠", "103015.", None]
)
def test_what_is_no_time_is_nothing(time: str | None) -> None:
    assert seconds(None, time) is None
    assert seconds("20200101", time) is None


@pytest.mark.parametrize("date", ["20200230", "2020", "20201301", "2020-01-01", "00000101", "XXXXXXXX"])
def test_a_date_that_makes_no_sense_does_not_become_midnight(date: str) -> None:
    assert seconds(date, "10") is None


def test_the_old_form_of_a_date_is_read() -> None:
    assert seconds("1993.08.22", "10:00:00") == seconds("19930822", "10")


def test_one_second_over_midnight_is_one_second() -> None:
    before, after = seconds("20191231", "235959.5"), seconds("20200101", "000000.5")
    assert before is not None
    assert after is not None
    assert after - before == 1


@pytest.mark.parametrize(
    "text",
    [
        "2020",
        "202001",
        "20200101",
        "2020010124",
        "2020010110+1500",
        "2020010110-1201",
        "2020010110+0060",
        None,
    ],
)
def test_a_datetime_that_names_no_moment_is_nothing(text: str | None) -> None:
    assert seconds_of_datetime(text) is None


def test_a_datetime_without_an_offset_is_its_date_and_time() -> None:
    assert seconds_of_datetime("20200229101500.25") == seconds("20200229", "101500.25")
    assert seconds_of_datetime("2020022910") == seconds("20200229", "10")
