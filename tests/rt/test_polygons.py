"""Rasterised polygons against a slow ray casting in fractions and against matplotlib."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.objects.polygons import contains, distance, fill

Loop = np.ndarray


def cast(loops: list[Loop], row: float, column: float) -> bool:
    """Even-odd rule for one point in exact fractions; half-open: lower ends in, higher ends out."""
    odd = False
    y, x = Fraction(row), Fraction(column)
    for loop in loops:
        points = [(Fraction(a), Fraction(b)) for a, b in loop.tolist()]
        for (y0, x0), (y1, x1) in zip(points, points[1:] + points[:1], strict=True):
            if (y0 <= y) != (y1 <= y):
                odd ^= x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return odd


def brute(loops: list[Loop], shape: tuple[int, int]) -> np.ndarray:
    return np.array([[cast(loops, r, c) for c in range(shape[1])] for r in range(shape[0])])


def rectangle(r0: float, r1: float, c0: float, c1: float) -> Loop:
    return np.array([(r0, c0), (r0, c1), (r1, c1), (r1, c0)], float)


def star(seed: int, points: int, shape: tuple[int, int]) -> Loop:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 1.2, (points, 2)) * shape


def test_a_rectangle_between_centres_has_its_pixels() -> None:
    mask = fill([rectangle(0.5, 2.5, 1.5, 4.5)], (5, 7))
    wanted = np.zeros((5, 7), bool)
    wanted[1:3, 2:5] = True
    np.testing.assert_array_equal(mask, wanted)


def test_a_rectangle_through_centres_owns_its_lower_edges_only() -> None:
    mask = fill([rectangle(1, 3, 2, 5)], (5, 7))
    wanted = np.zeros((5, 7), bool)
    wanted[1:3, 2:5] = True
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize("seed", range(12))
def test_a_tangled_polygon_is_filled_by_the_even_odd_rule(seed: int) -> None:
    shape = (23, 31)
    loops = [np.round(star(seed, 9, shape) * 256) / 256, np.round(star(seed + 100, 5, shape) * 256) / 256]
    wanted = brute(loops, shape)
    assert wanted.any()
    np.testing.assert_array_equal(fill(loops, shape), wanted)


corners = st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9)), min_size=1, max_size=9)


@settings(max_examples=150, deadline=None)
@given(st.lists(corners, min_size=0, max_size=3))
def test_corners_on_pixel_centres_are_decided_exactly(drawn: list[list[tuple[int, int]]]) -> None:
    loops = [np.array(loop, float) for loop in drawn]
    np.testing.assert_array_equal(fill(loops, (8, 8)), brute(loops, (8, 8)))


@settings(max_examples=100, deadline=None)
@given(st.lists(corners, min_size=1, max_size=3))
def test_single_points_are_decided_like_pixels(drawn: list[list[tuple[int, int]]]) -> None:
    loops = [np.array(loop, float) / 2 for loop in drawn]
    points = np.stack(np.meshgrid(np.arange(-3, 12) / 2, np.arange(-3, 12) / 4, indexing="ij"), -1)
    found = contains(loops, points.reshape(-1, 2))
    assert found.tolist() == [cast(loops, float(r), float(c)) for r, c in points.reshape(-1, 2)]


@pytest.mark.parametrize("seed", range(4))
def test_matplotlib_finds_the_same_pixels_of_a_simple_polygon(seed: int) -> None:
    from matplotlib.path import Path

    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radii = rng.uniform(20, 60, 40)
    loop = np.stack([64.03 + radii * np.sin(angles), 70.07 + radii * np.cos(angles)], 1)
    shape = (128, 140)
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 2)
    wanted = Path(loop, closed=False).contains_points(centres).reshape(shape)
    assert 2000 < wanted.sum() < 12000
    np.testing.assert_array_equal(fill([loop], shape), wanted)
    np.testing.assert_array_equal(contains([loop], centres.astype(float)).reshape(shape), wanted)


def test_a_loop_in_a_loop_is_a_hole_and_one_in_the_hole_is_an_island() -> None:
    outer, hole, island = (rectangle(a, 20 - a, a, 20 - a) for a in (1.5, 5.5, 8.5))
    counts = [fill(loops, (20, 20)).sum() for loops in ([outer], [outer, hole], [outer, hole, island])]
    assert counts == [17**2, 17**2 - 9**2, 17**2 - 9**2 + 3**2]


@pytest.mark.parametrize("bridge", [(0.0, 0.0), (0.25, 0.3), (1.0, 1.0)])
def test_a_keyhole_encloses_nothing_in_its_channel(bridge: tuple[float, float]) -> None:
    rim = rectangle(1.5, 18.5, 1.5, 18.5)
    hole = rectangle(6.5, 12.5, 6.5, 12.5)[::-1] + np.array(bridge)
    keyhole = np.concatenate([rim[:1], hole, hole[:1], rim[:1], rim[1:]])
    np.testing.assert_array_equal(fill([keyhole], (20, 20)), fill([rim, hole], (20, 20)))


def test_neighbours_share_no_pixel_and_leave_none_out() -> None:
    rng = np.random.default_rng(5)
    middle = np.array([[0.0, 12.0], *zip(np.arange(1, 24), rng.integers(6, 18, 23), strict=True), [24, 12.0]])
    left = np.concatenate([[[0, 0.0]], middle, [[24, 0.0]]])
    right = np.concatenate([middle, [[24, 24.0], [0, 24.0]]])
    a, b = fill([left], (24, 24)), fill([right], (24, 24))
    np.testing.assert_array_equal(a ^ b, np.ones((24, 24), bool))
    assert not (a & b).any()


def test_what_lies_beyond_the_image_is_cut_at_its_rim() -> None:
    assert fill([rectangle(-1e6, 1e6, -1e6, 3.5)], (6, 8)).sum() == 6 * 4
    assert not fill([rectangle(-9, -1, 0, 5)], (6, 8)).any()
    assert not fill([rectangle(1, 3, 9, 12)], (6, 8)).any()
    assert not fill([], (6, 8)).any()
    assert not fill([np.empty((0, 2))], (6, 8)).any()


def test_the_distance_to_a_square_is_that_to_its_nearest_side_or_corner() -> None:
    points = np.array([(0, 0), (1, 0), (3, 0), (5, 6), (-2, 1), (2, 2)], float)
    found = distance([rectangle(-2, 2, -2, 2)], points)
    np.testing.assert_allclose(found, [2, 1, 1, 5, 0, 0])
    far = distance([np.array([(9.0, 9.0)])], np.zeros((3000, 2)))
    np.testing.assert_allclose(far, np.hypot(9, 9))
