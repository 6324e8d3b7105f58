"""What is to be fetched: rows of keys, from a table of accessions and the like, or from conditions."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicomlake.dicom import standard
from dicomlake.errors import QueryError

_BOM = "\ufeff"
_SYNONYMS = {"Modality": "ModalitiesInStudy"}  # what a study is asked for (PS3.4 section C.3.4)
IDENTIFYING = ("StudyInstanceUID", "AccessionNumber", "PatientID", "PatientName")
"""Keys of which a row of a table, or of UIDs, has at least one, so that it never asks for a whole archive."""
_BELOW = ("SeriesInstanceUID", "SOPInstanceUID")  # a peer may ignore them where studies are asked for
_NOT_ASKED = frozenset({"QueryRetrieveLevel", "SpecificCharacterSet"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """The keys of one row; number counts from 1. They may identify a patient: for the result table only.

    refused: why the row is not asked for, without values; "" for one that is.
    """

    number: int
    keys: Mapping[str, str] = field(repr=False)
    refused: str = ""

    @property
    def digest(self) -> str:
        """The same for the same keys, and tells nothing about them to who does not know them."""
        text = "\0".join(f"{keyword}={value}" for keyword, value in sorted(self.keys.items()))
        return hashlib.sha256(text.encode()).hexdigest()


def from_conditions(*conditions: str) -> Wanted:
    """One row from `Keyword=value` each. Raises QueryError that names the condition's keyword."""
    keys = {}
    for condition in conditions:
        keyword, equals, value = condition.partition("=")
        if not equals or not value.strip():
            raise QueryError(f"the condition on {keyword.strip() or '?'} is none: write it as Keyword=value")
        keys[_keyword(keyword)] = value.strip()
    if not keys:
        raise QueryError("nothing is asked for: give conditions such as PatientID=…, or UIDs")
    return Wanted(1, keys)


def studies(uids: Iterable[str]) -> list[Wanted]:
    """One row for each StudyInstanceUID; one that is empty or has wildcards is refused."""
    return [_identified(number, {"StudyInstanceUID": uid.strip()}) for number, uid in enumerate(uids, 1)]


def from_csv(path: str | Path) -> list[Wanted]:
    """The rows of a CSV file whose columns are keywords of PS3.6: AccessionNumber, PatientID …

    A cell that is empty asks for nothing; a column without a name, such as the index of a data frame, is
    left out. A row is refused, and the others go on, when none of its cells identifies (`IDENTIFYING`), when
    one that does has wildcards, and when it has cells beyond the columns.
    Delimiters: comma, semicolon, tab; text: UTF-8 or Latin-1.
    Raises QueryError for a column that is no keyword, and for a file that cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise QueryError(f"{path} cannot be read ({exc.strerror})") from exc
    return list(_rows(_text(data), str(path)))


def _rows(text: str, path: str) -> Iterator[Wanted]:
    head, _newline, _rest = text.partition("\n")
    delimiter = max(",;\t", key=head.count)
    table = csv.reader(io.StringIO(text), delimiter=delimiter)
    names = next(table, [])
    columns = {at: _keyword(name) for at, name in enumerate(names) if name.strip()}
    if not columns:
        raise QueryError(f"{path} has no columns: its first line names them, such as AccessionNumber")
    for number, cells in enumerate((row for row in table if any(cell.strip() for cell in row)), 1):
        if any(cell.strip() for cell in cells[len(names) :]):
            yield Wanted(number, {}, "the row has more cells than there are columns: quote delimiters")
            continue
        given = [(name, cells[at].strip()) for at, name in columns.items() if at < len(cells)]
        yield _identified(number, {name: value for name, value in given if value})


def _identified(number: int, keys: Mapping[str, str]) -> Wanted:
    """A row, refused unless it names what it asks for (PS3.4 section C.2.2.2: an empty key matches all)."""
    if not any(keys.get(keyword) for keyword in IDENTIFYING):
        some = f"{', '.join(IDENTIFYING[:-1])} or {IDENTIFYING[-1]}"
        return Wanted(number, keys, f"the row names no study or patient, and would ask for all: give {some}")
    for keyword in (*IDENTIFYING, *_BELOW):
        value = keys.get(keyword, "")
        if "*" in value or "?" in value:
            why = f"{keyword} has a wildcard, * or ?: write the whole value, or ask with a query"
            return Wanted(number, keys, why)
        if value and not all(part.strip() for part in value.split("\\")):
            return Wanted(number, keys, f"{keyword} has an empty value beside a backslash: leave that out")
    return Wanted(number, keys)


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.removeprefix(_BOM).replace("\r\n", "\n").replace("\r", "\n")


def _keyword(name: str) -> str:
    keyword = name.strip().strip('"')
    if standard.tag_of(keyword) is None or keyword in _NOT_ASKED:
        shown = keyword if keyword.isascii() and keyword.isalpha() else "a column or condition"
        raise QueryError(f"{shown} cannot be asked for: write keywords of PS3.6, AccessionNumber")
    return _SYNONYMS.get(keyword, keyword)
