"""One element or fact of all series, as numbers: what facets count, brushes cut and the table sorts by.

A series has every value that any of its instances has, as in `lake.query`. Nearly always that is one value:
the first is in an array, further ones are listed as pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.folding import fold
from dicomlake.catalog.query.paths import ElementPath
from dicomlake.catalog.query.sources import resolve
from dicomlake.dicom import values as vrs
from dicomlake.errors import QueryError
from dicomlake.widgets.explorer.source import Mask
from dicomlake.widgets.explorer.universe import Rows, Universe, fetched

_HELD = "SELECT series_id, vr, text, fold, low FROM attributes WHERE path = ? AND text <> ''"
_ANY = "SELECT series_id, text, fold FROM attributes WHERE path = ? AND vm_high > 0"
_HOLLOW = """SELECT series_id, text IS NULL AS summed FROM attributes
    WHERE path = ? AND vm_high > 0 AND coalesce(text, '') = ''"""
_DAY_S = 86_400.0
_DATED = frozenset({"DA", "DT"})
_NOT_HERE = "the whole element: facets and sorting have no use for an index or a part of a name"
UNITS = {
    **dict.fromkeys(("SliceThickness", "PixelSpacing", "spacing_mm", "SpacingBetweenSlices"), "mm"),
    **dict.fromkeys(("ReconstructionDiameter", "TableHeight", "SliceLocation"), "mm"),
    **dict.fromkeys(("EchoTime", "RepetitionTime", "InversionTime", "ActualFrameDuration"), "ms"),
    **dict.fromkeys(("FlipAngle", "GantryDetectorTilt", "tilt_degrees"), "°"),
    "KVP": "kV",
    "MagneticFieldStrength": "T",
    "PatientAge": "years",
    "PatientWeight": "kg",
    "PatientSize": "m",
    "bytes": "bytes",
    "XRayTubeCurrent": "mA",
    "ExposureTime": "ms",
    "RadionuclideTotalDose": "Bq",
    "ImagingFrequency": "MHz",
    "PixelBandwidth": "Hz/px",
}


@dataclass(frozen=True, eq=False)
class Column:
    """What the series say of one thing.

    kind: "text", "number" or "date". present: (n,) which series have it at all.
    first: (n,) of text, the place in `values` plus 1, 0 for none; of numbers the number, of dates the days
        since 1970-01-01, NaN for none.
    more_rows, more: (k,) further different values, each with the row of its series.
    whole: whether these are all values; else some series have so many that only their headers tell.
    values: of text. folded: of text, what it is without case and accents; None where it counts as written.
    """

    path: str
    kind: str
    present: Mask
    first: npt.NDArray[Any]
    more_rows: Rows
    more: npt.NDArray[Any]
    whole: bool = True
    values: list[str | float] = field(default_factory=list)
    folded: list[str | None] = field(default_factory=list)

    @property
    def units(self) -> str:
        """Of numbers, for an axis."""
        return UNITS.get(self.path.partition(".")[0], "")

    @cached_property
    def places(self) -> dict[str | float, list[int]]:
        """Of text, value as written -> its places in `first`."""
        found: dict[str | float, list[int]] = {}
        for place, value in enumerate(self.values, 1):
            found.setdefault(value, []).append(place)
        return found

    @cached_property
    def alike(self) -> dict[str, list[int]]:
        """Of text, value without case and accents -> the places that a query takes for it."""
        found: dict[str, list[int]] = {}
        for place, (value, plain) in enumerate(zip(self.values, self.folded, strict=True), 1):
            if plain is not None:
                found.setdefault(plain, []).append(place)
            elif isinstance(value, str):
                found.setdefault(value, []).append(place)
        return found

    @cached_property
    def rank(self) -> npt.NDArray[Any]:
        """(n,) what to sort series by; those without a value have the largest."""
        if self.kind != "text":
            return np.where(np.isnan(self.first), np.inf, self.first)
        by_name = sorted(range(len(self.values)), key=lambda i: (str(self.values[i]).casefold(), i))
        ranks = np.empty(len(self.values) + 1, dtype=np.uint32)
        ranks[0] = len(self.values)
        ranks[np.array(by_name, dtype=np.int64) + 1] = np.arange(len(by_name))
        found: npt.NDArray[np.uint32] = ranks[self.first]
        return found

    @cached_property
    def distinct(self) -> npt.NDArray[np.float64]:
        """Of numbers and dates, the different ones, ascending."""
        found = np.unique(np.concatenate([self.first, self.more]) if len(self.more) else self.first)
        some: npt.NDArray[np.float64] = found[~np.isnan(found)]
        return some

    def where(self, meets: npt.NDArray[np.bool_]) -> Mask:
        """(n,) which series have a value, of text, that meets something. meets: by place, [0] is False."""
        found: Mask = meets[self.first]
        if len(self.more):
            found[self.more_rows[meets[self.more]]] = True
        return found


def load(universe: Universe, path: str) -> Column:
    """What the mirror holds of an element or fact. Raises QueryError for what is no column of values."""
    source = resolve(path)
    with universe.session.mirror.still():
        return _of_fact(universe, path, source) if isinstance(source, Fact) else _of(universe, path, source)


def element_of(path: str) -> ElementPath | None:
    """The element that a path names, None for a fact. Raises QueryError for neither."""
    source = resolve(path)
    return source if isinstance(source, ElementPath) else None


# ---- elements


def _of(universe: Universe, path: str, source: ElementPath) -> Column:
    if source.indexed or source.component is not None:
        raise QueryError(f"{path!r} is a part: choose {_NOT_HERE}")
    if source.vr == "SQ":
        raise QueryError(f"{path!r} is a sequence, which has no value: name an element in it, {path}.Keyword")
    name, kind = source.name, _kind(universe, source)
    if kind == "text":
        return _text(universe, path, f"({_ANY})", (name,), np.zeros(universe.count, dtype=bool))
    hollow = fetched(universe.session, _HOLLOW, (name,))
    present = universe.mask(hollow["series_id"])
    whole = not hollow["summed"].astype(bool).any()
    found = fetched(universe.session, f"SELECT series_id, vr, low FROM ({_HELD})", (name,))
    numbers = found["low"].astype(np.float64)
    seconds = found["vr"] == "DT"
    if kind == "date" and seconds.any():
        numbers = np.where(seconds, np.floor(numbers / _DAY_S), numbers)
    return _numbers(universe, path, kind, found["series_id"], numbers, present, whole)


def _kind(universe: Universe, source: ElementPath) -> str:
    """What the values are; of a private element, what most of its objects say."""
    vr = source.vr
    if vr == "UN":
        query = f"SELECT vr, count(*) AS n FROM ({_HELD}) GROUP BY vr ORDER BY n DESC LIMIT 1"
        found = universe.session.execute(query, (source.name,)).fetchall()
        vr = str(found[0][0]) if found else "LO"
    return "number" if vr in vrs.NUMBER_VRS else "date" if vr in _DATED else "text"


def _text(
    universe: Universe, path: str, rows: str, parameters: Any, present: Mask, *, fact: bool = False
) -> Column:
    """Values with the series of each, as DuckDB groups them. rows: has series_id, text and fold."""
    each = "DISTINCT series_id" if fact else "series_id"
    query = f"SELECT text, fold, list({each}) AS series FROM {rows} GROUP BY text, fold ORDER BY text, fold"
    found = fetched(universe.session, query, parameters)
    texts, folds, series = (found[name].tolist() for name in ("text", "fold", "series"))
    summed = any(text is None for text in texts)
    for text, some in zip(texts, series, strict=True):
        if not text:  # there without a value, or with more than rows can tell
            present[universe.rows(some)] = True
    held = [i for i, text in enumerate(texts) if text]
    dtype = np.min_scalar_type(len(held))
    counts = [len(series[i]) for i in held]
    places = np.repeat(np.arange(1, len(held) + 1, dtype=dtype), counts)
    every = np.concatenate([series[i] for i in held]) if held else np.zeros(0, dtype=np.int64)
    placed = _placed(universe, np.asarray(every, dtype=np.int64), places, dtype.type(0), present)
    values: list[str | float] = [texts[i] for i in held]
    return Column(path, "text", present, *placed, not summed, values, [folds[i] for i in held])


def _numbers(
    universe: Universe,
    path: str,
    kind: str,
    series: Rows,
    numbers: npt.NDArray[np.float64],
    present: Mask,
    whole: bool,
) -> Column:
    placed = _placed(universe, series, numbers, np.float64(np.nan), present)
    return Column(path, kind, present, *placed, whole)


def _placed(
    universe: Universe, series: Rows, held: npt.NDArray[Any], nothing: Any, present: Mask
) -> tuple[npt.NDArray[Any], Rows, npt.NDArray[Any]]:
    """The first value of each series, and pairs of further ones. present: is set where there is any."""
    known = universe.rows(series)
    if len(known) != len(series):
        there = np.isin(series, universe.ids)
        known, held = universe.rows(series[there]), held[there]
    present[known] = True
    if held.dtype.kind == "f":  # text where a number should be: present, without a number
        some = ~np.isnan(held)
        known, held = (known, held) if some.all() else (known[some], held[some])
    first = np.full(universe.count, nothing, dtype=held.dtype)
    first[known] = held
    further = first[known] != held
    if not further.any():
        return first, known[:0], held[:0]
    rows, more = known[further], held[further]
    order = np.lexsort((more, rows))
    rows, more = rows[order], more[order]
    new = np.append(True, (rows[1:] != rows[:-1]) | (more[1:] != more[:-1]))  # each pair once
    return first, rows[new], more[new]


# ---- facts


def _of_fact(universe: Universe, path: str, source: Fact) -> Column:
    if source.kind == "search":
        raise QueryError(f"{path} can be searched in the query, but is no facet: {path}=word")
    relation, parameters = source.relation.text, source.relation.parameters
    text, number = source.text or "NULL::VARCHAR", source.number or "NULL::DOUBLE"
    rows = f"(SELECT series_id, {text} AS text, ({number})::DOUBLE AS number FROM {relation})"
    query = f"SELECT count(text), count(number) FROM {rows}"
    texts, numbers = universe.session.execute(query, parameters).fetchall()[0]
    present = np.zeros(universe.count, dtype=bool)
    if source.text is None or (numbers and numbers == texts) or (numbers and not texts):
        found = fetched(
            universe.session, f"SELECT series_id, number FROM {rows} WHERE number IS NOT NULL", parameters
        )
        return _numbers(universe, path, "number", found["series_id"], found["number"], present, True)
    folded = "lower(strip_accents(text))" if source.kind == "text" else "NULL::VARCHAR"
    held = (
        f"(SELECT series_id, coalesce(text, number::VARCHAR) AS text, {folded} AS fold FROM {rows} "
        "WHERE text IS NOT NULL OR number IS NOT NULL)"
    )
    return _text(universe, path, held, parameters, present, fact=True)


def folded(universe: Universe, column: Column, asked: str) -> str:
    """A text that is asked for as the folded values of a column are."""
    if element_of(column.path) is not None:
        return fold(asked)
    found = universe.session.execute("SELECT lower(strip_accents(?))", (asked,)).fetchall()
    return str(found[0][0])
