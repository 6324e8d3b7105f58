"""The facts of an acquisition for the .json beside a NIfTI file, by the names and units of BIDS.

Nothing that may name a person: no dates, UIDs and descriptions, which are free text (PS3.15 E.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import number_of_frames
from dicomlake.dicom.functional_groups import FunctionalGroups
from dicomlake.errors import BrokenObject

_MS = 1e-3
_SECONDS = {"s": 1.0, "ms": _MS}
_CLOCK_S = 0.006  # slice times come in ticks of 2.5 ms
_OVER_SLICES = (("z",), ("time", "z"), ("b", "z"), ("repeat", "z"))


class _Number(NamedTuple):
    """Where a number is: at the top level, or in a macro of enhanced objects.

    factor: to the unit of BIDS. most: a larger one, like one that is not positive, means nothing: some
    writers put 0 where they do not know, UIH puts ImagingFrequency in Hz.
    """

    keyword: str
    factor: float = 1.0
    macro: str = ""
    enhanced: str = ""
    most: float = np.inf


_TIMING, _MODIFIER = "MRTimingAndRelatedParametersSequence", "MRImagingModifierSequence"
_NUMBERS = {
    "MagneticFieldStrength": _Number("MagneticFieldStrength"),
    "EchoTime": _Number("EchoTime", _MS, "MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": _Number("RepetitionTime", _MS, _TIMING, "RepetitionTime"),
    "InversionTime": _Number("InversionTime", _MS, "MRModifierSequence", "InversionTimes"),
    "FlipAngle": _Number("FlipAngle", 1.0, _TIMING, "FlipAngle"),
    "SliceThickness": _Number("SliceThickness", 1.0, "PixelMeasuresSequence", "SliceThickness"),
    "ImagingFrequency": _Number("ImagingFrequency", 1.0, _MODIFIER, "TransmitterFrequency", 2000),
    "PixelBandwidth": _Number("PixelBandwidth", 1.0, _MODIFIER, "PixelBandwidth"),
    "KVP": _Number("KVP", 1.0, "CTXRayDetailsSequence", "KVP"),
    "SeriesNumber": _Number("SeriesNumber"),
}
_TEXTS = {
    "Modality": "Modality",
    "Manufacturer": "Manufacturer",
    "ManufacturersModelName": "ManufacturerModelName",
    "SoftwareVersions": "SoftwareVersions",
    "BodyPartExamined": "BodyPartExamined",
    "PatientPosition": "PatientPosition",
    "MRAcquisitionType": "MRAcquisitionType",
    "ScanningSequence": "ScanningSequence",
    "SequenceVariant": "SequenceVariant",
    "ScanOptions": "ScanOptions",
    "SequenceName": "SequenceName",
    "ReceiveCoilName": "ReceiveCoilName",
    "ConvolutionKernel": "ConvolutionKernel",
}
_LISTS = {"ImageType": "ImageType"}
# coordinates that say a number for the very frames of the image: BIDS key, factor
_COORDINATES = {"echo": ("EchoTime", _MS), "inversion": ("InversionTime", _MS), "flip": ("FlipAngle", 1.0)}


def sidecar(header: Attributes, image: xr.DataArray, frame: int = 0) -> dict[str, Any]:
    """The facts of one image; what is absent, or not one value for all of it, is left out.

    header: of the object that holds its first frame, which is its frame `frame`, counted from 0.
    """
    found: dict[str, Any] = {
        name: "\\".join(header.texts(key)) for name, key in _TEXTS.items() if header.text(key)
    }
    found |= {name: list(header.texts(key)) for name, key in _LISTS.items() if header.texts(key)}
    found |= _numbers(header, frame) | _timing(image)
    for coordinate, (name, factor) in _COORDINATES.items():
        if coordinate in image.coords:
            value = _one(image.coords[coordinate].values)
            found = {key: known for key, known in found.items() if key != name}
            found |= {} if value is None else {name: _plain(value * factor)}
    return found


def _numbers(header: Attributes, frame: int) -> dict[str, float]:
    groups = _groups(header)
    found: dict[str, float] = {}
    for name, number in _NUMBERS.items():
        value = header.number(number.keyword)
        if value is None and groups is not None and number.macro:
            value = _in_macro(groups, frame, number)
        if value is not None and 0 < value < number.most:
            found[name] = _plain(value * number.factor)
    return found


def _plain(value: float) -> float:
    """Without the noise of the conversion; a whole number as such."""
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() else rounded


def _groups(header: Attributes) -> FunctionalGroups | None:
    if "SharedFunctionalGroupsSequence" not in header:
        return None
    try:
        return FunctionalGroups(header, number_of_frames(header))
    except BrokenObject:
        return None


def _in_macro(groups: FunctionalGroups, frame: int, number: _Number) -> float | None:
    if not 0 <= frame < groups.count:
        return None
    try:
        return groups.read(frame, number.macro, lambda item: item.number(number.enhanced))
    except BrokenObject:
        return None


def _timing(image: xr.DataArray) -> dict[str, list[float]]:
    """SliceTiming in s from the first slice, in the order of the slices; only of MR.

    The first volume stands for all where they differ by no more than the clock of the scanner does.
    """
    if image.attrs.get("modality") != "MR":
        return {}
    for name in ("slice_time", "acquisition_time"):
        times = image.coords.get(name) if name in image.coords else None
        if times is None or times.dims not in _OVER_SLICES:
            continue
        values = times.values.reshape(-1, times.sizes["z"]) * _SECONDS[times.attrs["units"]]
        values = values - values.min(axis=1, keepdims=True)
        if np.abs(values - values[0]).max() <= _CLOCK_S:  # nor NaN
            return {"SliceTiming": [round(float(value), 6) + 0.0 for value in values[0]]}
    return {}


def _one(values: np.ndarray) -> float | None:
    """The value that all are; None where they differ."""
    different = np.unique(np.asarray(values, dtype=float))
    return float(different[0]) if different.size == 1 and np.isfinite(different[0]) else None
