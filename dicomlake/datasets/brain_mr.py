"""brain-mr: a multi-echo spin-echo MR of a computed head, four echoes interleaved in one oblique series."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets._brain import Labels, Tissue, tissue
from dicomlake.datasets._noise import bell
from dicomlake.datasets._truth import (
    Planes,
    Truth,
    Vector,
    centred,
    clock,
    ds,
    ds_list,
    shuffled,
    step_for,
    uid,
)

NAME = "brain-mr"
SLICES = 24
SIZE = 256
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.4"
ECHO_TIMES_MS = (22, 44, 66, 88)
NOISE = 14

_EXTENT_MM = 144
_PIXEL_MM = Fraction(7, 8)
_MIDDLE_W = 8.0  # the stack reaches from below the cerebellum to the top of the skull
_START = 10 * 3600 + 900


@dataclass(frozen=True)
class Decay:
    """What a tissue sends: signal = round(s0 * exp(-TE / T2))."""

    s0: int
    """Signal at TE = 0, without a unit."""
    t2_ms: int
    """Transverse relaxation time, ms."""
    signal: tuple[int, int, int, int]
    """The rounded formula at ECHO_TIMES_MS, written out because exp() may differ in its last bit."""


DECAY = {
    Tissue.AIR: Decay(0, 1, (0, 0, 0, 0)),
    Tissue.SCALP: Decay(1500, 60, (1040, 720, 499, 346)),
    Tissue.BONE: Decay(120, 15, (28, 6, 1, 0)),
    Tissue.MUSCLE: Decay(1300, 35, (693, 370, 197, 105)),
    Tissue.FLUID: Decay(2000, 1500, (1971, 1942, 1914, 1886)),
    Tissue.GREY: Decay(1720, 98, (1374, 1098, 877, 701)),
    Tissue.WHITE: Decay(1360, 72, (1002, 738, 544, 401)),
    Tissue.NUCLEUS: Decay(1520, 80, (1155, 877, 666, 506)),
    Tissue.EYE: Decay(2000, 900, (1952, 1905, 1859, 1814)),
    Tissue.PLAQUE: Decay(1760, 150, (1520, 1313, 1134, 979)),
    Tissue.TUMOUR: Decay(1840, 180, (1628, 1441, 1275, 1128)),
}


def _direction(x: int, y: int, z: int) -> Vector:
    return Fraction(x, 10_000), Fraction(y, 10_000), Fraction(z, 10_000)


HEAD_AXES = _direction(9856, 1680, 192), _direction(-1680, 9600, 2240), _direction(192, -2240, 9744)
"""Row, column and normal: the head is turned about two axes by a rotation with finite decimals
(the quaternion 35, 4, 0, 3 over its length) and the planes follow it."""


def planes(slices: int = SLICES) -> Planes:
    """The planes of the series: double oblique, 144 mm of head."""
    return centred(
        HEAD_AXES,
        rows=SIZE,
        columns=SIZE,
        pixel_mm=_PIXEL_MM,
        step_mm=step_for(_EXTENT_MM, slices),
        count=slices,
        centre=(Fraction(2), Fraction(-10), Fraction(24)),
    )


def fine_tissue(index: int, slices: int = SLICES) -> Labels:
    """The tissue of a plane on a grid twice as fine, shape (512, 512): four labels make a pixel."""
    w = _MIDDLE_W + (index - (slices - 1) / 2) * float(step_for(_EXTENT_MM, slices))
    across = (np.arange(2 * SIZE) - (SIZE - 0.5)) * float(_PIXEL_MM) / 2
    return tissue(w, across[:, None], across[None, :])


def signal_plane(index: int, echo: int, slices: int = SLICES, seed: int = 0) -> NDArray[np.uint16]:
    """The stored signal of a plane at an echo counted from 0, shape (256, 256), without a unit."""
    return _signal(fine_tissue(index, slices), index, echo, seed)


def brain_mr_signal(
    z: ArrayLike, echo: ArrayLike, y: ArrayLike, x: ArrayLike, *, slices: int = SLICES, seed: int = 0
) -> NDArray[np.uint16]:
    """The stored signal at the index lists z, echo, y, x; shape (len(z), len(echo), len(y), len(x)).

    Mean of s0 * exp(-TE / T2) over the four quarters of a pixel plus noise, folded at zero like a magnitude.
    """
    block = np.ix_(np.atleast_1d(y), np.atleast_1d(x))
    return np.stack(
        [
            np.stack([signal_plane(int(k), int(e), slices, seed)[block] for e in np.atleast_1d(echo)])
            for k in np.atleast_1d(z)
        ]
    )


def _signal(labels: Labels, index: int, echo: int, seed: int) -> NDArray[np.uint16]:
    table = np.array([DECAY[found].signal[echo] for found in Tissue], np.int32)
    fine = table[labels]
    mean = (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2] + 2) // 4
    pixels = np.arange(SIZE)
    noise = bell(seed, index * len(ECHO_TIMES_MS) + echo, pixels[:, None], pixels, spread=NOISE)
    return np.asarray(np.abs(mean + noise), np.uint16)


def subject(seed: int) -> h.Subject:
    """The patient; the name is in Latin-1."""
    return h.Subject(
        "Phantom^Bräin^Zoé",
        f"DL-BRAIN-{seed:04d}",
        "19710923",
        "M",
        "052Y",
        "1.81",
        "82",
        charset="ISO_IR 100",
    )


def visit(slices: int, seed: int) -> h.Visit:
    """The study and the MR series in it."""
    return h.Visit(
        key=(NAME, seed, slices),
        modality="MR",
        description="MR Brain multi-echo",
        protocol="T2 map SE 4 echoes",
        body_part="BRAIN",
        region=("12738006", "Brain"),
        procedure=("MRBRAIN", "MR of brain"),
        time="101500",
    )


def instance_uid(index: int, echo: int, slices: int, seed: int) -> str:
    """SOPInstanceUID of a plane at an echo, both counted from 0."""
    return uid(NAME, seed, slices, "plane", index, "echo", echo)


def truth(slices: int = SLICES, seed: int = 0) -> Truth:
    """What the series must read back as; the echoes run faster than the slices in `instance_uids`."""
    stack, this, echoes = planes(slices), visit(slices, seed), len(ECHO_TIMES_MS)
    return Truth(
        name=NAME,
        dims=("z", "echo", "y", "x"),
        shape=(slices, echoes, SIZE, SIZE),
        spacing_mm=stack.spacing_mm,
        affine_lps=stack.affine_lps,
        units="1",
        study_uid=this.study_uid,
        series_uid=this.series_uid,
        frame_of_reference_uid=this.frame_of_reference_uid,
        instance_uids=tuple(instance_uid(k, e, slices, seed) for k in range(slices) for e in range(echoes)),
    )


def write(folder: Path, *, slices: int, seed: int) -> None:
    """Write one file for each slice and echo, the echoes of a slice next to each other in InstanceNumber."""
    made = h.dataset(_constant(slices, seed))
    h.add_private(made, (NAME, seed))
    echoes = len(ECHO_TIMES_MS)
    files = shuffled(slices * echoes)
    for index in range(slices):
        labels = fine_tissue(index, slices)
        for echo in range(echoes):
            stored = _signal(labels, index, echo, seed)
            made.update(h.dataset(_varying(index, echo, slices, seed, stored)))
            h.write(made, folder / f"MR{files[index * echoes + echo] + 1:04d}.dcm")


def _constant(slices: int, seed: int) -> h.Elements:
    """Everything that all images share."""
    this, stack = visit(slices, seed), planes(slices)
    return {
        **h.patient(subject(seed)),
        **h.study(this),
        **h.series(this),
        **h.equipment("Phantom MR"),
        **h.frame_of_reference(this),
        **h.plane_geometry(stack, thickness_mm=min(stack.step_mm, Fraction(5))),
        **_acquisition(),
        **h.grey_pixels(rows=SIZE, columns=SIZE, bits=12, signed=False),
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE"],
        "AcquisitionNumber": 1,
        "AcquisitionDate": h.DATE,
        "ContentDate": h.DATE,
        "ImagesInAcquisition": slices * len(ECHO_TIMES_MS),
        "PatientPosition": "HFS",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "WindowCenter": "800",
        "WindowWidth": "1600",
        "WindowCenterWidthExplanation": "BRAIN",
        "ImageComments": "Closed-form phantom",
    }


def _acquisition() -> h.Elements:
    """MR Image module (PS3.3 C.8.3.1)."""
    return {
        "ScanningSequence": "SE",
        "SequenceVariant": ["SK", "SP"],
        "ScanOptions": "SAT1",
        "MRAcquisitionType": "2D",
        "SequenceName": "se_4e",
        "AngioFlag": "N",
        "RepetitionTime": "4200",
        "NumberOfAverages": "1",
        "ImagingFrequency": "127.74",
        "ImagedNucleus": "1H",
        "MagneticFieldStrength": "3",
        "NumberOfPhaseEncodingSteps": 256,
        "EchoTrainLength": len(ECHO_TIMES_MS),
        "PercentSampling": "100",
        "PercentPhaseFieldOfView": "100",
        "PixelBandwidth": "220",
        "ReconstructionDiameter": "224",
        "ReceiveCoilName": "HEAD_32",
        "TransmitCoilName": "BODY",
        "AcquisitionMatrix": [0, 256, 256, 0],
        "InPlanePhaseEncodingDirection": "ROW",
        "FlipAngle": "90",
        "VariableFlipAngleFlag": "N",
        "SAR": "1.1",
        "dBdt": "0",
        "B1rms": 1.5,
    }


def _varying(index: int, echo: int, slices: int, seed: int, stored: NDArray[np.uint16]) -> h.Elements:
    """What differs from image to image, and the pixels."""
    number = index * len(ECHO_TIMES_MS) + echo + 1
    stack = planes(slices)
    position = stack.position(index)
    location = sum((p * n for p, n in zip(position, stack.normal, strict=True)), Fraction(0))
    time = clock(_START + Fraction(index, 2))
    return {
        **h.instance(SOP_CLASS, instance_uid(index, echo, slices, seed), number=number, time=time),
        "AcquisitionTime": time,
        "ContentTime": time,
        "EchoTime": str(ECHO_TIMES_MS[echo]),
        "EchoNumbers": echo + 1,
        "ImagePositionPatient": ds_list(position),
        "SliceLocation": ds(round(location, 4)),
        "BitsAllocated": 16,
        "PixelData": stored.astype("<u2").tobytes(),
    }
