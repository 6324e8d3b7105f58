"""What an overlay is, the displayed planes it is asked for, and where their pixels lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.grid import Grid
from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.widgets.images.planes import Plane
from dicomlake.widgets.overlays.kept import Kept

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]
Mapped = Callable[[Array], Array]
"""Positions (n, 3), LPS, mm, of the displayed image -> the same places in the space of the overlay."""

MOST_NAME = 64
_SAME_MM = 1e-3  # how far voxels of two grids may be apart and still be the same


class Shown(Protocol):
    """The displayed image, as far as an overlay needs it; a Stack is one."""

    @property
    def image(self) -> xr.DataArray:
        """(…extras, z, y, x[, rgb])."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""

    @property
    def planes(self) -> Mapping[str, Plane]:
        """By name."""

    @property
    def extras(self) -> Mapping[str, int]:
        """Dimensions before z, and their sizes."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where the voxels of the displayed image lie. grid: None where it has no geometry."""

    shape: tuple[int, int, int]
    planes: Mapping[str, Plane]
    extras: Mapping[str, int]
    grid: Grid | None

    @classmethod
    def of(cls, shown: Shown) -> Space:
        """The space of a stack."""
        return cls(shown.shape, shown.planes, dict(shown.extras), grid_of(shown.image))

    def points(self, index: Array) -> Array:
        """Voxel index (…, 3), not necessarily whole, to patient position, LPS, mm."""
        if self.grid is None:
            raise GeometryError(
                "the displayed image has no geometry, so nothing of another grid can be laid over it: give"
                f" an array of its own shape {self.shape}"
            )
        if self.grid.positions is None:
            return np.asarray(index @ self.grid.affine[:3, :3].T + self.grid.affine[:3, 3])
        planes = np.clip(np.rint(index[..., 0]).astype(int), 0, self.shape[0] - 1)
        return np.asarray(self.grid.positions[planes] + index[..., 1:] @ self.grid.affine[:3, 1:3].T)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One displayed plane: (rows, cols) pixels, and for (row, col, 1) the voxel index (z, y, x), (3, 3).

    plane, number: of one that cuts along the voxels; None for an oblique one.
    """

    space: Space
    rows: int
    cols: int
    matrix: Array
    plane: Plane | None = None
    number: int = 0

    @classmethod
    def along(cls, space: Space, plane: Plane, number: int) -> Cut:
        """The number-th plane of a stack."""
        at = plane.to_index
        matrix = np.column_stack([at[:3, 1], at[:3, 2], at[:3, 3] + number * at[:3, 0]])
        return cls(space, plane.rows, plane.cols, matrix, plane, number)

    @classmethod
    def oblique(cls, space: Space, corner_mm: Array, down_mm: Array, right_mm: Array, *shape: int) -> Cut:
        """Pixel (0, 0) at corner_mm, the next rows and columns by steps of down_mm and right_mm (LPS)."""
        if space.grid is None or space.grid.positions is not None:
            raise GeometryError("an image without an even grid has no oblique planes")
        inverse = np.linalg.inv(space.grid.affine[:3, :3])
        origin = inverse @ (corner_mm - space.grid.affine[:3, 3])
        matrix = np.column_stack([inverse @ down_mm, inverse @ right_mm, origin])
        return cls(space, shape[0], shape[1], matrix)

    def index(self) -> Array:
        """Voxel index of every pixel in the displayed image, (rows, cols, 3)."""
        return self.through(self.matrix)

    def through(self, matrix: Array) -> Array:
        """What a (3, 3) matrix makes of (row, col, 1) of every pixel, (rows, cols, 3)."""
        rows = np.arange(self.rows)[:, None, None] * matrix[:, 0]
        cols = np.arange(self.cols)[None, :, None] * matrix[:, 1] + matrix[:, 2]
        return np.asarray(rows + cols)

    def points(self) -> Array:
        """Patient position of every pixel, (rows, cols, 3), LPS, mm."""
        return self.space.points(self.index())

    def taken(self, volume: npt.NDArray[Any], outside: Any = 0) -> npt.NDArray[Any]:
        """The pixels of this plane in an array on the voxels of the displayed image: the nearest ones."""
        if self.plane is None:
            return nearest(volume, self.index(), outside)
        part = volume[self.plane.box(self.number, self.number + 1)]
        return np.ascontiguousarray(self.plane.displayed(part)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A grid of its own in the patient, seen from the displayed image.

    grid: of the overlay, regular. mapped: from the space of the displayed image to that of the overlay.
    """

    grid: Grid
    mapped: Mapped | None = None

    def index(self, cut: Cut) -> Array:
        """Of every pixel of a plane its fractional index in the grid, (rows, cols, 3)."""
        shown = cut.space.grid
        if self.mapped is None and shown is not None and shown.positions is None:
            return cut.through(self._joined(shown.affine, cut.matrix))
        points = cut.points()
        if self.mapped is not None:
            points = self.mapped(points.reshape(-1, 3)).reshape(points.shape)
        return self.grid.to_index(points)

    def _joined(self, affine: Array, matrix: Array) -> Array:
        """From (row, col, 1) through the displayed image's index and the patient to the grid's index."""
        there = np.linalg.inv(self.grid.affine) @ affine
        found = there[:3, :3] @ matrix
        found[:, 2] += there[:3, 3]
        return np.asarray(found)


@dataclass(frozen=True, slots=True)
class Request:
    """What the browser asks of an overlay. extra: index of each extra dimension of the displayed image."""

    cuts: tuple[Cut, ...]
    extra: Mapping[str, int] = field(default_factory=dict)
    levels: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What goes to the browser: data of JSON types, and one buffer for each cut."""

    data: dict[str, Any]
    buffers: Sequence[Any]


class Overlay(Protocol):
    """Something that is drawn over planes of an image."""

    @property
    def kind(self) -> str:
        """ "labels", "contours", "isodose" or "fusion"."""

    def state(self) -> dict[str, Any]:
        """Its part of the trait `overlays`, beside id, visible and alpha."""

    def ready(self, _request: Request, kept: Kept) -> bool:
        """Whether a request can be answered at once; if not, `draw` reads or makes a whole volume first."""

    def draw(self, request: Request, kept: Kept) -> Drawn:
        """What was asked for; what is costly to make is kept."""


def nearest(volume: npt.NDArray[Any], index: Array, outside: Any = 0) -> npt.NDArray[Any]:
    """The voxels nearest to fractional indexes (…, 3); of two, the one with the larger index."""
    whole = np.floor(index + 0.5).astype(np.intp)
    inside = ((whole >= 0) & (whole < volume.shape)).all(axis=-1)
    out = np.full(index.shape[:-1], outside, dtype=volume.dtype)
    out[inside] = volume[tuple(whole[inside].T)]
    return out


def linear(volume: npt.NDArray[np.float32], index: Array) -> npt.NDArray[np.float32]:
    """Trilinear between voxel centres, in the outer half of an outermost voxel its own value; NaN beyond."""
    from scipy.ndimage import map_coordinates

    last = np.array(volume.shape) - 0.5
    inside = ((index >= -0.5 - 1e-6) & (index <= last + 1e-6)).all(axis=-1)
    out = np.full(index.shape[:-1], np.nan, dtype=np.float32)
    places = np.clip(index[inside], 0, np.array(volume.shape) - 1)
    out[inside] = map_coordinates(volume, places.T, output=np.float32, order=1, mode="nearest")
    return out


def grid_of(image: Any) -> Grid | None:
    """The grid of a DataArray; None when it has none."""
    from dicomlake.volumes import placing

    try:
        return placing.grid(image)
    except (GeometryError, KeyError, AttributeError):
        return None


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether the voxels of two grids coincide, whatever their frames of reference."""
    if one.shape != other.shape:
        return False
    (z, y, x), ends = one.shape, []
    for grid in (one, other):
        corners = np.array([[0, 0], [y - 1, 0], [0, x - 1]]) @ grid.affine[:3, 1:3].T
        ends.append((grid.origins[:, None] + corners) if z else corners)
    return bool(np.abs(ends[0] - ends[1]).max(initial=0.0) < _SAME_MM)


def check_space(mine: str | None, space: Space, what: str, anyway: bool) -> None:
    """Raise GeometryError unless the overlay is in the frame of reference of the displayed image."""
    theirs = space.grid.frame_of_reference_uid if space.grid else None
    if anyway or (mine is not None and mine == theirs):
        return
    raise GeometryError(
        f"{what} is in frame of reference {mine or 'unknown'}, the displayed image in {theirs or 'unknown'}:"
        " positions in one mean nothing in the other; register the two and pass transform=, or pass"
        " anyway=True if you know that they are one"
    )


def mapped_by(transform: Any) -> Mapped | None:
    """A transform, from patient mm of the displayed image to those of the overlay, as a function of points.

    transform: None, (4, 4), a SimpleITK transform as registration to the displayed image gives it, or a
    function of points (n, 3).
    """
    if transform is None:
        return None
    if hasattr(transform, "TransformPoint"):
        matrix = _of_itk(transform)
        if matrix is None:
            return lambda points: np.array([transform.TransformPoint(p) for p in points.tolist()])
        return _by_matrix(matrix)
    if callable(transform):
        return lambda points: np.asarray(transform(points), dtype=float)
    matrix = np.asarray(transform, dtype=float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise DicomlakeError(
            "transform must be an invertible (4, 4) matrix from patient mm of the displayed image to patient"
            " mm of the overlay, a SimpleITK transform, or a function of points (n, 3)"
        )
    return _by_matrix(matrix)


def _by_matrix(matrix: Array) -> Mapped:
    return lambda points: points @ matrix[:3, :3].T + matrix[:3, 3]


def _of_itk(transform: Any) -> Array | None:
    """The matrix of a linear SimpleITK transform."""
    if not transform.IsLinear():
        return None
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - matrix[:3, 3]
    return matrix


def matrix_of(mapped: Mapped) -> Array | None:
    """The (4, 4) matrix of a mapping, None when it is not linear."""
    probe = np.vstack([np.zeros(3), 100 * np.eye(3), [[37.0, -81.0, 55.0]]])
    found = mapped(probe)
    matrix = np.eye(4)
    matrix[:3, 3] = found[0]
    matrix[:3, :3] = ((found[1:4] - found[0]) / 100).T
    off = np.abs(matrix[:3, :3] @ probe[4] + matrix[:3, 3] - found[4]).max()
    return matrix if off < _SAME_MM else None


def short(name: Any) -> str:
    """A name of a label as the browser gets it: one line of at most 64 characters."""
    return " ".join(str(name).split())[:MOST_NAME]


def label(value: float, name: Any, colour: str) -> dict[str, Any]:
    """One entry of the list of labels of an overlay."""
    return {"value": value, "name": short(name), "color": colour, "visible": True}
