"""dynamic-pet: an FDG PET of a computed head, six time frames of one bed position in one series, in Bq/ml."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets._brain import Labels, Tissue, tissue
from dicomlake.datasets._noise import bell, blurred
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

NAME = "dynamic-pet"
SLICES = 16
SIZE = 128
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.128"
FRAME_SECONDS = (30, 60, 120, 240, 300, 600)
DECAY_FACTORS = ("1.001579", "1.006333", "1.015905", "1.035313", "1.065137", "1.116656")
"""exp(λ t) λ d / (1 - exp(-λ d)) for start t and duration d of each frame: activity is given for the
start of the series (DecayCorrection START)."""
HALF_LIFE_S = "6586.2"
DOSE_BQ = 185_000_000
WEIGHT_KG = "74"
INJECTION_S = 11 * 3600 - 60
START_S = 11 * 3600

UPTAKE = {
    Tissue.AIR: (0, 0, 1),
    Tissue.SCALP: (1_200, 1_400, 120),
    Tissue.BONE: (900, 300, 200),
    Tissue.MUSCLE: (1_500, 2_600, 240),
    Tissue.FLUID: (700, 1_500, 400),
    Tissue.GREY: (5_500, 25_000, 260),
    Tissue.WHITE: (2_600, 7_400, 220),
    Tissue.NUCLEUS: (6_000, 27_000, 280),
    Tissue.EYE: (300, 900, 300),
    Tissue.PLAQUE: (2_200, 5_500, 240),
    Tissue.TUMOUR: (8_000, 52_000, 380),
}
"""(a, b, τ) of each tissue: activity = a + b t // (t + τ) in Bq/ml at t seconds after the start."""

_EXTENT_MM = 96
_PIXEL_MM = Fraction(2)
_MIDDLE_W = 10.0
_NOISE = 9_000
_BLUR = 2


def planes(slices: int = SLICES) -> Planes:
    """The planes of each time frame: axial, 96 mm of head."""
    return centred(
        AXIAL,
        rows=SIZE,
        columns=SIZE,
        pixel_mm=_PIXEL_MM,
        step_mm=step_for(_EXTENT_MM, slices),
        count=slices,
        centre=(Fraction(-4), Fraction(6), Fraction(-700)),
    )


def frame_start_s(frame: int) -> int:
    """Start of a time frame in seconds after the start of the series."""
    return sum(FRAME_SECONDS[:frame])


def frame_middle_s(frame: int) -> int:
    """Middle of a time frame in seconds after the start of the series."""
    return frame_start_s(frame) + FRAME_SECONDS[frame] // 2


def exact_bqml(index: int, frame: int, slices: int = SLICES, seed: int = 0) -> NDArray[np.int64]:
    """Activity of a plane before it is scaled to 16 bits, whole Bq/ml, shape (128, 128)."""
    return _activity(_fine_tissue(index, slices), index, frame, seed)


def slope(activity: NDArray[np.int64]) -> Fraction:
    """RescaleSlope of a plane: the smallest 64th that fits its maximum into 15 bits."""
    return Fraction(max(-(-int(activity.max()) * 64 // 32767), 1), 64)


def stored(activity: NDArray[np.int64]) -> NDArray[np.int16]:
    """The stored values of a plane: activity over slope, rounded half up, in integers."""
    step = int(slope(activity) * 64)
    return ((activity * 128 + step) // (2 * step)).astype(np.int16)


def dynamic_pet_bqml(
    time: ArrayLike, z: ArrayLike, y: ArrayLike, x: ArrayLike, *, slices: int = SLICES, seed: int = 0
) -> NDArray[np.float64]:
    """Activity in Bq/ml as the files give it at the index lists; shape (time, z, y, x).

    Exactly stored value times slope: both are small enough for float64 to hold the product.
    """
    block = np.ix_(np.atleast_1d(y), np.atleast_1d(x))

    def plane(frame: int, index: int) -> NDArray[np.float64]:
        activity = exact_bqml(index, frame, slices, seed)
        return np.asarray(stored(activity)[block] * float(slope(activity)))

    return np.stack(
        [np.stack([plane(int(t), int(k)) for k in np.atleast_1d(z)]) for t in np.atleast_1d(time)]
    )


def _fine_tissue(index: int, slices: int) -> Labels:
    """The tissue of a plane on a grid twice as fine, shape (256, 256)."""
    w = _MIDDLE_W + (index - (slices - 1) / 2) * float(step_for(_EXTENT_MM, slices))
    across = (np.arange(2 * SIZE) - (SIZE - 0.5)) * float(_PIXEL_MM) / 2
    return tissue(w, across[:, None], across[None, :])


def _activity(labels: Labels, index: int, frame: int, seed: int) -> NDArray[np.int64]:
    t = frame_middle_s(frame)
    table = np.array([a + b * t // (t + tau) for a, b, tau in (UPTAKE[found] for found in Tissue)], np.int64)
    fine = table[labels]
    mean = (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2] + 2) // 4
    pixels = np.arange(SIZE)
    noise = bell(seed, index * len(FRAME_SECONDS) + frame, pixels[:, None], pixels, spread=1000)
    strength = _NOISE * 8 // (8 + frame_middle_s(frame) // 60)  # short frames count less
    counts = mean + noise * (mean + 400) * strength // 40_000_000
    return np.maximum(blurred(counts, times=_BLUR), 0)


def subject(seed: int) -> h.Subject:
    """The patient."""
    return h.Subject(
        "Phantom^Tracer=示踪^幻影", f"DL-TRACER-{seed:04d}", "19640105", "M", "060Y", "1.76", WEIGHT_KG
    )


def visit(slices: int, seed: int) -> h.Visit:
    """The study and the PET series in it."""
    return h.Visit(
        key=(NAME, seed, slices),
        modality="PT",
        description="PET Brain FDG dynamic",
        protocol="Dynamic FDG 6 frames",
        body_part="BRAIN",
        region=("12738006", "Brain"),
        procedure=("PETBRAIN", "FDG PET of brain"),
        time="110000",
    )


def instance_uid(index: int, frame: int, slices: int, seed: int) -> str:
    """SOPInstanceUID of a plane in a time frame, both counted from 0."""
    return uid(NAME, seed, slices, "frame", frame, "plane", index)


def truth(slices: int = SLICES, seed: int = 0) -> Truth:
    """What the series must read back as; the slices run faster than the frames in `instance_uids`."""
    stack, this, frames = planes(slices), visit(slices, seed), len(FRAME_SECONDS)
    return Truth(
        name=NAME,
        dims=("time", "z", "y", "x"),
        shape=(frames, slices, SIZE, SIZE),
        spacing_mm=stack.spacing_mm,
        affine_lps=stack.affine_lps,
        units="BQML",
        study_uid=this.study_uid,
        series_uid=this.series_uid,
        frame_of_reference_uid=this.frame_of_reference_uid,
        instance_uids=tuple(instance_uid(k, t, slices, seed) for t in range(frames) for k in range(slices)),
    )


def write(folder: Path, *, slices: int, seed: int) -> None:
    """Write one file for each slice and time frame."""
    made = h.dataset(_constant(slices, seed))
    h.add_private(made, (NAME, seed))
    frames = len(FRAME_SECONDS)
    files = shuffled(slices * frames)
    for index in range(slices):
        labels = _fine_tissue(index, slices)
        for frame in range(frames):
            activity = _activity(labels, index, frame, seed)
            made.update(h.dataset(_varying(index, frame, slices, seed, activity)))
            h.write(made, folder / f"PT{files[index * frames + frame] + 1:04d}.dcm")


def _constant(slices: int, seed: int) -> h.Elements:
    """Everything that all images share."""
    this, stack = visit(slices, seed), planes(slices)
    return {
        **h.patient(subject(seed)),
        **h.study(this),
        **h.series(this),
        **h.equipment("Phantom PET"),
        **h.frame_of_reference(this),
        **h.plane_geometry(stack, thickness_mm=stack.step_mm),
        **_pet_series(slices),
        **_isotope(),
        **h.grey_pixels(rows=SIZE, columns=SIZE, signed=True),
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "AcquisitionNumber": 1,
        "AcquisitionDate": h.DATE,
        "ContentDate": h.DATE,
        "PatientPosition": "HFS",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "RescaleIntercept": "0",
        "WindowCenter": "15000",
        "WindowWidth": "30000",
        "WindowCenterWidthExplanation": "BRAIN",
        "ImageComments": "Closed-form phantom",
    }


def _pet_series(slices: int) -> h.Elements:
    """PET Series and NM/PET Patient Orientation modules (PS3.3 C.8.9.1, C.8.4.6)."""
    return {
        "Units": "BQML",
        "CountsSource": "EMISSION",
        "SeriesType": ["DYNAMIC", "IMAGE"],
        "NumberOfSlices": slices,
        "NumberOfTimeSlices": len(FRAME_SECONDS),
        "CorrectedImage": ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"],
        "RandomsCorrectionMethod": "DLYD",
        "AttenuationCorrectionMethod": "computed, none needed",
        "ScatterCorrectionMethod": "NONE NEEDED",
        "DecayCorrection": "START",
        "ReconstructionMethod": "CLOSED FORM",
        "ReconstructionDiameter": "256",
        "ConvolutionKernel": "BINOMIAL",
        "FieldOfViewShape": "CYLINDRICAL RING",
        "FieldOfViewDimensions": ["256", "96"],
        "TypeOfDetectorMotion": "NONE",
        "CollimatorType": "NONE",
        "GantryDetectorTilt": "0",
        "EnergyWindowRangeSequence": [{"EnergyWindowLowerLimit": "435", "EnergyWindowUpperLimit": "650"}],
        "AxialAcceptance": "38",
        "CoincidenceWindowWidth": "4",
        "SecondaryCountsType": "DLYD",
        "PatientOrientationCodeSequence": [
            {
                **h.code("102538003", "recumbent"),
                "PatientOrientationModifierCodeSequence": [h.code("40199007", "supine")],
            }
        ],
        "PatientGantryRelationshipCodeSequence": [h.code("102540008", "headfirst")],
    }


def _isotope() -> h.Elements:
    """PET Isotope module (PS3.3 C.8.9.2): what SUV needs."""
    return {
        "RadiopharmaceuticalInformationSequence": [
            {
                "Radiopharmaceutical": "FDG",
                "RadiopharmaceuticalVolume": "5",
                "RadiopharmaceuticalStartTime": clock(INJECTION_S),
                "RadiopharmaceuticalStartDateTime": h.DATE + clock(INJECTION_S),
                "RadionuclideTotalDose": str(DOSE_BQ),
                "RadionuclideHalfLife": HALF_LIFE_S,
                "RadionuclidePositronFraction": "0.967",
                "RadiopharmaceuticalSpecificActivity": "0",
                "RadionuclideCodeSequence": [h.code("77004003", "^18^Fluorine")],
                "RadiopharmaceuticalCodeSequence": [h.code("35321007", "Fluorodeoxyglucose F^18^")],
                "AdministrationRouteCodeSequence": [h.code("47625008", "Intravenous route")],
            }
        ],
    }


def _varying(index: int, frame: int, slices: int, seed: int, activity: NDArray[np.int64]) -> h.Elements:
    """What differs from image to image (PS3.3 C.8.9.4), and the pixels."""
    number = frame * slices + (slices - index)  # within a frame from the head to the feet
    position = planes(slices).position(index)
    time = clock(START_S + frame_start_s(frame))
    return {
        **h.instance(SOP_CLASS, instance_uid(index, frame, slices, seed), number=number, time=time),
        "AcquisitionTime": time,
        "ContentTime": time,
        "ImageIndex": number,
        "FrameReferenceTime": str(frame_middle_s(frame) * 1000),
        "ActualFrameDuration": FRAME_SECONDS[frame] * 1000,
        "DecayFactor": DECAY_FACTORS[frame],
        "DoseCalibrationFactor": "1",
        "ScatterFractionFactor": "0.34",
        "DeadTimeFactor": "1.02",
        "ImagePositionPatient": ds_list(position),
        "SliceLocation": ds(position[2]),
        "RescaleSlope": ds(slope(activity)),
        "BitsAllocated": 16,
        "PixelData": stored(activity).astype("<i2").tobytes(),
    }
