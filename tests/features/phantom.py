"""The digital phantom of the IBSI, and how its reference values are compared.

Zwanenburg et al., Image biomarker standardisation initiative, reference manual (arXiv:1612.07003), chapter 5;
data set at github.com/theibsi/data_sets (CC BY 4.0). 5 x 4 x 4 voxels (x, y, z) of 2 mm.
"""

from __future__ import annotations

import numpy as np

_ = 0  # outside the region
IMAGE = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [_, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, _, _], [1, 1, 1, 1, 1], [1, 1, _, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, _, _], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    dtype=np.float64,
)
REGION = IMAGE > 0
SPACING_MM = (2.0, 2.0, 2.0)


def significant(value: float, digits: int = 3) -> float:
    """Rounded to so many digits, as the manual gives its values."""
    return float(f"{value:.{digits}g}")
