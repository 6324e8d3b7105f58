"""Expressions over series: conditions, joined by And, Or and Not; as JSON they outlive the program.

A condition holds what was asked, in plain values; `predicates` says what it means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dicomlake.catalog.query.facts import FREE_TEXT
from dicomlake.catalog.query.paths import COMPONENTS, ElementPath
from dicomlake.catalog.query.sources import resolve
from dicomlake.errors import QueryError

FORMAT = 1
_HARMLESS_VRS = frozenset({"CS", "DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"})
_PATIENT_GROUP = 0x0010
# Text that machines write, or that names a machine, a kernel, a coil, an agent
_OF_MACHINES = frozenset(
    {
        *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "SequenceName"),
        *("ReceiveCoilName", "TransmitCoilName", "ContrastBolusAgent", "Radiopharmaceutical", "FilterType"),
        *("ReconstructionMethod", "SOPClassUID"),
    }
)

Operator = Literal[
    "is",
    "between",
    "ge",
    "gt",
    "le",
    "lt",
    "like",
    "regex",
    "contains",
    "startswith",
    "endswith",
    "missing",
    "empty",
    "count",
    "shape",
    "search",
]
Operand = str | int | float | bool | None | tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something about a series, and what it must be.

    path: an element or a fact, as `sources.resolve` reads it.
    values: of `between`, `count` and the other ranges the two ends, None for an open one; of `is`, `like`
        and the other tests of text the members, one of which is enough; of `missing` and `empty` whether.
    every: all values must meet it, and there must be one; otherwise any value is enough.
    exact: text is compared as written, and * and ? mean themselves.
    """

    path: str
    operator: Operator
    values: tuple[Operand, ...]
    every: bool = False
    exact: bool = False

    @property
    def harmless(self) -> bool:
        """Whether its values say nothing about who a patient is."""
        source = resolve(self.path)
        if not isinstance(source, ElementPath):
            return source.name not in FREE_TEXT
        tag = source.tag
        if tag is None or tag >> 16 == _PATIENT_GROUP:
            return False
        return source.vr in _HARMLESS_VRS or source.name in _OF_MACHINES

    @property
    def words(self) -> str:
        """What was asked, its values included."""
        return f"{self.path}{'__all' * self.every}{'__exact' * self.exact}{_told(self)}"

    def __str__(self) -> str:
        harmless = self.operator in ("missing", "empty", "count") or self.harmless
        return self.words if harmless else f"{self.path} …"


@dataclass(frozen=True, slots=True)
class And:
    """All of these; of none of them, every series."""

    terms: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(_bracketed(term) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Or:
    """Any of these; of none of them, no series."""

    terms: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(_bracketed(term) for term in self.terms) or "nothing"


@dataclass(frozen=True, slots=True)
class Not:
    """All other series."""

    term: Expression

    def __str__(self) -> str:
        return f"not {_bracketed(self.term)}"


Expression = Condition | And | Or | Not


def _bracketed(term: Expression) -> str:
    return f"({term})" if isinstance(term, And | Or) else str(term)


_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _told(condition: Condition) -> str:
    values = condition.values
    match condition.operator:
        case "ge" | "gt" | "le" | "lt" as sign:
            return f"{_SIGNS[sign]}{next(value for value in values if value is not None)}"
        case "between" | "count" as operator:
            low, high = ("" if value is None else value for value in values)
            return f"{'__count' if operator == 'count' else ''}={low}..{high}"
        case "contains":
            return f"~{_members(values)}"
        case "is":
            return f"={_members(values)}"
        case "shape":
            return f"={values}"
        case operator:
            return f"__{operator}={_members(values)}"


def _members(values: tuple[Operand, ...]) -> str:
    return ",".join(f'"{v}"' if isinstance(v, str) and "," in v else str(v) for v in values)


def conditions_in(expression: Expression) -> Iterator[Condition]:
    """Every condition of an expression once, in the order in which they were written."""
    yield from dict.fromkeys(_conditions_in(expression))


def _conditions_in(expression: Expression) -> Iterator[Condition]:
    if isinstance(expression, Condition):
        yield expression
    else:
        for term in (expression.term,) if isinstance(expression, Not) else expression.terms:
            yield from _conditions_in(term)


def is_positive(expression: Expression) -> bool:
    """Whether a series meets an expression wherever one of its instances does: it asks for nothing absent."""
    if isinstance(expression, Not):
        return False
    return all(
        not condition.every and condition.operator not in ("missing", "empty", "count")
        for condition in conditions_in(expression)
    ) and not (isinstance(expression, And | Or) and not all(map(is_positive, expression.terms)))


def without_index(condition: Condition) -> Condition:
    """The same of any item and value."""
    source = resolve(condition.path)
    if not isinstance(source, ElementPath) or not source.indexed:
        return condition
    path = source.name if source.component is None else f"{source.name}.{COMPONENTS[source.component]}"
    return Condition(path, condition.operator, condition.values, condition.every, condition.exact)


# --- JSON ------------------------------------------------------------------------------------------


def to_json(expression: Expression) -> str:
    """An expression as one line of JSON, the same each time. It holds the values that were asked for."""
    body = {"format": FORMAT, "expression": _as_json(expression)}
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _as_json(expression: Expression) -> dict[str, Any]:
    match expression:
        case Condition(path, operator, values, all_of_them, exact):
            body: dict[str, Any] = {"path": path, "operator": operator, "values": values}
            return body | ({"every": True} if all_of_them else {}) | ({"exact": True} if exact else {})
        case And(terms):
            return {"and": [_as_json(term) for term in terms]}
        case Or(terms):
            return {"or": [_as_json(term) for term in terms]}
        case Not(term):
            return {"not": _as_json(term)}


def from_json(text: str) -> Expression:
    """The expression that `to_json` wrote. Raises QueryError for anything else."""
    try:
        body = json.loads(text)
        if body["format"] > FORMAT:
            raise QueryError("the query was written by a newer dicomlake: upgrade dicomlake")
        return _of_json(body["expression"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise QueryError("this is no query in JSON as dicomlake writes it") from error


def _of_json(body: dict[str, Any]) -> Expression:
    if "and" in body:
        return And(tuple(map(_of_json, body["and"])))
    if "or" in body:
        return Or(tuple(map(_of_json, body["or"])))
    if "not" in body:
        return Not(_of_json(body["not"]))
    if body["operator"] not in get_args(Operator):
        raise KeyError(body["operator"])
    resolve(body["path"])
    every, exact = bool(body.get("every")), bool(body.get("exact"))
    return Condition(body["path"], body["operator"], _operands(body["values"]), every, exact)


def _operands(values: list[Any]) -> tuple[Operand, ...]:
    return tuple(_operands(value) if isinstance(value, list) else value for value in values)
