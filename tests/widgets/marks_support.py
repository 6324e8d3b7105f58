"""Viewers that mark and measure, on images whose geometry and values are known, without a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.viewer.marking import Marking
from tests.widgets.images_support import image_on

OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])  # a rotation


def affine(spacing: tuple[float, float, float] = (2.5, 0.75, 0.5), turn: Any = None) -> np.ndarray:
    """(z, y, x) -> LPS mm: an axial acquisition, turned."""
    found = np.eye(4)
    axial = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
    found[:3, :3] = (np.eye(3) if turn is None else turn) @ axial * spacing
    found[:3, 3] = (-17.0, 31.0, 5.5)
    return found


def noise(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(dtype)


def ct_on(values: np.ndarray, matrix: np.ndarray | None = None, **attrs: Any) -> xr.DataArray:
    """A CT: HU = stored x 2 - 1000."""
    stated = {"source": "stored", "rescale_slope": 2.0, "rescale_intercept": -1000.0, "units": "HU"}
    return image_on(affine() if matrix is None else matrix, values, **(stated | {"modality": "CT"} | attrs))


class Marker(Marking):
    """A viewer that only marks; it says what it would send in `said`."""

    def __init__(self, image: xr.DataArray, subject: Any = None) -> None:
        self.stack_source = Stack.of(image)
        self.subject = subject
        self.said: list[Any] = []
        super().__init__()
        self.send = lambda content, buffers=None: self.said.append((content, buffers))  # type: ignore[method-assign]

    def ask(self, name: str, **args: Any) -> dict[str, Any]:
        """What the browser would be answered; raises AssertionError when it is refused."""
        self._handle_custom_msg({"ask": name, "id": 1, "args": args}, [])
        answer = self.said[-1][0]
        assert "failed" not in answer, answer["failed"]
        data: dict[str, Any] = answer["data"]
        return data

    def refused(self, name: str, **args: Any) -> str:
        """Why an ask is refused."""
        self._handle_custom_msg({"ask": name, "id": 1, "args": args}, [])
        return str(self.said[-1][0]["failed"])

    def stats(self, tool: str, points: Any, **how: Any) -> dict[str, Any]:
        """What a mark measures."""
        made = self.add_mark(tool, points, **how)
        return dict(next(mark["stats"] for mark in self.marks if mark["id"] == made))
