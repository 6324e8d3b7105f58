"""Volumes in 3D, drawn by ipyniivue: reduced, and handed over as NIfTI in memory.

ipyniivue takes a whole volume at once into the memory of the graphics card; 20 MB are drawn even without
one, 160 MB are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.widgets.compare.registration import image_of

_MOST_MB = 20.0
_COLORMAPS = ("red", "green", "blue", "warm", "cool", "violet")


def render3d(
    image: Any,
    overlays: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    max_mb: float = _MOST_MB,
    colormap: str = "gray",
    window: tuple[float, float] | None = None,
    height: int = 480,
) -> Any:
    """A volume rendered by ipyniivue: a Stack, or an image (z, y, x) with geometry; returns its NiiVue.

    overlays: masks or images with geometry of their own, or arrays on the same grid (z, y, x). max_mb: of
    each volume. window: centre and width in the units of the image. Raises DicomlakeError without
    ipyniivue, GeometryError without an affine.
    """
    try:
        import ipyniivue
    except ImportError as exc:
        raise DicomlakeError(
            "3D rendering needs ipyniivue, which is not installed: pip install 'dicomlake[render]'"
        ) from exc
    volumes: list[dict[str, Any]] = [
        {"name": "image.nii", "data": nifti_bytes(image, max_mb=max_mb), "colormap": colormap}
    ]
    if window is not None:
        center, width = window
        volumes[0] |= {"cal_min": center - width / 2, "cal_max": center + width / 2}
    volumes += _overlays(image, overlays, max_mb)
    scene = ipyniivue.NiiVue(height=height)
    scene.load_volumes(volumes)
    scene.set_slice_type(ipyniivue.SliceType.RENDER)
    return scene


def nifti_bytes(image: Any, *, max_mb: float = _MOST_MB, labels: bool = False) -> bytes:
    """An image as NIfTI-1 (.nii) of at most `max_mb`, averaged over blocks; of labels every n-th voxel.

    The affine is RAS, mm, and follows the blocks. Axes before z are taken at their first index.
    """
    from dicomlake.volumes.accessor import DicomAccessor

    given = image_of(image)
    if "rgb" in given.dims:
        raise GeometryError("a volume of colours is not rendered: choose a grey one, or one of rgb")
    given = given.isel({dim: 0 for dim in given.dims if dim not in ("z", "y", "x")})
    affine = DicomAccessor(given).affine_ras
    values = given if labels else _rescaled(given)
    itemsize = np.dtype(values.dtype).itemsize if labels else 4
    factors = _factors(
        [given.sizes[d] for d in "zyx"], np.linalg.norm(affine[:3, :3], axis=0), itemsize, max_mb
    )
    array = _strided(values.values, factors) if labels else _averaged(values, factors)
    return _written(array, _coarser(affine, factors, centred=not labels))


def _overlays(image: Any, overlays: Any, max_mb: float) -> list[dict[str, Any]]:
    named = overlays.items() if isinstance(overlays, Mapping) else enumerate(overlays or ())
    found = []
    for number, (_name, one) in enumerate(named):
        placed = one if hasattr(image_of(one), "dims") else image_of(image).copy(data=_same_grid(image, one))
        colormap = _COLORMAPS[number % len(_COLORMAPS)]
        data = nifti_bytes(placed, max_mb=max_mb, labels=np.dtype(image_of(placed).dtype).kind in "bui")
        found.append({"name": f"overlay{number}.nii", "data": data, "colormap": colormap, "opacity": 0.5})
    return found


def _same_grid(image: Any, values: Any) -> np.ndarray:
    found, shape = np.asarray(values), image_of(image).shape
    if found.shape != shape:
        raise GeometryError(
            f"an overlay without geometry has the image's shape {shape}, this has {found.shape}"
        )
    return found.astype(np.uint8) if found.dtype == bool else found


def _rescaled(image: Any) -> Any:
    from dicomlake.errors import QuantityError
    from dicomlake.volumes.accessor import DicomAccessor

    try:
        return DicomAccessor(image).rescaled()
    except QuantityError:
        return image


def _factors(sizes: Sequence[int], steps_mm: np.ndarray, itemsize: int, max_mb: float) -> tuple[int, ...]:
    """How many voxels along z, y, x become one: the finest axis first, until it fits."""
    if not max_mb > 0:
        raise DicomlakeError("max_mb is the size of a volume in MB: give more than 0")
    factors = np.ones(3, dtype=int)
    sizes_now = np.array(sizes)
    while np.prod(-(-sizes_now // factors)) * itemsize > max_mb * 1e6 and (factors < sizes_now).any():
        steps = np.where(factors < sizes_now, steps_mm * factors, np.inf)
        factors[int(np.argmin(steps))] += 1
    return tuple(int(f) for f in factors)


def _averaged(values: Any, factors: Sequence[int]) -> np.ndarray:
    """Means over blocks, float32, slab by slab; the last block of an axis may be smaller."""
    parts = []
    for start in range(0, values.sizes["z"], factors[0]):
        slab = values.isel(z=slice(start, start + factors[0])).values.astype(np.float32)
        flat = slab.mean(axis=0)
        for axis in (0, 1):
            flat = _block_means(flat, factors[axis + 1], axis)
        parts.append(flat)
    return np.stack(parts)


def _block_means(plane: np.ndarray, factor: int, axis: int) -> np.ndarray:
    starts = np.arange(0, plane.shape[axis], factor)
    counts = np.diff(np.append(starts, plane.shape[axis]))
    sums = np.add.reduceat(plane, starts, axis=axis)
    return np.asarray(sums / (counts[:, None] if axis == 0 else counts), dtype=np.float32)


def _strided(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    found = values[tuple(slice(None, None, f) for f in factors)]
    return found.astype(np.uint8) if found.dtype == bool else found


def _coarser(affine: np.ndarray, factors: Sequence[int], *, centred: bool) -> np.ndarray:
    """centred: a voxel is the mean of a block, so it lies in its middle; else it is the block's first."""
    found = affine.copy()
    found[:3, :3] = affine[:3, :3] * np.array(factors)
    if centred:
        found[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    return found


def _written(values: np.ndarray, affine: np.ndarray) -> bytes:
    """values: (z, y, x); affine: of indices (z, y, x), RAS."""
    import nibabel

    made = nibabel.Nifti1Image(values.T, affine[:, [2, 1, 0, 3]])
    made.header.set_xyzt_units("mm")
    return bytes(made.to_bytes())
