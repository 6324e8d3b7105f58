"""The picture of a stack that is saved with a notebook."""

from __future__ import annotations

import numpy as np

from dicomlake.widgets.images.encode import png, scaled
from dicomlake.widgets.images.planes import Plane
from dicomlake.widgets.images.stack import Stack

_SIZE = 320


def still(stack: Stack, *, size: int = _SIZE, window: tuple[float, float] | None = None) -> bytes | None:
    """PNG of the middle plane of the acquired orientation, at most `size` pixels wide and high, true in mm.

    None where the pixels may show text: it is saved with the notebook, and text may be a name.
    Raises VolumeError when the plane cannot be read.
    """
    if stack.burned_in:
        return None
    plane = next(iter(stack.planes.values()))
    numbers = stack.run(plane.name, plane.count // 2, 1)[0]
    return png(fitted(stack.shown(numbers, window, invert=dark_on_light(stack)), plane, size))


def dark_on_light(stack: Stack) -> bool:
    """Whether the first window is one that is usually shown inverted."""
    return bool(stack.presets and stack.presets[0].invert)


def fitted(picture: np.ndarray, plane: Plane, size: int) -> np.ndarray:
    """uint8 (rows, cols[, 3]) in its proportions in mm, the longer side `size` pixels at most."""
    height, width = plane.rows * plane.row_mm, plane.cols * plane.col_mm
    scale = size / max(height, width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    return picture if (rows, cols) == picture.shape[:2] else scaled(picture, rows, cols)
