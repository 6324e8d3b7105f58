"""The names of features, the permanent codes that the IBSI gave them, and the units of their values.

After Zwanenburg et al., Image biomarker standardisation initiative, reference manual (arXiv:1612.07003),
whose chapter 3 defines each feature. Names are those of the manual, in lower case with underscores.
"""

from __future__ import annotations

from typing import NamedTuple


class Feature(NamedTuple):
    """One feature.

    name: as columns are called. code: of the IBSI; it stays when a name changes.
    unit: "" for a number without, "intensity" for that of the image values; products with spaces.
    """

    name: str
    code: str
    unit: str


INTENSITY = "intensity"
"""Stands for the unit of the image values (HU, SUV …)."""

STATISTICS = (  # section 3.3, intensity-based statistical features (UHIW)
    Feature("mean_intensity", "Q4LE", INTENSITY),
    Feature("intensity_variance", "ECT3", "intensity2"),
    Feature("intensity_skewness", "KE2A", ""),
    Feature("excess_intensity_kurtosis", "IPH6", ""),
    Feature("median_intensity", "Y12H", INTENSITY),
    Feature("minimum_intensity", "1GSF", INTENSITY),
    Feature("intensity_percentile_10", "QG58", INTENSITY),
    Feature("intensity_percentile_90", "8DWT", INTENSITY),
    Feature("maximum_intensity", "84IY", INTENSITY),
    Feature("intensity_interquartile_range", "SALO", INTENSITY),
    Feature("intensity_range", "2OJQ", INTENSITY),
    Feature("intensity_mean_absolute_deviation", "4FUA", INTENSITY),
    Feature("intensity_robust_mean_absolute_deviation", "1128", INTENSITY),
    Feature("intensity_median_absolute_deviation", "N72L", INTENSITY),
    Feature("intensity_coefficient_of_variation", "7TET", ""),
    Feature("intensity_quartile_coefficient_of_dispersion", "9S40", ""),
    Feature("intensity_energy", "N8CA", "intensity2"),
    Feature("root_mean_square_intensity", "5ZWQ", INTENSITY),
)

HISTOGRAM = (  # section 3.4, intensity histogram features (ZVCW); in numbers of bins
    Feature("mean_discretised_intensity", "X6K6", ""),
    Feature("discretised_intensity_variance", "CH89", ""),
    Feature("discretised_intensity_skewness", "88K1", ""),
    Feature("excess_discretised_intensity_kurtosis", "C3I7", ""),
    Feature("median_discretised_intensity", "WIFQ", ""),
    Feature("minimum_discretised_intensity", "1PR8", ""),
    Feature("discretised_intensity_percentile_10", "GPMT", ""),
    Feature("discretised_intensity_percentile_90", "OZ0C", ""),
    Feature("maximum_discretised_intensity", "3NCY", ""),
    Feature("intensity_histogram_mode", "AMMC", ""),
    Feature("discretised_intensity_interquartile_range", "WR0O", ""),
    Feature("discretised_intensity_range", "5Z3W", ""),
    Feature("intensity_histogram_mean_absolute_deviation", "D2ZX", ""),
    Feature("intensity_histogram_robust_mean_absolute_deviation", "WRZB", ""),
    Feature("intensity_histogram_median_absolute_deviation", "4RNL", ""),
    Feature("intensity_histogram_coefficient_of_variation", "CWYJ", ""),
    Feature("intensity_histogram_quartile_coefficient_of_dispersion", "SLWD", ""),
    Feature("discretised_intensity_entropy", "TLU2", ""),
    Feature("discretised_intensity_uniformity", "BJ5W", ""),
    Feature("maximum_histogram_gradient", "12CE", ""),
    Feature("maximum_histogram_gradient_intensity", "8E6O", ""),
    Feature("minimum_histogram_gradient", "VQB3", ""),
    Feature("minimum_histogram_gradient_intensity", "RHQZ", ""),
)

MORPHOLOGY = (  # section 3.1, morphological features (HCUG)
    Feature("volume_mesh", "RNU0", "mm3"),
    Feature("volume_voxel_counting", "YEKZ", "mm3"),
    Feature("surface_area_mesh", "C0JK", "mm2"),
    Feature("surface_to_volume_ratio", "2PR5", "1/mm"),
    Feature("compactness_1", "SKGS", ""),
    Feature("compactness_2", "BQWJ", ""),
    Feature("spherical_disproportion", "KRCK", ""),
    Feature("sphericity", "QCFX", ""),
    Feature("asphericity", "25C7", ""),
    Feature("maximum_3d_diameter", "L0JK", "mm"),
    Feature("major_axis_length", "TDIC", "mm"),
    Feature("minor_axis_length", "P9VJ", "mm"),
    Feature("least_axis_length", "7J51", "mm"),
    Feature("elongation", "Q3CK", ""),
    Feature("flatness", "N17B", ""),
    Feature("volume_density_aabb", "PBX1", ""),
    Feature("area_density_aabb", "R59B", ""),
    Feature("volume_density_aee", "6BDE", ""),
    Feature("area_density_aee", "RDD2", ""),
    Feature("volume_density_convex_hull", "R3ER", ""),
    Feature("area_density_convex_hull", "7T7F", ""),
)

MORPHOLOGY_OF_INTENSITIES = (  # of the same section, those that need the image, too
    Feature("centre_of_mass_shift", "KLMA", "mm"),
    Feature("integrated_intensity", "99N0", "intensity mm3"),
)

LOCAL = (  # section 3.2, local intensity features (9ST6)
    Feature("local_intensity_peak", "VJGA", INTENSITY),
    Feature("global_intensity_peak", "0F91", INTENSITY),
)

FEATURES = {
    one.name: one for one in (*STATISTICS, *HISTOGRAM, *MORPHOLOGY, *MORPHOLOGY_OF_INTENSITIES, *LOCAL)
}
"""All of them, by name."""
