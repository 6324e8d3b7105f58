"""Diffusion weighting: b-value and gradient direction, from the standard's elements or the makers' own.

Directions come out in patient axes (LPS). Where a maker states them in another frame they are turned
only by a rule that is known; where none is, the vector is kept as stated and called so, since it
tells images apart all the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dicomlake.dicom import csa, private
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Vector
from dicomlake.dicom.private import PrivateElement

MAX_B = 1e5  # s/mm²: beyond it is no b-value, but a flag or a number of bits
_UNIT_TOLERANCE = 0.02  # GE scales its vectors where shells differ: then neither b nor length is meant so

_LONGEST = 2.0  # unfilled elements hold 1e10 and more

Orientation = tuple[float, ...] | None

_SIEMENS_B = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0C, "IS")
_SIEMENS_GRADIENT = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0E, "FD")
_GE_B = PrivateElement(0x0043, "GEMS_PARM_01", 0x39, "IS")
_GE_GRADIENT = tuple(PrivateElement(0x0019, "GEMS_ACQU_01", e, "DS") for e in (0xBB, 0xBC, 0xBD))
_PHILIPS_B = PrivateElement(0x2001, "Philips Imaging DD 001", 0x03, "FL")
_PHILIPS_GRADIENT = tuple(
    PrivateElement(0x2005, "Philips MR Imaging DD 001", e, "FL") for e in (0xB0, 0xB1, 0xB2)
)
_UIH_B = PrivateElement(0x0065, "Image Private Header", 0x09, "FD")
_UIH_GRADIENT = PrivateElement(0x0065, "Image Private Header", 0x37, "FD")

_GE_OFFSET = 1e9  # added to b-values by releases since about 2010


class Diffusion(NamedTuple):
    """How an image is diffusion weighted.

    b: s/mm²; None when the object does not say.
    gradient: unit vector, LPS; None where b is 0, the weighting has no direction, or its frame is unknown.
    stated: the vector as stated, where it is no `gradient`; in the maker's frame, whatever that is.
    """

    b: float | None = None
    gradient: Vector | None = None
    stated: Vector | None = None


def standard(item: Attributes) -> Diffusion:
    """DiffusionBValue and DiffusionGradientOrientation (PS3.3 C.8.13.5.9).

    item: an item of MRDiffusionSequence, or the top level of a data set, where makers repeat them.
    """
    vector = _vector(item.numbers("DiffusionGradientOrientation"))
    for direction in item.items("DiffusionGradientDirectionSequence"):
        vector = vector or _vector(direction.numbers("DiffusionGradientOrientation"))
    if item.text("DiffusionDirectionality") in ("ISOTROPIC", "NONE"):
        vector = None
    return _in_patient_axes(item.number("DiffusionBValue"), vector)


def diffusion(
    dataset: Attributes, orientation: Orientation = None, *, known: frozenset[str] | None = None
) -> Diffusion:
    """The diffusion weighting of an image of one frame (or of a mosaic), private elements included.

    orientation: ImageOrientationPatient of the slices, for makers who state directions along it.
    known: `private.creators` of the data set, if the caller has them.
    """
    stated = standard(dataset)
    complete = stated.gradient or stated.stated or stated.b == 0 or "DiffusionDirectionality" in dataset
    if stated.b is not None and complete:
        return stated
    makers = private.creators(dataset) if known is None else known
    for element, source in _SOURCES:
        if element is None or element.creator.casefold() in makers:
            found = source(dataset, orientation)
            if found.b is not None and stated.b in (None, found.b):
                return found
    return stated


def is_left_out(dataset: Attributes) -> bool:
    """Whether the weighting may be in a value that a header without bulk values lacks."""
    if not csa.is_left_out(dataset) or "DiffusionBValue" in dataset:
        return False
    return private.tag_of(dataset, _SIEMENS_B) is None


def _siemens(dataset: Attributes, _: Orientation) -> Diffusion:
    vector = _vector(private.numbers(dataset, _SIEMENS_GRADIENT))
    return _in_patient_axes(private.number(dataset, _SIEMENS_B), vector)


def _siemens_csa(dataset: Attributes, _: Orientation) -> Diffusion:
    tags = csa.of_image(dataset, ("B_value", "DiffusionGradientDirection"))
    b = csa.numbers(tags.get("B_value", ()))
    vector = _vector(csa.numbers(tags.get("DiffusionGradientDirection", ())))
    return _in_patient_axes(b[0] if b else None, vector)


def _philips(dataset: Attributes, _: Orientation) -> Diffusion:
    """Directions to the left, to the back, to the head: LPS, as in DiffusionGradientOrientation."""
    vector = _vector(tuple(x for e in _PHILIPS_GRADIENT for x in private.numbers(dataset, e)[:1]))
    return _in_patient_axes(private.number(dataset, _PHILIPS_B), vector)


def _uih(dataset: Attributes, orientation: Orientation) -> Diffusion:
    """United Imaging: along rows, along columns, along their normal (so dcm2niix reads it)."""
    vector = _vector(private.numbers(dataset, _UIH_GRADIENT))
    turned = _turn(vector, orientation, ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    return _with_frame(private.number(dataset, _UIH_B), vector, turned)


def _ge(dataset: Attributes, orientation: Orientation) -> Diffusion:
    """GE: along frequency, phase and slice encoding; the signs are known for axial slices, head first.

    For those dcm2niix and, with phase along columns, MRtrix agree but for a sign of the whole vector,
    which means nothing. For coronal slices the two do not agree.
    """
    b = private.number(dataset, _GE_B)
    if b is not None and b >= _GE_OFFSET:
        b -= _GE_OFFSET
    vector = _vector(tuple(x for e in _GE_GRADIENT for x in private.numbers(dataset, e)[:1]))
    encoded = dataset.text("InPlanePhaseEncodingDirection")
    known = {"COL": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)), "ROW": ((0, -1, 0), (1, 0, 0), (0, 0, 1))}
    turned = None
    if encoded in known and dataset.text("PatientPosition") == "HFS" and _is_axial(orientation):
        turned = _turn(vector, orientation, known[encoded])
    return _with_frame(b, vector, turned)


def _is_axial(orientation: Orientation) -> bool:
    if orientation is None:
        return False
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    return int(np.argmax(normal)) == 2


def _turn(
    vector: Vector | None, orientation: Orientation, signs: tuple[tuple[int, ...], ...]
) -> Vector | None:
    """From the frame of the image to the patient's.

    signs: rows say what goes along the rows of the image, along its columns, along their normal.
    """
    if vector is None or orientation is None:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    turned = (np.array(signs) @ vector) @ np.array([row, column, np.cross(row, column)])
    return (float(turned[0]), float(turned[1]), float(turned[2]))


def _vector(values: tuple[float, ...]) -> Vector | None:
    """Three numbers that may be a direction: not all zero, none beyond what rounding or scaling makes."""
    if len(values) != 3 or not any(values) or max(map(abs, values)) > _LONGEST:
        return None
    return values[0], values[1], values[2]


def _in_patient_axes(b: float | None, vector: Vector | None) -> Diffusion:
    return _with_frame(b, vector, vector)


def _with_frame(b: float | None, vector: Vector | None, turned: Vector | None) -> Diffusion:
    """The weighting from a vector as stated and the same in patient axes, None where that is unknown."""
    if b is None or not 0 <= b <= MAX_B:
        return Diffusion()
    if b == 0 or vector is None:
        return Diffusion(b)
    length = float(np.linalg.norm(turned)) if turned is not None else 0.0
    if turned is None or abs(length - 1) > _UNIT_TOLERANCE:
        return Diffusion(b, stated=vector)
    return Diffusion(b, gradient=(turned[0] / length, turned[1] / length, turned[2] / length))


_SOURCES = (
    (_SIEMENS_B, _siemens),
    (None, _siemens_csa),  # found by its first bytes too, whoever its creator is
    (_PHILIPS_B, _philips),
    (_GE_B, _ge),
    (_UIH_B, _uih),
)
