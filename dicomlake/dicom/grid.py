"""The grid of a volume, for what is drawn on it or resampled to it: masks, doses, segmentations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Voxels (z, y, x) and where they lie.

    shape: (z, y, x).
    affine: voxel index (z, y, x) to patient position, LPS, in mm; (4, 4). For an irregular volume only
        its in-plane columns hold; `positions` has the planes.
    positions: of the first voxel of each slice, (z, 3), LPS, mm; None where the affine says it.
    instance_uids, frame_index: of each slice, where they are known; a reference by SOPInstanceUID finds
        its slice with them.
    """

    shape: tuple[int, int, int]
    affine: Array
    positions: Array | None = None
    frame_of_reference_uid: str | None = None
    instance_uids: tuple[str, ...] = ()
    frame_index: tuple[int, ...] = ()

    @property
    def origins(self) -> Array:
        """Position of the first voxel of each slice, (z, 3), LPS, mm."""
        if self.positions is not None:
            return self.positions
        steps = np.arange(self.shape[0])[:, None]
        return np.asarray(self.affine[:3, 3] + steps * self.affine[:3, 0])

    @property
    def normal(self) -> Array:
        """Unit normal of the slices, row direction x column direction."""
        across = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        return np.asarray(across / np.linalg.norm(across))

    def to_index(self, lps: npt.ArrayLike) -> Array:
        """Patient positions (..., 3) in mm to fractional index (..., 3); not for an irregular volume."""
        return geometry.to_index(self.affine, lps)
