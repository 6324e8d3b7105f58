"""Real series against dcm2niix: every affine it finds, and every voxel where a reference NIfTI is at hand.

dcm2niix turns axes as it likes, so grids are compared as sets of voxel centres: the way from its index to
ours must be a signed permutation of axes. Where we differ on purpose, the row is listed with the reason.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import dicomlake
from dicomlake.dicom.geometry import to_ras
from dicomlake.records import Volume
from tests.support import real_data_folder

TESTDATA = real_data_folder() or Path("absent")
GEOMETRY = TESTDATA / "GEOMETRY.tsv"
_OBJECT = "a segmentation opens on the grid of what it segments, not as a stack of its frames"
DELIBERATE = {
    "ct-tilt-ge/2_0.nii": "gaps of 1.1 to 7.0 mm have no constant step: kept irregular, not averaged",
    "ct-tilt-ge/2_0_Tilt_Eq_1.nii": "a resampling that dcm2niix adds; ours is grid='resample'",
    "dcmstack/dcmstack/2D_16Echo_qT2/3_2D_16Echo_qT2_1.nii": "gaps of 10.5 and 21 mm: kept irregular",
    "dcmstack/dcmstack/2D_16Echo_qT2/3_2D_16Echo_qT2_1_Eq_1.nii": "a resampling that dcm2niix adds",
    "dcmqi/segmentations/100_Segmentation_0.nii": _OBJECT,
    "dcmqi/segmentations/300_Segmentation_0_Raw.nii": _OBJECT,
    "dcmqi/segmentations/300_Segmentation_0_Rawa.nii": _OBJECT,
    "dcmqi/sr-example/16_tumor_segmentation_-_User2_Manual_trial_1_0.nii": _OBJECT,
    "nibabel/12_CBU_DTI_64D_1A_1.nii": "48 slices do not tile 256 x 256 pixels: not cut at 36.57 pixels",
    "nibabel/7_CV_map_neuro_qT1_FA12nTI128_1_real.nii": "the object has no UIDs: kept in quarantine",
    "rt-utils/tests/oriented_data/3244670872_Created-SimpleITK_0.nii": "two studies are never one volume",
}


class Grid(NamedTuple):
    """Voxels of dcm2niix: (x, y, z) and index to RAS mm."""

    shape: tuple[int, ...]
    affine: np.ndarray


class Way(NamedTuple):
    """From dcm2niix's index to ours: our axis for each of its axes, and which of them run backwards."""

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]


def rows() -> dict[str, list[dict[str, str]]]:
    """The rows of dcm2niix's truth by folder."""
    if not GEOMETRY.is_file():
        return {}
    found: dict[str, list[dict[str, str]]] = {}
    with GEOMETRY.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.setdefault(row["folder"], []).append(row)
    return found


def grid_of(row: dict[str, str]) -> Grid:
    numbers = [float(text) for text in row["affine_3x4_RAS_row_major"].split()]
    affine = np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]])
    return Grid(tuple(int(n) for n in row["shape"].split("x")), affine)


def ours(volume: Volume) -> Grid | None:
    """A volume as (x, y, z[, all other axes as one])."""
    if volume.affine_lps is None:
        return None
    first = volume.dims.index("z")
    extra = int(np.prod(volume.shape[:first]))
    shape = volume.shape[first : first + 3][::-1]
    return Grid((*shape, extra) if extra > 1 else shape, to_ras(np.array(volume.affine_lps))[:, [2, 1, 0, 3]])


def way(theirs: Grid, mine: Grid) -> Way | None:
    """How their grid lies on mine, voxel on voxel; None when it does not."""
    if theirs.shape[3:] != mine.shape[3:]:
        return None
    turn = np.linalg.inv(mine.affine) @ theirs.affine
    signs = np.rint(turn[:3, :3])
    if not np.allclose(turn[:3, :3], signs, atol=0.02) or not (np.abs(signs).sum(axis=0) == 1).all():
        return None
    corners = turn[:3, :3] @ (np.array(theirs.shape[:3]) - 1) + turn[:3, 3]
    low, high = np.minimum(corners, turn[:3, 3]), np.maximum(corners, turn[:3, 3])
    if np.abs(low).max() > 0.06 or np.abs(high - np.array(mine.shape[:3]) + 1).max() > 0.06:
        return None
    axes = tuple(int(np.argmax(np.abs(signs[:, k]))) for k in range(3))
    return Way(axes, tuple(bool(signs[axes[k], k] < 0) for k in range(3)))


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dicomlake.Lake]]:
    """A lake for each folder, made when first asked for."""
    made: dict[str, dicomlake.Lake] = {}
    yield made
    for lake in made.values():
        lake.close()


def lake_of(folder: str, lakes: dict[str, dicomlake.Lake], factory: pytest.TempPathFactory) -> dicomlake.Lake:
    if folder not in lakes:
        lakes[folder] = dicomlake.open(factory.mktemp("lake") / "l", create=True)
        lakes[folder].ingest(TESTDATA / folder, progress=False)
    return lakes[folder]


@pytest.mark.parametrize("folder", rows())
def test_shapes_and_affines_are_those_of_dcm2niix(
    folder: str, lakes: dict[str, dicomlake.Lake], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = lake_of(folder, lakes, tmp_path_factory)
    grids = [grid for volume in lake.volumes() if volume.built and (grid := ours(volume))]
    lost = [
        row["dcm2niix_output"]
        for row in rows()[folder]
        if f"{folder}/{row['dcm2niix_output']}" not in DELIBERATE
        if not any(way(grid_of(row), grid) for grid in grids)
    ]
    assert lost == []


def test_every_deliberate_difference_is_one(
    lakes: dict[str, dicomlake.Lake], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A row that we agree on, or that is not there, has no place in the list."""
    if not GEOMETRY.is_file():
        pytest.skip("no real files")
    listed = {
        f"{folder}/{row['dcm2niix_output']}": (folder, grid_of(row))
        for folder, of in rows().items()
        for row in of
    }
    assert set(DELIBERATE) <= set(listed)
    agreed = []
    for name in DELIBERATE:
        folder, theirs = listed[name]
        grids = [g for v in lake_of(folder, lakes, tmp_path_factory).volumes() if v.built and (g := ours(v))]
        agreed += [name for grid in grids if way(theirs, grid)]
    assert agreed == []


_D2N = "dicom2nifti/"
REFERENCES = {
    "bits12/Ref/4.nii": "bits12/In",
    "fmri-ge-4d/DCM2NIIX_regression_test_4.nii": "fmri-ge-4d",
    "ts9-siemens/Ref/1.nii": "ts9-siemens/In",
    "dicom2nifti/philips_enhanced/fmri/001_ground_truth.nii.gz": "dicom2nifti/philips_enhanced/fmri/001",
    "dicom2nifti/ge/fmri/001_ground_truth.nii.gz": "dicom2nifti/ge/fmri/001",
    "dicom2nifti/ge/dti/002_ground_truth.nii.gz": "dicom2nifti/ge/dti/002",
    _D2N + "generic/anatomical/002_non_isotropic_ground_truth.nii.gz": _D2N
    + "generic/anatomical/002_non_isotropic",
    "dicom2nifti/hitachi/anatomical/001_ground_truth.nii.gz": "dicom2nifti/hitachi/anatomical/001",
    "dicom2nifti/hyperfine/anatomical/001_ground_truth.nii.gz": "dicom2nifti/hyperfine/anatomical/001",
    "epi-siemens-mosaic/EPI_PE=RL_5.nii": "epi-siemens-mosaic/mr_0005",
    "epi-siemens-mosaic/EPI_PE=AP_3.nii": "epi-siemens-mosaic/mr_0003",
    "enhanced-mr/Ref/Philips_WIP_B0_NS_801_e1.nii": "enhanced-mr/In/Philips",
    "enhanced-mr/Ref/Philips_WIP_B0_NS_801_e2_fieldmaphz.nii": "enhanced-mr/In/Philips",
    "enhanced-mr/Ref/Siemens_REST1_w_SMS_PF7-8_6.nii": "enhanced-mr/In/Siemens/XA10",
    "xa30-enhanced/Ref/27_asl_2d_tra.nii": "xa30-enhanced/In/27_asl_2d_tra",
    "xa30-enhanced/Ref/9_gre_field_mapping_e2_ph.nii": "xa30-enhanced/In/9_gre_field_mapping",
}

# dcm2niix divides these by a private scale of Philips; ours are rescaled by the standard, one line apart
SCALED = {
    "enhanced-mr/Ref/Philips_WIP_B0_NS_801_e1.nii",
    "enhanced-mr/Ref/Philips_WIP_B0_NS_801_e2_fieldmaphz.nii",
}


@pytest.mark.parametrize("name", REFERENCES)
def test_every_voxel_equals_the_reference(
    name: str, real_data: Path, lakes: dict[str, dicomlake.Lake], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import nibabel

    reference = nibabel.load(real_data / name)
    values = np.asarray(reference.dataobj)
    theirs = Grid(tuple(n for n in values.shape if n > 1 or values.ndim == 3), np.asarray(reference.affine))
    lake = lake_of(REFERENCES[name], lakes, tmp_path_factory)
    compared = []
    for volume in lake.volumes():
        mine = ours(volume)
        found = way(theirs, mine) if volume.built and mine else None
        if found is not None:
            compared.append(_largest_difference(lake, volume, values, found, scaled=name in SCALED))
    assert compared, "no volume lies on the grid of the reference"
    assert min(compared) == 0


def _largest_difference(
    lake: dicomlake.Lake, volume: Volume, values: np.ndarray, found: Way, *, scaled: bool
) -> float:
    """0 when all are equal to six digits; scaled: after the one line that maps our extremes to theirs."""
    image = lake.open_volume(volume).image.dicom.rescaled().values
    first = volume.dims.index("z")
    flat = image.reshape(-1, *image.shape[first:])
    mine = np.moveaxis(flat, 0, -1).transpose(2, 1, 0, 3)  # x, y, z, others
    turned = mine.transpose(*found.axes, 3)
    for axis, backwards in enumerate(found.backwards):
        turned = np.flip(turned, axis) if backwards else turned
    theirs = values.reshape(*values.shape[:3], -1)
    turned = turned.astype(np.float64)
    if scaled:
        low, high = turned.argmin(), turned.argmax()
        factor = (theirs.flat[high] - theirs.flat[low]) / (turned.flat[high] - turned.flat[low])
        turned = theirs.flat[low] + (turned - turned.flat[low]) * factor
    scale = max(1.0, float(np.abs(theirs).max()))
    difference = np.abs(turned - theirs).max()
    return 0.0 if difference <= 1e-6 * scale else float(difference)


def test_all_reference_files_are_compared(real_data: Path) -> None:
    there = {
        str(p.relative_to(real_data))
        for p in itertools.chain(real_data.rglob("*.nii"), real_data.rglob("*.nii.gz"))
    }
    assert there - set(REFERENCES) == {
        "dicom2nifti/generic/rgb/001_ground_truth.nii.gz"
    }  # its colours are a mean
