"""Planes at any angle against SimpleITK; slabs against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr
from scipy.spatial.transform import Rotation

from dicomlake.errors import GeometryError, VolumeError
from dicomlake.widgets.images import memory, slabs
from dicomlake.widgets.images import stack as stack_module
from dicomlake.widgets.images.stack import Stack
from tests.widgets.images_support import affine_of, image_on, voxels

SHAPE = (21, 30, 26)


def smooth(dtype: Any = np.int16) -> np.ndarray:
    """Values that differ everywhere and are not linear."""
    z, y, x = np.indices(SHAPE)
    values = 2000 + 900 * np.sin(z / 3) * np.cos(y / 4) + 500 * np.sin(x / 2 + z / 5)
    return np.asarray(values.astype(dtype))


def tilted(seed: int, handed: int = 1) -> np.ndarray:
    turn = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, 0.4, 3)).as_matrix()
    return affine_of(turn @ np.eye(3)[:, ::-1] * (handed, 1, 1), (2.0, 0.75, 0.5))


def by_sitk(
    image: xr.DataArray,
    center: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    spacing: float,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The same plane by SimpleITK, float32; and whether each pixel is inside the volume."""
    rows, cols = size
    source = sitk.Cast(image.dicom.to_sitk(), sitk.sitkFloat32)
    target = sitk.ResampleImageFilter()
    target.SetSize((cols, rows, 1))
    target.SetOutputSpacing((spacing, spacing, 1.0))
    origin = center - v * spacing * (rows - 1) / 2 - u * spacing * (cols - 1) / 2
    target.SetOutputOrigin(origin.tolist())
    target.SetOutputDirection(np.stack([u, v, np.cross(u, v)], axis=1).ravel().tolist())
    target.SetInterpolator(sitk.sitkLinear)
    target.SetDefaultPixelValue(float("nan"))
    found = sitk.GetArrayFromImage(target.Execute(source))[0]
    return found, ~np.isnan(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("handed", [1, -1])
def test_an_oblique_plane_is_that_of_simpleitk(seed: int, handed: int) -> None:
    image = image_on(tilted(seed, handed), smooth(np.float32))
    stack, rng = Stack.of(image), np.random.default_rng(seed + 50)
    turn = Rotation.from_rotvec(rng.normal(0, 2, 3)).as_matrix()
    u, v = turn[:, 0], turn[:, 1]
    assert stack.affine is not None
    center = (stack.affine @ [*(np.array(SHAPE) / 2 + rng.normal(0, 3, 3)), 1])[:3]
    size = (41, 57)
    wanted, inside = by_sitk(image, center, u, v, 0.6, size)
    found = stack.oblique(center, 2 * u, v, 0.6, size)  # lengths of u and v do not matter
    assert found.dtype == np.float32
    assert 200 < inside.sum() < inside.size
    np.testing.assert_allclose(found[inside], wanted[inside], atol=0.02)
    np.testing.assert_allclose(found[~inside], stack.lowest())


def test_whole_numbers_are_rounded_to_the_nearest() -> None:
    image = image_on(tilted(3), smooth(), rescale_slope=2.0, source="stored", units="HU", modality="CT")
    stack = Stack.of(image)
    assert stack.affine is not None
    center, u, v = (stack.affine @ [10, 15, 13, 1])[:3], np.array([1.0, 0, 0]), np.array([0, 0.6, 0.8])
    wanted, inside = by_sitk(image, center, u, v, 0.7, (40, 40))
    found = stack.oblique(center, u, v, 0.7, (40, 40))
    assert found.dtype == np.int16
    assert np.abs(found[inside] - wanted[inside]).max() <= 0.502
    assert (found[~inside] == smooth().min()).all()


def test_a_plane_along_the_axes_is_the_plane_of_the_array() -> None:
    stack = Stack.of(image_on(affine_of(np.eye(3)[:, ::-1], (2.0, 0.5, 0.5)), voxels((9, 8, 10))))
    plane = stack.planes["axial"]
    assert plane.to_lps is not None
    center = (plane.to_lps @ [4, (plane.rows - 1) / 2, (plane.cols - 1) / 2, 1])[:3]
    found = stack.oblique(center, (1, 0, 0), (0, 1, 0), 0.5, (plane.rows, plane.cols))
    np.testing.assert_array_equal(found, stack.run("axial", 4, 1)[0])


def test_a_leaning_volume_is_cut_where_its_voxels_lie() -> None:
    affine = affine_of(np.eye(3)[:, ::-1], (2.0, 0.5, 0.5))
    affine[1, 0] = 0.9  # each slice lies further back
    index = np.indices((12, 40, 30)).reshape(3, -1)
    ramp = (affine[:3] @ np.vstack([index, np.ones(index.shape[1])]))[1].reshape(12, 40, 30)  # y in mm
    stack = Stack.of(image_on(affine, ramp.astype(np.float32)))
    center = (affine @ [5.5, 20, 15, 1])[:3]
    found = stack.oblique(center, (0, 1, 0), (0, 0, -1), 0.5, (9, 9))
    np.testing.assert_allclose(found, np.tile(center[1] + 0.5 * np.arange(-4, 5), (9, 1)), atol=1e-4)


@pytest.mark.parametrize("mode", slabs.MODES)
def test_an_oblique_slab_is_the_projection_of_its_planes(mode: str) -> None:
    stack = Stack.of(image_on(tilted(1), smooth(np.float32)))
    assert stack.affine is not None
    center, u, v = (stack.affine @ [10, 15, 13, 1])[:3], np.array([1.0, 0, 0]), np.array([0, 0.6, 0.8])
    found = stack.oblique(center, u, v, 0.5, (12, 12), slab_mm=3.0, slab_mode=mode)
    offsets = np.linspace(-1.5, 1.5, 7)  # half a millimetre apart, as the smallest voxel edge
    planes = np.stack([stack.oblique(center + np.cross(u, v) * o, u, v, 0.5, (12, 12)) for o in offsets])
    wanted = getattr(planes, mode)(axis=0)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_plane_beside_the_volume_is_empty_and_colours_are_interpolated_each_for_itself() -> None:
    affine = affine_of(np.eye(3)[:, ::-1], (1.0, 1.0, 1.0))
    grey = Stack.of(image_on(affine, voxels() + 7))
    far = grey.oblique((900.0, 0, 0), (1, 0, 0), (0, 1, 0), 1.0, (5, 4))
    assert far.shape == (5, 4)
    assert (far == 7).all()
    plain = image_on(affine, voxels().astype(np.uint8))
    colours = xr.concat([plain, plain + 1, plain * 0], "rgb").transpose("z", "y", "x", "rgb").astype(np.uint8)
    stack = Stack.of(colours.assign_attrs(plain.attrs))
    center = (affine @ [1, 2, 2, 1])[:3]
    found = stack.oblique(center, (1, 0, 0), (0, 1, 0), 1.0, (3, 3))
    np.testing.assert_array_equal(found, colours.values[1, 1:4, 1:4])


def test_planes_that_make_no_sense_are_refused() -> None:
    stack = Stack.of(image_on(tilted(1), smooth()))
    good: dict[str, Any] = {
        "center_mm": (0, 0, 0), "u": (1, 0, 0), "v": (0, 1, 0), "spacing_mm": 1.0, "shape": (4, 4)
    }  # fmt: skip
    stack.oblique(**good)
    for wrong in (
        {"u": (0, 0, 0)},
        {"u": (1, 0)},
        {"v": (1, 1, 0)},
        {"v": (0, float("nan"), 0)},
        {"center_mm": (0, float("inf"), 0)},
        {"spacing_mm": 0},
        {"spacing_mm": float("nan")},
        {"shape": (4, 100_000)},
        {"shape": (0, 4)},
    ):
        with pytest.raises(GeometryError):
            stack.oblique(**(good | wrong))
    with pytest.raises(GeometryError, match="no even geometry"):
        Stack.of(xr.DataArray(voxels(), dims=("z", "y", "x"))).oblique(**good)
    with pytest.raises(VolumeError, match="max, min or mean"):
        stack.oblique(**good, slab_mode="sum")


def test_of_a_volume_above_the_bound_only_what_the_plane_crosses_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = memory.Memory(smooth().nbytes // 2)
    monkeypatch.setattr(stack_module, "MEMORY", own)
    lazy = image_on(tilted(2), smooth()).chunk({"z": 4})
    stack, whole = Stack.of(lazy), Stack.of(lazy.compute())
    assert stack.affine is not None
    center = (stack.affine @ [10, 15, 13, 1])[:3]
    found = stack.oblique(center, stack.affine[:3, 2], stack.affine[:3, 1], 0.3, (20, 20))
    np.testing.assert_array_equal(
        found, whole.oblique(center, stack.affine[:3, 2], stack.affine[:3, 1], 0.3, (20, 20))
    )


# ---- slabs along the axes ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.float32])
@pytest.mark.parametrize("mode", slabs.MODES)
@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal"])
def test_a_slab_is_the_projection_of_the_planes_within_half_of_it(name: str, mode: str, dtype: Any) -> None:
    values = np.random.default_rng(4).integers(0, 255, SHAPE).astype(dtype)
    stack = Stack.of(image_on(affine_of(np.eye(3)[:, ::-1], (2.0, 0.75, 0.5)), values))
    plane = stack.planes[name]
    thick = 4 * plane.step_mm  # two planes on either side, just so
    shown = plane.displayed(values).astype(np.float64)
    for start in (0, 7, plane.count - 3):
        found = stack.run(name, start, 3, slab_mm=thick, slab_mode=mode)
        assert found.dtype == dtype
        for k in range(3):
            part = shown[max(start + k - 2, 0) : start + k + 3]
            wanted = getattr(part, mode)(axis=0)
            if mode == "mean" and np.dtype(dtype).kind in "iu":
                wanted = np.rint(wanted)
            np.testing.assert_allclose(found[k], wanted, rtol=1e-6)


def test_a_slab_thinner_than_two_steps_is_the_plane_itself() -> None:
    stack = Stack.of(image_on(affine_of(np.eye(3)[:, ::-1], (2.0, 0.75, 0.5)), smooth()))
    for thick, same in ((0.0, True), (3.9, True), (4.0, False)):
        found = stack.run("axial", 5, 1, slab_mm=thick)
        assert np.array_equal(found, stack.run("axial", 5, 1)) == same


@pytest.mark.parametrize("thick", [1e12, float("inf"), float("nan"), -3.0])
def test_a_slab_of_any_thickness_is_that_of_the_volume_or_none(thick: float) -> None:
    stack = Stack.of(image_on(tilted(2), smooth()))
    assert stack.affine is not None
    whole = smooth().max(axis=0) if thick > 0 else smooth()[3]
    np.testing.assert_array_equal(stack.run("axial", 3, 1, slab_mm=thick)[0], _shown(stack, whole))
    center = (stack.affine @ [10, 15, 13, 1])[:3]
    assert stack.oblique(center, (1, 0, 0), (0, 1, 0), 2.0, (4, 4), slab_mm=thick).shape == (4, 4)


def _shown(stack: Stack, values: np.ndarray) -> np.ndarray:
    return stack.planes["axial"].displayed(values[None])[0]


@pytest.mark.parametrize("mode", slabs.MODES)
def test_padding_counts_only_where_there_is_nothing_else(mode: str) -> None:
    values = np.array([5, -2000, 7, -2000, -2000], np.int16)[:, None, None] * np.ones((1, 2, 2), np.int16)
    image = image_on(affine_of(np.eye(3)[:, ::-1], (1.0, 1, 1)), values, padding_value=-2000, source="stored")
    found = Stack.of(image).run("axial", 0, 5, slab_mm=2, slab_mode=mode)[:, 0, 0]
    wanted = {"max": [5, 7, 7, 7, -2000], "min": [5, 5, 7, 7, -2000], "mean": [5, 6, 7, 7, -2000]}[mode]
    assert found.tolist() == wanted
    floating = np.where(values == -2000, np.nan, values).astype(np.float32)
    found = slabs.projected(floating, 0, 5, 1, mode, None)[:, 0, 0]
    np.testing.assert_array_equal(found, [np.nan if w == -2000 else w for w in wanted])


@pytest.mark.parametrize("mode", slabs.MODES)
def test_padding_takes_no_part_in_a_plane_at_any_angle(mode: str) -> None:
    """A slab of minima showed the padding, and a plane beside it values that nobody measured."""
    values = np.full((9, 9, 9), 100, np.int16)
    values[3] = -2000
    image = image_on(affine_of(np.eye(3)[:, ::-1], (1.0, 1, 1)), values, padding_value=-2000, source="stored")
    stack = Stack.of(image)
    assert stack.affine is not None
    centre = (stack.affine @ [4, 4, 4, 1])[:3]
    thick = stack.oblique(centre, (1, 0, 0), (0, 1, 0), 1.0, (5, 5), slab_mm=4, slab_mode=mode)
    np.testing.assert_array_equal(thick, 100)
    near = (stack.affine @ [3.6, 4, 4, 1])[:3]
    np.testing.assert_array_equal(stack.oblique(near, (1, 0, 0), (0, 1, 0), 1.0, (5, 5)), 100)
    within = (stack.affine @ [3, 4, 4, 1])[:3]
    np.testing.assert_array_equal(stack.oblique(within, (1, 0, 0), (0, 1, 0), 1.0, (5, 5)), stack.lowest())
