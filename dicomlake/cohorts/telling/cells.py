"""Columns of a table of series as numbers: codes, days, seconds, who is who; a million rows at a time.

A cell of such a table is missing, one value, or a tuple where an element has several. Work is done once
for each different value, never once for each row.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard, values
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Dates = npt.NDArray[np.datetime64]
_EPOCH = datetime.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column as numbers of its different values.

    codes: for each row the index in `values`, -1 where the cell is missing or empty.
    """

    codes: Codes
    values: list[Any]

    def take(self, of_values: Iterable[Any], missing: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """For each row what stands for its value in `of_values`."""
        chosen = np.array([*of_values, missing], dtype=dtype)
        return chosen[self.codes]

    @property
    def labels(self) -> list[str]:
        """The values as text; several in one cell with the backslash of PS3.5 6.4 between them."""
        return [label(value) for value in self.values]


def coded(column: pd.Series[Any]) -> Coded:
    """The different values of a column, in the order in which they first appear."""
    import pandas as pd

    codes, found = pd.factorize(column)
    different = found.tolist()
    codes = codes.astype(np.int64)
    empty = _empty(different)
    if not any(empty):
        return Coded(codes, different)
    filled = ~np.array([*empty, True])
    moved = np.where(filled, np.cumsum(filled) - 1, -1)
    return Coded(moved[codes], list(compress(different, filled)))


def _empty(different: list[Any]) -> list[bool]:
    if all(type(value) is str for value in different):
        return [not value.strip() for value in different]
    return [_is_empty(value) for value in different]


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value or value.isspace()
    return isinstance(value, tuple) and all(part is None or part == "" for part in value)


def label(value: Any) -> str:
    """A cell as text, numbers in their shortest form."""
    if isinstance(value, tuple):
        return "\\".join(label(part) for part in value)
    if isinstance(value, float):
        return f"{value:.12g}"
    return "" if value is None else str(value)


def require(table: pd.DataFrame, *columns: str) -> None:
    """Raise QueryError, naming the columns, when a table lacks some of these."""
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise QueryError(
            f"the table has no column {', '.join(absent)}: name what is needed in .table(…) when making it"
        )


def vr(name: str) -> str | None:
    """The VR of the element that a column is named after, None for facts and what is in no dictionary."""
    tag = standard.tag_of(name.rpartition(".")[2])
    return None if tag is None else standard.vr_of(tag)


def is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a column is of numbers: by its dtype, else by the VR of its name."""
    from pandas.api import types

    if types.is_bool_dtype(column.dtype):
        return False
    return types.is_numeric_dtype(column.dtype) or vr(str(column.name)) in values.NUMBER_VRS


def numbers(column: pd.Series[Any]) -> Numbers:
    """The finite numbers of a column; NaN where a cell is missing, is none, or holds several values."""
    from pandas.api import types

    if types.is_numeric_dtype(column.dtype):
        found = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(found), found, np.nan)
    return _by_value(column, number)


def number(value: Any) -> float:
    """One value as a finite number, else NaN; an age such as `064Y` in years."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        years = values.number("AS", value) if isinstance(value, str) else None
        return math.nan if years is None else years
    return found if np.isfinite(found) else np.nan


def days(column: pd.Series[Any]) -> Numbers:
    """Dates of a column as days since 1970-01-01; NaN where there is none that makes sense.

    Takes DA texts, dates and timestamps; the earliest where a cell holds several.
    """
    from pandas.api import types

    if types.is_datetime64_any_dtype(column.dtype):
        local = column.dt.tz_localize(None)
        whole = local.to_numpy(dtype="datetime64[s]").astype("datetime64[D]")
        return np.where(np.isnat(whole), np.nan, whole.astype(np.int64).astype(np.float64))
    return _by_value(column, day)


def day(value: Any) -> float:
    """One date as days since 1970-01-01, the earliest of several; NaN when it makes no sense."""
    if isinstance(value, tuple):
        return _first(day(part) for part in value)
    if isinstance(value, datetime.date):
        return float(value.toordinal() - _EPOCH)
    if isinstance(value, np.datetime64):
        return float("nan") if np.isnat(value) else float(value.astype("datetime64[D]").astype(np.int64))
    text = str(value)
    if len(text) == 10 and text[4] == text[7] == "-":
        text = text.replace("-", "")
    found = values.typed("DA", text)
    return math.nan if found is None else found


def seconds(column: pd.Series[Any]) -> Numbers:
    """Times of day of a column as seconds since midnight; NaN where there is none that makes sense.

    Takes TM texts and times; the earliest where a cell holds several.
    """
    return _by_value(column, _second)


def _second(value: Any) -> float:
    if isinstance(value, tuple):
        return _first(_second(part) for part in value)
    if isinstance(value, datetime.time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    text = str(value)
    head, _dot, fraction = text.partition(".")
    if len(head) == 6 and fraction.isdecimal() and len(fraction) <= 6:  # nearly all, and nearly all differ
        return _clock(head) + int(fraction) / 10.0 ** len(fraction)
    return _clock(text)


@lru_cache(maxsize=1 << 17)
def _clock(text: str) -> float:
    found = values.typed("TM", text)
    return math.nan if found is None else found


def _first(found: Iterable[float]) -> float:
    return min((one for one in found if not np.isnan(one)), default=np.nan)


def _by_value(column: pd.Series[Any], convert: Callable[[Any], float]) -> Numbers:
    found = coded(column)
    return found.take((convert(value) for value in found.values), np.nan, np.float64)


def patients(table: pd.DataFrame) -> Codes:
    """The patient of each row: see `who`."""
    return who(table)[0]


def who(table: pd.DataFrame) -> tuple[Codes, Codes]:
    """The patient and the study of each row, each numbered from 0 in reading order.

    Patients are told apart by PatientID and IssuerOfPatientID. Rows without a PatientID are one patient for
    each study: nothing says that they are the same. One StudyInstanceUID with two patients is two studies.
    """
    require(table, "PatientID", "StudyInstanceUID")
    study = coded(table["StudyInstanceUID"]).codes
    study = np.where(study < 0, study.max(initial=0) + 1 + np.arange(len(study)), study)
    known = patient_key(table)
    patient = renumbered(np.where(known < 0, -1 - study, known))
    return patient, renumbered(patient * (study.max(initial=0) + 1) + study)


def patient_key(table: pd.DataFrame) -> Codes:
    """A number for each different PatientID and IssuerOfPatientID; -1 without a PatientID."""
    identity = coded(table["PatientID"]).codes
    if "IssuerOfPatientID" not in table.columns:
        return identity
    issuer = coded(table["IssuerOfPatientID"]).codes + 1
    return np.where(identity < 0, -1, identity * (issuer.max(initial=0) + 1) + issuer)


def renumbered(codes: Codes) -> Codes:
    """The same distinctions with numbers from 0 in the order in which they first appear."""
    import pandas as pd

    return pd.factorize(codes)[0].astype(np.int64)


def moments(table: pd.DataFrame, date: str = "StudyDate") -> tuple[Numbers, Numbers]:
    """Days since 1970-01-01 and seconds since midnight of each row, NaN where unknown.

    The time is that of the column named like `date` with Time for Date, where the table has it.
    """
    require(table, date)
    time = date.removesuffix("Date") + "Time"
    has_time = date.endswith("Date") and time in table.columns
    return days(table[date]), (seconds(table[time]) if has_time else np.full(len(table), np.nan))
