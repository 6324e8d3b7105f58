"""Series that are easily misread, small, with the truth about them: `cases()`.

Every voxel tells its place, so one comparison of arrays covers order, orientation and value. The truth
follows from how a case is made and from PS3.3, not from any reader.
"""

from __future__ import annotations

from dicomlake.datasets.edge_cases.records import Coordinate, EdgeCase, VolumeTruth

__all__ = ["Coordinate", "EdgeCase", "VolumeTruth", "cases"]


def cases() -> tuple[EdgeCase, ...]:
    """All edge cases; their files are made when they are asked for, the same bytes each time."""
    from dicomlake.datasets.edge_cases import (
        cine,
        diffusion,
        enhanced,
        gaps,
        mixtures,
        mosaics,
        nuclear,
        repeats,
        stacks,
        values,
    )

    modules = (stacks, gaps, mixtures, repeats, diffusion, values, enhanced, nuclear, mosaics, cine)
    return tuple(case for module in modules for case in module.cases())
