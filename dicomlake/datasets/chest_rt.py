"""chest-rt: structure set, plan, dose and segmentation that refer to the chest CT of the same arguments."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets import chest_ct
from dicomlake.datasets._chest import NODULES, Nodule
from dicomlake.datasets._noise import Floats
from dicomlake.datasets._rt_objects import (
    DOSE_CLASS,
    NAME,
    PLAN_CLASS,
    STRUCTURE_SET_CLASS,
    TIME,
    Objects,
    objects,
    shared,
)
from dicomlake.datasets._rt_regions import SEGMENTS, drawn, nodule_map, segment_maps
from dicomlake.datasets._rt_segmentation import segmentation
from dicomlake.datasets._rt_structure_set import structure_set
from dicomlake.datasets._truth import AXIAL, Planes, Truth, centred, ds, ds_list, uid

__all__ = [
    "DOSE_GRID_SCALING",
    "DOSE_SHAPE",
    "NAME",
    "NODULES",
    "SEGMENTS",
    "SLICES",
    "Objects",
    "dose_gy",
    "dose_planes",
    "nodule_map",
    "objects",
    "segment_maps",
    "stored_dose",
    "truth",
    "write",
]

SLICES = chest_ct.SLICES
DOSE_SHAPE = (49, 72, 96)  # z, y, x
PRESCRIBED_GY = 60
DOSE_GRID_SCALING = Fraction(1, 2000)  # Gy for each stored unit
_DOSE_PIXEL_MM = Fraction(4)
_TARGET: Nodule = NODULES[0]


def dose_planes() -> Planes:
    """The dose grid: 4 mm cubes around the middle of the chest."""
    return centred(
        AXIAL,
        rows=DOSE_SHAPE[1],
        columns=DOSE_SHAPE[2],
        pixel_mm=_DOSE_PIXEL_MM,
        step_mm=Fraction(4),
        count=DOSE_SHAPE[0],
        centre=(Fraction(0), Fraction(0), Fraction(40)),
    )


def dose_gy(z_mm: ArrayLike, y_mm: ArrayLike, x_mm: ArrayLike) -> Floats:
    """Absorbed dose at positions in LPS mm, which broadcast, before rounding to the grid's scaling.

    60 Gy / (1 + (r / 30 mm)^4) around the largest nodule, r being the distance from its centre with
    x counted double: flat in the target, steep outside.
    """
    z, y, x = (
        np.asarray(p, np.float64) - c for p, c in zip((z_mm, y_mm, x_mm), _TARGET.centre[::-1], strict=True)
    )
    share = (4.0 * (x * x) + (y * y + z * z)) / 900.0
    return np.asarray(PRESCRIBED_GY / (1.0 + share * share))


def truth(slices: int = SLICES, seed: int = 0) -> Truth:
    """What the dose must read back as."""
    grid, ct = dose_planes(), chest_ct.truth(slices, seed)
    return Truth(
        name=NAME,
        dims=("z", "y", "x"),
        shape=DOSE_SHAPE,
        spacing_mm=grid.spacing_mm,
        affine_lps=grid.affine_lps,
        units="GY",
        study_uid=ct.study_uid,
        series_uid=uid(NAME, seed, slices, "RTDOSE"),
        frame_of_reference_uid=ct.frame_of_reference_uid,
        instance_uids=(objects(slices, seed).dose_uid,),
    )


def write(folder: Path, *, slices: int, seed: int) -> None:
    """Write the four objects; the chest-ct of the same slices and seed is what they refer to."""
    planes = [drawn(index, slices) for index in range(slices)]
    for name, elements in (
        ("RS0001.dcm", structure_set(slices, seed, planes)),
        ("RP0001.dcm", _plan(slices, seed)),
        ("RD0001.dcm", _dose(slices, seed)),
        ("SG0001.dcm", segmentation(slices, seed, planes)),
    ):
        made = h.dataset(elements)
        h.add_private(made, (NAME, seed))
        h.write(made, folder / name)


def _plan(slices: int, seed: int) -> h.Elements:
    """RT Plan IOD (PS3.3 A.20): only what the dose has to refer to; no beam is described."""
    these = objects(slices, seed)
    return {
        **shared("RTPLAN", "30 fractions of 2 Gy", 102, slices, seed),
        **h.instance(PLAN_CLASS, these.plan_uid, number=1, time=TIME),
        "RTPlanLabel": "LUNG60",
        "RTPlanDate": h.DATE,
        "RTPlanTime": TIME,
        "RTPlanGeometry": "PATIENT",
        "PlanIntent": "RESEARCH",
        "ApprovalStatus": "UNAPPROVED",
        "ReferencedStructureSetSequence": [h.reference(STRUCTURE_SET_CLASS, these.structure_set_uid)],
        "FractionGroupSequence": [
            {
                "FractionGroupNumber": 1,
                "NumberOfFractionsPlanned": 30,
                "NumberOfBeams": 0,
                "NumberOfBrachyApplicationSetups": 0,
            }
        ],
    }


def stored_dose() -> NDArray[np.uint32]:
    """The dose grid in units of DOSE_GRID_SCALING, shape (z, y, x) = DOSE_SHAPE."""
    grid = dose_planes()
    x0, y0, z0 = (float(value) for value in grid.origin)
    z, y, x = (o + 4.0 * np.arange(n) for o, n in zip((z0, y0, x0), DOSE_SHAPE, strict=True))
    gy = dose_gy(z[:, None, None], y[:, None], x)
    return np.rint(gy * float(1 / DOSE_GRID_SCALING)).astype(np.uint32)


def _dose(slices: int, seed: int) -> h.Elements:
    """RT Dose IOD (PS3.3 A.18): a grid of its own in the frame of reference of the CT."""
    these, grid = objects(slices, seed), dose_planes()
    return {
        **shared("RTDOSE", "Dose of the plan", 103, slices, seed),
        **h.instance(DOSE_CLASS, these.dose_uid, number=1, time=TIME),
        **h.plane_geometry(grid, thickness_mm=grid.step_mm),
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
        "ContentDate": h.DATE,
        "ContentTime": TIME,
        "ImagePositionPatient": ds_list(grid.origin),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": DOSE_SHAPE[1],
        "Columns": DOSE_SHAPE[2],
        "BitsAllocated": 32,
        "BitsStored": 32,
        "HighBit": 31,
        "PixelRepresentation": 0,
        "NumberOfFrames": DOSE_SHAPE[0],
        "FrameIncrementPointer": 0x3004000C,
        "GridFrameOffsetVector": ds_list([index * grid.step_mm for index in range(DOSE_SHAPE[0])]),
        "DoseUnits": "GY",
        "DoseType": "PHYSICAL",
        "DoseSummationType": "PLAN",
        "DoseGridScaling": ds(DOSE_GRID_SCALING),
        "TissueHeterogeneityCorrection": "IMAGE",
        "DoseComment": "Closed form, no beam model",
        "ReferencedRTPlanSequence": [h.reference(PLAN_CLASS, these.plan_uid)],
        "ReferencedStructureSetSequence": [h.reference(STRUCTURE_SET_CLASS, these.structure_set_uid)],
        "PixelData": stored_dose().astype("<u4").tobytes(),
    }
