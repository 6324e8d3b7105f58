"""What marks measure equals what numpy, matplotlib and brute force say of the same pixels and places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from skimage.draw import polygon2mask

from tests.widgets.marks_support import OBLIQUE, Marker, affine, ct_on, noise

SHAPE = (6, 40, 50)
PLANES = {  # name: how its planes lie in an axial array (z, y, x), as displayed
    "axial": lambda v, n: v[n],
    "coronal": lambda v, n: v[::-1, n],
    "sagittal": lambda v, n: v[::-1, :, n],
}


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return noise(SHAPE)


@pytest.fixture
def marker(values: np.ndarray) -> Marker:
    return Marker(ct_on(values))


def hu(values: np.ndarray) -> np.ndarray:
    return values.astype(float) * 2 - 1000


def equals(stats: dict[str, Any], inside: np.ndarray) -> None:
    """The numbers of some values, as numpy has them."""
    assert stats["count"] == inside.size
    found = [stats[name] for name in ("mean", "sd", "min", "max", "median")]
    wanted = [np.mean(inside), np.std(inside), np.min(inside), np.max(inside), np.median(inside)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-9)
    assert stats["units"] == "HU"


@pytest.mark.parametrize("plane", list(PLANES))
@pytest.mark.parametrize("seed", range(6))
def test_an_ellipse_measures_the_pixels_whose_centres_satisfy_its_equation(
    marker: Marker, values: np.ndarray, plane: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shown = hu(PLANES[plane](values, 3))
    a, b = rng.uniform(0, np.array(shown.shape) - 1, (2, 2)) + np.array([[-0.4, 0], [0, 0.3]])
    (r0, c0), (r1, c1) = a, b
    row, col = np.mgrid[: shown.shape[0], : shown.shape[1]]
    away = ((row - (r0 + r1) / 2) / ((r1 - r0) / 2)) ** 2 + ((col - (c0 + c1) / 2) / ((c1 - c0) / 2)) ** 2
    stats = marker.stats("ellipse", [a, b], plane=plane, index=3)
    if (away <= 1).any():
        equals(stats, shown[away <= 1])
    spacing = {"axial": 0.75 * 0.5, "coronal": 2.5 * 0.5, "sagittal": 2.5 * 0.75}[plane]
    assert stats["area_mm2"] == pytest.approx(np.pi / 4 * abs((r1 - r0) * (c1 - c0)) * spacing)
    assert stats["pixels_mm2"] == pytest.approx((away <= 1).sum() * spacing)


@pytest.mark.parametrize("plane", list(PLANES))
@pytest.mark.parametrize("seed", range(8))
def test_a_polygon_measures_the_pixels_that_matplotlib_and_skimage_find_inside(
    marker: Marker, values: np.ndarray, plane: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shown = hu(PLANES[plane](values, 2))
    center, n = np.array(shown.shape) / 2, int(rng.integers(3, 15))
    turn = np.sort(rng.uniform(0, 2 * np.pi, n))
    reach = rng.uniform(0.3, 0.95, n)[:, None] * center
    points = center + reach * np.column_stack([np.sin(turn), np.cos(turn)]) - 0.5
    row, col = np.mgrid[: shown.shape[0], : shown.shape[1]]
    centres = np.column_stack([row.ravel(), col.ravel()])
    inside = Outline(points).contains_points(centres).reshape(shown.shape)
    np.testing.assert_array_equal(inside, polygon2mask(shown.shape, points))  # the two agree off edges
    for tool in ("polygon", "freehand"):
        stats = marker.stats(tool, points, plane=plane, index=2)
        if inside.any():
            equals(stats, shown[inside])
        else:
            assert (stats["count"], stats["mean"]) == (0, None)


def test_a_rectangle_measures_its_pixels_and_its_own_area(marker: Marker, values: np.ndarray) -> None:
    stats = marker.stats("rectangle", [[30.5, 5.5], [10.5, 20.25]], plane="axial", index=1)
    equals(stats, hu(values[1, 11:31, 6:21]).ravel())
    assert stats["area_mm2"] == pytest.approx(20 * 14.75 * 0.75 * 0.5)
    assert stats["pixels_mm2"] == pytest.approx(20 * 15 * 0.75 * 0.5)


def test_the_area_of_a_polygon_is_that_of_the_shape_by_greens_theorem(marker: Marker) -> None:
    points = [[5.0, 5.0], [5.0, 25.0], [15.0, 30.0], [25.0, 10.0]]
    mm = np.array(points) * [0.75, 0.5]
    by_triangles = sum(
        abs(np.linalg.det([mm[i] - mm[0], mm[i + 1] - mm[0]])) / 2 for i in range(1, len(mm) - 1)
    )
    assert marker.stats("polygon", points, plane="axial", index=0)["area_mm2"] == pytest.approx(by_triangles)


def test_an_outline_that_crosses_itself_is_measured_by_its_pixels_and_says_so(marker: Marker) -> None:
    stats = marker.stats("freehand", [[5, 5], [25, 25], [5, 25], [25, 5]], plane="axial", index=0)
    assert "crosses itself" in stats["remark"]
    assert stats["area_mm2"] == stats["pixels_mm2"] > 0


def test_a_region_through_several_planes_measures_all_of_them_and_a_volume(
    marker: Marker, values: np.ndarray
) -> None:
    stats = marker.stats("rectangle", [[9.5, 9.5], [19.5, 29.5]], plane="axial", index=2, through=(1, 4))
    equals(stats, hu(values[1:5, 10:20, 10:30]).ravel())
    assert stats["volume_mm3"] == pytest.approx(4 * 200 * 2.5 * 0.75 * 0.5)
    assert stats["volume_ml"] == stats["volume_mm3"] / 1000


def test_more_planes_than_are_read_at_once_are_all_measured() -> None:
    values = noise((30, 8, 9))
    stats = Marker(ct_on(values)).stats(
        "rectangle", [[-0.5, -0.5], [7.5, 8.5]], plane="axial", index=3, through=(0, 29)
    )
    equals(stats, hu(values).ravel())


def test_padding_is_left_out_and_counted() -> None:
    values = noise((2, 10, 10))
    values[0, :, :5] = -2000
    stats = Marker(ct_on(values, padding_value=-2000)).stats(
        "rectangle", [[-0.5, -0.5], [9.5, 9.5]], plane="axial", index=0
    )
    assert (stats["count"], stats["left_out"]) == (100, 50)
    assert stats["mean"] == pytest.approx(hu(values[0, :, 5:]).mean())


def test_slices_scaled_each_by_its_own_slope_are_measured_in_units() -> None:
    values = noise((3, 8, 8))
    image = ct_on(values, rescale_varies=["rescale_slope"]).assign_coords(
        rescale_slope=("z", [1.0, 2.0, 4.0]), rescale_intercept=-5.0
    )
    del image.attrs["rescale_slope"], image.attrs["rescale_intercept"]
    stats = Marker(image).stats("rectangle", [[-0.5, -0.5], [7.5, 7.5]], plane="axial", index=2)
    assert stats["mean"] == pytest.approx((values[2] * 4.0 - 5).mean(), rel=1e-6)


def test_lengths_are_true_in_the_patient_on_oblique_acquisitions() -> None:
    matrix = affine(turn=OBLIQUE)
    marker = Marker(ct_on(noise(SHAPE), matrix))
    rng = np.random.default_rng(4)
    for plane in marker.stack_source.planes.values():
        for _ in range(10):
            points = rng.uniform(0, [plane.rows - 1, plane.cols - 1], (2, 2))
            at = [(plane.to_lps @ [1, *point, 1])[:3] for point in points]
            stats = marker.stats("length", points, plane=plane.name, index=1)
            assert stats["length_mm"] == pytest.approx(np.linalg.norm(at[0] - at[1]), rel=1e-12)
            mark = marker.marks[-1]
            np.testing.assert_allclose(mark["points_mm"], at, atol=6e-4)


def test_a_length_along_known_voxels_is_their_distance() -> None:
    marker = Marker(ct_on(noise(SHAPE), affine(turn=OBLIQUE)))
    name = next(iter(marker.stack_source.planes))
    assert marker.stats("length", [[0, 0], [4, 8]], plane=name, index=0)["length_mm"] == pytest.approx(
        np.hypot(4 * 0.75, 8 * 0.5)
    )


def test_lengths_and_angles_hold_in_planes_cut_through_a_leaning_stack() -> None:
    leaning = affine()
    leaning[:3, 0] += [0, 1.2, 0]  # gantry tilt: rows of sagittal planes do not meet columns at right angles
    marker = Marker(ct_on(noise(SHAPE), leaning, verdict="sheared"))
    plane = marker.stack_source.planes["sagittal"]
    points = np.array([[0, 3], [4, 3], [4, 12]])
    at = np.array([(plane.to_lps @ [7, *point, 1])[:3] for point in points])
    arms = at[[0, 2]] - at[1]
    angle = np.degrees(np.arccos(arms[0] @ arms[1] / np.prod(np.linalg.norm(arms, axis=1))))
    assert abs(angle - 90) > 10
    found = marker.stats("angle", points, plane="sagittal", index=7)["angle_deg"]
    assert found == pytest.approx(angle, rel=1e-10)
    length = marker.stats("length", points[:2], plane="sagittal", index=7)["length_mm"]
    assert length == pytest.approx(np.linalg.norm(arms[0]), rel=1e-12)
    voxel = abs(np.linalg.det(leaning[:3, :3]))
    through = marker.stats(
        "rectangle", [[-0.5, -0.5], [5.5, 39.5]], plane="sagittal", index=0, through=(0, 49)
    )
    assert through["volume_mm3"] == pytest.approx(np.prod(SHAPE) * voxel)


@pytest.mark.parametrize("degrees", [0.01, 30.0, 90.0, 135.0, 179.99])
def test_an_angle_is_the_one_between_its_arms(marker: Marker, degrees: float) -> None:
    turn = np.radians(degrees)
    end = np.array([np.sin(turn) / 0.75, np.cos(turn) / 0.5]) * 8
    points = [[15, 20 + 8 / 0.5], [15, 20], [15 + end[0], 20 + end[1]]]
    found = marker.stats("angle", points, plane="axial", index=0)["angle_deg"]
    assert found == pytest.approx(degrees, abs=1e-9)


def test_an_angle_without_an_arm_has_no_value(marker: Marker) -> None:
    assert marker.stats("angle", [[5, 5], [5, 5], [9, 9]])["angle_deg"] is None


def test_a_point_tells_the_value_of_the_pixel_it_is_in(marker: Marker, values: np.ndarray) -> None:
    stats = marker.stats("point", [[7.4, 9.6]], plane="axial", index=5)
    assert stats == {"value": float(hu(values)[5, 7, 10]), "units": "HU"}


def test_without_a_pixel_size_nothing_is_said_in_mm() -> None:
    import xarray as xr

    image = xr.DataArray(noise((1, 20, 30), dtype=np.uint8), dims=("frame", "y", "x"))
    marker = Marker(image)
    assert marker.marking_state["unit"] == "px"
    assert marker.stats("length", [[0, 0], [3, 4]]) == {"length_px": 5.0}
    stats = marker.stats("rectangle", [[0.5, 0.5], [4.5, 6.5]])
    assert stats["area_px2"] == 24.0
    assert not any(name.endswith(("_mm", "_mm2", "_mm3")) for name in stats)
    assert marker.marks[0]["points_mm"] is None


def test_distances_at_the_detector_are_called_that() -> None:
    import xarray as xr

    image = xr.DataArray(noise((20, 30)), dims=("y", "x"))
    image.attrs = {"pixel_spacing_mm": [0.2, 0.1], "pixel_spacing_of": "ImagerPixelSpacing"}
    stats = Marker(image).stats("length", [[0, 0], [10, 0]])
    assert stats == {"length_mm": 2.0, "remark": "at the detector"}


def test_colours_have_areas_but_no_values() -> None:
    import xarray as xr

    image = xr.DataArray(np.zeros((2, 9, 9, 3), np.uint8), dims=("frame", "y", "x", "rgb"))
    stats = Marker(image).stats("ellipse", [[1, 1], [7, 7]])
    assert stats["mean"] is None
    assert stats["area_px2"] == pytest.approx(np.pi * 9)


def test_the_table_has_the_middle_of_each_shape_in_the_patient(marker: Marker) -> None:
    marker.add_mark("polygon", [[0, 0], [0, 30], [30, 0]], plane="axial", index=2, name="triangle")
    marker.add_mark("angle", [[0, 0], [10, 10], [0, 20]], plane="axial", index=2)
    plane = marker.stack_source.planes["axial"]
    table = marker.rois.set_index("tool")
    for tool, at in (("polygon", (10, 10)), ("angle", (10, 10))):
        found = table.loc[tool, ["x_mm", "y_mm", "z_mm"]].astype(float)
        np.testing.assert_allclose(found, (plane.to_lps @ [2, *at, 1])[:3])
    assert table.loc["polygon", "name"] == "triangle"
    assert table.loc["angle", "name"] == "Angle 1"
    assert table.loc["angle", "number"] == 2


def test_positions_in_the_patient_find_their_plane(marker: Marker) -> None:
    plane = marker.stack_source.planes["coronal"]
    at = [(plane.to_lps @ [11, *point, 1])[:3] for point in ((1, 2), (4, 30))]
    marker.add_mark("length", points_mm=at, plane="coronal")
    assert marker.marks[0]["index"] == 11
    np.testing.assert_allclose(marker.marks[0]["points"], [[1, 2], [4, 30]], atol=1e-9)
