"""The query as one types it: conditions as on the command line, with `or`, `not` and parentheses.

    Modality=CT SliceThickness=(0, 1.5) (BodyPartExamined=CHEST or BodyPartExamined__missing=true)

Conditions side by side must all hold; `or` binds less. Quotes keep blanks: `SeriesDescription="chest ax"`,
or around the whole condition as in a shell. What cannot be typed so is written as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from dicomlake.catalog.query import And, Condition, Expression, Not, Or, from_json, parse_text, to_json
from dicomlake.catalog.query.expressions import Operand, conditions_in
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.sources import resolve
from dicomlake.errors import QueryError

Leaf = Callable[[str], Expression]

_TAG = re.compile(r"\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)")
_PAIR = re.compile(r"([^=<>~!\"]+)=\(\s*([^,()\"]*?)\s*,\s*([^,()\"]*?)\s*\)")
_WORDS = frozenset({"and", "or", "not"})
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_LONGEST = 20_000
_DEEPEST = 40


def terms_of(expression: Expression) -> tuple[Expression, ...]:
    """What must all hold: the terms of an And, those of its Ands too; otherwise the expression itself."""
    if not isinstance(expression, And):
        return (expression,)
    return tuple(dict.fromkeys(one for term in expression.terms for one in terms_of(term)))


def read(text: str, leaf: Leaf = parse_text) -> tuple[Expression, ...]:
    """What must all hold, from a text or from JSON. Raises QueryError saying what to write instead."""
    if len(text) > _LONGEST:
        raise QueryError(f"a query here has at most {_LONGEST:,} characters: ask it by lake.query")
    if text.lstrip().startswith("{"):
        return terms_of(from_json(text))
    tokens = _tokens(text)
    reader = _Reader(tokens, leaf)
    return terms_of(reader.whole())


def write(terms: Sequence[Expression]) -> str:
    """The text that `read` takes for the same; JSON where there is no such text."""
    text = " ".join(_written(term, inside=True) for term in terms)
    try:
        again = read(text)
    except QueryError:
        again = ()
    if tuple(map(_normal, again)) == tuple(map(_normal, terms)):
        return text
    return to_json(terms[0] if len(terms) == 1 else And(tuple(terms)))


def told(term: Expression) -> str:
    """One term for people."""
    return _written(term, inside=False)


def paths_of(term: Expression) -> list[str]:
    """The elements and facts that a term is about, each once."""
    return list(dict.fromkeys(condition.path for condition in conditions_in(term)))


def normal(terms: Sequence[Expression]) -> tuple[Expression, ...]:
    """The same with values in one form, so that equal questions are equal."""
    return tuple(map(_normal, terms))


# ---- reading


class _Reader:
    """Tokens to an expression: `or` under `and` under `not`."""

    def __init__(self, tokens: Sequence[str | Expression | tuple[str]], leaf: Leaf) -> None:
        self._tokens, self._at, self._leaf, self._depth = tokens, 0, leaf, 0

    def whole(self) -> Expression:
        found = self._either()
        if self._at < len(self._tokens):
            raise QueryError("a closing parenthesis has no opening one: remove it, or quote it")
        return found

    def _next(self) -> object:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _either(self) -> Expression:
        terms = [self._every()]
        while self._next() == "or":
            self._at += 1
            terms.append(self._every())
        if len(terms) > 1 and And(()) in terms:
            raise QueryError("'or' stands between two conditions: A or B; quote it where it is a value")
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _every(self) -> Expression:
        terms: list[Expression] = []
        while self._next() not in (None, "or", ")"):
            if self._next() == "and":
                self._at += 1
                continue
            terms.append(self._one())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _one(self) -> Expression:
        token = self._next()
        self._at += 1
        if token == "not":
            if self._next() in (None, "or", "and", ")"):
                raise QueryError("'not' stands before a condition: not Modality=CT")
            return Not(self._one())
        if token == "(":
            return self._bracketed()
        assert isinstance(token, tuple)
        return self._leaf(_as_range(token[0]))

    def _bracketed(self) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise QueryError("the parentheses are too deep: write the query with fewer")
        found = self._either()
        if self._next() != ")":
            raise QueryError("a parenthesis is not closed: close it, or quote it where it is part of a value")
        self._at, self._depth = self._at + 1, self._depth - 1
        return found


def _as_range(word: str) -> str:
    """`SliceThickness=(0, 1.5)`, as Python has it, as `SliceThickness=0..1.5`."""
    found = _PAIR.fullmatch(word)
    if not found:
        return word
    low, high = ("" if end in ("None", "null") else end for end in found.groups()[1:])
    return f"{found[1]}={low}..{high}"


def _tokens(text: str) -> list[str | Expression | tuple[str]]:
    """Parentheses and words of the grammar as str, conditions in a tuple."""
    found: list[str | Expression | tuple[str]] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] == ")" or (text[at] == "(" and not _TAG.match(text, at)):
            found.append(text[at])
            at += 1
        else:
            word, quoted, at = _word(text, at)
            plain = word.lower()
            found.append(plain if plain in _WORDS and not quoted else (word,))
    return found


def _word(text: str, at: int) -> tuple[str, bool, int]:
    """A condition from a place on, whether it was quoted, and where it ends."""
    found, depth, quoted = "", 0, False
    while at < len(text):
        char = text[at]
        if (char.isspace() and not depth) or (char == ")" and not depth):
            break
        if char in "'\"":
            end = text.find(char, at + 1)
            if end < 0:
                raise QueryError(f"a quote {char} is not closed: close it, or write \\' for an apostrophe")
            found += text[at + 1 : end] if char == "'" else text[at : end + 1]
            at, quoted = end + 1, True
            continue
        if char == "\\" and text[at + 1 : at + 2] == "'":
            at, char = at + 1, "'"
        elif char in "()":
            depth += 1 if char == "(" else -1
        found += char
        at += 1
    if depth:
        raise QueryError("a parenthesis is not closed: close it, or quote it where it is part of a value")
    return found, quoted, at


# ---- writing


def _written(term: Expression, *, inside: bool) -> str:
    """A term; with parentheses where it stands beside others."""
    match term:
        case Condition():
            return _condition(term, "")
        case Not(Condition(operator="is" | "contains") as one) if not one.every:
            return _condition(one, "!")
        case Not(one):
            return f"not {_written(one, inside=True)}"
        case And(terms):
            text = " ".join(_written(one, inside=True) for one in terms)
        case Or(terms):
            text = " or ".join(_written(one, inside=True) for one in terms)
    return f"({text})" if inside else text


def _condition(condition: Condition, no: str) -> str:
    path = condition.path + "__all" * condition.every + "__exact" * condition.exact
    values = condition.values
    match condition.operator:
        case "is":
            return f"{path}{no}={_members(values)}"
        case "contains":
            return f"{path}{no}~{_members(values)}"
        case "ge" | "gt" | "le" | "lt" as operator:
            return f"{path}{_SIGNS[operator]}{_member(values[-1])}"
        case "between":
            low, high = ("" if value is None else _member(value) for value in values)
            return f"{path}={low}..{high}"
        case "count":
            low, high = ("" if value is None else str(value) for value in values)
            return f"{path}__count={low}..{high}"
        case "search":
            return f"{path}={_quoted(str(values[0]))}"
        case "missing" | "empty" as operator:
            return f"{path}__{operator}={str(values[0]).lower()}"
        case "regex":
            return f"{path}__regex={_quoted(str(values[0]))}"
        case operator:
            return f"{path}__{operator}={_members(values)}"


def _members(values: Sequence[Operand]) -> str:
    return ",".join(map(_member, values))


_HARD = re.compile(r"[\s()',\"\\]")


def _member(value: Operand) -> str:
    """A value between commas."""
    text = _number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    if '"' in text:
        return _quoted(text)
    return f'"{text}"' if not text or _HARD.search(text) or ".." in text else text


def _quoted(text: str) -> str:
    """As a shell takes it: in apostrophes."""
    return "'" + text.replace("'", "'\\''") + "'" if _HARD.search(text) or not text else text


def _number(value: float) -> str:
    whole = isinstance(value, int) or value.is_integer()
    return str(int(value)) if whole and abs(value) < 1e15 else repr(value)


def _normal(expression: Expression) -> Expression:
    match expression:
        case Condition(path, _operator, values):
            element = not isinstance(resolve(path), Fact)
            return replace(expression, values=tuple(_normal_value(value, element) for value in values))
        case Not(term):
            return Not(_normal(term))
        case And(terms):
            return And(tuple(map(_normal, terms)))
        case Or(terms):
            return Or(tuple(map(_normal, terms)))


def _normal_value(value: Operand, element: bool) -> Operand:
    """Numbers of elements compare as they are written; those of facts are numbers."""
    if isinstance(value, tuple):
        return tuple(_normal_value(one, element) for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return _number(value) if element else float(value)
