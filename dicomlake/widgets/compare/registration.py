"""Rigid registration of two volumes by their mutual information: where a point of one lies in the other.

Both images are averaged down to a pyramid of voxels that are about even in mm, so that thick slices are not
thinned further. The start is the best of three: as the patients' axes stand, centre on centre, and centre of
mass on centre of mass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.errors import DicomlakeError, GeometryError, QuantityError
from dicomlake.volumes.placing import unsheared

if TYPE_CHECKING:
    import pandas as pd
    import SimpleITK

    from dicomlake.volumes.accessor import DicomAccessor

Array = npt.NDArray[np.float64]
Told = Callable[[float, str], object]  # the part that is done, 0 … 1, and what is being done

_LEVELS_MM = (10.0, 5.0, 2.5)  # edge of a voxel of the pyramid, coarse to fine
_BINS = 32
_FEWEST = 4  # voxels along an axis that a gradient needs
_MOST_VOXELS = 4e6  # of the finest level; larger bodies are seen more coarsely
_SAMPLES = 60_000  # of the image, for one value of the metric
_STEPS = 150  # at most, of a level
_SHORTEST_MM = 0.005  # a step that moves no voxel further than this ends a level
_SEED = 20240229
_NOTHING_COMMON = "the images have nothing in common that could be registered: choose other series"


@dataclass(frozen=True, eq=False)
class Registration:
    """How the moving image lies to the fixed one.

    transform_mm: position in the fixed image -> in the moving one, LPS, mm, homogeneous; (4, 4), rigid.
    metric, metric_before: negative mutual information at the end and before; lower is better.
    overlap: part of the fixed image that lies in the moving one. frames: digests of both frames of reference.
    """

    transform_mm: Array
    metric: float
    metric_before: float
    overlap: float
    iterations: int
    seconds: float
    stopped: str
    frames: tuple[str, str] = ("", "")
    method: str = "rigid, Mattes mutual information"

    @property
    def rotation_deg(self) -> float:
        """The angle of the turn about its one axis."""
        cosine = (np.trace(self.transform_mm[:3, :3]) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    @property
    def moved(self) -> bool:
        """Whether the images became more alike than they were before."""
        return self.metric < self.metric_before

    def to_moving(self, points_mm: npt.ArrayLike) -> Array:
        """Points of the fixed image, (…, 3), in the moving one; mm, LPS."""
        return apply(self.transform_mm, points_mm)

    def to_fixed(self, points_mm: npt.ArrayLike) -> Array:
        """Points of the moving image, (…, 3), in the fixed one; mm, LPS."""
        return apply(np.linalg.inv(self.transform_mm), points_mm)

    def table(self) -> pd.DataFrame:
        """One row for each number: quantity, value, unit."""
        import pandas as pd

        shift = self.transform_mm[:3, 3]
        rows = [("rotation", self.rotation_deg, "degrees")]
        rows += [(f"shift {axis}", float(v), "mm") for axis, v in zip("xyz", shift, strict=True)]
        rows += [
            ("metric", self.metric, "negative mutual information"),
            ("metric before", self.metric_before, "negative mutual information"),
            ("overlap", self.overlap, "of the fixed image"),
            ("iterations", float(self.iterations), ""),
            ("time", self.seconds, "s"),
        ]
        return pd.DataFrame(rows, columns=["quantity", "value", "unit"])

    def __repr__(self) -> str:
        return f"<Registration {self.method}: {self.rotation_deg:.1f} degrees, overlap {self.overlap:.0%}>"


class Stopped(DicomlakeError):
    """The registration was stopped before its end."""


def register(
    fixed: Any,
    moving: Any,
    *,
    told: Told | None = None,
    stop: Callable[[], bool] | None = None,
) -> Registration:
    """The rigid motion from one volume to another: Stacks, or image arrays (z, y, x) with geometry.

    Axes before z are taken at their first index. told: is called with what is done. stop: asked between
    steps. Raises GeometryError for images without an affine, of fewer than four planes, or of colours;
    Stopped when `stop` says so.
    """
    began = time.monotonic()
    tell = told or (lambda _part, _text: None)
    tell(0.0, "reading the images")
    images = _floating(fixed, "fixed"), _floating(moving, "moving")
    try:
        motion, metrics, steps, stopped = _through_levels(*images, tell, stop or (lambda: False))
    except RuntimeError as exc:  # too few samples lie in both, or all have one value
        raise GeometryError(_NOTHING_COMMON) from exc
    better = metrics[1] < metrics[0]
    matrix = _matrix(motion) if better else np.eye(4)  # as they stand they fit as well
    return Registration(
        transform_mm=matrix,
        metric=min(metrics),
        metric_before=metrics[0],
        overlap=_overlap(*images, matrix),
        iterations=steps,
        seconds=time.monotonic() - began,
        stopped=stopped,
        frames=(frame_of(fixed), frame_of(moving)),
    )


def apply(matrix: npt.ArrayLike, points: npt.ArrayLike) -> Array:
    """Points (…, 3) moved by a homogeneous matrix (4, 4)."""
    whole = np.asarray(matrix, dtype=float)
    return np.asarray(np.asarray(points, dtype=float) @ whole[:3, :3].T + whole[:3, 3])


def frame_of(image: Any) -> str:
    """A digest that is equal where the frame of reference is; "" where it is unknown."""
    from dicomlake.widgets.images.stack import Stack

    if hasattr(image, "volumes") and hasattr(image, "key"):
        image = image_of(image)
    stack = getattr(image, "stack_source", image)
    return (stack if hasattr(stack, "frame_of_reference") else Stack.of(stack)).frame_of_reference


def image_of(one: Any) -> Any:
    """The array of a Stack, of something that holds a Stack, of a series, or itself."""
    from dicomlake.widgets.showing import stack_of

    one = stack_of(one) if hasattr(one, "volumes") and hasattr(one, "key") else one
    one = getattr(one, "stack_source", one)
    return getattr(one, "image", one)


# ---- images ----------------------------------------------------------------------------------------


def _floating(one: Any, name: str) -> SimpleITK.Image:
    """The volume as float32 in mm, no finer than the last level needs."""
    import SimpleITK as sitk

    image = image_of(one)
    if "rgb" in image.dims:
        raise GeometryError(f"the {name} image is in colour: register grey volumes")
    image = image.isel({dim: 0 for dim in image.dims if dim not in ("z", "y", "x")})
    few = [
        f"{image.sizes.get(dim, 1)} along {dim}"
        for dim in ("z", "y", "x")
        if image.sizes.get(dim, 1) < _FEWEST
    ]
    if few:
        raise GeometryError(
            f"the {name} image has {', '.join(few)}: registration needs {_FEWEST} along each axis"
        )
    try:
        made = _upright(image).to_sitk()
    except GeometryError as exc:
        raise GeometryError(f"the {name} image cannot be registered: {exc}") from exc
    shrunk = sitk.BinShrink(made, _factors(made, _finest(made)))
    values = sitk.GetArrayViewFromImage(shrunk)
    filled = sitk.GetImageFromArray(np.nan_to_num(values, nan=float(np.nanmin(values))).astype(np.float32))
    filled.CopyInformation(shrunk)
    return filled


def _upright(image: Any) -> DicomAccessor:
    """The accessor of rescaled values on an even grid of upright planes."""
    from dicomlake.volumes.accessor import DicomAccessor

    try:
        image = DicomAccessor(image).rescaled()
    except QuantityError:  # mutual information needs no unit
        image = image.copy()
    found = DicomAccessor(image)
    try:
        unsheared(found.affine, image.sizes["z"])
    except GeometryError:
        found.grid  # noqa: B018  raises where nothing places the planes
        return DicomAccessor(found.resampled())
    return found


def _finest(image: SimpleITK.Image) -> float:
    """The edge of a voxel at the finest level, mm."""
    extent = np.prod([n * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)])
    return float(max(_LEVELS_MM[-1] / 2, (extent / _MOST_VOXELS) ** (1 / 3)))


def _factors(image: SimpleITK.Image, edge_mm: float) -> list[int]:
    """How many voxels along each axis make one of about `edge_mm`; at least four stay."""
    sizes = zip(image.GetSize(), image.GetSpacing(), strict=True)
    return [int(max(1, min(round(edge_mm / step), n // _FEWEST))) for n, step in sizes]


def _overlap(fixed: SimpleITK.Image, moving: SimpleITK.Image, matrix: Array) -> float:
    """The part of a coarse grid over the fixed image that lies within the moving one."""
    sizes = np.array(fixed.GetSize())
    grid = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 16) for n in sizes), indexing="ij"), -1).reshape(
        -1, 3
    )
    to_fixed, to_moving = _index_to_mm(fixed), _index_to_mm(moving)
    at = apply(np.linalg.inv(to_moving) @ matrix @ to_fixed, grid)
    inside = np.all((at >= -0.5) & (at <= np.array(moving.GetSize()) - 0.5), axis=1)
    return float(inside.mean())


def _index_to_mm(image: SimpleITK.Image) -> Array:
    """Index (x, y, z) -> mm."""
    found = np.eye(4)
    found[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    found[:3, 3] = image.GetOrigin()
    return found


# ---- the search ------------------------------------------------------------------------------------


def _through_levels(
    fixed: SimpleITK.Image, moving: SimpleITK.Image, tell: Told, stop: Callable[[], bool]
) -> tuple[SimpleITK.Euler3DTransform, tuple[float, float], int, str]:
    """The motion, the metric before and after, how many steps it took, and why the last level ended."""
    import SimpleITK as sitk

    motion, steps, stopped = None, 0, ""
    for number, pair in enumerate(_pyramid(fixed, moving)):
        method = _method(pair[0])
        start = motion or _best_start(method, *pair)
        method.SetInitialTransform(start, inPlace=True)
        told = _Watch(method, tell, stop, number)
        method.AddCommand(sitk.sitkIterationEvent, told.step)
        method.Execute(*pair)
        if told.halted:
            raise Stopped("the registration was stopped: start it again to link the images")
        motion, steps, stopped = start, steps + told.steps, method.GetOptimizerStopConditionDescription()
    assert motion is not None
    tell(1.0, "registered")
    return motion, _before_and_after(method, pair, motion), steps, stopped


class _Watch:
    """Tells of a level's steps, and stops it."""

    def __init__(self, method: Any, tell: Told, stop: Callable[[], bool], level: int) -> None:
        self.method, self.tell, self.stop, self.level = method, tell, stop, level
        self.steps, self.halted = 0, False

    def step(self) -> None:
        self.steps += 1
        if self.stop():
            self.halted = True
            self.method.StopRegistration()
        part = (self.level + min(1.0, self.steps / _STEPS)) / len(_LEVELS_MM)
        if self.steps % 5 == 1:
            self.tell(part, f"level {self.level + 1} of {len(_LEVELS_MM)}, step {self.steps}")


def _pyramid(fixed: SimpleITK.Image, moving: SimpleITK.Image) -> Iterator[tuple[Any, Any]]:
    import SimpleITK as sitk

    for edge in _LEVELS_MM:
        yield (
            sitk.BinShrink(fixed, _factors(fixed, edge)),
            sitk.BinShrink(moving, _factors(moving, edge)),
        )


def _method(fixed: SimpleITK.Image) -> SimpleITK.ImageRegistrationMethod:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    voxels = fixed.GetNumberOfPixels()
    if voxels > _SAMPLES:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(_SAMPLES / voxels, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=_SHORTEST_MM, numberOfIterations=_STEPS, relaxationFactor=0.8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _best_start(method: Any, fixed: SimpleITK.Image, moving: SimpleITK.Image) -> SimpleITK.Euler3DTransform:
    """The start with the best metric; what does not overlap counts for nothing."""
    found: list[tuple[float, int, Any]] = []
    for number, start in enumerate(_starts(fixed, moving)):
        try:
            found.append((_metric(method, fixed, moving, start), number, start))
        except RuntimeError:  # too few samples lie in both
            continue
    if not found:
        raise GeometryError(_NOTHING_COMMON)
    best: SimpleITK.Euler3DTransform = min(found)[2]
    return best


def _starts(fixed: SimpleITK.Image, moving: SimpleITK.Image) -> Sequence[Any]:
    import SimpleITK as sitk

    centre = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    standing = sitk.Euler3DTransform()
    standing.SetCenter(centre)
    started = [standing]
    for how in (
        sitk.CenteredTransformInitializerFilter.GEOMETRY,
        sitk.CenteredTransformInitializerFilter.MOMENTS,
    ):
        by = [_positive(one) for one in (fixed, moving)]
        made = sitk.CenteredTransformInitializer(*by, sitk.Euler3DTransform(), how)
        started.append(sitk.Euler3DTransform(made))
    return started


def _positive(image: SimpleITK.Image) -> SimpleITK.Image:
    """Air as nothing: the centre of mass of negative numbers lies anywhere."""
    import SimpleITK as sitk

    values = sitk.GetArrayViewFromImage(image)
    low, high = np.percentile(values, [1, 99])
    made = sitk.GetImageFromArray(np.clip(values - low, 0, max(high - low, 1e-6)).astype(np.float32))
    made.CopyInformation(image)
    return made


def _metric(method: Any, fixed: Any, moving: Any, motion: Any) -> float:
    method.SetInitialTransform(motion, inPlace=False)
    return float(method.MetricEvaluate(fixed, moving))


def _before_and_after(method: Any, pair: tuple[Any, Any], motion: Any) -> tuple[float, float]:
    import SimpleITK as sitk

    after = _metric(method, *pair, motion)
    try:
        return _metric(method, *pair, sitk.Euler3DTransform()), after
    except RuntimeError:  # they did not overlap as they stood
        return 0.0, after


def _matrix(motion: SimpleITK.Euler3DTransform) -> Array:
    """Homogeneous, with the centre of rotation worked in."""
    found = np.eye(4)
    found[:3, :3] = np.reshape(motion.GetMatrix(), (3, 3))
    found[:3, 3] = motion.TransformPoint((0.0, 0.0, 0.0))
    return found
