"""What tells a plain image from others at the same place: echo, b-value, times …; private where it must be.

A facet is what the object says, and absent where it says nothing. Which of them are dimensions of a
volume is decided in `stacking`, where all frames of a series are known.
"""

from __future__ import annotations

from dataclasses import replace

from dicomlake.dicom import diffusion, private
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Facet, Frame
from dicomlake.dicom.private import PrivateElement
from dicomlake.dicom.times import seconds, seconds_of_datetime

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"

_NUMBERS = {
    "echo": ("EchoTime",),
    "temporal": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "inversion": ("InversionTime",),
    "flip": ("FlipAngle",),
    "trigger": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "frame_reference_time": ("FrameReferenceTime",),
    "acquisition": ("AcquisitionNumber",),
    "kvp": ("KVP",),
    "energy": ("MonoenergeticEnergyEquivalent",),
}
"""Facets that are one number: the first of these elements that holds one, in the standard's units."""

_COMPONENTS = {
    "M": "magnitude",
    "MAGNITUDE": "magnitude",
    "P": "phase",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "R": "real",
    "REAL": "real",
    "I": "imaginary",
    "IMAGINARY": "imaginary",
    "MIXED": "mixed",
}
_GE_COMPONENT = PrivateElement(0x0043, "GEMS_PARM_01", 0x2F, "SS")
_GE_COMPONENTS = ("magnitude", "phase", "real", "imaginary")
_PHILIPS_DYNAMIC = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0xA0, "FL")
_PHILIPS_PHASE = PrivateElement(0x2001, "Philips Imaging DD 001", 0x08, "IS")


def with_facets(dataset: Attributes, frame: Frame) -> Frame:
    """The frame with its facets filled in."""
    return replace(frame, facets={**frame.facets, **facets_of(dataset, frame.orientation)})


def facets_of(dataset: Attributes, orientation: tuple[float, ...] | None) -> dict[str, Facet]:
    """The facets of an image of one frame, by name; see `Frame.facets`.

    Beyond those: `image_type` (ImageType, its values joined by backslashes), `kernel`
    (ConvolutionKernel, likewise), and for MR `gradient_stated` (a gradient direction whose frame is not
    known), `dynamic_time` (Philips, ms since the first dynamic), `cardiac_phase` (Philips, number).
    orientation: ImageOrientationPatient of the slices where they have one.
    """
    found: dict[str, Facet] = {}
    for name, keywords in _NUMBERS.items():
        for keyword in keywords:
            value = dataset.number(keyword)
            if value is not None:
                found[name] = value
                break
    for name, keyword in (("image_type", "ImageType"), ("kernel", "ConvolutionKernel")):
        texts = dataset.texts(keyword)
        if texts:
            found[name] = "\\".join(texts)
    found.update(_times(dataset))
    if is_mr(dataset):
        found.update(_of_mr(dataset, orientation))
    return found


def needs_original(dataset: Attributes) -> bool:
    """Whether facets may be in a bulk value that this header, kept without such values, lacks."""
    return is_mr(dataset) and diffusion.is_left_out(dataset)


def is_mr(dataset: Attributes) -> bool:
    """Whether it is an image of magnetic resonance: elsewhere ImageType means other things."""
    return dataset.text("Modality") == "MR" or dataset.text("SOPClassUID") == _MR_IMAGE


def _times(dataset: Attributes) -> dict[str, Facet]:
    """When the data were acquired and the image made, in seconds (`times.seconds`)."""
    acquired = seconds_of_datetime(dataset.text("AcquisitionDateTime"))
    if acquired is None:
        acquired = seconds(dataset.text("AcquisitionDate"), dataset.text("AcquisitionTime"))
    made = seconds(dataset.text("ContentDate"), dataset.text("ContentTime"))
    found = {"acquisition_time": acquired, "content_time": made}
    return {name: value for name, value in found.items() if value is not None}


def _of_mr(dataset: Attributes, orientation: tuple[float, ...] | None) -> dict[str, Facet]:
    known = private.creators(dataset)
    weighting = diffusion.diffusion(dataset, orientation, known=known)
    dynamic, phase = (
        private.number(dataset, element) if element.creator.casefold() in known else None
        for element in (_PHILIPS_DYNAMIC, _PHILIPS_PHASE)
    )
    found: dict[str, Facet | None] = {
        "component": component(dataset),
        "b": weighting.b,
        "gradient": weighting.gradient,
        "gradient_stated": weighting.stated,
        "dynamic_time": None if dynamic is None else 1000 * dynamic,
        "cardiac_phase": phase,
    }
    return {name: value for name, value in found.items() if value is not None}


def component(dataset: Attributes) -> str | None:
    """Which part of the complex MR signal the pixels are, as a lower-case term.

    ComplexImageComponent; else the third value of ImageType (Siemens, United Imaging), or the fourth
    (Philips); else GE's own element.
    """
    stated = dataset.text("ComplexImageComponent")
    if stated:
        return _COMPONENTS.get(stated, stated.lower())
    for term in dataset.texts("ImageType")[2:4]:
        if term in _COMPONENTS:
            return _COMPONENTS[term]
    code = private.number(dataset, _GE_COMPONENT)
    return _GE_COMPONENTS[int(code)] if code in (0, 1, 2, 3) else None
