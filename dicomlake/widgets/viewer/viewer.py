"""The image viewer: one image, its planes, what is laid over and drawn on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from dicomlake.widgets.base import Widget
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.viewer.marking import Marking
from dicomlake.widgets.viewer.navigating import Navigating
from dicomlake.widgets.viewer.overlaying import Overlaying

if TYPE_CHECKING:
    import xarray as xr


class Viewer(Navigating, Overlaying, Marking, Widget):
    """A stack of planes to scroll, window, measure and draw on. Not for diagnosis.

    image: a Stack, or what `Stack.of` takes. subject: the Series that it is of, for what refers to it.
    layout: "one", "mpr" or "oblique"; as the volume suggests without. traits: any of `Navigating`.
    The layout is the trait `arrangement`: `layout` is a trait of all Jupyter widgets, for their own size.
    """

    ENTRY: ClassVar[str] = "viewer/viewer.js"
    STYLES: ClassVar[tuple[str, ...]] = ("viewer/viewer.css", "viewer/overlays.css", "viewer/marks.css")

    stack_source: Stack

    def __init__(
        self,
        image: Stack | xr.DataArray | xr.Dataset,
        subject: Any = None,
        *,
        layout: str | None = None,
        **traits: Any,
    ) -> None:
        _check_names(traits, self.trait_names())
        self.stack_source = image if isinstance(image, Stack) else Stack.of(image)
        self.subject = subject
        super().__init__(**traits, **({"arrangement": layout} if layout else {}))

    def __repr__(self) -> str:
        index = ", ".join(map(str, self.index))
        return f"<Viewer {self.stack_source.title}, {self.arrangement}, at [{index}]>"


def _check_names(given: Iterable[str], known: Sequence[str]) -> None:
    """Raises TypeError for what is no trait: it would change nothing, silently."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=2) or ["plane", "window", "arrangement"]
            raise TypeError(f"a viewer has no {name!r}: perhaps {' or '.join(near)}")
