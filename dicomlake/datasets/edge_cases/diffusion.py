"""Diffusion series: b-values and directions in standard elements and in the private ones of four makers."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from math import nan

from dicomlake.datasets._headers import Elements
from dicomlake.datasets._truth import clock
from dicomlake.datasets.edge_cases.building import Axis, case, stack
from dicomlake.datasets.edge_cases.grids import OBLIQUE, upright
from dicomlake.datasets.edge_cases.objects import MR, Private
from dicomlake.datasets.edge_cases.records import Coordinate, EdgeCase, Vector

_B = (0.0, 1000.0, 1000.0, 1000.0)
_GRADIENTS: tuple[Vector, ...] = ((nan, nan, nan), (0.0, 0.6, 0.8), (0.6, 0.0, -0.8), (1.0, 0.0, 0.0))
_THREE_B = (0.0, 500.0, 1000.0)


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    standard: list[Elements] = []
    for b, gradient in zip(_B, _GRADIENTS, strict=True):
        said: Elements = {"DiffusionBValue": b, "DiffusionDirectionality": "DIRECTIONAL" if b else "NONE"}
        standard.append(said | ({"DiffusionGradientOrientation": list(gradient)} if b else {}))
    yield _case("diffusion", "b-values and directions in the standard's elements.", "", standard)
    siemens = [
        _siemens("UN", struct.pack("<3d", *g) if b else None, f"{b:.0f}".encode() + b" " * (b == 0))
        for b, g in zip(_B, _GRADIENTS, strict=True)
    ]
    yield _case(
        "diffusion-siemens-unknown-vr",
        "Siemens' private b-value as digits and its direction as doubles, both of VR UN.",
        "SIEMENS",
        private=siemens,
    )
    as_text = [
        _siemens("LO", None if not b else "\\".join(map(str, g)), f"{b:.0f}")
        for b, g in zip(_B, _GRADIENTS, strict=True)
    ]
    yield _case(
        "diffusion-siemens-text",
        "Siemens' private b-value and direction rewritten as text, VR LO.",
        "SIEMENS",
        private=as_text,
    )
    yield from _b_only()
    yield _repeated()


def _siemens(vr: str, gradient: object, b: object) -> tuple[Private, ...]:
    found = (Private(0x0019, "SIEMENS MR HEADER", 0x0C, vr, b),)
    if gradient is None:
        return found
    return (*found, Private(0x0019, "SIEMENS MR HEADER", 0x0E, vr, gradient))


def _b_only() -> Iterator[EdgeCase]:
    """Three b-values; their directions, which these makers give in frames of their own, are not there."""
    offset = 1_000_000_000  # GE adds it to the b-value
    ge = [
        (Private(0x0043, "GEMS_PARM_01", 0x39, "IS", [offset + int(b) if b else 0, 8, 0, 0]),)
        for b in _THREE_B
    ]
    yield _case(
        "diffusion-ge",
        "GE's private b-value, with a thousand million added.",
        "GE MEDICAL SYSTEMS",
        private=ge,
    )
    uih = [(Private(0x0065, "Image Private Header", 0x09, "FD", b),) for b in _THREE_B]
    yield _case("diffusion-uih", "United Imaging's private b-value.", "UIH", private=uih)
    philips = [(Private(0x2001, "Philips Imaging DD 001", 0x03, "FL", b),) for b in _THREE_B]
    yield _case("diffusion-philips", "Philips' private b-value.", "Philips Medical Systems", private=philips)


def _repeated() -> EdgeCase:
    """Two images without weighting at each place: the axis holds both, as they were taken."""
    name, b, after_s = "diffusion-repeated-zero", (0.0, 0.0, 700.0, 1400.0), (0, 4, 8, 12)
    says = tuple(
        {
            "DiffusionBValue": value,
            "AcquisitionTime": clock(36_000 + seconds),
            "ContentTime": clock(36_000 + seconds),
            "AcquisitionNumber": 1 + seconds // 4,
        }
        for value, seconds in zip(b, after_s, strict=True)
    )
    axis = Axis("b", says, (Coordinate("b", ("b",), b, "s/mm2"),))
    made = stack(
        name,
        upright(OBLIQUE, slices=4),
        axes=(axis,),
        sop_class=MR,
        modality="MR",
    )
    return case(name, "b of zero twice: both are on the axis, in the order they were taken.", made)


def _case(
    name: str,
    story: str,
    maker: str,
    says: Sequence[Elements] = (),
    private: Sequence[tuple[Private, ...]] = (),
) -> EdgeCase:
    directed = len(says or private) == len(_B)
    coordinates: tuple[Coordinate, ...] = (Coordinate("b", ("b",), _B if directed else _THREE_B, "s/mm2"),)
    if directed:
        coordinates += (Coordinate("gradient", ("b", "lps"), _GRADIENTS),)
    axis = Axis("b", tuple(says) or ({},) * len(private), coordinates, tuple(private))
    made = stack(
        name,
        upright(OBLIQUE, slices=4),
        axes=(axis,),
        sop_class=MR,
        modality="MR",
        elements={"Manufacturer": maker} if maker else {},
    )
    return case(name, story, made)
