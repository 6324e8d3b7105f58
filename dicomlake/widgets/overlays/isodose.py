"""Isodose lines: where a dose, linear between its voxels, crosses levels in Gy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.overlays.base import Drawn, Placed, Request, label, linear
from dicomlake.widgets.overlays.colours import dose_colour, is_colour
from dicomlake.widgets.overlays.kept import Kept
from dicomlake.widgets.overlays.lines import Line, is_closed, isolines, packed

PERCENT = (95.0, 90.0, 80.0, 70.0, 50.0, 30.0, 10.0)
MOST_LEVELS = 24
_MOST_GY = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Isodose:
    """Isodose lines over an image.

    values: reads the dose, (z, y, x) float32 in Gy. max_gy: its maximum. reference_gy: what is 100 %;
    prescribed: whether that is a prescription, else it is the maximum. levels_gy: from the highest.
    """

    key: str
    values: Callable[[], npt.NDArray[np.float32]]
    placed: Placed
    max_gy: float
    reference_gy: float
    prescribed: bool
    levels_gy: tuple[float, ...]
    kind: str = field(default="isodose", init=False)

    def state(self) -> dict[str, Any]:
        """Levels as labels, whose value is in Gy, and what is 100 %."""
        return {
            "labels": level_labels([{"value": level} for level in self.levels_gy], self.reference_gy),
            "style": "outline",
            "reference_gy": round(self.reference_gy, 4),
            "prescribed": self.prescribed,
            "max_gy": round(self.max_gy, 4),
        }

    def ready(self, _request: Request, kept: Kept) -> bool:
        """Whether the dose is in memory."""
        return (self.key, "dose") in kept

    def draw(self, request: Request, kept: Kept) -> Drawn:
        """The lines of the levels that are asked for, in each plane."""
        levels = request.levels or self.levels_gy
        dose = kept.get((self.key, "dose"), self.values)
        planes = []
        for cut in request.cuts:
            plane = linear(dose, self.placed.index(cut))
            planes.append(
                [
                    Line(level, points, is_closed(points))
                    for level in levels
                    for points in isolines(plane, level)
                ]
            )
        data, buffers = packed(planes)
        return Drawn({"planes": data}, buffers)


def levels_of(given: Any, max_gy: float) -> tuple[tuple[float, ...], float, bool]:
    """Levels in Gy, the highest first; what is 100 %, in Gy; whether that is a prescription.

    given: None; numbers in Gy; text like "95%" of the maximum; or a mapping with `prescribed_gy`, what
    100 % is, and `percent`, a list, or `gy`. Raises DicomlakeError for levels that are none.
    """
    reference, prescribed, wanted = max_gy, False, given
    if isinstance(given, Mapping):
        unknown = set(given) - {"prescribed_gy", "percent", "gy"}
        if unknown:
            raise DicomlakeError(
                f"levels know prescribed_gy, percent and gy, not {', '.join(map(str, unknown))}"
            )
        prescribed = given.get("prescribed_gy") is not None
        reference = _positive(given["prescribed_gy"]) if prescribed else max_gy
        percent = given.get("percent", () if "gy" in given else PERCENT)
        wanted = [*given.get("gy", ()), *(f"{_positive(p)}%" for p in percent)]
    if wanted is None:
        wanted = [f"{p}%" for p in PERCENT]
    if isinstance(wanted, int | float | str):
        wanted = [wanted]
    found = {round(_gy(one, reference), 4) for one in wanted}
    if not found or len(found) > MOST_LEVELS:
        raise DicomlakeError(f"{len(found)} isodose levels: give 1 to {MOST_LEVELS}")
    return tuple(sorted(found, reverse=True)), reference, prescribed


def _gy(level: Any, reference: float) -> float:
    if isinstance(level, str):
        text = level.strip().removesuffix("Gy").strip()
        if text.endswith("%"):
            return _positive(text[:-1]) / 100 * reference
        level = text
    return _positive(level)


def _positive(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise DicomlakeError("an isodose level is a positive number of Gy, or text like '95%'")
    return number


def level_labels(wanted: Iterable[Mapping[str, Any]], reference_gy: float) -> list[dict[str, Any]]:
    """Entries of the trait for levels, highest first, without what is no level; colours go by rank.

    wanted: entries with `value` in Gy, and perhaps `visible` and `color`.
    """
    by_level: dict[float, Mapping[str, Any]] = {}
    for one in wanted:
        value = one.get("value")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST_GY:
            by_level[round(float(value), 4)] = one
    ordered: Sequence[float] = sorted(by_level, reverse=True)[:MOST_LEVELS]
    labels = []
    for rank, level in enumerate(ordered):
        given = by_level[level]
        colour = given.get("color") if is_colour(given.get("color")) else dose_colour(rank)
        entry = label(level, f"{level:.4g} Gy ({level / reference_gy:.0%})".replace("%)", " %)"), str(colour))
        labels.append(entry | {"visible": given.get("visible", True) is True})
    return labels
