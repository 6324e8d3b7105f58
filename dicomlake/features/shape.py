"""The shape of a region: volumes, surface, axes and densities of its mask, in mm.

Definitions, names and codes of the IBSI reference manual, section 3.1 (`features.nomenclature`). The surface
is the mesh of marching cubes at level 0.5, so it runs halfway between voxel centres inside and outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
import numpy.typing as npt

from dicomlake.errors import GeometryError, QuantityError
from dicomlake.features.nomenclature import MORPHOLOGY, MORPHOLOGY_OF_INTENSITIES

Array = npt.NDArray[np.float64]
_BLOCK = 512  # hull vertices that are held against all others at once
_TERMS = 20  # of the series for the surface of an ellipsoid, as the manual has it


def shape_features(mask: npt.ArrayLike, spacing_mm: npt.ArrayLike) -> dict[str, float]:
    """21 morphological features (IBSI HCUG) of a mask, by name, in the order of the manual.

    mask: bool, (z, y, x). What it touches the edge of the array with is closed there.
    spacing_mm: distance of voxel centres along z, y, x, mm; or the (3, 3) matrix whose columns are the steps
        along z, y, x in space, mm, such as the upper left of `image.dicom.affine`, which may lean.
    Lengths in mm, areas in mm2, volumes in mm3. Bounding boxes lie along the rows, the columns and the normal
    of the slices. Where all voxel centres are in one plane, line or point, what divides by an axis of length
    0 is NaN. Raises GeometryError for an empty mask, or steps that span no space.
    """
    inside, first = _cropped(mask)
    steps = upright(spacing_mm)
    mesh = _mesh(inside, steps)
    axes = _axis_lengths(_centres(inside, first, steps))
    found = (*_sphere_features(inside, steps, mesh), *_axes_features(axes), *_densities(mesh, axes))
    return dict(zip((one.name for one in MORPHOLOGY), found, strict=True))


def intensity_shape_features(
    mask: npt.ArrayLike,
    intensities: npt.ArrayLike,
    spacing_mm: npt.ArrayLike,
    *,
    volume_mm3: float | None = None,
) -> dict[str, float]:
    """Centre of mass shift (KLMA, mm) and integrated intensity (99N0, the unit of the intensities x mm3).

    mask, spacing_mm: as in `shape_features`. intensities: (z, y, x), of the same shape; voxels of the mask
    that are NaN there count for its shape, not for the intensities. volume_mm3: `volume_mesh`, where it is
    known already. The shift is NaN where intensities add up to 0, and means little where some are negative.
    Raises QuantityError when no intensity is inside.
    """
    given = np.asarray(intensities)
    if given.shape != np.shape(mask):
        raise GeometryError(f"a mask of shape {np.shape(mask)} is not on the grid of {given.shape} voxels")
    inside, first = _cropped(mask)
    part = tuple(slice(a, a + n) for a, n in zip(first, inside.shape, strict=True))
    values = given[part][inside].astype(np.float64)
    centres = _centres(inside, first, upright(spacing_mm))
    known = ~np.isnan(values)
    if not known.any():
        raise QuantityError("no voxel with an intensity lies in the region: it has no centre of mass")
    total = float(values[known].sum())
    weighted = values[known] @ centres[known] / total if total else np.full(3, np.nan)
    shift = float(np.linalg.norm(weighted - centres.mean(axis=0)))
    volume = _mesh(inside, upright(spacing_mm)).volume if volume_mm3 is None else volume_mm3
    found = (shift, volume * float(values[known].mean()))
    return dict(zip((one.name for one in MORPHOLOGY_OF_INTENSITIES), found, strict=True))


def upright(spacing_mm: npt.ArrayLike) -> Array:
    """Steps along z, y, x, the columns, turned so that x is along rows and z along the normal; (3, 3), mm.

    Rows of the result are z, y, x. A diagonal matrix of distances unless the slices lean.
    Raises GeometryError when they span no space.
    """
    given = np.asarray(spacing_mm, dtype=np.float64)
    matrix = np.diag(given) if given.shape == (3,) else given
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise GeometryError(
            "spacing is three distances in mm along z, y, x, or the matrix of the three steps"
        )
    if given.shape == (3,):
        return np.abs(matrix)
    turned = np.linalg.qr(matrix[:, ::-1]).R  # columns x, y, z: x along the first axis, y in its plane
    signs = np.where(np.diag(turned) < 0, -1.0, 1.0)
    return np.asarray((turned * signs[:, None])[::-1, ::-1])


# ---- the mask ------------------------------------------------------------------------------------------


def _cropped(mask: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], tuple[int, ...]]:
    """The part of the mask that holds something, and where it begins."""
    inside = np.asarray(mask)
    if inside.ndim != 3 or inside.dtype != bool:
        raise GeometryError(f"a mask is bool and (z, y, x), not {inside.dtype} with {inside.ndim} dimensions")
    if not inside.any():
        raise GeometryError("no voxel lies in the region: it has no shape")
    spans = []
    for axis in range(3):
        occupied = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return inside[tuple(spans)], tuple(span.start for span in spans)


def _centres(inside: npt.NDArray[np.bool_], first: tuple[int, ...], steps: Array) -> Array:
    """Positions of the voxel centres, (n, 3), mm; from the first voxel of the array."""
    return np.asarray((np.argwhere(inside) + np.array(first)) @ steps.T)


# ---- the mesh ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Mesh:
    """The surface: vertices (n, 3), mm, and what it holds, mm3, and measures, mm2."""

    vertices: Array
    volume: float
    area: float


def _mesh(inside: npt.NDArray[np.bool_], steps: Array) -> _Mesh:
    from skimage.measure import marching_cubes

    padded = np.pad(inside, 1).astype(np.float32)
    points, faces, _, _ = marching_cubes(padded, level=0.5)  # type: ignore[no-untyped-call]  # untyped there
    vertices = np.asarray(points, dtype=np.float64) @ steps.T
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6
    area = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2
    return _Mesh(vertices, volume, area)


def _sphere_features(inside: npt.NDArray[np.bool_], steps: Array, mesh: _Mesh) -> tuple[float, ...]:
    """Volumes, surface, and how they compare with those of a sphere."""
    volume, area = mesh.volume, mesh.area
    compactness = 36 * pi * volume**2 / area**3
    return (
        volume,
        float(inside.sum()) * abs(float(np.linalg.det(steps))),
        area,
        area / volume,
        volume / (pi**0.5 * area**1.5),
        compactness,
        compactness ** (-1 / 3),
        compactness ** (1 / 3),
        compactness ** (-1 / 3) - 1,
        _diameter(_hull(mesh.vertices)[0]),
    )


def _hull(vertices: Array) -> tuple[Array, float, float]:
    """Corners of the convex hull, its volume, and its surface."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(vertices)
    return vertices[hull.vertices], float(hull.volume), float(hull.area)


def _diameter(corners: Array) -> float:
    from scipy.spatial.distance import cdist

    blocks = range(0, len(corners), _BLOCK)
    return max(float(cdist(corners[i : i + _BLOCK], corners[i:]).max()) for i in blocks)


# ---- the axes ------------------------------------------------------------------------------------------


def _axis_lengths(centres: Array) -> tuple[float, float, float]:
    """Lengths of the major, minor and least axis, mm: four standard deviations of the voxel centres.

    The reference values of the manual are those of the sample covariance, over n - 1.
    """
    apart = centres - centres.mean(axis=0)
    variances = np.linalg.eigvalsh(apart.T @ apart / max(len(apart) - 1, 1))[::-1]
    smallest = 1e-12 * max(float(variances[0]), 1.0)
    major, minor, least = (4 * float(v) ** 0.5 if v > smallest else 0.0 for v in variances)
    return major, minor, least


def _axes_features(axes: tuple[float, float, float]) -> tuple[float, ...]:
    major, minor, least = axes
    return (major, minor, least, _ratio(minor, major), _ratio(least, major))


def _densities(mesh: _Mesh, axes: tuple[float, float, float]) -> tuple[float, ...]:
    """Volume and surface as parts of those of the bounding box, the ellipsoid and the convex hull."""
    depth, height, width = np.ptp(mesh.vertices, axis=0)
    a, b, c = (length / 2 for length in axes)
    _, hull_volume, hull_area = _hull(mesh.vertices)
    others = (
        (float(depth * height * width), 2 * float(depth * height + depth * width + height * width)),
        (4 / 3 * pi * a * b * c, _ellipsoid_area(a, b, c) if c else 0.0),
        (hull_volume, hull_area),
    )
    own = (mesh.volume, mesh.area)
    return tuple(_ratio(mine, its) for pair in others for mine, its in zip(own, pair, strict=True))


def _ellipsoid_area(a: float, b: float, c: float) -> float:
    """Surface of an ellipsoid with semi-axes a >= b >= c, by the series of Legendre polynomials.

    (alpha beta)^n P_n((alpha^2 + beta^2) / (2 alpha beta)) is taken by the recurrence of P_n times the power,
    which does not divide by alpha or beta, 0 for a spheroid or sphere.
    """
    alpha2, beta2 = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    before, term, total = 0.0, 1.0, 0.0
    for n in range(_TERMS + 1):
        total += term / (1 - 4 * n**2)
        following = ((2 * n + 1) * (alpha2 + beta2) / 2 * term - n * alpha2 * beta2 * before) / (n + 1)
        before, term = term, following
    return 4 * pi * a * b * total


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")
