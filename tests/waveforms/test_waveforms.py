"""Waveforms in physical units, against pydicom and by hand."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.uid import TwelveLeadECGWaveformStorage

from dicomlake.datasets import pydicom_samples
from dicomlake.errors import BrokenObject, DicomlakeError
from dicomlake.objects.waveforms import open_waveforms, read_waveforms
from tests.dicom.phantoms import as_bytes, slice_dataset


def channel(sensitivity: float | None = 2.5, baseline: float = 10, label: str = "lead") -> Dataset:
    ds = Dataset()
    if sensitivity is not None:
        unit = Dataset()
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        ds.ChannelSensitivity, ds.ChannelSensitivityCorrectionFactor = sensitivity, 2
        ds.ChannelSensitivityUnitsSequence, ds.ChannelBaseline = [unit], baseline
    ds.ChannelLabel, ds.WaveformBitsStored = label, 16
    return ds


def waveform(samples: np.ndarray, channels: list[Dataset], **others: object) -> bytes:
    item = Dataset()
    item.MultiplexGroupTimeOffset, item.SamplingFrequency = 500, 250
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = samples.shape[1], samples.shape[0]
    item.WaveformBitsAllocated, item.WaveformSampleInterpretation = 16, "SS"
    item.ChannelDefinitionSequence = channels
    item.add_new(0x5400100A, "OW", np.int16(-32768).tobytes())
    item.add_new(0x54001010, "OW", samples.astype("<i2").tobytes())
    for keyword, value in others.items():
        setattr(item, keyword, value)
    ds = slice_dataset(SOPClassUID=TwelveLeadECGWaveformStorage, WaveformSequence=[item])
    del ds.PixelData
    return as_bytes(ds)


SAMPLES = np.array([[0, 1], [2, -3], [-32768, 5]])


def test_a_sample_is_scaled_and_moved_and_padding_is_nan() -> None:
    found = open_waveforms(waveform(SAMPLES, [channel(label="a"), channel(1, 0, "b")]))
    assert isinstance(found, xr.Dataset)
    np.testing.assert_allclose(found.waveform.values, [[10, 2], [20, -6], [np.nan, 10]])
    assert found.time.values == pytest.approx([0.5, 0.504, 0.508])
    assert found.channel.values.tolist() == ["a", "b"]
    assert found.waveform.attrs["units"] == "uV"


def test_channels_of_one_name_are_told_apart_and_uncalibrated_ones_say_so() -> None:
    found = open_waveforms(waveform(SAMPLES, [channel(None), channel()]))
    assert found.channel.values.tolist() == ["lead (1)", "lead (2)"]
    assert found.calibrated.values.tolist() == [False, True]
    assert found.waveform.values[:2, 0].tolist() == [0, 2]


def test_skew_is_in_seconds_however_it_is_stated() -> None:
    later, samples = channel(label="b"), channel(label="c")
    later.ChannelTimeSkew, samples.ChannelSampleSkew = 0.001, 2
    found = open_waveforms(waveform(np.zeros((2, 3)), [channel(label="a"), later, samples]))
    assert found.skew.values == pytest.approx([0, 0.001, 2 / 250])
    assert "skew" not in open_waveforms(waveform(SAMPLES, [channel(), channel()])).coords


def test_samples_of_any_kind_are_read_by_their_interpretation() -> None:
    """Two channels of unsigned bytes: 200 is not -56, and an odd number of them is padded."""
    data = waveform(
        SAMPLES, [channel(1, 0), channel(1, 0)],
        WaveformSampleInterpretation="UB", WaveformBitsAllocated=8, WaveformPaddingValue=None,
        WaveformData=bytes([200, 1, 2, 3, 4, 255]),
    )  # fmt: skip
    assert open_waveforms(data).waveform.values.tolist() == [[400, 2], [4, 6], [8, 510]]


def test_a_real_ecg_equals_pydicom() -> None:
    (path,) = [p for p in pydicom_samples() if p.name == "waveform_ecg.dcm"]
    tree = open_waveforms(path.read_bytes())
    ds = pydicom.dcmread(path)
    for index, name in enumerate(("group0", "group1")):
        np.testing.assert_allclose(tree[name].waveform.values, ds.waveform_array(index), rtol=1e-6)
    assert tree["group0"].attrs["sampling_frequency_hz"] == 1000


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({"SamplingFrequency": 0}, "SamplingFrequency"),
        ({"NumberOfWaveformSamples": 4}, "16 are described"),
        ({"NumberOfWaveformChannels": 3, "NumberOfWaveformSamples": 2}, "3 channels"),
        ({"WaveformSampleInterpretation": "XX"}, "not defined"),
    ],
)
def test_a_group_that_contradicts_itself_is_refused(others: dict, named: str) -> None:
    with pytest.raises(BrokenObject, match=named):
        read_waveforms(waveform(SAMPLES, [channel(), channel()], **others))


def test_companded_audio_and_no_waveform_are_refused_by_name() -> None:
    with pytest.raises(DicomlakeError, match="MB"):
        read_waveforms(waveform(SAMPLES, [channel(), channel()], WaveformSampleInterpretation="MB"))
    with pytest.raises(DicomlakeError, match="no waveform"):
        read_waveforms(as_bytes(slice_dataset()))
