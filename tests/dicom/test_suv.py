"""SUV by the rules of QIBA, against cases computed by hand from its text."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.suv import pet_inputs, suv
from dicomlake.errors import QuantityError
from tests.dicom.phantoms import as_bytes, slice_dataset

HALF_LIFE = 6586.2  # s, F-18


def tracer(**others: Any) -> Dataset:
    ds = Dataset()
    ds.RadionuclideHalfLife, ds.RadionuclideTotalDose = HALF_LIFE, 400e6
    ds.RadiopharmaceuticalStartTime = "090000"
    for keyword, value in others.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def pet(tracer_item: Dataset | None = None, **others: Any) -> Attributes:
    """A PET slice: 70 kg, 1.75 m, 400 MBq at 09:00, scan at 10:00."""
    keywords: dict[str, Any] = {
        "SOPClassUID": PositronEmissionTomographyImageStorage,
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "DecayCorrection": "START",
        "PatientWeight": 70,
        "PatientSize": 1.75,
        "PatientSex": "M",
        "SeriesDate": "20240102",
        "SeriesTime": "100000",
        "AcquisitionDate": "20240102",
        "AcquisitionTime": "100230",
        "RescaleSlope": 2,
        "RescaleIntercept": 0,
        "RadiopharmaceuticalInformationSequence": [tracer_item or tracer()],
    } | others
    given = {name: value for name, value in keywords.items() if value is not None}
    return read_header(as_bytes(slice_dataset(**given))).dataset


def inputs(header: Attributes) -> dict[str, Any]:
    return pet_inputs(header, frames_of(header))


LEFT = 400e6 * 2 ** (-3600 / HALF_LIFE)  # Bq at the scan, one hour after injection


def test_body_weight() -> None:
    found = suv(inputs(pet()))
    assert found.factor == pytest.approx(70_000 / LEFT)
    assert found.units == "g/ml"
    assert "SeriesTime" in found.rule


def test_lean_body_mass_body_surface_and_ideal_weight() -> None:
    """James: 1.10 · 70 - 120 · (70 / 175)² = 57.8 kg; Du Bois: 1.848 m²; ideal: 48 + 1.06 · 23 > 70 kg."""
    facts = inputs(pet())
    assert suv(facts, "lbm").factor == pytest.approx(57_800 / LEFT)
    assert suv(facts, "bsa").factor == pytest.approx(18_481 / LEFT, rel=1e-4)
    assert suv(facts, "bsa").units == "cm2/ml"
    assert suv(facts, "ibw").factor == pytest.approx(70_000 / LEFT)
    woman = inputs(pet(PatientSex="F", PatientWeight=80))
    assert suv(woman, "lbm").factor == pytest.approx((1.07 * 80 - 148 * (80 / 175) ** 2) * 1000 / LEFT)
    assert suv(woman, "ibw").factor == pytest.approx((45.5 + 0.91 * 23) * 1000 / LEFT)


def test_decay_to_administration_needs_no_time() -> None:
    facts = inputs(pet(DecayCorrection="ADMIN", SeriesTime=None))
    assert suv(facts).factor == pytest.approx(70_000 / 400e6)
    assert "ADMIN" in suv(facts).rule


def test_a_start_with_a_date_wins_over_the_time_of_day() -> None:
    item = tracer(RadiopharmaceuticalStartDateTime="20240102083000")
    assert inputs(pet(item))["delay_s"] == 5400


def test_an_injection_before_midnight_counts() -> None:
    item = tracer(RadiopharmaceuticalStartTime="233000")
    late = pet(item, SeriesTime="003000", AcquisitionTime="003100")
    assert inputs(late)["delay_s"] == 3600


def test_a_series_time_after_the_acquisition_is_not_believed() -> None:
    """Siemens rewrites SeriesTime when a series is made again; FrameReferenceTime leads back to the start."""
    duration, reference = 150.0, 74.0
    decays = math.log(2) / HALF_LIFE * duration
    mean = HALF_LIFE / math.log(2) * math.log(decays / (1 - math.exp(-decays)))
    header = pet(
        SeriesTime="150000", ActualFrameDuration=int(duration * 1000), FrameReferenceTime=reference * 1000
    )
    found = inputs(header)
    assert found["delay_s"] == pytest.approx(3600 + 150 + mean - reference, abs=1e-3)
    assert "FrameReferenceTime" in found["delay_rule"]
    assert "delay_s" not in inputs(pet(SeriesTime="150000"))


def test_the_scan_time_of_ge_is_used() -> None:
    ds = slice_dataset(
        SOPClassUID=PositronEmissionTomographyImageStorage,
        Modality="PT",
        Units="BQML",
        SeriesDate="20240102",
        SeriesTime="150000",
        AcquisitionDate="20240102",
        AcquisitionTime="100230",
        RadiopharmaceuticalInformationSequence=[tracer()],
    )
    block = ds.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", "20240102101500.00")
    header = read_header(as_bytes(ds)).dataset
    assert inputs(header)["delay_s"] == 4500
    assert "GE" in inputs(header)["delay_rule"]


def test_counts_of_philips_use_its_private_factors() -> None:
    ds = slice_dataset(Modality="PT", Units="CNTS", SOPClassUID=PositronEmissionTomographyImageStorage)
    block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.000381")
    facts = inputs(read_header(as_bytes(ds)).dataset)
    assert suv(facts).factor == pytest.approx(0.000381)
    block.add_new(0x00, "DS", "0")
    block.add_new(0x09, "DS", "1.5")
    facts = inputs(read_header(as_bytes(ds)).dataset) | {
        k: v for k, v in inputs(pet()).items() if k != "units" and not k.startswith("philips")
    }
    assert suv(facts).factor == pytest.approx(1.5 * 70_000 / LEFT)


def test_values_that_are_suv_already_stay() -> None:
    assert suv(inputs(pet(Units="GML"))).factor == 1
    assert suv(inputs(pet(Units="GML", SUVType="LBM")), "lbm").factor == 1
    with pytest.raises(QuantityError, match="already"):
        suv(inputs(pet(Units="GML", SUVType="LBM")), "bw")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (pet(PatientWeight=None), "PatientWeight"),
        (pet(PatientWeight=0), "PatientWeight"),
        (pet(tracer(RadionuclideTotalDose=None)), "RadionuclideTotalDose"),
        (pet(tracer(RadionuclideHalfLife=None)), "RadionuclideHalfLife"),
        (pet(tracer(RadiopharmaceuticalStartTime=None)), "RadiopharmaceuticalStart"),
        (pet(DecayCorrection="NONE"), "decay"),
        (pet(CorrectedImage=["DECY"]), "ATTN"),
        (pet(DecayCorrection=None), "DecayCorrection"),
        (pet(Units="PROPCPS"), "Units"),
        (pet(Units="CNTS"), "7053"),
        (pet(tracer(RadiopharmaceuticalStartDateTime="20231201090000")), "injection"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_missing_is_named(header: Attributes, named: str) -> None:
    with pytest.raises(QuantityError, match=named):
        suv(inputs(header))


def test_height_and_sex_are_asked_for_where_they_are_needed() -> None:
    with pytest.raises(QuantityError, match="PatientSize"):
        suv(inputs(pet(PatientSize=None)), "lbm")
    with pytest.raises(QuantityError, match="PatientSex"):
        suv(inputs(pet(PatientSex="O")), "ibw")
    assert suv(inputs(pet(PatientSize=None, PatientSex="O"))).factor > 0


def test_no_date_is_kept() -> None:
    assert not any("2024" in str(value) for value in inputs(pet()).values())
