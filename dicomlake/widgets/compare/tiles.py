"""What a contact sheet shows: planes of a stack, or one plane of each of many series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

from dicomlake.widgets.images.contact import thumbnail
from dicomlake.widgets.images.encode import png
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.images.still import dark_on_light, fitted

_ABOUT = 40  # planes that a sheet shows at first
_EDGE = 192  # of a thumbnail, px: sharp at 128 CSS px on most screens


class HasFacts(Protocol):
    """A series: facts by keyword, and what opens it."""

    facts: Mapping[str, Any]

    def open(self) -> Any:
        """A Dataset with `image`."""
        ...


class PlaneTiles:
    """Every n-th plane of one stack as thumbnails, with one window."""

    def __init__(self, image: Any, *, every: int = 0, plane: str = "") -> None:
        given = getattr(image, "stack_source", image)
        self.stack = given if hasattr(given, "run") else Stack.of(given)
        self.plane = plane or next(iter(self.stack.planes))
        self._counted()
        self.every = every if every > 0 else max(1, round(self.counted / _ABOUT))
        first = self.stack.presets[0] if self.stack.presets else None
        self.window: tuple[float, float] | None = (first.center, first.width) if first else None
        self.invert = dark_on_light(self.stack)
        self._lock = Lock()

    def _counted(self) -> None:
        if self.plane not in self.stack.planes:
            self.stack.run(self.plane, 0, 1)  # refuses, naming the planes that there are
        self.counted = self.stack.planes[self.plane].count

    def traits(self) -> dict[str, Any]:
        """Of the sheet: nothing identifying."""
        presets = [one for one in self.stack.presets if one.lut is None][:9]
        return {
            "every": self.every,
            "plane": self.plane,
            "planes": list(self.stack.planes),
            "window": list(self.window or ()),
            "presets": [
                {"key": p.key, "name": p.name, "center": p.center, "width": p.width} for p in presets
            ],
        }

    def show(self, *, every: int, plane: str, window: Sequence[float]) -> None:
        """Other planes, or the same otherwise."""
        with self._lock:
            self.every, self.plane = max(1, every), plane
            self.window = (window[0], window[1]) if len(window) == 2 else self.window
            self._counted()

    def __len__(self) -> int:
        return len(range(0, self.counted, self.every))

    def __getitem__(self, i: int) -> int:
        """The number of a plane."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        return i * self.every

    def thumbnail(self, i: int) -> bytes:
        """PNG of a plane in its true proportions."""
        with self._lock:
            number, plane, window = self[i], self.stack.planes[self.plane], self.window
        picture = self.stack.shown(self.stack.run(plane.name, number, 1)[0], window, invert=self.invert)
        return png(fitted(picture, plane, _EDGE))

    def caption(self, i: int) -> str:
        """The plane's number, counted from 1 as viewers do."""
        return f"{self[i] + 1}"

    def index_of(self, i: int, at: Sequence[int] | None = None) -> list[int] | None:
        """A voxel (z, y, x) in a plane: below `at`, or in the middle; None for no plane."""
        if not 0 <= i < len(self):
            return None
        index = list(at) if at else [n // 2 for n in self.stack.shape]
        index[self.stack.planes[self.plane].axes[0]] = self[i]
        return index


class SeriesTiles:
    """One thumbnail of each of many series, opened when it is first looked at."""

    def __init__(
        self,
        series: Sequence[HasFacts],
        *,
        caption: Callable[[Any], str] | None = None,
        image: Callable[[Any], Any] | None = None,
    ) -> None:
        """caption, image: of a series, where facts and `open().image` do not serve."""
        self.series = series
        self._caption = caption or _line_of
        self._image = image or _image_of

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, i: int) -> Any:
        return self.series[i]

    def thumbnail(self, i: int) -> bytes:
        """PNG of the plane in the middle."""
        return thumbnail(self._image(self.series[i]), _EDGE)

    def caption(self, i: int) -> str:
        """Modality, size and date, unless told otherwise."""
        return self._caption(self.series[i])


def _image_of(series: Any) -> Any:
    opened = series.open()
    return opened.children[min(opened.children)].to_dataset() if getattr(opened, "children", None) else opened


def _line_of(series: Any) -> str:
    facts = series.facts
    size = f"{facts.get('instances')} × {facts.get('Rows')}×{facts.get('Columns')}"
    lines = [f"{facts.get('Modality') or '?'} {size}", str(facts.get("StudyDate") or "")]
    return "\n".join(line for line in lines if line)
