"""Marks as they come, from a browser or from Python, to marks as they are kept: whole, bounded, measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from dicomlake.widgets.base import Refusal
from dicomlake.widgets.viewer.roi_shapes import REGIONS
from dicomlake.widgets.viewer.roi_statistics import Stack, ruler_of, stats_of

Mark = dict[str, Any]

POINTS = {  # how many points the marks of a tool have, at least and at most
    "length": (2, 2),
    "angle": (3, 3),
    "ellipse": (2, 2),
    "rectangle": (2, 2),
    "polygon": (3, 512),
    "freehand": (3, 512),
    "point": (1, 1),
    "key": (0, 0),
}
MOST_MARKS = 500  # all of them travel with the notebook
TEXT_LENGTH = 64
_ID = re.compile(r"[\w-]{1,40}\Z")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}\Z")
_SHAPE = ("tool", "plane", "index", "extra", "points", "through")  # what numbers depend on
COLORS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#9b5de5", "#ff70a6", "#4895ef", "#c2a878")


def completed(stack: Stack, given: Any, known: Mapping[str, Mark] | None = None) -> Mark:
    """A mark with all its keys, checked and measured. Raises Refusal for what is no mark of this stack.

    known: marks by id, whose numbers are taken over where the shape is the same.
    """
    mark = _checked(stack, given)
    former = (known or {}).get(mark["id"])
    if former is not None and all(former.get(key) == mark.get(key) for key in _SHAPE):
        return mark | {"points_mm": former["points_mm"], "stats": former["stats"]}
    placed = ruler_of(stack, mark["plane"]).to_mm(mark["index"], np.reshape(mark["points"], (-1, 2)))
    points_mm = None if placed is None else [[round(float(v), 3) for v in point] for point in placed]
    return mark | {"points_mm": points_mm, "stats": stats_of(stack, mark) or None}


def _checked(stack: Stack, given: Any) -> Mark:
    if not isinstance(given, Mapping):
        raise Refusal("a mark is a dict with tool, plane, index and points")
    tool = given.get("tool")
    if tool not in POINTS:
        raise Refusal(f"there is no such tool: take one of {', '.join(POINTS)}")
    name, plane = _plane(stack, given.get("plane"))
    mark: Mark = {
        "id": _id(given.get("id")),
        "tool": tool,
        "plane": name,
        "index": _within(given.get("index"), plane.count, "index"),
        "extra": _extra(stack, given.get("extra")),
        "points": _points(tool, given.get("points"), plane),
        "name": short(given.get("name")),
        "label": short(given.get("label")),
    }
    through = given.get("through")
    if through is not None and tool in REGIONS:
        mark |= _through(through, mark["index"], plane.count)
    return mark | ({"key_image": True} if tool == "key" else {})


def _id(given: Any) -> str:
    if given is None:
        return uuid4().hex[:12]
    if not isinstance(given, str) or not _ID.match(given):
        raise Refusal("the id of a mark is 1 to 40 letters, digits, _ and -")
    return given


def plane_of(stack: Stack, name: Any) -> Any:
    """A plane by its name. Raises Refusal when there is none."""
    return _plane(stack, name)[1]


def _plane(stack: Stack, name: Any) -> tuple[str, Any]:
    wanted = next(iter(stack.planes)) if name is None else name
    if not isinstance(wanted, str) or wanted not in stack.planes:
        raise Refusal(
            f"marks are drawn on {', '.join(stack.planes)}: go back to one of these planes to measure"
        )
    return wanted, stack.planes[wanted]


def within(given: Any, count: int, what: str) -> int:
    """A whole number from 0 to count - 1. Raises Refusal otherwise."""
    return _within(given, count, what)


def _within(given: Any, count: int, what: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int | float | np.integer) or given != int(given):
        raise Refusal(f"{what} is a whole number from 0 to {count - 1}")
    if not 0 <= int(given) < count:
        raise Refusal(f"{what} must be from 0 to {count - 1}: there are {count} planes")
    return int(given)


def _extra(stack: Any, given: Any) -> list[int]:
    sizes = list(dict(getattr(stack, "extras", {})).values())
    if given is None:
        return [0] * len(sizes)
    if not isinstance(given, Sequence) or len(given) != len(sizes):
        raise Refusal(f"extra holds one whole number for each of the {len(sizes)} dimensions before z")
    return [_within(n, size, "extra") for n, size in zip(given, sizes, strict=True)]


def _points(tool: str, given: Any, plane: Any) -> list[list[float]]:
    least, most = POINTS[tool]
    points = numbers([] if given is None else given, most, "points")
    if len(points) < least:
        raise Refusal(f"{tool} has {least} points or more: (row, column) in pixels of the displayed plane")
    return [[min(max(r, -0.5), plane.rows - 0.5), min(max(c, -0.5), plane.cols - 0.5)] for r, c in points]


def numbers(given: Any, most: int, what: str) -> list[list[float]]:
    """Pairs of finite numbers. Raises Refusal for others, and for more than `most`."""
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) > most:
        raise Refusal(f"{what}: a list of up to {most} pairs (row, column)")
    found: list[list[float]] = []
    for one in given:
        pair = one.tolist() if isinstance(one, np.ndarray) else one
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise Refusal(f"{what}: each is a pair (row, column)")
        if any(isinstance(v, bool) or not isinstance(v, int | float | np.number) for v in pair):
            raise Refusal(f"{what}: row and column are numbers")
        if not all(math.isfinite(v) and abs(v) < 1e6 for v in pair):
            raise Refusal(f"{what}: row and column are finite numbers")
        found.append([float(v) for v in pair])
    return found


def _through(given: Any, index: int, count: int) -> Mark:
    """The planes that a region goes through, which must hold its own; one plane is none to tell of."""
    if not isinstance(given, Sequence) or len(given) != 2:
        raise Refusal("through holds the numbers of the first and of the last plane")
    first, last = sorted(_within(n, count, "through") for n in given)
    if not first <= index <= last:
        raise Refusal(f"a region through planes {first} to {last} must hold its own plane, {index}")
    return {"through": [first, last]} if last > first else {}


def short(given: Any) -> str:
    """Text of one line, 64 characters at most."""
    return " ".join(str(given or "").split())[:TEXT_LENGTH]


def named(mark: Mark, others: Sequence[Mark]) -> Mark:
    """A mark with a name: the one it has, or that of its tool and the first number that is free."""
    if mark["name"]:
        return mark
    taken = {other["name"] for other in others}
    word = "Key image" if mark["tool"] == "key" else str(mark["tool"]).capitalize()
    number = next(n for n in range(1, len(taken) + 2) if f"{word} {n}" not in taken)
    return mark | {"name": f"{word} {number}"}


def checked_labels(given: Any) -> list[Mark]:
    """Labels of masks: value 1 to 255, name, color, visible. Raises Refusal for others."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not 1 <= len(given) <= 255:
        raise Refusal("labels: a list of 1 to 255 dicts with value, name, color and visible")
    found: list[Mark] = []
    for label in given:
        if not isinstance(label, Mapping):
            raise Refusal("a label is a dict with value, name, color and visible")
        value = _within(label.get("value"), 256, "the value of a label")
        color = label.get("color") or COLORS[(value - 1) % len(COLORS)]
        if value == 0 or any(value == other["value"] for other in found):
            raise Refusal("each label has a value of its own, from 1 to 255")
        if not isinstance(color, str) or not _COLOR.match(color):
            raise Refusal("the color of a label is written as #rrggbb")
        name = short(label.get("name")) or f"Label {value}"
        found.append(
            {"value": value, "name": name, "color": color, "visible": label.get("visible") is not False}
        )
    return found
