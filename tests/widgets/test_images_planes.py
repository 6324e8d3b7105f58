"""Planes as they are shown: which side of the patient is where, told by voxels that know their place."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import VolumeError
from dicomlake.widgets.images.planes import letters_of, planes_of
from dicomlake.widgets.images.stack import Stack
from tests.volumes import oblique
from tests.widgets.images_support import (
    SHAPE,
    affine_of,
    image_on,
    place,
    signed_permutations,
    stored,
    voxels,
)

EDGES = {
    "axial": ({"left": "R", "right": "L", "top": "A", "bottom": "P"}, (0, 1), (1, 1)),
    "coronal": ({"left": "R", "right": "L", "top": "S", "bottom": "I"}, (0, 1), (2, -1)),
    "sagittal": ({"left": "A", "right": "P", "top": "S", "bottom": "I"}, (1, 1), (2, -1)),
}
"""Letters; the patient axis that grows to the right, and the one that grows downwards, with signs."""


@pytest.mark.parametrize("directions", list(signed_permutations()))
def test_the_right_side_of_the_patient_is_where_it_should_be(directions: np.ndarray) -> None:
    affine = affine_of(directions)
    stack = Stack.of(image_on(affine, voxels()))
    assert set(stack.planes) == set(EDGES)
    assert stack.affine is not None
    np.testing.assert_allclose(stack.affine, affine, atol=1e-9)
    for name, (letters, (to_right, right), (downwards, down)) in EDGES.items():
        plane = stack.planes[name]
        assert plane.letters == letters
        shown = stack.run(name, plane.count - 1, 1)[0]
        assert shown.shape == (plane.rows, plane.cols)
        mm = [affine @ [*place(v), 1] for v in (shown[0, 0], shown[0, -1], shown[-1, 0])]
        along, below = mm[1] - mm[0], mm[2] - mm[0]
        assert along[to_right] * right > 0
        assert below[downwards] * down > 0
        assert np.count_nonzero(np.abs(along[:3]) > 1e-9) == 1
        assert abs(along[to_right]) == pytest.approx(plane.col_mm * (plane.cols - 1))
        assert abs(below[downwards]) == pytest.approx(plane.row_mm * (plane.rows - 1))


@pytest.mark.parametrize("directions", list(signed_permutations()))
def test_every_pixel_is_the_voxel_that_to_index_says_and_lies_where_to_lps_says(
    directions: np.ndarray,
) -> None:
    affine = affine_of(directions)
    stack = Stack.of(image_on(affine, voxels()))
    for name, plane in stack.planes.items():
        shown = stack.run(name, 0, plane.count)
        assert len(shown) == plane.count
        for index in np.ndindex(shown.shape):
            voxel = plane.to_index @ [*index, 1]
            assert place(float(shown[index])) == tuple(voxel[:3])
            assert plane.number_of(voxel[:3]) == index[0]
            assert plane.to_lps is not None
            np.testing.assert_allclose(plane.to_lps @ [*index, 1], affine @ voxel, atol=1e-9)


def test_the_acquired_planes_come_first_and_keep_their_numbers() -> None:
    for directions in signed_permutations():
        stack = Stack.of(image_on(affine_of(directions), voxels()))
        first = next(iter(stack.planes))
        assert stack.meta()["order"][0] == first
        assert first == ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(directions[:, 0])))]
        for k in range(SHAPE[0]):
            assert set(np.unique(stack.run(first, k, 1) // 100)) == {k}


def test_an_oblique_acquisition_gets_the_name_of_the_nearest_and_compound_letters() -> None:
    turn = np.deg2rad(30)
    directions = np.array([[0, 0, 1], [-np.sin(turn), np.cos(turn), 0], [np.cos(turn), np.sin(turn), 0]])
    planes = planes_of(SHAPE, affine_of(directions))
    assert list(planes) == ["axial", "coronal", "sagittal"]
    assert planes["axial"].letters == {"left": "R", "right": "L", "top": "AI", "bottom": "PS"}
    assert planes["axial"].step_mm == pytest.approx(2.5)
    assert letters_of([0.6, -0.7, 0.4]) == "ALS"
    assert letters_of([0.05, -0.99, 0.1]) == "A"
    assert letters_of([0, 0, 0]) == ""


def test_of_a_leaning_volume_pixels_lie_where_they_were_measured(tmp_path: Path) -> None:
    image = oblique.opened(tmp_path / "lake", oblique.slices("sheared"))
    stack = Stack.of(image)
    assert stack.sheared
    assert stack.meta()["sheared"] is True
    for name, plane in stack.planes.items():
        shown = stack.run(name, 0, plane.count)
        assert plane.to_lps is not None
        for index in np.ndindex(shown.shape):
            value = int(shown[index])
            wanted = oblique.position("sheared", value // 1000, value % 1000 // 50, value % 50)
            np.testing.assert_allclose((plane.to_lps @ [*index, 1])[:3], wanted, atol=1e-5)
        area = np.linalg.norm(np.cross(plane.to_lps[:3, 1], plane.to_lps[:3, 2]))
        assert plane.row_mm * plane.col_mm == pytest.approx(area)
        volume = abs(np.linalg.det(plane.to_lps[:3, :3]))
        assert plane.row_mm * plane.col_mm * plane.step_mm == pytest.approx(volume)


def test_planes_at_uneven_distances_are_shown_as_acquired_only() -> None:
    heights = np.array([0.0, 1.0, 5.0, 6.0])
    image = _uneven(heights)
    stack = Stack.of(image)
    assert stack.affine is None
    assert list(stack.planes) == ["axial"]
    plane = stack.planes["axial"]
    assert plane.letters == EDGES["axial"][0]  # though the rows were acquired from the left
    assert (plane.row_mm, plane.col_mm, plane.to_lps) == (0.75, 0.5, None)
    np.testing.assert_array_equal(stack.run("axial", 2, 1)[0], voxels()[2, :, ::-1])
    assert stack.placed


def _uneven(heights: np.ndarray) -> xr.DataArray:
    z, y, x = SHAPE
    coords: dict[str, Any] = {
        "z": ("z", -heights),
        "y": ("y", 31 + 0.75 * np.arange(y)),
        "x": ("x", 17 + 0.5 * np.arange(x)),
        "position_x": ("z", np.full(z, -17.0)),
        "position_y": ("z", np.full(z, 31.0)),
        "position_z": ("z", heights),
    }
    attrs = {
        "source": "stored",
        "verdict": "irregular",
        "orientation": [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "pixel_spacing_mm": [0.75, 0.5],
        "origin_mm": [0.0, 31.0, 17.0],
    }
    return xr.DataArray(voxels(), coords, ("z", "y", "x"), "image", attrs)


def test_without_geometry_frames_are_shown_as_they_were_stored() -> None:
    values = voxels((3, 5, 6))
    stack = Stack.of(xr.DataArray(values, dims=("frame", "y", "x")))
    assert list(stack.planes) == ["frame"]
    assert not stack.calibrated
    assert stack.planes["frame"].to_lps is None
    assert set(stack.planes["frame"].letters.values()) == {""}
    np.testing.assert_array_equal(stack.run("frame", 0, 3), values)
    spaced = Stack.of(xr.DataArray(values, dims=("frame", "y", "x"), attrs={"pixel_spacing_mm": [0.4, 0.3]}))
    assert (spaced.planes["frame"].row_mm, spaced.planes["frame"].col_mm) == (0.4, 0.3)
    assert spaced.calibrated


def test_a_single_slice_is_one_frame_the_right_way_round() -> None:
    directions = np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]])  # rows run from the left to the right
    whole = image_on(affine_of(directions), voxels())
    for image in (whole.isel(z=2), whole.isel(z=slice(2, 3))):
        stack = Stack.of(image)
        assert list(stack.planes) == ["frame"]
        assert stack.shape == (1, 5, 6)
        plane = stack.planes["frame"]
        assert plane.letters == EDGES["axial"][0]
        np.testing.assert_array_equal(stack.run("frame", 0, 1)[0], voxels()[2, :, ::-1])
        assert plane.to_lps is not None
        np.testing.assert_allclose(plane.to_lps @ [0, 0, 0, 1], affine_of(directions) @ [2, 0, 5, 1])


def test_a_part_of_a_volume_stays_in_its_place() -> None:
    affine = affine_of(np.eye(3)[:, ::-1])
    image = image_on(affine, voxels())
    stack = Stack.of(image.isel(z=slice(1, None), y=slice(None, None, -1), x=slice(1, 5)))
    for name, plane in stack.planes.items():
        shown = stack.run(name, 0, plane.count)
        assert plane.to_lps is not None
        for index in np.ndindex(shown.shape):
            np.testing.assert_allclose(
                plane.to_lps @ [*index, 1], affine @ np.array([*place(float(shown[index])), 1])
            )


@pytest.mark.parametrize(
    "dims",
    [("time", "z", "y", "x"), ("z", "time", "x", "y"), ("x", "y", "z", "time"), ("time", "frame", "y", "x")],
)
def test_further_axes_come_before_whatever_their_order(dims: tuple[str, ...]) -> None:
    values = np.stack([voxels() + 1000 * t for t in range(3)])
    stacked = "frame" if "frame" in dims else "z"
    image = xr.DataArray(values, dims=("time", stacked, "y", "x")).transpose(*dims)
    stack = Stack.of(image)
    assert stack.extras == {"time": 3}
    assert stack.shape == SHAPE
    np.testing.assert_array_equal(stack.run("frame", 1, 2, (2,)), values[2, 1:3])
    np.testing.assert_array_equal(stack.values((1,)), values[1])
    np.testing.assert_array_equal(stack.values(), values[0])


def test_what_is_not_there_is_refused() -> None:
    stack = Stack.of(image_on(affine_of(np.eye(3)[:, ::-1]), voxels()))
    for plane, start, count, extra in (
        ("oblique", 0, 1, ()),
        ("axial", -1, 1, ()),
        ("axial", 4, 1, ()),
        ("axial", 0, 0, ()),
        ("axial", 0, 1, (0,)),
    ):
        with pytest.raises(VolumeError):
            stack.run(plane, start, count, extra)
    assert len(stack.run("axial", 2, 8)) == 2
    with pytest.raises(VolumeError, match="y and x"):
        Stack.of(xr.DataArray(np.zeros(3), dims="z"))
    with pytest.raises(VolumeError, match="max, min or mean"):
        stack.run("axial", 0, 1, slab_mm=5, slab_mode="median")


@pytest.mark.parametrize("shape", [(40, 70, 65), (1, 70, 65), (33, 8, 6)])
def test_planes_from_a_store_are_those_of_the_array(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(5).integers(0, 4000, shape).astype(np.uint16)
    dataset, _ = stored(tmp_path, values, ("z", "y", "x"))
    stack = Stack.of(dataset)
    for plane, number in itertools.product(stack.planes.values(), (0, 3, 64)):
        if number < plane.count:
            wanted = plane.displayed(values)[number : number + 8]
            np.testing.assert_array_equal(stack.run(plane.name, number, 8), wanted)
            assert stack.run(plane.name, number, 8).flags.c_contiguous
