"""chest-ct: a contrast-enhanced chest CT of a computed body, 512 x 512 pixels, CT numbers in HU."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets._chest import AIR, shapes
from dicomlake.datasets._noise import Floats, bell
from dicomlake.datasets._shapes import Grid, organ_map, painted
from dicomlake.datasets._truth import (
    AXIAL,
    Planes,
    Truth,
    centred,
    clock,
    ds,
    ds_list,
    shuffled,
    step_for,
    uid,
)

NAME = "chest-ct"
SLICES = 60
SIZE = 512
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.2"
NOISE_HU = 11
PIXEL_MM = 0.75

_EXTENT_MM = 300
_INTERCEPT = -1024
_START = 9 * 3600 + 1800


def planes(slices: int = SLICES) -> Planes:
    """The planes of the series: axial, 300 mm from the diaphragm to the collar bones."""
    return centred(
        AXIAL,
        rows=SIZE,
        columns=SIZE,
        pixel_mm=Fraction(PIXEL_MM),
        step_mm=step_for(_EXTENT_MM, slices),
        count=slices,
        centre=(Fraction(3, 2), Fraction(12), Fraction(0)),
    )


def grid(index: int, slices: int = SLICES) -> Grid:
    """Pixel centres of a plane in LPS mm."""
    stack = planes(slices)
    x0, y0, z = (float(value) for value in stack.position(index))
    pixels = np.arange(SIZE, dtype=np.float64) * PIXEL_MM
    return Grid(z, y0 + pixels, x0 + pixels, PIXEL_MM)


def exact_hu(index: int, slices: int = SLICES) -> Floats:
    """CT numbers of a plane before noise and rounding, shape (512, 512)."""
    return painted(shapes(), grid(index, slices), background=AIR)


def hu_plane(index: int, slices: int = SLICES, seed: int = 0) -> NDArray[np.int16]:
    """CT numbers of the plane as stored after rescale, shape (512, 512), in HU."""
    pixels = np.arange(SIZE)
    noise = bell(seed, index, pixels[:, None], pixels, spread=NOISE_HU)
    hu = np.rint(exact_hu(index, slices)).astype(np.int16) + noise.astype(np.int16)
    return np.maximum(hu, np.int16(_INTERCEPT))


def chest_ct_hu(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, *, slices: int = SLICES, seed: int = 0
) -> NDArray[np.int16]:
    """CT numbers in HU at the index lists z, y, x; shape (len(z), len(y), len(x)).

    The same formula that writes the files, so a reader can be checked against it.
    """
    rows, columns = np.atleast_1d(y), np.atleast_1d(x)
    block = np.ix_(rows, columns)
    return np.stack([hu_plane(int(index), slices, seed)[block] for index in np.atleast_1d(z)])


def lung_map(index: int, slices: int = SLICES) -> NDArray[np.uint8]:
    """1 in the right lung, 2 in the left, vessels and nodules included; 0 elsewhere; shape (512, 512)."""
    return organ_map(shapes(), grid(index, slices))


def subject(seed: int) -> h.Subject:
    """The patient of chest-ct and chest-rt."""
    name = "Phantom^Chest=幻影^胸部=ファントム^むね"
    return h.Subject(name, f"DL-CHEST-{seed:04d}", "19580412", "F", "065Y", "1.68", "66.5")


def visit(slices: int, seed: int) -> h.Visit:
    """The study and the CT series in it."""
    return h.Visit(
        key=(NAME, seed, slices),
        modality="CT",
        description="CT Chest with contrast",
        protocol=f"Chest {ds(planes(slices).step_mm)} mm",
        body_part="CHEST",
        region=("816094009", "Chest"),
        procedure=("CTCHEST", "CT of chest with contrast"),
        time="093000",
    )


def instance_uid(index: int, slices: int, seed: int) -> str:
    """SOPInstanceUID of a plane, counted from the feet."""
    return uid(NAME, seed, slices, "plane", index)


def truth(slices: int = SLICES, seed: int = 0) -> Truth:
    """What the series must read back as."""
    stack, this = planes(slices), visit(slices, seed)
    return Truth(
        name=NAME,
        dims=("z", "y", "x"),
        shape=(slices, SIZE, SIZE),
        spacing_mm=stack.spacing_mm,
        affine_lps=stack.affine_lps,
        units="HU",
        study_uid=this.study_uid,
        series_uid=this.series_uid,
        frame_of_reference_uid=this.frame_of_reference_uid,
        instance_uids=tuple(instance_uid(index, slices, seed) for index in range(slices)),
    )


def write(folder: Path, *, slices: int, seed: int) -> None:
    """Write one file for each slice; neither file names nor InstanceNumber rise with z."""
    made = h.dataset(_constant(slices, seed))
    h.add_private(made, (NAME, seed))
    for index, number in enumerate(shuffled(slices)):
        made.update(h.dataset(_varying(index, slices, seed)))
        h.write(made, folder / f"CT{number + 1:04d}.dcm")


def _constant(slices: int, seed: int) -> h.Elements:
    """Everything that all slices share."""
    this, stack = visit(slices, seed), planes(slices)
    return {
        **h.patient(subject(seed)),
        **h.study(this),
        **h.series(this),
        **h.equipment("Phantom CT"),
        **h.frame_of_reference(this),
        **h.plane_geometry(stack, thickness_mm=min(stack.step_mm, Fraction(5))),
        **_acquisition(),
        **h.grey_pixels(rows=SIZE, columns=SIZE, signed=True),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "AcquisitionNumber": 1,
        "AcquisitionDate": h.DATE,
        "ContentDate": h.DATE,
        "ImagesInAcquisition": slices,
        "PatientPosition": "HFS",
        "PatientOrientation": ["L", "P"],
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "RescaleIntercept": str(_INTERCEPT),
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": ["40", "-500"],
        "WindowWidth": ["400", "1500"],
        "WindowCenterWidthExplanation": ["MEDIASTINUM", "LUNG"],
        "ImageComments": "Closed-form phantom",
    }


def _acquisition() -> h.Elements:
    """CT Image and Contrast/Bolus modules (PS3.3 C.8.2.1, C.7.6.4)."""
    return {
        "KVP": "120",
        "ScanOptions": "HELICAL MODE",
        "DataCollectionDiameter": "500",
        "ReconstructionDiameter": "384",
        "ReconstructionTargetCenterPatient": [1.5, 12.0, 0.0],
        "DataCollectionCenterPatient": [0.0, 0.0, 0.0],
        "DistanceSourceToDetector": "1085.6",
        "DistanceSourceToPatient": "595",
        "GantryDetectorTilt": "0",
        "TableHeight": "148.5",
        "RotationDirection": "CW",
        "ExposureTime": 500,
        "FilterType": "WEDGE",
        "GeneratorPower": 48,
        "FocalSpots": ["0.7", "0.7"],
        "ConvolutionKernel": ["B40", "SOFT"],
        "RevolutionTime": 0.5,
        "SingleCollimationWidth": 0.625,
        "TotalCollimationWidth": 40.0,
        "TableSpeed": 78.75,
        "TableFeedPerRotation": 39.375,
        "SpiralPitchFactor": 0.984375,
        "ExposureModulationType": "XYZ_EC",
        "CTDIvol": 7.5,
        "CTDIPhantomTypeCodeSequence": [h.code("113691", "IEC Body Dosimetry Phantom", "DCM")],
        "WaterEquivalentDiameter": 24.5,
        "ContrastBolusAgent": "Invented iodine 350",
        "ContrastBolusAgentSequence": [h.code("IODINATED", "Invented iodine 350", "99DICOMLAKE")],
        "ContrastBolusRoute": "IV",
        "ContrastBolusVolume": "80",
        "ContrastBolusStartTime": "092910",
        "ContrastBolusTotalDose": "28",
        "ContrastFlowRate": "3.5",
        "ContrastFlowDuration": "22.86",
        "ContrastBolusIngredient": "IODINE",
        "ContrastBolusIngredientConcentration": "350",
    }


def _varying(index: int, slices: int, seed: int) -> h.Elements:
    """What differs from slice to slice, and the pixels."""
    number = slices - index  # the scan runs from the head to the feet
    time = clock(_START + Fraction(number, 20))
    position = planes(slices).position(index)
    current = 180 + 2 * (abs(2 * index - slices) * 40 // slices)
    stored = hu_plane(index, slices, seed) - np.int16(_INTERCEPT)
    return {
        **h.instance(SOP_CLASS, instance_uid(index, slices, seed), number=number, time=time),
        "AcquisitionTime": time,
        "ContentTime": time,
        "ImagePositionPatient": ds_list(position),
        "SliceLocation": ds(position[2]),
        "XRayTubeCurrent": current,
        "Exposure": current // 2,
        "BitsAllocated": 16,
        "PixelData": stored.astype("<i2").tobytes(),
    }
