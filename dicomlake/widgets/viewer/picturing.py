"""Pictures of a viewer that Python makes itself: where no browser answers, and in a saved notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dicomlake.widgets.viewer.navigating import Navigating

_SIZE = 768


def rendered(viewer: Navigating) -> bytes:
    """PNG of the plane that is shown, with its window and slab, in true proportions; grey or colour."""
    from dicomlake.widgets.images.encode import png
    from dicomlake.widgets.images.still import fitted

    stack = viewer.stack_source
    plane = stack.planes[viewer.plane]
    number = plane.number_of(viewer.index)
    numbers = stack.run(plane.name, number, 1, viewer.extra, viewer.slab_mm, viewer.slab_mode)[0]
    return png(fitted(_bright(viewer, numbers), plane, _SIZE))


def _bright(viewer: Navigating, numbers: np.ndarray) -> np.ndarray:
    """uint8 of numbers through the window or table that is on."""
    from dicomlake.widgets.images import voi
    from dicomlake.widgets.images.encode import grey

    stack = viewer.stack_source
    if stack.colour:
        return numbers
    preset = next((one for one in stack.presets if one.name == viewer.preset), None)
    if viewer.voi_shape == "lut" and preset is not None and preset.lut is not None:
        bright = voi.looked_up(preset.lut, numbers * stack.slope + stack.intercept)
    else:
        center, width = viewer.window
        scale: dict[str, Any] = {"slope": stack.slope, "intercept": stack.intercept}
        bright = grey(numbers, (center, width), viewer.voi_shape, **scale)
    return 255 - bright if viewer.invert != stack.inverted else bright


def still_html(viewer: Navigating) -> str:
    """The middle plane with the stack's title; the title alone where the pixels may show text."""
    from dicomlake.widgets.base.still import picture
    from dicomlake.widgets.images.still import still

    title = viewer.stack_source.title
    png = still(viewer.stack_source)
    if png is None:
        return f"<div>{html.escape(title)}: run the cell to see it</div>"
    return picture(png, f"{title}: the middle plane; run the cell to browse it")
