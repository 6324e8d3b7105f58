"""Objects of many frames: the frames of a volume in any order in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dicomlake.datasets._truth import uid
from dicomlake.datasets.edge_cases import objects
from dicomlake.datasets.edge_cases.building import Axis, Made, volume_of
from dicomlake.datasets.edge_cases.grids import Grid
from dicomlake.datasets.edge_cases.objects import Object
from dicomlake.datasets.edge_cases.records import Pixels, VolumeTruth


def truth(
    case: str,
    grid: Grid,
    order: Sequence[int],
    *,
    axes: Sequence[Axis] = (),
    first: int = 0,
    pixels: Pixels = "grey16",
    part: str = "",
) -> VolumeTruth:
    """The volume of one object whose frame i is plane order[i] of it, counted in C order."""
    sources = [(uid("edge", case, part, "object"), order.index(plane)) for plane in range(len(order))]
    return volume_of(grid, axes, sources, first=first, pixels=pixels)


def one_object(
    case: str,
    volume: VolumeTruth,
    order: Sequence[int],
    *,
    sop_class: str,
    modality: str,
    elements: Mapping[str, Any],
    number: int = 1,
) -> Made:
    """The volume as one object, its frames in this order; None leaves an element out."""
    said: dict[str, Any] = {
        **objects.series(case, modality),
        **objects.instance(sop_class, volume.sources[0][0], number),
        **objects.pixels(np.stack([volume.plane(plane) for plane in order]), frames=True),
        **elements,
    }
    return Made(volume, (Object({k: v for k, v in said.items() if v is not None}),))


def without_space(volume: VolumeTruth, dims: tuple[str, ...], shape: tuple[int, ...]) -> VolumeTruth:
    """The same frames, without a place in the patient."""
    from dataclasses import replace

    return replace(volume, dims=dims, shape=shape, verdict="none", affine_lps=None, positions_lps=None)
