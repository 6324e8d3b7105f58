"""Whether objects that a peer asks about are safe: in the catalog, and byte for byte on the disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dicomlake.catalog import reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import StorageError
from dicomlake.ingest.intact import is_intact
from dicomlake.network.services.commitment import (
    CLASS_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    Failed,
    Reference,
)
from dicomlake.records import Instance
from dicomlake.storage.objectstore import Storage


class Stopped(Exception):
    """A check that was told to end; it is to be made again."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has shown.

    safe: re-read, and equal to their hash. failed: not. absent: those of the failed that may still come, or
    be readable later.
    """

    safe: tuple[Reference, ...]
    failed: tuple[Failed, ...]
    absent: int


def check(
    catalog: Catalog,
    storage: Storage,
    references: Sequence[Reference],
    known: Collection[Reference] = (),
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> Checked:
    """Look objects up and read their originals again.

    known: those that an earlier check has shown to be safe; they are not read once more.
    stopping: asked before each object. Raises Stopped when it says so.
    """
    with catalog.read() as view:
        held = reader.instances_with_uids(view, [one.sop_instance_uid for one in references])
    safe: list[Reference] = []
    failed: list[Failed] = []
    absent = 0
    for one in references:
        if stopping():
            raise Stopped
        if one in known:
            safe.append(one)
            continue
        reason, may_change = _problem(storage, one, held.get(one.sop_instance_uid, []))
        absent += may_change
        if reason:
            failed.append(Failed(*one, reason))
        else:
            safe.append(one)
    return Checked(tuple(safe), tuple(failed), absent)


def _problem(storage: Storage, reference: Reference, held: Sequence[Instance]) -> tuple[int, bool]:
    """FailureReason, 0 for none, and whether that may change by itself.

    Where several objects have one UID all are kept, and which of them the peer means is not known: all have
    to be well.
    """
    if not held:
        return NO_SUCH_INSTANCE, True
    alike = [one for one in held if one.sop_class_uid == reference.sop_class_uid]
    if not alike:
        return CLASS_CONFLICT, False
    try:
        well = all(is_intact(storage, one) for one in alike)
    except StorageError:
        return PROCESSING_FAILURE, True
    return (0, False) if well else (PROCESSING_FAILURE, False)
