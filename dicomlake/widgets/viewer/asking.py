"""Planes that the browser asks for: what it sent is checked, what it gets is bounded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.widgets.base import Answer, Refusal

if TYPE_CHECKING:
    from dicomlake.widgets.images.stack import Stack

Args = Mapping[str, Any]

MOST_AT_ONCE = 8
_MOST_PIXELS = 1024  # along a side of an oblique plane
_MOST_SLAB_MM = 1000.0
_MODES = ("max", "min", "mean")
_SHAPES = ("linear", "linear_exact", "sigmoid")


def planes(stack: Stack, args: Args) -> Answer:
    """A run of planes, one buffer each: raw numbers, or JPEG through a window.

    args: plane, start, count; extra; slab_mm, slab_mode; encoding "raw" or "jpeg", for which `window` and
    `voi_shape` say how values become grey. along: number of a further dimension that the run goes along
    instead, from extra[along] on, all of plane `start`.
    """
    plane = _plane(stack, args)
    extra = _extra(stack, args)
    slab_mm, mode = _slab(args)
    start = _whole(args, "start", 0, plane.count - 1)
    along = args.get("along")
    if along is None:
        count = _whole(args, "count", 1, min(MOST_AT_ONCE, plane.count - start))
        found = list(stack.run(plane.name, start, count, extra, slab_mm, mode))
    else:
        found = _along(stack, plane.name, start, extra, (slab_mm, mode), args)
    data = {"plane": plane.name, "start": start, "count": len(found), "rows": plane.rows, "cols": plane.cols}
    if args.get("encoding") == "jpeg":
        return Answer(data | {"kind": "rgb8" if stack.colour else "uint8"}, _jpegs(stack, found, args))
    return Answer(data | {"kind": stack.kind}, found)


def oblique(stack: Stack, args: Args) -> Answer:
    """A plane through center_mm along u (columns) and v (rows): one buffer of raw numbers."""
    center, u, v = (_vector(args, name) for name in ("center_mm", "u", "v"))
    spacing = _number(args, "spacing_mm")
    if spacing <= 0:
        raise Refusal("the pixels of an oblique plane need a size above 0 mm")
    shape = (_whole(args, "rows", 1, _MOST_PIXELS), _whole(args, "cols", 1, _MOST_PIXELS))
    slab_mm, mode = _slab(args)
    found = stack.oblique(
        center, u, v, spacing, shape, slab_mm=slab_mm, slab_mode=mode, extra=_extra(stack, args)
    )
    return Answer({"rows": shape[0], "cols": shape[1], "kind": stack.kind}, [found])


def _along(
    stack: Stack, plane: str, number: int, extra: Sequence[int], slab: tuple[float, str], args: Args
) -> list[np.ndarray]:
    """One plane at several places of a further dimension."""
    sizes = list(stack.extras.values())
    axis = args["along"]
    if not isinstance(axis, int) or not 0 <= axis < len(sizes):
        raise Refusal(f"the image has {len(sizes)} further dimensions: there is no number {str(axis)[:20]}")
    count = _whole(args, "count", 1, min(MOST_AT_ONCE, sizes[axis] - extra[axis]))
    where = [[*extra[:axis], extra[axis] + i, *extra[axis + 1 :]] for i in range(count)]
    return [np.asarray(stack.run(plane, number, 1, at, *slab)[0]) for at in where]


def _jpegs(stack: Stack, found: Sequence[np.ndarray], args: Args) -> list[bytes]:
    from dicomlake.widgets.images.encode import grey, jpeg

    if stack.colour:
        return [jpeg(one) for one in found]
    center, width = _vector(args, "window", 2)
    shape = args.get("voi_shape") if args.get("voi_shape") in _SHAPES else "linear_exact"
    if width <= 0:
        raise Refusal("a window has a width above 0")
    scale = {"slope": stack.slope, "intercept": stack.intercept}
    return [jpeg(grey(one, (center, width), str(shape), **scale)) for one in found]


def _plane(stack: Stack, args: Args) -> Any:
    name = args.get("plane")
    if not isinstance(name, str) or name not in stack.planes:
        raise Refusal(f"this image has the planes {', '.join(stack.planes)}: there is no {str(name)[:20]!r}")
    return stack.planes[name]


def _extra(stack: Stack, args: Args) -> list[int]:
    """Indexes along the further dimensions, inside them; 0 where none is given."""
    given = args.get("extra") or []
    if not isinstance(given, list) or not all(isinstance(i, int) for i in given):
        raise Refusal("extra is a list of whole numbers")
    padded = [*given, *[0] * len(stack.extras)]
    return [min(max(i, 0), n - 1) for i, n in zip(padded, stack.extras.values(), strict=False)]


def _slab(args: Args) -> tuple[float, str]:
    mode = args.get("slab_mode", "max")
    if mode not in _MODES:
        raise Refusal(f"a slab shows {', '.join(_MODES)}, not {str(mode)[:20]!r}")
    return min(max(_number(args, "slab_mm", 0.0), 0.0), _MOST_SLAB_MM), mode


def _number(args: Args, name: str, default: float | None = None) -> float:
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Refusal(f"{name} is a finite number, not {str(value)[:20]!r}")
    return float(value)


def _whole(args: Args, name: str, low: int, high: int) -> int:
    return int(min(max(_number(args, name), low), high))


def _vector(args: Args, name: str, count: int = 3) -> list[float]:
    value = args.get(name)
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise Refusal(f"{name} is a list of {count} numbers")
    return [_number({name: v}, name) for v in value]
