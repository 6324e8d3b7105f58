"""A series becomes visible, whole: headers of all its instances brought together in one change."""

from __future__ import annotations

from collections.abc import Mapping

from dicomlake.catalog import blocks, reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import read_header
from dicomlake.errors import NotADicomObject, StorageError
from dicomlake.records import Finding, Instance, SeriesKey
from dicomlake.storage.objectstore import Storage

_ATTEMPTS = 3  # at a series as a whole, while others add to it
_ISSUER, _PATIENT = 0x00100021, 0x00100020


class Original:
    """An original as something to read by range."""

    def __init__(self, storage: Storage, instance: Instance) -> None:
        self._storage, self._key = storage, instance.key
        self.size = storage.size(instance.key)  # not as registered: it may have been damaged since

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self._storage.get(self._key, start, stop)


def settle(
    catalog: Catalog, storage: Storage, key: SeriesKey, headers: Mapping[str, Attributes] | None = None
) -> None:
    """Make a series visible with all its acknowledged instances.

    headers: by SOPInstanceUID, those at hand; the others are read from the originals.
    """
    known = dict(headers or {})
    for attempt in range(_ATTEMPTS + 1):
        if _settle(catalog, storage, key, known, whole=attempt < _ATTEMPTS):
            return


def settle_leftovers(catalog: Catalog, storage: Storage) -> None:
    """Make visible what writers acknowledged before they ended.

    Does nothing while any process takes objects in: it settles its series itself, once they are whole.
    """
    with catalog.database.alone() as alone:
        if not alone:
            return
        with catalog.read() as view:
            keys = reader.unsettled(view)
        for key in keys:
            settle(catalog, storage, key)


def _settle(
    catalog: Catalog, storage: Storage, key: SeriesKey, known: dict[str, Attributes], *, whole: bool
) -> bool:
    """Whether the series is visible; if `whole`, only as it was when its headers were read.

    known: headers by SOPInstanceUID, those that are read meanwhile among them. Where not `whole`, what came
    meanwhile is left unsettled: a series that always grows would never be visible.
    """
    with catalog.read() as view:
        instances = reader.instances_of(view, key)
        everything = reader.instances_of(view, key, conflicts=True)
    found: list[tuple[str, Attributes]] = []
    lost: list[Finding] = []
    for instance in instances:
        uid = instance.sop_instance_uid
        header = None if instance.conflict else known.get(uid)
        try:
            found.append((uid, header or read_original(storage, instance)))
        except (StorageError, NotADicomObject) as error:
            lost.append(Finding("error", "unreadable_original", uid, str(error)))
        else:
            if not instance.conflict:
                known[uid] = found[-1][1]
    if not found:
        return True
    ready = writer.settling(key, blocks.collect(found), sum(i.size for i in everything))
    with catalog.change("settle") as (connection, v):
        now = reader.instances_of(connection, key, conflicts=True)
        if now != everything and (whole or not set(everything) <= set(now)):
            return False
        later = [instance.key for instance in now if instance not in everything] if now != everything else []
        writer.make_visible(connection, v, ready, later=later)
        writer.add_findings(connection, v, [*lost, *_mixed_patients(key, found)])
    return True


def read_original(storage: Storage, instance: Instance) -> Attributes:
    """The header of an original. Raises StorageError or NotADicomObject when it cannot be read."""
    return read_header(Original(storage, instance)).dataset


def _mixed_patients(key: SeriesKey, headers: list[tuple[str, Attributes]]) -> list[Finding]:
    patients = {(h.text(_PATIENT), h.text(_ISSUER)) for _uid, h in headers}
    if len(patients) == 1:
        return []
    message = f"the series holds {len(patients)} different PatientIDs: it is listed under the first"
    return [Finding("error", "mixed_patients", key.series_uid, message)]
