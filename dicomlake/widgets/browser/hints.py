"""What can come next while somebody types: names of elements and facts, and values of some columns."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from dicomlake.catalog.query.expressions import Condition
from dicomlake.catalog.query.facts import FREE_TEXT, NAMES
from dicomlake.catalog.schema import SERIES_COLUMNS
from dicomlake.dicom import standard
from dicomlake.errors import QueryError
from dicomlake.widgets.browser.source import Lake

COUNT = 12
_LAST = re.compile(r'(?:^|\s)-?(?P<path>[A-Za-z][\w.]*)(?:(?P<sign>!=|<=|>=|=|<|>|~)(?P<value>[^\s"]*))?$')
_ABOUT = {
    "instances": "number of objects of the series",
    "bytes": "size of the series",
    "volumes": "number of volumes",
    "verdict": "regular, sheared, missing_slices, irregular, plane_set, none",
    "reason": "why the verdict",
    "dtype": "type of the stored values",
    "units": "of the values: HU, BQML …",
    "dims": "names of the axes",
    "extra_dims": "axes before z: echo, time …",
    "split_by": "what parts volumes of a series",
    "shape": "shape.z>=100",
    "spacing_mm": "spacing_mm.z<=1.5",
    "slices": "planes along z",
    "gaps": "number of gaps",
    "duplicates": "objects left out as copies",
    "tilt_degrees": "gantry tilt",
    "partial": "cut short",
    "version": "of the volume",
    "finding": "finding=conflict, finding.severity=error",
    "label": "label.quality>=3",
    "clinical": "clinical.trial.age>=60",
    "text": "words of reports",
}
_VALUES = {"verdict": ("regular", "sheared", "missing_slices", "irregular", "plane_set", "none")}


def hints(lake: Lake, text: str) -> dict[str, Any]:
    """What may complete the end of a text.

    `from` is where what is replaced begins; `hints` has text and about of each. Values are offered only
    for columns that say nothing about who a patient is.
    """
    found = _LAST.search(text)
    if found is None:
        return {"from": len(text), "hints": []}
    if found["sign"]:
        return {"from": found.start("value"), "hints": _values(lake, found["path"], found["value"])}
    return {"from": found.start("path"), "hints": _names(found["path"])}


def _names(begun: str) -> list[dict[str, str]]:
    low = begun.lower()
    if "." in begun:
        return []
    ranked = [name for name in _known() if name.lower().startswith(low)]
    if len(begun) > 1 and len(ranked) < COUNT:
        ranked += [name for name in _known() if low in name.lower() and name not in ranked]
    return [{"text": name, "about": _about(name)} for name in ranked[:COUNT]]


@cache
def _known() -> tuple[str, ...]:
    """Names, the likely ones first: columns of series, facts, then all keywords."""
    likely = [name for name in SERIES_COLUMNS if name not in NAMES]
    others = sorted(standard.keywords() - set(likely))
    return (*likely, "PatientName", *NAMES, *(name for name in others if name != "PatientName"))


def _about(name: str) -> str:
    if name in _ABOUT:
        return _ABOUT[name]
    tag = standard.tag_of(name)
    return "" if tag is None else f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {standard.vr_of(tag)}"


def _values(lake: Lake, path: str, begun: str) -> list[dict[str, str]]:
    """Values with the number of series that have them."""
    low = begun.rpartition(",")[2].lower()
    kept = begun[: len(begun) - len(low)]
    values = [(value, "") for value in _VALUES.get(path, ())] or _counted(lake, path)
    near = [(value, about) for value, about in values if value.lower().startswith(low)]
    return [{"text": kept + value, "about": about} for value, about in near[:COUNT]]


def _counted(lake: Lake, path: str) -> list[tuple[str, str]]:
    from dicomlake.widgets.browser.typed import quoted

    if path not in SERIES_COLUMNS or not _harmless(path):
        return []
    try:
        facet = lake.facets(path)[path]
    except QueryError:
        return []
    pairs = zip(facet.values, facet.counts, strict=False)
    told = [(quoted(v), f"{int(n):,} series") for v, n in pairs if isinstance(v, str)]
    return [(value, about) for value, about in told if value is not None]


def _harmless(path: str) -> bool:
    """Whether values of an element say nothing about who a patient is."""
    if path in FREE_TEXT or path in NAMES:
        return False
    return Condition(path, "is", ("",)).harmless
