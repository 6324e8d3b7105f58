"""What functional group macros say that tells frames at one place apart (PS3.3 C.7.6.16.2 and the IODs).

Each reader takes the item of one macro and gives its facets, named as in `Frame.facets`; nothing where the
item says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dicomlake.dicom import diffusion
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Facet
from dicomlake.dicom.times import seconds_of_datetime

Facets = Mapping[str, Facet]
Reader = Callable[[Attributes], Facets]

_QUANTITY = ("246205007", "G-C1C6")  # the concept "Quantity", in SNOMED CT and SRT
_BMATRIX = tuple(f"DiffusionBValue{axes}" for axes in ("XX", "XY", "XZ", "YY", "YZ", "ZZ"))


def unit_vector(numbers: tuple[float, ...]) -> tuple[float, ...] | None:
    """The direction of three numbers, None when they have none."""
    length = float(np.linalg.norm(numbers)) if len(numbers) == 3 else 0.0
    return tuple(number / length for number in numbers) if length > 1e-6 else None


def _numbers(item: Attributes, **names: str) -> dict[str, Facet]:
    """Facets that are one number of the item: facet = keyword."""
    found = {facet: item.number(keyword) for facet, keyword in names.items()}
    return {facet: value for facet, value in found.items() if value is not None}


def _texts(item: Attributes, **names: str) -> dict[str, Facet]:
    found = {facet: item.text(keyword) for facet, keyword in names.items()}
    return {facet: value for facet, value in found.items() if value}


def _first(item: Attributes, keyword: str) -> Attributes | None:
    items = item.items(keyword)
    return items[0] if items else None


def _frame_content(item: Attributes) -> Facets:
    """C.7.6.16.2.2; times in seconds since 1970. `reference_time`: FrameReferenceDateTime."""
    facets = _numbers(item, temporal="TemporalPositionIndex", acquisition="FrameAcquisitionNumber")
    for facet, keyword in (
        ("acquisition_time", "FrameAcquisitionDateTime"),
        ("reference_time", "FrameReferenceDateTime"),
    ):
        value = seconds_of_datetime(item.text(keyword))
        if value is not None:
            facets[facet] = value
    return facets


def _temporal_position(item: Attributes) -> Facets:
    """The offset from the first temporal position, in seconds there, in ms here."""
    offset = item.number("TemporalPositionTimeOffset")
    return {} if offset is None else {"frame_reference_time": 1000 * offset}


def _cardiac(item: Attributes) -> Facets:
    """C.7.6.16.2.7: the delay in ms; the phase in percent of the cycle."""
    return _numbers(item, trigger="NominalCardiacTriggerDelayTime", phase="NominalPercentageOfCardiacPhase")


def _respiration(item: Attributes) -> Facets:
    return _numbers(item, dim_respiratory_phase="NominalPercentageOfRespiratoryPhase")


def _frame_type(item: Attributes) -> Facets:
    """The image type macros of CT, MR, PET and others (C.8.16.1)."""
    facets: dict[str, Facet] = {}
    component = item.text("ComplexImageComponent")
    if component:
        facets["component"] = component.lower()
    kind = item.texts("FrameType")
    if kind:
        facets["image_type"] = "\\".join(kind)
    return facets


def _echo(item: Attributes) -> Facets:
    return _numbers(item, echo="EffectiveEchoTime")


def _timing(item: Attributes) -> Facets:
    return _numbers(item, flip="FlipAngle")


def _modifier(item: Attributes) -> Facets:
    """Several inversions in one repetition are no single number."""
    times = item.numbers("InversionTimes")
    return {"inversion": times[0]} if len(times) == 1 else {}


def _diffusion(item: Attributes) -> Facets:
    """C.8.13.5.9; a b-matrix stands in for what is not stated otherwise."""
    weighting = diffusion.standard(item)
    b, gradient = weighting.b, tuple(weighting.gradient or ())
    matrix = _first(item, "DiffusionBMatrixSequence")
    if matrix is not None and weighting.stated is None:
        trace, main = _of_b_matrix(tuple(matrix.number(keyword) for keyword in _BMATRIX))
        b, gradient = trace if b is None else b, gradient or main
    found = {"b": b, "gradient": gradient or None, "gradient_stated": weighting.stated}
    return {name: value for name, value in found.items() if value is not None}


def _of_b_matrix(parts: tuple[float | None, ...]) -> tuple[float | None, tuple[float, ...]]:
    """Trace and main direction of a b-matrix; of two opposite directions the one towards the head."""
    numbers = [part for part in parts if part is not None]
    if len(numbers) < len(parts):
        return None, ()
    xx, xy, xz, yy, yz, zz = numbers
    matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    sizes, directions = np.linalg.eigh(matrix)
    if not sizes[-1] > 0:
        return float(matrix.trace()), ()
    main = [round(float(part), 9) + 0.0 for part in directions[:, -1]]
    sign = next((-1 if part < 0 else 1 for part in reversed(main) if part), 1)
    return float(matrix.trace()), unit_vector(tuple(sign * part for part in main)) or ()


def _velocity(item: Attributes) -> Facets:
    """The direction of encoding in patient coordinates, absent without encoding."""
    direction = unit_vector(item.numbers("VelocityEncodingDirection"))
    return {} if direction is None else {"dim_velocity_encoding": direction}


def _spin_labeling(item: Attributes) -> Facets:
    """Label, control or m_zero_scan."""
    context = item.text("ASLContext")
    return {"dim_asl_context": context.lower()} if context else {}


def _x_ray(item: Attributes) -> Facets:
    return _numbers(item, kvp="KVP")


def _reconstruction(item: Attributes) -> Facets:
    kernel = "\\".join(item.texts("ConvolutionKernel"))
    return {"kernel": kernel} if kernel else {}


def _mono_energy(item: Attributes) -> Facets:
    """C.8.15.3.12: keV of a virtual monoenergetic image."""
    return _numbers(item, energy="MonoenergeticEnergyEquivalent")


def _positioner(item: Attributes) -> Facets:
    return _numbers(item, angle="PositionerPrimaryAngle")


def _data_type(item: Attributes) -> Facets:
    """What an ultrasound frame shows: tissue_intensity, flow_velocity …"""
    kind = item.text("DataType")
    return {"component": kind.lower()} if kind else {}


def _mapping(item: Attributes) -> Facets:
    """C.7.6.16.2.11: the quantity that is mapped; `real_world_lut` marks a mapping that is a table."""
    facets: dict[str, Facet] = {}
    for content in item.items("QuantityDefinitionSequence"):
        name, value = _first(content, "ConceptNameCodeSequence"), _first(content, "ConceptCodeSequence")
        if name and value and name.text("CodeValue") in _QUANTITY:
            facets.update(_texts(value, quantity="CodeMeaning"))
    if "RealWorldValueLUTData" in item:
        facets["real_world_lut"] = 1.0
    return facets


def _segment(item: Attributes) -> Facets:
    return _numbers(item, segment="ReferencedSegmentNumber")


def _optical_path(item: Attributes) -> Facets:
    return _texts(item, optical_path="OpticalPathIdentifier")


READERS: Mapping[str, Reader] = {
    "FrameContentSequence": _frame_content,
    "TemporalPositionSequence": _temporal_position,
    "CardiacSynchronizationSequence": _cardiac,
    "RespiratorySynchronizationSequence": _respiration,
    "MRImageFrameTypeSequence": _frame_type,
    "CTImageFrameTypeSequence": _frame_type,
    "PETFrameTypeSequence": _frame_type,
    "XRay3DFrameTypeSequence": _frame_type,
    "ParametricMapFrameTypeSequence": _frame_type,
    "PhotoacousticImageFrameTypeSequence": _frame_type,
    "IntravascularOCTFrameTypeSequence": _frame_type,
    "MREchoSequence": _echo,
    "MRTimingAndRelatedParametersSequence": _timing,
    "MRModifierSequence": _modifier,
    "MRDiffusionSequence": _diffusion,
    "MRVelocityEncodingSequence": _velocity,
    "MRArterialSpinLabelingSequence": _spin_labeling,
    "CTXRayDetailsSequence": _x_ray,
    "FrameAcquisitionSequence": _x_ray,
    "CTReconstructionSequence": _reconstruction,
    "MultienergyCTCharacteristicsSequence": _mono_energy,
    "PositionerPositionSequence": _positioner,
    "ImageDataTypeSequence": _data_type,
    "RealWorldValueMappingSequence": _mapping,
    "SegmentIdentificationSequence": _segment,
    "OpticalPathIdentificationSequence": _optical_path,
}

# Which facet a dimension of the object makes superfluous, by the keyword of its DimensionIndexPointer.
NAMED: Mapping[str, str] = {
    "TemporalPositionIndex": "temporal",
    "TemporalPositionTimeOffset": "frame_reference_time",
    "FrameAcquisitionNumber": "acquisition",
    "FrameAcquisitionDateTime": "acquisition_time",
    "NominalCardiacTriggerDelayTime": "trigger",
    "NominalPercentageOfCardiacPhase": "phase",
    "NominalPercentageOfRespiratoryPhase": "dim_respiratory_phase",
    "ComplexImageComponent": "component",
    "FrameType": "image_type",
    "EffectiveEchoTime": "echo",
    "FlipAngle": "flip",
    "InversionTimes": "inversion",
    "DiffusionBValue": "b",
    "VelocityEncodingDirection": "dim_velocity_encoding",
    "ASLContext": "dim_asl_context",
    "KVP": "kvp",
    "ConvolutionKernel": "kernel",
    "MonoenergeticEnergyEquivalent": "energy",
    "PositionerPrimaryAngle": "angle",
    "DataType": "component",
    "ReferencedSegmentNumber": "segment",
    "OpticalPathIdentifier": "optical_path",
}

# Dimensions that say where a frame lies; its geometry says it better.
PLACES = frozenset(
    {
        "ImagePositionPatient",
        "ImagePositionVolume",
        "RowPositionInTotalImagePixelMatrix",
        "ColumnPositionInTotalImagePixelMatrix",
        "XOffsetInSlideCoordinateSystem",
        "YOffsetInSlideCoordinateSystem",
        "ZOffsetInSlideCoordinateSystem",
    }
)
IN_STACK = "InStackPositionNumber"
