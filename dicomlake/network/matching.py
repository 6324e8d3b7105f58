"""Matching of a key with values, as PS3.4 section C.2.2.2 has it; pure, by VR and text.

Names are compared without case and accents, each component group by itself; all else as written. Where the
standard leaves a choice, more is found rather than less: several values in a key are alternatives for any VR,
a date or a time of less precision means all of its days or moments, numbers are compared as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from dicomlake.catalog.query.folding import fold, plain_name
from dicomlake.catalog.query.spans import Span, span
from dicomlake.dicom import values

Test = Callable[[str], bool]
"""Whether one value of an element, as text, is what a key asks for."""

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
MATCHED_VRS = WILDCARD_VRS | values.NUMBER_VRS | values.TEMPORAL_VRS | {"UI", "AT"}
"""VRs whose elements can be keys; those of sequences and bulk values cannot."""

_DT = r"\d{4,14}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_DT_RANGE = re.compile(rf"({_DT})?-({_DT})?", re.ASCII)
_SEPARATED_DATE = re.compile(r"\d{4}\.\d\d\.\d\d", re.ASCII)  # as ACR-NEMA wrote it
_DATE = re.compile(r"\d{8}", re.ASCII)
_BOUND = re.compile(r"\d{2,8}(\.\d{1,6})?", re.ASCII)
_TIME = re.compile(r"\d{2,6}(\.\d{1,6})?", re.ASCII)


def is_universal(vr: str, key: str) -> bool:
    """Whether a key matches everything, elements without a value included (C.2.2.2.3, C.2.2.2.4)."""
    text = key.strip(" \0")
    return not text or (vr in WILDCARD_VRS and not text.strip("*"))


def key_test(vr: str, key: str) -> Test:
    """The test of a key that is not universal."""
    alternatives = [one.strip(" \0") for one in split(vr, key)]
    tests = [_test(vr, one) for one in alternatives if one]
    if len(tests) == 1:
        return tests[0]
    if vr == "UI":
        return frozenset(alternatives).__contains__
    return lambda value: any(test(value) for test in tests)


def split(vr: str, key: str) -> Sequence[str]:
    """The values in a key."""
    return (key,) if vr in values.SINGLE_VALUED else key.split("\\")


def matches(test: Test, found: Iterable[str]) -> bool:
    """Whether any value of an element passes."""
    return any(map(test, found))


def _test(vr: str, key: str) -> Test:
    if vr == "PN":
        return _name(key)
    if vr in WILDCARD_VRS:
        return _pattern(key) if has_wildcard(key) else key.__eq__
    if vr == "DA":
        return _date(key)
    if vr == "TM":
        return _time(key)
    if vr == "DT":
        return _moment(key)
    if vr == "AT":
        return key.strip("()").replace(",", "").upper().__eq__
    return _number(vr, key)


# ---- text


def has_wildcard(key: str) -> bool:
    """Whether a key is a pattern, given that wildcards have a meaning in its VR."""
    return "*" in key or "?" in key


def _pattern(key: str) -> Test:
    """Wildcards: * is any text, ? any one character (C.2.2.2.4).

    What stands between two * is looked for once, from the left, and never again: a key of a peer must not
    be able to ask for more steps than its length times that of the value.
    """
    first, *others = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", key))
    between, last = others[:-1], others[-1:]
    found = first + "".join(f"(?>.*?{part})" for part in between) + "".join(f".*{part}" for part in last)
    compiled = re.compile(found, re.DOTALL)
    return lambda value: compiled.fullmatch(value) is not None


def _name(key: str) -> Test:
    """A key of one component group is found in any group of a name; of several, each in its own."""
    wanted = [_group(group) for group in key.split("=")]
    if len(wanted) == 1:
        return lambda value: any(map(wanted[0], _groups(value)))

    def test(value: str) -> bool:
        groups = [*_groups(value), "", ""]
        return all(
            passes(group) for passes, group in zip(wanted, groups[: max(3, len(wanted))], strict=False)
        )

    return test


def _group(key: str) -> Test:
    text = fold(plain_name(key))
    if not text.strip("*"):
        return lambda _group: True
    return _pattern(text) if has_wildcard(text) else text.__eq__


def _groups(value: str) -> list[str]:
    return fold(plain_name(value)).split("=")


# ---- dates, times, numbers


def _date(key: str) -> Test:
    return _ordered(key, _as_date)


def _as_date(value: str) -> str | None:
    text = value.strip(" \0")
    plain = text.replace(".", "") if _SEPARATED_DATE.fullmatch(text) else text
    return plain if _DATE.fullmatch(plain) else None


def _time(key: str) -> Test:
    return _ordered(key.replace(":", ""), _as_time)


def _as_time(value: str) -> str | None:
    """A time of the day to the microsecond; what it leaves out is zero."""
    text = value.strip(" \0").replace(":", "")
    if not _TIME.fullmatch(text):
        return None
    whole, _, fraction = text.partition(".")
    return f"{whole:0<6}.{fraction:0<6}"


def _ordered(key: str, read: Callable[[str], str | None]) -> Test:
    """A single value or a range of what is ordered as text is, as far as the key says (C.2.2.2.5)."""
    first, dash, last = (part.strip() for part in key.partition("-"))
    low, high = (first, last) if dash else (first, first)
    if read is _as_date:
        low, high = low.replace(".", ""), high.replace(".", "")
    if not all(_BOUND.fullmatch(end) for end in (low, high) if end):
        return lambda _value: False

    def test(value: str) -> bool:
        text = read(value)
        return text is not None and low <= text[: len(low)] and (not high or text[: len(high)] <= high)

    return test


def _moment(key: str) -> Test:
    """A date and time or a range of them, in UTC where an offset is stated; seconds since 1970-01-01."""
    one = span("DT", key)
    if one is not None:
        return partial(_within, one, one)
    both = _DT_RANGE.fullmatch(key)
    if both is None:
        return key.__eq__
    low, high = (None if text is None else span("DT", text) for text in both.groups())
    if (both[1] and low is None) or (both[2] and high is None):
        return key.__eq__
    return partial(_within, low, high)


def _within(low: Span | None, high: Span | None, value: str) -> bool:
    at = values.typed("DT", value)
    if at is None or (low is not None and at < low.low):
        return False
    return high is None or at < high.high or (at == high.high and not high.open)


def _number(vr: str, key: str) -> Test:
    """Numbers by what they mean, as 1, 01 and 1.0 are one; what is none by its text."""
    wanted = values.number(vr, key)
    if wanted is None or vr == "AS":
        return key.__eq__
    return lambda value: values.number(vr, value) == wanted
