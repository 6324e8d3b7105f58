"""A sheet of thumbnails: planes of one series, or one picture of each of many; chosen and selected by hand.

The browser asks for the thumbnails that it shows, in batches; captions come with them and are never kept in
traits, so that nothing that names a patient is saved with the notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Answer, Refusal, Widget, handles
from dicomlake.widgets.compare.tiles import PlaneTiles

MOST_AT_ONCE = 24  # thumbnails of one message
_SIZES = (48, 384)  # edge of a thumbnail, px


class Tiles(Protocol):
    """What a sheet shows: a sequence whose items have a picture and a caption.

    `thumbnail` and `caption` are called from several threads. A caption may be of several lines; it is shown
    in the page and saved nowhere.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, i: int) -> Any: ...
    def thumbnail(self, i: int) -> bytes:
        """PNG of at most a few hundred pixels."""
        ...

    def caption(self, i: int) -> str:
        """A line or two."""
        ...


class ContactSheet(Widget):
    """Thumbnails of items, in rows; a click or Enter opens one, Space and Shift or Ctrl select several.

    chosen: index of the item that was opened last, -1 for none. selected: indexes, ascending; `selection` the
    items themselves.
    """

    ENTRY: ClassVar[str] = "compare/contact.js"
    STYLES: ClassVar[tuple[str, ...]] = ("compare/compare.css",)

    count = traitlets.Int(0).tag(sync=True)
    columns = traitlets.Int(0, help="In a row; 0: as many as fit.").tag(sync=True)
    size = traitlets.Int(128, help="Edge of a thumbnail, px.").tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    runs: traitlets.List[list[int]] = traitlets.List(help="The selection as [first, last] runs.").tag(
        sync=True
    )
    selected = traitlets.List(traitlets.Int(), help="Indexes of the selection.")
    version = traitlets.Int(0, help="Grows when thumbnails are to be asked for again.").tag(sync=True)
    every = traitlets.Int(1, help="Of a series: every n-th plane.").tag(sync=True)
    plane = traitlets.Unicode("").tag(sync=True)
    planes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    window: traitlets.List[float] = traitlets.List(help="Centre and width, of a series.").tag(sync=True)
    presets: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Of a series: key, name, center, width."
    ).tag(sync=True)

    def __init__(self, items: Tiles, **kwargs: Any) -> None:
        """items: a sequence with `thumbnail(i)` and `caption(i)`. kwargs: traits, as `columns`."""
        selected = kwargs.pop("selected", [])
        super().__init__(count=len(items), **kwargs)
        self.items = items
        self.observe(self._take_runs, "runs")
        self.observe(self._take_selected, "selected")
        if selected:
            self.selected = list(selected)

    @classmethod
    def of(
        cls, image: Any, *, every: int = 0, plane: str = "", viewer: Any = None, **kwargs: Any
    ) -> ContactSheet:
        """The planes of a Stack or an image; every: n-th plane, 0 for about 40 of them.

        viewer: is scrolled to the plane that is chosen.
        """
        tiles = PlaneTiles(image, every=every, plane=plane)
        sheet = cls(tiles, **tiles.traits(), **kwargs)
        sheet.observe(sheet._show_otherwise, ["every", "plane", "window"])
        if viewer is not None:
            sheet.observe(lambda change: _scroll(viewer, tiles, change["new"]), "chosen")
        return sheet

    @property
    def selection(self) -> list[Any]:
        """The items that are selected, in order."""
        return [self.items[i] for i in self.selected]

    @handles("thumbnails")
    def _thumbnails(self, args: dict[str, Any], _buffers: Any) -> Answer:
        """{items: up to 24 indexes} -> {tiles: [{i, caption, failed?}]}, a PNG of each that has one."""
        wanted = _indexes(args.get("items"), self.count)
        told, pictures = [], []
        for i in wanted:
            tile, png = self._tile(i)
            told.append(tile)
            pictures.append(png)
        return Answer({"tiles": told, "version": self.version}, pictures)

    def _tile(self, i: int) -> tuple[dict[str, Any], bytes]:
        tile: dict[str, Any] = {"i": i, "caption": ""}
        try:
            tile["caption"] = str(self.items.caption(i))[:200]
            return tile, self.items.thumbnail(i)
        except DicomlakeError as exc:  # one broken series is one tile that says so
            tile["failed"] = str(exc)
        except Exception as exc:
            self.last_exception = exc
            tile["failed"] = f"{type(exc).__name__}: see last_exception of the widget"
        return tile, b""

    def _take_runs(self, change: Any) -> None:
        self.selected = [i for first, last in change["new"] for i in range(first, last + 1)]

    def _take_selected(self, change: Any) -> None:
        wanted = sorted({int(i) for i in change["new"] if 0 <= int(i) < self.count})
        if wanted != list(change["new"]):
            self.selected = wanted
            return
        self.runs = _runs(wanted)

    def _show_otherwise(self, _change: Any) -> None:
        """Other planes or another window: the same tiles show something else."""
        tiles = self.items
        assert isinstance(tiles, PlaneTiles)
        before = len(tiles)
        tiles.show(every=self.every, plane=self.plane, window=self.window)
        with self.hold_sync():
            if len(tiles) != before:
                self.selected = []
                self.chosen = -1
            self.count = len(tiles)
            self.version += 1

    @traitlets.validate("columns", "every")
    def _few(self, proposal: Any) -> int:
        return max(0, min(int(proposal["value"]), 64))

    @traitlets.validate("runs")
    def _in_order(self, proposal: Any) -> list[list[int]]:
        """Ascending and apart, whatever the browser sent."""
        return _joined(proposal["value"], self.count)

    @traitlets.validate("size")
    def _sized(self, proposal: Any) -> int:
        return max(_SIZES[0], min(int(proposal["value"]), _SIZES[1]))

    @traitlets.validate("window")
    def _wide(self, proposal: Any) -> list[float]:
        found = [float(v) for v in proposal["value"]]
        good = len(found) in (0, 2) and all(np.isfinite(found)) and (not found or found[1] > 0)
        return found if good else list(self.window)

    @traitlets.validate("plane")
    def _known(self, proposal: Any) -> str:
        value = str(proposal["value"])
        return value if not self.planes or value in self.planes else str(self.plane)

    def __repr__(self) -> str:
        return f"<ContactSheet of {self.count}, {len(self.selected)} selected>"


def _indexes(wanted: Any, count: int) -> list[int]:
    """What the browser asked for, checked."""
    if not isinstance(wanted, list) or not 0 < len(wanted) <= MOST_AT_ONCE:
        raise Refusal(f"a sheet answers 1 to {MOST_AT_ONCE} thumbnails at once: ask for fewer")
    if not all(isinstance(i, int) and 0 <= i < count for i in wanted):
        raise Refusal(f"this sheet has the items 0 to {count - 1}: reload the page")
    return list(dict.fromkeys(wanted))


def _joined(runs: Any, count: int) -> list[list[int]]:
    """Runs within the sheet, ascending, those that touch as one."""
    pairs = [run for run in runs if isinstance(run, (list, tuple)) and len(run) == 2]
    inside = sorted((max(int(a), 0), min(int(b), count - 1)) for a, b in pairs)
    found: list[list[int]] = []
    for first, last in inside:
        if first > last:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return found


def _runs(indexes: Sequence[int]) -> list[list[int]]:
    """Ascending indexes as [first, last] runs."""
    found: list[list[int]] = []
    for i in indexes:
        if found and found[-1][1] == i - 1:
            found[-1][1] = i
        else:
            found.append([i, i])
    return found


def _scroll(viewer: Any, tiles: PlaneTiles, i: int) -> None:
    """Let a viewer show a plane; where it is in the plane stays."""
    index = tiles.index_of(i, viewer.index)
    if index is not None:
        viewer.index = index
