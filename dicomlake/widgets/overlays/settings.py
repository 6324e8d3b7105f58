"""What can be changed about a shown overlay, in the browser or in Python, and what a change comes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dicomlake.widgets.overlays.colours import is_colour
from dicomlake.widgets.overlays.fusion import BLENDS, COLORMAPS
from dicomlake.widgets.overlays.isodose import level_labels

STYLES = ("fill", "outline", "both")
Entry = dict[str, Any]


def changed(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> Entry:
    """An entry of the trait `overlays` with what is wanted of it, as far as that makes sense.

    Who it is, what kind and what labels it has stays; of isodose lines the levels may change.
    """
    found = dict(entry)
    if isinstance(wanted.get("visible"), bool):
        found["visible"] = wanted["visible"]
    if _number(wanted.get("alpha")):
        found["alpha"] = round(min(max(float(wanted["alpha"]), 0.0), 1.0), 3)
    for name, known in (("style", STYLES), ("colormap", COLORMAPS), ("blend", BLENDS)):
        if name in entry and wanted.get(name) in known:
            found[name] = wanted[name]
    if "window" in entry and _is_window(wanted.get("window")):
        found["window"] = [float(v) for v in wanted["window"]]
    labels = wanted.get("labels")
    if isinstance(labels, list) and all(isinstance(one, Mapping) for one in labels):
        found["labels"] = _labels(found, wanted, labels)
    return found


def _labels(found: Entry, wanted: Mapping[str, Any], labels: list[Mapping[str, Any]]) -> list[Entry]:
    if found["kind"] == "isodose":
        reference = wanted.get("reference_gy")
        if _number(reference) and reference is not None and 0 < reference != found["reference_gy"]:
            found["reference_gy"], found["prescribed"] = round(float(reference), 4), True
        return level_labels(labels, found["reference_gy"])
    by_value = {one.get("value"): one for one in labels if _number(one.get("value"))}
    return [_label(own, by_value.get(own["value"], own)) for own in found["labels"]]


def _label(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> Entry:
    colour = str(wanted["color"]).lower() if is_colour(wanted.get("color")) else own["color"]
    visible = wanted["visible"] if isinstance(wanted.get("visible"), bool) else own["visible"]
    return {**own, "color": colour, "visible": visible}


def merged(entries: Iterable[Mapping[str, Any]], wanted: Any) -> list[Entry]:
    """Entries as they are, changed as wanted and in the order wanted; none comes or goes by this."""
    own = {entry["id"]: dict(entry) for entry in entries}
    found = []
    for one in wanted if isinstance(wanted, list) else []:
        entry = own.pop(one.get("id"), None) if isinstance(one, Mapping) else None
        if entry is not None:
            found.append(changed(entry, one))
    return [*found, *own.values()]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_window(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(_number(v) for v in value)
        and value[1] > 0
    )
