"""A viewer on a page in Chromium: where its voxels are on the screen, what its canvases show."""

from __future__ import annotations

from typing import Any

import numpy as np

from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.stage import Stage
from tests.widgets.viewer_support import INTERCEPT, SLOPE, volume

WINDOW = [9800.0, 9000.0]


class Page:
    """A viewer on a page: where its voxels are on the screen, what its panes say."""

    def __init__(self, stage: Stage, viewer: Viewer) -> None:
        self.stage, self.page, self.viewer = stage, stage.page, viewer
        stage.draw(viewer)
        self.ready()

    def ready(self) -> None:
        self.stage.until(lambda: self.page.locator(".dl-viewer[data-dl-state=ready]").count() > 0)

    def pane(self, name: str) -> Any:
        return self.page.locator(f".dl-pane[data-plane={name}]").first

    def number(self, name: str) -> int:
        return int(self.pane(name).get_attribute("data-number"))

    def place(self, name: str, row: float, col: float) -> tuple[float, float]:
        """Page coordinates of a pixel's centre in a pane that shows its plane fitted."""
        x, y, width, height = self.box(name)
        plane = self.viewer.stack_source.planes[name]
        scale = min(width / (plane.cols * plane.col_mm), height / (plane.rows * plane.row_mm))
        return (
            x + width / 2 + (col + 0.5 - plane.cols / 2) * plane.col_mm * scale,
            y + height / 2 + (row + 0.5 - plane.rows / 2) * plane.row_mm * scale,
        )

    def box(self, name: str) -> tuple[float, float, float, float]:
        found = self.pane(name).bounding_box()
        return found["x"], found["y"], found["width"], found["height"]

    def pixel(self, name: str, row: float, col: float) -> list[int]:
        """Red, green, blue that the canvas has at a pixel."""
        x, y = self.place(name, row, col)
        left, top, *_ = self.box(name)
        found = (
            self.pane(name)
            .locator("canvas")
            .evaluate(
                "(c, [x, y]) => Array.from(c.getContext('2d').getImageData(x, y, 1, 1).data)",
                [x - left, y - top],
            )
        )
        return list(found[:3])

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: str = "left") -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        for part in np.linspace(0, 1, 12)[1:]:
            self.page.mouse.move(*(a + (b - a) * part for a, b in zip(start, end, strict=True)))
        self.stage.settle(40)

    def press(self, *keys: str, pane: str = "axial") -> None:
        self.pane(pane).locator("canvas").focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.stage.settle(40)


def plain(**traits: Any) -> Viewer:
    """Without smoothing and crosshair, so that pixels can be read."""
    return Viewer(volume(), **{"window": WINDOW, "interpolate": False, "crosshair": False} | traits)


def grey(stored: np.ndarray | float, window: list[float] = WINDOW) -> Any:
    """PS3.3 C.11.2.1.3.2, LINEAR_EXACT, of stored numbers."""
    center, width = window
    value = np.asarray(stored, dtype=float) * SLOPE + INTERCEPT
    return np.floor(np.clip((value - center) / width + 0.5, 0, 1) * 255 + 0.5)
