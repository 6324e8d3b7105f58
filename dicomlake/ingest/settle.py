"""A series becomes visible, whole: headers of all its instances brought together in one change."""

from __future__ import annotations

from collections.abc import Mapping

from dicomlake.catalog import blocks, reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.headers import Attributes, read_header
from dicomlake.errors import NotADicomObject, StorageError
from dicomlake.records import Finding, Instance, SeriesKey
from dicomlake.storage.objectstore import Storage

_ISSUER, _PATIENT = 0x00100021, 0x00100020


class _Original:
    """An original as something to read by range."""

    def __init__(self, storage: Storage, instance: Instance) -> None:
        self._storage, self._key, self.size = storage, instance.key, instance.size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self._storage.get(self._key, start, stop)


def settle(
    catalog: Catalog, storage: Storage, key: SeriesKey, headers: Mapping[str, Attributes] | None = None
) -> None:
    """Make a series visible with all its acknowledged instances.

    headers: by SOPInstanceUID, those at hand; the others are read from the originals. Should another
    process add instances meanwhile, it settles the series again.
    """
    with catalog.read() as view:
        instances = reader.instances_of(view, key)
        everything = reader.instances_of(view, key, conflicts=True)
    found: list[tuple[str, Attributes]] = []
    lost: list[Finding] = []
    for instance in instances:
        header = (headers or {}).get(instance.sop_instance_uid)
        try:
            found.append((instance.sop_instance_uid, header or _read(storage, instance)))
        except (StorageError, NotADicomObject) as error:
            lost.append(Finding("error", "unreadable_original", instance.sop_instance_uid, str(error)))
    if not found:
        return
    together = blocks.collect(found)
    with catalog.change("settle") as (connection, v):
        writer.settle(connection, v, key, together, sum(i.size for i in everything))
        writer.add_findings(connection, v, [*lost, *_mixed_patients(key, found)])


def _read(storage: Storage, instance: Instance) -> Attributes:
    return read_header(_Original(storage, instance)).dataset


def _mixed_patients(key: SeriesKey, headers: list[tuple[str, Attributes]]) -> list[Finding]:
    patients = {(h.elements.get(_PATIENT), h.elements.get(_ISSUER)) for _uid, h in headers}
    if len(patients) == 1:
        return []
    message = f"the series holds {len(patients)} different PatientIDs: it is listed under the first"
    return [Finding("error", "mixed_patients", key.series_uid, message)]
