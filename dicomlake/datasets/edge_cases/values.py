"""Stored values that are meant in different ways: slopes by slice, colour, palettes, bits, cut-off pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dicomlake.datasets.edge_cases.building import Made, case, stack
from dicomlake.datasets.edge_cases.grids import CORONAL, upright
from dicomlake.datasets.edge_cases.objects import CT, PET, numbers
from dicomlake.datasets.edge_cases.records import Coordinate, EdgeCase

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield from _rescaled()
    yield from _colours()
    yield _bits()
    yield _cut_off()


def _rescaled() -> Iterator[EdgeCase]:
    slopes = (0.5, 0.75, 1.125, 0.25, 2.0)
    pet = stack(
        "pet-slopes",
        upright(),
        sop_class=PET,
        modality="PT",
        each=lambda place: {"RescaleSlope": numbers([slopes[place[0]]])[0]},
    )
    yield case(
        "pet-slopes",
        "PET with a slope for each plane: the stored values stay, the slopes lie along z.",
        pet.with_volume(coordinates=(Coordinate("rescale_slope", ("z",), slopes),), facts={"units": "BQML"}),
    )
    intercepts = (-1024.0, -1024.0, -1000.0, 0.0, -1024.0)
    ct = stack(
        "intercepts",
        upright(),
        each=lambda place: {"RescaleIntercept": numbers([intercepts[place[0]]])[0]},
    )
    along_z = Coordinate("rescale_intercept", ("z",), intercepts)
    yield case(
        "intercepts",
        "CT whose intercept differs between planes.",
        ct.with_volume(coordinates=(along_z,), facts={"units": "HU", "rescale_slope": 1.0}),
    )


def _colours() -> Iterator[EdgeCase]:
    inverted = stack("monochrome1", upright(CORONAL), elements={"PhotometricInterpretation": "MONOCHROME1"})
    yield case(
        "monochrome1",
        "MONOCHROME1 stays as stored: inverting is for display.",
        inverted.with_volume(facts={"photometric_interpretation": "MONOCHROME1"}),
    )
    yield case(
        "rgb-in-space",
        "Colour planes with a place in the patient.",
        stack("rgb-in-space", upright(), sop_class=_SECONDARY_CAPTURE, modality="OT", pixels="rgb"),
    )
    palette = {
        "PhotometricInterpretation": "PALETTE COLOR",
        **{
            f"{colour}PaletteColorLookupTable{part}": value
            for shift, colour in enumerate(("Red", "Green", "Blue"))
            for part, value in (
                ("Descriptor", [256, 0, 16]),
                (
                    "Data",
                    b"".join(
                        ((i * (shift + 1)) % 65_536 * 199 % 65_536).to_bytes(2, "little") for i in range(256)
                    ),
                ),
            )
        },
    }
    yield case(
        "palette",
        "PALETTE COLOR keeps its indices.",
        stack(
            "palette",
            upright(),
            sop_class=_SECONDARY_CAPTURE,
            modality="OT",
            pixels="grey8",
            elements=palette,
        ).with_volume(facts={"photometric_interpretation": "PALETTE COLOR"}),
    )


def _bits() -> EdgeCase:
    stored = (12, 16, 10, 12, 8)
    made = stack(
        "bits-stored",
        upright(),
        each=lambda place: {"BitsStored": stored[place[0]], "HighBit": stored[place[0]] - 1},
    )
    return case(
        "bits-stored",
        "BitsStored differs between planes of one volume.",
        made.with_volume(facts={"bits_stored": 16}),
    )


def _cut_off() -> EdgeCase:
    made = stack("cut-off", upright(slices=6), sop_class=CT)
    rest = 41  # bytes: less than a plane, not a whole number of rows
    broken = replace(made.objects[3], missing_bytes=rest)
    written = Made(made.volume, (*made.objects[:3], broken, *made.objects[4:]))
    found = case(
        "cut-off",
        "The pixels of one file end early: a finding, and never a value that was not there.",
        written,
        unreadable=(broken.uid,),
        findings=frozenset({"cut_off", "volume_failed"}),
    )
    return replace(found, volumes=())
