"""What a builder does for the engine: it makes one volume and says what came of it, without the catalog."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dicomlake.dicom.frames import Frame
from dicomlake.dicom.pixels import frame_hash
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import Instance, Volume
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes import originals
from dicomlake.volumes.plan import Plan
from dicomlake.volumes.storing import build


class Built(NamedTuple):
    """A volume, or why there is none."""

    volume: Volume | None
    error: DicomlakeError | None = None


def build_here(storage: Storage, one: Plan, instances: Mapping[str, Instance]) -> Built:
    """The volume, or what kept it from being built; an error that nobody foresaw is raised."""
    try:
        return Built(build(storage, one, instances))
    except DicomlakeError as error:
        return Built(None, error)
    except MemoryError:
        return Built(None, VolumeError("it does not fit into memory"))


def build_elsewhere(storage: Storage, one: Plan, instances: Mapping[str, Instance]) -> Built:
    """The same in another process: with a writer of its own, which ends with the task."""
    mine = copy.copy(storage)
    try:
        return build_here(mine, one, instances)
    finally:
        mine.close()


def pixel_hash(storage: Storage, instances: Mapping[str, Instance]) -> Callable[[Frame], bytes | None]:
    """The hash of a frame's decoded values, to prove that it is a duplicate of another one."""
    stored = originals.stored(storage, instances)

    def hashed(frame: Frame) -> bytes | None:
        source = originals.Source(frame.sop_instance_uid, frame.frame_index, frame.tile)
        try:
            values = stored.frame(frame.sop_instance_uid, frame.frame_index)
            return frame_hash(originals.cut(values, source, frame.pixel.shape, values.dtype))
        except DicomlakeError:
            return None

    return hashed


def told(error: BaseException) -> str:
    """Our own words, or the kind of an error that nobody foresaw: its text may hold anything."""
    if isinstance(error, DicomlakeError):
        return str(error)
    kind = type(error).__name__
    return f"it ended with an unexpected {kind}: build it again, and report it if that does not help"
