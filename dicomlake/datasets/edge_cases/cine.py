"""Runs of frames without a place in the patient: ultrasound, X-ray, single bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicomlake.datasets.edge_cases.building import case
from dicomlake.datasets.edge_cases.grids import upright
from dicomlake.datasets.edge_cases.multiframe import one_object, truth, without_space
from dicomlake.datasets.edge_cases.records import EdgeCase, Pixels

_US, _XA = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.12.1"
_SINGLE_BIT = "1.2.840.10008.5.1.4.1.1.7.1"
_FRAME_TIME = 0x00181063


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    run: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "FrameIncrementPointer": [_FRAME_TIME],
        "FrameTime": "40",
        "FrameOfReferenceUID": None,
    }
    yield _run("us-cine", "A colour ultrasound run.", _US, "US", run, pixels="rgb")
    yield _run(
        "xa-run",
        "An X-ray angiography run of 12 bits.",
        _XA,
        "XA",
        run
        | {
            "ImageType": ["ORIGINAL", "PRIMARY", "SINGLE PLANE"],
            "BitsStored": 12,
            "HighBit": 11,
            "ImagerPixelSpacing": ["0.3", "0.2"],
            "PositionerMotion": "STATIC",
        },
    )
    yield _run(
        "single-bits",
        "Frames of single bits that do not end at a byte.",
        _SINGLE_BIT,
        "OT",
        run | {"ImageType": ["DERIVED", "SECONDARY"]},
        pixels="bit",
    )


def _run(
    name: str, story: str, sop_class: str, modality: str, said: dict[str, Any], *, pixels: Pixels = "grey16"
) -> EdgeCase:
    grid = upright(slices=9, rows=5, columns=7)  # 35 voxels: single bits fill no byte
    order = list(range(grid.slices))
    placed = truth(name, grid, order, pixels=pixels)
    volume = without_space(placed, ("frame", *placed.dims[1:]), placed.shape)
    made = one_object(name, volume, order, sop_class=sop_class, modality=modality, elements=said)
    return case(name, story, made)
