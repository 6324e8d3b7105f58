"""One grid for a cohort: against SimpleITK on whole volumes, against fields in closed form, and its cost."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr

import dicomlake
from dicomlake.cohorts.arrays.common_grid import common_grid
from dicomlake.datasets.edge_cases import cases
from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError, VolumeError
from dicomlake.lake import Lake
from dicomlake.series import Series
from dicomlake.storage.arrays import LazyArray
from tests import objects

FIELD = np.array([3.0, -2.0, 5.0])  # value = FIELD · LPS + 2000, whole at the voxels used here
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TURNED = (0.6, 0.8, 0.0, -0.8, 0.6, 0.0)  # 53 degrees about the patient's long axis


def uid(number: int) -> str:
    return f"{objects.ROOT}.9.{number}.1"


def field(points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ FIELD + 2000)


def stack(
    number: int,
    positions: Sequence[Sequence[float]],
    *,
    orientation: Sequence[float] = AXIAL,
    pixel: tuple[float, float] = (1.0, 1.0),
    size: tuple[int, int] = (12, 10),
    values: Any = field,
    **others: Any,
) -> list[bytes]:
    """A CT whose stored value is a function of the patient position of the voxel."""
    row, column = np.array(orientation).reshape(2, 3)
    y, x = np.mgrid[: size[0], : size[1]]
    plane = y[..., None] * column * pixel[0] + x[..., None] * row * pixel[1]
    return [
        objects.dicom(
            k + 1,
            series=uid(number),
            ImagePositionPatient=[f"{v:.6f}" for v in place],
            ImageOrientationPatient=list(orientation),
            PixelSpacing=list(pixel),
            Rows=size[0],
            Columns=size[1],
            RescaleIntercept=0,
            PixelData=np.rint(values(np.asarray(place) + plane)).astype(np.uint16).tobytes(),
            **others,
        )
        for k, place in enumerate(positions)
    ]


def upright(count: int, step: float = 2.0, at: Sequence[float] = (0, 0, 0)) -> list[list[float]]:
    return [[at[0], at[1], at[2] + step * k] for k in range(count)]


def noise(points: np.ndarray) -> np.ndarray:
    """No two voxels alike, nothing linear about it."""
    return np.asarray(3000 * np.abs(np.sin(points @ np.array([12.9898, 78.233, 37.719]))))


FILES: dict[int, list[bytes]] = {
    1: stack(1, upright(8)),
    2: stack(2, upright(8, at=(2, 1, 3))),
    3: stack(3, upright(8, at=(10, 0, 1)), orientation=TURNED, pixel=(5.0, 5.0)),
    4: stack(4, [[0, 0, z] for z in (0, 2, 3, 7, 9, 10, 14)]),
    5: stack(5, upright(9, 1.5), size=(14, 13), pixel=(0.7, 0.9), values=noise),
    6: stack(6, upright(7, 2.5, at=(4, -3, 2)), orientation=TURNED, pixel=(0.8, 0.8), values=noise),
    7: stack(7, upright(8, at=(500, 500, 500))),
    8: stack(8, [[0, 0.5 * k, 2 * k] for k in range(8)]),
    9: stack(9, [[0, 0.25 * z, z] for z in (0, 2, 3, 7, 9, 10, 14)], values=lambda at: field(at) * 4),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    tilted = next(case for case in cases() if case.name == "gantry-tilt")
    with dicomlake.open(tmp_path_factory.mktemp("lake") / "l", create=True) as opened:
        opened.ingest(*(data for files in FILES.values() for data in files), *tilted.files(), progress=False)
        yield opened


def of(lake: Lake, *numbers: int) -> list[Series]:
    return [lake.find(uid(number))[0] for number in numbers]


def places(image: xr.DataArray) -> np.ndarray:
    """The LPS position of every voxel of one row of the array, (z, y, x, 3)."""
    affine = np.array(image.attrs["affine_lps"])
    index = np.stack(np.meshgrid(*map(np.arange, image.shape[-3:]), indexing="ij"), axis=-1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def inner(image: xr.DataArray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """The voxels between two LPS positions: where a volume has voxel centres on all sides."""
    found = places(image)
    return np.asarray(((found >= np.array(low) - 1e-9) & (found <= np.array(high) + 1e-9)).all(axis=-1))


# ---- true places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [0.4, 1.0, (3.0, 1.7, 2.2)])
def test_a_linear_field_stays_what_it_is_on_a_finer_and_on_a_coarser_grid(lake: Lake, spacing: Any) -> None:
    found = common_grid(of(lake, 1, 2), spacing=spacing, chunks=7)
    boxes = [((0, 0, 0), (9, 11, 14)), ((2, 1, 3), (11, 12, 17))]
    for number, (low, high) in enumerate(boxes):
        inside = inner(found, low, high)
        assert inside.sum() > 30
        np.testing.assert_allclose(found[number].values[inside], field(places(found))[inside], atol=2e-3)


def test_a_turned_volume_is_sampled_at_patient_positions(lake: Lake) -> None:
    found = common_grid(of(lake, 3), spacing=(2.0, 4.0, 4.0))
    known = np.isfinite(found[0].values)
    row, column = np.array(TURNED).reshape(2, 3)
    own = (places(found) - [10, 0, 1]) @ np.stack([row, column, [0, 0, 1]], axis=1)
    centred = ((own >= -1e-6) & (own <= np.array([45, 55, 14]) + 1e-6)).all(axis=-1)
    assert centred.sum() > 500
    assert known[centred].all()
    np.testing.assert_allclose(found[0].values[centred], field(places(found))[centred], atol=2e-3)
    outside = ((own < -2.51) | (own > np.array([47.51, 57.51, 15.01]))).any(axis=-1)
    assert outside.sum() > 500
    assert not known[outside].any()


def test_planes_at_uneven_distances_are_sampled_where_they_are(lake: Lake) -> None:
    (series,) = of(lake, 4)
    assert series.volumes[0].verdict == "irregular"
    found = common_grid([series], spacing=0.5, chunks=(5, 9, 20))
    inside = inner(found, (0, 0, 0), (9, 11, 14))
    assert inside.sum() > 1000
    np.testing.assert_allclose(found[0].values[inside], field(places(found))[inside], atol=2e-3)
    assert np.isnan(found[0].values[places(found)[..., 0] > 9.51]).all()


@pytest.mark.parametrize(("number", "even"), [(8, True), (9, False)])
def test_a_leaning_stack_keeps_its_lean(lake: Lake, number: int, even: bool) -> None:
    """Evenly spaced, then at uneven distances, where every step leans on its own."""
    (series,) = of(lake, number)
    assert (series.open().image.attrs.get("affine_lps") is not None) == even
    found = common_grid([series], spacing=0.5)
    at = places(found)
    own_y = at[..., 1] - 0.25 * at[..., 2]
    inside = (
        (own_y >= 0)
        & (own_y <= 11)
        & (at[..., 0] >= 0)
        & (at[..., 0] <= 9)
        & (at[..., 2] >= 0)
        & (at[..., 2] <= 14)
    )
    assert inside.sum() > 1000
    expected = field(at)[inside] * (1 if even else 4)
    np.testing.assert_allclose(found[0].values[inside], expected, atol=1e-2)


def test_a_tilted_gantry_is_undone_by_its_true_affine(lake: Lake) -> None:
    """Stored values count voxels, so that they are linear in the index that the true affine gives."""
    case = next(case for case in cases() if case.name == "gantry-tilt")
    (truth,) = case.volumes
    series = next(s for s in lake.query() if s.volumes[0].verdict == "sheared" and s.uid != uid(8))
    found = common_grid([series], spacing=2.0, units="stored")
    index = np.linalg.solve(
        np.array(truth.affine_lps)[:3, :3], (places(found) - np.array(truth.affine_lps)[:3, 3])[..., None]
    )[..., 0]
    inside = ((index >= 0) & (index <= np.array(truth.shape) - 1)).all(axis=-1)
    assert inside.sum() > 20
    counted = truth.first + index @ np.array([truth.shape[1] * truth.shape[2], truth.shape[2], 1.0])
    np.testing.assert_allclose(found[0].values[inside], counted[inside], atol=0.05)


# ---- against SimpleITK ---------------------------------------------------------------------------------


def whole(number: int, folder: Path) -> sitk.Image:
    """The series as SimpleITK reads it from its files."""
    for i, data in enumerate(FILES[number]):
        (folder / f"{i}.dcm").write_bytes(data)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return sitk.Cast(sitk.ReadImage(names), sitk.sitkFloat32)


def onto(image: sitk.Image, target: xr.DataArray, interpolator: int) -> np.ndarray:
    """SimpleITK's resampling of the whole image in one go."""
    affine = np.array(target.attrs["affine_lps"])
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    grid = sitk.Image([int(n) for n in target.shape[:0:-1]], sitk.sitkFloat32)
    grid.SetSpacing(steps[::-1].tolist())
    grid.SetOrigin(affine[:3, 3].tolist())
    grid.SetDirection((affine[:3, :3] / steps)[:, ::-1].ravel().tolist())
    return np.asarray(
        sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), interpolator, float("nan")))
    )


@pytest.mark.parametrize("number", [5, 6])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("spacing", [0.45, 1.9])
def test_block_by_block_is_what_simpleitk_makes_of_the_whole(
    lake: Lake, tmp_path: Path, number: int, interpolation: Any, spacing: float
) -> None:
    found = common_grid(of(lake, number), spacing=spacing, chunks=(5, 6, 7), interpolation=interpolation)
    kind = sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor
    expected = onto(whole(number, tmp_path), found, kind)
    ours = found[0].values
    known = np.isfinite(expected) & np.isfinite(ours)
    assert known.sum() > 150
    # a voxel whose centre lies on the very face of the volume may fall to either side
    assert (np.isfinite(expected) != np.isfinite(ours)).mean() < 0.02
    differing = ~np.isclose(ours[known], expected[known], atol=0.05)
    assert differing.mean() < (1e-9 if interpolation == "linear" else 0.02)  # ties of nearest: either is near


def test_a_slanted_reference_gives_its_own_grid(lake: Lake, tmp_path: Path) -> None:
    reference = of(lake, 6)[0]
    found = common_grid(of(lake, 5, 6), reference=reference, chunks=4)
    np.testing.assert_allclose(
        found.attrs["affine_lps"], np.array(reference.volumes[0].affine_lps), atol=1e-9
    )
    np.testing.assert_array_equal(found[1].values, reference.open().image.values)
    expected = onto(whole(5, tmp_path), found, sitk.sitkLinear)
    known = np.isfinite(expected)
    assert known.sum() > 100
    np.testing.assert_allclose(found[0].values[known], expected[known], atol=0.05)
    np.testing.assert_allclose(
        found.isel(series=1).dicom.affine, np.array(found.attrs["affine_lps"]), atol=1e-9
    )


def test_its_own_grid_gives_a_volume_back_bit_by_bit(lake: Lake) -> None:
    (series,) = of(lake, 5)
    found = common_grid([series], extent="first")
    np.testing.assert_array_equal(found[0].values, series.open().image.values)


def test_a_real_chest_is_what_simpleitk_makes_of_it_and_a_real_tilted_head_what_resampling_does(
    real_data: Path, tmp_path: Path
) -> None:
    with dicomlake.open(tmp_path / "l", create=True) as lake:
        lake.ingest(real_data / "ct-chest-lidc", real_data / "ct-tilt-ge", progress=False)
        (chest,) = [one for one in lake.query() if one.volumes[0].verdict == "regular"]
        (head,) = [one for one in lake.query() if one.volumes[0].verdict == "irregular"]
        found = common_grid([chest], spacing=2)
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(real_data / "ct-chest-lidc"), chest.uid)
        expected = onto(sitk.Cast(sitk.ReadImage(names), sitk.sitkFloat32), found, sitk.sitkLinear)
        np.testing.assert_allclose(found[0].values, expected, atol=1e-3)
        even = head.open().image.dicom.rescaled().dicom.resampled()
        ours = common_grid([head], reference=even)[0].values
        known = np.isfinite(even.values)  # not around the head, which has padding, nor beside the planes
        assert known.mean() > 0.5
        np.testing.assert_allclose(ours[known], even.values[known], atol=2e-3)


# ---- the grid ------------------------------------------------------------------------------------------


def test_union_and_intersection_are_the_boxes_of_the_voxels(lake: Lake) -> None:
    two = of(lake, 1, 2)  # x -0.5…9.5 and 1.5…11.5, y -0.5…11.5 and 0.5…12.5, z -1…15 and 2…18
    union, shared = common_grid(two, spacing=1), common_grid(two, spacing=1, extent="intersection")
    assert union.shape == (2, 19, 13, 12)
    assert [float(union[n][0]) for n in "zyx"] == [-0.5, 0.0, 0.0]
    assert shared.shape == (2, 13, 11, 8)
    assert [float(shared[n][0]) for n in "zyx"] == [2.5, 1.0, 2.0]
    assert not np.isnan(shared.values).any()
    assert np.isnan(union[0].values[-1]).all()


def test_volumes_that_share_nothing_are_refused_or_centred(lake: Lake) -> None:
    two = of(lake, 1, 7)
    with pytest.raises(GeometryError, match="align='centre'"):
        common_grid(two, extent="intersection")
    found = common_grid(two, extent="intersection", align="centre")
    assert found.shape == (2, 8, 12, 10)
    moved = np.stack([found[f"moved_{axis}"].values for axis in "xyz"], axis=1)
    np.testing.assert_allclose(moved, [[-4.5, -5.5, -7], [-504.5, -505.5, -507]])
    np.testing.assert_array_equal(found[0].values, of(lake, 1)[0].open().image.values)
    np.testing.assert_array_equal(found[1].values, of(lake, 7)[0].open().image.values)
    assert "centre" in found.attrs["align"]


def test_shape_and_spacing_say_how_many_voxels(lake: Lake) -> None:
    one = of(lake, 1)
    assert common_grid(one, shape=(4, 6, 5)).attrs["spacing_mm"] == pytest.approx([4, 2, 2])
    small = common_grid(one, shape=3, spacing=1)
    assert small.shape == (1, 3, 3, 3)
    assert [float(small[n].mean()) for n in "zyx"] == pytest.approx([7, 5.5, 4.5])
    for wrong in ({"spacing": 0}, {"shape": (1.5, 2, 2)}, {"spacing": (1, 2)}, {"chunks": 0}):
        with pytest.raises(ValueError, match=r"number|voxels"):
            common_grid(one, **wrong)


# ---- values --------------------------------------------------------------------------------------------


def test_smoothing_makes_a_point_as_wide_as_the_coarser_voxel() -> None:
    """The variance of a Gaussian is what it adds: (4² - 1) / (8 ln 2) of a source voxel's."""
    from dicomlake.cohorts.arrays.sampling import blur_sigmas, blurred

    sigmas = blur_sigmas(np.diag([4.0, 4.0, 1.0, 1.0]))
    assert sigmas == pytest.approx((1.6447, 1.6447, 0.0), abs=1e-4)
    point = np.zeros((31, 31, 31))
    point[15, 15, 15] = 1
    found = blurred(point, sigmas)
    at = np.arange(31) - 15
    assert found.sum() == pytest.approx(1)
    assert (found.sum(axis=(1, 2)) * at**2).sum() == pytest.approx(15 / (8 * np.log(2)), rel=1e-3)
    assert np.count_nonzero(found.sum(axis=(0, 1))) == 1


def test_smoothing_keeps_a_constant_beside_missing_voxels_and_does_not_depend_on_blocks(lake: Lake) -> None:
    from dicomlake.cohorts.arrays.sampling import blurred

    constant = np.full((9, 9, 9), 7.0)
    constant[3, 4, 5] = np.nan
    found = blurred(constant, (1.0, 2.0, 0.0))
    np.testing.assert_allclose(found[np.isfinite(found)], 7)
    assert np.isnan(found).sum() == 1
    cut, uncut = (common_grid(of(lake, 5), spacing=4, smooth=True, chunks=n) for n in (1, 99))
    np.testing.assert_allclose(cut.values, uncut.values, rtol=1e-5)
    plain = common_grid(of(lake, 5), spacing=4)
    assert float(cut.std()) < 0.8 * float(plain.std())


def test_padding_is_no_value_and_fill_takes_its_place(tmp_path: Path) -> None:
    def padded(points: np.ndarray) -> np.ndarray:
        return np.where(points[..., 0] > 5, 63536, 1000)

    with dicomlake.open(tmp_path / "l", create=True) as lake:
        lake.ingest(*stack(1, upright(4), values=padded, PixelPaddingValue=63536), progress=False)
        found = common_grid(lake.query(), spacing=(2, 1, 0.5))
        assert set(np.unique(found.values[np.isfinite(found.values)])) == {1000}
        filled = common_grid(lake.query(), spacing=(2, 1, 0.5), fill=-5, dtype=np.int16)
        assert filled.dtype == np.int16
        np.testing.assert_array_equal(filled.values, np.where(np.isnan(found.values), -5, 1000))
        with pytest.raises(ValueError, match="fill="):
            common_grid(lake.query(), dtype=np.int16)


# ---- what cannot be put on it ----------------------------------------------------------------------------


def mixed(root: Path) -> Lake:
    """A volume, one over time, colours, two sizes in one series, and an X-ray without geometry."""
    echoes = [
        objects.dicom(
            10 * e + n,
            series=uid(20),
            Modality="MR",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
            ImagePositionPatient=[0, 0, n],
            EchoTime=20 * e,
            EchoNumbers=e,
            RescaleIntercept=0,
        )
        for e, n in itertools.product((1, 2), (1, 2, 3))
    ]
    colours = [
        objects.dicom(
            n,
            series=uid(21),
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            RescaleSlope=None,
            RescaleIntercept=None,
            PixelData=bytes(16 * 16 * 3),
        )
        for n in (1, 2)
    ]
    sizes = [objects.dicom(n, series=uid(22), size=8) for n in (1, 2)]
    sizes += [objects.dicom(n, series=uid(22)) for n in (3, 4)]
    flat = [
        objects.dicom(
            1,
            series=uid(23),
            Modality="CR",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.1",
            ImagePositionPatient=None,
            ImageOrientationPatient=None,
        )
    ]
    lake = dicomlake.open(root / "l", create=True)
    lake.ingest(*objects.series(3, uid(19)), *echoes, *colours, *sizes, *flat, progress=False)
    return lake


def test_what_cannot_be_placed_is_nan_and_says_why_or_raises(tmp_path: Path) -> None:
    with mixed(tmp_path) as lake:
        five = of(lake, 19, 20, 21, 22, 23)
        found = common_grid(five, spacing=1)
        reasons = dict(zip(found.series.values.tolist(), found.failed.values.tolist(), strict=True))
        assert reasons[uid(19)] == ""
        for number, words in ((20, "echo (2)"), (21, "colour"), (22, "volume="), (23, "no z")):
            assert words in reasons[uid(number)]
        assert np.isnan(found.values[1:]).all()
        assert np.isfinite(found.values[0]).all()
        assert found.attrs["failed"] == 4
        with pytest.raises(GeometryError, match="echo"):
            common_grid(five, spacing=1, errors="raise")
        with pytest.raises(VolumeError, match="none of 1 series"):
            common_grid(of(lake, 21))
        second = common_grid(of(lake, 20), sel={"echo": 40}, extent="first")
        np.testing.assert_array_equal(second[0], of(lake, 20)[0].open().image.sel(echo=40))
        small = common_grid(of(lake, 22), volume=0)
        assert small.shape[0] == 1
        assert small.failed.item() == ""


def test_a_damaged_store_raises_with_the_series_and_never_gives_numbers(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "l", create=True) as lake:
        lake.ingest(*objects.series(3, uid(1)), *objects.series(3, uid(2)), progress=False)
        found = common_grid(lake.query())
        store = lake.path / str(lake.find(uid(2))[0].volumes[0].key)
        for file in (store / "scale0" / "image" / "c").rglob("*"):
            if file.is_file():
                file.unlink()
        with pytest.raises(VolumeError, match=uid(2)):
            found.mean("series").compute()
        assert np.isfinite(found.sel(series=[uid(1)]).mean("series").values).all()


# ---- cost ----------------------------------------------------------------------------------------------


def test_a_block_reads_only_what_lies_under_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = LazyArray.__getitem__

    def counted(self: LazyArray, key: Any) -> Any:
        found = plain(self, key)
        if self.path.endswith("image"):
            read.append(int(np.size(found)))
        return found

    monkeypatch.setattr(LazyArray, "__getitem__", counted)
    found = common_grid(of(lake, 1, 2), spacing=1, chunks=4)
    assert read == []
    found[0, :4, :4, :4].compute()
    assert len(read) == 1
    assert read[0] <= 5 * 7 * 7  # 960 voxels are in the volume
    far = found[0, -4:].compute()
    assert np.isnan(far[-3:]).all()


LARGE = """
import json, resource, sys
import dask
from dicomlake import open as open_lake
from dicomlake.cohorts.arrays.common_grid import common_grid

with open_lake(sys.argv[1]) as lake, dask.config.set(scheduler="threads", num_workers=2):
    image = common_grid(lake.query(), chunks=(16, 256, 256))
    image[0].mean().compute()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mean = image.mean("series").compute()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"grown": (after - before) * 1024, "all": image.nbytes, "value": float(mean.mean())}))
"""


def test_the_mean_of_a_cohort_takes_a_small_part_of_its_bytes(tmp_path: Path) -> None:
    count, slices, size = 16, 16, 384
    with dicomlake.open(tmp_path / "l", create=True) as lake:
        for number in range(1, count + 1):
            lake.ingest(
                *stack(
                    number,
                    upright(slices),
                    size=(size, size),
                    values=lambda points, n=number: np.full(points.shape[:2], 100 * n),
                ),
                progress=False,
            )
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "l")], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["value"] == pytest.approx(100 * (count + 1) / 2)
    assert told["all"] == count * slices * size * size * 4
    assert told["grown"] < told["all"] / 2


def test_the_array_can_be_sent_to_other_processes(lake: Lake) -> None:
    import cloudpickle

    found = common_grid(of(lake, 1, 4), spacing=2)
    sent = cloudpickle.loads(cloudpickle.dumps(found))
    np.testing.assert_array_equal(sent.values, found.values)


def test_a_grid_of_ones_own_is_taken(lake: Lake) -> None:
    own = Grid((2, 3, 4), np.array([[0.0, 0, 1, 2], [0, 1, 0, 3], [2, 0, 0, 4], [0, 0, 0, 1]]))
    found = common_grid(of(lake, 1), reference=own)
    assert found.shape == (1, 2, 3, 4)
    np.testing.assert_allclose(found[0].values, field(places(found)))
