"""The sample data is what its formulas say, byte for byte, and valid DICOM."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicomlake import datasets
from dicomlake.datasets import brain_mr, chest_ct, chest_rt, dynamic_pet, us_cine
from dicomlake.datasets._brain import Tissue
from dicomlake.datasets._chest import NODULES
from dicomlake.datasets._outline import filled, outlines
from dicomlake.datasets._truth import ds, shuffled

REGISTRY = tomllib.loads(
    (Path(__file__).parents[2] / "datasets" / "registry.toml").read_text(encoding="utf-8")
)
SMALL = {"chest-ct": 12, "brain-mr": 5, "dynamic-pet": 4, "us-cine": 3, "chest-rt": 12}
IMAGES = ("chest-ct", "brain-mr", "dynamic-pet")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each data set with few slices."""
    root = tmp_path_factory.mktemp("small")
    return {name: datasets.make(name, root / name, slices=count) for name, count in SMALL.items()}


def read(folder: Path) -> dict[str, Dataset]:
    """The objects of a folder by SOPInstanceUID."""
    files = (pydicom.dcmread(path) for path in sorted(folder.iterdir()))
    return {str(made.SOPInstanceUID): made for made in files}


def affine_of(planes: list[Dataset]) -> np.ndarray:
    """Index (z, y, x) to LPS from position and orientation alone (PS3.3 C.7.6.2.1.1)."""
    first, last = (np.array(p.ImagePositionPatient, float) for p in (planes[0], planes[-1]))
    row, column = np.array(planes[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in planes[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (len(planes) - 1)
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = row * between_columns
    affine[:3, 3] = first
    return affine


def test_an_unknown_name_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match=r"brain-mr.*chest-rt"):
        datasets.make("chest-cd")


@pytest.mark.parametrize("wrong", [{"slices": 0}, {"slices": 10_000}, {"seed": -1}])
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ask for|choose"):
        datasets.make("chest-ct", tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_without_a_folder_a_new_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = datasets.make("us-cine", slices=1)
    assert made.parent == tmp_path
    assert [path.name for path in made.iterdir()] == ["US0001.dcm"]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, dicomlake.datasets as d; d.names();"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'pydicom')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", datasets.names())
def test_the_default_data_set_has_the_registered_bytes(name: str, tmp_path: Path) -> None:
    entry = REGISTRY[name]
    made = datasets.make(name, tmp_path, **entry["parameters"])
    files = list(made.iterdir())
    assert len(files) == entry["files"]
    assert sum(path.stat().st_size for path in files) == entry["bytes"]
    assert datasets.digest(made) == entry["sha256"]


def test_the_registered_parameters_are_the_defaults() -> None:
    for name in datasets.names():
        assert datasets.truth(name) == datasets.truth(name, **REGISTRY[name]["parameters"])


def test_the_samples_in_the_wheel_of_pydicom_are_those_registered() -> None:
    entry, samples = REGISTRY["pydicom-samples"], datasets.pydicom_samples()
    assert len(samples) > 100
    if pydicom.__version__ != entry["parameters"]["pydicom"]:
        pytest.skip("another version of pydicom brings other samples")
    home = Path(pydicom.__file__).parent / "data"
    assert len(samples) == entry["files"]
    assert datasets.digest_of({p.relative_to(home).as_posix(): p for p in samples}) == entry["sha256"]


def test_the_seed_changes_patient_uids_and_noise_but_not_the_anatomy(tmp_path: Path) -> None:
    one, two = (read(datasets.make("chest-ct", tmp_path / str(s), slices=1, seed=s)) for s in (1, 2))
    (first,), (second,) = one.values(), two.values()
    assert first.PatientID != second.PatientID
    assert not {first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID} & {
        second.StudyInstanceUID,
        second.SeriesInstanceUID,
        second.SOPInstanceUID,
    }
    difference = first.pixel_array.astype(int) - second.pixel_array
    assert 10 < difference.std() < 20
    assert abs(difference.mean()) < 0.2


@pytest.mark.parametrize("name", IMAGES)
def test_positions_and_orientations_give_the_true_affine(name: str, small: dict[str, Path]) -> None:
    truth = datasets.truth(name, slices=SMALL[name])
    objects = read(small[name])
    assert set(objects) == set(truth.instance_uids)
    per_plane = np.array(truth.instance_uids, object).reshape(truth.shape[:-2])
    others = tuple(0 for _ in truth.dims[:-3])
    stack = per_plane[others] if truth.dims[-3] == "z" else per_plane[:, 0]
    planes = [objects[str(uid)] for uid in stack]
    assert truth.affine_lps is not None
    np.testing.assert_allclose(affine_of(planes), truth.affine_lps, rtol=0, atol=1e-9)
    for made in objects.values():
        assert made.StudyInstanceUID == truth.study_uid
        assert made.SeriesInstanceUID == truth.series_uid
        assert made.FrameOfReferenceUID == truth.frame_of_reference_uid
        row, column = np.array(made.ImageOrientationPatient, float).reshape(2, 3)
        np.testing.assert_allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-9)


def test_another_reader_sees_the_chest_where_the_truth_says(small: dict[str, Path]) -> None:
    import SimpleITK as sitk

    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(small["chest-ct"]))
    image = sitk.ReadImage(names)
    truth = datasets.truth("chest-ct", slices=SMALL["chest-ct"])
    affine = np.array(truth.affine_lps)
    for z, y, x in ((0, 0, 0), (11, 0, 511), (5, 300, 17)):
        seen = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(seen, (affine @ (z, y, x, 1))[:3], atol=1e-6)
        assert image[x, y, z] == chest_ct.chest_ct_hu(z, y, x, slices=12)[0, 0, 0]


@pytest.mark.parametrize("name", IMAGES)
def test_no_order_but_the_position_sorts_the_slices(name: str, small: dict[str, Path]) -> None:
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(small[name].iterdir())]
    heights = [float(made.ImagePositionPatient[2]) for made in files]
    assert heights not in (sorted(heights), sorted(heights, reverse=True))


@pytest.mark.parametrize("name", datasets.names())
def test_headers_are_as_full_as_those_of_a_clinic(name: str, small: dict[str, Path]) -> None:
    for path in small[name].iterdir():
        made = pydicom.dcmread(path)
        assert sum(1 for _ in made.iterall()) > 100
        block = made.private_block(0x0019, "DICOMLAKE PHANTOM 1.0")
        nested = block[0x10].value[0].private_block(0x0019, "DICOMLAKE PHANTOM 1.0")
        assert nested[0x01].value == "nested"
        assert len({block[offset].VR for offset in range(1, 14)}) == 13
        assert not str(made.ReferringPhysicianName).isascii()
        assert made.file_meta.ImplementationVersionName == "DICOMLAKE"
        assert made.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


def test_chest_ct_stores_the_closed_form(small: dict[str, Path]) -> None:
    count = SMALL["chest-ct"]
    objects = read(small["chest-ct"])
    for index, uid in enumerate(datasets.truth("chest-ct", slices=count).instance_uids):
        made = objects[uid]
        hu = made.pixel_array * int(made.RescaleSlope) + int(made.RescaleIntercept)
        np.testing.assert_array_equal(hu, chest_ct.hu_plane(index, count))


def test_ct_numbers_are_those_of_the_tissues() -> None:
    plane = 30
    grid = chest_ct.grid(plane)

    def mean_around(y: float, x: float) -> float:
        rows, columns = (np.abs(axis - at) < 3 for axis, at in ((grid.y, y), (grid.x, x)))
        return float(chest_ct.hu_plane(plane)[np.ix_(rows, columns)].mean())

    assert mean_around(0, -185) == pytest.approx(-1000, abs=5)
    assert mean_around(44, 25) == pytest.approx(215, abs=5)  # descending aorta
    assert mean_around(58, 0) == pytest.approx(180, abs=5)  # marrow of a vertebra
    assert mean_around(0, 168) == pytest.approx(-100, abs=8)  # fat under the skin


@pytest.mark.parametrize("nodule", NODULES, ids=lambda n: n.name)
def test_each_nodule_lies_in_a_lung_and_has_its_ct_number(nodule) -> None:
    x, y, z = nodule.centre
    heights = [chest_ct.grid(index).z for index in range(chest_ct.SLICES)]
    index = int(np.argmin(np.abs(np.array(heights) - z)))
    grid = chest_ct.grid(index)
    row, column = int(np.argmin(np.abs(grid.y - y))), int(np.argmin(np.abs(grid.x - x)))
    assert chest_ct.exact_hu(index)[row, column] == pytest.approx(nodule.hu)
    assert chest_ct.lung_map(index)[row, column] == (1 if x < 0 else 2)


def test_brain_mr_stores_the_closed_form_for_each_echo(small: dict[str, Path]) -> None:
    count = SMALL["brain-mr"]
    truth, objects = datasets.truth("brain-mr", slices=count), read(small["brain-mr"])
    uids = np.array(truth.instance_uids, object).reshape(count, 4)
    for index in (1, 3):
        for echo in range(4):
            made = objects[str(uids[index, echo])]
            assert float(made.EchoTime) == brain_mr.ECHO_TIMES_MS[echo]
            np.testing.assert_array_equal(made.pixel_array, brain_mr.signal_plane(index, echo, count))


@pytest.mark.parametrize("found", list(Tissue))
def test_the_signal_table_is_exponential_decay(found: Tissue) -> None:
    decay = brain_mr.DECAY[found]
    for echo_time, signal in zip(brain_mr.ECHO_TIMES_MS, decay.signal, strict=True):
        assert abs(decay.s0 * math.exp(-echo_time / decay.t2_ms) - signal) <= 0.5


def test_the_relaxation_time_of_white_matter_can_be_measured_back() -> None:
    fine = brain_mr.fine_tissue(12)
    white = np.logical_and.reduce([fine[i::2, j::2] == Tissue.WHITE for i in (0, 1) for j in (0, 1)])
    means = [brain_mr.signal_plane(12, echo)[white].mean() for echo in range(4)]
    slope = np.polyfit(brain_mr.ECHO_TIMES_MS, np.log(means), 1)[0]
    assert -1 / slope == pytest.approx(brain_mr.DECAY[Tissue.WHITE].t2_ms, rel=0.01)


def test_dynamic_pet_stores_the_closed_form_with_a_slope_for_each_slice(small: dict[str, Path]) -> None:
    count = SMALL["dynamic-pet"]
    truth, objects = datasets.truth("dynamic-pet", slices=count), read(small["dynamic-pet"])
    uids = np.array(truth.instance_uids, object).reshape(6, count)
    slopes = set()
    for frame in range(6):
        for index in range(count):
            made = objects[str(uids[frame, index])]
            slopes.add(str(made.RescaleSlope))
            activity = made.pixel_array * float(made.RescaleSlope) + float(made.RescaleIntercept)
            wanted = dynamic_pet.exact_bqml(index, frame, count)
            assert np.abs(activity - wanted).max() <= float(made.RescaleSlope) / 2
    assert len(slopes) > 12
    values = dynamic_pet.dynamic_pet_bqml(5, 2, range(128), range(128), slices=count)[0, 0]
    made = objects[str(uids[5, 2])]
    np.testing.assert_array_equal(values, made.pixel_array * float(made.RescaleSlope))


def test_dynamic_pet_says_what_suv_and_decay_need(small: dict[str, Path]) -> None:
    constant = math.log(2) / float(dynamic_pet.HALF_LIFE_S)
    for made in read(small["dynamic-pet"]).values():
        start = int(made.AcquisitionTime[:2]) * 3600 + int(made.AcquisitionTime[2:4]) * 60
        start += int(float(made.AcquisitionTime[4:])) - dynamic_pet.START_S
        duration = int(made.ActualFrameDuration) / 1000
        factor = math.exp(constant * start) * constant * duration / (1 - math.exp(-constant * duration))
        assert float(made.DecayFactor) == pytest.approx(factor, abs=1e-6)
        assert float(made.FrameReferenceTime) == (start + duration / 2) * 1000
        (drug,) = made.RadiopharmaceuticalInformationSequence
        assert float(drug.RadionuclideTotalDose) == dynamic_pet.DOSE_BQ
        assert made.Units == "BQML"
        assert made.DecayCorrection == "START"
        assert float(made.PatientWeight) == 74


def test_us_cine_stores_the_closed_form_in_colour(small: dict[str, Path]) -> None:
    (made,) = read(small["us-cine"]).values()
    assert made.NumberOfFrames == 3
    np.testing.assert_array_equal(made.pixel_array, us_cine.us_cine_rgb(range(3), range(240), range(320)))
    assert [region.RegionDataType for region in made.SequenceOfUltrasoundRegions] == [1, 2]
    red, blue = us_cine.frame_rgb(15), us_cine.frame_rgb(5)
    assert (red[..., 0].astype(int) - red[..., 2]).max() > 200
    assert (blue[..., 2].astype(int) - blue[..., 0]).max() > 200


@pytest.fixture
def rt(small: dict[str, Path]) -> dict[str, Dataset]:
    """The objects of chest-rt by modality."""
    return {made.Modality: made for made in read(small["chest-rt"]).values()}


def test_every_reference_of_chest_rt_leads_to_an_object(
    small: dict[str, Path], rt: dict[str, Dataset]
) -> None:
    ct = read(small["chest-ct"])
    some = next(iter(ct.values()))
    known = {*ct, *(str(made.SOPInstanceUID) for made in rt.values()), str(some.StudyInstanceUID)}
    seen = 0
    for made in rt.values():
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
            assert made[keyword].value == some[keyword].value
        for element in made.iterall():
            if element.keyword == "ReferencedSOPInstanceUID":
                assert element.value in known
                seen += 1
    assert seen > 100
    (frame,) = rt["RTSTRUCT"].ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == some.SeriesInstanceUID
    assert rt["SEG"].ReferencedSeriesSequence[0].SeriesInstanceUID == some.SeriesInstanceUID


def test_the_dose_in_gray_is_the_formula_at_its_place(rt: dict[str, Dataset]) -> None:
    dose = rt["RTDOSE"]
    truth = datasets.truth("chest-rt", slices=SMALL["chest-rt"])
    assert dose.pixel_array.shape == truth.shape
    affine = np.eye(4)
    affine[:3, 0] = (0, 0, float(dose.GridFrameOffsetVector[1]) - float(dose.GridFrameOffsetVector[0]))
    affine[:3, 1], affine[:3, 2] = (0, float(dose.PixelSpacing[0]), 0), (float(dose.PixelSpacing[1]), 0, 0)
    affine[:3, 3] = [float(value) for value in dose.ImagePositionPatient]
    np.testing.assert_allclose(affine, truth.affine_lps)
    for index in ((0, 0, 0), (24, 30, 25), (26, 31, 25), (48, 71, 95)):
        x, y, z = (affine @ (*index, 1))[:3]
        stored = dose.pixel_array[index] * float(dose.DoseGridScaling)
        assert stored == pytest.approx(chest_rt.dose_gy(z, y, x), abs=float(dose.DoseGridScaling) / 2)
    x, y, z = NODULES[0].centre
    assert chest_rt.dose_gy(z, y, x) == 60


def test_the_segmentation_is_the_mask_of_each_segment(rt: dict[str, Dataset]) -> None:
    made, count = rt["SEG"], SMALL["chest-rt"]
    uids = datasets.truth("chest-ct", slices=count).instance_uids
    wanted = np.stack([chest_rt.segment_maps(index, count) for index in range(count)])
    found = np.zeros_like(wanted)
    for frame, groups in zip(made.pixel_array, made.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        index = uids.index(source)
        height = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        assert height == chest_ct.grid(index, count).z
        found[index, segment - 1] = frame
    np.testing.assert_array_equal(found, wanted)
    assert wanted[:, 2].any()
    assert (wanted[:, 0] | wanted[:, 1])[wanted[:, 2]].all()


def inside(points: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Even-odd rule: pixel centres (y, x) inside the closed polygon of (x, y) points."""
    crossings = np.zeros((len(y), len(x)), int)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 != y1:
            rows = (y > min(y0, y1)) & (y <= max(y0, y1))
            cut = x0 + (y[rows] - y0) * (x1 - x0) / (y1 - y0)
            crossings[rows] += x[None, :] > cut[:, None]
    return crossings % 2 == 1


def lung_contours(rt: dict[str, Dataset]) -> Iterator[tuple[int, str, np.ndarray]]:
    for roi, number in zip(rt["RTSTRUCT"].ROIContourSequence[:2], (0, 1), strict=True):
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            yield number, contour.ContourImageSequence[0].ReferencedSOPInstanceUID, points


def test_the_lung_contours_enclose_the_pixels_of_the_lungs(rt: dict[str, Dataset]) -> None:
    count = SMALL["chest-rt"]
    uids = datasets.truth("chest-ct", slices=count).instance_uids
    found = np.zeros((count, 2, 512, 512), bool)
    for side, source, points in lung_contours(rt):
        index = uids.index(source)
        grid = chest_ct.grid(index, count)
        assert (points[:, 2] == grid.z).all()
        found[index, side] ^= inside(points[:, :2], grid.y, grid.x)
    wanted = np.stack([chest_rt.segment_maps(index, count)[:2] for index in range(count)])
    np.testing.assert_array_equal(found, wanted)


def test_nodule_contours_lie_on_their_sphere(rt: dict[str, Dataset]) -> None:
    names = [str(roi.ROIName) for roi in rt["RTSTRUCT"].StructureSetROISequence]
    assert names == ["Lung_R", "Lung_L", *(nodule.name for nodule in NODULES)]
    drawn = 0
    for nodule, roi in zip(NODULES, rt["RTSTRUCT"].ROIContourSequence[2:], strict=True):
        for contour in roi.get("ContourSequence", ()):
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            distance = np.linalg.norm(points - nodule.centre, axis=1)
            np.testing.assert_allclose(distance, nodule.radius, atol=1e-3)
            drawn += 1
    assert drawn


def test_the_outline_of_a_ring_is_one_polygon_that_leaves_the_hole_out() -> None:
    mask = np.zeros((9, 11), bool)
    mask[1:8, 2:9] = True
    mask[3:5, 4:7] = False
    mask[0, 0] = mask[8, 9] = True  # touches the ring by a corner only
    loops = outlines(mask)
    assert len(loops) == 4
    found = np.zeros_like(mask)
    for loop in filled(loops):
        points = np.array([(column - 0.5, row - 0.5) for row, column in loop])
        found ^= inside(points, np.arange(9.0), np.arange(11.0))
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(-3063, 16), "-191.4375"),
        (Fraction(5), "5"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(1, 50), "0.02"),
    ],
)
def test_a_decimal_string_is_exact(number: Fraction, text: str) -> None:
    assert ds(number) == text
    assert Fraction(text) == number


@pytest.mark.parametrize("number", [Fraction(1, 3), Fraction(123456789012345678)])
def test_a_number_that_no_decimal_string_holds_is_refused(number: Fraction) -> None:
    with pytest.raises(ValueError, match="choose another"):
        ds(number)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 34, 60, 300])
def test_file_numbers_are_each_used_once(count: int) -> None:
    assert sorted(shuffled(count)) == list(range(count))
