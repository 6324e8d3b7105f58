"""Tables from elsewhere as typed columns: CSV and Parquet files, data frames, rows.

Nothing is guessed that could be read in two ways: such a file is refused with the argument to pass.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

    Source = str | Path | pd.DataFrame | Sequence[Mapping[str, Any]]

Kind = Literal["number", "date", "flag", "text"]
Cell = str | int | float | bool | None  # a date is its ISO text

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?\Z")
_COMMA_NUMBER = re.compile(r"[-+]?[0-9]+(?:,[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?\Z")
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?\Z")
_LEADING_ZERO = re.compile(r"0[0-9]+\Z")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]+(?:Z|[-+][0-9:]+)?)?\Z")
_EXACT_DIGITS = 15  # a longer whole number is an identifier, and would not survive as a double
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: cells in the order of the rows, None where there is no value."""

    name: str
    kind: Kind
    cells: list[Cell] = field(repr=False)


@dataclass(frozen=True, slots=True)
class How:
    """How to read a CSV file where the file does not tell.

    encoding: of the text. delimiter: between values. decimal: "." or ",". missing: texts that mean no value.
    as_text: columns that are identifiers, whatever they look like.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    missing: frozenset[str] = frozenset({""})
    as_text: frozenset[str] = frozenset()


def read_table(source: Source, how: How) -> list[Column]:
    """The columns of a table. Raises QueryError when it cannot be read, or could be read in two ways."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix.lower() in (".parquet", ".pq"):
            return _typed(*_parquet(path), how)
        return _inferred(*_csv(path, how), how)
    if hasattr(source, "columns") and hasattr(source, "itertuples"):
        names = [str(name) for name in source.columns]
        return _typed(names, [list(row) for row in source.itertuples(index=False, name=None)], how)
    rows = list(source)
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    return _typed(names, [[row.get(name) for name in names] for row in rows], how)


def days_of(text: str) -> float | None:
    """Days since 1970-01-01 of an ISO date, with the fraction of its time of day; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86400


def iso_date(text: str) -> str | None:
    """A date as ISO text, from ISO, DICOM (YYYYMMDD) or D.M.YYYY; None where it is none of these."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{8}", text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    elif found := re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})", text):
        text = f"{found[3]}-{int(found[2]):02}-{int(found[1]):02}"
    return text if _ISO.match(text) and days_of(text) is not None else None


# ---- files -------------------------------------------------------------------------------------------


def _csv(path: Path, how: How) -> tuple[list[str], list[list[str]]]:
    text = _decoded(path, how.encoding)
    head = text.partition("\n")[0]
    if not head.strip():
        raise QueryError(f"{path.name} is empty: a table begins with a line of column names")
    delimiter = how.delimiter or max(_DELIMITERS, key=head.count)
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise QueryError(f"{path.name} is no CSV file ({error}): mend it, or pass delimiter=") from None
    names, *body = rows
    body = [row for row in body if row]  # blank lines
    for number, row in enumerate(body, 1):
        if len(row) != len(names):
            raise QueryError(
                f"row {number} of {path.name} has {len(row)} values for {len(names)} columns: "
                "mend it, or pass delimiter="
            )
    return [name.strip() for name in names], body


def _decoded(path: Path, encoding: str | None) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise QueryError(f"{path.name} cannot be read: {error.strerror}") from error
    if encoding is None:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeError:
        raise QueryError(f'{path.name} is not {encoding}: pass encoding="cp1252" or what it is') from None
    except LookupError:
        raise QueryError(f"there is no encoding {encoding}: see the codecs of Python") from None


def _parquet(path: Path) -> tuple[list[str], list[list[Any]]]:
    import duckdb

    if not path.is_file():
        raise QueryError(f"{path.name} cannot be read: there is no such file")
    try:
        with duckdb.connect(":memory:") as connection:
            found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [str(column[0]) for column in found.description or ()]
            return names, [list(row) for row in found.fetchall()]
    except duckdb.Error as error:
        raise QueryError(f"{path.name} is no Parquet file ({type(error).__name__})") from None


# ---- types -------------------------------------------------------------------------------------------


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, list[Any]]]:
    if len(set(names)) != len(names) or not all(names):
        raise QueryError("the table has columns without a name, or two of one name: rename them")
    return zip(names, map(list, zip(*rows, strict=True)) if rows else ([] for _ in names), strict=True)


def _inferred(names: Sequence[str], rows: Sequence[Sequence[str]], how: How) -> list[Column]:
    return [_infer(name, cells, how) for name, cells in _columns(names, rows)]


def _infer(name: str, written: Iterable[str], how: How) -> Column:
    """A column of texts as what all of them are."""
    texts = [None if (text := one.strip()) in how.missing else text for one in written]
    found = [text for text in texts if text is not None]
    if not found or name in how.as_text or any(_is_identifier(text) for text in found):
        return Column(name, "text", list(texts))
    if all(_ISO.match(text) and days_of(text) is not None for text in found):
        return Column(name, "date", list(texts))
    if all(text.lower() in ("true", "false") for text in found):
        return Column(name, "flag", [None if text is None else text.lower() == "true" for text in texts])
    decimal = _decimal(name, found, how)
    if decimal is None:
        return Column(name, "text", list(texts))
    return Column(name, "number", [None if t is None else _number(t.replace(decimal, ".")) for t in texts])


def _is_identifier(text: str) -> bool:
    return bool(_LEADING_ZERO.match(text)) or (text.isdigit() and len(text) > _EXACT_DIGITS)


def _decimal(name: str, texts: list[str], how: How) -> str | None:
    """The decimal sign of a column of numbers; None when it is of something else."""
    point, comma = (all(pattern.match(text) for text in texts) for pattern in (_NUMBER, _COMMA_NUMBER))
    if how.decimal is not None:
        return how.decimal if (comma if how.decimal == "," else point) else None
    if point:
        return "."
    if comma and any(not _THOUSANDS.match(text) for text in texts if "," in text):
        return ","
    if comma or all(_NUMBER.match(t) or _COMMA_NUMBER.match(t) or _THOUSANDS.match(t) for t in texts):
        raise QueryError(f'column {name} can be read in two ways: pass decimal="," or decimal="."')
    return None


def _number(text: str) -> int | float:
    value = float(text)
    return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else value


def _typed(names: Sequence[str], rows: Sequence[Sequence[Any]], how: How) -> list[Column]:
    return [_of_type(name, [_plain(one, how) for one in cells], how) for name, cells in _columns(names, rows)]


def _plain(value: Any, how: How) -> Cell:
    """A value of a data frame or a Parquet file in a type of JSON; a date as ISO text."""
    if hasattr(value, "item") and not isinstance(value, str | int | float | date):  # of numpy
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # of pandas
        return None
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, str):
        return None if (text := value.strip()) in how.missing else text
    if isinstance(value, bool | int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        at_midnight = value.tzinfo is None and not (value.hour or value.minute or value.second)
        return value.date().isoformat() if at_midnight else value.isoformat()
    return str(value)


def _of_type(name: str, cells: list[Cell], how: How) -> Column:
    found = [cell for cell in cells if cell is not None]
    if name in how.as_text or not found:
        return Column(name, "text", [None if cell is None else text_of(cell) for cell in cells])
    if all(isinstance(cell, bool) for cell in found):
        return Column(name, "flag", cells)
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in found):
        return Column(name, "number", cells)
    texts = [None if cell is None else text_of(cell) for cell in cells]
    dates = all(text is None or (_ISO.match(text) and days_of(text) is not None) for text in texts)
    return Column(name, "date" if dates else "text", list(texts))


def text_of(cell: str | int | float | bool) -> str:
    """A value as text; a whole number without a point, as a column of identifiers with gaps has it."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 10**_EXACT_DIGITS:
        return str(int(cell))
    return str(cell)
