"""What a table of series holds, in a page: how many of what, what is missing, which values there are."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dicomlake.cohorts.telling import cells
from dicomlake.cohorts.telling.cells import Coded, Codes
from dicomlake.cohorts.telling.identifying import free_text, identifying
from dicomlake.dicom import standard

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "number", "date", "time", "hidden"]
NEEDED = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "StudyDate", "instances", "bytes")
SHARED = 3
"""A text that people wrote is listed only where so many patients share it; others may name somebody."""
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    missing: series without a value. several: series where the element has several values.
    distinct: how many different values there are. top: the most frequent ones and how many series have
    each. quantiles: at 0, 5, 50, 95 and 100 % of the numbers. range: first and last date, YYYY-MM-DD, or
    time of day, HH:MM.
    withheld: how many different values `top` leaves out since they may tell who somebody is.
    """

    name: str
    kind: Kind
    missing: int
    several: int
    distinct: int
    top: tuple[tuple[str, int], ...] = ()
    quantiles: tuple[float, ...] = ()
    range: tuple[str, str] | None = None
    withheld: int = 0

    @property
    def told(self) -> str:
        """Its values in a line."""
        if self.kind == "hidden":
            return "not shown: identifying"
        if self.range:
            return f"{self.range[0]} to {self.range[1]}"
        if self.quantiles:
            write = size if self.name == "bytes" else "{:.6g}".format
            low, _, middle, _, high = (write(value) for value in self.quantiles)
            return low if low == high else f"{low} to {high}, median {middle}"
        shown = ", ".join(f"{value} ({count:,})" for value, count in self.top)
        rest = self.distinct - len(self.top) - self.withheld
        more = [f"{rest:,} more"] if rest > 0 else []
        more += [f"{self.withheld:,} of fewer than {SHARED} patients not shown"] if self.withheld else []
        return "; ".join(part for part in (shown, *more) if part)


@dataclass(frozen=True, slots=True, repr=False)
class Description:
    """What a table of series holds; prints, shows itself in a notebook, turns into a table or a dict.

    counts: patients, studies, series, instances, bytes, as far as the table has what they are counted by.
    series_per_patient: fewest, median and most. dates: first and last StudyDate, YYYY-MM-DD.
    """

    counts: dict[str, int]
    columns: tuple[Column, ...]
    series_per_patient: tuple[int, float, int] | None = None
    dates: tuple[str, str] | None = None

    @property
    def table(self) -> pd.DataFrame:
        """One row a column: kind, missing, missing_percent, several, distinct, values."""
        import pandas as pd

        series = max(self.counts["series"], 1)
        rows = [
            {
                "column": one.name,
                "kind": one.kind,
                "missing": one.missing,
                "missing_percent": round(100 * one.missing / series, 1),
                "several": one.several,
                "distinct": one.distinct,
                "values": one.told,
            }
            for one in self.columns
        ]
        names = ["kind", "missing", "missing_percent", "several", "distinct", "values"]
        return pd.DataFrame(rows, columns=["column", *names]).set_index("column")

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types."""
        return {
            "counts": dict(self.counts),
            "series_per_patient": list(self.series_per_patient) if self.series_per_patient else None,
            "dates": list(self.dates) if self.dates else None,
            "columns": {one.name: _plain(one) for one in self.columns},
        }

    def _lines(self) -> Iterator[str]:
        counts = {name: size(n) if name == "bytes" else f"{n:,} {name}" for name, n in self.counts.items()}
        yield ", ".join(counts.values())
        if self.dates:
            yield f"StudyDate {self.dates[0]} to {self.dates[1]}"
        if self.series_per_patient:
            low, middle, high = self.series_per_patient
            yield f"series a patient: {low:,} to {high:,}, median {middle:g}"

    def __repr__(self) -> str:
        width = max((len(one.name) for one in self.columns), default=0)
        head = f"{'':{width}}  missing  distinct  values"
        rows = [
            f"{one.name:{width}}  {self._percent(one):>7}  {one.distinct:>8,}  {_cut(one.told, 90)}"
            for one in self.columns
        ]
        return "\n".join([*self._lines(), *([head, *rows] if rows else [])])

    def _percent(self, one: Column) -> str:
        return percent(one.missing, self.counts["series"])

    def _repr_html_(self) -> str:
        left, right = "style='text-align:left'", "style='text-align:right'"
        rows = "".join(
            f"<tr><th {left}>{html.escape(one.name)}</th>"
            f"<td>{_filled(one.missing, self.counts['series'])}</td>"
            f"<td {right}>{self._percent(one)}</td><td {right}>{one.distinct:,}</td>"
            f"<td {left}>{_values_html(one, self.counts['series'])}</td></tr>"
            for one in self.columns
        )
        first, *others = self._lines()
        head = (
            f"<tr><th></th><th {left}>filled</th><th {right}>missing</th><th {right}>distinct</th>"
            f"<th {left}>values</th></tr>"
        )
        return (
            f"<div><strong>{html.escape(first)}</strong><br>{html.escape('; '.join(others))}"
            f"<table>{head}{rows}</table></div>"
        )


def describe(table: pd.DataFrame, *, top: int = 5) -> Description:
    """What a table of series holds, column by column.

    top: how many of the most frequent values of a column are listed.

    Values of identifying elements (names, identifiers, birth dates, UIDs) are counted, never listed, and
    text that people wrote only where at least 3 patients share it.
    """
    identified = "PatientID" in table.columns and "StudyInstanceUID" in table.columns
    patient, study = cells.who(table) if identified else (None, None)
    counts: dict[str, int] = {}
    if patient is not None and study is not None:
        counts |= {"patients": int(patient.max(initial=-1)) + 1, "studies": int(study.max(initial=-1)) + 1}
    counts["series"] = len(table)
    for name in ("instances", "bytes"):
        if name in table.columns:
            counts[name] = int(np.nansum(cells.numbers(table[name])))
    columns = tuple(_column(table[name], patient, top) for name in table.columns)
    dates = next((one.range for one in columns if one.name == "StudyDate"), None)
    return Description(counts, columns, _series_per_patient(patient), dates)


def _series_per_patient(patient: Codes | None) -> tuple[int, float, int] | None:
    if patient is None or not len(patient):
        return None
    held = np.bincount(patient)
    return int(held.min()), float(np.median(held)), int(held.max())


def _column(column: pd.Series[Any], patient: Codes | None, top: int) -> Column:
    name = str(column.name)
    if column.dtype.kind in "iuf" and not identifying(name):
        return _numeric(name, cells.numbers(column))
    found = cells.coded(column)
    missing = int((found.codes < 0).sum())
    several = found.take([isinstance(value, tuple) for value in found.values], False, bool)
    facts = (missing, int(several.sum()), len(found.values))
    if identifying(name):
        return Column(name, "hidden", *facts)
    if cells.vr(name) == "DA" or column.dtype.kind == "M":
        return Column(name, "date", *facts, range=_range(cells.days(column)))
    if cells.vr(name) == "TM":
        return Column(name, "time", *facts, range=_clock_range(cells.seconds(column)))
    if cells.is_numeric(column):
        numbers = cells.numbers(column)
        if int(np.isnan(numbers).sum()) == missing < len(numbers):  # else some are no single number
            return _numeric(name, numbers)
    listed, withheld = _top(found, patient if free_text(name) else None, free_text(name), top)
    if cells.vr(name) == "UI":
        listed = tuple((standard.uid_name(value), count) for value, count in listed)
    return Column(name, "text", *facts, top=listed, withheld=withheld)


def _numeric(name: str, numbers: cells.Numbers) -> Column:
    import pandas as pd

    known = numbers[~np.isnan(numbers)]
    facts = (len(numbers) - len(known), 0, len(pd.unique(known)))
    return Column(name, "number", *facts, quantiles=_quantiles(known) if len(known) else ())


def _quantiles(numbers: cells.Numbers) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(numbers, QUANTILES, method="nearest"))


def _range(days: cells.Numbers) -> tuple[str, str] | None:
    known = days[~np.isnan(days)]
    if not len(known):
        return None
    first, last = (np.datetime64(int(value), "D") for value in (known.min(), known.max()))
    return str(first), str(last)


def _clock_range(seconds: cells.Numbers) -> tuple[str, str] | None:
    known = seconds[~np.isnan(seconds)]
    if not len(known):
        return None
    first, last = (f"{at // 3600:02}:{at % 3600 // 60:02}" for at in (int(known.min()), int(known.max())))
    return first, last


def _top(
    found: Coded, patient: Codes | None, written: bool, top: int
) -> tuple[tuple[tuple[str, int], ...], int]:
    """The most frequent values that may be shown, and how many may not."""
    counts = np.bincount(found.codes[found.codes >= 0], minlength=len(found.values))
    shown = np.ones(len(counts), dtype=bool)
    if written:
        shown = _patients_of(found, patient) >= SHARED
    order = np.flatnonzero(shown)
    order = order[np.argsort(-counts[order], kind="stable")][:top]
    return tuple((cells.label(found.values[at]), int(counts[at])) for at in order), int((~shown).sum())


def _patients_of(found: Coded, patient: Codes | None) -> Codes:
    """How many patients have each value; none where the table does not say who is who."""
    if patient is None:
        return np.zeros(len(found.values), dtype=np.int64)
    import pandas as pd

    held = found.codes >= 0
    span = len(found.values)
    pairs = pd.unique(patient[held] * span + found.codes[held])
    return np.bincount(pairs % max(span, 1), minlength=span)


# ---- shown -------------------------------------------------------------------------------------------------


def size(count: float) -> str:
    """A number of bytes to read, in powers of 1024."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:,.0f} bytes" if unit == "bytes" else f"{count:,.1f} {unit}"


def percent(part: int, whole: int) -> str:
    """A share to read: never 0 % for some, never 100 % for not all."""
    share = 100 * part / max(whole, 1)
    if part and share < 1:
        return "<1 %"
    if part < whole and share > 99:
        return ">99 %"
    return f"{share:.0f} %" if part else "–"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _filled(missing: int, series: int) -> str:
    share = 100 - 100 * missing / max(series, 1)
    return (
        "<div style='width:60px;height:8px;background:rgba(128,128,128,.25)'>"
        f"<div style='width:{share:.0f}%;height:8px;background:#0072B2'></div></div>"
    )


def _values_html(one: Column, series: int) -> str:
    if not one.top:
        return html.escape(one.told)
    chips = [
        f"{html.escape(_cut(value, 40))} <span style='opacity:.6'>{percent(count, series)}</span>"
        for value, count in one.top
    ]
    rest = one.told.rpartition("; ")[2] if one.distinct > len(one.top) else ""
    return " · ".join([*chips, *([f"<span style='opacity:.6'>{html.escape(rest)}</span>"] if rest else [])])


def _plain(one: Column) -> dict[str, Any]:
    found = asdict(one)
    found.pop("name")
    return found | {
        "top": [list(pair) for pair in one.top],
        "quantiles": dict(zip(("0", "0.05", "0.5", "0.95", "1"), one.quantiles, strict=False)),
        "range": list(one.range) if one.range else None,
    }
