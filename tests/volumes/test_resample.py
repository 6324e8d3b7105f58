"""Uneven planes on an even grid: a field that is linear in patient space must come out exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import GeometryError
from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

FIELD = np.array([0.3, -0.7, 1.1])  # value = FIELD · LPS + 5


def planes(
    positions: np.ndarray,
    row: tuple[float, float, float] = (1, 0, 0),
    column: tuple[float, float, float] = (0, 1, 0),
    size: tuple[int, int] = (9, 7),
    pixel: tuple[float, float] = (0.8, 0.5),
    chunks: dict | None = None,
) -> xr.DataArray:
    """Planes whose values are the linear field, described as an opened volume is."""
    r, c = np.asarray(row, float), np.asarray(column, float)
    n = np.cross(r, c)
    rows, columns = np.mgrid[: size[0], : size[1]]
    places = (
        positions[:, None, None]
        + c * (rows * pixel[0])[None, ..., None]
        + r * (columns * pixel[1])[None, ..., None]
    )
    origin = [float(positions[0] @ n), float(positions[0] @ c), float(positions[0] @ r)]
    coords = {
        "z": positions @ n,
        "y": origin[1] + pixel[0] * np.arange(size[0]),
        "x": origin[2] + pixel[1] * np.arange(size[1]),
        **{f"position_{name}": ("z", positions[:, i]) for i, name in enumerate("xyz")},
    }
    attrs = {
        "origin_mm": origin,
        "orientation": [*r, *c],
        "pixel_spacing_mm": list(pixel),
        "verdict": "irregular",
        "source": "stored",
    }
    found = xr.DataArray((places @ FIELD + 5).astype(np.float32), coords, ("z", "y", "x"), "image", attrs)
    return found.chunk(chunks) if chunks else found


def expected(image: xr.DataArray) -> np.ndarray:
    """The field at every voxel of the new grid, by its own affine."""
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    affine = image.dicom.affine
    return (index @ affine[:3, :3].T + affine[:3, 3]) @ FIELD + 5


def tilted(n: int, degrees: float) -> np.ndarray:
    return np.stack([[3.0, -2.0 + 2.0 * math.tan(math.radians(degrees)) * k, 10 + 2.0 * k] for k in range(n)])


def test_uneven_planes_become_even_and_keep_a_linear_field() -> None:
    heights = np.array([0, 4.22, 8.44, 9.58, 16.96, 24.34])
    image = planes(np.stack([np.full(6, 3.0), np.full(6, -2.0), heights], axis=1))
    found = image.dicom.resampled(1.5)
    assert found.attrs["verdict"] == "regular"
    assert found.shape == (17, 9, 7)
    np.testing.assert_allclose(found.values, expected(found), atol=1e-4)
    assert found.to_measured_mm.values[:3] == pytest.approx([0, 1.5, 1.22])


def test_a_tilted_stack_becomes_a_grown_box() -> None:
    image = planes(tilted(8, 19.3), chunks={"z": 3})
    found = image.dicom.resampled()
    grown = math.ceil(7 * 2 * math.tan(math.radians(19.3)) / 0.8)
    assert found.shape == (8, 9 + grown, 7)
    inside = np.isfinite(found.values)
    np.testing.assert_allclose(found.values[inside], expected(found)[inside], atol=1e-4)
    assert inside.any(axis=(0, 1)).all()
    assert inside.sum() >= 8 * 8 * 7  # at least all but one interpolated row of each slice
    assert found.dicom.to_sitk().GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))


def test_an_oblique_stack_keeps_its_axes() -> None:
    a, b = math.cos(0.4), math.sin(0.4)
    n = np.cross([a, b, 0], [0, 0, -1])
    image = planes(np.stack([n * h for h in (0, 1, 2, 4, 5)]), (a, b, 0), (0, 0, -1))
    found = image.dicom.resampled()
    assert found.sizes["z"] == 6
    np.testing.assert_allclose(found.values, expected(found), atol=1e-4)


def test_slices_of_a_leading_dimension_are_resampled_alike() -> None:
    image = planes(tilted(4, 10))
    together = xr.concat([image, image * 2], dim=xr.DataArray([1.0, 2.0], dims="echo", name="echo"))
    together.attrs = image.attrs
    found = together.dicom.resampled()
    alone = image.dicom.resampled()
    assert found.dims == ("echo", "z", "y", "x")
    np.testing.assert_allclose(found.isel(echo=1).values, 2 * alone.values, rtol=1e-6)


def test_padding_is_not_mixed_into_tissue() -> None:
    image = planes(tilted(5, 15))
    image[2, 4, 3] = -2000
    image.attrs["padding_value"] = -2000
    found = image.dicom.resampled().values
    assert np.nanmin(found) > -100
    assert np.isnan(found[2]).sum() > np.isnan(found[1]).sum()


def test_a_part_of_the_plane_is_resampled_where_it_lies() -> None:
    image = planes(tilted(6, 12))[:, 2:8, 1:6]
    found = image.dicom.resampled()
    inside = np.isfinite(found.values)
    np.testing.assert_allclose(found.values[inside], expected(found)[inside], atol=1e-4)


def test_every_second_pixel_is_a_coarser_grid() -> None:
    found = planes(tilted(6, 12))[:, 1::2, ::3].dicom.resampled()
    inside = np.isfinite(found.values)
    assert found.attrs["step_mm"][1:] == pytest.approx([1.6, 1.5])
    np.testing.assert_allclose(found.values[inside], expected(found)[inside], atol=1e-4)


def test_the_order_of_planes_and_of_axes_does_not_matter() -> None:
    image = planes(tilted(6, 12))
    wanted = image.dicom.resampled()
    for turned in (image[::-1], image.transpose("x", "z", "y")):
        found = turned.dicom.resampled()
        assert found.dims == ("z", "y", "x")
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.dicom.affine, wanted.dicom.affine)


def test_what_would_turn_rows_or_mix_planes_is_refused() -> None:
    image = planes(tilted(6, 12))
    with pytest.raises(GeometryError, match="reversed"):
        image[:, ::-1].dicom.resampled()
    with pytest.raises(GeometryError, match="order of their heights"):
        image[[0, 2, 1]].dicom.resampled()
    for step in (0, -1, math.nan):
        with pytest.raises(GeometryError, match="step_mm"):
            image.dicom.resampled(step)


def test_a_resampled_copy_of_a_level_is_a_volume_of_its_own() -> None:
    found = planes(tilted(6, 12)).assign_attrs(level=1).dicom.resampled(1.5)
    assert np.linalg.norm(found.isel(z=2).dicom.affine[:3, 0]) == pytest.approx(1.5)


def test_values_scaled_apart_are_rescaled_before_they_are_mixed() -> None:
    image = planes(np.stack([[0, 0, h] for h in (0.0, 1, 2, 4)]))
    slopes = np.array([1.0, 2, 4, 8])
    stored = (image / slopes[:, None, None]).assign_coords(rescale_slope=("z", slopes))
    stored.attrs = image.attrs
    found = stored.dicom.resampled()
    np.testing.assert_allclose(found.values, expected(found), rtol=1e-5)
    assert found.attrs["source"] == "rescaled"


def test_what_has_no_geometry_is_refused() -> None:
    with pytest.raises(GeometryError, match="parallel planes"):
        xr.DataArray(np.zeros((2, 3, 3)), dims=("frame", "y", "x")).dicom.resampled()
    palette = planes(tilted(3, 0))
    palette.attrs["photometric_interpretation"] = "PALETTE COLOR"
    with pytest.raises(GeometryError, match="palette"):
        palette.dicom.resampled()
