"""Frames described in functional groups (PS3.3 C.7.6.16): enhanced images, maps, segmentations, slides."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from dicomlake.dicom import facets as plain
from dicomlake.dicom import macros
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Facet, Frame, Vector, geometry_flaw, nominal_step
from dicomlake.dicom.functional_groups import FunctionalGroups
from dicomlake.dicom.real_world import RealWorldMapping, mapping
from dicomlake.dicom.rescaling import Rescaling, completed, transformation
from dicomlake.errors import BrokenObject

_ON_SLIDE = "PlanePositionSlideSequence"
_CONVERTED = (
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)
_ASKED_OF_ROOT = frozenset({0x00080016, 0x00080060})  # SOPClassUID, Modality
_NEVER_SHARED = frozenset({"b", "gradient", "gradient_stated"})
_CONVERTED_PET = "1.2.840.10008.5.1.4.1.1.128.1"
_UNREADABLE = "a macro of the functional groups cannot be read"


class _Place(NamedTuple):
    """A plane as the macros state it; in_volume: in the coordinates of an ultrasound volume."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    in_volume: bool


class _Measures(NamedTuple):
    spacing: tuple[float, ...]
    step_mm: float | None


def frames(dataset: Attributes, first: Frame, count: int) -> tuple[Frame, ...]:
    """One record per frame, in the order of the object.

    Position, orientation, spacing, rescaling and facets come from the macros: those of the frame, else
    the shared ones, else what the top level of the data set says; except for the position of several
    frames, which is never taken from the top level. Planes of an ultrasound volume are in the coordinates
    of that volume (C.8.24.2), which the facet `coordinates` tells and VolumeFrameOfReferenceUID names.
    Broken groups and tiles of a slide give frames without geometry, which say why.
    """
    groups = FunctionalGroups(dataset, count)
    lost = replace(first, position=None, orientation=None, spacing_mm=None)
    if groups.flaw is not None:
        lost = replace(lost, flaw=groups.flaw)
        return tuple(replace(lost, frame_index=index) for index in range(count))
    if _ON_SLIDE in groups and "PlanePositionSequence" not in groups:
        lost = replace(lost, flaw="the frame is a tile of a slide")
        return tuple(_tile(groups, lost, index) for index in range(count))
    root = replace(first, facets=_root_facets(dataset))
    found = [_frame(groups, dataset, root, index) for index in range(count)]
    return tuple(_with_dimensions(groups, found))


def _tile(groups: FunctionalGroups, lost: Frame, index: int) -> Frame:
    """A tile of a slide; only what tells it from another tile at its place is read."""
    found: dict[str, Facet] = {}
    for keyword in ("OpticalPathIdentificationSequence", "SegmentIdentificationSequence"):
        try:
            found.update(groups.read(index, keyword, macros.READERS[keyword]) or {})
        except BrokenObject:
            return replace(lost, frame_index=index, flaw=_UNREADABLE)
    return replace(lost, frame_index=index, facets=found)


def _frame(groups: FunctionalGroups, dataset: Attributes, root: Frame, index: int) -> Frame:
    try:
        return _described(groups, dataset, _placed(groups, dataset, root, index))
    except BrokenObject:
        return replace(
            root, frame_index=index, position=None, orientation=None, spacing_mm=None, flaw=_UNREADABLE
        )


def _placed(groups: FunctionalGroups, dataset: Attributes, root: Frame, index: int) -> Frame:
    """The frame with its geometry or the reason why it has none."""
    place = _place(groups, index)
    measures = groups.read(index, "PixelMeasuresSequence", _measures)
    position = place.position or (dataset.numbers("ImagePositionPatient") if groups.count == 1 else ())
    orientation = place.orientation or dataset.numbers("ImageOrientationPatient")
    spacing = (measures.spacing if measures else ()) or dataset.numbers("PixelSpacing")
    flaw = geometry_flaw(position, orientation, spacing)
    reference = dataset.text("VolumeFrameOfReferenceUID") if place.in_volume else root.frame_of_reference_uid
    return replace(
        root,
        frame_index=index,
        position=None if flaw else _vector(position),
        orientation=None if flaw else orientation,
        spacing_mm=None if flaw else (spacing[0], spacing[1]),
        flaw=flaw,
        frame_of_reference_uid=reference,
        nominal_step_mm=measures.step_mm if measures else root.nominal_step_mm,
        facets={**root.facets, "coordinates": "volume"} if place.in_volume else root.facets,
    )


def _vector(numbers: tuple[float, ...]) -> Vector:
    return numbers[0], numbers[1], numbers[2]


def _place(groups: FunctionalGroups, index: int) -> _Place:
    position = groups.read(index, "PlanePositionSequence", _position) or ()
    orientation = groups.read(index, "PlaneOrientationSequence", _orientation) or ()
    if not position and not orientation and "PlanePositionVolumeSequence" in groups:
        position = groups.read(index, "PlanePositionVolumeSequence", _position_in_volume) or ()
        orientation = groups.read(index, "PlaneOrientationVolumeSequence", _orientation_in_volume) or ()
        return _Place(position, orientation, True)
    return _Place(position, orientation, False)


def _position(item: Attributes) -> tuple[float, ...]:
    return item.numbers("ImagePositionPatient")


def _position_in_volume(item: Attributes) -> tuple[float, ...]:
    return item.numbers("ImagePositionVolume")


def _orientation(item: Attributes) -> tuple[float, ...]:
    return item.numbers("ImageOrientationPatient")


def _orientation_in_volume(item: Attributes) -> tuple[float, ...]:
    return item.numbers("ImageOrientationVolume")


def _measures(item: Attributes) -> _Measures:
    return _Measures(item.numbers("PixelSpacing"), nominal_step(item))


def _described(groups: FunctionalGroups, dataset: Attributes, frame: Frame) -> Frame:
    """The frame with what its values mean and what tells it from others."""
    index = frame.frame_index
    rescaled = groups.read(index, "PixelValueTransformationSequence", transformation)
    stated = rescaled or Rescaling(frame.slope, frame.intercept, frame.units)
    slope, intercept, units = completed(stated, _mapping(groups, index))
    if frame.sop_class_uid == _CONVERTED_PET:  # it has its own attribute for them (C.8.9.1)
        units = _converted(groups, dataset, index).text("Units") or units
    found = {**frame.facets, **_facets(groups, dataset, frame)}
    kind = found.get("image_type")
    return replace(
        frame,
        slope=slope,
        intercept=intercept,
        units=units,
        localizer="LOCALIZER" in kind.split("\\") if isinstance(kind, str) else frame.localizer,
        facets=found,
    )


def _mapping(groups: FunctionalGroups, index: int) -> RealWorldMapping | None:
    """The real-world mapping of a frame; of several none is the one."""
    keyword = "RealWorldValueMappingSequence"
    return groups.read(index, keyword, mapping) if len(groups.items(index, keyword)) == 1 else None


def _facets(groups: FunctionalGroups, dataset: Attributes, frame: Frame) -> dict[str, Facet]:
    """What the macros say; of a converted object first what no macro holds (C.7.6.16.2.25)."""
    index = frame.frame_index
    found: dict[str, Facet] = {}
    if any(keyword in groups for keyword in _CONVERTED):
        found.update(plain.facets_of(_converted(groups, dataset, index), frame.orientation))
    for keyword, reader in macros.READERS.items():
        if keyword in groups:
            found.update(groups.read(index, keyword, reader) or {})
    return found


def _converted(groups: FunctionalGroups, dataset: Attributes, index: int) -> Attributes:
    """The attributes of the image that a frame was, as far as the conversion left them together."""
    elements = {tag: raw for tag, raw in dataset.elements.items() if tag in _ASKED_OF_ROOT}
    for keyword in _CONVERTED:
        for item in groups.items(index, keyword)[:1]:
            elements.update(item.elements)
    return replace(dataset, elements=elements)


def _root_facets(dataset: Attributes) -> dict[str, Facet]:
    """What the top level says of all frames; diffusion is never the same for all of them there."""
    try:
        found = plain.facets_of(dataset, None)
    except BrokenObject:
        return {}
    return {name: value for name, value in found.items() if name not in _NEVER_SHARED}


def _with_dimensions(groups: FunctionalGroups, found: list[Frame]) -> list[Frame]:
    """The frames with the index values of those dimensions of the object that no facet names (C.7.6.17)."""
    present = set().union(*(frame.facets for frame in found))
    placed = all(frame.has_geometry for frame in found)
    skip = macros.PLACES | ({macros.IN_STACK} if placed else frozenset())
    wanted = [
        (position, keyword)
        for position, keyword in enumerate(groups.dimensions)
        if keyword not in skip and macros.NAMED.get(keyword) not in present
    ]
    return [_indexed(groups, frame, wanted) for frame in found] if wanted else found


def _indexed(groups: FunctionalGroups, frame: Frame, wanted: list[tuple[int, str]]) -> Frame:
    try:
        values = groups.read(frame.frame_index, "FrameContentSequence", _dimension_indices) or ()
    except BrokenObject:
        return frame
    if len(values) != len(groups.dimensions):
        return frame
    indices = {f"dim_{keyword}": values[position] for position, keyword in wanted}
    return replace(frame, facets={**frame.facets, **indices})


def _dimension_indices(item: Attributes) -> tuple[float, ...]:
    return item.numbers("DimensionIndexValues")
