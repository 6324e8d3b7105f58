"""What holds for any frames: none lost, order of files without meaning, products proven cell by cell."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.dicom import geometry
from dicomlake.dicom.coordinates import lead_dims
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.stacking import Stack, stack
from tests.dicom.phantoms import slice_frame

BASE = slice_frame()
FACETS = ("echo", "flip", "temporal", "kvp")


def frame(number: int, z: float, x: float = 0.0, **facets: float) -> Frame:
    """A frame at a place; its UID is its number."""
    return replace(
        BASE,
        sop_instance_uid=f"1.{number}",
        instance_number=number,
        position=(x, 0.0, z),
        facets=facets,
    )


def shape(found: Stack) -> tuple[int, ...]:
    return tuple(size for _, size in lead_dims(found))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 4), min_size=1, max_size=3),
    slices=st.integers(1, 5),
    step=st.floats(0.2, 9),
    seed=st.integers(0, 1000),
)
def test_any_complete_product_is_found_and_every_frame_has_its_cell(
    sizes: list[int], slices: int, step: float, seed: int
) -> None:
    names = FACETS[: len(sizes)]
    frames = [
        frame(i + 1, step * index[-1], **{n: 1.0 + v for n, v in zip(names, index, strict=False)})
        for i, index in enumerate(np.ndindex(*sizes, slices))
    ]
    (found,) = stack(random.Random(seed).sample(frames, len(frames))).stacks
    assert math.prod(shape(found)) == len(frames)
    assert sorted(size for _, size in lead_dims(found)) == sorted([*sizes, slices])
    cells = np.array(found.frames, dtype=object).reshape(shape(found))
    for index in np.ndindex(cells.shape):
        for axis, proven in enumerate(found.axes):
            assert cells[index].facets[proven.facet] == 1.0 + index[axis]
        assert cells[index].position[2] == step * index[-1]


@settings(max_examples=120, deadline=None)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([0.0, 40.0]), st.integers(1, 3), st.integers(1, 3)),
        min_size=1,
        max_size=25,
    ),
    seed=st.integers(0, 1000),
)
def test_whatever_frames_there_are_none_is_lost_and_their_order_does_not_count(
    places: list[tuple[int, float, int, int]], seed: int
) -> None:
    frames = [
        frame(i + 1, 2.0 * z, x, echo=float(echo), temporal=float(time))
        for i, (z, x, echo, time) in enumerate(places)
    ]
    stacks = stack(frames).stacks
    again = stack(random.Random(seed).sample(frames, len(frames))).stacks
    assert [[f.sop_instance_uid for f in s.frames] for s in stacks] == [
        [f.sop_instance_uid for f in s.frames] for s in again
    ]
    assert sorted(f.sop_instance_uid for s in stacks for f in s.frames) == sorted(
        f.sop_instance_uid for f in frames
    )
    for found in stacks:
        check_places(found)


def check_places(found: Stack) -> None:
    """Frames of one place lie at one place, places ascend, and an affine gives every position back."""
    assert math.prod(shape(found)) == len(found.frames)
    if found.heights is None:
        return
    cells = np.array(found.frames, dtype=object).reshape(-1, found.places)
    positions = np.array([[f.position for f in row] for row in cells], dtype=float)
    assert np.abs(positions - positions[0]).max() < geometry.SAME_PLACE_MM
    assert (np.diff(positions[0] @ geometry.normal(BASE.orientation or ())) > 0).all()
    if found.affine is not None:
        for k in range(found.places):
            assert np.allclose(geometry.to_lps(found.affine, (k, 0, 0)), positions[0, k], atol=0.05)
