"""Graphic annotations of a presentation state: layers, shapes and texts (PS3.3 C.10.5, C.10.7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes
from dicomlake.objects.codes import references_in
from dicomlake.objects.colours import RGB, rgb_of

GRAPHIC = ("layer", "kind", "units", "points", "filled", "rgb", "compound", "group", "images", "tracking_UID")
TEXT = (
    "layer",
    "text",
    "units",
    "top_left",
    "bottom_right",
    "justification",
    "anchor",
    "anchor_units",
    "anchor_visible",
    "rgb",
    "images",
    "tracking_UID",
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A graphic layer: its name, its place in the stack, and the colour or gray value recommended for it."""

    name: str
    order: int
    rgb: RGB | None
    gray: int | None


def layers_of(dataset: Attributes) -> tuple[Layer, ...]:
    """The layers, lowest first."""
    found = [
        Layer(
            name=item.text("GraphicLayer") or "",
            order=int(item.number("GraphicLayerOrder") or 0),
            rgb=rgb_of(item.numbers("GraphicLayerRecommendedDisplayCIELabValue")),
            gray=_whole(item.number("GraphicLayerRecommendedDisplayGrayscaleValue")),
        )
        for item in dataset.items("GraphicLayerSequence")
    ]
    return tuple(sorted(found, key=lambda layer: layer.order))


def graphics(dataset: Attributes) -> Iterator[dict[str, Any]]:
    """One row for each graphic object, compound ones too."""
    for annotation, shared in _annotations(dataset):
        for item in annotation.items("GraphicObjectSequence"):
            yield shared | _graphic(item, item.text("GraphicAnnotationUnits"), compound=False)
        for item in annotation.items("CompoundGraphicSequence"):
            yield shared | _graphic(item, item.text("CompoundGraphicUnits"), compound=True)


def texts(dataset: Attributes) -> Iterator[dict[str, Any]]:
    """One row for each text object."""
    for annotation, shared in _annotations(dataset):
        for item in annotation.items("TextObjectSequence"):
            yield shared | {
                "text": item.text("UnformattedTextValue"),
                "units": item.text("BoundingBoxAnnotationUnits"),
                "top_left": _pair(item, "BoundingBoxTopLeftHandCorner"),
                "bottom_right": _pair(item, "BoundingBoxBottomRightHandCorner"),
                "justification": item.text("BoundingBoxTextHorizontalJustification"),
                "anchor": _pair(item, "AnchorPoint"),
                "anchor_units": item.text("AnchorPointAnnotationUnits"),
                "anchor_visible": _yes(item.text("AnchorPointVisibility")),
                "rgb": _colour(item, "TextStyleSequence", "TextColorCIELabValue"),
                "tracking_UID": item.text("TrackingUID"),
            }


def _annotations(dataset: Attributes) -> Iterator[tuple[Attributes, dict[str, Any]]]:
    for annotation in dataset.items("GraphicAnnotationSequence"):
        images = references_in(annotation, "ReferencedImageSequence")
        yield annotation, {"layer": annotation.text("GraphicLayer"), "images": images}


def _graphic(item: Attributes, units: str | None, *, compound: bool) -> dict[str, Any]:
    return {
        "kind": item.text("CompoundGraphicType" if compound else "GraphicType"),
        "units": units,
        "points": _points(item),
        "filled": _yes(item.text("GraphicFilled")),
        "rgb": _colour(item, "LineStyleSequence", "PatternOnColorCIELabValue"),
        "compound": compound,
        "group": _whole(item.number("GraphicGroupID")),
        "tracking_UID": item.text("TrackingUID"),
    }


def _points(item: Attributes) -> npt.NDArray[np.float64] | None:
    """(n, 2), column and row; (n, 3) where GraphicDimensions says so."""
    axes = int(item.number("GraphicDimensions") or 2)
    data = item.numbers("GraphicData")
    if axes not in (2, 3) or not data or len(data) % axes:
        return None
    return np.array(data, dtype=np.float64).reshape(-1, axes)


def _colour(item: Attributes, style: str, keyword: str) -> RGB | None:
    for found in item.items(style):
        return rgb_of(found.numbers(keyword))
    return None


def _pair(item: Attributes, keyword: str) -> tuple[float, ...] | None:
    return item.numbers(keyword) or None


def _yes(text: str | None) -> bool | None:
    return None if text is None else text == "Y"


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
