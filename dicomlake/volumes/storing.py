"""Where the voxels of a volume are kept: copied into chunks, or in the originals alone.

Uncompressed originals may be read in place, when that is wanted. Loops in colour and lossy compression always
are: their voxels would take many times the bytes of the originals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dicomlake.dicom.headers import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicomlake.records import Instance, Volume
from dicomlake.settings import Mode
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes import build as copying
from dicomlake.volumes.manifest import COPY, REFERENCE
from dicomlake.volumes.plan import Plan
from dicomlake.volumes.virtual import build_reference

_UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
# JPEG processes 1, 2 and 4, 6 and 8, 10 and 12; JPEG-LS near-lossless; JPEG 2000, HTJ2K and JPEG XL that
# may be either
_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{tail}" for tail in (50, 51, 53, 55, 81, 91, 203, 111, 112))


def decided(plan: Plan, instances: Mapping[str, Instance], wanted: Mode) -> Plan:
    """The plan, with `stored` in its `info`: "copy" or "reference", so that it counts for the plan's digest.

    instances: by SOPInstanceUID, those of the series. wanted: for volumes that may be either.
    """
    if not plan.buildable:
        return plan
    uids = {frame.sop_instance_uid for frame in plan.frames}
    syntaxes = {instances[uid].transfer_syntax if uid in instances else "" for uid in uids}
    in_place = _is_lossy_loop(plan, syntaxes) or (wanted == REFERENCE and syntaxes <= _UNCOMPRESSED)
    said = {"stored": REFERENCE, "levels": 1} if in_place else {"stored": COPY}
    return replace(plan, volume=replace(plan.volume, info=plan.volume.info | said))


def _is_lossy_loop(plan: Plan, syntaxes: set[str]) -> bool:
    """Several frames an object, in colour, with lossy compression."""
    several = any(frame.frame_index for frame in plan.frames)
    return "rgb" in plan.volume.dims and several and syntaxes <= _LOSSY


def build(storage: Storage, plan: Plan, instances: Mapping[str, Instance]) -> Volume:
    """Make the store of a planned volume, as `decided` said; raises what the two ways raise."""
    if plan.volume.info.get("stored") == REFERENCE:
        return build_reference(storage, plan, instances)
    return copying.build(storage, plan, instances)
