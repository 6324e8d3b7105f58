"""b-values and gradient directions come out in patient axes, from whichever maker's elements."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import MRImageStorage

from dicomlake.dicom import csa
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.diffusion import Diffusion, diffusion, is_left_out, standard
from dicomlake.dicom.headers import read_header
from tests.dicom.phantoms import AXIAL, CORONAL, SAGITTAL, as_bytes, slice_dataset
from tests.dicom.siemens import csa as csa_bytes

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
VECTOR = (0.48, 0.6, 0.64)


def image(orientation: tuple[float, ...] = AXIAL, **others: object) -> Dataset:
    return slice_dataset(orientation=orientation, SOPClassUID=MRImageStorage, Modality="MR", **others)


def attributes(ds: Dataset) -> Attributes:
    return read_header(as_bytes(ds)).dataset


def found(ds: Dataset) -> Diffusion:
    header = attributes(ds)
    return diffusion(header, header.numbers("ImageOrientationPatient"))


def siemens(b: object, gradient: object, vrs: tuple[str, str] = ("IS", "FD")) -> Dataset:
    ds = image()
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, vrs[0], b)
    if gradient is not None:
        block.add_new(0x0E, vrs[1], gradient)
    return ds


def ge(
    b: int = 1_000_001_000,
    vector: tuple[float, ...] = VECTOR,
    *,
    encoded: str = "COL",
    orientation: tuple[float, ...] = AXIAL,
    position: str = "HFS",
) -> Dataset:
    ds = image(orientation, InPlanePhaseEncodingDirection=encoded, PatientPosition=position)
    ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", [b, 8, 0, 0])
    block = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for element, value in zip((0xBB, 0xBC, 0xBD), vector, strict=True):
        block.add_new(element, "DS", f"{value:.6f}")
    return ds


def philips(b: float, vector: tuple[float, ...]) -> Dataset:
    ds = image()
    ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", b)
    block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    for element, value in zip((0xB0, 0xB1, 0xB2), vector, strict=True):
        block.add_new(element, "FL", value)
    return ds


def uih(b: float, vector: tuple[float, ...], orientation: tuple[float, ...] = AXIAL) -> Dataset:
    ds = image(orientation)
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x09, "FD", b)
    block.add_new(0x37, "FD", list(vector))
    return ds


# ---- the standard ----------------------------------------------------------------------------------


def test_the_standards_elements_are_read_at_the_top_level() -> None:
    ds = image(DiffusionBValue=750.0, DiffusionGradientOrientation=list(VECTOR))
    assert found(ds) == Diffusion(750, pytest.approx(VECTOR))


def test_the_standards_macro_is_read() -> None:
    item = Dataset()
    item.DiffusionBValue, item.DiffusionDirectionality = 1000.0, "DIRECTIONAL"
    direction = Dataset()
    direction.DiffusionGradientOrientation = list(VECTOR)
    item.DiffusionGradientDirectionSequence = Items([direction])
    assert standard(attributes(image(MRDiffusionSequence=Items([item]))).items("MRDiffusionSequence")[0]) == (
        1000,
        pytest.approx(VECTOR),
        None,
    )


@pytest.mark.parametrize("directionality", ["ISOTROPIC", "NONE"])
def test_a_weighting_without_a_direction_has_no_gradient(directionality: str) -> None:
    ds = image(
        DiffusionBValue=1000.0,
        DiffusionGradientOrientation=list(VECTOR),
        DiffusionDirectionality=directionality,
    )
    assert found(ds) == Diffusion(1000)


def test_a_direction_without_a_weighting_is_none() -> None:
    assert found(image(DiffusionBValue=0.0, DiffusionGradientOrientation=[1.0, 0.0, 0.0])) == Diffusion(0)


@pytest.mark.parametrize("b", [-1.0, 1e10, 2e5])
def test_what_cannot_be_a_b_value_is_none(b: float) -> None:
    assert found(image(DiffusionBValue=b)) == Diffusion()


@pytest.mark.parametrize("vector", [(1e30, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_what_cannot_be_a_direction_is_none(vector: tuple[float, ...]) -> None:
    assert found(image(DiffusionBValue=700.0, DiffusionGradientOrientation=list(vector))) == Diffusion(700)


def test_a_vector_that_is_scaled_is_kept_as_stated() -> None:
    short = (0.3, 0.4, 0.0)
    assert found(image(DiffusionBValue=700.0, DiffusionGradientOrientation=list(short))) == Diffusion(
        700, None, short
    )


def test_an_image_that_says_nothing_has_no_weighting() -> None:
    assert found(image()) == Diffusion()


# ---- makers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "gradient", "vrs"),
    [
        (1000, list(VECTOR), ("IS", "FD")),
        (b"1000", b"0.48\\0.6\\0.64 ", ("UN", "UN")),
        ("1000", "0.48\\0.6\\0.64", ("LO", "LO")),
        ("1000", np.array(VECTOR).tobytes(), ("DS", "UN")),
    ],
)
def test_siemens_states_patient_axes_whatever_the_vr_became(
    b: object, gradient: object, vrs: tuple[str, str]
) -> None:
    assert found(siemens(b, gradient, vrs)) == Diffusion(1000, pytest.approx(VECTOR))


@pytest.mark.parametrize(
    ("b", "vr"),
    [("about 1000", "LO"), ("1,000", "LO"), (b"1000\\", "UN"), (b"\x01\x02\x03", "UN"), ("nan", "LO")],
)
def test_what_is_no_number_is_not_made_one(b: object, vr: str) -> None:
    assert found(siemens(b, None, (vr, "FD"))) == Diffusion()


def test_a_block_that_an_archive_moved_is_found_by_its_creator() -> None:
    ds = image()
    ds.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "IS", 5)
    ds.private_block(0x0019, "Siemens MR Header", create=True).add_new(0x0C, "IS", 800)
    assert found(ds) == Diffusion(800)


def test_another_makers_elements_are_not_taken_for_siemens() -> None:
    ds = image()
    ds.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "IS", 800)
    assert found(ds) == Diffusion()


def test_siemens_csa_header_is_read() -> None:
    ds = image()
    tags = {"B_value": ["2000"], "DiffusionGradientDirection": ["0.48", "0.6", "0.64"]}
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa_bytes(tags))
    assert found(ds) == Diffusion(2000, pytest.approx(VECTOR))


def test_a_header_without_its_csa_asks_for_the_original_unless_it_says_b_elsewhere() -> None:
    ds = image()
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(
        0x10, "OB", csa_bytes({"B_value": ["0"]})
    )
    whole = attributes(ds)
    assert not is_left_out(whole)
    kept = {tag: (vr, b"" if vr == "OB" else raw) for tag, (vr, raw) in whole.elements.items()}
    assert is_left_out(Attributes(kept, whole.encoding))
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 0)
    whole = attributes(ds)
    kept = {tag: (vr, b"" if vr == "OB" else raw) for tag, (vr, raw) in whole.elements.items()}
    assert not is_left_out(Attributes(kept, whole.encoding))


def test_philips_states_patient_axes() -> None:
    assert found(philips(1000, VECTOR)) == Diffusion(1000, pytest.approx(VECTOR))
    assert found(philips(0, (0, 0, 0))) == Diffusion(0)


@pytest.mark.parametrize("b", [1_000_001_000, 1000])
def test_ge_adds_a_billion_or_not(b: int) -> None:
    assert found(ge(b)).b == 1000


@pytest.mark.parametrize(("encoded", "expected"), [("COL", (-0.48, -0.6, 0.64)), ("ROW", (-0.6, 0.48, 0.64))])
def test_ge_directions_of_axial_slices_are_turned_by_the_known_rule(
    encoded: str, expected: tuple[float, ...]
) -> None:
    assert found(ge(encoded=encoded)).gradient == pytest.approx(expected)


@pytest.mark.parametrize(
    "keywords",
    [
        {"orientation": CORONAL},
        {"orientation": SAGITTAL},
        {"position": "FFS"},
        {"position": ""},
        {"encoded": "OTHER"},
    ],
)
def test_ge_directions_in_another_frame_are_kept_as_stated(keywords: dict[str, object]) -> None:
    assert found(ge(**keywords)) == Diffusion(1000, None, VECTOR)  # type: ignore[arg-type]


def test_uih_directions_go_along_the_image() -> None:
    row, column = np.array(OBLIQUE).reshape(2, 3)
    expected = VECTOR[0] * row + VECTOR[1] * column + VECTOR[2] * np.cross(row, column)
    assert found(uih(929.75, VECTOR, OBLIQUE)) == Diffusion(929.75, pytest.approx(tuple(expected)))


def test_a_direction_that_only_the_maker_states_joins_the_b_value_of_the_standard() -> None:
    ds = ge()
    ds.DiffusionBValue = 1000.0
    assert found(ds).gradient == pytest.approx((-0.48, -0.6, 0.64))


def test_a_b_value_of_the_maker_that_contradicts_the_standard_is_not_believed() -> None:
    ds = ge()
    ds.DiffusionBValue = 800.0
    assert found(ds) == Diffusion(800)


# ---- against dcm2niix and real images --------------------------------------------------------------


def _by_dcm2niix(images: list[Dataset], folder: Path) -> np.ndarray:
    """Gradients that dcm2niix writes for these images, LPS, shape (volumes, 3)."""
    given, made = folder / "in", folder / "out"
    given.mkdir()
    made.mkdir()
    for index, ds in enumerate(images):
        (given / f"{index}.dcm").write_bytes(as_bytes(ds))
    subprocess.run(["dcm2niix", "-f", "x", "-o", str(made), str(given)], check=True, capture_output=True)
    vectors = np.loadtxt(made / "x.bvec")
    matrix = nibabel.load(made / "x.nii").affine[:3, :3]
    rotation = matrix / np.linalg.norm(matrix, axis=0)
    if np.linalg.det(rotation) > 0:  # FSL counts x the other way then
        vectors = vectors * [[-1], [1], [1]]
    return np.asarray((np.diag([-1, -1, 1]) @ rotation @ vectors).T)


DIRECTIONS = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), VECTOR]
TILTED = (1.0, 0.0, 0.0, 0.0, 0.96, 0.28)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("orientation", [AXIAL, TILTED])
@pytest.mark.parametrize("maker", ["GE COL", "GE ROW", "Philips"])
def test_directions_are_those_of_dcm2niix(tmp_path: Path, maker: str, orientation: tuple[float, ...]) -> None:
    images = []
    normal = np.cross(orientation[:3], orientation[3:])
    for volume, vector in enumerate(DIRECTIONS):
        for index in range(4):
            b = 1000 if any(vector) else 0
            made = philips(b, vector) if maker == "Philips" else ge(b, vector, encoded=maker[3:])
            number = 4 * volume + index + 1
            made.SOPInstanceUID, made.InstanceNumber = f"1.2.3.{number}", number
            made.ImageOrientationPatient = list(orientation)
            made.ImagePositionPatient = [f"{x:.6f}" for x in 3 * index * normal]
            made.Manufacturer = "Philips" if maker == "Philips" else "GE MEDICAL SYSTEMS"
            made.SpacingBetweenSlices, made.SeriesNumber, made.AcquisitionNumber = 3, 1, 1
            made.ScanningSequence, made.EchoTime, made.StudyDate, made.StudyTime = "EP", 80, "20200101", "10"
            images.append(made)
    theirs = _by_dcm2niix(images, tmp_path)
    ours = [found(ds).gradient or (0, 0, 0) for ds in images[::4]]
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


UIH_BVEC = np.array(
    [[0.478388, 0.657373, 0.379868], [0.369593, 0.479565, 0.753278], [-0.796584, -0.581272, -0.536911]]
)


def test_real_uih_directions_are_those_of_dcm2niix(real_data: Path) -> None:
    folder = real_data / "uih-mr/DTI_134434"
    rows = [line.split("\t") for line in (real_data / "GEOMETRY.tsv").read_text().splitlines()]
    (affine,) = (np.array(row[5].split(), float) for row in rows if row[0] == "uih-mr/DTI_134434")
    matrix = affine.reshape(3, 4)[:, :3]
    expected = np.diag([-1, -1, 1]) @ (matrix / np.linalg.norm(matrix, axis=0)) @ UIH_BVEC
    ours = []
    for number in (1, 2, 3, 4):
        header = read_header((folder / f"0000000{number}.dcm").read_bytes()).dataset
        ours.append(diffusion(header, header.numbers("ImageOrientationPatient")))
    assert [weighting.b for weighting in ours] == pytest.approx([1.25126, 929.75, 929.75, 929.75], abs=1e-3)
    assert ours[0].gradient is None
    np.testing.assert_allclose([weighting.gradient for weighting in ours[1:]], expected.T, atol=2e-4)


def test_a_real_siemens_direction_is_the_axis_of_its_b_matrix(real_data: Path) -> None:
    raw = gzip.decompress((real_data / "nibabel/siemens_dwi_1000.dcm.gz").read_bytes())
    header = read_header(raw).dataset
    weighting = diffusion(header)
    xx, xy, xz, yy, yz, zz = csa.numbers(csa.of_image(header, ("B_matrix",))["B_matrix"])
    values, vectors = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert weighting.gradient is not None
    assert abs(vectors[:, -1] @ weighting.gradient) > 0.999
    assert values.sum() == pytest.approx(weighting.b, rel=0.05)


def test_a_real_siemens_image_with_nothing_but_a_csa_header_is_read(real_data: Path) -> None:
    header = read_header((real_data / "divest/inst/extdata/raw/03.dcm").read_bytes()).dataset
    assert diffusion(header) == Diffusion(2000, pytest.approx((0.111, 0.264, 0.9581), abs=1e-3))


def test_a_real_siemens_image_without_weighting_has_b_0(real_data: Path) -> None:
    raw = gzip.decompress((real_data / "nibabel/siemens_dwi_0.dcm.gz").read_bytes())
    assert diffusion(read_header(raw).dataset) == Diffusion(0)
