"""Noise and waves from exact arithmetic, so that every machine writes the same bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BELL_SPREAD = 148  # standard deviation of a sum of four uniform bytes, rounded


def hashed(seed: int, plane: int, y: ArrayLike, x: ArrayLike) -> NDArray[np.uint32]:
    """A well mixed 32-bit number for each index (y, x); they broadcast, to one axis at least.

    Multiply, shift and exclusive-or on unsigned integers only: nothing here can round.
    """
    rows, columns = (np.atleast_1d(np.asarray(axis, np.uint32)) for axis in (y, x))
    start = np.uint32((seed * 0x27D4EB2F + plane * 0xC2B2AE3D) & 0xFFFFFFFF)
    mixed = (rows * np.uint32(0x9E3779B1) ^ start) + columns * np.uint32(0x85EBCA77)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def bell(seed: int, plane: int, y: ArrayLike, x: ArrayLike, *, spread: int) -> NDArray[np.int32]:
    """Integer noise of mean 0, close to normal, with `spread` as its standard deviation."""
    mixed = hashed(seed, plane, y, x)
    pairs = (mixed & np.uint32(0x00FF00FF)) + ((mixed >> np.uint32(8)) & np.uint32(0x00FF00FF))
    total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
    centred = total.astype(np.int32) - 510  # four bytes of mean 127.5
    return (centred * (spread * (1 << 16) // _BELL_SPREAD) + (1 << 15)) >> 16


def wave(turns: Floats) -> Floats:
    """A sine drawn with parabolas: period 1, range -1 to 1; no trigonometric function is called."""
    phase = turns - np.floor(turns) - 0.5
    return 8.0 * phase * (2.0 * np.abs(phase) - 1.0)


def blurred(image: NDArray[np.int64], *, times: int) -> NDArray[np.int64]:
    """The last two axes smoothed with the integer kernel 1 4 6 4 1, edges repeated.

    Each pass widens by one pixel of standard deviation and rounds once.
    """
    padding = [(0, 0)] * (image.ndim - 2)
    for _ in range(times):
        p = np.pad(image, [*padding, (2, 2), (0, 0)], mode="edge")
        rows = p[..., :-4, :] + p[..., 4:, :] + 4 * (p[..., 1:-3, :] + p[..., 3:-1, :]) + 6 * p[..., 2:-2, :]
        p = np.pad(rows, [*padding, (0, 0), (2, 2)], mode="edge")
        both = p[..., :-4] + p[..., 4:] + 4 * (p[..., 1:-3] + p[..., 3:-1]) + 6 * p[..., 2:-2]
        image = (both + 128) >> 8
    return image
