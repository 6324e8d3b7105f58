"""Images on any grid, and a viewer that is nothing but its overlays, for the tests of these."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import xarray as xr

import dicomlake.volumes.accessor  # noqa: F401  registers `.dicom`
from dicomlake.dicom.grid import Grid
from dicomlake.objects.gridded import coordinates, geometry_attributes
from dicomlake.widgets.base import Widget
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.viewer.overlaying import Overlaying

FRAME = "1.2.826.0.1.3680043.8.498.77"


class OnlyOverlays(Overlaying, Widget):
    """A viewer without panes, that keeps what it sends."""

    def __init__(self, image: xr.DataArray, subject: Any = None) -> None:
        self.stack_source = Stack.of(image)
        self.subject = subject
        self.said: list[tuple[Any, list[Any]]] = []
        super().__init__()
        self.send = lambda content, buffers=None: self.said.append((content, buffers or []))  # type: ignore[method-assign]

    def ask(self, **args: Any) -> tuple[dict[str, Any], list[memoryview]]:
        """Ask for planes as the browser does, until they are there; raises AssertionError when it fails."""
        for number in itertools.count(1):
            found = self.asked(number, **args)
            assert "failed" not in found[0], found[0]
            if not found[0]["data"].get("pending"):
                return found[0]["data"], found[1]
        raise AssertionError

    def asked(self, number: int = 1, **args: Any) -> tuple[dict[str, Any], list[memoryview]]:
        """One ask, and the answer whatever it is."""
        self._handle_custom_msg({"ask": "overlay", "id": number, "args": args}, [])
        return next(said for said in reversed(self.said) if "answer" in said[0])

    def labels_at(self, id_: str, plane: str, number: int, value: int) -> np.ndarray:
        """Where a label is in a plane, (rows, cols), from what goes over the wire."""
        data, buffers = self.ask(id=id_, plane=plane, start=number, count=1)
        codes = np.frombuffer(buffers[0], data["dtype"]).reshape(data["rows"], data["cols"])
        return np.isin(codes, [code for code, values in enumerate(data["sets"]) if value in values])

    def lines_at(self, id_: str, plane: str, number: int, **more: Any) -> list[tuple[float, np.ndarray]]:
        """The lines in a plane, as (value, points)."""
        data, buffers = self.ask(id=id_, plane=plane, start=number, count=1, **more)
        points = np.frombuffer(buffers[0], np.float64).reshape(-1, 2)
        ends = np.cumsum([line["count"] for line in data["planes"][0]])
        parts = np.split(points, ends[:-1]) if len(ends) else []
        return [(line["label"], part) for line, part in zip(data["planes"][0], parts, strict=True)]

    def values_at(self, id_: str, plane: str, number: int, **more: Any) -> np.ndarray:
        """The values of a fused image in a plane, (rows, cols), NaN outside."""
        data, buffers = self.ask(id=id_, plane=plane, start=number, count=1, **more)
        coded = np.frombuffer(buffers[0], np.uint16).reshape(data["rows"], data["cols"])
        return np.where(coded > 0, coded * data["slope"] + data["intercept"], np.nan)


def image_on(affine: np.ndarray, values: np.ndarray, frame: str | None = FRAME, **attrs: Any) -> xr.DataArray:
    """An image (z, y, x) whose voxels lie where the affine, index (z, y, x) -> LPS mm, puts them."""
    grid = Grid(shape=values.shape, affine=np.asarray(affine, float), frame_of_reference_uid=frame)  # type: ignore[arg-type]
    return xr.DataArray(
        values, coordinates(grid), ("z", "y", "x"), "image", {**geometry_attributes(grid), **attrs}
    )


def turned(rng: np.random.Generator, spacing: tuple[float, float, float], mostly: int = 0) -> np.ndarray:
    """A right-handed affine with perpendicular axes: one of the 24 right-angled ones, tilted a little."""
    from scipy.spatial.transform import Rotation

    straight = [
        m
        for axes in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
        if np.linalg.det(m := np.eye(3)[list(axes)] * signs) > 0
    ]
    tilt = Rotation.from_rotvec(rng.normal(0, 0.15, 3)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ straight[mostly % 24] * np.array(spacing)
    affine[:3, 0] *= -1  # columns z, y, x of a right-handed x, y, z
    affine[:3, 3] = rng.normal(0, 50, 3)
    return affine
