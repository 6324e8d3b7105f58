"""Values of interest: the windows that an image comes with, and the usual ones of its modality.

A window is a centre and a width in the units that are shown. Those of the header come first, then those of
the modality, then one that follows the values.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.luts import Lut, voi_luts
from dicomlake.errors import BrokenObject

_SHAPES = {"LINEAR": "linear", "LINEAR_EXACT": "linear_exact", "SIGMOID": "sigmoid"}
_MOST_ENTRIES = 1024  # of a table that travels: 8 bits of display do not show more steps
_MOST_OF_HEADER = 4
_KEYS = "123456789"

_CT = (
    ("soft tissue", 40, 400),
    ("lung", -600, 1500),
    ("bone", 480, 2500),
    ("brain", 40, 80),
    ("subdural", 75, 215),
    ("stroke", 32, 8),
    ("liver", 60, 160),
    ("mediastinum", 50, 350),
    ("angiography", 300, 600),
    ("spine", 50, 250),
    ("temporal bone", 600, 2800),
)
_SUV = (("SUV 0 to 5", 2.5, 5), ("SUV 0 to 10", 5, 10), ("SUV 0 to 20", 10, 20))
_KNOWN_WORDS = frozenset(
    {
        *("NORMAL", "HARDER", "SOFTER", "WINDOW", "WINDOW1", "WINDOW2", "WINDOW3", "DEFAULT", "STANDARD"),
        *("BRAIN", "HEAD", "BONE", "LUNG", "LUNGS", "ABDOMEN", "MEDIASTINUM", "LIVER", "SOFT", "TISSUE"),
        *("ANGIO", "SPINE", "PELVIS", "CHEST", "NECK", "SINUS", "USER", "ALGO1", "ALGO2", "WIDE", "NARROW"),
        *("LINEAR", "SIGMOID", "LOW", "HIGH", "MEDIUM", "CONTRAST", "BREAST", "SKIN", "THORAX", "HEART"),
    }
)
"""Words of WindowCenterWidthExplanation and LUTExplanation that are shown: free text could name anybody."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A window in the units that are shown; `key` is that of the keyboard.

    shape: "linear", "linear_exact", "sigmoid" or "lut". lut: `first` value and `step` between the entries,
    `values_base64` of their uint8 brightness; values beyond the ends have that of the ends. invert: it is
    usual to show much of it dark, as in PET.
    """

    name: str
    center: float
    width: float
    shape: str = "linear"
    lut: dict[str, Any] | None = None
    key: str = ""
    invert: bool = False

    def meta(self) -> dict[str, Any]:
        """JSON types, for the browser."""
        found = {
            "key": self.key,
            "name": self.name,
            "center": self.center,
            "width": self.width,
            "shape": self.shape,
        }
        return found | ({"lut": self.lut} if self.lut else {}) | ({"invert": True} if self.invert else {})

    def at(self, slope: float, intercept: float) -> tuple[float, float]:
        """Centre and width in numbers of which value = number * slope + intercept."""
        return (self.center - intercept) / slope, self.width / abs(slope)


def of_header(header: Attributes, *, signed: bool = True, factor: float = 1.0) -> list[Preset]:
    """The windows and VOI LUTs of an object, tables first (PS3.3 C.11.2); none that make no sense.

    signed: whether values after the modality transformation can be negative. factor: of the units shown to
    rescaled values.
    """
    function = _SHAPES.get(header.text("VOILUTFunction") or "LINEAR", "linear")
    centers, widths = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    told = header.texts("WindowCenterWidthExplanation")
    found = [
        Preset(_shown(told, i), c * factor, w * factor, function)
        for i, (c, w) in enumerate(zip(centers, widths, strict=False))
        if np.isfinite([c, w]).all() and w > 0
    ]
    tables = list(_tables(header, signed, factor))
    named = [*tables, *found][:_MOST_OF_HEADER]
    return [
        replace(one, name=f"header {i + 1}" * bool(i) or "header") if not one.name else _of_header(one, i)
        for i, one in enumerate(named)
    ]


def _of_header(preset: Preset, place: int) -> Preset:
    return replace(preset, name=f"header {place + 1}: {preset.name}" if place else f"header: {preset.name}")


def _shown(explanations: Sequence[str], place: int) -> str:
    """An explanation of known words only, in small letters; "" for all others."""
    text = explanations[place] if place < len(explanations) else ""
    words = text.upper().replace("_", " ").replace("-", " ").split()
    return " ".join(words).lower() if words and set(words) <= _KNOWN_WORDS else ""


def _tables(header: Attributes, signed: bool, factor: float) -> Iterator[Preset]:
    try:
        found = voi_luts(header, signed=signed)
    except BrokenObject:
        return
    items = header.items("VOILUTSequence")
    for table, item in zip(found, items, strict=True):
        yield table_preset(table, _shown(item.texts("LUTExplanation"), 0), factor)


def table_preset(table: Lut, name: str, factor: float = 1.0) -> Preset:
    """A VOI LUT as a preset; of a long one every n-th entry. Brightness is by the bits of its entries."""
    entries = len(table.values)
    step = -(-entries // _MOST_ENTRIES)
    inputs = table.first + step * np.arange(-(-entries // step))
    bright = np.rint(table.apply(inputs) * (255 / ((1 << table.bits) - 1))).astype(np.uint8)
    center, width = table.first + entries / 2, float(max(entries, 1))
    lut = {
        "first": table.first * factor,
        "step": step * factor,
        "values_base64": base64.b64encode(bright.tobytes()).decode("ascii"),
    }
    return Preset(name, center * factor, width * factor, "lut", lut)


def looked_up(lut: dict[str, Any], values: np.ndarray) -> np.ndarray:
    """uint8 brightness of values in units, by the table of a preset; NaN is black."""
    bright = np.frombuffer(base64.b64decode(lut["values_base64"]), np.uint8)
    place = np.nan_to_num(np.floor((values - lut["first"]) / lut["step"]))
    return np.where(np.isnan(values), 0, bright[np.clip(place, 0, len(bright) - 1).astype(np.intp)]).astype(
        np.uint8
    )


def of_window(window: Any, factor: float = 1.0) -> list[Preset]:
    """The one window that an image's attributes hold, [centre, width]; LINEAR, as no function is known."""
    try:
        center, width = (float(v) * factor for v in window)
    except (TypeError, ValueError):
        return []
    return [Preset("header", center, width)] if np.isfinite([center, width]).all() and width > 0 else []


def of_modality(modality: str, units: str, sample: np.ndarray) -> list[Preset]:
    """The usual windows; sample: some values in these units, without padding."""
    if modality == "CT" and units == "HU":
        return [Preset(*one) for one in _CT]
    if modality == "PT" and units == "SUV":
        return [Preset(name, c, w, "linear_exact", invert=True) for name, c, w in _SUV]
    if modality == "RTDOSE":
        return [_between("whole dose", 0.0, float(sample.max(initial=0.0)))]
    if modality in ("PT", "NM"):
        high = float(np.percentile(sample, 99.8)) if sample.size else 1.0
        found = [_between("all activity", 0.0, high), _between("faint activity", 0.0, high / 4)]
        return [replace(one, invert=True) for one in found]
    if modality in ("MG", "CR", "DX", "RG", "XA", "RF"):
        return [
            _of_percentiles("whole range", sample, 0, 100),
            _of_percentiles("high contrast", sample, 10, 95),
        ]
    if modality == "MR":
        return [_of_percentiles("high contrast", sample, 10, 97), _of_percentiles("bright", sample, 0, 90)]
    return [_of_percentiles("whole range", sample, 0, 100)]


def automatic(sample: np.ndarray) -> Preset:
    """By the values: between their 1st and 99.5th percentile."""
    return _of_percentiles("automatic", sample, 1, 99.5)


def _of_percentiles(name: str, sample: np.ndarray, low: float, high: float) -> Preset:
    ends = np.percentile(sample, [low, high]) if sample.size else (0.0, 1.0)
    return _between(name, float(ends[0]), float(ends[1]))


def _between(name: str, low: float, high: float) -> Preset:
    """A window whose ends are two values; of values that are all alike, one of width 1 around them."""
    if not high > low:
        return Preset(name, low, 1.0, "linear_exact")
    return Preset(name, (low + high) / 2, high - low, "linear_exact")


def numbered(presets: Sequence[Preset], auto: Preset) -> list[Preset]:
    """With keys 1 to 9, of which the automatic one has one; without those that say the same again."""
    presets = [*presets[: len(_KEYS) - 1], auto, *presets[len(_KEYS) - 1 :]]
    found: list[Preset] = []
    for one in presets:
        same = (p for p in found if p.shape != "lut" and (p.center, p.width) == (one.center, one.width))
        if one.shape == "lut" or next(same, None) is None:
            found.append(one)
    return [replace(one, key=_KEYS[i] if i < len(_KEYS) else "") for i, one in enumerate(found)]
