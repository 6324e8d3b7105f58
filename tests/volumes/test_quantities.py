"""What stored values mean: units, tables, padding and quantities, by the phantoms' formulas and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

import dicomlake
from dicomlake import datasets
from dicomlake.datasets import chest_rt, dynamic_pet
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.stacking import stack
from dicomlake.errors import QuantityError
from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`
from dicomlake.volumes.facts import facts
from tests import objects
from tests.volumes.oblique import opened, slices


def stored(values: np.ndarray, **attrs: Any) -> xr.DataArray:
    """An array of stored values."""
    return xr.DataArray(values, dims="x", attrs={"source": "stored"} | attrs)


@pytest.fixture(scope="module")
def pet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xr.DataArray]:
    source = datasets.make("dynamic-pet", tmp_path_factory.mktemp("pet"), slices=3)
    with dicomlake.open(tmp_path_factory.mktemp("lake") / "l", create=True) as lake:
        lake.ingest(source, progress=False)
        yield lake.query(Modality="PT")[0].open().image


def test_suv_of_the_phantom_is_its_activity_by_dose_and_weight(pet: xr.DataArray) -> None:
    activity = dynamic_pet.dynamic_pet_bqml(range(6), range(3), range(128), range(128), slices=3)
    np.testing.assert_allclose(pet.dicom.rescaled(), activity, rtol=1e-6)
    delay = dynamic_pet.START_S - dynamic_pet.INJECTION_S
    left = dynamic_pet.DOSE_BQ * 0.5 ** (delay / float(dynamic_pet.HALF_LIFE_S))
    suv = pet.dicom.suv()
    np.testing.assert_allclose(suv, activity * float(dynamic_pet.WEIGHT_KG) * 1000 / left, rtol=1e-5)
    assert (suv.dtype, suv.attrs["units"], suv.attrs["source"]) == (np.float32, "g/ml", "rescaled")
    assert "body weight" in suv.attrs["rule"]
    np.testing.assert_array_equal(suv.isel(time=3, z=1), pet.isel(time=3, z=1).dicom.suv())
    np.testing.assert_allclose(suv.dicom.affine, pet.dicom.affine)


def test_suv_is_not_made_twice_nor_of_anything_else(pet: xr.DataArray) -> None:
    for wrong in (pet.dicom.suv(), stored(np.zeros(3)), pet.drop_attrs()):
        with pytest.raises(QuantityError, match="SUV"):
            wrong.dicom.suv()
    with pytest.raises(QuantityError, match=r"Patient(Size|Sex)"):
        pet.assign_attrs(pet={k: v for k, v in pet.attrs["pet"].items() if k != "height_m"}).dicom.suv("lbm")


def test_a_mean_over_slices_that_are_scaled_apart_is_refused(pet: xr.DataArray) -> None:
    assert "rescale_slope" in pet.coords
    for lost in (pet.mean("z", keep_attrs=True), pet.drop_vars("rescale_slope")):
        with pytest.raises(QuantityError, match="rescale first"):
            lost.dicom.rescaled()
    assert pet.dicom.rescaled().mean("z").attrs["source"] == "rescaled"


def test_values_between_slices_that_are_scaled_apart_are_rescaled(pet: xr.DataArray) -> None:
    x, y, z = (pet.dicom.affine @ [0.5, 64, 64, 1])[:3]
    found = pet.isel(time=2).dicom.at_lps(x, y, z, method="linear")
    activity = dynamic_pet.dynamic_pet_bqml([2], [0, 1], [64], [64], slices=3)
    assert float(found) == pytest.approx(activity.mean(), rel=1e-6)
    assert found.attrs["source"] == "rescaled"


def test_dose_is_in_gray_and_nothing_else_is(tmp_path: Path) -> None:
    source = datasets.make("chest-rt", tmp_path / "rt", slices=2)
    with dicomlake.open(tmp_path / "l", create=True) as lake:
        lake.ingest(source, progress=False)
        image = lake.query(Modality="RTDOSE")[0].open().image
        dose = image.dicom.dose()
        truth = chest_rt.dose_planes().affine_lps
        z, y, x = (
            np.array(truth)[i, 3] + 4 * np.arange(n) for i, n in zip((2, 1, 0), dose.shape, strict=True)
        )
        wanted = chest_rt.dose_gy(z[:, None, None], y[None, :, None], x[None, None, :])
        np.testing.assert_allclose(dose.values, wanted, atol=0.5 * float(chest_rt.DOSE_GRID_SCALING) + 1e-5)
        assert (dose.dtype, dose.attrs["units"]) == (np.float32, "Gy")
        assert image.dicom.rescaled().dtype == np.float64  # 32 bits are not exact in float32
        relative = image.assign_attrs(units="RELATIVE")
        with pytest.raises(QuantityError, match="RELATIVE"):
            relative.dicom.dose()
        with pytest.raises(QuantityError, match="GY, not HU"):
            image.dicom.hu()


@pytest.mark.parametrize(
    ("units", "factor"), [("mm2/s", 1e6), ("um2/s", 1), ("10*-6.mm2/s", 1), ("10*-3.mm2/s", 1e3)]
)
def test_diffusion_comes_in_one_unit(units: str, factor: float) -> None:
    image = stored(np.arange(5, dtype=np.int16), units=units, rescale_slope=0.5)
    found = image.dicom.adc()
    np.testing.assert_allclose(found, np.arange(5) * 0.5 * factor, rtol=1e-6)
    assert found.attrs["units"] == "1e-6 mm2/s"
    np.testing.assert_array_equal(found.dicom.adc(), found)
    with pytest.raises(QuantityError, match="no unit of diffusion"):
        image.assign_attrs(units="HU").dicom.adc()


@pytest.mark.parametrize(
    ("kept", "slope", "intercept", "dtype"),
    [
        ((np.uint16, 12), 1.0, -1024.0, np.int16),
        ((np.uint16, 16), 1.0, -1024.0, np.float32),
        ((np.int16, 16), 1.0, 0.0, np.int16),
        ((np.int16, 16), 1.0, 1.0, np.float32),
        ((np.uint16, 12), 1.0, -0.5, np.float32),
        ((np.uint16, 12), 2.0, 0.0, np.float32),
        ((np.uint32, 32), 1e-6, 0.0, np.float64),
        ((np.uint32, 24), 1.0, 0.0, np.float32),
        ((np.float64, 64), 1.0, 0.0, np.float64),
    ],
)
def test_rescaled_values_are_exact(kept: Any, slope: float, intercept: float, dtype: Any) -> None:
    kind, bits = kept
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind is np.int16 else (0, 2 ** min(bits, 52) - 1)
    values = np.array([low, low + 1, high], kind)
    image = stored(values, bits_stored=bits, rescale_slope=slope, rescale_intercept=intercept)
    found = image.dicom.rescaled()
    assert found.dtype == dtype
    exact = [int(v) * slope + intercept for v in values]
    np.testing.assert_allclose(found.values.astype(np.float64), exact, rtol=0 if slope == 1 else 1e-7)


def test_colours_and_images_without_a_slope_keep_their_values() -> None:
    colour = xr.DataArray(
        np.full((2, 2, 3), 250, np.uint8),
        dims=("y", "x", "rgb"),
        attrs={"source": "stored", "rescale_slope": 1.0},
    )
    plain = xr.DataArray(np.full(3, 65535, np.uint16), attrs={"source": "stored", "padding_value": 65535})
    for image in (colour, plain):
        found = image.dicom.rescaled()
        assert (found.dtype, found.attrs["source"]) == (image.dtype, "rescaled")
        np.testing.assert_array_equal(found, image)
        assert image.attrs["source"] == "stored"  # the array that was given is as it was
    assert np.isnan(plain.dicom.rescaled().dicom.without_padding()).all()


def test_an_array_that_does_not_say_what_it_holds_is_not_rescaled() -> None:
    with pytest.raises(QuantityError, match="stored or rescaled"):
        xr.DataArray(np.zeros(2), attrs={"rescale_slope": 2.0}).dicom.rescaled()


@pytest.mark.parametrize("slope", [1.0, 0.1, -2.5])
def test_padding_is_taken_out_before_or_after_rescaling(slope: float) -> None:
    image = xr.DataArray(
        np.array([-2000, -1990, -1500, 0, 100], np.int16),
        attrs={
            "source": "stored", "rescale_slope": slope, "rescale_intercept": 3.0,
            "padding_value": -2000, "padding_limit": -1500,
        },
    )  # fmt: skip
    wanted = [np.nan] * 3 + [3.0, 100 * slope + 3]
    for found in (
        image.dicom.without_padding().dicom.rescaled(),
        image.dicom.rescaled().dicom.without_padding(),
        image.chunk().dicom.rescaled().dicom.without_padding().compute(),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert "padding_value" not in found.attrs
    np.testing.assert_array_equal(image.dicom.rescaled().shape, (5,))


def test_padding_of_slices_scaled_apart_is_nan_once_rescaled() -> None:
    image = xr.DataArray(
        np.array([[7, 1], [7, 2]], np.int16),
        {"rescale_slope": ("z", [2.0, 3.0])},
        ("z", "x"),
        attrs={"source": "stored", "padding_value": 7},
    )
    np.testing.assert_array_equal(image.dicom.rescaled(), [[np.nan, 2], [np.nan, 6]])


# ---- tables ------------------------------------------------------------------------------------------


def with_table(ds: Dataset, _k: int = 0) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [4, 10, 16], "OD"
    item.add_new("LUTData", "US", [100, 40, 7, 3000])
    ds.ModalityLUTSequence = Items([item])
    del ds.RescaleSlope, ds.RescaleIntercept


def test_a_modality_lut_is_applied_lazily_and_names_its_units(tmp_path: Path) -> None:
    ds = objects.dataset(size=3)
    with_table(ds)
    ds.PixelData = np.array([[9, 10, 11], [12, 13, 14], [0, 500, 11]], np.uint16).tobytes() + b""
    image = opened(tmp_path / "l", [objects.as_bytes(ds)])
    found = image.dicom.rescaled()
    assert found.chunks is not None
    np.testing.assert_array_equal(
        found.values.reshape(3, 3), [[100, 100, 40], [7, 3000, 3000], [100, 3000, 40]]
    )
    assert (found.attrs["units"], found.attrs["source"], found.dtype) == ("OD", "rescaled", np.uint16)
    assert "modality_lut" not in found.attrs
    padded = image.assign_attrs(padding_value=500).dicom.rescaled().values.reshape(3, 3)
    assert np.isnan(padded[2, 1])
    assert padded[2, 2] == 40
    with pytest.raises(QuantityError, match="OD, not HU"):
        image.dicom.hu()


def test_a_table_that_not_all_slices_are_known_to_share_is_refused(tmp_path: Path) -> None:
    def change(ds: Dataset, k: int) -> None:
        with_table(ds)
        ds.ModalityLUTSequence[0].LUTDescriptor = [4, 10 + k, 16]

    image = opened(tmp_path / "l", slices("oblique", change))
    with pytest.raises(QuantityError, match="Modality LUT"):
        image.dicom.rescaled()


def mapping(label: str, units: str, **line: Any) -> Dataset:
    unit, item = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = units, "UCUM", units
    item.MeasurementUnitsCodeSequence, item.LUTLabel = Items([unit]), label
    item.add_new("RealWorldValueFirstValueMapped", "US", 10)
    item.add_new("RealWorldValueLastValueMapped", "US", 13)
    for keyword, value in line.items():
        setattr(item, keyword, value)
    return item


def test_real_world_values_are_those_of_the_mapping_that_is_named(tmp_path: Path) -> None:
    ds = objects.dataset(size=2)
    ds.PixelData = np.array([[9, 10], [11, 13]], np.uint16).tobytes()
    ds.RealWorldValueMappingSequence = Items(
        [
            mapping("line", "mm2/s", RealWorldValueSlope=0.5, RealWorldValueIntercept=-1.0),
            mapping("table", "cm", RealWorldValueLUTData=[1.5, 2.5, 3.5, 8.0]),
        ]
    )
    image = opened(tmp_path / "l", [objects.as_bytes(ds)])
    line, table = image.dicom.real_world("line"), image.dicom.real_world("table")
    np.testing.assert_array_equal(line.values.reshape(2, 2), [[np.nan, 4], [4.5, 5.5]])
    np.testing.assert_array_equal(table.values.reshape(2, 2), [[np.nan, 1.5], [2.5, 8]])
    assert (line.attrs["units"], table.attrs["units"], table.dtype) == ("mm2/s", "cm", np.float32)
    for wrong in (None, "no such"):
        with pytest.raises(QuantityError, match="of 2 real-world mappings"):
            image.dicom.real_world(wrong)
    with pytest.raises(QuantityError, match="stored values"):
        image.dicom.rescaled().dicom.real_world("line")


def test_a_table_that_all_slices_share_is_kept() -> None:
    """`facts` is given the headers of all instances: byte for byte the same is the same."""
    made = [objects.dataset(number) for number in (1, 2, 3)]
    for ds in made:
        with_table(ds)
    wanted = {"first": 10, "values": [100, 40, 7, 3000], "bits": 16, "units": "OD"}
    assert facts_of(made)["modality_lut"] == wanted
    made[1].ModalityLUTSequence[0].LUTDescriptor = [4, 11, 16]
    assert facts_of(made)["modality_lut"] is True
    del made[1].ModalityLUTSequence
    assert facts_of(made)["modality_lut"] is True


def test_mappings_that_differ_between_slices_are_none() -> None:
    made = [objects.dataset(number) for number in (1, 2)]
    for ds, slope in zip(made, (0.5, 0.5), strict=True):
        line = mapping("line", "mm2/s", RealWorldValueSlope=slope, RealWorldValueIntercept=0.0)
        ds.RealWorldValueMappingSequence = Items([line])
    (kept,) = facts_of(made)["real_world"]
    assert (kept["slope"], kept["units"]) == (0.5, "mm2/s")
    made[1].RealWorldValueMappingSequence[0].RealWorldValueSlope = 0.75
    assert "real_world" not in facts_of(made)


def facts_of(made: list[Dataset]) -> dict[str, Any]:
    headers = {str(ds.SOPInstanceUID): read_header(objects.as_bytes(ds)).dataset for ds in made}
    (one,) = stack([frame for header in headers.values() for frame in frames_of(header)]).stacks
    return facts(one, headers[one.frames[0].sop_instance_uid], headers)
