"""What stored values mean: the rescaling of a frame, completed by its real-world value mapping."""

from __future__ import annotations

import math
from typing import NamedTuple

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.real_world import RealWorldMapping

_AGREEMENT = 1e-6  # relative difference of two slopes: one is text of 16 characters, the other binary


class Rescaling(NamedTuple):
    """value = slope * stored + intercept, in these units; None where the object does not say."""

    slope: float | None
    intercept: float | None
    units: str | None


def transformation(item: Attributes) -> Rescaling:
    """Of an item of PixelValueTransformationSequence (PS3.3 C.7.6.16.2.9)."""
    return Rescaling(item.number("RescaleSlope"), item.number("RescaleIntercept"), item.text("RescaleType"))


def completed(rescaled: Rescaling, mapped: RealWorldMapping | None) -> Rescaling:
    """The rescaling, or the lone real-world mapping of a frame where that says more without contradiction.

    The mapping counts when it is a line, and the rescaling names no units (RescaleType is absent or US,
    C.11.1.1.2) and is absent, the identity, as parametric maps require it, or the same line. The range of
    the mapping is not looked at: `real_world` keeps to it.
    """
    if mapped is None or mapped.slope is None or mapped.intercept is None:
        return rescaled
    if rescaled.units not in (None, "US"):
        return rescaled
    line = Rescaling(mapped.slope, mapped.intercept, mapped.units or rescaled.units)
    identity = rescaled.slope in (None, 1) and rescaled.intercept in (None, 0)
    return line if identity or _same_line(rescaled, line) else rescaled


def _same_line(one: Rescaling, other: Rescaling) -> bool:
    pairs = ((one.slope, other.slope, 1), (one.intercept, other.intercept, 0))
    return all(
        math.isclose(
            default if a is None else a, default if b is None else b, rel_tol=_AGREEMENT, abs_tol=1e-9
        )
        for a, b, default in pairs
    )
