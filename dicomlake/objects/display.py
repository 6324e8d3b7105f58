"""From stored to displayed values, as a presentation state says: modality, values of interest, presentation.

The steps and their order are those of PS3.4 N.2; the tables themselves are read in `dicom.luts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.luts import Lut, modality_lut, voi_luts
from dicomlake.objects.codes import Reference, references_in

_VOI_LUT, _PRESENTATION_LUT = 0x00283010, 0x20500010


@dataclass(frozen=True, slots=True)
class Window:
    """WindowCenter and WindowWidth with VOILUTFunction: LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Voi:
    """Which values of interest to show: windows or look-up tables, alternatives in order.

    images: that it is for; none means all images of the presentation state.
    """

    windows: tuple[Window, ...]
    luts: tuple[Lut, ...]
    images: tuple[Reference, ...] = ()

    def __repr__(self) -> str:
        return f"<Voi: {len(self.windows)} windows, {len(self.luts)} look-up tables>"


@dataclass(frozen=True, slots=True)
class Modality:
    """What stored values mean: slope and intercept, or a look-up table in their place.

    type: units of the result (RescaleType, ModalityLUTType).
    """

    slope: float | None
    intercept: float | None
    type: str | None
    lut: Lut | None = None


def modality_of(dataset: Attributes) -> Modality | None:
    """The modality transformation (PS3.3 C.11.1), None where there is none. Raises BrokenObject."""
    lut = modality_lut(dataset)
    if lut is not None:
        return Modality(None, None, lut.units, lut)
    slope = dataset.number("RescaleSlope")
    if slope is None:
        return None
    return Modality(slope, dataset.number("RescaleIntercept"), dataset.text("RescaleType"))


def vois_of(dataset: Attributes, modality: Modality | None) -> tuple[Voi, ...]:
    """All items of the Softcopy VOI LUT Sequence (PS3.3 C.11.8). Raises BrokenObject for a wrong table."""
    signed = modality is not None and (modality.intercept or 0) < 0
    return tuple(_voi(item, signed) for item in dataset.items("SoftcopyVOILUTSequence"))


def _voi(item: Attributes, signed: bool) -> Voi:
    function = item.text("VOILUTFunction") or "LINEAR"
    pairs = zip(item.numbers("WindowCenter"), item.numbers("WindowWidth"), strict=False)
    return Voi(
        windows=tuple(Window(center, width, function) for center, width in pairs),
        luts=voi_luts(item, signed=signed),
        images=references_in(item, "ReferencedImageSequence"),
    )


def presentation_lut_of(dataset: Attributes) -> Lut | str | None:
    """The table, or the shape IDENTITY or INVERSE (PS3.3 C.11.6); None where none is given."""
    raw = dataset.elements.get(_PRESENTATION_LUT)
    if raw is None:
        return dataset.text("PresentationLUTShape")
    found = voi_luts(replace(dataset, elements={_VOI_LUT: raw}), signed=False)  # written as a VOI LUT is
    return found[0] if found else None
