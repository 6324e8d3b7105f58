"""From an object in hand to its overlay: segmentation, structure set, dose, image, mask, or masks by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.objects.colours import hex_of
from dicomlake.objects.segmentation import FRACTIONAL, LABELMAP, Segmentation
from dicomlake.objects.segments import Segment
from dicomlake.objects.structures import StructureSet
from dicomlake.widgets.images.encode import display_units
from dicomlake.widgets.overlays import base, contours, fusion, isodose, labels
from dicomlake.widgets.overlays.colours import colour_of, palette

Voxels = npt.NDArray[Any]

_AXES = ("z", "y", "x")
_OF_AN_IMAGE = ("photometric_interpretation", "bits_stored", "rescale_slope", "pet")
_NAMES = ("label", "roi_name", "name")


@dataclass(frozen=True, slots=True)
class How:
    """What the caller said about an overlay; see `Overlaying.add`."""

    colour: Any = None
    window: Any = None
    colormap: str | None = None
    levels: Any = None
    anyway: bool = False
    transform: Any = None
    name: str | None = None
    rank: int = 0  # how many are there already: a lone mask takes the next colour

    @property
    def as_image(self) -> bool:
        """Whether it is to be blended in, whatever it is."""
        return self.window is not None or self.colormap is not None


def overlay_of(what: Any, space: base.Space, key: str, how: How) -> tuple[str, base.Overlay]:
    """A name for it, and the overlay. Reads headers, and samples; no volume.

    Raises GeometryError when it does not lie in the space of the displayed image, DicomlakeError for what
    cannot be laid over an image.
    """
    if how.colormap is not None and how.colormap not in fusion.COLORMAPS:
        raise DicomlakeError(f"there is no colormap {how.colormap!r}: take {', '.join(fusion.COLORMAPS)}")
    if isinstance(what, Segmentation):
        return "Segmentation", _of_segmentation(what, space, key, how)
    if isinstance(what, StructureSet):
        return "Structures", _of_structures(what, space, key, how)
    if isinstance(what, Mapping) and not hasattr(what, "data_vars"):
        return "Masks", _of_named(what, space, key, how)
    return _of_array(_array(what), space, key, how)


def _array(what: Any) -> Any:
    """A DataArray of what holds one; an array of NumPy or of anything that is like it as it is."""
    for name in ("image", "segmentation"):
        if hasattr(what, "data_vars") and name in what.data_vars:
            return what[name]
    if hasattr(what, "dtype") and hasattr(what, "shape"):
        return what
    raise DicomlakeError(
        f"a {type(what).__name__} cannot be laid over an image: give a Segmentation, a StructureSet, a"
        " DataArray, a NumPy array of the image's shape, or a dict of masks by name; of a Series what"
        " series.open() gives, or image_series.segmentations()"
    )


def _of_array(array: Any, space: base.Space, key: str, how: How) -> tuple[str, base.Overlay]:
    attrs = getattr(array, "attrs", {})
    kind = np.dtype(array.dtype).kind
    if kind not in "buif":
        raise DicomlakeError(f"an array of {array.dtype} is neither a mask nor an image")
    if str(attrs.get("units", "")).upper() == "GY" and not how.as_image:
        return "Dose", _of_dose(array, space, key, how)
    measured = how.colour is None and any(name in attrs for name in _OF_AN_IMAGE)
    is_image = kind == "f" or (kind in "iu" and measured)
    if how.as_image or is_image:
        return str(attrs.get("modality") or "Image"), _of_image(array, space, key, how)
    return "Labels" if kind in "iu" else "Mask", _of_mask(array, space, key, how)


# ---- labels ----


def _of_segmentation(segmentation: Segmentation, space: base.Space, key: str, how: How) -> labels.Labels:
    threshold = _threshold(how.levels) if segmentation.kind == FRACTIONAL else None
    opened, placed = _opened(segmentation, space, how)
    entries = [_entry(segment, n, threshold) for n, segment in enumerate(segmentation.segments)]
    if len(entries) == 1 and how.colour is not None:
        entries[0]["color"] = colour_of(how.colour, "")

    def codes() -> labels.Codes:
        if segmentation.kind == LABELMAP:
            known = [segment.number for segment in segmentation.segments]
            return labels.numbered(opened.values, segmentation.background, known)
        return labels.joined(opened.shape[1:], _segments(opened, threshold))

    return labels.Labels(key, entries, codes, placed)


def _opened(segmentation: Segmentation, space: base.Space, how: How) -> tuple[Any, base.Placed | None]:
    """Its lazy voxels: on those of the displayed image where they coincide, else on its own grid."""
    mapped = base.mapped_by(how.transform)
    if space.grid is None:
        opened = segmentation.open().segmentation
        _check_shape(opened.shape[-3:], space)
        return opened, None
    if mapped is None:
        grid = space.grid
        if how.anyway and segmentation.frame_of_reference_uid:
            grid = replace(grid, frame_of_reference_uid=segmentation.frame_of_reference_uid)
        elif segmentation.frame_of_reference_uid is not None:
            base.check_space(segmentation.frame_of_reference_uid, space, "the segmentation", False)
        try:
            return segmentation.open(grid).segmentation, None
        except GeometryError:
            if segmentation.tiled or _own_grid(segmentation) is None:
                raise
    own = _own_grid(segmentation)
    if own is None:
        raise GeometryError("the segmentation has no even grid of its own: it cannot be resampled")
    return segmentation.open().segmentation, base.Placed(own, mapped)


def _own_grid(segmentation: Segmentation) -> Any:
    try:
        grid = segmentation.grid
    except GeometryError:
        return None
    return grid if grid is not None and grid.positions is None else None


def _segments(opened: Any, threshold: float | None) -> Iterable[tuple[int, Voxels]]:
    for place, number in enumerate(opened.coords["segment"].values.tolist()):
        mask = opened.isel(segment=place).values
        yield int(number), mask if threshold is None else mask >= np.float32(threshold)


def _entry(segment: Segment, rank: int, threshold: float | None) -> dict[str, Any]:
    name = segment.label or (segment.type.meaning if segment.type else f"segment {segment.number}")
    shown = name if threshold is None else f"{base.short(name)[:52]} ≥ {threshold:g}"
    colour = palette(rank) if segment.rgb is None else hex_of(segment.rgb)
    return base.label(segment.number, shown, colour)


def _threshold(levels: Any) -> float:
    """From what fraction on a voxel of a fractional segmentation is inside; a half unless told."""
    given = 0.5 if levels is None else levels
    if isinstance(given, Sequence) and len(given) == 1:
        given = given[0]
    if not isinstance(given, int | float) or not 0 < given <= 1:
        raise DicomlakeError("of a fractional segmentation, levels is one threshold above 0, up to 1")
    return float(given)


def _of_named(what: Mapping[Any, Any], space: base.Space, key: str, how: How) -> labels.Labels:
    """Masks by name, all on one grid."""
    if not what:
        raise DicomlakeError("an empty dict: give at least one mask by its name")
    colours = how.colour if isinstance(how.colour, Mapping) else {}
    placed = [_placed(mask, space, how, f"mask {n}") for n, mask in enumerate(what.values(), 1)]
    shapes = {tuple(np.shape(mask)) for mask in what.values()}
    grids = [one.grid if one else None for one in placed]
    if len(shapes) > 1 or not all(_alike(grids[0], grid) for grid in grids):
        raise GeometryError("the masks of one overlay lie on different grids: add them one by one")
    entries = [
        base.label(n, name, colour_of(colours.get(name), palette(n - 1))) for n, name in enumerate(what, 1)
    ]

    def codes() -> labels.Codes:
        masks = ((n, _solid(mask) != 0) for n, mask in enumerate(what.values(), 1))
        return labels.joined(next(iter(shapes)), masks)

    return labels.Labels(key, entries, codes, placed[0])


def _alike(one: Any, other: Any) -> bool:
    return (one is None) == (other is None) and (one is None or base.same_grid(one, other))


def _of_mask(array: Any, space: base.Space, key: str, how: How) -> labels.Labels:
    """A bool mask, bool masks along a dimension, or whole numbers that are labels."""
    along = _extra_dims(array)
    if len(along) > 1 or (along and np.dtype(array.dtype).kind != "b"):
        raise DicomlakeError(
            "a mask has dimensions z, y, x, and bool masks may have one more: select one of"
            f" {', '.join(along)}"
        )
    if along:
        return _along(array, along[0], space, key, how)
    placed = _placed(array, space, how, "the mask")
    if np.dtype(array.dtype).kind == "b":
        name = how.name or getattr(array, "name", None) or "mask"
        entry = base.label(1, name, colour_of(how.colour, palette(how.rank)))
        return labels.Labels(key, [entry], lambda: labels.joined(array.shape, [(1, _solid(array))]), placed)
    values = [value for value in labels.values_in(_solid(array)) if value != 0]
    names = _meanings(array)
    single = how.colour if len(values) == 1 else None
    entries = [
        base.label(value, names.get(value, value), colour_of(single, palette(n)))
        for n, value in enumerate(values)
    ]
    return labels.Labels(key, entries, lambda: labels.numbered(_solid(array), 0, values), placed)


def _along(array: Any, dim: str, space: base.Space, key: str, how: How) -> labels.Labels:
    """Bool masks along one dimension, such as those of a segmentation or a structure set."""
    ordered = array.transpose(dim, *_AXES)
    placed = _placed(ordered.isel({dim: 0}), space, how, "the masks")
    count = ordered.sizes[dim]
    coordinate = next((n for n in _NAMES if n in array.coords and array.coords[n].dims == (dim,)), dim)
    names = array.coords[coordinate].values.tolist() if coordinate in array.coords else range(1, count + 1)
    entries = [base.label(n + 1, name, palette(n)) for n, name in enumerate(names)]

    def codes() -> labels.Codes:
        masks = ((n + 1, ordered.isel({dim: n}).values) for n in range(count))
        return labels.joined(ordered.shape[1:], masks)

    return labels.Labels(key, entries, codes, placed)


def _meanings(array: Any) -> dict[int, Any]:
    """Names of the values: `flag_values` and `flag_meanings`, as CF has them, or a dict `labels`."""
    attrs = getattr(array, "attrs", {})
    if isinstance(attrs.get("labels"), Mapping):
        return {int(value): name for value, name in attrs["labels"].items()}
    meanings = attrs.get("flag_meanings", ())
    meanings = meanings.split() if isinstance(meanings, str) else meanings
    return dict(zip((int(v) for v in attrs.get("flag_values", ())), meanings, strict=False))


# ---- contours, dose, images ----


def _of_structures(structures: StructureSet, space: base.Space, key: str, how: How) -> contours.Contours:
    if space.grid is None:
        raise GeometryError("the displayed image has no geometry: contours cannot be laid over it")
    regions = [region for region in structures.regions if region.contours]
    for region in regions:
        drawn_on = {image.sop_instance_uid for c in region.contours for image in c.images}
        shares = how.transform is not None or bool(drawn_on & set(space.grid.instance_uids))
        base.check_space(
            region.frame_of_reference_uid, space, f"ROI {region.number} of the structures",
            how.anyway or (shares and region.frame_of_reference_uid is None) or how.transform is not None,
        )  # fmt: skip
    mapped = base.mapped_by(how.transform)
    if mapped is not None:
        matrix = base.matrix_of(mapped)
        if matrix is None:
            raise DicomlakeError("contours follow a linear transform only: draw their masks, and add these")
        back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
        regions = [contours.moved(region, back) for region in regions]
    entries = [
        base.label(r.number, r.name or f"ROI {r.number}", colour_of(r.colour, palette(n)))
        for n, r in enumerate(regions)
    ]
    flawed = sum(c.flaw is not None for region in regions for c in region.contours)
    note = f"{flawed} contours cannot be drawn; see .findings" if flawed else ""
    return contours.Contours(key, tuple(regions), entries, space.grid, note)


def _of_dose(array: Any, space: base.Space, key: str, how: How) -> isodose.Isodose:
    placed = _placed(array, space, how, "the dose")
    if placed is None:
        if space.grid is None:
            raise GeometryError("neither the dose nor the displayed image has a geometry")
        placed = base.Placed(space.grid)
    _refuse_extra(array, ())

    def values() -> npt.NDArray[np.float32]:
        return _solid(array).astype(np.float32)

    highest = float(np.nanmax(_solid(array)))
    if not highest > 0:
        raise DicomlakeError("the dose is 0 everywhere: it has no isodose lines")
    levels, reference, prescribed = isodose.levels_of(how.levels, highest)
    return isodose.Isodose(key, values, placed, highest, reference, prescribed, levels)


def _of_image(array: Any, space: base.Space, key: str, how: How) -> fusion.Fusion:
    if "rgb" in getattr(array, "dims", ()):
        raise DicomlakeError("a colour image cannot be blended in: it has no values for a colour map")
    shared = _refuse_extra(array, space.extras)
    placed = _placed(array, space, how, "the image")
    window = how.window
    if window is None:
        window = fusion.usual_window(_sample(array, shared))
    elif not (len(window) == 2 and np.isfinite(window).all() and window[1] > 0):
        raise DicomlakeError("window is (center, width) in the units of the image, the width above 0")
    units = (
        display_units(array)[1] if _is_ours(array) else str(getattr(array, "attrs", {}).get("units") or "")
    )
    chosen = how.colormap or ("inferno" if np.dtype(array.dtype).kind == "b" else "hot")

    def values(extra: Mapping[str, int]) -> npt.NDArray[np.float32]:
        return _solid(_in_units(array.isel(extra) if extra else array)).astype(np.float32)

    return fusion.Fusion(
        key, values, placed, tuple(shared), (float(window[0]), float(window[1])), chosen, "ramp", units
    )


def _is_ours(array: Any) -> bool:
    """Whether an array says what its stored values mean."""
    return any(name in getattr(array, "attrs", {}) for name in _OF_AN_IMAGE)


def _in_units(array: Any) -> Any:
    """In the units that a viewer of it shows, NaN for padding; any other array as it is."""
    if not _is_ours(array):
        return array
    from dicomlake.volumes import rescale

    factor, _units = display_units(array)
    values = rescale.rescaled(rescale.without_padding(array))
    return values if factor == 1 else values * factor


def _sample(array: Any, shared: Iterable[str]) -> Voxels:
    """Some planes in the middle of an image, in its units."""
    count = array.shape[-3]
    chosen = sorted({int(share * (count - 1)) for share in (0.2, 0.35, 0.5, 0.65, 0.8)})
    if hasattr(array, "isel"):
        first = {dim: array.sizes[dim] // 2 for dim in shared}
        return np.asarray(_in_units(array.isel(first)).isel(z=chosen).values)
    return np.asarray(array[chosen])


def _extra_dims(array: Any) -> list[str]:
    if hasattr(array, "dims"):
        return [str(dim) for dim in array.dims if dim not in _AXES and dim != "frame"]
    if np.ndim(array) != 3:
        raise DicomlakeError(f"an array of {np.ndim(array)} axes: overlays have three, (z, y, x)")
    return []


def _refuse_extra(array: Any, shared: Mapping[str, int] | tuple[()]) -> list[str]:
    """Its extra dimensions, which must be those of the displayed image."""
    extra = _extra_dims(array)
    theirs = dict(shared)
    unknown = [dim for dim in extra if theirs.get(dim) != array.sizes[dim]]
    if unknown:
        raise DicomlakeError(
            f"the overlay has dimensions that the displayed image lacks: select one of {', '.join(unknown)}"
            f" first, such as .isel({unknown[0]}=0)"
        )
    return extra


# ---- where ----


def _placed(array: Any, space: base.Space, how: How, what: str) -> base.Placed | None:
    """Where an array lies; None when its voxels are those of the displayed image."""
    mapped = base.mapped_by(how.transform)
    grid = base.grid_of(array) if hasattr(array, "dims") else None
    if grid is None:
        shape = tuple(np.shape(array))[-3:]
        _check_shape(shape, space)
        if mapped is None:
            return None
        if space.grid is None:
            raise GeometryError("a transform needs a displayed image with geometry")
        grid = space.grid
    elif mapped is None:
        base.check_space(grid.frame_of_reference_uid, space, what, how.anyway)
        if space.grid is not None and base.same_grid(grid, space.grid):
            return None
    if grid.positions is not None:
        raise GeometryError(f"{what} has unevenly spaced planes: take .dicom.resampled() of it first")
    return base.Placed(grid, mapped)


def _check_shape(shape: Sequence[int], space: base.Space) -> None:
    if tuple(shape) != space.shape:
        raise GeometryError(
            f"an array without geometry of shape {tuple(shape)} cannot be laid over an image of shape"
            f" {space.shape}: give one of that shape, or a DataArray that says where it lies"
        )


def _solid(array: Any) -> Voxels:
    """The values, (z, y, x), in memory."""
    if not hasattr(array, "dims"):
        return np.asarray(array)
    from dicomlake.volumes import placing

    if "frame" in array.dims:
        return np.asarray(array.values)
    return np.asarray(placing.whole_space(array).transpose(*_AXES).values)
