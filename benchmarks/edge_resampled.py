"""Whether an output is a correctly resampled copy of a volume: tools that cannot hold a tilt or a gap make one.

The stored value of a voxel is its number in C order, so it is linear along every axis: between voxels, linear
interpolation must give the number that belongs to the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.edge_truth import Plane, Truth
from benchmarks.outputs import Output

Array = NDArray[Any]

_ROUNDING = 1.01  # stored values: tools round what they interpolate
_SLACK = 1e-3  # of a voxel


def is_resampled(truth: Truth, output: Output) -> Iterator[int]:
    """Numbers of the volumes, single stacks of grey planes, of which the output is a resampled copy."""
    for number, volume in enumerate(truth.case.volumes):
        stack = [plane for plane in truth.planes if plane.volume == number]
        suits = volume.pixels == "grey16" and len(volume.leading) == 1 and len(stack) > 1
        if suits and output.centres is not None and len(output.values) == 1 and _is_copy(stack, output):
            yield number


def _is_copy(stack: Sequence[Plane], output: Output) -> bool:
    assert output.centres is not None
    if output.values.ndim != 4 or not _parallel(stack):
        return False
    index = _index(stack, output.centres)
    rows, columns = stack[0].values["stored"].shape
    ends = np.array([len(stack), rows, columns]) - 1
    inside = ((index >= -_SLACK) & (index <= ends + _SLACK)).all(axis=-1)
    if not inside.any() or not _whole(index[inside], ends):
        return False
    first = stack[0].values["stored"].ravel()[0]
    wanted = first + (index[inside] * [rows * columns, columns, 1]).sum(axis=-1)
    got = output.values[0][inside]
    stored = (got - stack[0].intercept) / stack[0].slope
    return any(bool((np.abs(values - wanted) <= _ROUNDING).all()) for values in (got, stored))


def _parallel(stack: Sequence[Plane]) -> bool:
    shifts = [plane.centres - stack[0].centres for plane in stack]  # type: ignore[operator]
    return all(np.ptp(shift.reshape(-1, 3), axis=0).max() < 1e-3 for shift in shifts)


def _whole(index: Array, ends: Array) -> bool:
    """Whether the copy reaches from end to end of each axis, within one step."""
    return bool((index.min(axis=0) < 1).all() and (index.max(axis=0) > ends - 1).all())


def _index(stack: Sequence[Plane], points: Array) -> Array:
    """Index (z, y, x) in the stack at points; between planes z is linear, whatever their distances."""
    centres = [plane.centres for plane in stack if plane.centres is not None]
    down, right = centres[0][1, 0] - centres[0][0, 0], centres[0][0, 1] - centres[0][0, 0]
    normal = np.cross(right, down) / np.linalg.norm(np.cross(right, down))
    origins = np.array([centre[0, 0] for centre in centres])
    heights = origins @ normal
    z = _extended(points @ normal, heights)
    low = np.clip(np.floor(z).astype(int), 0, len(stack) - 2)
    share = (z - low)[..., np.newaxis]
    beside = points - (origins[low] * (1 - share) + origins[low + 1] * share)
    return np.stack([z, beside @ down / (down @ down), beside @ right / (right @ right)], axis=-1)


def _extended(heights: Array, of_planes: Array) -> Array:
    """Index of heights between planes, continued beyond both ends."""
    sign = np.sign(of_planes[-1] - of_planes[0])
    heights, planes = heights * sign, of_planes * sign
    inner = np.interp(heights, planes, np.arange(len(planes)))
    below = (heights - planes[0]) / (planes[1] - planes[0])
    above = len(planes) - 1 + (heights - planes[-1]) / (planes[-1] - planes[-2])
    chosen: Array = np.where(heights < planes[0], below, np.where(heights > planes[-1], above, inner))
    return chosen
