"""What a frame is: where it lies, how its pixels are stored, what its numbers mean, what sets it apart.

A frame is a fact sheet without pixels. This module knows what every image says about itself at the top
level of its data set; how objects of several frames say it is in `expand` and the modules it calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from dicomlake.dicom import sop_classes
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import BrokenObject

MAX_FRAMES = 1_000_000  # a number written into the object must not ask for all memory

Kind = Literal["integer", "float", "double"]
Vector = tuple[float, float, float]
Facet = float | str | tuple[float, ...]  # a number, a term, or a direction

_ONE_SAMPLE = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_THREE_SAMPLES = frozenset(
    {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"}
)
_DIRECTION_TOLERANCE = 1e-3  # how far direction cosines may be from unit length and a right angle

_FARTHEST_MM, _FINEST_MM = 1e6, 1e-6


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the pixels of a frame are stored (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25).

    photometric: PhotometricInterpretation as in the object; decoding turns the YBR ones into RGB.
    bits_stored, high_bit: equal to BitsAllocated and BitsAllocated - 1 for floating point pixels.
    planar: PlanarConfiguration, None when absent (required for several samples, uncompressed).
    kind: which element holds them: PixelData, FloatPixelData or DoubleFloatPixelData.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: int | None
    kind: Kind

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The smallest dtype that holds the stored values; bool for BitsAllocated 1. Little endian."""
        if self.kind != "integer":
            return np.dtype("<f4" if self.kind == "float" else "<f8")
        if self.bits_allocated == 1:
            return np.dtype(bool)
        size = 1 if self.bits_stored <= 8 else 2 if self.bits_stored <= 16 else 4
        return np.dtype(f"<{'i' if self.signed else 'u'}{size}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (rows, columns, samples)."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)


class Tile(NamedTuple):
    """The part of a decoded image that is a frame by itself: a tile of a mosaic, in pixels."""

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one object.

    frame_index: counted from 0 within the object; the tiles of an image share it.
    tile: the part of that decoded frame which this one is; None for all of it. `pixel` describes the tile.
    facets: what may tell it from other frames at the same place, by name (`stacking.FACETS`), with the
        standard's units; absent where the object does not say.
    multiframe: its object holds several frames, or may by its IOD.
    patient_key: digest that tells patients apart; the patient is not named anywhere in a frame.
    position: centre of the first voxel, LPS, mm (ImagePositionPatient); None without valid geometry.
    orientation: direction cosines, along a row then along a column (ImageOrientationPatient).
    spacing_mm: between rows, between columns (PixelSpacing).
    nominal_step_mm: SpacingBetweenSlices, else SliceThickness. Describes a lone slice, never a stack.
    flaw: why there is no geometry, in a few words; None when there is.
    slope, intercept: RescaleSlope and RescaleIntercept as stored, None when absent.
    units: of rescaled values: RescaleType, Units of PET; HU for CT without RescaleType, which PS3.3
        C.8.2.1 lets absent only then.
    """

    sop_instance_uid: str
    frame_index: int
    instance_number: int | None
    sop_class_uid: str
    study_instance_uid: str | None
    series_instance_uid: str | None
    patient_key: bytes = field(repr=False)
    frame_of_reference_uid: str | None
    position: Vector | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, float] | None
    nominal_step_mm: float | None
    flaw: str | None
    pixel: PixelFormat
    localizer: bool
    slope: float | None
    intercept: float | None
    units: str | None
    multiframe: bool
    facets: Mapping[str, Facet] = field(default_factory=dict)
    tile: Tile | None = None

    @property
    def has_geometry(self) -> bool:
        """Whether position, orientation and spacing are all there and valid."""
        return self.flaw is None


def pixel_format(dataset: Attributes) -> PixelFormat:
    """The pixel description of an image.

    Raises BrokenObject, naming the keyword, when an element is missing or they contradict each other.
    """
    allocated = _required(dataset, "BitsAllocated")
    samples = _required(dataset, "SamplesPerPixel")
    photometric = dataset.text("PhotometricInterpretation") or ""
    if samples != (1 if photometric in _ONE_SAMPLE else 3 if photometric in _THREE_SAMPLES else None):
        raise BrokenObject(
            f"PhotometricInterpretation {photometric or 'absent'} with {samples} SamplesPerPixel is wrong"
        )
    kind: Kind = "integer"
    if "BitsStored" not in dataset and "PixelRepresentation" not in dataset and allocated in (32, 64):
        kind = "float" if allocated == 32 else "double"  # PS3.3 C.7.6.24: these elements are not there
    stored, high_bit = _bits(dataset, allocated) if kind == "integer" else (allocated, allocated - 1)
    planar = dataset.number("PlanarConfiguration")
    return PixelFormat(
        rows=_required(dataset, "Rows"),
        columns=_required(dataset, "Columns"),
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=kind != "integer" or _required(dataset, "PixelRepresentation", allowed=(0, 1)) == 1,
        planar=int(planar) if planar is not None else None,
        kind=kind,
    )


def _bits(dataset: Attributes, allocated: int) -> tuple[int, int]:
    """BitsStored and HighBit; HighBit may be absent, as PS3.5 8.1.1 leaves it no choice."""
    if allocated not in (1, 8, 16, 32):
        raise BrokenObject(f"BitsAllocated {allocated} is none of 1, 8, 16, 32 (PS3.5 8.1.1)")
    stored = _required(dataset, "BitsStored")
    high = dataset.number("HighBit")
    high_bit = stored - 1 if high is None else int(high)
    if not stored <= high_bit + 1 <= allocated:
        raise BrokenObject(f"BitsStored {stored} and HighBit {high_bit} do not fit BitsAllocated {allocated}")
    return stored, high_bit


def _required(dataset: Attributes, keyword: str, *, allowed: tuple[int, ...] | None = None) -> int:
    value = dataset.number(keyword)
    if value is None:
        raise BrokenObject(f"{keyword} is missing or no number: the pixels cannot be read without it")
    if value != int(value) or (value not in allowed if allowed else value < 1):
        raise BrokenObject(f"{keyword} has the impossible value {value:g}")
    return int(value)


def number_of_frames(dataset: Attributes) -> int:
    """NumberOfFrames, 1 when absent. Raises BrokenObject when it is not a positive integer."""
    return _required(dataset, "NumberOfFrames") if dataset.texts("NumberOfFrames") else 1


def first_frame(dataset: Attributes) -> Frame:
    """What the top level of an image says, as its first frame; the only one of a single-frame object.

    Raises BrokenObject when the pixels are not described; geometry that is absent or invalid is no
    error, the frame then has none and says why in `flaw`.
    """
    sop_class = dataset.text("SOPClassUID") or ""
    position, orientation, spacing, flaw = plane_geometry(dataset, dataset, dataset)
    return Frame(
        sop_instance_uid=dataset.text("SOPInstanceUID") or "",
        frame_index=0,
        instance_number=_integer(dataset, "InstanceNumber"),
        sop_class_uid=sop_class,
        study_instance_uid=dataset.text("StudyInstanceUID"),
        series_instance_uid=dataset.text("SeriesInstanceUID"),
        patient_key=_patient_key(dataset),
        frame_of_reference_uid=dataset.text("FrameOfReferenceUID"),
        position=position,
        orientation=orientation,
        spacing_mm=spacing,
        nominal_step_mm=nominal_step(dataset),
        flaw=flaw,
        pixel=pixel_format(dataset),
        localizer="LOCALIZER" in dataset.texts("ImageType"),
        slope=dataset.number("RescaleSlope"),
        intercept=dataset.number("RescaleIntercept"),
        units=_units(dataset, sop_class),
        multiframe=number_of_frames(dataset) > 1 or uses_groups(dataset),
    )


def uses_groups(dataset: Attributes) -> bool:
    """Whether the frames are described in functional groups (PS3.3 C.7.6.16)."""
    sop_class = dataset.text("SOPClassUID") or ""
    return sop_classes.uses_functional_groups(sop_class) or (
        "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    )


def plane_geometry(
    at: Attributes, turned: Attributes, measured: Attributes
) -> tuple[Vector | None, tuple[float, ...] | None, tuple[float, float] | None, str | None]:
    """Position, orientation, spacing, and what is wrong; all of the first three or none.

    at, turned, measured: what holds ImagePositionPatient, ImageOrientationPatient and PixelSpacing: three
    times the data set of a plain image, three macros of functional groups.
    """
    position = at.numbers("ImagePositionPatient")
    orientation = turned.numbers("ImageOrientationPatient")
    spacing = measured.numbers("PixelSpacing")
    flaw = geometry_flaw(position, orientation, spacing)
    if flaw:
        return None, None, None, flaw
    return (position[0], position[1], position[2]), orientation, (spacing[0], spacing[1]), None


def geometry_flaw(
    position: tuple[float, ...], orientation: tuple[float, ...], spacing: tuple[float, ...]
) -> str | None:
    """Why these are no geometry of a plane, in a few words; None when they are."""
    if len(position) != 3:
        return "ImagePositionPatient is absent or not three numbers"
    if len(orientation) != 6:
        return "ImageOrientationPatient is absent or not six numbers"
    if not _perpendicular(orientation):
        return "ImageOrientationPatient is not two perpendicular unit vectors"
    if len(spacing) != 2 or min(spacing) <= 0:
        return "PixelSpacing is absent or not two positive numbers"
    if (
        max(map(abs, position)) > _FARTHEST_MM
        or not _FINEST_MM <= min(spacing) <= max(spacing) <= _FARTHEST_MM
    ):
        return "ImagePositionPatient or PixelSpacing lie outside anything a scanner can see"
    return None


def _perpendicular(orientation: tuple[float, ...]) -> bool:
    along_row, along_column = orientation[:3], orientation[3:]
    products = (
        sum(a * a for a in along_row) - 1,
        sum(a * a for a in along_column) - 1,
        sum(a * b for a, b in zip(along_row, along_column, strict=True)),
    )
    return all(abs(product) <= 2 * _DIRECTION_TOLERANCE for product in products)


def nominal_step(dataset: Attributes) -> float | None:
    """SpacingBetweenSlices, else SliceThickness, in mm; None when neither is stated."""
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = dataset.number(keyword)
        if value:
            return abs(value)
    return None


def _units(dataset: Attributes, sop_class: str) -> str | None:
    if sop_class == sop_classes.PET:
        return dataset.text("Units")
    found = dataset.text("RescaleType")
    if found is None and sop_class == sop_classes.CT and "RescaleSlope" in dataset:
        return "HU"
    return found


def _integer(dataset: Attributes, keyword: str) -> int | None:
    value = dataset.number(keyword)
    return int(value) if value is not None and value == int(value) else None


def _patient_key(dataset: Attributes) -> bytes:
    """Tells patients of one series apart: by ID and its issuer, by name and birth date without an ID."""
    keywords = ("PatientID", "IssuerOfPatientID")
    if not dataset.text("PatientID"):
        keywords = ("PatientName", "PatientBirthDate")
    text = "\\".join(dataset.text(keyword) or "" for keyword in keywords)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
