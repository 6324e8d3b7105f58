"""A widget within another one: shown in a place of its own, closed when another takes the place."""

from __future__ import annotations

from typing import Any, ClassVar

import traitlets
from ipywidgets import Widget as AnyWidget
from ipywidgets import widget_serialization

from dicomlake.widgets.base.widget import Widget


def place(**metadata: Any) -> Any:
    """A trait for a widget that is shown within; None when there is none."""
    return traitlets.Instance(AnyWidget, allow_none=True, **metadata).tag(sync=True, **widget_serialization)


class Hosting(Widget):
    """Has places for widgets, which belong to it from then on. PLACES: names of their traits."""

    PLACES: ClassVar[tuple[str, ...]] = ("viewer",)

    def put(self, name: str, widget: Any) -> None:
        """Show a widget in a place, or None; the one that was there is closed, as it was made for it."""
        former = getattr(self, name)
        setattr(self, name, widget)
        held = [getattr(self, one) for one in self.PLACES]
        if former is not None and all(former is not one for one in held):
            former.close()
