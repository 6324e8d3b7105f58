"""A UID to what it opens as: image series as volumes, everything else as the object that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.walk import Readable
from dicomlake.errors import VolumeError
from dicomlake.records import Instance, SeriesKey
from dicomlake.series import Series


class Originals(Protocol):
    """What opening needs of a lake."""

    def instances(self, key: SeriesKey) -> list[Instance]:
        """The stored objects of a series."""

    def original(self, instance: Instance) -> bytes:
        """The bytes of an object."""

    def readable(self, instance: Instance) -> Readable:
        """The same, by range."""


class Lake(Originals, Protocol):
    """The same, and what finds things in it."""

    def find(self, uid: str) -> Sequence[Series]:
        """The series that a UID names, or that hold the instance of it."""


def open_uid(lake: Lake, uid: str, how: Mapping[str, Any]) -> Any:
    """What a SOPInstanceUID or SeriesInstanceUID opens as.

    Raises VolumeError when it names nothing, or several series.
    """
    found = lake.find(uid)
    if not found:
        raise VolumeError(f"the lake holds no series and no instance {uid}: see lake.series()")
    if len(found) > 1:
        raise VolumeError(f"{uid} names {len(found)} series: open one of them, see lake.find()")
    (series,) = found
    instance = next((i for i in lake.instances(series.key) if i.sop_instance_uid == uid), None)
    if instance is not None:
        from dicomlake.objects.opening import open_object, opens

        if opens(instance.sop_class_uid):
            return open_object(instance.sop_class_uid, lake.original(instance))
    return series.open(**how)


def open_series(lake: Originals, key: SeriesKey) -> Any:
    """The objects of a series that holds no stack of frames; None when it holds nothing to open."""
    from dicomlake.dicom.headers import read_header
    from dicomlake.dicom.pixels import FrameReader
    from dicomlake.objects.opening import open_objects

    instances = {i.sop_instance_uid: i for i in lake.instances(key) if not i.conflict}
    if not instances:
        return None

    def header(instance: Instance) -> Attributes:
        return read_header(lake.readable(instance)).dataset

    headers = [(uid, header(instance)) for uid, instance in instances.items()]
    return open_objects(
        headers,
        lambda uid: lake.original(instances[uid]),
        lambda uid: FrameReader(lake.readable(instances[uid])),
    )
