"""Real world value mappings against highdicom, pydicom's files, and by hand."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pydicom
import pytest
from highdicom.pm.content import RealWorldValueMapping
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from dicomlake.dicom.headers import read_header
from dicomlake.dicom.real_world import RealWorldMapping, mappings_of
from tests.dicom.phantoms import as_bytes, slice_dataset
from tests.support import real_data_folder

SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]


def line(first: float, last: float, slope: float = 2.0, intercept: float = -5.0) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="secret", lut_explanation="words", unit=codes.UCUM.SquareMillimeterPerSecond,
        value_range=(first, last), slope=slope, intercept=intercept,
    )  # fmt: skip


def table(first: int, values: list[float]) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="table", lut_explanation="words", unit=codes.UCUM.NoUnits,
        value_range=(first, first + len(values) - 1), lut_data=values,
    )  # fmt: skip


def read(ds: Dataset, syntax: uid.UID = uid.ExplicitVRLittleEndian, frame: int | None = None):
    ds.file_meta.TransferSyntaxUID = syntax
    return mappings_of(read_header(as_bytes(ds)).dataset, frame)


def with_mappings(*items: Dataset, signed: bool = False) -> Dataset:
    pixels = (
        np.arange(-10 if signed else 0, 14).astype("i2" if signed else "u2")[:24].reshape(4, 6)
        if signed
        else None
    )
    ds = slice_dataset(pixels=pixels)
    ds.RealWorldValueMappingSequence = Sequence(items)
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_line_is_applied_as_highdicom_does(syntax: uid.UID) -> None:
    item = line(0, 4095, 0.25, -3)
    (found,) = read(with_mappings(item), syntax)
    stored = np.arange(4096).reshape(64, 64)
    assert np.array_equal(found.apply(stored), item.apply(stored))
    assert (found.units, found.units_scheme) == ("mm2/s", "UCUM")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_table_is_applied_as_highdicom_does(syntax: uid.UID) -> None:
    item = table(7, [0.5, -1.25, 1e6, 3.0])
    (found,) = read(with_mappings(item), syntax)
    stored = np.array([[7, 8], [9, 10]])
    assert np.array_equal(found.apply(stored), item.apply(stored))
    assert found.slope is None


def test_outside_its_range_a_mapping_says_nothing() -> None:
    (first, second) = read(with_mappings(line(2, 4), table(3, [10.0, 20.0])))
    stored = np.arange(7, dtype=np.uint8)
    expected = [np.nan, np.nan, -1, 1, 3, np.nan, np.nan]
    assert np.array_equal(first.apply(stored), expected, equal_nan=True)
    expected = [np.nan, np.nan, np.nan, 10, 20, np.nan, np.nan]
    assert np.array_equal(second.apply(stored), expected, equal_nan=True)
    assert np.array_equal(second.apply([3.5, np.nan, -1e30]), [np.nan] * 3, equal_nan=True)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_range_of_signed_pixels_is_signed(syntax: uid.UID) -> None:
    """First and last are US or SS; in implicit VR only PixelRepresentation tells which."""
    ds = with_mappings(line(-8, 5), signed=True)
    (found,) = read(ds, syntax)
    assert (found.first, found.last) == (-8, 5)
    assert found.apply([-9, -8]).tolist()[1] == -21


def test_the_range_of_floating_point_pixels_is_read() -> None:
    (found,) = read(with_mappings(line(-0.5, 0.5)))
    assert (found.first, found.last) == (-0.5, 0.5)
    assert np.array_equal(found.apply([-0.51, 0.25]), [np.nan, -4.5], equal_nan=True)


@pytest.mark.parametrize(
    "keyword",
    ["RealWorldValueSlope", "RealWorldValueIntercept", "RealWorldValueFirstValueMapped",
     "RealWorldValueLastValueMapped"],
)  # fmt: skip
def test_a_mapping_without_a_part_is_none(keyword: str) -> None:
    item = line(0, 100)
    delattr(item, keyword)
    assert read(with_mappings(item)) == ()
    assert len(read(with_mappings(item, line(0, 9)))) == 1


def test_a_table_of_another_length_than_its_range_is_none() -> None:
    item = table(7, [1.0, 2.0, 3.0])
    item.RealWorldValueLastValueMapped = 10
    assert read(with_mappings(item)) == ()


def test_a_mapping_survives_json_and_does_not_show_its_label() -> None:
    for item in (line(0, 9), table(7, [1.0, 2.5])):
        (found,) = read(with_mappings(item))
        assert RealWorldMapping.from_json(json.loads(json.dumps(found.to_json()))) == found
        assert "secret" not in repr(found)
        assert "words" not in json.dumps(found.to_json())


# ---- functional groups ----


def with_groups(shared: Dataset | None, *per_frame: Dataset | None) -> Dataset:
    def group(item: Dataset | None) -> Dataset:
        holder = Dataset()
        if item is not None:
            holder.RealWorldValueMappingSequence = Sequence([item])
        return holder

    ds = slice_dataset(NumberOfFrames=len(per_frame))
    ds.SharedFunctionalGroupsSequence = Sequence([group(shared)])
    ds.PerFrameFunctionalGroupsSequence = Sequence([group(item) for item in per_frame])
    return ds


def test_a_frame_has_its_own_mapping_else_the_shared_one_else_that_of_the_image() -> None:
    ds = with_groups(line(0, 9, 1.0), line(0, 9, 2.0), None)
    assert [read(ds, frame=k)[0].slope for k in range(2)] == [2.0, 1.0]
    assert read(ds) == ()  # no one mapping holds for all frames
    ds = with_groups(None, None, None)
    ds.RealWorldValueMappingSequence = Sequence([line(0, 9, 3.0)])
    assert [read(ds, frame=k)[0].slope for k in (0, 1, None)] == [3.0] * 3


def test_a_mapping_that_all_frames_repeat_holds_for_all() -> None:
    ds = with_groups(None, line(0, 9, 2.0), line(0, 9, 2.0))
    assert read(ds)[0].slope == 2.0


@pytest.mark.parametrize(
    "name",
    ["pydicom-data/parametric_map_float.dcm", "pydicom-data/parametric_map_double_float.dcm",
     "enhanced-mr/In/Philips/IM_0027_fMAP.dcm",
     "dicomparser/encapsulated/multi-frame/CT0012.not_fragmented_bot_rle.dcm"],
)  # fmt: skip
def test_mappings_of_real_files_are_those_of_pydicom(name: str) -> None:
    folder = real_data_folder()
    if folder is None or not (folder / name).exists():
        pytest.skip("no real DICOM files: set DICOMLAKE_TESTDATA to their folder")
    data = (folder / name).read_bytes()
    ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
    for frame in range(int(ds.NumberOfFrames)):
        groups = (ds.PerFrameFunctionalGroupsSequence[frame], ds.SharedFunctionalGroupsSequence[0])
        holder = next(group for group in groups if "RealWorldValueMappingSequence" in group)
        (item,) = holder.RealWorldValueMappingSequence
        (found,) = mappings_of(read_header(data).dataset, frame)
        assert (found.slope, found.intercept) == (item.RealWorldValueSlope, item.RealWorldValueIntercept)
        assert found.units == item.MeasurementUnitsCodeSequence[0].CodeValue
        if "RealWorldValueFirstValueMapped" in item:
            assert found.first == item.RealWorldValueFirstValueMapped
