"""What `.dicom` says of an array, whatever slicing has left of it: by the headers, by hand, by SimpleITK.

Voxels lie where PS3.3 C.7.6.2.1.1 puts them: the truth is computed from the headers that were written.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr
from pydicom.dataset import Dataset

from dicomlake.errors import GeometryError, VolumeError
from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`
from tests import objects
from tests.volumes.oblique import COLUMN, FIRST, NORMAL, PIXEL, ROW, STEPS, opened, position, slices, voxels


@pytest.fixture(scope="module", params=STEPS)
def placed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    kind = request.param
    image = opened(tmp_path_factory.mktemp("lake") / "l", slices(kind)).load()
    assert image.attrs["verdict"] == {"oblique": "regular", "sheared": "sheared"}[kind]
    np.testing.assert_array_equal(image.values, voxels())
    return kind, image


def lies_true(kind: str, image: xr.DataArray) -> None:
    """Every voxel, told by its value, lies where the headers say."""
    affine = image.dicom.affine
    solid = image.expand_dims([d for d in "zyx" if d not in image.dims]).transpose("z", "y", "x")
    for index in np.ndindex(solid.shape):
        value = int(solid.values[index])
        wanted = position(kind, value // 1000, value % 1000 // 50, value % 50)
        np.testing.assert_allclose((affine @ [*index, 1])[:3], wanted, atol=1e-5)


SELECTIONS: dict[str, dict[str, Any]] = {
    "whole": {},
    "one slice": {"z": 3},
    "one voxel": {"z": 2, "y": 4, "x": 1},
    "a column": {"z": 1, "x": 6},
    "reversed": {"z": slice(None, None, -1)},
    "all reversed": {axis: slice(None, None, -1) for axis in "zyx"},
    "stepped": {"z": slice(1, None, 2), "y": slice(None, None, 3)},
    "stepped backwards": {"z": slice(None, None, -2), "x": slice(None, 0, -2)},
    "cropped": {"y": slice(2, 7), "x": slice(1, 4)},
    "picked evenly": {"z": [0, 2, 4], "x": [5, 3, 1]},
    "a slab of one": {"z": slice(4, 5)},
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_voxel_stays_in_its_place(name: str, placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    lies_true(kind, image.isel(SELECTIONS[name]))


def test_axes_in_another_order_change_nothing(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    lies_true(kind, image.transpose("x", "z", "y"))
    lies_true(kind, image.isel(z=slice(1, 4)).transpose("y", "x", "z"))


def test_selections_follow_one_another(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    lies_true(
        kind, image[::-1].isel(z=slice(1, None, 2))[:, 2:].isel(x=-1).sel(z=image.z[3], method="nearest")
    )


def test_z_runs_along_the_normal_and_affine_along_the_slices(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    assert np.diff(image.z.values) == pytest.approx(image.attrs["step_mm"][0])
    assert image.attrs["step_mm"][0] == pytest.approx(2.5)
    assert image.attrs["spacing_mm"][0] == pytest.approx(np.linalg.norm(STEPS[kind]))
    np.testing.assert_allclose(image.dicom.affine[:3, 0], STEPS[kind], atol=1e-6)
    np.testing.assert_allclose(image.dicom.affine_ras[:3], np.diag([-1, -1, 1]) @ image.dicom.affine[:3])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"z": [0, 1, 5]}, "not evenly spaced"),
        ({"y": [2, 2]}, "not evenly spaced"),
        ({"x": slice(0, 0)}, "empty along x"),
    ],
)
def test_a_selection_that_is_no_grid_is_refused(
    wrong: dict[str, Any], named: str, placed: tuple[str, xr.DataArray]
) -> None:
    _, image = placed
    with pytest.raises(GeometryError, match=named):
        _ = image.isel(wrong).dicom.affine


def test_an_array_that_lost_its_place_says_so(placed: tuple[str, xr.DataArray]) -> None:
    _, image = placed
    points = image.isel({axis: xr.DataArray([0, 1], dims="point") for axis in "zyx"})
    for lost in (image.drop_vars("y"), image.drop_attrs(), image.mean("z"), points):
        with pytest.raises(GeometryError, match="keep them"):
            _ = lost.dicom.affine
        with pytest.raises(GeometryError):
            _ = lost.dicom.grid


# ---- points ------------------------------------------------------------------------------------------


def test_a_point_finds_the_voxel_that_lies_there(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    index = np.array([[0, 0, 0], [5, 8, 6], [2, 7, 3], [4, 0, 5]])
    points = np.stack([position(kind, *i) for i in index])
    for turned in (image, image[::-1, :, ::-1], image.transpose("x", "y", "z")):
        found = turned.dicom.at_lps(*points.T)
        assert found.dims == ("point",)
        np.testing.assert_array_equal(found.values, voxels()[tuple(index.T)])
    near = np.stack([position(kind, *(i + np.array([0.4, -0.4, 0.45]))) for i in index])
    np.testing.assert_array_equal(image.dicom.at_lps(*near.T).values, voxels()[tuple(index.T)])
    one = image.dicom.at_lps(*points[2])
    assert (one.ndim, int(one)) == (0, 2353)


def test_linear_values_are_those_of_a_linear_field(placed: tuple[str, xr.DataArray]) -> None:
    """The phantom is linear in its index, so between voxels it is known as well."""
    kind, image = placed
    index = np.array([[0.25, 3.5, 2.75], [4.99, 7.01, 0.0], [5, 8, 6], [2, 2, 2]])
    points = np.stack([position(kind, *i) for i in index])
    wanted = index @ [1000, 50, 1]
    for turned in (image, image[::-1, ::-1], image.chunk({"z": 2})):
        found = turned.dicom.at_lps(*points.T, method="linear")
        np.testing.assert_allclose(found.values, wanted, rtol=1e-5)
    assert float(image.dicom.at_lps(*points[0], method="linear")) == pytest.approx(wanted[0])


def test_points_outside_or_nowhere_are_refused(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    edge = position(kind, -0.5, 8.5, 6.5)
    assert int(image.dicom.at_lps(*edge)) == 406
    for outside in (position(kind, -0.51, 0, 0), position(kind, 0, 8.6, 0), [math.nan, 0, 0], [1e9, 0, 0]):
        with pytest.raises(GeometryError, match="outside"):
            image.dicom.at_lps(*outside)
    with pytest.raises(GeometryError, match="outside"):
        image.isel(z=slice(2, 4)).dicom.at_lps(*position(kind, 4.6, 0, 0))
    with pytest.raises(ValueError, match="nearest or linear"):
        image.dicom.at_lps(*edge, method="cubic")


def test_points_keep_what_is_along_other_axes() -> None:
    image = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 2, 2),
        {"time": [5.0, 9.0], "z": [0.0, 1, 2], "y": [0.0, 1], "x": [0.0, 1]},
        ("time", "z", "y", "x"),
        attrs={
            "affine_lps": np.eye(4)[[2, 1, 0, 3]].tolist(),
            "origin_mm": [0.0] * 3,
            "step_mm": [1.0] * 3,
            "source": "stored",
        },
    )
    for method, wanted in (("nearest", [[11], [23]]), ("linear", [[11.0], [23.0]])):
        found = image.dicom.at_lps([1], [1], [2], method=method)
        assert found.dims == ("time", "point")
        assert found.values.tolist() == wanted
        assert found.time.values.tolist() == [5, 9]


def test_linear_values_beside_padding_are_nan_and_others_are_not(tmp_path: Path) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.add_new("PixelPaddingValue", "SS", 2050)  # the voxel (2, 1, 0)

    image = opened(tmp_path / "l", slices("oblique", change))
    at = image.dicom.at_lps
    assert math.isnan(at(*position("oblique", 2, 1, 0.5), method="linear"))
    assert float(at(*position("oblique", 2, 1, 1), method="linear")) == 2051
    assert float(at(*position("oblique", 2, 1.5, 1.5), method="linear")) == pytest.approx(2076.5)
    assert float(at(*position("oblique", 2, 0, 0), method="linear")) == 2000  # just above the padding
    assert int(at(*position("oblique", 2, 1, 0))) == 2050


# ---- levels, grids, SimpleITK --------------------------------------------------------------------------


def test_a_level_and_what_is_cut_from_it_lie_in_their_place(tmp_path: Path) -> None:
    """Each voxel of level 1 is the mean of 2 x 2 x 2: its centre is the mean of their centres."""
    image = opened(tmp_path / "l", [objects.dicom(n, size=300) for n in range(1, 8)], level=1)
    assert image.shape == (4, 150, 150)
    centre = np.array([1.5, 0.25, 0.25])  # z of slices 1 and 2, half a pixel of 0.5 mm
    for part, index in ((image, (0, 0, 0)), (image[1:2, 3:4, 5:6], (1, 3, 5)), (image[2, ::-1], (2, 149, 0))):
        z, y, x = centre + np.array(index) * (2, 1, 1)
        np.testing.assert_allclose(part.dicom.affine[:3, 3], [x, y, z])
        np.testing.assert_allclose(np.linalg.norm(part.dicom.affine[:3, :3], axis=0), [2, 1, 1])


def test_simpleitk_places_every_index_alike(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    image = image if kind == "oblique" else image.isel(z=slice(3, 4))  # one plane cannot lean
    for name in ("whole", "reversed", "all reversed", "cropped", "one slice", "a column"):
        wanted = (
            SELECTIONS[name] if kind == "oblique" else {k: v for k, v in SELECTIONS[name].items() if k != "z"}
        )
        part = image.isel(wanted)
        theirs, affine = part.dicom.to_sitk(), part.dicom.affine
        solid = part.expand_dims([d for d in "zyx" if d not in part.dims]).transpose("z", "y", "x")
        assert theirs.GetSize() == solid.shape[::-1]
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(theirs), solid.values)
        for index in np.ndindex(solid.shape):
            point = theirs.TransformIndexToPhysicalPoint(index[::-1])
            np.testing.assert_allclose(point, (affine @ [*index, 1])[:3], atol=1e-6)


def test_simpleitk_interpolates_alike(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    if kind == "sheared":
        with pytest.raises(GeometryError, match="sheared"):
            image.dicom.to_sitk()
        return
    theirs = image.astype(np.float32).assign_attrs(image.attrs).dicom.to_sitk()
    points = np.stack([position(kind, *i) for i in ([0.2, 1.7, 3.3], [4.5, 6.25, 0.9])])
    wanted = [theirs.EvaluateAtPhysicalPoint(p.tolist(), sitk.sitkLinear) for p in points]
    np.testing.assert_allclose(image.dicom.at_lps(*points.T, method="linear"), wanted, rtol=1e-5)


def test_a_left_handed_part_is_left_handed_in_simpleitk(placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    if kind == "oblique":
        direction = np.reshape(image[::-1].dicom.to_sitk().GetDirection(), (3, 3))
        assert np.linalg.det(direction) == pytest.approx(-1)
        assert np.linalg.det(np.reshape(image.dicom.to_sitk().GetDirection(), (3, 3))) == pytest.approx(1)


def test_a_lean_that_the_verdict_forgives_is_forgiven_by_simpleitk(tmp_path: Path) -> None:
    """5 slices that drift by 0.02 mm in all are regular: less than a tenth of a pixel."""

    def change(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [f"{v:.9g}" for v in position("oblique", k, 0, 0) + k * 0.004 * ROW]

    image = opened(tmp_path / "l", slices("oblique", change))
    assert image.attrs["verdict"] == "regular"
    theirs = image.dicom.to_sitk()
    direction = np.reshape(theirs.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    last = theirs.TransformIndexToPhysicalPoint((6, 8, 5))
    np.testing.assert_allclose(last, (image.dicom.affine @ [5, 8, 6, 1])[:3], atol=0.021)


def test_bool_and_colour_go_to_simpleitk(placed: tuple[str, xr.DataArray]) -> None:
    _, image = placed
    one = image.isel(z=2)
    mask = (one > 2100).assign_attrs(image.attrs)
    theirs = mask.dicom.to_sitk()
    assert theirs.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs)[0], mask.values)
    colour = xr.concat([one % 7, one % 11, one % 13], "rgb").astype(np.uint8).assign_attrs(image.attrs)
    theirs = colour.dicom.to_sitk()
    assert theirs.GetNumberOfComponentsPerPixel() == 3
    assert theirs.GetPixel(3, 5, 0) == tuple(int(v) for v in colour[:, 5, 3])
    extra = xr.concat([one, one], "time").assign_attrs(image.attrs)
    with pytest.raises(GeometryError, match="select one of time"):
        extra.dicom.to_sitk()


def test_the_grid_is_that_of_the_selection(placed: tuple[str, xr.DataArray]) -> None:
    _, image = placed
    for part in (image, image[::-1, 2:5], image.isel(z=4)):
        grid = part.dicom.grid
        np.testing.assert_array_equal(grid.affine, part.dicom.affine)
        assert grid.positions is None
        assert grid.instance_uids == tuple(np.atleast_1d(part.instance_uid.values))
        assert grid.shape == tuple(part.sizes.get(d, 1) for d in "zyx")
        assert grid.frame_of_reference_uid == image.attrs["frame_of_reference_uid"]
    uids = [uid.rsplit(".", 1)[1] for uid in image[::-1].dicom.grid.instance_uids]
    assert uids == ["6", "5", "4", "3", "2", "1"]


HEIGHTS = [0.0, 2.0, 4.0, 9.0, 12.5, 16.0]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    def change(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [f"{v:.9g}" for v in FIRST + HEIGHTS[k] * NORMAL]

    return opened(tmp_path_factory.mktemp("lake") / "l", slices("oblique", change)).load()


def test_uneven_planes_have_a_grid_of_positions(uneven: xr.DataArray) -> None:
    assert uneven.attrs["verdict"] in ("irregular", "missing_slices")
    assert np.diff(uneven.z.values) == pytest.approx(np.diff(HEIGHTS))
    with pytest.raises(GeometryError, match="grid='resample'"):
        _ = uneven.dicom.affine
    for part in (uneven, uneven[::-2, 3:, ::-1], uneven.isel(z=[0, 3])):
        grid = part.dicom.grid
        for k, value in enumerate(part.values[:, 0, 0].astype(int)):
            wanted = FIRST + HEIGHTS[value // 1000] * NORMAL
            wanted = wanted + value % 1000 // 50 * PIXEL[0] * COLUMN + value % 50 * PIXEL[1] * ROW
            np.testing.assert_allclose(grid.origins[k], wanted, atol=1e-6)
        step = part.y.values[1] - part.y.values[0]
        np.testing.assert_allclose(grid.affine[:3, 1], COLUMN * step, atol=1e-9)


def test_the_even_part_of_uneven_planes_has_an_affine(uneven: xr.DataArray) -> None:
    for part, step, first in ((uneven[:3], 2.0, 0), (uneven[5:2:-1], -3.5, 5), (uneven[:4:2], 4.0, 0)):
        affine = part.dicom.affine
        np.testing.assert_allclose(affine[:3, 0], step * NORMAL, atol=1e-6)
        np.testing.assert_allclose(affine[:3, 3], FIRST + HEIGHTS[first] * NORMAL, atol=1e-6)
    assert uneven.isel(z=3).dicom.to_sitk().GetOrigin() == pytest.approx(tuple(FIRST + 9 * NORMAL))


def test_frames_without_geometry_have_none(tmp_path: Path) -> None:
    image = opened(tmp_path / "l", [objects.dicom(ImagePositionPatient=None)])
    for ask in (
        lambda: image.dicom.affine,
        lambda: image.dicom.grid,
        image.dicom.to_sitk,
        image.dicom.resampled,
    ):
        with pytest.raises(GeometryError):
            ask()


# ---- elsewhere ---------------------------------------------------------------------------------------


def test_nrrd_is_read_back_by_simpleitk(tmp_path: Path, placed: tuple[str, xr.DataArray]) -> None:
    kind, image = placed
    if kind == "sheared":
        with pytest.raises(GeometryError, match="sheared"):
            image.dicom.to_nrrd(tmp_path / "a.nrrd")
        return
    path = image[::-1].dicom.to_nrrd(tmp_path / "a.nrrd")
    theirs = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), voxels()[::-1])
    np.testing.assert_allclose(
        theirs.TransformIndexToPhysicalPoint((4, 2, 1)), position(kind, 4, 2, 4), atol=1e-6
    )


def test_verify_needs_the_store_that_the_array_came_from(tmp_path: Path) -> None:
    image = opened(tmp_path / "l", slices("oblique"))
    assert image.dicom.verify() == []
    assert image.isel(z=2).dicom.verify() == []
    with pytest.raises(VolumeError, match="open the series again"):
        image.dicom.rescaled().dicom.verify()
