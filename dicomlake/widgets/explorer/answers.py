"""What the browser asks for beside counts: pages of the table, reasons, what is missing, names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from dicomlake.catalog import schema
from dicomlake.catalog.query.expressions import conditions_in
from dicomlake.dicom import standard
from dicomlake.errors import QueryError
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.explorer import wording
from dicomlake.widgets.explorer.columns import Column, element_of
from dicomlake.widgets.explorer.engine import Engine, Sort
from dicomlake.widgets.explorer.universe import Rows, fetched

PAGE = 200
_GROUPS = 12  # columns of the map of what is missing
_INSTEAD = 5
_FOUND = 50
_NAMES = 30
_EPOCH = date(1970, 1, 1)
_FACTS = (
    *("verdict", "volumes", "slices", "gaps", "duplicates", "tilt_degrees", "dtype", "units", "finding"),
    *(
        "finding.severity",
        "spacing_mm.max",
        "spacing_mm.min",
        "spacing_mm.z",
        "shape.z",
        "instances",
        "bytes",
    ),
    *("StudyDate.year", "StudyDate.month", "SeriesDate.year", "SeriesDate.month"),
)

_ANNOTATIONS = {
    "label": "SELECT DISTINCT name FROM labels ORDER BY ALL",
    "clinical": "SELECT DISTINCT source || '.' || name FROM clinical ORDER BY ALL",
}

# ---- the table


def page(engine: Engine, names: Sequence[str], sort: Sort | None, start: int, count: int) -> dict[str, Any]:
    """Rows of the table from one on; `ids` tells them apart. Cells are text, numbers or None."""
    with engine.lock:
        universe, listed = engine.universe, engine.listed(sort)
        start = min(max(start, 0), len(listed))
        rows = listed[start : start + min(max(count, 0), PAGE)]
        ids = universe.ids[rows]
        cells = _cells(engine, names, rows)
    return {
        "start": start,
        "total": len(listed),
        "revision": engine.revision,
        "ids": ids.tolist(),
        "rows": [list(row) for row in zip(*cells, strict=True)] if cells else [[] for _ in ids],
    }


def _cells(engine: Engine, names: Sequence[str], rows: Rows) -> list[list[Any]]:
    """For each column its cells."""
    plain = [name for name in names if name in schema.SERIES_COLUMNS and not engine.holds(name)]
    ids = engine.universe.ids[rows]
    table = engine.source.series_table(ids, plain) if plain and len(ids) else None
    found = []
    for name in names:
        if name in plain:
            values = (
                [] if table is None else table[name].astype(object).where(table[name].notna(), None).tolist()
            )
            found.append([_told(name, value) for value in values])
        else:
            found.append(_held(engine.column(name), rows))
    return found


def _held(column: Column, rows: Rows) -> list[Any]:
    """Cells of a column in memory; of series with several values, all."""
    further: dict[int, list[Any]] = {}
    if len(column.more):
        there = np.isin(column.more_rows, rows)
        for row, held in zip(column.more_rows[there].tolist(), column.more[there].tolist(), strict=True):
            further.setdefault(row, []).append(held)
    found = []
    for row, held in zip(rows.tolist(), column.first[rows].tolist(), strict=True):
        every = [_cell(column, one) for one in (held, *further.get(row, ()))]
        told = [one for one in every if one is not None]
        found.append(None if not told else told[0] if len(told) == 1 else ", ".join(map(str, told)))
    return found


def _cell(column: Column, held: Any) -> Any:
    if column.kind == "text":
        return _told(column.path, column.values[held - 1]) if held else None
    if held != held:  # NaN
        return None
    if column.kind == "date":
        return (_EPOCH + timedelta(days=int(held))).isoformat()
    return int(held) if float(held).is_integer() else float(f"{held:.6g}")


def _told(name: str, value: Any) -> Any:
    """A cell: dates with hyphens, several values with commas, numbers short."""
    if isinstance(value, str) and name.endswith("Date") and len(value) == 8 and value.isdecimal():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    if isinstance(value, str):
        return value.replace("\\", ", ")
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.6g}")
    return int(value) if hasattr(value, "item") else value


# ---- why there is nothing


def explained(engine: Engine) -> dict[str, Any]:
    """What each term leaves, which one left none, what there was instead, and what dropping one gives."""
    with engine.lock:
        terms, left = engine.history.terms, engine.meets(())
        steps: list[dict[str, Any]] = []
        emptied, instead = None, dict[str, Any]()
        for place, term in enumerate(terms):
            before, left = left, left & engine.masks.of(term)
            alone = int(np.count_nonzero(engine.meets((term,))))
            steps.append({"text": wording.told(term), "alone": alone, "left": int(np.count_nonzero(left))})
            if emptied is None and before.any() and not left.any():
                emptied, instead = place, _instead(engine, place, np.flatnonzero(before))
        for place, step in enumerate(steps):
            others = terms[:place] + terms[place + 1 :]
            step["without"] = int(np.count_nonzero(engine.meets(others)))
        return {"total": engine.universe.size, "steps": steps, "emptied": emptied, "instead": instead}


def _instead(engine: Engine, place: int, rows: Rows) -> dict[str, Any]:
    """The values that occur where a term left none."""
    paths = {condition.path for condition in conditions_in(engine.history.terms[place])}
    if len(paths) != 1:
        return {}
    (path,) = paths
    try:
        column = engine.column(path)
    except QueryError:  # a part of an element, or full text
        return {}
    held, counts = np.unique(column.first[rows], return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[: _INSTEAD + 1]
    found = [(_cell(column, held[i].item()), int(counts[i])) for i in frequent.tolist()]
    values = [{"value": str(value), "series": n} for value, n in found if value is not None][:_INSTEAD]
    missing = int(np.count_nonzero(~column.present[rows]))
    span = None
    if column.kind != "text" and values:
        numbers = held[~np.isnan(held)].tolist()
        span = [str(_cell(column, numbers[0])), str(_cell(column, numbers[-1]))]
    return {"path": path, "values": values, "missing": missing, "span": span, "units": column.units}


# ---- what is missing


def missing(engine: Engine, by: str, names: Sequence[str]) -> dict[str, Any]:
    """For each column the share of series without a value, in each of the most frequent groups of a facet."""
    with engine.lock:
        facet = engine.facet(by)
        if facet.bins is not None:
            raise Refusal(f"{by} holds numbers: choose a facet of text to compare groups")
        universe, rows = engine.universe, engine.rows()
        some = np.arange(universe.count) if rows is None else rows
        facet.show(facet.of_values(rows), ())
        shown = facet.shown[:_GROUPS]
        lut = np.full(len(facet.column.values) + 1, len(shown) + 1)
        lut[0], lut[shown] = 0, np.arange(1, len(shown) + 1)
        group = lut[facet.column.first[some]]
        size = np.bincount(group, minlength=len(shown) + 2)
        labels = ["(missing)", *(str(facet.column.values[i - 1]) for i in shown.tolist()), "(others)"]
        order = [i for i in (*range(1, len(shown) + 2), 0) if size[i]]
        found = []
        for name in names:
            absent = ~engine.column(name).present[some]
            lacking = np.bincount(group[absent], minlength=len(size))
            found.append({"name": name, "share": [round(float(lacking[i] / size[i]), 4) for i in order]})
        return {
            "by": by,
            "groups": [{"label": labels[i], "series": int(size[i])} for i in order],
            "rows": found,
        }


# ---- names and values to choose from


def values_like(engine: Engine, name: str, text: str) -> dict[str, Any]:
    """Values of a text facet that hold a text in either case, the most frequent under the query first."""
    with engine.lock:
        facet = engine.facet(name)
        if facet.bins is not None:
            raise Refusal(f"{name} holds numbers: write a range beneath its histogram")
        wanted = text.casefold()
        now = facet.of_values(engine.without(facet))
        places = [i for i, value in enumerate(facet.column.values, 1) if wanted in str(value).casefold()]
        places = [place for place in places if facet.total[place]]
        ranked = sorted(places, key=lambda i: (-int(now[i]), -int(facet.total[i]), i))[:_FOUND]
        return {
            "found": len(places),
            "values": [str(facet.column.values[i - 1]) for i in ranked],
            "now": [int(now[i]) for i in ranked],
            "total": [int(facet.total[i]) for i in ranked],
        }


def names_like(engine: Engine, text: str) -> list[dict[str, Any]]:
    """Elements and facts whose name holds a text: those that the lake has first, with how many series."""
    wanted = text.strip().casefold()
    held = occurring(engine)
    there = {name: count for name, count in held.items() if wanted in name.casefold()}
    ranked = sorted(there, key=lambda name: (not name.casefold().startswith(wanted), -there[name], name))
    found = [{"name": name, "series": there[name]} for name in ranked[:_NAMES]]
    if len(wanted) > 1:
        known = (name for name in standard.keywords() if wanted in name.casefold() and name not in there)
        found += [{"name": name, "series": 0} for name in sorted(known)[: _NAMES - len(found)]]
    return found


def occurring(engine: Engine, *, wait: bool = False) -> dict[str, int]:
    """Paths that a facet can be of -> series that have it, 0 while that is still being counted.

    wait: count now, which reads the paths of all elements of the lake.
    """
    universe = engine.universe
    if universe.paths is None and not wait:
        return dict.fromkeys((*engine.names, *_FACTS), 0)
    if universe.paths is None:
        query = "SELECT path, count(*) AS n FROM attributes WHERE text <> '' GROUP BY path"
        rows = fetched(universe.session, query)
        every = zip(rows["path"].tolist(), rows["n"].tolist(), strict=True)
        found = {name: min(int(n), universe.count) for name, n in every}
        found |= dict.fromkeys(_FACTS, 0)
        for kind, listed in _ANNOTATIONS.items():
            names = [name for (name,) in universe.session.execute(listed).fetchall()]
            found |= {f"{kind}.{name}": 0 for name in names}
        universe.paths = found
    return universe.paths


def known(names: Sequence[Any]) -> list[str]:
    """Names of columns of the table, each once. Raises QueryError for what is none."""
    found = [name for name in dict.fromkeys(names) if isinstance(name, str)]
    for name in found:
        if name not in schema.SERIES_COLUMNS:
            element_of(name)
    return found
