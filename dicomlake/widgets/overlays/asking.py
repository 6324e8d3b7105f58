"""What the browser asks of an overlay, checked: names are known, numbers inside, sizes bounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.base import Refusal
from dicomlake.widgets.overlays.base import Cut, Request, Space

MOST_AT_ONCE = 8
_MOST_SIDE = 2048  # pixels of an oblique plane
_FARTHEST_MM = 1e5
_MOST_LEVELS = 24


def request_of(args: Mapping[str, Any], space: Space) -> Request:
    """The request that arguments of the ask `overlay` make; raises Refusal when they make none."""
    levels = args.get("levels") or []
    if not isinstance(levels, list) or len(levels) > _MOST_LEVELS or not all(_finite(v) for v in levels):
        raise Refusal("levels are at most 24 numbers in Gy")
    return Request(_cuts(args, space), _extra(args, space), tuple(float(v) for v in levels if v > 0))


def _cuts(args: Mapping[str, Any], space: Space) -> tuple[Cut, ...]:
    if args.get("plane") == "oblique":
        return (_oblique(args, space),)
    plane = space.planes.get(str(args.get("plane")))
    if plane is None:
        raise Refusal(f"this image has no such plane: it has {', '.join(space.planes)}")
    start = min(max(_whole(args, "start", 0), 0), plane.count - 1)
    count = min(max(_whole(args, "count", 1), 1), MOST_AT_ONCE, plane.count - start)
    return tuple(Cut.along(space, plane, start + i) for i in range(count))


def _oblique(args: Mapping[str, Any], space: Space) -> Cut:
    """As the ask `oblique` describes it: through center_mm, u along columns' numbers, v along rows'."""
    rows, cols = _whole(args, "rows", 0), _whole(args, "cols", 0)
    if not (1 <= rows <= _MOST_SIDE and 1 <= cols <= _MOST_SIDE):
        raise Refusal(f"an oblique plane has from 1 to {_MOST_SIDE} rows and columns")
    spacing = args.get("spacing_mm")
    if not _finite(spacing) or not 0 < float(spacing or 0) < _FARTHEST_MM:
        raise Refusal("an oblique plane needs a spacing in mm above 0")
    center, u, v = (_vector(args, name) for name in ("center_mm", "u", "v"))
    lengths = np.linalg.norm(u), np.linalg.norm(v)
    if min(lengths) < 1e-6:
        raise Refusal("an oblique plane needs two directions")
    right, down = u / lengths[0] * float(spacing or 0), v / lengths[1] * float(spacing or 0)
    corner = center - right * (cols - 1) / 2 - down * (rows - 1) / 2
    return Cut.oblique(space, corner, down, right, rows, cols)


def _extra(args: Mapping[str, Any], space: Space) -> dict[str, int]:
    given = args.get("extra") or []
    if not isinstance(given, list) or not all(_finite(i) for i in given):
        raise Refusal("extra is a list of indexes")
    padded = [*given, *[0] * len(space.extras)]
    sizes = space.extras.items()
    return {name: min(max(int(i), 0), n - 1) for i, (name, n) in zip(padded, sizes, strict=False)}


def _whole(args: Mapping[str, Any], name: str, instead: int) -> int:
    value = args.get(name, instead)
    if not _finite(value):
        raise Refusal(f"{name} is a whole number")
    return int(value)


def _vector(args: Mapping[str, Any], name: str) -> npt.NDArray[np.float64]:
    value = args.get(name)
    if not isinstance(value, list) or len(value) != 3 or not all(_finite(v) for v in value):
        raise Refusal(f"{name} is three numbers")
    found = np.array(value, dtype=float)
    if np.abs(found).max() > _FARTHEST_MM:
        raise Refusal(f"{name} lies too far away")
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
