"""Histograms of doses whose histogram is known in closed form, and of a planning system."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage

from dicomlake import datasets
from dicomlake.datasets import chest_rt
from dicomlake.dicom.grid import Grid
from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.objects.dose_sampling import dose_on
from dicomlake.objects.dvh import Dvh, dvh, stored_dvhs
from dicomlake.objects.structures import read_structures
from tests.rt.structure_sets import axial, circle, contour, region, rotation, structure_set, turned


def ramp(grid: Grid, gradient: tuple[float, float, float], offset: float = 0.0) -> np.ndarray:
    """A dose that is linear in the patient position: gradient (Gy/mm along x, y, z) . position + offset."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    origins = grid.origins[index[..., 0]]
    place = origins + index[..., 1:] @ grid.affine[:3, 1:3].T
    return place @ np.array(gradient) + offset


# Computed histograms.


def test_a_linear_dose_over_a_box_has_a_straight_histogram() -> None:
    """100 layers of 0.5, 1.5 … 99.5 Gy: at least k Gy in 100 - k percent."""
    grid = axial((100, 6, 8), 2.0, 1.5)
    dose = np.broadcast_to(np.arange(100)[:, None, None] + 0.5, grid.shape)
    found = dvh(dose, np.ones(grid.shape, bool), grid, bin_gy=1.0)
    assert found.volume_cm3 == pytest.approx(100 * 6 * 8 * 2.0 * 1.5**2 / 1000)
    np.testing.assert_allclose(found.edges, np.arange(101))
    np.testing.assert_allclose(found.cumulative / found.volume_cm3, 1 - np.arange(101) / 100, atol=1e-12)
    for percent in (0.5, 2, 5, 33, 50, 95, 98):
        assert found.dose_gy(percent) == pytest.approx(100 - percent)
        assert found.volume_percent(percent) == pytest.approx(100 - percent)
    assert (found.minimum_gy, found.mean_gy, found.maximum_gy) == pytest.approx((0.5, 50, 99.5))
    assert (found.dose_gy(100), found.dose_gy(0)) == (0.5, 99.5)
    assert found.volume_cm3_at(75) == pytest.approx(found.volume_cm3 / 4)
    assert found.dose_gy_at_cm3(found.volume_cm3 / 10) == pytest.approx(90)
    assert found.volume_percent(-1) == 100
    assert found.volume_percent(101) == 0
    assert found.statistics(doses_gy=(20,)) == pytest.approx(
        {
            "Dmin": 0.5,
            "Dmean": 50,
            "Dmax": 99.5,
            "D98": 2,
            "D95": 5,
            "D50": 50,
            "D5": 95,
            "D2": 98,
            "V20Gy": 80,
        }
    )


def test_a_dose_on_the_edge_of_bins_is_in_the_bin_above() -> None:
    grid = axial((1, 1, 100))
    dose = (np.arange(100) / 100)[None, None]
    np.testing.assert_allclose(dvh(dose, np.ones(grid.shape, bool), grid).volumes, 0.001)


def test_one_dose_everywhere_is_every_statistic() -> None:
    grid = axial((2, 3, 4))
    found = dvh(np.full(grid.shape, 42.005), np.ones(grid.shape, bool), grid)
    statistics = found.statistics(doses_gy=(42, 43))
    assert statistics.pop("V42Gy") == pytest.approx(100)
    assert statistics.pop("V43Gy") == 0
    assert statistics == pytest.approx(dict.fromkeys(statistics, 42.005), abs=0.01)


def test_statistics_from_bins_are_within_one_bin_of_those_of_the_sorted_voxels() -> None:
    rng = np.random.default_rng(3)
    grid = axial((20, 30, 40))
    dose, mask = rng.gamma(6, 5, grid.shape), rng.random(grid.shape) < 0.3
    found, inside = dvh(dose, mask, grid), np.sort(dose[mask])
    assert found.volume_cm3 == pytest.approx(mask.sum() / 1000)
    assert found.mean_gy == pytest.approx(inside.mean())
    for percent in (1, 2, 25, 50, 95, 99):
        exact = inside[len(inside) - int(np.ceil(len(inside) * percent / 100))]
        assert found.dose_gy(percent) == pytest.approx(exact, abs=0.01)
    for gy in (5, 20, 50):
        assert found.volume_percent(gy) == pytest.approx(100 * (inside >= gy).mean(), abs=1e-6)


def test_uneven_slices_reach_half_way_to_their_neighbours() -> None:
    starts = np.array([(0.0, 0.0, z) for z in (0, 1, 3, 7)])
    grid = replace(axial((4, 1, 1)), positions=starts)
    found = dvh(np.arange(4.0)[:, None, None] + 0.5, np.ones(grid.shape, bool), grid, bin_gy=1.0)
    np.testing.assert_allclose(found.volumes * 1000, [1, 1.5, 3, 4])


def test_a_histogram_says_what_it_is_and_draws_itself() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    grid = axial((10, 10, 10))
    found = dvh(np.full(grid.shape, 2.0), np.ones(grid.shape, bool), grid)
    assert repr(found) == "<Dvh: 1 cm³, mean 2 Gy, maximum 2 Gy>"
    axes = found.plot(label="one")
    x, y = axes.lines[0].get_data()
    assert (y[0], x[-1], y[-1]) == pytest.approx((100, 2.01, 0))
    assert found.plot(axes) is axes
    pyplot.close("all")
    assert found.table().cumulative.iloc[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": np.zeros((3, 4, 5), bool)}, "no voxel"),
        ({"mask": np.ones((3, 4, 6), bool)}, "shape"),
        ({"dose": np.ones((3, 4, 6))}, "shape"),
        ({"dose": -np.ones((3, 4, 5))}, "negative"),
        ({"bin_gy": 0.0}, "no width"),
        ({"dose": xr.DataArray(np.ones((3, 4, 5)), attrs={"units": "RELATIVE"})}, "not Gy"),
        ({"dose_grid": axial((3, 4, 5), frame_of_reference_uid="1.2.3")}, "frame of reference"),
        ({"dose_grid": axial((3, 4, 5), frame_of_reference_uid=None)}, "frame of reference"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(change: dict[str, Any], words: str) -> None:
    grid = axial((3, 4, 5))
    good = {"dose": np.ones(grid.shape), "mask": np.ones(grid.shape, bool), "grid": grid}
    assert dvh(**good).mean_gy == pytest.approx(1)
    with pytest.raises(DicomlakeError, match=words):
        dvh(**(good | change))


def test_a_dose_in_gray_may_be_a_data_array() -> None:
    grid = axial((3, 4, 5))
    dose = xr.DataArray(np.ones(grid.shape), dims=("z", "y", "x"), attrs={"units": "GY"})
    assert dvh(dose, xr.DataArray(np.ones(grid.shape, bool)), grid).mean_gy == pytest.approx(1)


# The dose at other places.


@pytest.mark.parametrize("degrees", [(0, 0, 0), (10, 20, 30), (180, 0, 0)])
def test_a_linear_dose_is_found_exactly_on_any_grid(degrees: tuple[float, ...]) -> None:
    gradient = (0.3, -0.2, 0.5)
    coarse = turned(axial((21, 19, 23), 5.0, 4.0, first=-50.0), rotation(*degrees))
    fine = axial((12, 14, 16), 2.5, 1.7, first=-14.0)
    found = dose_on(fine, ramp(coarse, gradient, 100.0), coarse)
    np.testing.assert_allclose(found, ramp(fine, gradient, 100.0), atol=1e-9)


@pytest.mark.parametrize("order", [1, -1])
def test_uneven_planes_of_a_dose_are_met_by_their_heights(order: int) -> None:
    starts = np.array([(-11.0, -11.0, z) for z in (-20, -18, -10, 1, 2, 20)])[::order]
    uneven = replace(axial((6, 23, 23)), positions=starts)
    fine = axial((30, 9, 9), first=-15.0)
    gradient = (0.3, -0.2, 0.5)
    found = dose_on(fine, ramp(uneven, gradient, 50.0), uneven)
    np.testing.assert_allclose(found, ramp(fine, gradient, 50.0), atol=1e-9)


def test_uneven_planes_that_are_shifted_are_refused() -> None:
    uneven = replace(axial((3, 5, 5)), positions=np.array([(0.0, 0, 0), (1, 0, 1), (0, 0, 5)]))
    with pytest.raises(GeometryError, match="uneven"):
        dose_on(axial((2, 5, 5)), np.ones((3, 5, 5)), uneven)


def test_beyond_the_outer_half_voxel_there_is_no_dose() -> None:
    dose_grid = axial((3, 3, 3), 4.0, 4.0)
    line = axial((1, 1, 33), pixel=0.5, first=4.0)  # x from -8 to 8, the dose's centres from -4 to 4
    found = dose_on(line, ramp(dose_grid, (1, 0, 0), 10.0), dose_grid)[0, 0]
    x = np.linspace(-8, 8, 33)
    np.testing.assert_array_equal(np.isnan(found), np.abs(x) > 6)
    np.testing.assert_allclose(found[np.abs(x) <= 6], np.clip(x, -4, 4)[np.abs(x) <= 6] + 10)
    assert dose_on(line, np.ones((3, 3, 3)), dose_grid, outside_gy=0.0)[0, 0, 0] == 0


def test_a_single_plane_of_dose_reaches_half_a_step() -> None:
    dose_grid, line = axial((1, 9, 9), 4.0), axial((9, 1, 1), first=-4.0)
    found = dose_on(line, np.full((1, 9, 9), 3.0), dose_grid)[:, 0, 0]
    assert np.flatnonzero(~np.isnan(found)).tolist() == [2, 3, 4, 5, 6]


def test_a_mask_beyond_the_dose_needs_a_decision() -> None:
    grid, dose_grid = axial((1, 1, 20)), axial((1, 1, 10))
    dose, mask = np.full((1, 1, 10), 8.0), np.ones((1, 1, 20), bool)
    with pytest.raises(GeometryError, match=r"50 % of the mask.*outside_gy=0\.0"):
        dvh(dose, mask, grid, dose_grid=dose_grid)
    counted = dvh(dose, mask, grid, dose_grid=dose_grid, outside_gy=0.0)
    left_out = dvh(dose, mask, grid, dose_grid=dose_grid, outside_gy=np.nan)
    assert (counted.mean_gy, left_out.mean_gy) == pytest.approx((4, 8))
    assert (counted.volume_cm3, left_out.volume_cm3) == pytest.approx((0.020, 0.010))
    assert counted.outside_cm3 == left_out.outside_cm3 == pytest.approx(0.010)


def chest_dose() -> tuple[np.ndarray, Grid]:
    """The dose of chest-rt and its grid."""
    truth = datasets.truth("chest-rt")
    grid = Grid(truth.shape, np.array(truth.affine_lps), None, truth.frame_of_reference_uid)
    return chest_rt.stored_dose() * float(chest_rt.DOSE_GRID_SCALING), grid


def around_nodule(frame: str | None) -> tuple[Grid, list[np.ndarray]]:
    """A grid of 1 x 0.5 x 0.5 mm around the largest nodule, and z, y, x of its voxel centres."""
    middle, shape = np.array(chest_rt.NODULES[0].centre), (25, 49, 49)
    affine = np.diag([1.0, 0.5, 0.5, 1.0])[[2, 1, 0, 3]]
    affine[:3, 3] = middle - 12
    axes = [c + np.linspace(-12, 12, n) for c, n in zip(middle[::-1], shape, strict=True)]
    return Grid(shape, affine, None, frame), np.meshgrid(*axes, indexing="ij")


def test_simpleitk_interpolates_the_same_dose() -> None:
    import SimpleITK as sitk

    dose, dose_grid = chest_dose()
    grid, _ = around_nodule(dose_grid.frame_of_reference_uid)
    images = []
    for array, one in ((dose, dose_grid), (np.zeros(grid.shape), grid)):
        image = sitk.GetImageFromArray(array)
        image.SetOrigin(one.affine[:3, 3].tolist())
        image.SetSpacing([float(np.linalg.norm(one.affine[:3, axis])) for axis in (2, 1, 0)])
        images.append(image)
    theirs = sitk.GetArrayFromImage(sitk.Resample(images[0], images[1], sitk.Transform(), sitk.sitkLinear))
    np.testing.assert_allclose(dose_on(grid, dose, dose_grid), theirs, atol=1e-9)


def test_the_dose_in_a_nodule_is_that_of_the_closed_form() -> None:
    """Within what trilinear interpolation of 4 mm voxels loses of a curve: h²/12 of its second derivative.

    Along x that is 60 Gy * 12 x² / (15 mm)^4, with x² = r²/5 on the mean over the ball: 0.5 Gy.
    """
    dose, dose_grid = chest_dose()
    grid, (z, y, x) = around_nodule(dose_grid.frame_of_reference_uid)
    nodule = chest_rt.NODULES[0]
    x0, y0, z0 = nodule.centre
    ball = (x - x0) ** 2 + (y - y0) ** 2 + (z - z0) ** 2 < nodule.radius**2
    found, exact = dvh(dose, ball, grid, dose_grid=dose_grid), chest_rt.dose_gy(z, y, x)[ball]
    lost = 4**2 / 12 * 60 * 12 * nodule.radius**2 / 5 / 15**4
    assert lost == pytest.approx(0.46, abs=0.01)
    assert found.mean_gy == pytest.approx(exact.mean() - lost, abs=0.1)
    assert found.volume_cm3 == pytest.approx(4 / 3 * np.pi * nodule.radius**3 / 1000, rel=0.01)


# Stored histograms.


def stored(**changes: Any) -> Dvh:
    """One histogram of four bins, put into an RT Dose and read back."""
    item = Dataset()
    values: dict[str, Any] = {
        "DVHType": "CUMULATIVE",
        "DoseUnits": "GY",
        "DoseType": "PHYSICAL",
        "DVHDoseScaling": 2,
        "DVHVolumeUnits": "CM3",
        "DVHNumberOfBins": 4,
        "DVHData": [0.5, 10, 0.5, 10, 1, 8, 1, 2],
        "DVHMinimumDose": 1,
        "DVHMaximumDose": 6,
        "DVHMeanDose": 3.7,
    }
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(item, keyword, value)
    item.DVHReferencedROISequence = []
    for number, kind in ((3, "INCLUDED"), (5, "EXCLUDED")):
        reference = Dataset()
        reference.ReferencedROINumber, reference.DVHROIContributionType = number, kind
        item.DVHReferencedROISequence.append(reference)
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.DVHSequence = RTDoseStorage, "1.2.3", [item]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = RTDoseStorage, "1.2.3"
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    (found,) = stored_dvhs(buffer.getvalue())
    return found


def test_a_stored_cumulative_histogram_states_volumes_at_lower_edges() -> None:
    found = stored()
    assert found.edges_gy.tolist() == [0, 1, 2, 4, 6]
    assert found.volumes.tolist() == [0, 2, 6, 2]
    assert found.cumulative.tolist() == [10, 10, 8, 2, 0]
    assert (found.minimum_gy, found.maximum_gy) == (1, 6)
    assert found.mean_gy == pytest.approx((2 * 1.5 + 6 * 3 + 2 * 5) / 10)
    assert found.dose_gy(50) == pytest.approx(3)
    assert (found.roi_numbers, found.excluded_roi_numbers, found.dose_type) == ((3,), (5,), "PHYSICAL")
    assert found.findings == ()
    assert found.stated == (1, 3.7, 6)


def test_a_stored_differential_histogram_is_the_same_one() -> None:
    found = stored(DVHType="DIFFERENTIAL", DVHData=[0.5, 0, 0.5, 2, 1, 6, 1, 2])
    assert found.cumulative.tolist() == stored().cumulative.tolist()


def test_percent_of_volume_gives_percentages_but_no_volume() -> None:
    found = stored(DVHVolumeUnits="PERCENT", DVHData=[0.5, 100, 0.5, 100, 1, 80, 1, 20])
    assert found.volume_percent(4) == pytest.approx(20)
    with pytest.raises(DicomlakeError, match="PERCENT"):
        _ = found.volume_cm3
    assert "cm³" not in repr(found)


@pytest.mark.parametrize("units", ["RELATIVE", None])
def test_relative_doses_are_refused_as_gray(units: str | None) -> None:
    found = stored(DoseUnits=units)
    for ask in (
        lambda: found.mean_gy,
        lambda: found.dose_gy(95),
        lambda: found.volume_percent(1),
        found.table,
    ):
        with pytest.raises(DicomlakeError, match="RELATIVE"):
            ask()
    assert repr(found) == "<Dvh: doses are relative>"
    scaled = replace(found, edges=found.edges * 0.6, dose_units="GY")
    assert scaled.maximum_gy == pytest.approx(3.6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DVHType": "NATURAL"}, "NATURAL"),
        ({"DVHType": None}, "no DVHType"),
        ({"DVHVolumeUnits": "PER_U"}, "DVHVolumeUnits"),
        ({"DVHNumberOfBins": 5}, "says 5 bins"),
        ({"DVHData": None}, "holds 0 values"),
        ({"DVHData": [0.5, 10, 0.5, 12, 1, 8, 1, 2]}, "grows"),
        ({"DVHData": [0.5, 10, -0.5, 10, 1, 8, 1, 2]}, "negative width"),
    ],
)
def test_a_stored_histogram_that_cannot_be_read_says_why(changes: dict[str, Any], words: str) -> None:
    found = stored(**changes)
    assert found.flaw is not None
    assert words in found.flaw
    assert words in repr(found)
    with pytest.raises(DicomlakeError, match=words):
        _ = found.mean_gy


def test_stated_statistics_in_percent_are_reported_and_not_used() -> None:
    found = stored(DVHMaximumDose=104.9)
    assert "DVHMaximumDose" in found.findings[0]
    assert found.maximum_gy == 6


@pytest.fixture
def planned(real_data: Path) -> Path:
    """A folder with structure set and dose of one real plan."""
    folder = real_data / "rt-dicompyler"
    if not (folder / "rtdose.dcm").exists():
        pytest.skip("the dose of this plan is not among the real files")
    return folder


def test_computed_histograms_are_those_of_the_planning_system(planned: Path) -> None:
    """Volumes within 3 %, mean and maximum within 2 %, curves within 2 % of the volume or 0.05 Gy.

    The planning system samples at an own, unknown resolution and closes a region at its ends in its own
    way: half a slice of 3 mm more or less at both ends of a region of 20 slices is up to 3 %, and regions
    below 10 cm³ are left out. 0.05 Gy are 0.4 % of the prescribed 14 Gy; where the dose is low, much of
    the heart lies within as much. DVHMaximumDose and its like are in percent and must be found out.
    """
    dose, dose_grid = planned_dose(planned / "rtdose.dcm")
    fine = dose_grid.affine.copy()
    fine[:3, 1:3] /= 2.5  # 1 mm pixels, within the outermost half voxels
    fine[:3, 3] -= (0.75, 0.75, 0)
    grid = Grid((98, 320, 484), fine, None, dose_grid.frame_of_reference_uid)
    structures = read_structures((planned / "rtss.dcm").read_bytes())
    histograms = stored_dvhs((planned / "rtdose.dcm").read_bytes())
    large = [one for one in histograms if one.volume_cm3 > 10 and one.roi_numbers != (1,)]
    assert len(large) == 5
    for theirs in large:
        mask = structures.mask(theirs.roi_numbers[0], grid)
        assert mask.attrs["contour_planes_unused"] == 0
        mine = dvh(dose, mask, grid, dose_grid=dose_grid)
        assert mine.volume_cm3 == pytest.approx(theirs.volume_cm3, rel=0.03)
        assert mine.mean_gy == pytest.approx(theirs.mean_gy, rel=0.02)
        assert mine.maximum_gy == pytest.approx(theirs.maximum_gy, rel=0.02)
        for gy in np.arange(0.0, 15.0, 0.1):
            low, high = theirs.volume_percent(gy + 0.05) - 2, theirs.volume_percent(gy - 0.05) + 2
            assert low <= mine.volume_percent(gy) <= high
    assert all("DVHMaximumDose" in one.findings[-1] for one in large)


def planned_dose(path: Path) -> tuple[np.ndarray, Grid]:
    """The dose in Gy and its grid, by pydicom; axial, planes 3 mm apart."""
    ds = pydicom.dcmread(path)
    assert ds.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert np.diff(np.array(ds.GridFrameOffsetVector, float)).tolist() == [3.0] * 97
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, ds.PixelSpacing[1]], [0, ds.PixelSpacing[0], 0], [3.0, 0, 0]]
    affine[:3, 3] = ds.ImagePositionPatient
    dose = ds.pixel_array * float(ds.DoseGridScaling)
    return dose, Grid(dose.shape, affine, None, str(ds.FrameOfReferenceUID))


def test_a_ring_in_a_linear_dose_has_the_mean_of_its_centre() -> None:
    """From contours to dose: a cylinder with a hole, centred at x = 3 mm, in 2 Gy/mm along x."""
    rings = [contour(circle(radius, z, (3.0, 0.0), n=128)) for z in range(10) for radius in (12.03, 5.03)]
    grid = axial((10, 61, 61), pixel=0.5)
    mask = read_structures(structure_set(region(1, rings))).mask(1, grid)
    dose_grid = axial((8, 21, 21), 3.0, 3.0, first=-6.0)
    found = dvh(ramp(dose_grid, (2, 0, 0), 60.0), mask, grid, dose_grid=dose_grid)
    assert found.mean_gy == pytest.approx(66, abs=0.01)
    assert found.volume_cm3 == pytest.approx(np.pi * (12.03**2 - 5.03**2) * 10 / 1000, rel=0.01)
    assert (found.minimum_gy, found.maximum_gy) == pytest.approx((66 - 24, 66 + 24), abs=0.1)
