"""Shapes against the published values of the IBSI digital phantom, and solids with closed formulas."""

from __future__ import annotations

import math
from math import pi

import numpy as np
import numpy.typing as npt
import pytest

from dicomlake.errors import GeometryError, QuantityError
from dicomlake.features.local_intensity import peak_features
from dicomlake.features.nomenclature import MORPHOLOGY, MORPHOLOGY_OF_INTENSITIES
from dicomlake.features.shape import intensity_shape_features, shape_features
from tests.features.phantom import IMAGE, REGION, SPACING_MM, significant

Mask = npt.NDArray[np.bool_]
# value and tolerance of the digital phantom (tables 3 to 25)
SHAPE_OF_THE_PHANTOM = {
    "volume_mesh": (556, 4),
    "volume_voxel_counting": (592, 4),
    "surface_area_mesh": (388, 3),
    "surface_to_volume_ratio": (0.698, 0.004),
    "compactness_1": (0.0411, 0.0003),
    "compactness_2": (0.599, 0.004),
    "spherical_disproportion": (1.19, 0.01),
    "sphericity": (0.843, 0.005),
    "asphericity": (0.186, 0.001),
    "maximum_3d_diameter": (13.1, 0.1),
    "major_axis_length": (11.4, 0.1),
    "minor_axis_length": (9.31, 0.06),
    "least_axis_length": (8.54, 0.05),
    "elongation": (0.816, 0.005),
    "flatness": (0.749, 0.005),
    "volume_density_aabb": (0.869, 0.005),
    "area_density_aabb": (0.866, 0.005),
    "volume_density_aee": (1.17, 0.01),
    "area_density_aee": (1.36, 0.01),
    "volume_density_convex_hull": (0.961, 0.006),
    "area_density_convex_hull": (1.03, 0.01),
}
WITH_INTENSITIES = {"centre_of_mass_shift": (0.672, 0.004), "integrated_intensity": (1200, 10)}


@pytest.mark.parametrize("name", SHAPE_OF_THE_PHANTOM)
def test_a_shape_feature_of_the_digital_phantom_is_the_published_one(name: str) -> None:
    value, tolerance = SHAPE_OF_THE_PHANTOM[name]
    found = shape_features(REGION, SPACING_MM)[name]
    assert abs(found - value) <= tolerance
    assert significant(found) == value  # all but exact: a wrong divisor stays within some tolerances


@pytest.mark.parametrize("name", WITH_INTENSITIES)
def test_a_feature_of_shape_and_intensity_of_the_phantom_is_the_published_one(name: str) -> None:
    value, tolerance = WITH_INTENSITIES[name]
    assert abs(intensity_shape_features(REGION, IMAGE, SPACING_MM)[name] - value) <= tolerance


def test_features_come_in_the_order_of_the_manual() -> None:
    assert list(SHAPE_OF_THE_PHANTOM) == [one.name for one in MORPHOLOGY]
    assert list(WITH_INTENSITIES) == [one.name for one in MORPHOLOGY_OF_INTENSITIES]


def _ellipsoid(semi_mm: tuple[float, float, float], spacing: tuple[float, float, float]) -> Mask:
    counts = [2 * int(np.ceil(a / s)) + 3 for a, s in zip(semi_mm, spacing, strict=True)]
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in counts], indexing="ij")
    scaled = [(x * s / a) ** 2 for x, s, a in zip(axes, spacing, semi_mm, strict=True)]
    return np.asarray(sum(scaled) <= 1)


def test_a_sphere_has_the_volume_and_the_axes_of_one() -> None:
    found = shape_features(_ellipsoid((30, 30, 30), (1.5, 1, 1)), (1.5, 1, 1))
    assert found["volume_mesh"] == pytest.approx(4 / 3 * pi * 30**3, rel=0.005)
    assert found["volume_voxel_counting"] == pytest.approx(4 / 3 * pi * 30**3, rel=0.005)
    assert 60 <= found["maximum_3d_diameter"] <= 61.5  # half a voxel further at both ends
    # the axes of a full ball of radius r are 4 r / sqrt(5)
    for name in ("major_axis_length", "minor_axis_length", "least_axis_length"):
        assert found[name] == pytest.approx(4 * 30 / 5**0.5, rel=0.005)
    assert found["elongation"] == pytest.approx(1, abs=0.005)
    assert 0.9 < found["sphericity"] < 1  # the steps of a voxel surface make it larger
    assert found["area_density_convex_hull"] > 1


def test_an_ellipsoid_has_the_axes_it_was_made_with_on_uneven_voxels() -> None:
    semi, spacing = (12.0, 20.0, 30.0), (2.0, 0.8, 0.8)
    found = shape_features(_ellipsoid(semi, spacing), spacing)
    assert found["volume_mesh"] == pytest.approx(4 / 3 * pi * 12 * 20 * 30, rel=0.01)
    for name, axis in zip(("least", "minor", "major"), semi, strict=True):
        assert found[f"{name}_axis_length"] == pytest.approx(4 * axis / 5**0.5, rel=0.02)
    assert found["flatness"] == pytest.approx(12 / 30, rel=0.02)
    assert found["volume_density_aee"] == pytest.approx((5**0.5 / 2) ** 3, rel=0.02)


def test_a_box_has_the_mesh_of_a_box_with_bevelled_edges() -> None:
    """The surface is halfway between centres inside and out, so edges and corners are cut by half a voxel."""
    mask = np.zeros((9, 12, 14), bool)
    mask[2:7, 3:9, 2:12] = True
    found = shape_features(mask, (1, 1, 1))
    a, b, c = 5, 6, 10
    # each edge loses a prism of half of 1/2 x 1/2; where three meet, the corner is cut by one triangle
    edges = 4 * ((a - 1) + (b - 1) + (c - 1)) / 8
    corners = 8 * (1 / 8 - 1 / 48)
    assert found["volume_mesh"] == pytest.approx(a * b * c - edges - corners)
    assert found["volume_voxel_counting"] == 300
    flat = 2 * ((a - 1) * (b - 1) + (a - 1) * (c - 1) + (b - 1) * (c - 1))
    bevels = 4 * ((a - 1) + (b - 1) + (c - 1)) * 0.5**0.5
    assert found["surface_area_mesh"] == pytest.approx(flat + bevels + 8 * 3**0.5 / 8)
    assert found["volume_density_convex_hull"] == pytest.approx(1)
    assert found["volume_density_aabb"] == pytest.approx(found["volume_mesh"] / 300)


def _blob() -> Mask:
    rng = np.random.default_rng(5)
    mask = np.zeros((9, 10, 11), bool)
    mask[2:6, 2:8, 3:9] = rng.random((4, 6, 6)) > 0.3
    return mask


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_a_quarter_turn_changes_no_feature(axes: tuple[int, int]) -> None:
    mask, spacing = _blob(), np.array([2.5, 0.7, 1.1])
    order = [0, 1, 2]
    order[axes[0]], order[axes[1]] = axes[1], axes[0]
    turned = shape_features(np.rot90(mask, axes=axes), spacing[order])
    for name, value in shape_features(mask, spacing).items():
        assert turned[name] == pytest.approx(value, rel=0.02), name  # diagonals of ambiguous cells turn, too
    for name in ("volume_voxel_counting", "major_axis_length", "maximum_3d_diameter"):
        assert turned[name] == pytest.approx(shape_features(mask, spacing)[name], rel=1e-9)


def test_the_place_in_the_array_changes_no_feature() -> None:
    mask = _blob()
    moved = np.pad(mask, ((0, 3), (5, 0), (2, 1)))
    assert shape_features(moved, (3, 1, 1)) == pytest.approx(shape_features(mask, (3, 1, 1)))
    tight = mask[2:6, 2:8, 3:9]
    assert shape_features(tight, (3, 1, 1)) == pytest.approx(shape_features(mask, (3, 1, 1)))


def test_lengths_areas_and_volumes_grow_with_the_spacing() -> None:
    once, twice = (shape_features(_blob(), np.array([3, 1, 1.5]) * k) for k in (1, 2))
    powers = {"mm": 2, "mm2": 4, "mm3": 8, "1/mm": 0.5, "": 1}
    for one in MORPHOLOGY:
        assert twice[one.name] == pytest.approx(powers[one.unit] * once[one.name]), one.name


def test_a_turned_patient_changes_no_feature_and_leaning_slices_keep_the_volume() -> None:
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    steps = np.diag([3.0, 1.0, 1.5])
    straight = shape_features(_blob(), (3, 1, 1.5))
    assert shape_features(_blob(), turn @ steps) == pytest.approx(straight)
    leaning = steps + np.array([[0, 0, 0], [0.8, 0, 0], [0, 0, 0]])
    sheared = shape_features(_blob(), leaning)
    assert sheared["volume_mesh"] == pytest.approx(straight["volume_mesh"])
    assert sheared["maximum_3d_diameter"] != pytest.approx(straight["maximum_3d_diameter"])


def test_one_voxel_has_a_volume_and_no_axes() -> None:
    found = shape_features(np.ones((1, 1, 1), bool), (2, 2, 2))
    assert found["volume_voxel_counting"] == pytest.approx(8)
    assert found["volume_mesh"] == pytest.approx(8 / 6)  # an octahedron
    assert found["major_axis_length"] == 0
    assert math.isnan(found["elongation"])
    assert math.isnan(found["volume_density_aee"])


def test_voxels_without_intensity_count_for_the_shape_only() -> None:
    mask = np.zeros((3, 3, 5), bool)
    mask[1, 1, 1:4] = True
    image = np.full(mask.shape, 2.0)
    image[1, 1, 3] = np.nan
    found = intensity_shape_features(mask, image, (1, 1, 4))
    assert found["centre_of_mass_shift"] == pytest.approx(2)  # centres at 4, 8, 12 mm; intensities at 4 and 8
    volume = shape_features(mask, (1, 1, 4))["volume_mesh"]
    assert found["integrated_intensity"] == pytest.approx(2 * volume)


def test_what_has_no_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match="no voxel lies"):
        shape_features(np.zeros((2, 2, 2), bool), (1, 1, 1))
    with pytest.raises(GeometryError, match="bool"):
        shape_features(np.ones((2, 2, 2)), (1, 1, 1))
    with pytest.raises(GeometryError, match="three distances"):
        shape_features(np.ones((2, 2, 2), bool), (1, 1, 0))
    with pytest.raises(GeometryError, match="not on the grid"):
        intensity_shape_features(np.ones((2, 2, 2), bool), np.ones((2, 2, 3)), (1, 1, 1))
    with pytest.raises(QuantityError, match="no voxel with an intensity"):
        intensity_shape_features(np.ones((2, 2, 2), bool), np.full((2, 2, 2), np.nan), (1, 1, 1))


def test_a_peak_is_the_mean_over_a_sphere_of_one_cubic_centimetre() -> None:
    spacing = (4.0, 3.0, 2.0)
    rng = np.random.default_rng(1)
    image = rng.random((7, 9, 13))
    image[3, 4, 6] = 2.0
    mask = np.zeros(image.shape, bool)
    mask[3, 4, 4:9] = True
    z, y, x = np.indices(image.shape)
    radius = (3000 / (4 * pi)) ** (1 / 3)

    def mean_around(k: int, j: int, i: int) -> float:
        near = (4 * (z - k)) ** 2 + (3 * (y - j)) ** 2 + (2 * (x - i)) ** 2 <= radius**2
        return float(image[near].mean())

    found = peak_features(mask, image, spacing)
    assert found["local_intensity_peak"] == pytest.approx(mean_around(3, 4, 6))
    assert found["global_intensity_peak"] == pytest.approx(max(mean_around(3, 4, i) for i in range(4, 9)))
