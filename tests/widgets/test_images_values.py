"""Numbers that travel: by slope and intercept they are the values of `image.dicom`, computed on their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import xarray as xr

import dicomlake
from dicomlake import datasets
from dicomlake.volumes.colour import to_rgb
from dicomlake.widgets.images.encode import eight_bits
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.showing import stack_of
from tests import objects
from tests.support import real_data_folder
from tests.widgets.images_support import affine_of, image_on, voxels

IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "SeriesDescription"),
    *("ReferringPhysicianName", "InstitutionName", "StudyDescription", "StudyInstanceUID"),
    *("SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"),
)
UPRIGHT = affine_of(np.eye(3)[:, ::-1])


def in_units(stack: Stack, extra: tuple[int, ...] = ()) -> np.ndarray:
    return stack.values(extra).astype(np.float64) * stack.slope + stack.intercept


def image(dtype: Any = np.int16, **attrs: Any) -> xr.DataArray:
    return image_on(UPRIGHT, voxels(dtype=dtype), source="stored", **attrs)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (np.int16, "int16"),
        (np.uint16, "uint16"),
        (np.uint8, "uint8"),
        (np.int8, "int16"),
        (bool, "uint8"),
        (np.int32, "float32"),
        (np.uint32, "float32"),
        (np.float32, "float32"),
        (np.float64, "float32"),
    ],
)
def test_whole_numbers_of_16_bits_travel_as_they_are_and_others_as_float32(dtype: Any, kind: str) -> None:
    values = (voxels() % 100).astype(dtype)
    stack = Stack.of(image_on(UPRIGHT, values, source="stored", rescale_slope=0.5, rescale_intercept=-7.0))
    assert stack.kind == kind
    assert stack.values().dtype == np.dtype(kind)
    wanted = stack.image.dicom.rescaled().values if dtype is not bool else values * 0.5 - 7
    np.testing.assert_allclose(in_units(stack), wanted, rtol=1e-6)
    if kind == "float32":
        assert (stack.slope, stack.intercept) == (1.0, 0.0)
    else:
        np.testing.assert_array_equal(stack.values(), values)


def test_slices_scaled_apart_are_rescaled_here() -> None:
    slopes = np.array([0.1, 2.0, 0.5, 7.0])
    apart = image(padding_value=100, rescale_intercept=3.0, rescale_varies=["rescale_slope"], units="BQML")
    apart = apart.assign_coords(rescale_slope=("z", slopes))
    stack = Stack.of(apart)
    assert (stack.kind, stack.units) == ("float32", "Bq/ml")
    wanted = (voxels() * slopes[:, None, None] + 3.0).astype(np.float32)
    found = stack.values()
    assert np.isnan(found[1, 0, 0])  # padding has no value
    assert np.isnan(found).sum() == 1
    np.testing.assert_allclose(found[~np.isnan(found)], wanted[~np.isnan(found)], rtol=1e-6)
    json.dumps(stack.meta(), allow_nan=False)


def test_a_modality_lut_is_looked_up() -> None:
    table = {"first": 10, "values": [5, 500, 50, 5000], "bits": 16, "units": "OD"}
    stack = Stack.of(image(np.uint16, modality_lut=table))
    assert (stack.kind, stack.units) == ("float32", "OD")
    np.testing.assert_array_equal(stack.values(), stack.image.dicom.rescaled().values)
    assert set(np.unique(stack.values())) == {5, 500, 50, 5000}


@pytest.mark.parametrize(
    "attrs",
    [
        {"rescale_mixed": True, "rescale_slope": 3.0},
        {"modality_lut": True},
        {"rescale_varies": ["rescale_slope"]},
    ],
)
def test_values_that_nobody_can_explain_are_shown_as_stored_without_units(attrs: dict[str, Any]) -> None:
    stack = Stack.of(image(units="HU", **attrs))
    assert (stack.slope, stack.intercept, stack.units) == (1.0, 0.0, "")
    np.testing.assert_array_equal(stack.values(), voxels())


def test_rescaled_arrays_and_those_of_no_image_are_shown_as_they_are() -> None:
    hounsfield = image(
        np.uint16, bits_stored=12, units="HU", rescale_slope=1.0, rescale_intercept=-1024.0
    ).dicom.hu()
    stack = Stack.of(hounsfield)
    assert (stack.kind, stack.slope, stack.intercept, stack.units) == ("int16", 1.0, 0.0, "HU")
    np.testing.assert_array_equal(stack.values(), voxels() - 1024)
    made = Stack.of(xr.DataArray(np.linspace(0, 1, 24).reshape(2, 3, 4), dims=("z", "y", "x")))
    np.testing.assert_allclose(made.values(), np.linspace(0, 1, 24).reshape(2, 3, 4), rtol=1e-6)
    assert made.units == ""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with dicomlake.open(tmp_path_factory.mktemp("images") / "lake", create=True) as opened:
        for name in ("chest-ct", "chest-rt", "dynamic-pet", "brain-mr", "us-cine"):
            opened.ingest(datasets.make(name, slices=6), progress=False)
        yield opened


def of_modality(lake: Any, modality: str) -> Any:
    return lake.query(Modality=modality)[0].open(chunks=None)


def test_ct_is_in_hounsfield_units(lake: Any) -> None:
    dataset = of_modality(lake, "CT")
    stack = Stack.of(dataset)
    assert (stack.kind, stack.units) == ("int16", "HU")
    np.testing.assert_array_equal(in_units(stack), dataset.image.dicom.hu().values)
    assert not stack_of(lake.query(Modality="CT")[0]).burned_in


def test_pet_is_in_suv_for_each_time(lake: Any) -> None:
    dataset = of_modality(lake, "PT")
    stack = Stack.of(dataset)
    assert (stack.kind, stack.units, list(stack.extras)) == ("float32", "SUV", ["time"])
    wanted = dataset.image.dicom.suv().values
    for t in range(stack.extras["time"]):
        np.testing.assert_allclose(in_units(stack, (t,)), wanted[t], rtol=1e-5)
    shares = {p.name: (p.center, p.width) for p in stack.presets}
    assert shares["SUV 0 to 5"] == (2.5, 5)
    assert stack.meta()["presets"][0]["invert"] is True
    assert stack.meta()["extras"][0]["values"] == dataset.time.values.tolist()


def test_pet_that_does_not_state_what_suv_needs_stays_in_becquerel(lake: Any) -> None:
    image = of_modality(lake, "PT").image.isel(time=0)
    pet = {k: v for k, v in image.attrs["pet"].items() if k != "weight_kg"}
    stack = Stack.of(image.assign_attrs(pet=pet))
    assert stack.units == "Bq/ml"
    np.testing.assert_allclose(in_units(stack), image.dicom.rescaled().values, rtol=1e-6)


def test_pet_with_one_slope_travels_as_stored(lake: Any) -> None:
    attrs = {
        k: v for k, v in of_modality(lake, "PT").image.attrs.items() if k in ("pet", "units", "modality")
    }
    one = image(np.uint16, rescale_slope=40.0, rescale_intercept=0.0, **attrs)
    stack = Stack.of(one)
    assert (stack.kind, stack.units) == ("uint16", "SUV")
    np.testing.assert_allclose(in_units(stack), one.dicom.suv().values, rtol=1e-6)
    suv = Stack.of(one.dicom.suv())  # is SUV already, and not made SUV again
    np.testing.assert_allclose(in_units(suv), one.dicom.suv().values, rtol=1e-6)


def test_dose_is_in_gray(lake: Any) -> None:
    dataset = of_modality(lake, "RTDOSE")
    stack = Stack.of(dataset)
    assert (stack.kind, stack.units) == ("float32", "Gy")
    np.testing.assert_allclose(in_units(stack), dataset.image.dicom.dose().values, rtol=1e-6)
    whole = next(p for p in stack.presets if p.name == "whole dose")
    assert whole.center + whole.width / 2 == pytest.approx(float(dataset.image.dicom.dose().max()))


def test_a_colour_loop_travels_as_rgb_with_its_pace_and_may_show_text(lake: Any) -> None:
    dataset = of_modality(lake, "US")
    stack = Stack.of(dataset)
    assert (stack.kind, stack.colour, stack.presets) == ("rgb8", True, [])
    np.testing.assert_array_equal(stack.run("frame", 1, 4), dataset.image.values[1:5])
    assert stack.meta()["cine"] == {"rate": 25.0}
    assert stack.burned_in


def test_nothing_identifying_is_in_what_is_saved(lake: Any) -> None:
    for series in lake.query():
        dataset = series.open(chunks=None) if series.volumes else None
        if dataset is None or "image" not in dataset:
            continue
        said = json.dumps(Stack.of(dataset).meta(), allow_nan=False)
        assert len(said) < 10_000
        header = series.header()
        assert header["PatientName"][0]
        known = [text for keyword in IDENTIFYING for text in header.get(keyword, ()) if text]
        assert [text for text in known if text in said] == []


def test_what_may_show_text_is_told(lake: Any) -> None:
    series = lake.query(Modality="CT")[0]
    ct = of_modality(lake, "CT").image
    headers = [header for _uid, header in lake.headers(series.id)]

    def told(image: xr.DataArray) -> bool:
        return Stack.of(image, objects=headers).burned_in

    for modality in ("US", "XA", "RF", "ES", "OT", "SC", "CR", "DX", "MG", ""):
        assert told(ct.assign_attrs(modality=modality))
    assert not told(ct)
    assert Stack.of(ct).burned_in  # without headers nobody can say that it is not
    assert told(ct.astype(np.uint8, keep_attrs=True))  # a captured screen
    assert told(ct.assign_attrs(units=""))
    screen = xr.DataArray(ct.values[:1], dims=("frame", "y", "x"), attrs={"modality": "CT"})
    assert told(screen)  # a dose report that calls itself CT lies nowhere in the patient


def test_one_object_that_says_so_burns_text_into_all(tmp_path: Path) -> None:
    """BurnedInAnnotation was read of the first object of the series alone."""
    made = [objects.dataset(n) for n in (1, 2, 3)]
    made[1].BurnedInAnnotation = "YES"
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        opened.ingest(*map(objects.as_bytes, made), progress=False)
        assert stack_of(opened.query()[0]).burned_in


def test_an_image_does_not_get_the_numbers_of_another_that_says_something_else_of_them(lake: Any) -> None:
    """Dask arrays keep their name when only what is said of them changes, as the weight for SUV."""
    pet = lake.query(Modality="PT")[0].open().image.isel(time=0)
    assert Stack.of(pet).kind == "float32"
    lighter = pet.assign_attrs(pet=pet.attrs["pet"] | {"weight_kg": pet.attrs["pet"]["weight_kg"] / 2})
    before = Stack.of(pet)
    whole = before.values()
    half = Stack.of(lighter)
    np.testing.assert_allclose(half.values(), whole / 2, rtol=1e-5)


def palette_file() -> Path:
    return Path(str(pydicom.data.get_testdata_file("examples_palette.dcm", download=False)))


def test_palette_indices_travel_as_colours(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        opened.ingest(palette_file(), progress=False)
        dataset = opened.query()[0].open(chunks=None)
        stack = Stack.of(dataset)
        assert stack.kind == "rgb8"
        wanted = eight_bits(to_rgb(dataset).values, None)
        np.testing.assert_array_equal(stack.run("frame", 0, 1)[0], wanted.reshape(wanted.shape[-3:]))
        bare = Stack.of(dataset.image)  # without its palette: indices, in grey
        assert bare.kind == "uint8"
        np.testing.assert_array_equal(bare.values()[0], dataset.image.values.reshape(bare.shape[1:]))


def test_colours_of_more_than_8_bits_keep_their_upper_ones() -> None:
    deep = np.array([[[0, 0x1234, 0xFFFF]]], np.uint16)
    np.testing.assert_array_equal(eight_bits(deep, 16), [[[0, 0x12, 0xFF]]])
    np.testing.assert_array_equal(eight_bits(deep >> 4, 12), [[[0, 0x12, 0xFF]]])


REAL = real_data_folder()


@pytest.mark.skipif(REAL is None, reason="no real data: set DICOMLAKE_TESTDATA")
@pytest.mark.parametrize(
    "name", ["pet-ge", "ct-tilt-ge", "nm-heart", "rt-dicompyler", "enhanced-mr", "fmri-ge-4d", "xa-cine"]
)
def test_real_images_have_the_values_of_their_accessor(tmp_path: Path, name: str) -> None:
    assert REAL is not None
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        opened.ingest(REAL / name, progress=False)
        seen = 0
        for series in opened.query():
            for volume in series.volumes[:2]:
                if volume.key is None:
                    continue
                dataset = opened.open_volume(volume, chunks=None)
                _check_real(dataset)
                seen += 1
        assert seen


def _check_real(dataset: xr.Dataset) -> None:
    stack = Stack.of(dataset)
    json.dumps(stack.meta(), allow_nan=False)
    assert stack.meta()["planes"]
    if stack.colour:
        return
    at = {name: size - 1 for name, size in stack.extras.items()}
    part = dataset.image.isel(at)
    wanted = part.dicom.suv() if stack.units == "SUV" else part.dicom.rescaled()
    values = np.asarray(wanted.values, dtype=np.float64).reshape(stack.shape)
    found = in_units(stack, tuple(at.values()))
    np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-5)
    for name, plane in stack.planes.items():
        middle = plane.count // 2
        shown = stack.run(name, middle, 1, tuple(at.values()))[0]
        np.testing.assert_allclose(
            shown * stack.slope + stack.intercept, plane.displayed(values)[middle], rtol=1e-5, atol=1e-5
        )
