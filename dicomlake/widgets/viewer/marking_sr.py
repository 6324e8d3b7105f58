"""Marks as a structured report: Imaging Measurement Report, TID 1500 of PS3.16, with UCUM units.

Regions are planar ROI groups (TID 1410), through several planes volumetric ones (TID 1411); lengths, angles
and points are groups of other measurements (TID 1501), each number with the coordinates it was taken from.
Coordinates are in the image (SCOORD) where the plane is one that was acquired, else in the patient
(SCOORD3D), else left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.objects.write_segmentation import SUBJECT, without_subject
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.viewer.marking_tables import slice_of
from dicomlake.widgets.viewer.roi_shapes import REGIONS, outline
from dicomlake.widgets.viewer.roi_statistics import ruler_of

if TYPE_CHECKING:
    from pydicom import Dataset

Mark = Mapping[str, Any]
Points = npt.NDArray[np.float64]
CodeTuple = tuple[str, str, str]  # value, scheme, meaning

_OWN = "99DICOMLAKE"
_LENGTH: CodeTuple = ("410668003", "SCT", "Length")
_ANGLE: CodeTuple = ("1483009", "SCT", "Angle")
_AREA: CodeTuple = ("42798000", "SCT", "Area")
_VOLUME: CodeTuple = ("118565006", "SCT", "Volume")
_DERIVED: dict[str, CodeTuple] = {
    "mean": ("373098007", "SCT", "Mean"),
    "sd": ("386136009", "SCT", "Standard Deviation"),
    "min": ("255605001", "SCT", "Minimum"),
    "max": ("56851009", "SCT", "Maximum"),
    "median": ("373099004", "SCT", "Median"),
}
_SIZES: dict[str, tuple[CodeTuple, CodeTuple]] = {  # of stats: what, unit
    "length_mm": (_LENGTH, ("mm", "UCUM", "mm")),
    "length_px": (_LENGTH, ("{pixels}", "UCUM", "pixels")),
    "angle_deg": (_ANGLE, ("deg", "UCUM", "degree")),
    "area_mm2": (_AREA, ("mm2", "UCUM", "square millimeter")),
    "area_px2": (_AREA, ("{pixels}", "UCUM", "pixels")),
    "volume_mm3": (_VOLUME, ("mm3", "UCUM", "cubic millimeter")),
}
_QUANTITIES: dict[str, CodeTuple] = {
    "HU": ("112031", "DCM", "Attenuation Coefficient"),
    "SUV": ("126400", "DCM", "Standardized Uptake Value"),
    "MR": ("110852", "DCM", "MR signal intensity"),
    "": ("pixel-value", _OWN, "Pixel value"),
}
_UNITS: dict[str, CodeTuple] = {
    "": ("1", "UCUM", "no units"),
    "HU": ("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "SUV": ("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
    "Bq/ml": ("Bq/ml", "UCUM", "Becquerels/milliliter"),
    "Gy": ("Gy", "UCUM", "Gray"),
}
_UPRIGHT = 1e-3  # cosine of the angle between the axes of an ellipse


def write_measurements(stack: Any, marks: Sequence[Mark], headers: Sequence[Dataset]) -> bytes:
    """The marks that measure something as a Comprehensive 3D SR of the study of these headers.

    headers: the objects of the series, without pixels. Raises Refusal when nothing is measured.
    """
    from pydicom import config

    by_uid = {str(header.SOPInstanceUID): header for header in headers}
    with warnings.catch_warnings(), config.disable_value_validation():  # which would quote names and dates
        warnings.simplefilter("ignore")
        groups = [group for mark in marks if (group := _group(stack, mark, by_uid)) is not None]
        if not groups:
            raise Refusal("nothing is measured: draw a length, an angle, a point or a region first")
        made = _document(groups, headers)
        out = BytesIO()
        made.save_as(out)
        return out.getvalue()


def _document(groups: list[Any], headers: Sequence[Dataset]) -> Any:
    """The report, its text in UTF-8; patient and study go over as they are."""
    from highdicom.sr import Comprehensive3DSR, MeasurementReport
    from pydicom.uid import generate_uid

    from dicomlake import __version__

    content = MeasurementReport(
        observation_context=_observer(),
        procedure_reported=_code(("363679005", "SCT", "Imaging procedure")),
        imaging_measurements=groups,
        title=_code(("126000", "DCM", "Imaging Measurement Report")),
    )
    made = Comprehensive3DSR(
        evidence=[without_subject(headers[0]), *headers[1:]],
        content=content[0],
        series_number=1001,
        series_instance_uid=generate_uid(prefix=None),
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="dicomlake",
        manufacturer_model_name="dicomlake",
        software_versions=__version__,
    )
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SeriesDescription = "Measurements"
    for keyword in SUBJECT:
        if keyword in headers[0]:
            element = headers[0][keyword]
            made.add_new(element.tag, element.VR, str(element.value or ""))
    return made


def _observer() -> Any:
    """The software: who sat before it is nobody's business here."""
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.uid import generate_uid

    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(prefix=None), name="dicomlake", manufacturer_name="dicomlake"
    )
    context = ObserverContext(_code(("121007", "DCM", "Device")), device)
    return ObservationContext(observer_device_context=context)


def _group(stack: Any, mark: Mark, headers: Mapping[str, Dataset]) -> Any:
    """The measurement group of a mark; None for one that measures nothing."""
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.uid import generate_uid

    numbers = list(_numbers(mark.get("stats") or {}, _modality(headers)))
    if not numbers:
        return None
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(generate_uid(prefix=None), mark["name"]),
        "finding_type": _finding(mark["label"]),
    }
    if mark["tool"] in REGIONS:
        regions = _regions(stack, mark, headers)
        if len(regions) == 1:
            shared |= {"referenced_region": regions[0], "measurements": _measured(numbers, [])}
            return PlanarROIMeasurementsAndQualitativeEvaluations(**shared)
        if regions and not hasattr(regions[0], "ReferencedFrameOfReferenceUID"):
            shared |= {"referenced_regions": regions, "measurements": _measured(numbers, [])}
            return VolumetricROIMeasurementsAndQualitativeEvaluations(**shared)
    coordinates = list(_coordinates(stack, mark, headers))
    return MeasurementsAndQualitativeEvaluations(**shared, measurements=_measured(numbers, coordinates))


Number = tuple[CodeTuple, float, CodeTuple, CodeTuple | None]  # what, value, unit, derivation


def _numbers(stats: Mapping[str, Any], modality: str) -> Iterator[Number]:
    """What a mark measured, in codes."""
    units = str(stats.get("units") or "")
    unit = _UNITS.get(units, (f"{{{units}}}"[:16], "UCUM", units))
    name = _QUANTITIES.get(units or modality, _QUANTITIES[""])
    for key, derivation in _DERIVED.items():
        if stats.get(key) is not None:
            yield name, float(stats[key]), unit, derivation
    if stats.get("value") is not None:
        yield name, float(stats["value"]), unit, None
    for key, (what, of) in _SIZES.items():
        if stats.get(key) is not None:
            yield what, float(stats[key]), of, None


def _measured(numbers: Sequence[Number], coordinates: Sequence[Any]) -> list[Any]:
    from highdicom.sr import Measurement

    return [
        Measurement(
            name=_code(name),
            value=value,
            unit=_code(unit),
            derivation=_code(derivation) if derivation else None,
            referenced_coordinates=list(coordinates) or None,
        )
        for name, value, unit, derivation in numbers
    ]


def _regions(stack: Any, mark: Mark, headers: Mapping[str, Dataset]) -> list[Any]:
    """One image region for each plane that a mark goes through; [] where no place can be told."""
    from highdicom.sr import ImageRegion, ImageRegion3D, SourceImageForRegion

    found: list[Any] = []
    for graphic in _graphics(stack, mark, headers):
        if graphic.image is None:
            reference = _frame_of_reference(stack, headers)
            found.append(ImageRegion3D(graphic.kind, graphic.points, reference))
        else:
            source = SourceImageForRegion(*graphic.image)
            found.append(ImageRegion(graphic.kind, graphic.points, source))
    return found


def _coordinates(stack: Any, mark: Mark, headers: Mapping[str, Dataset]) -> Iterator[Any]:
    from highdicom.sr import (
        CoordinatesForMeasurement,
        CoordinatesForMeasurement3D,
        SourceImageForRegion,
    )

    for graphic in _graphics(stack, mark, headers):
        if graphic.image is None:
            reference = _frame_of_reference(stack, headers)
            yield CoordinatesForMeasurement3D(graphic.kind, graphic.points, reference)
        else:
            source = SourceImageForRegion(*graphic.image)
            yield CoordinatesForMeasurement(graphic.kind, graphic.points, source)


class _Graphic:
    """kind: GraphicType of SCOORD. points: (n, 2) column, row from the corner; (n, 3) LPS, mm.

    image: class and UID of the instance, numbers of frames from 1 or None; None for patient coordinates.
    """

    def __init__(self, kind: str, points: Points, image: tuple[str, str, list[int] | None] | None) -> None:
        self.kind, self.points, self.image = kind, points, image


def _graphics(stack: Any, mark: Mark, headers: Mapping[str, Dataset]) -> Iterator[_Graphic]:
    plane, ruler = stack.planes[mark["plane"]], ruler_of(stack, mark["plane"])
    first, last = mark.get("through") or (mark["index"], mark["index"])
    for index in range(first, last + 1):
        found = slice_of(stack, mark, index)
        header = headers.get(found.instance_uid or "")
        if header is not None:
            kind, points = _graphic_of(mark, np.eye(2))
            frames = None if found.frame is None or "NumberOfFrames" not in header else [found.frame + 1]
            full = np.column_stack([np.full(len(points), index), points, np.ones(len(points))])
            at = (full @ np.asarray(plane.to_index).T)[:, [2, 1]] + 0.5
            yield _Graphic(kind, at, (str(header.SOPClassUID), str(header.SOPInstanceUID), frames))
        elif _frame_of_reference(stack, headers):
            kind, points = _graphic_of(mark, ruler.basis)
            placed = ruler.to_mm(index, points)
            if placed is not None:
                closed = kind == "POLYLINE" and mark["tool"] in REGIONS
                yield _Graphic("POLYGON" if closed else kind, placed, None)


def _graphic_of(mark: Mark, basis: Points) -> tuple[str, Points]:
    """GraphicType and the points it wants, (row, column): regions closed, ellipses by their axes.

    basis: columns are the steps of a row and of a column where the graphic will lie: they tell which axis is
    the longer one, and whether the two are at right angles; if not, the ellipse is told as a polygon.
    """
    points = np.asarray(mark["points"], dtype=np.float64).reshape(-1, 2)
    tool = mark["tool"]
    if tool == "point":
        return "POINT", points
    lengths = np.linalg.norm(basis, axis=0)
    if tool == "ellipse" and abs(basis[:, 0] @ basis[:, 1]) <= _UPRIGHT * lengths.prod():
        (r, c), half = points.mean(axis=0), np.abs(points[1] - points[0]) / 2
        down = [[r - half[0], c], [r + half[0], c]]
        across = [[r, c - half[1]], [r, c + half[1]]]
        wide = half[1] * lengths[1] >= half[0] * lengths[0]
        return "ELLIPSE", np.array(across + down if wide else down + across)
    if tool in REGIONS:
        closed = outline(tool, points)
        return "POLYLINE", np.concatenate([closed, closed[:1]])
    return "POLYLINE", points


def _frame_of_reference(stack: Any, headers: Mapping[str, Dataset]) -> str:
    stated = stack.image.attrs.get("frame_of_reference_uid")
    return str(stated or next(iter(headers.values())).get("FrameOfReferenceUID") or "")


def _modality(headers: Mapping[str, Dataset]) -> str:
    return str(next(iter(headers.values())).get("Modality") or "")


def _finding(label: str) -> Any:
    return _code((label[:16], _OWN, label)) if label else None


def _code(code: CodeTuple) -> Any:
    from highdicom.sr import CodedConcept

    value, scheme, meaning = code
    return CodedConcept(value, scheme, meaning)
