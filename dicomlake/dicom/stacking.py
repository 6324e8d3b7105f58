"""From the frames of a series to stacks: which frames belong together, in which order, proven how.

Frames that differ in what no array can mix (patient, frame of reference, matrix, pixel type …) part
first, then those of different orientation. Parallel planes are sorted into places along their normal;
several frames at a place must be told apart by something they say (`products`), or are repeats, or
conflict. What is left is a stack of one plane, or one grid of planes, at each place, and a verdict says
what was proven about the positions. Nothing is made to fit, nothing is left out: every frame is in
exactly one stack, or recorded as an exact duplicate of one that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import products
from dicomlake.dicom.facet_table import FacetTable
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.layers import layers
from dicomlake.dicom.planes import Layer
from dicomlake.dicom.verdicts import Gap, Judgement, SliceStep, Verdict, judge
from dicomlake.errors import GeometryError

Array = npt.NDArray[np.float64]

SPACING_TOLERANCE = 1e-4  # relative difference of PixelSpacing within a stack
COSINE_TOLERANCE = 1e-3  # difference of a direction cosine within a stack
MANY_DIRECTIONS = 32  # of which none holds a grid: planes that turn in steps too small to tell apart
MIN_SCATTERED = 5  # frames that must line up to overrule as many different FrameOfReferenceUIDs

PixelHash = Callable[[Frame], bytes | None]
"""Hash of the decoded values of a frame, None where it cannot be decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Frames that belong together, and what was proven about where they lie.

    frames: in C order over `axes`, then ascending along the normal (row direction x column direction,
        right-handed); by InstanceNumber where there is no order in space.
    axes: the extra dimensions, slowest first.
    places: planes along the normal, or frames where there is no order in space.
    affine: voxel index (z, y, x) to LPS mm, shape (4, 4); only for verdicts regular and sheared.
    positions: ImagePositionPatient of each place, (places, 3), LPS mm; None when a frame has none.
    heights: of each place along the normal, ascending, mm; None where there is no order in space.
    duplicates: frames equal in everything, pixels included, to one in `frames`.
    split_by: what parts it from other stacks of the series.
    partial: the rest of a product that was cut short, or a frame in conflict with another.
    reason: the verdict in one sentence.
    """

    frames: tuple[Frame, ...]
    verdict: Verdict
    reason: str
    axes: tuple[products.Axis, ...] = ()
    places: int = 0
    affine: Array | None = None
    positions: Array | None = None
    heights: Array | None = None
    gaps: tuple[Gap, ...] = ()
    slice_step: SliceStep = "measured"
    duplicates: tuple[Frame, ...] = ()
    split_by: tuple[str, ...] = ()
    partial: bool = False

    @property
    def is_grid(self) -> bool:
        """Whether one affine places every voxel."""
        return self.affine is not None

    @property
    def frame_of_reference_uid(self) -> str | None:
        """The FrameOfReferenceUID that all frames share, None when there is none."""
        found = {frame.frame_of_reference_uid for frame in self.frames}
        return found.pop() if len(found) == 1 else None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The smallest dtype for all frames; BitsStored may differ between them."""
        return max((frame.pixel.dtype for frame in self.frames), key=lambda dtype: dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Stacking:
    """The stacks of a series, by their smallest InstanceNumber."""

    stacks: tuple[Stack, ...]


def stack(frames: Iterable[Frame], pixel_hash: PixelHash | None = None) -> Stacking:
    """Sort frames into stacks; the same frames give the same stacks, however they are shuffled.

    pixel_hash: proves that frames which nothing tells apart are duplicates; without it none is.
    Raises GeometryError when a frame would be lost or used twice, which no input should cause.
    """
    given = sorted(frames, key=instance_order)
    groups = _never_together(given)
    stacks = [
        replace(found, split_by=tuple(dict.fromkeys((*apart, *found.split_by))))
        for apart, group in groups
        for found in _stacks_of(group, pixel_hash)
    ]
    _check_complete(given, stacks)
    return Stacking(tuple(sorted(stacks, key=lambda found: min(map(instance_order, found.frames)))))


def instance_order(frame: Frame) -> tuple[float, str, int, tuple[int, ...]]:
    """By InstanceNumber, then by what never changes."""
    number = float("inf") if frame.instance_number is None else frame.instance_number
    return number, frame.sop_instance_uid, frame.frame_index, frame.tile or ()


def _check_complete(given: Sequence[Frame], stacks: Sequence[Stack]) -> None:
    used = Counter(id(frame) for found in stacks for frame in (*found.frames, *found.duplicates))
    if used != Counter(map(id, given)):
        raise GeometryError(
            f"{len(given)} frames were given and {used.total()} are in stacks: please report this defect"
        )


# ---- which frames may share an array ---------------------------------------------------------------


def _hard_key(frame: Frame) -> dict[str, Hashable]:
    """What frames of one array agree in, by the name that `split_by` gives it."""
    pixel = frame.pixel
    run = frame.sop_instance_uid if frame.multiframe and not frame.has_geometry else None
    return {
        "patient": frame.patient_key,
        "study": frame.study_instance_uid,
        "series": frame.series_instance_uid,
        "sop_class": frame.sop_class_uid,
        "matrix": (pixel.rows, pixel.columns),
        "photometric_interpretation": (pixel.samples, pixel.photometric),
        "pixel_type": (pixel.bits_allocated, pixel.signed, pixel.kind),
        "units": frame.units,
        "localizer": frame.localizer,
        "geometry": (frame.has_geometry, frame.facets.get("coordinates")),
        "run": run,  # of a cine: frames without geometry follow each other within their object only
    }


def _never_together(frames: Sequence[Frame]) -> list[tuple[tuple[str, ...], list[Frame]]]:
    """Groups of frames that may share an array, each with the names of what parts them all."""
    keys = [_hard_key(frame) for frame in frames]
    apart = tuple(name for name in keys[0] if len({key[name] for key in keys}) > 1) if keys else ()
    groups: dict[Hashable, list[Frame]] = {}
    for key, frame in zip(keys, frames, strict=True):
        groups.setdefault(tuple(key.values()), []).append(frame)
    found = []
    for group in groups.values():
        parts = _same_spacing(group)
        names = (*apart, "pixel_spacing") if len(parts) > 1 else apart
        found += [(names, part) for part in parts]
    return found


def _same_spacing(group: list[Frame]) -> list[list[Frame]]:
    """Frames of one PixelSpacing together; all of those that have none."""
    if not group[0].has_geometry:
        return [group]
    logarithms = np.log(np.array([frame.spacing_mm for frame in group], dtype=float))
    return [[group[i] for i in part] for part in _clusters(logarithms, SPACING_TOLERANCE)]


def _clusters(vectors: Array, tolerance: float) -> list[list[int]]:
    """Each row of an array joins the first cluster whose first row it resembles; as indices."""
    clusters: list[list[int]] = []
    left = np.arange(len(vectors))
    while len(left):
        alike = (np.abs(vectors[left] - vectors[left[0]]) <= tolerance).all(axis=1)
        clusters.append(left[alike].tolist())
        left = left[~alike]
    return clusters


# ---- what is proven about them ---------------------------------------------------------------------


def _stacks_of(group: list[Frame], pixel_hash: PixelHash | None) -> list[Stack]:
    """The stacks of frames that agree in the hard key; those of other frames of reference stay apart.

    One exception: some de-identification gives every frame a FrameOfReferenceUID of its own (the LIDC
    collection is published so). UIDs of which no two are equal tell nothing, and planes of unrelated
    coordinate systems do not line up to a grid: when they do, to within the tolerance of the fit, the
    grid is the proof. The reason then says so.
    """
    references: dict[str | None, list[Frame]] = {}
    for frame in group:
        references.setdefault(frame.frame_of_reference_uid, []).append(frame)
    if len(references) == len(group) >= MIN_SCATTERED:
        together = _stacks_in_space(group, pixel_hash)
        if len(together) == 1 and together[0].verdict in ("regular", "sheared", "missing_slices"):
            reason = f"{together[0].reason}; every frame names a frame of reference of its own"
            return [replace(together[0], reason=reason)]
    apart = ("frame_of_reference",) if len(references) > 1 else ()
    return [
        replace(found, split_by=(*apart, *found.split_by))
        for part in references.values()
        for found in _stacks_in_space(part, pixel_hash)
    ]


def _stacks_in_space(group: list[Frame], pixel_hash: PixelHash | None) -> list[Stack]:
    if not group[0].has_geometry:
        return [_without_space(group)]
    turned = np.array([frame.orientation for frame in group], dtype=float)
    clusters = [[group[i] for i in part] for part in _clusters(turned, COSINE_TOLERANCE)]
    apart = ("orientation",) if len(clusters) > 1 else ()
    alone = [cluster[0] for cluster in clusters if len(cluster) == 1]
    found: list[Stack] = []
    if len(alone) > 2:
        clusters = [cluster for cluster in clusters if len(cluster) > 1]
        found.append(_plane_set(alone, apart if clusters else ()))
    for cluster in clusters:
        found += [_judged(layer, apart) for layer in layers(cluster, pixel_hash=pixel_hash)]
    return (
        [_plane_set(group, ())] if len(clusters) > MANY_DIRECTIONS and not any(map(_tells, found)) else found
    )


def _tells(one: Stack) -> bool:
    """Whether a stack says more than that its planes are there."""
    return bool(one.axes or one.duplicates or (one.is_grid and one.places > 2))


def _plane_set(frames: list[Frame], apart: tuple[str, ...]) -> Stack:
    """Planes that turn from one to the next: a localizer, radial slices."""
    reason = f"{len(frames)} planes, each in a direction of its own"
    positions = _positions(frames)
    return Stack(tuple(frames), "plane_set", reason, places=len(frames), positions=positions, split_by=apart)


def _without_space(group: list[Frame]) -> Stack:
    """Frames without geometry: a product of what they say (NM: window, detector, phase …), else a row."""
    reason = f"no geometry: {group[0].flaw}"
    if len(group) > 1:
        found = products.find_product(FacetTable.of(group), np.zeros(len(group), dtype=np.int64))
        if found is not None and all(axis.facet in _WITHOUT_SPACE for axis in found.axes):
            return Stack(tuple(group[i] for i in found.order), "none", reason, found.axes, 1)
    return Stack(tuple(group), "none", reason, places=len(group))


_WITHOUT_SPACE = frozenset(
    (
        "energy_window",
        "detector",
        "phase",
        "rr_interval",
        "time_slot",
        "rotation",
        "angular_view",
        "time_slice",
    )
)


def _positions(frames: Sequence[Frame]) -> Array:
    return np.array([frame.position for frame in frames], dtype=float)


def _judged(layer: Layer, apart: tuple[str, ...]) -> Stack:
    """The stack of one layer, with the verdict on its planes."""
    if layer.unordered:
        verdict = Judgement("plane_set", layer.unordered)
    else:
        verdict = judge(layer.frames, np.tile(np.arange(layer.places), layer.repeats), layer.heights)
    return Stack(
        layer.frames,
        verdict.verdict,
        verdict.reason,
        layer.axes,
        layer.places,
        verdict.affine,
        _positions(layer.frames[: layer.places]),
        None if layer.unordered else layer.heights,
        verdict.gaps,
        verdict.slice_step,
        layer.duplicates,
        (*apart, *layer.split_by),
        layer.partial,
    )
