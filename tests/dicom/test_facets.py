"""What a plain image says about itself becomes facets; what it does not say is not there."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from dicomlake.dicom import facets
from dicomlake.dicom.frames import Facet, first_frame
from dicomlake.dicom.headers import read_header
from tests.dicom.phantoms import as_bytes, slice_dataset


def of(ds: Dataset | bytes) -> dict[str, Facet]:
    dataset = read_header(ds if isinstance(ds, bytes) else as_bytes(ds)).dataset
    return dict(facets.with_facets(dataset, first_frame(dataset)).facets)


def mr(**others: object) -> Dataset:
    return slice_dataset(SOPClassUID=MRImageStorage, Modality="MR", **others)


def test_an_image_that_says_nothing_has_no_facets() -> None:
    assert of(slice_dataset(ImageType=None)) == {}


@pytest.mark.parametrize(
    ("keyword", "name", "value"),
    [
        ("EchoTime", "echo", 4.6),
        ("TemporalPositionIdentifier", "temporal", 3),
        ("TemporalPositionIndex", "temporal", 4),
        ("InversionTime", "inversion", 900),
        ("FlipAngle", "flip", 8),
        ("TriggerTime", "trigger", 120.5),
        ("NominalCardiacTriggerDelayTime", "trigger", 80.25),
        ("FrameReferenceTime", "frame_reference_time", 149605.344),
        ("AcquisitionNumber", "acquisition", 2),
        ("KVP", "kvp", 80),
        ("MonoenergeticEnergyEquivalent", "energy", 70),
    ],
)
def test_numbers_keep_the_standards_units(keyword: str, name: str, value: float) -> None:
    assert of(slice_dataset(ImageType=None, **{keyword: value})) == {name: value}


def test_a_zero_is_said_and_an_empty_value_is_not() -> None:
    assert of(slice_dataset(ImageType=None, TriggerTime=0, EchoTime="")) == {"trigger": 0}


def test_an_index_goes_before_an_identifier() -> None:
    assert of(slice_dataset(TemporalPositionIndex=5, TemporalPositionIdentifier=9))["temporal"] == 5


def test_times_order_over_midnight() -> None:
    late = of(slice_dataset(AcquisitionDate="20191231", AcquisitionTime="235959.9"))["acquisition_time"]
    early = of(slice_dataset(AcquisitionDate="20200101", AcquisitionTime="000000.1"))["acquisition_time"]
    assert early - late == pytest.approx(0.2, abs=1e-6)  # type: ignore[operator]


def test_a_datetime_of_acquisition_goes_before_date_and_time() -> None:
    ds = slice_dataset(AcquisitionDateTime="19700102000000", AcquisitionDate="20200101", AcquisitionTime="10")
    assert of(ds)["acquisition_time"] == 86_400


def test_the_time_of_the_content_is_kept_apart() -> None:
    found = of(slice_dataset(ContentDate="19700101", ContentTime="000010", AcquisitionTime="000005"))
    assert (found["content_time"], found["acquisition_time"]) == (10, 5)


def test_image_type_and_kernel_are_text() -> None:
    found = of(slice_dataset(ImageType=["DERIVED", "PRIMARY", "W"], ConvolutionKernel=["B31f", "3"]))
    assert (found["image_type"], found["kernel"]) == ("DERIVED\\PRIMARY\\W", "B31f\\3")


@pytest.mark.parametrize(
    ("image_type", "component"),
    [
        (["ORIGINAL", "PRIMARY", "M", "ND"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "P", "ND"], "phase"),
        (["ORIGINAL", "PRIMARY", "R", "ND"], "real"),
        (["ORIGINAL", "PRIMARY", "I", "ND"], "imaginary"),
        (["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], "phase"),
        (["ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"], "real"),
        (["ORIGINAL", "PRIMARY", "OTHER"], None),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND", "P"], None),
    ],
)
def test_image_type_says_the_component_as_siemens_and_philips_write_it(
    image_type: list[str], component: str | None
) -> None:
    assert of(mr(ImageType=image_type)).get("component") == component


def test_the_standards_component_goes_first() -> None:
    assert (
        of(mr(ImageType=["ORIGINAL", "PRIMARY", "M"], ComplexImageComponent="PHASE"))["component"] == "phase"
    )


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_ge_numbers_its_components(code: int) -> None:
    ds = mr(ImageType=["ORIGINAL", "PRIMARY", "OTHER"])
    ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", code)
    expected = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}
    assert of(ds).get("component") == expected.get(code)


def test_image_type_means_no_component_outside_mr() -> None:
    assert "component" not in of(slice_dataset(ImageType=["ORIGINAL", "PRIMARY", "M"]))


def test_philips_says_when_a_dynamic_began() -> None:
    ds = mr()
    ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0xA0, "FL", 2.5)
    ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x08, "IS", 7)
    found = of(ds)
    assert (found["dynamic_time"], found["cardiac_phase"]) == (2500, 7)


def test_a_direction_in_an_unknown_frame_is_a_facet_of_its_own() -> None:
    ds = mr(DiffusionBValue=500.0, DiffusionGradientOrientation=[0.3, 0.4, 0.0])
    found = of(ds)
    assert (found["b"], found["gradient_stated"]) == (500, (0.3, 0.4, 0.0))
    assert "gradient" not in found


def test_a_real_multi_echo_series_is_told_apart_by_echo(real_data: Path) -> None:
    found = [of(path.read_bytes()) for path in (real_data / "dcmstack/dcmstack/2D_16Echo_qT2").iterdir()]
    assert Counter(facet["echo"] for facet in found) == {20: 3, 40: 2}


def test_a_real_pet_image_states_its_frame_reference_time(real_data: Path) -> None:
    assert of((real_data / "pet-ge/1.dcm").read_bytes())["frame_reference_time"] == pytest.approx(149605.344)


def test_a_real_ge_time_series_states_no_time_but_counts_its_positions_in_a_cycle(real_data: Path) -> None:
    """Ten volumes of 15 slices whose every facet is equal: only InstanceNumber tells them apart."""
    numbers = defaultdict(list)
    seen = set()
    for path in (real_data / "fmri-ge-4d").glob("*.dcm"):
        dataset = read_header(path.read_bytes()).dataset
        frame = facets.with_facets(dataset, first_frame(dataset))
        assert frame.position is not None
        numbers[frame.position].append(frame.instance_number or 0)
        seen.add(tuple(sorted((name, str(value)) for name, value in frame.facets.items())))
    assert len(seen) == 1
    assert len(numbers) == 15
    assert all(sorted(found) == list(range(min(found), 151, 15)) for found in numbers.values())
