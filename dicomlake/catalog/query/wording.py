"""Tests of text as SQL: equality, wildcards, parts, regular expressions, order; names by component group."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from dicomlake.catalog.query.folding import fold as without_case
from dicomlake.catalog.query.folding import plain_name
from dicomlake.catalog.query.fragments import Sql, either, every, sql
from dicomlake.errors import QueryError

_FUNCTIONS = {"contains": "contains", "startswith": "starts_with", "endswith": "ends_with"}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How the text of a row is read.

    text: the column as written. fold: the column without case and accents, which is NULL in rows of VRs
        that are compared as written; None to compare all as written.
    asked: what brings a text that was asked for into the form of `fold`, in Python; slot: the same in SQL.
    name: values are names; component: of which this one is meant.
    """

    text: str = "text"
    fold: str | None = "fold"
    asked: Callable[[str], str] = without_case
    slot: str = "?"
    name: bool = False
    component: int | None = None


def text_test(reading: Reading, operator: str, members: tuple[str, ...]) -> Sql:
    """Whether a text passes for any of these members (of `between`, lies between the two)."""
    if reading.fold is None:
        return _test(reading, reading.text, operator, members)
    if operator == "regex":
        return _regex(reading, members)
    folded = replace(reading, text=reading.fold)
    of_folded = _test(folded, reading.fold, operator, _asked(folded, operator, members), folded=True)
    if reading.slot != "?":  # a fact, which has a folded form for every text
        return of_folded
    as_written = _test(reading, reading.text, operator, members)
    return sql(f"({{}} OR ({reading.fold} IS NULL AND {{}}))", of_folded, as_written)


def _asked(reading: Reading, operator: str, members: tuple[str, ...]) -> tuple[str, ...]:
    plain = plain_name if reading.name and operator == "is" else str
    return tuple(reading.asked(plain(member)) for member in members)


def _regex(reading: Reading, members: tuple[str, ...]) -> Sql:
    """A regular expression finds text as written, or without its accents, in either case."""
    written = _test(reading, reading.text, "regex", members)
    in_any_case = either(
        _test(reading, column, "regex", members, folded=True) for column in (reading.text, str(reading.fold))
    )
    return sql(f"CASE WHEN {reading.fold} IS NULL THEN {{}} ELSE {{}} END", written, in_any_case)


def _test(
    reading: Reading, column: str, operator: str, members: tuple[str, ...], folded: bool = False
) -> Sql:
    if not reading.name:
        return _of_one(column, operator, members, reading.slot, folded)
    whole = tuple(m for m in members if "=" in m and reading.component is None)
    parts = tuple(m for m in members if m not in whole)
    if operator == "between":
        whole, parts = (), members
    found = [_of_one(column, operator, whole, reading.slot, folded)] if whole else []
    if parts:
        found.append(
            _of_groups(reading, column, _of_one(_group(reading), operator, parts, reading.slot, folded))
        )
    return either(found)


def _group(reading: Reading) -> str:
    """One component group, or the wanted component of it."""
    if reading.component is None:
        return "rtrim(g, '^ ')"
    return f"trim(split_part(g, '^', {reading.component + 1}))"


def _of_groups(reading: Reading, column: str, test: Sql) -> Sql:
    """Whether any of the alphabetic, ideographic and phonetic groups passes (PS3.5 6.2.1.2)."""
    passing = f"list_filter(string_split({column}, '='), lambda g: {_group(reading)} <> '' AND {{}})"
    return sql(f"len({passing}) > 0", test)


def has_component(reading: Reading) -> Sql:
    """Whether a name has the component at all."""
    return _of_groups(reading, reading.text, Sql("true"))


def _of_one(column: str, operator: str, members: tuple[str, ...], slot: str, folded: bool) -> Sql:
    if operator == "between":
        return _between(column, members, slot)
    if operator in _SIGNS:
        return Sql(f"{column} {_SIGNS[operator]} {slot}", members[-1:])
    if operator == "is" and len(members) > 1:
        return Sql(f"{column} IN ({', '.join([slot] * len(members))})", members)
    return either(_one(column, operator, member, slot, folded) for member in members)


def _between(column: str, members: tuple[str, ...], slot: str) -> Sql:
    low, high = members
    ends = [Sql(f"{column} >= {slot}", (low,))] if low else []
    return every([*ends, *([Sql(f"{column} <= {slot}", (high,))] if high else [])])


def _one(column: str, operator: str, member: str, slot: str, folded: bool) -> Sql:
    if operator == "is":
        return Sql(f"{column} = {slot}", (member,))
    if operator == "like":
        return Sql(f"{column} LIKE {slot} ESCAPE '\\'", (like_pattern(member),))
    if operator == "regex":
        return Sql(f"regexp_matches({column}, ?, '{'is' if folded else 's'}')", (member,))
    return Sql(f"{_FUNCTIONS[operator]}({column}, {slot})", (member,))


def like_pattern(pattern: str) -> str:
    """Wildcards of DICOM (* and ?, PS3.4 C.2.2.2.4) as those of SQL."""
    return re.sub(r"[%_\\]", r"\\\g<0>", pattern).replace("*", "%").replace("?", "_")


def check_regex(path: str, pattern: str) -> None:
    """Raises QueryError for what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise QueryError(f"{path}: that is no regular expression: {error.msg} at {error.pos}") from None
