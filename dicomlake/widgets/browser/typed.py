"""What somebody types into the search box: free words and conditions, in one line.

`chest Modality=CT SliceThickness<=1.5 -phantom "left lung"`: a condition is a name, a sign and a value
without blanks or in quotes; everything else is a word, which names, identifiers, descriptions, UIDs or
reports of a series hold. A leading minus asks for series without it. All of them must hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dicomlake.catalog.query import And, Condition, Expression, Not, Or, parse_text
from dicomlake.catalog.query.facts import NAMES
from dicomlake.catalog.query.spelling import near
from dicomlake.catalog.words import words
from dicomlake.dicom import standard
from dicomlake.errors import QueryError
from dicomlake.widgets.browser.source import Found

if TYPE_CHECKING:
    import pandas as pd

MAX_TEXT = 2000  # characters of the box
_MAX_PARTS = 40
_PATH = r'[A-Za-z0-9][\w,.]*(?:\["(?:(?!"\]).)*"\]|\[\d+\]|\.[\w,]+|__\w+)*'
_VALUE = r'(?:"[^"]*"|[^\s",]+)(?:,(?:"[^"]*"|[^\s",]+))*,?'
_PART = re.compile(
    rf"(?P<condition>(?P<path>{_PATH})\s*(?P<sign>!=|!~|<=|>=|=|<|>|~)\s*(?P<value>{_VALUE})?)"
    r'|(?P<minus>-)?(?P<word>"[^"]*"?|[^\s"]+)'
)
_UID = re.compile(r"[0-2](\.\d+){2,}\.?")
_MIN_UID = 6  # characters: shorter beginnings name half of the lake
_NAMED = (
    *("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription"),
    *("ProtocolName", "BodyPartExamined", "RequestedProcedureDescription"),
    *("SegmentSequence.SegmentLabel", "StructureSetROISequence.ROIName"),
)
_MOST_REPORTS = 1000  # studies named one by one; `text=` finds any number, more slowly


class Places(Protocol):
    """Where words can be that no condition on elements looks at: a lake."""

    def find(self, uid: str) -> Sequence[Found]:
        """The series that a UID, or its unique beginning, names."""

    def search(self, words: str, *, kinds: Sequence[str], limit: int) -> pd.DataFrame:
        """Reports and documents that hold words, with their StudyInstanceUID."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What of a text cannot be understood: where (characters from, to), why, and what to write instead."""

    start: int
    end: int
    message: str
    instead: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """JSON types."""
        told = {"start": self.start, "end": self.end, "message": self.message}
        return told | {"instead": list(self.instead)}


@dataclass(frozen=True, slots=True)
class Typed:
    """A text as an expression. conditions, words: how many of each could be understood."""

    text: str
    expression: Expression
    conditions: int
    words: int
    problem: Problem | None = None


def read(text: str, places: Places) -> Typed:
    """What a text asks for; all that can be understood of it, and the first thing that cannot."""
    terms: list[Expression] = []
    count = {"condition": 0, "word": 0}
    problem: Problem | None = None
    parts = list(_PART.finditer(text[:MAX_TEXT]))
    if len(text) > MAX_TEXT or len(parts) > _MAX_PARTS:
        told = f"more than {_MAX_PARTS} words or {MAX_TEXT:,} characters: ask lake.query(…) in a cell"
        return Typed(text, And(()), 0, 0, Problem(0, len(text), told))
    for part in parts:
        kind = "condition" if part["condition"] else "word"
        try:
            term = _condition(part) if part["condition"] else _word(part, places)
        except QueryError as error:
            problem = problem or Problem(part.start(), part.end(), _told(error), _instead(part))
            continue
        if term is not None:
            terms.append(term)
            count[kind] += 1
    whole = terms[0] if len(terms) == 1 else And(tuple(terms))
    return Typed(text, whole, count["condition"], count["word"], problem)


def _told(error: QueryError) -> str:
    """What an error says, without the condition before it where it is no more than the name that follows."""
    return re.sub(r"\A('[^']*'): (?=\1 )", "", str(error))


def _condition(part: re.Match[str]) -> Expression:
    if part["value"] is None:
        parse_text(f"{part['path']}__missing=true")  # a name that nobody knows is told at once
        raise QueryError(
            f"{part['path']}{part['sign']} wants a value; {part['path']}__missing=true finds none"
        )
    return parse_text(f"{part['path']}{part['sign']}{part['value']}")


def _word(part: re.Match[str], places: Places) -> Expression | None:
    """A word as any of the places that may hold it; None for one without a letter or digit."""
    word = part["word"].strip('"')
    if not words(word):
        return None
    either: list[Expression] = [Condition(name, "contains", (word,)) for name in _NAMED[:1]]
    spelled = tuple(dict.fromkeys((word, word.upper())))
    either += [Condition(name, "contains", spelled) for name in _NAMED[1:]]
    if word.isalnum():
        either.append(Condition("Modality", "is", (word.upper(),)))
    either += _of_uid(word, places) if _UID.fullmatch(word) and len(word) >= _MIN_UID else []
    either += _in_reports(f'"{word}"' if len(words(word)) > 1 else f"{word}*", places)
    found = Or(tuple(either))
    return Not(found) if part["minus"] else found


def _in_reports(written: str, places: Places) -> list[Expression]:
    """The studies whose reports hold a word; descriptions are looked at as elements."""
    hits = places.search(written, kinds=("report", "document"), limit=_MOST_REPORTS)
    if len(hits) >= _MOST_REPORTS:
        return [parse_text(f"text={written}")]
    studies = tuple(dict.fromkeys(hits["StudyInstanceUID"])) if len(hits) else ()
    return [Condition("StudyInstanceUID", "is", studies)] if studies else []


def _of_uid(word: str, places: Places) -> list[Expression]:
    """UIDs that begin so, of studies and series; and series that hold an instance of it."""
    names = ("StudyInstanceUID", "SeriesInstanceUID")
    begins: list[Expression] = [Condition(name, "startswith", (word,)) for name in names]
    held = tuple(dict.fromkeys(one.key.series_uid for one in places.find(word)))
    return [*begins, Condition("SeriesInstanceUID", "is", held)] if held else begins


def _instead(part: re.Match[str]) -> tuple[str, ...]:
    """The same condition with names that are spelled alike."""
    path = part["path"]
    if not path:
        return ()
    first, dot, rest = path.partition(".")
    name, mark, suffix = first.partition("__")
    close = near(name, [*standard.keywords(), *NAMES]) if name not in standard.keywords() else []
    tail = f"{mark}{suffix}{dot}{rest}{part['sign']}{part['value'] or ''}"
    return tuple(f"{one}{tail}" for one in close)


def quoted(value: str) -> str | None:
    """A value as the box reads it back, exactly; None where it cannot be written there."""
    if '"' in value or not value.strip():
        return None
    plain = re.fullmatch(r"[^\s,]+", value) and ".." not in value
    return value if plain else f'"{value}"'
