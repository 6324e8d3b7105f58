"""Rigid registration against motions that SimpleITK made."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr
from scipy.ndimage import gaussian_filter

from dicomlake.errors import GeometryError
from dicomlake.widgets.compare.registration import Stopped, register


def phantom(spacing: tuple[float, float, float] = (3.0, 2.0, 2.0)) -> sitk.Image:
    """Blobs of different sizes, nowhere symmetric; spacing z, y, x."""
    rng = np.random.default_rng(3)
    shape = tuple(int(180 / s) for s in spacing)
    z, y, x = np.meshgrid(
        *(np.arange(n) * s - 90 for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    values = 300.0 * ((x / 70) ** 2 + (y / 55) ** 2 + (z / 75) ** 2 < 1)
    for _ in range(25):
        cx, cy, cz = rng.uniform(-45, 45, 3)
        values += rng.uniform(-250, 500) * (
            ((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) < rng.uniform(6, 16) ** 2
        )
    values = gaussian_filter(values, [2.0 / s for s in spacing]) - 1000 + rng.normal(0, 8, shape)
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((-90.0, -90.0, -90.0))
    return image


def array_of(image: sitk.Image, frame: str = "1.2.3") -> xr.DataArray:
    """As dicomlake opens a volume."""
    spacing = np.array(image.GetSpacing())[::-1]
    direction = np.reshape(image.GetDirection(), (3, 3))[:, ::-1]
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = image.GetOrigin()
    values = sitk.GetArrayFromImage(image)
    coords = {d: np.arange(n) * s for d, n, s in zip("zyx", values.shape, spacing, strict=True)}
    attrs = {
        "affine_lps": affine.tolist(),
        "origin_mm": [0.0, 0.0, 0.0],
        "step_mm": spacing.tolist(),
        "spacing_mm": spacing.tolist(),
        "frame_of_reference_uid": frame,
        "modality": "CT",
        "units": "HU",
    }
    return xr.DataArray(values, dims=("z", "y", "x"), coords=coords, attrs=attrs)


def moved(
    image: sitk.Image, degrees: tuple[float, float, float], shift: tuple[float, float, float]
) -> tuple[sitk.Image, sitk.Euler3DTransform]:
    """The image after a motion, and that motion: where a point of the first lies in the second."""
    motion = sitk.Euler3DTransform((5.0, -3.0, 2.0), *np.radians(degrees), shift)
    return sitk.Resample(image, image, motion.GetInverse(), sitk.sitkLinear, -1000.0), motion


@pytest.mark.parametrize(
    ("degrees", "shift"),
    [
        ((4.0, -3.0, 8.0), (7.0, -12.0, 5.0)),
        ((0.0, 0.0, -12.0), (-20.0, 4.0, 15.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_a_known_motion_is_found_within_a_voxel_and_a_degree(
    degrees: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    fixed = phantom()
    moving, truth = moved(fixed, degrees, shift)
    found = register(array_of(fixed), array_of(moving, "4.5.6"))
    corners = np.array(np.meshgrid(*[(-50.0, 50.0)] * 3)).reshape(3, -1).T
    expected = np.array([truth.TransformPoint(point.tolist()) for point in corners])
    assert np.linalg.norm(found.to_moving(corners) - expected, axis=1).max() < 0.5  # a voxel is 2 to 3
    turn = found.transform_mm[:3, :3] @ np.reshape(truth.GetMatrix(), (3, 3)).T
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 1.0
    assert np.linalg.norm(found.to_fixed(found.to_moving(corners)) - corners) < 1e-9


def test_the_same_call_gives_the_same_motion() -> None:
    fixed = phantom((4.0, 3.0, 3.0))
    moving, _ = moved(fixed, (2.0, 0.0, 3.0), (4.0, 0.0, -3.0))
    first, second = (register(array_of(fixed), array_of(moving)).transform_mm for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_other_spacing_and_contrast_do_not_hinder() -> None:
    fixed, finer = phantom((5.0, 2.0, 2.0)), phantom((2.5, 1.5, 1.5))
    fixed = sitk.Resample(finer, fixed)
    moving, truth = moved(finer, (0.0, 3.0, 5.0), (6.0, 8.0, -4.0))
    found = register(array_of(fixed), array_of(-0.5 * moving + 70.0))
    points = np.array([[0.0, 0, 0], [40, 0, 0], [0, 40, 0], [0, 0, 40]])
    expected = np.array([truth.TransformPoint(point.tolist()) for point in points])
    assert np.linalg.norm(found.to_moving(points) - expected, axis=1).max() < 2.5


def test_a_prior_that_covers_a_part_is_found_as_well() -> None:
    fixed = phantom()
    moving, truth = moved(fixed, (2.0, -3.0, 5.0), (9.0, -6.0, 12.0))
    lower = moving[:, :, : moving.GetSize()[2] * 2 // 3]
    found = register(array_of(fixed), array_of(lower))
    points = np.array([[0.0, 0, -20], [40, 0, -30], [0, 40, -10], [0, 0, -50]])
    expected = np.array([truth.TransformPoint(point.tolist()) for point in points])
    assert np.linalg.norm(found.to_moving(points) - expected, axis=1).max() < 1.5
    assert 0.5 < found.overlap < 0.75


def test_images_without_anything_in_common_are_refused() -> None:
    flat = array_of(phantom((5.0, 4.0, 4.0))) * 0.0
    flat.attrs = array_of(phantom((5.0, 4.0, 4.0))).attrs
    with pytest.raises(GeometryError, match="nothing in common"):
        register(flat, flat)


def test_progress_is_told_and_the_table_has_units() -> None:
    fixed = phantom((5.0, 4.0, 4.0))
    told: list[float] = []
    found = register(array_of(fixed), array_of(fixed), told=lambda part, _text: told.append(part))
    assert told == sorted(told)
    assert told[-1] == 1.0
    table = found.table().set_index("quantity")
    assert table.loc["rotation", "unit"] == "degrees"
    assert table.loc["overlap", "value"] > 0.9
    assert found.frames[0] == found.frames[1] != ""


def test_a_registration_can_be_stopped() -> None:
    fixed = array_of(phantom((5.0, 4.0, 4.0)))
    with pytest.raises(Stopped):
        register(fixed, fixed, stop=lambda: True)


def test_an_image_without_geometry_is_refused_by_name() -> None:
    fixed = array_of(phantom((5.0, 4.0, 4.0)))
    with pytest.raises(GeometryError, match="moving image cannot be registered: this array has no geometry"):
        register(fixed, xr.DataArray(np.zeros((5, 6, 7)), dims=("z", "y", "x")))


def test_too_few_planes_are_refused_with_their_number() -> None:
    fixed = array_of(phantom((5.0, 4.0, 4.0)))
    with pytest.raises(GeometryError, match="fixed image has 3 along z"):
        register(fixed.isel(z=slice(0, 3)), fixed)
