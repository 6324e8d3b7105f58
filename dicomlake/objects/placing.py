"""Where the frames of a segmentation lie: on a grid of their own, or in the slices of an image.

A plane that is not there means that nothing is segmented on it (PS3.3 A.51.2), so a grid may have more
planes than frames; but only where the step between planes is proven by the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError
from dicomlake.objects.segments import SegmentFrame

Array = npt.NDArray[np.float64]

_MOST_PLANES = 100_000  # a stated step must not ask for more planes than any image has
_OFF_STEP = 0.05  # of a step: how far a plane may be from where the step puts it
_OFF_VOXEL = geometry.FIT_TOLERANCE  # of the smallest voxel edge, when compared with the image


class Place(NamedTuple):
    """Where a frame goes: the slice, and the row and column of its first voxel."""

    z: int
    y: int
    x: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Frames on a grid.

    shape: (z, y, x). places: of each frame, in their order. grid: None without geometry.
    regular: the planes are evenly spaced, as proven by their positions.
    sources: for frames without geometry, the images of each plane.
    """

    shape: tuple[int, int, int]
    places: tuple[Place, ...]
    grid: Grid | None
    regular: bool
    sources: tuple[tuple[str, ...], ...] = ()


def own_placement(
    frames: Sequence[SegmentFrame], rows: int, columns: int, frame_of_reference: str | None
) -> Placement:
    """The frames on the grid that they define themselves.

    Planes in order along the normal; one step between them where every distance is a multiple of the
    stated step or, failing that, of the smallest distance; otherwise the positions are kept.
    Without geometry there is one plane for each set of source images, in the order of the frames.
    Raises GeometryError when the frames differ in orientation, spacing or footprint.
    """
    if any(frame.flaw for frame in frames):
        return _by_source(frames, rows, columns)
    orientation, spacing = _common(frames)
    row_step, column_step, normal = _steps(orientation, spacing)
    positions = np.array([frame.position for frame in frames], dtype=float)
    planes, plane_of = _planes(positions, normal, geometry.SAME_PLACE_PIXELS * min(spacing))
    index = _plane_numbers(planes, normal, frames[0].step_mm, min(spacing))
    count = len(planes) if index is None else int(index[-1]) + 1
    affine = np.eye(4)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = row_step, column_step, planes[0]
    affine[:3, 0] = _step(planes, index, normal, frames[0].step_mm)
    where = np.arange(count) if index is None else index
    grid = Grid((count, rows, columns), affine, planes if index is None else None, frame_of_reference)
    places = tuple(Place(int(where[plane]), 0, 0) for plane in plane_of)
    return Placement(grid.shape, places, grid, index is not None)


def _common(frames: Sequence[SegmentFrame]) -> tuple[tuple[float, ...], tuple[float, float]]:
    """The one orientation and spacing of all frames."""
    first = frames[0]
    assert first.orientation is not None  # frames with a flaw are placed by source
    assert first.spacing_mm is not None
    turned = np.array([frame.orientation for frame in frames])
    scaled = np.array([frame.spacing_mm for frame in frames])
    if not np.allclose(turned, first.orientation, rtol=0, atol=1e-4):
        raise GeometryError(
            "frames of the segmentation differ in orientation: open it on the grid of an image"
        )
    if not np.allclose(scaled, first.spacing_mm, rtol=1e-4, atol=0):
        raise GeometryError("frames of the segmentation differ in PixelSpacing: they share no grid")
    return first.orientation, first.spacing_mm


def _steps(orientation: Sequence[float], spacing: tuple[float, float]) -> tuple[Array, Array, Array]:
    """Step to the next row, step to the next column, unit normal."""
    along_row, along_column = geometry.plane_axes(orientation)
    return along_column * spacing[0], along_row * spacing[1], geometry.normal(orientation)


def _planes(positions: Array, normal: Array, pixels: float) -> tuple[Array, npt.NDArray[np.intp]]:
    """Distinct positions along the normal (n, 3), and which of them each frame has."""
    tolerance = min(geometry.SAME_PLACE_MM, pixels)
    height = positions @ normal
    order = np.argsort(height, kind="stable")
    fresh = np.diff(height[order], prepend=-np.inf) > tolerance
    plane_of = np.empty(len(positions), dtype=np.intp)
    plane_of[order] = np.cumsum(fresh) - 1
    planes = positions[order[fresh]]
    if np.linalg.norm(positions - planes[plane_of], axis=1).max() > tolerance:
        raise GeometryError(
            "frames on one plane begin at different places: open the segmentation on the grid of its image"
        )
    return planes, plane_of


def _plane_numbers(
    planes: Array, normal: Array, stated: float | None, pixel: float
) -> npt.NDArray[np.intp] | None:
    """The number of each plane on evenly spaced ones, from 0; None where no step explains the positions."""
    if len(planes) == 1:
        return np.zeros(1, dtype=np.intp)
    height = (planes - planes[0]) @ normal
    for step in (abs(stated or 0.0), float(np.diff(height).min())):
        if not step or height[-1] / step > _MOST_PLANES:
            continue
        index = np.rint(height / step)
        if (np.diff(index) < 1).any():
            continue
        fitted = np.outer(index, index @ (planes - planes[0]) / (index @ index))
        off = np.linalg.norm(planes - planes[0] - fitted, axis=1).max()
        if off <= _OFF_STEP * min(step, pixel):
            return np.asarray(index, dtype=np.intp)
    return None


def _step(planes: Array, index: npt.NDArray[np.intp] | None, normal: Array, stated: float | None) -> Array:
    """The step between planes; for a lone plane its stated length along the normal, 1 mm without."""
    if index is None or len(planes) == 1:
        return np.asarray(normal * (abs(stated or 0.0) or 1.0))
    return np.asarray(index @ (planes - planes[0]) / (index @ index))


def _by_source(frames: Sequence[SegmentFrame], rows: int, columns: int) -> Placement:
    """One plane for each set of source images: all that is known of frames without geometry."""
    planes: dict[tuple[tuple[str, tuple[int, ...]], ...], int] = {}
    places = []
    for frame in frames:
        key = tuple(sorted((source.sop_instance_uid, source.frames) for source in frame.sources))
        places.append(Place(planes.setdefault(key, len(planes)), 0, 0))
    sources = tuple(tuple(uid for uid, _frames in key) for key in planes)
    return Placement((len(planes), rows, columns), tuple(places), None, False, sources)


def image_placement(frames: Sequence[SegmentFrame], rows: int, columns: int, grid: Grid) -> Placement:
    """The frames in the slices of an image: by position, or by source image where they have none.

    Voxels coincide: same orientation and spacing, first voxels on each other; the frames may cover a
    part of the rows and columns. Raises GeometryError, which names the first obstacle, otherwise.
    """
    if any(frame.flaw for frame in frames) or not np.isfinite(grid.affine).all():
        places = tuple(_slice_of_source(frame, rows, columns, grid) for frame in frames)
    else:
        places = _slices_at(frames, rows, columns, grid)
    return Placement(grid.shape, places, grid, grid.positions is None)


def _slices_at(frames: Sequence[SegmentFrame], rows: int, columns: int, grid: Grid) -> tuple[Place, ...]:
    """Where the frames lie in the grid, from their corners; every one must lie on voxels of one slice."""
    origins, basis = grid.origins, np.column_stack([grid.normal, grid.affine[:3, 1], grid.affine[:3, 2]])
    edges = [float(np.linalg.norm(step)) for step in grid.affine[:3, 1:3].T]
    tolerance = _OFF_VOXEL * min(*edges, _smallest_gap(origins, grid.normal))
    places = []
    for frame in frames:
        assert frame.position is not None  # frames with a flaw are placed by source
        assert frame.orientation is not None
        assert frame.spacing_mm is not None
        row_step, column_step, _normal = _steps(frame.orientation, frame.spacing_mm)
        position = np.array(frame.position)
        offsets = np.linalg.solve(basis, (position - origins).T)  # mm along the normal, rows, columns
        z = int(np.abs(offsets[0]).argmin())
        y, x = (int(value) for value in np.rint(offsets[1:, z]))
        for row, column in ((0, 0), (rows - 1, 0), (0, columns - 1), (rows - 1, columns - 1)):
            stated = position + row * row_step + column * column_step
            expected = origins[z] + basis[:, 1] * (y + row) + basis[:, 2] * (x + column)
            if (off := float(np.linalg.norm(stated - expected))) > tolerance:
                raise GeometryError(
                    f"frame {frame.index} of the segmentation is not on the voxels of the image: a corner is"
                    f" {off:.3g} mm off; pass resample=True for the nearest voxels, or open it without a grid"
                )
        places.append(_inside(Place(z, y, x), frame, rows, columns, grid))
    return tuple(places)


def _smallest_gap(origins: Array, normal: Array) -> float:
    gaps = np.abs(np.diff(np.sort(origins @ normal)))
    return float(gaps.min()) if len(gaps) and gaps.min() > 0 else np.inf


def _inside(place: Place, frame: SegmentFrame, rows: int, columns: int, grid: Grid) -> Place:
    _, height, width = grid.shape
    if not (0 <= place.y <= height - rows and 0 <= place.x <= width - columns):
        raise GeometryError(
            f"frame {frame.index} of the segmentation reaches beyond the image: pass resample=True to leave"
            " out what is outside, or open it without a grid"
        )
    return place


def _slice_of_source(frame: SegmentFrame, rows: int, columns: int, grid: Grid) -> Place:
    """The slice that a frame without geometry was drawn on."""
    found = cited_slices(frame, grid)
    if len(found) != 1:
        raise GeometryError(
            f"frame {frame.index} of the segmentation has no geometry ({frame.flaw or 'nor has the image'})"
            f" and refers to {len(found)} slices of this image, not to one: open it without a grid"
        )
    if not frame.in_place or (rows, columns) != grid.shape[1:]:
        raise GeometryError(
            f"frame {frame.index} of the segmentation has no geometry and not the rows and columns of its"
            " image: open it without a grid"
        )
    return Place(found[0], 0, 0)


def cited_slices(frame: SegmentFrame, grid: Grid) -> list[int]:
    """The slices of the grid that a frame names as its sources."""
    numbers = grid.frame_index or (0,) * len(grid.instance_uids)
    return [
        z
        for z, (uid, number) in enumerate(zip(grid.instance_uids, numbers, strict=True))
        if any(s.sop_instance_uid == uid and (not s.frames or number + 1 in s.frames) for s in frame.sources)
    ]
