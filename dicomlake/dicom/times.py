"""Dates and times of the standard as seconds, so that they order rightly over midnight (PS3.5 6.2)."""

from __future__ import annotations

import re
from datetime import date as Date

_EPOCH = Date(1970, 1, 1).toordinal()
_DAY = 86_400.0

_DA = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)", re.ASCII)  # the second: ACR-NEMA
_TM = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{1,6})?)?)?", re.ASCII)
_DT = re.compile(r"(\d{8})(\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?)([+-]\d{4})?", re.ASCII)


def seconds(date: str | None, time: str | None) -> float | None:
    """Seconds since 1970-01-01T00:00 in the object's own time zone; since midnight without a date.

    date: DA, `YYYYMMDD`. time: TM, from `HH` to `HHMMSS.FFFFFF`. The separators of ACR-NEMA
    (`YYYY.MM.DD`, `HH:MM:SS`) are taken as well. None when there is no time or either makes no sense.
    """
    since_midnight = _of_time(time)
    if since_midnight is None or not (date and date.strip()):
        return since_midnight
    day = _of_date(date)
    return None if day is None else day * _DAY + since_midnight


def seconds_of_datetime(datetime: str | None) -> float | None:
    """Seconds since 1970-01-01T00:00 of a DT: in UTC where it states an offset, else in its own time zone.

    None when it makes no sense or is less precise than an hour.
    """
    match = _DT.fullmatch(datetime.strip(" \0")) if datetime else None
    if not match:
        return None
    found, offset = seconds(match[1], match[2]), _of_offset(match[3])
    return None if found is None or offset is None else found - offset


def _of_date(text: str) -> int | None:
    """Days since 1970-01-01."""
    match = _DA.fullmatch(text.strip(" \0"))
    if not match:
        return None
    year, month, day = (int(part) for part in match.groups() if part is not None)
    try:
        return Date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None


def _of_time(text: str | None) -> float | None:
    match = _TM.fullmatch(text.strip(" \0")) if text else None
    if not match:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:  # 60: a leap second
        return None
    return hour * 3600 + minute * 60 + second + float(match[4] or 0)


def _of_offset(text: str | None) -> int | None:
    """Seconds east of UTC, -1200 to +1400; 0 without an offset."""
    if text is None:
        return 0
    hours, minutes = int(text[1:3]), int(text[3:])
    size = hours * 3600 + minutes * 60
    if minutes > 59 or size > (12 if text[0] == "-" else 14) * 3600:
        return None
    return -size if text[0] == "-" else size
