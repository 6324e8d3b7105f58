"""Real world values: which stored value means how much of what (PS3.3 C.7.6.16.2.11).

A mapping holds for a range of stored values, as a line or as a table. An image may have several: for
parts of the range, or for several quantities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes

Numbers = npt.NDArray[np.float64]

_SEQUENCE = "RealWorldValueMappingSequence"
_LUT_DATA = 0x00409212  # RealWorldValueLUTData
_CODES = ("CodeValue", "LongCodeValue", "URNCodeValue")


@dataclass(frozen=True, slots=True)
class RealWorldMapping:
    """One item of RealWorldValueMappingSequence.

    first, last: the stored values it holds for, both included.
    slope, intercept: real = slope * stored + intercept; None where there is a table.
    values: the real value of first, first + 1, … last; empty where there is a line.
    units: the code of MeasurementUnitsCodeSequence, None when absent; UCUM when `units_scheme` says so.
    label: LUTLabel, which tells several mappings of an image apart.
    """

    first: float
    last: float
    slope: float | None
    intercept: float | None
    values: tuple[float, ...]
    units: str | None
    units_scheme: str | None
    label: str | None = field(repr=False)

    def apply(self, stored: npt.ArrayLike) -> Numbers:
        """Real values of stored ones, float64; NaN outside the range, where nothing is defined."""
        array = np.asarray(stored)
        inside = (array >= self.first) & (array <= self.last)
        if self.slope is not None and self.intercept is not None:
            return np.where(inside, array * np.float64(self.slope) + self.intercept, np.nan)
        place = np.where(inside, array, self.first) - self.first
        index = place.astype(np.intp)
        return np.where(inside & (index == place), np.asarray(self.values)[index], np.nan)

    def to_json(self) -> dict[str, Any]:
        """JSON types only; absent what is None or empty."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found["values"] = list(self.values)
        return {name: value for name, value in found.items() if value not in (None, [])}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> RealWorldMapping:
        """What `to_json` gave."""
        given = {name: found.get(name) for name in cls.__dataclass_fields__}
        return cls(**given | {"values": tuple(found.get("values", ()))})


def mappings_of(dataset: Attributes, frame: int | None = None) -> tuple[RealWorldMapping, ...]:
    """The mappings of an image, in the order of the object.

    frame: counted from 0, for what its functional groups say, else the shared ones, else the top level;
    None for what holds for all frames alike, nothing when they differ.
    Items that lack a part are left out: without a mapping a stored value means nothing, which is true.
    Raises BrokenObject when a sequence cannot be read.
    """
    own = dataset.items("PerFrameFunctionalGroupsSequence")
    if frame is not None:
        own = own[frame : frame + 1]
    tag = standard.tag_of(_SEQUENCE) or 0
    if len({item.elements.get(tag) for item in own}) > 1:
        return ()
    for holder in (*own[:1], *dataset.items("SharedFunctionalGroupsSequence")[:1], dataset):
        if _SEQUENCE in holder:
            return mappings_in(holder)
    return ()


def mappings_in(holder: Attributes) -> tuple[RealWorldMapping, ...]:
    """The mappings of the RealWorldValueMappingSequence that is in this item or data set itself."""
    found = [mapping(item) for item in holder.items(_SEQUENCE)]
    return tuple(one for one in found if one is not None)


def mapping(item: Attributes) -> RealWorldMapping | None:
    """One item of RealWorldValueMappingSequence; None when a part is missing or makes no sense."""
    first = _either(item, "DoubleFloatRealWorldValueFirstValueMapped", "RealWorldValueFirstValueMapped")
    last = _either(item, "DoubleFloatRealWorldValueLastValueMapped", "RealWorldValueLastValueMapped")
    if first is None or last is None or first > last:
        return None
    values = item.numbers(_LUT_DATA)
    slope, intercept = item.number("RealWorldValueSlope"), item.number("RealWorldValueIntercept")
    if values:
        if len(values) != last - first + 1:
            return None
        slope = intercept = None
    elif slope is None or intercept is None:
        return None
    units, scheme = _units(item)
    return RealWorldMapping(first, last, slope, intercept, values, units, scheme, item.text("LUTLabel"))


def _either(item: Attributes, *keywords: str) -> float | None:
    return next((found for word in keywords if (found := item.number(word)) is not None), None)


def _units(item: Attributes) -> tuple[str | None, str | None]:
    for code in item.items("MeasurementUnitsCodeSequence")[:1]:
        for keyword in _CODES:
            if code.text(keyword):
                return code.text(keyword), code.text("CodingSchemeDesignator")
    return None, None
