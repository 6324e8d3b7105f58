"""Where a viewer is and how it shows it: traits both ways, planes for the browser, what is shown for Python.

The browser asks for runs of planes and keeps them; window, zoom and turns are its own. Here the same state
is checked, and what is shown is given back as arrays with coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from traitlets import TraitError, validate

from dicomlake.errors import GeometryError
from dicomlake.widgets.base import Answer, handles
from dicomlake.widgets.base.quiet import Quiet
from dicomlake.widgets.viewer import asking, cutting, picturing

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.widgets.images.stack import Stack

Args = Mapping[str, Any]

ARRANGEMENTS = ("one", "mpr", "oblique")
SHAPES = ("linear", "linear_exact", "sigmoid", "lut")
COLORMAPS = ("grey", "viridis", "cividis", "inferno", "hot", "bluered", "pet", "turbo")
TOOLS = (
    *("browse", "window", "pan", "zoom", "length", "angle", "ellipse", "rectangle", "polygon", "freehand"),
    *("point", "brush", "erase"),
)
_PICTURE_S = 3.0  # how long a screenshot waits for the browser
_FLAT = 10.0  # planes this many times further apart than pixels make poor reformatted planes


class Navigating(traitlets.HasTraits):
    """The part of a viewer that moves through its stack. Expects `stack_source`, `tell` and `send`."""

    stack = traitlets.Dict(help="What is shown, as Stack.meta() says.").tag(sync=True)
    arrangement = traitlets.Enum(ARRANGEMENTS, "one", help="One plane, three linked ones, or four.").tag(
        sync=True
    )
    plane = traitlets.Unicode(help="The plane shown alone or largest.").tag(sync=True)
    index = traitlets.List(traitlets.Int(), help="The crosshair's voxel (z, y, x).").tag(sync=True)
    cursor_mm = traitlets.List(traitlets.Float(), help="The crosshair in the patient, LPS.").tag(sync=True)
    extra = traitlets.List(traitlets.Int(), help="Indexes along the dimensions before z.").tag(sync=True)
    window = traitlets.List(traitlets.Float(), help="Centre and width, in units.").tag(sync=True)
    voi_shape = traitlets.Enum(SHAPES, "linear_exact", help="VOI function, PS3.3 C.11.2.1.").tag(sync=True)
    preset = traitlets.Unicode(help='Name of the preset that is on, or "".').tag(sync=True)
    colormap = traitlets.Enum(COLORMAPS, "grey").tag(sync=True)
    invert = traitlets.Bool(False).tag(sync=True)
    interpolate = traitlets.Bool(True, help="Whether pixels are smoothed when enlarged.").tag(sync=True)
    slab_mm = traitlets.Float(0.0, help="Thickness of the slab; 0 is one plane.").tag(sync=True)
    slab_mode = traitlets.Enum(("max", "min", "mean"), "max").tag(sync=True)
    tilt = traitlets.List(traitlets.Float(), [0.0, 0.0], help="Of the oblique plane, degrees.").tag(sync=True)
    view = traitlets.Dict(help="Zoom, pan in mm, flips and turn, for each pane.").tag(sync=True)
    tool = traitlets.Enum(TOOLS, "browse").tag(sync=True)
    crosshair = traitlets.Bool(True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    rate = traitlets.Float(10.0, help="Planes a second of the cine.").tag(sync=True)
    cine_over = traitlets.Unicode("plane", help='"plane", or the dimension that the cine runs along.').tag(
        sync=True
    )
    slow_link = traitlets.Bool(False, help="JPEG while moving, exact planes at rest.").tag(sync=True)
    height = traitlets.Int(560, help="Of the panes, in CSS pixels.").tag(sync=True)

    if TYPE_CHECKING:  # what the viewer that this is a part of has
        stack_source: Stack
        tell: Any

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: traits; those that are not given begin as the stack suggests."""
        self._pictures: dict[int, tuple[Event, list[bytes]]] = {}
        self._picture_lock = Lock()
        self._page_alive = False
        super().__init__(**{**self._beginning(), **self._consistent(kwargs)})

    def _consistent(self, given: dict[str, Any]) -> dict[str, Any]:
        """Traits as they were given, with those that follow from them: a window is no preset, and so on."""
        stack, found = self.stack_source, dict(given)
        if given.get("preset"):
            named = (one for one in stack.presets if given["preset"] in (one.name, one.key))
            if (preset := next(named, None)) is not None:
                found |= {"window": [preset.center, preset.width], "voi_shape": preset.shape}
        elif "window" in given:
            found = {"preset": "", "voi_shape": "linear_exact"} | found
        if "index" in given:
            index = _clamped("index", given["index"], stack.shape, "(z, y, x)")
            found["cursor_mm"] = cutting.mm_of(stack.affine, index)
        elif given.get("cursor_mm") and stack.affine is not None:
            found["index"] = cutting.nearest_index(stack.affine, given["cursor_mm"], stack.shape)
        return found

    def _beginning(self) -> dict[str, Any]:
        """Traits of a viewer that was just opened: the middle, the first window."""
        stack = self.stack_source
        meta = stack.meta()
        index = [n // 2 for n in stack.shape]
        found: dict[str, Any] = {
            "stack": meta,
            "arrangement": first_arrangement(stack),
            "plane": meta["order"][0],
            "index": index,
            "cursor_mm": cutting.mm_of(stack.affine, index),
            "extra": [0] * len(stack.extras),
            "cine_over": _cine_over(stack),
            **_window_of(meta),
        }
        return found | ({"rate": float(meta["cine"]["rate"])} if meta.get("cine") else {})

    # ---- checked ----

    @validate("index")
    def _check_index(self, proposal: Any) -> list[int]:
        return _clamped("index", proposal["value"], self.stack_source.shape, "(z, y, x)")

    @validate("extra")
    def _check_extra(self, proposal: Any) -> list[int]:
        extras = self.stack_source.extras
        return _clamped("extra", proposal["value"], list(extras.values()), f"({', '.join(extras)})")

    @validate("plane")
    def _check_plane(self, proposal: Any) -> str:
        return _one_of("plane", proposal["value"], list(self.stack_source.planes))

    @validate("arrangement")
    def _check_arrangement(self, proposal: Any) -> str:
        return _one_of("layout", proposal["value"], arrangements(self.stack_source))

    @validate("cine_over")
    def _check_cine(self, proposal: Any) -> str:
        return _one_of("cine_over", proposal["value"], ["plane", *self.stack_source.extras])

    @validate("preset")
    def _check_preset(self, proposal: Any) -> str:
        wanted = proposal["value"]
        presets = self.stack["presets"]
        by_key = [one["name"] for one in presets if one["key"] == wanted != ""]
        return by_key[0] if by_key else _one_of("preset", wanted, ["", *(one["name"] for one in presets)])

    @validate("window")
    def _check_window(self, proposal: Any) -> list[float]:
        window = _finite("window", proposal["value"], 2, "centre and width in units")
        if window[1] <= 0:
            raise TraitError(f"a window has a width above 0, not {window[1]:g}")
        return window

    @validate("cursor_mm")
    def _check_cursor(self, proposal: Any) -> list[float]:
        value = proposal["value"]
        return _finite("cursor_mm", value, 3, "x, y and z in mm, LPS") if len(value) else []

    @validate("tilt")
    def _check_tilt(self, proposal: Any) -> list[float]:
        tilt = _finite("tilt", proposal["value"], 2, "two angles in degrees")
        return [min(max(angle, -90.0), 90.0) for angle in tilt]

    @validate("slab_mm")
    def _check_slab(self, proposal: Any) -> float:
        return min(max(_finite("slab_mm", [proposal["value"]], 1, "mm")[0], 0.0), 1000.0)

    @validate("rate")
    def _check_rate(self, proposal: Any) -> float:
        return min(max(_finite("rate", [proposal["value"]], 1, "planes a second")[0], 0.1), 120.0)

    @validate("height")
    def _check_height(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), 160), 4000)

    # ---- kept in step ----

    @traitlets.observe("index")
    def _follow_index(self, change: Any) -> None:
        """The place in mm is that of the voxel, unless it lies in it already."""
        affine = self.stack_source.affine
        if affine is not None and not cutting.lies_in(affine, self.cursor_mm, change["new"]):
            self.cursor_mm = cutting.mm_of(affine, change["new"])

    @traitlets.observe("cursor_mm")
    def _follow_cursor(self, change: Any) -> None:
        """Set in Python, the place in mm moves the crosshair."""
        affine = self.stack_source.affine
        if affine is not None and change["new"] and not cutting.lies_in(affine, change["new"], self.index):
            self.index = cutting.nearest_index(affine, change["new"], self.stack_source.shape)

    @traitlets.observe("preset")
    def _follow_preset(self, change: Any) -> None:
        found = next((one for one in self.stack.get("presets", ()) if one["name"] == change["new"]), None)
        if found is not None:
            self.window, self.voi_shape = [found["center"], found["width"]], found["shape"]

    @traitlets.observe("window")
    def _follow_window(self, change: Any) -> None:
        """A window set by hand is no preset any more."""
        found = next((one for one in self.stack.get("presets", ()) if one["name"] == self.preset), None)
        if found is not None and not np.allclose(change["new"], [found["center"], found["width"]], rtol=1e-5):
            self.preset = ""
            if self.voi_shape == "lut":
                self.voi_shape = "linear_exact"

    # ---- asked by the browser ----

    @handles("planes")
    def _planes_asked(self, args: Args, _buffers: Any) -> Answer:
        self._page_alive = True
        return asking.planes(self.stack_source, args)

    @handles("oblique")
    def _oblique_asked(self, args: Args, _buffers: Any) -> Answer:
        return asking.oblique(self.stack_source, args)

    @handles("screenshot")
    def _screenshot_made(self, args: Args, buffers: Sequence[Any]) -> None:
        with self._picture_lock:
            waiting = self._pictures.get(int(args.get("number", -1)))
        if waiting is None or not buffers:
            return
        waiting[1].append(bytes(buffers[0]))
        waiting[0].set()

    # ---- given to Python ----

    @property
    def slice(self) -> xr.DataArray:
        """The plane that is shown, in units, in the array's own order, with its coordinates.

        The same as `image.isel(…)` at the crosshair and the further dimensions; slabs are not applied.
        """
        axis = self.stack_source.planes[self.plane].axes[0]
        return cutting.cut(self.stack_source, {axis: self.index[axis]}, self.extra)

    def crop(self, mm: float | Sequence[float] | None = None) -> xr.DataArray:
        """The part of the volume that the panes show, in units; with `mm`, a box around the crosshair.

        mm: edge lengths of the box along z, y, x of the array, or one for all. Lazy where the image is.
        """
        stack = self.stack_source
        if mm is not None:
            return cutting.cut(stack, cutting.box_around(stack, self.index, mm), self.extra)
        return cutting.cut(stack, cutting.box_seen(stack, self._shown_planes(), self.view), self.extra)

    @property
    def value(self) -> float | tuple[int, ...]:
        """The value at the crosshair, in units; three numbers of a colour image."""
        z, y, x = self.index
        numbers = self.stack_source.part(
            np.s_[z : z + 1], np.s_[y : y + 1], np.s_[x : x + 1], self.extra
        ).ravel()
        if self.stack_source.colour:
            return tuple(int(n) for n in numbers)
        return float(numbers[0]) * self.stack_source.slope + self.stack_source.intercept

    @property
    def position_mm(self) -> tuple[float, float, float]:
        """The crosshair in the patient, LPS, mm; setting it moves there. Raises GeometryError without one."""
        self._need_geometry()
        x, y, z = self.cursor_mm
        return x, y, z

    @position_mm.setter
    def position_mm(self, value: Sequence[float]) -> None:
        affine = self._need_geometry()
        index = cutting.nearest_index(affine, value, self.stack_source.shape, inside=True)
        with self.hold_trait_notifications():
            self.cursor_mm = [float(v) for v in value]
            self.index = index

    def screenshot(self, path: Any = None) -> bytes:
        """PNG of the panes as the browser shows them; of the plane alone where no browser answers.

        path: also write it there. May show what the image shows: burned-in text included.
        """
        found = self._picture_of_page() or picturing.rendered(self)
        if path is not None:
            from pathlib import Path

            Path(path).write_bytes(found)
        return Quiet(found, "PNG")

    def still(self) -> str | None:
        """The middle plane as a small picture, where no kernel runs; words where it may show text."""
        return picturing.still_html(self)

    # ---- inside ----

    def _shown_planes(self) -> list[str]:
        if self.arrangement == "one":
            return [self.plane]
        return [name for name in ("axial", "coronal", "sagittal") if name in self.stack_source.planes]

    def _need_geometry(self) -> np.ndarray:
        if self.stack_source.affine is None:
            raise GeometryError("this image has no even geometry, so no position in mm: use .index")
        return self.stack_source.affine

    def _picture_of_page(self) -> bytes | None:
        """PNG from a page that shows this viewer; None when none answers in time."""
        if not self._page_alive:
            return None
        with self._picture_lock:
            number = max(self._pictures, default=0) + 1
            waiting = self._pictures[number] = (Event(), [])
        try:
            self.tell("screenshot", {"number": number})
            waiting[0].wait(_PICTURE_S)
        finally:
            with self._picture_lock:
                del self._pictures[number]
        return waiting[1][0] if waiting[1] else None


def arrangements(stack: Stack) -> list[str]:
    """The layouts that a stack can be shown in."""
    if not {"axial", "coronal", "sagittal"} <= set(stack.planes):
        return ["one"]
    return list(ARRANGEMENTS) if stack.affine is not None and not stack.colour else ["one", "mpr"]


def first_arrangement(stack: Stack) -> str:
    """Linked planes where the volume is deep enough, and not too flat, to look at from other sides."""
    if "mpr" not in arrangements(stack) or min(stack.shape) < 2:
        return "one"
    first = next(iter(stack.planes.values()))
    return "mpr" if first.step_mm <= _FLAT * min(first.row_mm, first.col_mm) else "one"


def _cine_over(stack: Stack) -> str:
    timed = [name for name, size in stack.extras.items() if "time" in name and size > 1]
    return timed[0] if timed else "plane"


def _window_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Traits of the first preset, else of the range of values."""
    if meta["presets"]:
        first = meta["presets"][0]
        window = [float(first["center"]), float(first["width"])]
        return {
            "window": window,
            "voi_shape": first["shape"],
            "preset": first["name"],
            "invert": bool(first.get("invert")),
        }
    low, high = meta["range"]
    return {"window": [(low + high) / 2, max(high - low, 1e-9)]}


def _clamped(name: str, value: Sequence[int], sizes: Sequence[int], axes: str) -> list[int]:
    if len(value) != len(sizes):
        raise TraitError(f"{name} has {len(sizes)} whole numbers {axes}, not {len(value)}")
    return [min(max(int(v), 0), n - 1) for v, n in zip(value, sizes, strict=True)]


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        shown = ", ".join(repr(one) for one in known)
        raise TraitError(f"{name} is one of {shown}, not {str(value)[:40]!r}")
    return value


def _finite(name: str, value: Sequence[float], count: int, what: str) -> list[float]:
    if len(value) != count or not all(math.isfinite(v) for v in value):
        raise TraitError(f"{name} is {what}: {count} finite numbers")
    return [float(v) for v in value]
