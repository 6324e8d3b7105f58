"""Presentation states: which images to show and how (PS3.3 A.33), grayscale, colour, blending.

What a state says is read, nothing is rendered. Texts and labels that somebody wrote are in the tables and
fields, never in a repr.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.luts import Lut, Palette, palette
from dicomlake.errors import BrokenObject
from dicomlake.objects import graphics as drawings
from dicomlake.objects.codes import Reference, referenced_series, references_in
from dicomlake.objects.colours import RGB, rgb_of
from dicomlake.objects.display import Modality, Voi, modality_of, presentation_lut_of, vois_of
from dicomlake.objects.graphics import Layer
from dicomlake.tables import frame as table_of

if TYPE_CHECKING:
    import pandas as pd

_ROOT = "1.2.840.10008.5.1.4.1.1.11."


@dataclass(frozen=True, slots=True)
class DisplayedArea:
    """The part of the images to show (PS3.3 C.10.4).

    top_left, bottom_right: (column, row) of pixels, from 1; outside of the image is allowed.
    mode: SCALE TO FIT, TRUE SIZE or MAGNIFY. spacing_mm: between rows, columns, where it is to be believed.
    aspect: height to width of a pixel as two numbers, in place of the spacing. magnification: for MAGNIFY.
    images: that it is for; none means all.
    """

    top_left: tuple[float, ...]
    bottom_right: tuple[float, ...]
    mode: str | None
    spacing_mm: tuple[float, ...] | None
    aspect: tuple[float, ...] | None
    magnification: float | None
    images: tuple[Reference, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Shutter:
    """What hides the image outside of a shape (PS3.3 C.7.6.11, C.7.6.15).

    shape: RECTANGULAR, CIRCULAR, POLYGONAL or BITMAP. points: (n, 2) of column and row, from 1: two corners,
    the centre, the vertices. radius: of the circle, in pixels. overlay: group of the bitmap's overlay.
    """

    shape: str
    points: npt.NDArray[np.float64]
    radius: float | None = None
    overlay: int | None = None


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Blended:
    """One of the inputs of a blending presentation state (PS3.3 C.11.14, C.11.34).

    position: SUPERIMPOSED or UNDERLYING; of advanced blending, BlendingInputNumber.
    series_uid: of advanced blending, whose inputs may be whole series, without images.
    """

    position: str
    study_uid: str | None
    series_uid: str | None
    images: tuple[Reference, ...]
    modality: Modality | None
    voi: tuple[Voi, ...]

    def __repr__(self) -> str:
        return f"<Blended: {self.position}, {len(self.images)} images>"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class PresentationState:
    """How to show images.

    images: what it is for, with their series. modality, voi, presentation_lut: from stored to displayed
        values, in this order; presentation_lut is a table or the shape IDENTITY or INVERSE.
    palette: the colours of a pseudo-colour state.
    rotation: degrees clockwise; flipped: left to right, after the rotation (PS3.3 C.10.6).
    shutter_gray, shutter_rgb: of what is hidden. layers: of the annotations, lowest first.
    blended, opacity: inputs of a blending state, and how much of the superimposed one shows, 0 to 1.
    label: ContentLabel.
    """

    sop_class_uid: str
    sop_instance_uid: str
    label: str | None
    images: tuple[Reference, ...]
    displayed_areas: tuple[DisplayedArea, ...]
    modality: Modality | None
    voi: tuple[Voi, ...]
    presentation_lut: Lut | str | None
    palette: Palette | None
    rotation: int
    flipped: bool
    shutters: tuple[Shutter, ...]
    shutter_gray: int | None
    shutter_rgb: RGB | None
    layers: tuple[Layer, ...]
    blended: tuple[Blended, ...]
    opacity: float | None
    _dataset: Attributes

    @property
    def kind(self) -> str:
        """The name of its SOP class, such as `Grayscale Softcopy Presentation State`."""
        return standard.uid_name(self.sop_class_uid).removesuffix(" Storage")

    def graphics(self) -> pd.DataFrame:
        """One row a graphic object: layer, kind, points (n, 2) of column and row, units, colour, images.

        units: PIXEL (0.5 is the centre of the first pixel), DISPLAY (0 to 1 of the displayed area) or MATRIX
        (pixels of the whole slide). `images` without an entry means all images of the state.
        """
        return table_of(list(drawings.graphics(self._dataset)), drawings.GRAPHIC)

    def texts(self) -> pd.DataFrame:
        """One row a text object: layer, text, box or anchor point as (column, row) in their units, images."""
        return table_of(list(drawings.texts(self._dataset)), drawings.TEXT)

    def __repr__(self) -> str:
        drawn = self._dataset.items("GraphicAnnotationSequence")
        return (
            f"<PresentationState: {self.kind}, {len(self.images)} images, {len(self.layers)} layers,"
            f" {len(drawn)} annotations>"
        )


def read_presentation(source: bytes) -> PresentationState:
    """Read a presentation state.

    Raises NotADicomObject for bytes that are not DICOM, BrokenObject for an object that is no
    presentation state or whose look-up tables make no sense.
    """
    dataset = read_header(source).dataset
    sop_class = dataset.text("SOPClassUID") or ""
    if not sop_class.startswith(_ROOT):
        raise BrokenObject("SOPClassUID is not that of a presentation state")
    modality = modality_of(dataset)
    inputs = (*dataset.items("BlendingSequence"), *dataset.items("AdvancedBlendingSequence"))
    blended = tuple(_blended(item) for item in inputs)
    images = tuple(referenced_series(dataset)) or tuple(ref for one in blended for ref in one.images)
    return PresentationState(
        sop_class_uid=sop_class,
        sop_instance_uid=dataset.text("SOPInstanceUID") or "",
        label=dataset.text("ContentLabel"),
        images=images,
        displayed_areas=tuple(_area(item) for item in dataset.items("DisplayedAreaSelectionSequence")),
        modality=modality,
        voi=vois_of(dataset, modality),
        presentation_lut=presentation_lut_of(dataset),
        palette=palette(dataset),
        rotation=int(dataset.number("ImageRotation") or 0) % 360,
        flipped=dataset.text("ImageHorizontalFlip") == "Y",
        shutters=tuple(_shutters(dataset)),
        shutter_gray=_whole(dataset.number("ShutterPresentationValue")),
        shutter_rgb=rgb_of(dataset.numbers("ShutterPresentationColorCIELabValue")),
        layers=drawings.layers_of(dataset),
        blended=blended,
        opacity=dataset.number("RelativeOpacity"),
        _dataset=dataset,
    )


def _area(item: Attributes) -> DisplayedArea:
    return DisplayedArea(
        top_left=item.numbers("DisplayedAreaTopLeftHandCorner"),
        bottom_right=item.numbers("DisplayedAreaBottomRightHandCorner"),
        mode=item.text("PresentationSizeMode"),
        spacing_mm=item.numbers("PresentationPixelSpacing") or None,
        aspect=item.numbers("PresentationPixelAspectRatio") or None,
        magnification=item.number("PresentationPixelMagnificationRatio"),
        images=references_in(item, "ReferencedImageSequence"),
    )


def _blended(item: Attributes) -> Blended:
    series, modality = item.text("SeriesInstanceUID"), modality_of(item)
    return Blended(
        position=item.text("BlendingPosition") or item.text("BlendingInputNumber") or "",
        study_uid=item.text("StudyInstanceUID"),
        series_uid=series,
        images=(*referenced_series(item), *references_in(item, "ReferencedImageSequence", series)),
        modality=modality,
        voi=vois_of(item, modality),
    )


def _shutters(dataset: Attributes) -> Iterator[Shutter]:
    """Every shape that the state names; rows come before columns in the standard, not here."""
    for shape in dataset.texts("ShutterShape"):
        if shape == "RECTANGULAR":
            yield Shutter(shape, _corners(dataset))
        elif shape == "CIRCULAR":
            centre = _flipped(dataset.numbers("CenterOfCircularShutter"))
            yield Shutter(shape, centre, radius=dataset.number("RadiusOfCircularShutter"))
        elif shape == "POLYGONAL":
            yield Shutter(shape, _flipped(dataset.numbers("VerticesOfThePolygonalShutter")))
        else:
            overlay = _whole(dataset.number("ShutterOverlayGroup"))
            yield Shutter(shape, np.empty((0, 2)), overlay=overlay)


def _corners(dataset: Attributes) -> npt.NDArray[np.float64]:
    """(left, upper) and (right, lower) of the rectangle."""
    edges = [
        dataset.number(f"Shutter{edge}Edge")
        for edge in ("LeftVertical", "UpperHorizontal", "RightVertical", "LowerHorizontal")
    ]
    if None in edges:
        raise BrokenObject("an edge of the rectangular shutter is missing")
    return np.array(edges, dtype=np.float64).reshape(2, 2)


def _flipped(values: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Pairs of row and column as column and row."""
    if len(values) % 2:
        raise BrokenObject("a shutter is not described by pairs of row and column")
    return np.array(values, dtype=np.float64).reshape(-1, 2)[:, ::-1]


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
