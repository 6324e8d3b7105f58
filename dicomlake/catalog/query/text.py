"""Conditions as text, as on a command line: `Modality=CT,PT`, `KVP>=100`, `SeriesDescription~chest`."""

from __future__ import annotations

import re

from dicomlake.catalog.query.expressions import Expression, Not
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.keywords import Name, built, keyword, read_name
from dicomlake.catalog.query.sources import resolve
from dicomlake.dicom import values
from dicomlake.errors import QueryError

_PATH = r'(?:[^<>=!~"\[\]]|\["(?:(?!"\]).)*"\]|\[\d+\])+?'
_CONDITION = re.compile(
    rf"\s*(?P<path>{_PATH})\s*(?P<sign>!=|!~|<=|>=|=|<|>|~)\s*(?P<value>.*?)\s*", re.DOTALL
)
_MEMBER = re.compile(r'\s*(?:"([^"]*)"|([^,"]*))\s*(?:,|$)')
_SUFFIXES = {">=": "ge", ">": "gt", "<=": "le", "<": "lt"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ORDERED_VRS = values.NUMBER_VRS | values.TEMPORAL_VRS


def parse_text(text: str) -> Expression:
    """One condition: a path, with suffixes if need be, a sign and a value.

    Signs are = (a comma between several), != (none of them), < <= > >=, ~ (contains), !~; `lo..hi` is a
    range of numbers, dates or times. Quotes keep a comma: `SeriesDescription="a, b"`.
    Raises QueryError, which does not repeat the text: it may name a patient.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise QueryError(
            "that is no condition: write Keyword=value, Keyword<value, Keyword>=value, Keyword~value"
        )
    path, sign, value = found["path"].strip(), found["sign"], found["value"]
    name = read_name(path)
    if sign in _SUFFIXES:
        return built(
            path, Name(name.path, name.suffixes | {_SUFFIXES[sign]}), _operand(name, _unquoted(value))
        )
    if sign.endswith("~"):
        contains = built(path, Name(name.path, name.suffixes | {"contains"}), _members(value))
        return Not(contains) if sign == "!~" else contains
    equal = _equal(path, name, value)
    return Not(equal) if sign == "!=" else equal


def _equal(path: str, name: Name, value: str) -> Expression:
    if name.operator in ("missing", "empty"):
        return built(path, name, _TRUTH.get(value.lower(), value))
    if name.path == "text":
        return built(path, name, value)
    if ".." in value and (name.operator is None) and _ordered(name):
        low, high = (_operand(name, end.strip()) if end.strip() else None for end in value.split("..", 1))
        return built(path, name, (low, high))
    written = [_unquoted(value)] if name.operator == "regex" else _members(value)
    members = [_operand(name, member) for member in written]
    return built(path, name, members[0] if len(members) == 1 else members)


def _ordered(name: Name) -> bool:
    """Whether values have an order, so that `..` is no part of a text."""
    source = resolve(name.path)
    if "count" in name.suffixes:
        return True
    return source.kind == "number" if isinstance(source, Fact) else source.vr in _ORDERED_VRS


def _operand(name: Name, value: str) -> str | int | float:
    """Written numbers are numbers where a number is meant: of facts, of counts."""
    source = resolve(name.path)
    numeric = source.number is not None if isinstance(source, Fact) else "count" in name.suffixes
    number = values.number("DS", value) if numeric else None
    if number is None:
        return value
    return int(number) if number == int(number) else number


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _members(value: str) -> list[str]:
    """What commas separate, outside of quotes."""
    members, at = list[str](), 0
    while at <= len(value):
        found = _MEMBER.match(value, at)
        if found is None:  # a quote inside a word: all of it is meant as it is
            return [value]
        members.append(found[1] if found[1] is not None else found[2].strip())
        if found.end() == at or (found.end() == len(value) and not value.endswith(",")):
            break
        at = found.end()
    return members


def parse(*texts: str, **wanted: object) -> Expression:
    """All of these conditions, as text and as keyword arguments; a single one by itself."""
    from dicomlake.catalog.query.expressions import And

    terms = (*(parse_text(text) for text in texts), *(keyword(name, value) for name, value in wanted.items()))
    return terms[0] if len(terms) == 1 else And(terms)
