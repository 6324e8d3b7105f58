"""Intensity features against the published values of the IBSI digital phantom, and closed formulas."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.errors import QuantityError
from dicomlake.features.first_order import discretised, histogram_features, intensity_statistics
from dicomlake.features.nomenclature import FEATURES, HISTOGRAM, STATISTICS
from tests.features.phantom import IMAGE, REGION, significant

# reference values of the digital phantom: three significant digits, no tolerance (tables 30 to 69)
STATISTICS_OF_THE_PHANTOM = {
    "mean_intensity": 2.15,
    "intensity_variance": 3.05,
    "intensity_skewness": 1.08,
    "excess_intensity_kurtosis": -0.355,
    "median_intensity": 1,
    "minimum_intensity": 1,
    "intensity_percentile_10": 1,
    "intensity_percentile_90": 4,
    "maximum_intensity": 6,
    "intensity_interquartile_range": 3,
    "intensity_range": 5,
    "intensity_mean_absolute_deviation": 1.55,
    "intensity_robust_mean_absolute_deviation": 1.11,
    "intensity_median_absolute_deviation": 1.15,
    "intensity_coefficient_of_variation": 0.812,
    "intensity_quartile_coefficient_of_dispersion": 0.6,
    "intensity_energy": 567,
    "root_mean_square_intensity": 2.77,
}
HISTOGRAM_OF_THE_PHANTOM = {
    "mean_discretised_intensity": 2.15,
    "discretised_intensity_variance": 3.05,
    "discretised_intensity_skewness": 1.08,
    "excess_discretised_intensity_kurtosis": -0.355,
    "median_discretised_intensity": 1,
    "minimum_discretised_intensity": 1,
    "discretised_intensity_percentile_10": 1,
    "discretised_intensity_percentile_90": 4,
    "maximum_discretised_intensity": 6,
    "intensity_histogram_mode": 1,
    "discretised_intensity_interquartile_range": 3,
    "discretised_intensity_range": 5,
    "intensity_histogram_mean_absolute_deviation": 1.55,
    "intensity_histogram_robust_mean_absolute_deviation": 1.11,
    "intensity_histogram_median_absolute_deviation": 1.15,
    "intensity_histogram_coefficient_of_variation": 0.812,
    "intensity_histogram_quartile_coefficient_of_dispersion": 0.6,
    "discretised_intensity_entropy": 1.27,
    "discretised_intensity_uniformity": 0.512,
    "maximum_histogram_gradient": 8,
    "maximum_histogram_gradient_intensity": 3,
    "minimum_histogram_gradient": -50,
    "minimum_histogram_gradient_intensity": 1,
}


@pytest.mark.parametrize("name", STATISTICS_OF_THE_PHANTOM)
def test_a_statistic_of_the_digital_phantom_is_the_published_one(name: str) -> None:
    found = intensity_statistics(IMAGE[REGION])
    assert significant(found[name]) == STATISTICS_OF_THE_PHANTOM[name]


@pytest.mark.parametrize("name", HISTOGRAM_OF_THE_PHANTOM)
def test_a_histogram_feature_of_the_digital_phantom_is_the_published_one(name: str) -> None:
    found = histogram_features(IMAGE[REGION])
    assert significant(found[name]) == HISTOGRAM_OF_THE_PHANTOM[name]


def test_every_feature_has_a_name_and_a_code_of_its_own() -> None:
    codes = Counter(one.code for one in FEATURES.values())
    assert set(codes.values()) == {1}
    assert all(len(code) == 4 and code == code.upper() for code in codes)
    assert list(STATISTICS_OF_THE_PHANTOM) == [one.name for one in STATISTICS]
    assert list(HISTOGRAM_OF_THE_PHANTOM) == [one.name for one in HISTOGRAM]


def test_voxels_without_an_intensity_are_left_out() -> None:
    values = IMAGE[REGION]
    with_holes = np.concatenate([values, [np.nan, np.nan]])
    assert intensity_statistics(with_holes) == intensity_statistics(values)
    with pytest.raises(QuantityError, match="no voxel with an intensity"):
        intensity_statistics([np.nan])
    with pytest.raises(QuantityError, match="infinite"):
        intensity_statistics([1.0, np.inf])


def test_equal_intensities_have_no_skewness_and_no_kurtosis() -> None:
    found = intensity_statistics(np.full(7, 0.1))
    assert found["intensity_skewness"] == found["excess_intensity_kurtosis"] == 0
    assert math.isnan(intensity_statistics([-1.0, 1.0])["intensity_coefficient_of_variation"])


@given(
    st.lists(st.integers(-1000, 3000), min_size=2, max_size=40),
    st.integers(1, 8),
    st.integers(-500, 500),
)
def test_statistics_follow_a_change_of_unit(values: list[int], slope: int, offset: int) -> None:
    before = intensity_statistics(values)
    after = intensity_statistics(slope * np.array(values) + offset)
    for name in ("mean_intensity", "median_intensity", "intensity_percentile_90", "maximum_intensity"):
        assert after[name] == pytest.approx(slope * before[name] + offset, abs=1e-6)
    for name in ("intensity_range", "intensity_interquartile_range", "intensity_mean_absolute_deviation"):
        assert after[name] == pytest.approx(slope * before[name], abs=1e-6)
    for name in ("intensity_skewness", "excess_intensity_kurtosis"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)


def test_a_fixed_number_of_bins_has_the_largest_value_in_the_last_bin() -> None:
    assert discretised([0, 24, 25, 50, 99, 100], bins=4).tolist() == [1, 1, 2, 3, 4, 4]
    assert discretised([7, 7, 7], bins=4).tolist() == [1, 1, 1]


def test_bins_of_a_fixed_width_begin_at_the_lowest_value_given() -> None:
    assert discretised([-500, -476, -475, 0], width=25, lowest=-500).tolist() == [1, 1, 2, 21]
    assert discretised([3.0, 4.0], width=0.5).tolist() == [1, 3]
    with pytest.raises(QuantityError, match="below the first bin"):
        discretised([-501], width=25, lowest=-500)
    with pytest.raises(QuantityError, match="more than"):
        discretised([0, 1], width=1e-9)


@pytest.mark.parametrize("wrong", [{}, {"bins": 4, "width": 2.0}, {"bins": 0}, {"bins": 4, "lowest": 0.0}])
def test_a_discretisation_that_is_not_said_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="bins"):
        discretised([1, 2], **wrong)  # type: ignore[arg-type]


def test_of_several_full_bins_the_one_closest_to_the_mean_is_the_mode() -> None:
    assert histogram_features([1, 1, 3, 3, 9])["intensity_histogram_mode"] == 3
    assert histogram_features([1, 1, 3, 3])["intensity_histogram_mode"] == 1
    assert math.isnan(histogram_features([1, 1])["maximum_histogram_gradient"])
    with pytest.raises(QuantityError, match="whole numbers"):
        histogram_features([0, 1])
