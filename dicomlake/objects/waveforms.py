"""ECG and other waveforms as channels over time, in physical units (PS3.3 C.10.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import read_header
from dicomlake.errors import BrokenObject, DicomlakeError

if TYPE_CHECKING:
    import xarray as xr

_DTYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4", "SV": "i8", "UV": "u8"}
_COMPANDED = ("MB", "AB")  # mu-law and A-law: 8 bit codes, expanded by ITU-T G.711
_MAX_SAMPLES = 1 << 31
_PADDING, _DATA = 0x5400100A, 0x54001010  # WaveformPaddingValue, WaveformData


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. name: the meaning of its source, its label, or its number.

    A physical value is sample x sensitivity + baseline, in `units` (UCUM); sensitivity is None where it is
    not stated, and 1 then stands in for it.
    skew_s: how much later than the first channel it was sampled.
    """

    name: str
    sensitivity: float | None
    baseline: float
    units: str | None
    skew_s: float
    low_hz: float | None
    high_hz: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Channels that were sampled together.

    samples: (time, channel), as stored. padding: the sample that means none. offset_s: of the first sample.
    """

    label: str | None
    frequency_hz: float
    offset_s: float
    channels: tuple[Channel, ...]
    samples: npt.NDArray[Any]
    padding: int | None


def read_waveforms(source: bytes) -> tuple[Group, ...]:
    """The multiplex groups of a waveform object.

    Raises BrokenObject when a group does not hold the samples it describes, DicomlakeError when there is
    no waveform or one whose samples are coded in a way that is not defined here.
    """
    dataset = read_header(source).dataset
    groups = tuple(_group(item, dataset.encoding.big_endian) for item in dataset.items("WaveformSequence"))
    if not groups:
        raise DicomlakeError("the object holds no waveform: WaveformSequence is absent or empty")
    return groups


def open_waveforms(source: bytes) -> xr.Dataset | xr.DataTree:
    """Channels over time as float32 in physical units: a Dataset `waveform` (time, channel); of several
    groups a DataTree with nodes group0, group1 …

    time: in s from the start of the acquisition. Coordinates of the channels: `units` (UCUM), `calibrated`
    (False where ChannelSensitivity is not stated, and values are samples), and `skew` in s where channels
    were sampled later than the first. Padding samples are NaN. Raises as `read_waveforms`.
    """
    import xarray as xr

    found = [_dataset(group) for group in read_waveforms(source)]
    if len(found) == 1:
        return found[0]
    return xr.DataTree.from_dict({f"group{i}": dataset for i, dataset in enumerate(found)})


def _group(item: Attributes, big_endian: bool) -> Group:
    channels, samples = _count(item, "NumberOfWaveformChannels"), _count(item, "NumberOfWaveformSamples")
    frequency = item.number("SamplingFrequency")
    if not frequency or frequency <= 0:
        raise BrokenObject("SamplingFrequency is missing or not positive: the samples have no time")
    stored = _samples(item, samples, channels, big_endian)
    definitions = item.items("ChannelDefinitionSequence")
    if len(definitions) != channels:
        raise BrokenObject(
            f"{channels} channels are described by {len(definitions)} items of ChannelDefinitionSequence"
        )
    offset = item.number("MultiplexGroupTimeOffset") or 0.0
    padding = item.elements.get(_PADDING)
    written = stored.dtype.newbyteorder(">" if big_endian else "<")
    value = np.frombuffer(padding[1], written, 1) if padding and padding[1] else None
    return Group(
        label=item.text("MultiplexGroupLabel"),
        frequency_hz=frequency,
        offset_s=offset / 1000,
        channels=tuple(_channel(one, i, frequency) for i, one in enumerate(definitions)),
        samples=stored,
        padding=None if value is None else int(value[0]),
    )


def _count(item: Attributes, keyword: str) -> int:
    value = item.number(keyword)
    if value is None or not 1 <= value <= _MAX_SAMPLES:
        raise BrokenObject(f"{keyword} is missing or impossible")
    return int(value)


def _samples(item: Attributes, samples: int, channels: int, big_endian: bool) -> npt.NDArray[Any]:
    """(time, channel), as stored: channels alternate (PS3.3 C.10.9.1.5)."""
    coding = item.text("WaveformSampleInterpretation") or ""
    if coding in _COMPANDED:
        raise DicomlakeError(
            f"samples coded as {coding} (companded audio) are not expanded: take the original"
        )
    if coding not in _DTYPES:
        raise BrokenObject(f"WaveformSampleInterpretation {coding or 'is missing'} is not defined")
    dtype = np.dtype(_DTYPES[coding]).newbyteorder(">" if big_endian else "<")
    vr, raw = item.elements.get(_DATA, ("OB", b""))
    if big_endian and dtype.itemsize == 1 and vr == "OW":
        raw = np.frombuffer(raw, "<u2").byteswap().tobytes()
    needed = samples * channels * dtype.itemsize
    if not needed <= len(raw) <= needed + 1:
        raise BrokenObject(f"the waveform data have {len(raw)} bytes, {needed} are described")
    found = np.frombuffer(raw, dtype, samples * channels).reshape(samples, channels)
    return found.astype(dtype.newbyteorder("="), copy=False)


def _channel(item: Attributes, index: int, frequency_hz: float) -> Channel:
    source = next(iter(item.items("ChannelSourceSequence")), None)
    unit = next(iter(item.items("ChannelSensitivityUnitsSequence")), None)
    name = (source and source.text("CodeMeaning")) or item.text("ChannelLabel") or f"channel {index + 1}"
    sensitivity = item.number("ChannelSensitivity")
    correction = item.number("ChannelSensitivityCorrectionFactor")
    return Channel(
        name=name,
        sensitivity=None
        if sensitivity is None
        else sensitivity * (1.0 if correction is None else correction),
        baseline=item.number("ChannelBaseline") or 0.0,
        units=unit.text("CodeValue") if unit else None,
        skew_s=_skew_s(item, frequency_hz),
        low_hz=item.number("FilterLowFrequency"),
        high_hz=item.number("FilterHighFrequency"),
    )


def _skew_s(item: Attributes, frequency_hz: float) -> float:
    """ChannelTimeSkew in s, or ChannelSampleSkew in samples; an object has one of them (C.10.9.1.4.3)."""
    skew = item.number("ChannelTimeSkew")
    return (item.number("ChannelSampleSkew") or 0.0) / frequency_hz if skew is None else skew


def _dataset(group: Group) -> xr.Dataset:
    import xarray as xr

    samples, channels = group.samples, group.channels
    scale = np.array([1.0 if c.sensitivity is None else c.sensitivity for c in channels])
    # PS3.3 C.10.9.1.4.1: ChannelBaseline is in the units of the channel, added to the scaled sample
    values = samples * scale + np.array([c.baseline for c in channels])
    if group.padding is not None:
        values = np.where(samples == group.padding, np.nan, values)
    time = group.offset_s + np.arange(samples.shape[0]) / group.frequency_hz
    coords: dict[str, Any] = {
        "time": ("time", time, {"units": "s"}),
        "channel": ("channel", _distinct([c.name for c in channels])),
        "units": ("channel", [c.units or "1" for c in channels]),
        "calibrated": ("channel", [c.sensitivity is not None for c in channels]),
    }
    if any(c.skew_s for c in channels):
        coords["skew"] = ("channel", [c.skew_s for c in channels], {"units": "s"})
    units = {c.units for c in channels}
    attrs = {"sampling_frequency_hz": group.frequency_hz} | ({"label": group.label} if group.label else {})
    shared = {"units": next(iter(units)) or "1"} if len(units) == 1 else {}
    return xr.Dataset({"waveform": (("time", "channel"), values.astype(np.float32), shared)}, coords, attrs)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of which no two are equal: a second one of a name gets its number."""
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]
