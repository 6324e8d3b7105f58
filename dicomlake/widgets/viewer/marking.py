"""Tools of the viewer: measure, mark, brush, undo, save; what was drawn, back in Python.

Marks lie on one plane (`plane`, `index`, counted from 0) and are measured here on the stored values
(`roi_statistics`); the browser only draws them. The mask is one label a voxel over the stack's shape and
stays here: strokes come as points. All changes, from either side, are steps that can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from dicomlake.widgets.base import Answer, Refusal, Widget, handles
from dicomlake.widgets.viewer import marking_tables
from dicomlake.widgets.viewer.marking_checks import (
    COLORS,
    MOST_MARKS,
    Mark,
    checked_labels,
    completed,
    named,
    numbers,
    plane_of,
    within,
)
from dicomlake.widgets.viewer.marking_history import History, Step, difference
from dicomlake.widgets.viewer.masks import MaskVolume, Patch, stroke
from dicomlake.widgets.viewer.roi_shapes import REGIONS, inside
from dicomlake.widgets.viewer.roi_statistics import ruler_of
from dicomlake.widgets.viewer.saving import Saving

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Args = dict[str, Any]

_PLANES_AT_ONCE, _STROKE_POINTS = 8, 5000
_RADIUS_MM = (0.01, 500.0)


class Marking(Saving, Widget):
    """The part of a viewer that measures and paints. Expects `stack_source`."""

    marks: traitlets.List[Mark] = traitlets.List(help="Marks, with what they measure.").tag(sync=True)
    mask_labels: traitlets.List[Mark] = traitlets.List(help="What is painted with.").tag(sync=True)
    mask_label = traitlets.Int(1, help="The label that is painted with.").tag(sync=True)
    mask_version = traitlets.Int(0, help="Counts changes of the mask.").tag(sync=True)
    brush_mm = traitlets.Float(5.0, help="Radius of brush and eraser.").tag(sync=True)
    marking_state = traitlets.Dict(help="What undo and redo would do; the unit of lengths.").tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: traits."""
        self._marking_lock = RLock()
        self._history = History()
        self._mask_volume: MaskVolume | None = None
        self._replaying = False
        self._accepted: list[Mark] = []
        super().__init__(**kwargs)

    # ---- in Python ------------------------------------------------------------------------------------

    @property
    def rois(self) -> pd.DataFrame:
        """One row a mark that measures something; numbers of regions are those of the stored values.

        `number` counts planes from 0; `x_mm`, `y_mm`, `z_mm` are the middle, LPS; SOPInstanceUID and frame
        are those of the slice, where the plane is one that was acquired.
        """
        return marking_tables.rois(self.stack_source, self.marks)

    @property
    def key_images(self) -> pd.DataFrame:
        """One row a plane that was marked as a key image."""
        return marking_tables.key_images(self.stack_source, self.marks)

    @property
    def mask(self) -> xr.DataArray:
        """What is painted, uint8 (z, y, x), 0 where nothing is, with the coordinates of the image; a copy."""
        with self._marking_lock:
            labels = self._painted.labels.copy()
        names = {label["value"]: label["name"] for label in self.mask_labels}
        return marking_tables.mask_array(self.stack_source, labels, names, self._extra_now())

    @mask.setter
    def mask(self, value: Any) -> None:
        array = np.asarray(value)
        shape = self._painted.shape
        if array.shape != shape and array.shape != shape[1:] * (shape[0] == 1):
            raise Refusal(f"the mask has the shape {array.shape}, the image {shape}: (z, y, x)")
        if array.dtype != bool and not np.isin(np.unique(array), np.arange(256)).all():
            raise Refusal("a mask is bool, or whole numbers from 0 to 255")
        labels = array.astype(np.uint8) * self.mask_label if array.dtype == bool else array.astype(np.uint8)
        with self._marking_lock:
            missing = sorted(set(np.unique(labels).tolist()) - {0} - self._values())
            if missing:
                self.mask_labels = [*self.mask_labels, *({"value": value} for value in missing)]
            self._changed(self._painted.replace(labels.reshape(self._painted.shape)), "the mask was set")

    def mask_statistics(self) -> pd.DataFrame:
        """One row a label that is painted: voxels, volume_mm3, volume_ml, and statistics of its values."""
        with self._marking_lock:
            labels = self._painted.labels.copy()
        return marking_tables.mask_statistics(self.stack_source, labels, self.mask_labels, self._extra_now())

    def add_mark(
        self,
        tool: str,
        points: Any = None,
        *,
        points_mm: Any = None,
        plane: str | None = None,
        index: int | None = None,
        extra: Sequence[int] | None = None,
        through: tuple[int, int] | None = None,
        name: str = "",
        label: str = "",
    ) -> str:
        """Draw a mark; returns its id.

        tool: length, angle, ellipse, rectangle, polygon, freehand, point or key.
        points: (row, column) in pixels of the displayed plane; opposite corners of ellipse and rectangle.
        points_mm: instead, (x, y, z) in the patient, LPS, all in one plane of the stack.
        plane, index: the first plane of the stack, and the one that is shown, unless given.
        through: numbers of the first and last plane of a region that goes through several.
        Raises Refusal for what cannot be drawn on this stack.
        """
        name_of_plane = plane or next(iter(self.stack_source.planes))
        if points_mm is not None:
            on = plane_of(self.stack_source, name_of_plane)
            index, points = marking_tables.on_plane(on, points_mm)
        given = {
            "tool": tool,
            "points": points,
            "plane": name_of_plane,
            "index": self._shown(name_of_plane) if index is None else index,
            "extra": list(self._extra_now() if extra is None else extra),
            "through": through,
            "name": name,
            "label": label,
        }
        return str(self._keep(given)["id"])

    def remove_mark(self, *ids: str) -> None:
        """Take marks away. Raises Refusal when there is no such mark."""
        with self._marking_lock:
            missing = set(ids) - {mark["id"] for mark in self.marks}
            if missing:
                raise Refusal(f"{len(missing)} of {len(ids)} marks are not there: see viewer.marks")
            self.marks = [mark for mark in self.marks if mark["id"] not in ids]

    def undo(self) -> str:
        """Undo the newest change of marks or mask; returns what it was, "" when there is none."""
        return self._replay(History.back, back=True)

    def redo(self) -> str:
        """Do again what was undone last; returns what it was, "" when there is none."""
        return self._replay(History.forth, back=False)

    # ---- what the browser asks ------------------------------------------------------------------------

    @handles("mark")
    def _ask_mark(self, args: Args, _buffers: Any) -> Args:
        return {"mark": self._keep(args.get("mark"))}

    @handles("unmark")
    def _ask_unmark(self, args: Args, _buffers: Any) -> Args:
        ids = args.get("ids")
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise Refusal("unmark: a list of ids")
        self.remove_mark(*(mark["id"] for mark in self.marks if mark["id"] in ids))
        return {}

    @handles("measure")
    def _ask_measure(self, args: Args, _buffers: Any) -> Args:
        return {"stats": completed(self.stack_source, args.get("mark"))["stats"]}

    @handles("stroke")
    def _ask_stroke(self, args: Args, _buffers: Any) -> Args:
        plane = plane_of(self.stack_source, args.get("plane"))
        index = within(args.get("index"), plane.count, "index")
        radius = args.get("radius_mm")
        if isinstance(radius, bool) or not isinstance(radius, int | float):
            raise Refusal("stroke: radius_mm is a number")
        if not _RADIUS_MM[0] <= radius <= _RADIUS_MM[1]:
            raise Refusal(f"stroke: a radius is from {_RADIUS_MM[0]} to {_RADIUS_MM[1]} mm")
        points = numbers(args.get("points"), _STROKE_POINTS, "stroke")
        if not points:
            raise Refusal("stroke: without a point there is nothing to paint")
        found = stroke(points, float(radius), plane.row_mm, plane.col_mm, (plane.rows, plane.cols))
        label = self._label(args.get("label"))
        with self._marking_lock:
            patch = self._painted.paint(plane, [index], found, label)
            self._changed(patch, "Brush" if label else "Erase")
            return {"pixels": int(found.mask.sum()), "version": self.mask_version}

    @handles("fill")
    def _ask_fill(self, args: Args, _buffers: Any) -> Args:
        return {"voxels": self.fill_mark(str(args.get("id")), self._label(args.get("label")))}

    @handles("mask")
    def _ask_mask(self, args: Args, _buffers: Any) -> Answer:
        wanted = args.get("planes")
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= _PLANES_AT_ONCE:
            raise Refusal(f"mask: 1 to {_PLANES_AT_ONCE} planes at a time")
        told: list[Args] = []
        buffers: list[Any] = []
        with self._marking_lock:
            for one in wanted:
                if not isinstance(one, dict):
                    raise Refusal("mask: each is a plane and an index")
                plane = plane_of(self.stack_source, one.get("plane"))
                index = within(one.get("index"), plane.count, "index")
                told.append({"plane": one["plane"], "index": index, "rows": plane.rows, "cols": plane.cols})
                buffers.append(np.ascontiguousarray(self._painted.plane(plane, index)))
            return Answer({"planes": told, "version": self.mask_version}, buffers)

    @handles("measure_mask")
    def _ask_measure_mask(self, _args: Args, _buffers: Any) -> Args:
        table = self.mask_statistics().astype(object)
        return {"labels": table.where(table.notna(), None).to_dict("records")}

    @handles("mask_labels")
    def _ask_mask_labels(self, args: Args, _buffers: Any) -> Args:
        self.mask_labels = checked_labels(args.get("labels"))
        return {}

    @handles("undo")
    def _ask_undo(self, _args: Args, _buffers: Any) -> Args:
        return {"did": self.undo()}

    @handles("redo")
    def _ask_redo(self, _args: Args, _buffers: Any) -> Args:
        return {"did": self.redo()}

    @handles("save_marks")
    def _ask_save(self, _args: Args, _buffers: Any) -> Args:
        return {"saved": str(self.save())}

    def _take_over(self, marks: list[Any], labels: list[Any], mask: Any) -> None:
        """What was saved, instead of what is drawn; there is nothing to undo where nothing was."""
        with self._marking_lock:
            fresh = not self._history.done
            self.marks = marks
            painted = [one for one in self.mask_labels if self._painted.count(one["value"])]
            self.mask_labels = list({one["value"]: one for one in (*painted, *labels)}.values())
            empty = np.zeros(self._painted.shape, np.uint8)
            self._changed(self._painted.replace(empty if mask is None else mask), "the saved mask was loaded")
            if fresh:
                self._history = History()
                self._tell_state()

    def fill_mark(self, mark_id: str, label: int | None = None) -> int:
        """Paint the pixels of a region, in all planes it goes through; returns how many voxels changed.

        label: the one that is painted with, unless given; 0 erases.
        """
        mark = next((m for m in self.marks if m["id"] == mark_id and m["tool"] in REGIONS), None)
        if mark is None:
            raise Refusal("only an ellipse, rectangle, polygon or freehand outline can be filled: select one")
        plane = self.stack_source.planes[mark["plane"]]
        first, last = mark.get("through") or (mark["index"], mark["index"])
        found = inside(mark["tool"], np.asarray(mark["points"]), (plane.rows, plane.cols))
        with self._marking_lock:
            value = self._label(self.mask_label if label is None else label)
            patch = self._painted.paint(plane, range(first, last + 1), found, value)
            self._changed(patch, f"Fill {mark['name']}")
        return len(patch.where)

    def _keep(self, given: Any) -> Mark:
        """Add a mark, or put it in the place of the one with its id."""
        with self._marking_lock:
            known = {mark["id"]: mark for mark in self.marks}
            mark = completed(self.stack_source, given, known)
            others = [one for key, one in known.items() if key != mark["id"]]
            mark = named(mark, others)
            if mark["id"] in known:
                self.marks = [mark if one["id"] == mark["id"] else one for one in self.marks]
            else:
                self.marks = [*self.marks, mark]
            return mark

    @traitlets.validate("marks")
    def _valid_marks(self, proposal: Any) -> list[Mark]:
        given = proposal["value"]
        if len(given) > MOST_MARKS:
            raise Refusal(f"{len(given)} marks are more than the {MOST_MARKS} that a viewer holds")
        known = {mark["id"]: mark for mark in self._accepted}
        found: list[Mark] = []
        for one in given:
            kept = isinstance(one, dict) and one is known.get(one.get("id", ""))
            try:
                found.append(one if kept else named(completed(self.stack_source, one, known), found))
            except (KeyError, TypeError, ValueError) as error:
                raise Refusal("that is no mark: give it a tool, points and a plane") from error
        if len({mark["id"] for mark in found}) != len(found):
            raise Refusal("two marks have one id")
        return found

    @traitlets.observe("marks")
    def _marks_changed(self, change: Any) -> None:
        with self._marking_lock:
            old, self._accepted = self._accepted, change["new"]  # `old` of the change may have been refused
            if self._replaying or old == change["new"]:
                return
            self._history.push(Step(difference(old, change["new"]), marks=(old, change["new"])))
            self._tell_state()

    @traitlets.default("mask_labels")
    def _one_label(self) -> list[Mark]:
        return [{"value": 1, "name": "Label 1", "color": COLORS[0], "visible": True, "voxels": 0, "ml": None}]

    @traitlets.validate("mask_labels")
    def _valid_labels(self, proposal: Any) -> list[Mark]:
        labels = checked_labels(proposal["value"])
        if self._mask_volume is not None:
            left = [n for n in range(1, 256) if self._mask_volume.count(n)]
            if not set(left) <= {label["value"] for label in labels}:
                raise Refusal("a label that is painted with cannot go: erase what it marks first")
        return [label | self._counted(label["value"]) for label in labels]

    @traitlets.validate("mask_label")
    def _valid_label(self, proposal: Any) -> int:
        values = self._values()
        return int(proposal["value"]) if proposal["value"] in values else min(values)

    @traitlets.validate("brush_mm")
    def _valid_radius(self, proposal: Any) -> float:
        return float(min(max(proposal["value"], _RADIUS_MM[0]), _RADIUS_MM[1]))

    @traitlets.default("marking_state")
    def _state_at_first(self) -> Args:
        stack = self.stack_source
        return self._history.words | {"unit": ruler_of(stack, next(iter(stack.planes))).unit}

    # ---- within ---------------------------------------------------------------------------------------

    @property
    def _painted(self) -> MaskVolume:
        with self._marking_lock:
            if self._mask_volume is None:
                self._mask_volume = MaskVolume(self.stack_source.shape)
            return self._mask_volume

    def _values(self) -> set[int]:
        return {label["value"] for label in self.mask_labels}

    def _label(self, given: Any) -> int:
        if given != 0 and given not in self._values():
            raise Refusal("there is no such label: see viewer.mask_labels")
        return int(given)

    def _counted(self, value: int) -> Args:
        voxels = self._mask_volume.count(value) if self._mask_volume else 0
        voxel_mm3 = marking_tables.voxel_mm3(self.stack_source) if voxels else None
        return {"voxels": voxels, "ml": None if voxel_mm3 is None else voxels * voxel_mm3 / 1000}

    def _changed(self, patch: Patch, what: str) -> None:
        """The mask is another: a step to undo, and news for all views."""
        if len(patch.where):
            self._history.push(Step(what, patch=patch))
            self._tell_mask()

    def _know_labels(self) -> None:
        """Labels that are painted, but were removed meanwhile, are there again."""
        painted = [n for n in range(1, 256) if self._painted.count(n)]
        missing = [n for n in painted if n not in self._values()]
        if missing:
            self.mask_labels = [*self.mask_labels, *({"value": value} for value in missing)]

    def _tell_mask(self) -> None:
        with self.hold_sync():
            self.mask_version += 1
            self.mask_labels = list(self.mask_labels)
            self._tell_state()

    def _tell_state(self) -> None:
        self.marking_state = self.marking_state | self._history.words

    def _replay(self, take: Callable[[History], Step | None], *, back: bool) -> str:
        with self._marking_lock:
            step = take(self._history)
            if step is None:
                return ""
            if step.marks is not None:
                self._replaying = True
                try:
                    self.marks = step.marks[0 if back else 1]
                finally:
                    self._replaying = False
                self._tell_state()
            if step.patch is not None:
                self._painted.apply(step.patch, back=back)
                self._know_labels()
                self._tell_mask()
            return step.what

    def _shown(self, plane: str) -> int:
        """The number of the plane that is shown; the middle one where nothing is."""
        on = plane_of(self.stack_source, plane)
        return marking_tables.number_of(on, getattr(self, "index", None))

    def _extra_now(self) -> list[int]:
        """Where along the dimensions before z the viewer stands."""
        sizes = dict(getattr(self.stack_source, "extras", {}))
        shown = list(getattr(self, "extra", None) or [])
        return [int(n) for n in shown] if len(shown) == len(sizes) else [0] * len(sizes)
