"""What a condition means for one row of values: SQL over its columns.

A row of `attributes` is one value, or the summary of many (text is NULL; low and high are among them). So a
predicate has two sides: `sure`, which holds where a value of the row does meet the condition, and `maybe`,
which a summary fails only when none of its values can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from dicomlake.catalog.query.expressions import Condition, Operand
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import TRUE, Sql, either, every, sql
from dicomlake.catalog.query.paths import ElementPath
from dicomlake.catalog.query.ranges import Range, overlaps, ranged, touches
from dicomlake.catalog.query.sources import resolve
from dicomlake.catalog.query.spans import Span, span
from dicomlake.catalog.query.wording import Reading, check_regex, has_component, text_test
from dicomlake.dicom import standard, values
from dicomlake.errors import QueryError

_ORDERED_VRS = values.NUMBER_VRS | values.TEMPORAL_VRS
_RANGES = frozenset({"between", "ge", "gt", "le", "lt"})
_NUMERIC = "vr NOT IN ('DA', 'TM', 'DT')"  # where the VR is not known beforehand
_EXACT_IN_DOUBLE = 1 << 53


class Predicate(NamedTuple):
    """Whether a value of a row meets a condition; `maybe` is for rows that hold several."""

    sure: Sql
    maybe: Sql = TRUE


def check(condition: Condition) -> None:
    """Raises QueryError when a condition asks what its element cannot answer."""
    source = resolve(condition.path)
    whole = not isinstance(source, ElementPath) or (source.value_index is None and source.component is None)
    if condition.operator in ("empty", "count") and not whole:
        raise QueryError(f"{condition.path}: __{condition.operator} is of whole elements")
    predicate(condition)


def predicate(condition: Condition) -> Predicate:
    """The two sides of a condition. Raises QueryError naming what it cannot compare."""
    source = resolve(condition.path)
    if isinstance(source, Fact):
        return _of_fact(source, condition)
    if condition.operator in ("missing", "empty", "count"):
        return _of_presence(source, condition)
    if condition.operator == "regex":
        for pattern in condition.values:
            check_regex(condition.path, str(pattern))
    if condition.operator in _RANGES:
        return _of_range(source, condition)
    if condition.operator == "is":
        return _any([_equal(source, some, condition.exact) for some in _grouped(source, condition)])
    return Predicate(
        text_test(reading(source, condition.exact), condition.operator, _texts(condition.values))
    )


def reading(source: ElementPath, exact: bool) -> Reading:
    """How the text of an element is compared."""
    column = "fold" if source.folded and not exact else None
    return Reading(fold=column, name=source.vr == "PN", component=source.component)


def _texts(members: Sequence[Operand]) -> tuple[str, ...]:
    return tuple("" if member is None else str(member) for member in members)


def _any(found: Sequence[Predicate]) -> Predicate:
    return Predicate(either(one.sure for one in found), either(one.maybe for one in found))


# --- presence --------------------------------------------------------------------------------------


def _of_presence(source: ElementPath, condition: Condition) -> Predicate:
    if condition.operator == "count":
        wanted = _pair_of(condition.values)
        return Predicate(touches(wanted, "vm_low", "vm_high"), overlaps(wanted, "vm_low", "vm_high"))
    if condition.operator == "empty":
        return Predicate(Sql("vm_low = 0"))
    if source.component is not None:
        return Predicate(has_component(reading(source, exact=True)))
    return Predicate(Sql("vm_high > 0"))


def _pair_of(bounds: Sequence[Operand]) -> Range:
    low, high = map(_bound, bounds)
    return Range(low, high)


def _bound(value: Operand) -> float | None:
    return float(value) if isinstance(value, int | float) else None


# --- equality --------------------------------------------------------------------------------------


def has_wildcard(member: Operand) -> bool:
    """Whether a text is a pattern."""
    return isinstance(member, str) and ("*" in member or "?" in member)


def _grouped(source: ElementPath, condition: Condition) -> list[tuple[Operand, ...]]:
    """Members that one piece of SQL can compare together: all plain texts."""
    plain = tuple(
        member
        for member in condition.values
        if source.vr not in _ORDERED_VRS | {"UN"} and (condition.exact or not has_wildcard(member))
    )
    return [*([plain] if plain else []), *((m,) for m in condition.values if m not in plain)]


def _equal(source: ElementPath, members: tuple[Operand, ...], exact: bool) -> Predicate:
    member = members[0]
    read = reading(source, exact)
    if len(members) > 1 or source.vr not in _ORDERED_VRS | {"UN"}:
        if has_wildcard(member) and not exact:
            return Predicate(text_test(read, "like", _texts(members)))
        return Predicate(text_test(read, "is", tuple(_as_stored(source, text) for text in _texts(members))))
    if has_wildcard(member) and not exact:
        return Predicate(text_test(read, "like", _texts(members)))
    if exact and isinstance(member, str):
        return Predicate(text_test(read, "is", (member,)))
    if source.vr == "UN":
        return Predicate(either(_equal_unknown(read, member)))
    return _equal_ordered(source, member)


def _as_stored(source: ElementPath, text: str) -> str:
    """A tag as rows hold it: from `0018,0081`, `(0018,0081)` or a keyword."""
    if source.vr != "AT":
        return text
    tag = standard.tag_of(text)
    return f"{tag:08X}" if tag is not None else text.strip("()").replace(",", "").upper()


_DATES = re.compile(r"(?=.{9,17}$)(\d{8})?-(\d{8})?")  # a range as PS3.4 C.2.2.2.5 writes it


def _equal_ordered(source: ElementPath, member: Operand) -> Predicate:
    asked = _span(source.vr, member)
    dates = _DATES.fullmatch(str(member)) if asked is None and source.vr == "DA" else None
    if dates:
        wanted = ranged("between", tuple(_span("DA", one) if one else None for one in dates.groups()))
        return Predicate(touches(wanted), overlaps(wanted))
    if asked is None:  # "nan", a date that is none: such values are found as they are written
        return Predicate(Sql("text = ?", (str(member),)))
    wanted = ranged("between", (asked,))
    sure = touches(wanted)
    if isinstance(member, int) and abs(member) > _EXACT_IN_DOUBLE:
        sure = sql("({} AND (vr NOT IN ('UV', 'SV') OR text = ?))", sure)
        sure = Sql(sure.text, (*sure.parameters, str(member)))
    return Predicate(sure, overlaps(wanted))


def _span(vr: str, member: Operand) -> Span | None:
    return span(vr, member) if isinstance(member, str | int | float) else None


def _equal_unknown(read: Reading, member: Operand) -> list[Sql]:
    """Of a private element the rows know the VR: text, a number, a date or a time."""
    found = []
    if isinstance(member, str | int):
        found.append(text_test(read, "is", (str(member),)))
    number = _span("DS", member)
    if number is not None:
        found.append(sql(f"({{}} AND {_NUMERIC})", touches(ranged("between", (number,)))))
    return found + _temporal("between", (member,))


def _temporal(operator: str, members: tuple[Operand, ...]) -> list[Sql]:
    """Dates and times, where they are written with separators, for each VR that they can be of."""
    if not any(isinstance(m, str) and ("-" in m or ":" in m) for m in members):
        return []
    found = []
    for vr in ("DA", "TM", "DT"):
        spans = tuple(_span(vr, member) for member in members)
        if all(s is not None or m is None for s, m in zip(spans, members, strict=True)):
            found.append(sql(f"(vr = '{vr}' AND {{}})", touches(ranged(operator, spans))))
    return found


# --- ranges ----------------------------------------------------------------------------------------


def _of_range(source: ElementPath, condition: Condition) -> Predicate:
    members, operator = condition.values, condition.operator
    if all(member is None for member in members):
        return Predicate(TRUE)
    if source.vr in _ORDERED_VRS:
        wanted = ranged(operator, tuple(_end(source, condition.path, member) for member in members))
        return Predicate(touches(wanted), overlaps(wanted))
    words = text_test(reading(source, condition.exact), operator, _texts(members))
    if source.vr != "UN":
        return Predicate(words)
    spans = tuple(_span("DS", member) for member in members)
    found = _temporal(operator, members)
    if all(s is not None or m is None for s, m in zip(spans, members, strict=True)):
        found.append(sql(f"({{}} AND {_NUMERIC})", touches(ranged(operator, spans))))
    if any(isinstance(member, str) for member in members):
        found.append(sql("((low IS NULL OR vr IN ('DA', 'TM', 'DT')) AND {})", words))
    return Predicate(either(found))


def _end(source: ElementPath, path: str, member: Operand) -> Span | None:
    """An end of a range of an element that has an order."""
    found = _span(source.vr, member)
    if found is None and member is not None:
        held = {"DA": "dates", "TM": "times", "DT": "dates and times", "AS": "ages"}.get(source.vr, "numbers")
        form = {
            "DA": "2024-03-15",
            "TM": "10:30",
            "DT": "2024-03-15T10:30",
            "AS": "'062Y' or a number of years",
        }
        raise QueryError(
            f"{path} holds {held}: a range of it needs {held}"
            + (f", as {form[source.vr]}" if held != "numbers" else "")
        )
    return found


# --- facts -----------------------------------------------------------------------------------------


def _of_fact(source: Fact, condition: Condition) -> Predicate:
    operator, members = condition.operator, condition.values
    if operator == "search":
        return Predicate(TRUE)
    if operator == "missing":
        columns = [column for column in (source.text, source.number) if column]
        return Predicate(either(Sql(f"{column} IS NOT NULL") for column in columns))
    if operator == "shape":
        return Predicate(_shape(members))
    if operator in _RANGES:
        return Predicate(_fact_range(source, condition))
    if operator == "is":
        return Predicate(either(_fact_equal(source, condition, member) for member in members))
    if source.text is None:
        raise QueryError(f"{condition.path} is a number: __{operator} is for text")
    if operator == "regex":
        for pattern in members:
            check_regex(condition.path, str(pattern))
    return Predicate(text_test(_fact_reading(source, condition.exact), operator, _texts(members)))


def _fact_reading(source: Fact, exact: bool) -> Reading:
    folded = None if exact or source.kind == "code" else f"lower(strip_accents({source.text}))"
    return Reading(str(source.text), folded, str, "?" if folded is None else "lower(strip_accents(?))")


def _fact_equal(source: Fact, condition: Condition, member: Operand) -> Sql:
    number = member if isinstance(member, int | float) else None
    if source.text is None and number is None:
        raise QueryError(f"{condition.path} holds numbers: compare it with a number")
    if number is not None and source.number is not None:
        wanted = Range(float(number), float(number))
        return touches(wanted, source.number, source.number)
    operator = "like" if has_wildcard(member) and not condition.exact else "is"
    return text_test(_fact_reading(source, condition.exact), operator, (str(member),))


def _fact_range(source: Fact, condition: Condition) -> Sql:
    numeric = all(member is None or isinstance(member, int | float) for member in condition.values)
    if numeric and source.number is not None:
        spans = tuple(_span("DS", member) for member in condition.values)
        return touches(ranged(condition.operator, spans), source.number, source.number)
    if source.text is None:
        raise QueryError(f"{condition.path} holds numbers: a range of it needs numbers")
    return text_test(_fact_reading(source, condition.exact), condition.operator, _texts(condition.values))


def _shape(lengths: tuple[Operand, ...]) -> Sql:
    axes = "TRY_CAST(shape AS BIGINT[])"
    parts = [Sql(f"len({axes}) = ?", (len(lengths),))]
    for place, length in enumerate(lengths, 1):
        if length is not None:
            pair = length if isinstance(length, tuple) else (length, length)
            ends = _pair_of(pair)
            parts.append(touches(ends, f"{axes}[{place}]", f"{axes}[{place}]"))
    return every(parts)
