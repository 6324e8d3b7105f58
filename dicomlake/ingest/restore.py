"""A catalog from the originals alone: what `rebuild` fills a fresh catalog with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from dicomlake.catalog import reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import HeaderReader
from dicomlake.errors import NotADicomObject, StorageError
from dicomlake.ingest.conflict import conflict, conflict_finding, header_of
from dicomlake.ingest.settle import settle
from dicomlake.ingest.take import problem_findings
from dicomlake.progress import progress
from dicomlake.records import Finding, Instance, Refused, SeriesKey
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage

_BATCH = 256
_Read = tuple[Instance, Attributes, list[Finding]]


def restore(catalog: Catalog, storage: Storage, *, show: bool | None = None) -> tuple[int, list[Finding]]:
    """Register every original and quarantined object of a lake in an empty catalog, settle all series.

    Returns how many originals there are, and findings about those that cannot be read; they stay.
    """
    keys = [key for key in storage.list(layout.STUDIES) if layout.parse_original_key(key)]
    troubles: list[Finding] = []
    waiting: dict[SeriesKey, dict[str, Attributes]] = {}
    with (
        ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as readers,
        progress("read originals", len(keys), unit="objects", show=show) as bar,
    ):
        for batch in _batched(iter(keys)):
            found = list(readers.map(lambda key: _read(storage, key), batch))
            troubles += [one for one in found if isinstance(one, Finding)]
            _register(catalog, storage, [one for one in found if not isinstance(one, Finding)], waiting)
            _settle_complete(catalog, storage, waiting, batch[-1])
            bar.advance(len(batch))
    _settle_complete(catalog, storage, waiting, "")
    _restore_quarantine(catalog, storage)
    if troubles:
        with catalog.change("rebuild") as (connection, v):
            writer.add_findings(connection, v, troubles)
    return len(keys), troubles


def _batched(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, _BATCH)):
        yield batch


def _read(storage: Storage, key: str) -> _Read | Finding:
    """The record of an original, from its bytes and its place."""
    place = layout.parse_original_key(key)
    assert place is not None  # only such keys are asked for
    try:
        data = storage.get(key)
        header = HeaderReader().read(data)
    except (StorageError, NotADicomObject) as error:
        return Finding("error", "unreadable_original", place.sop, f"the original cannot be read: {error}")
    dataset = header.dataset
    sop, series, study = (
        dataset.text(k) or "" for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    )
    if layout.original_key(study, series, sop, conflict=place.sha, whole=len(place.sha or "") > 8) != key:
        return Finding(
            "error", "misplaced", place.sop, "the original's UIDs are not those of its place: move it"
        )
    instance = Instance(
        sop,
        dataset.text("SOPClassUID") or "",
        SeriesKey(study, series),
        header.transfer_syntax,
        key,
        len(data),
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(memoryview(data)[header.dataset_offset :]).hexdigest(),
        conflict=place.sha is not None,
    )
    return instance, dataset, list(problem_findings(sop, header.problems))


def _register(
    catalog: Catalog,
    storage: Storage,
    found: list[_Read],
    waiting: dict[SeriesKey, dict[str, Attributes]],
) -> None:
    if not found:
        return
    with catalog.change("rebuild") as (connection, v):
        known = reader.instances_with_uids(connection, [one.sop_instance_uid for one, _h, _f in found])
        writer.add_instances(connection, v, [instance for instance, _header, _findings in found])
        writer.add_findings(connection, v, [f for _i, _h, findings in found for f in findings])
        writer.add_findings(connection, v, _conflicts(storage, found, known))
    for instance, header, _findings in found:
        if not instance.conflict:
            waiting.setdefault(instance.series, {})[instance.sop_instance_uid] = header


def _conflicts(storage: Storage, found: list[_Read], known: dict[str, list[Instance]]) -> Iterator[Finding]:
    """Findings about objects whose SOPInstanceUID one before them has."""
    headers = {instance.key: header for instance, header, _findings in found}
    for instance, header, _findings in found:
        others = known.setdefault(instance.sop_instance_uid, [])
        if others:
            other = headers.get(others[0].key) or header_of(storage, others[0])
            yield conflict_finding(instance.sop_instance_uid, conflict(header, other))
        others.append(instance)


def _settle_complete(
    catalog: Catalog, storage: Storage, waiting: dict[SeriesKey, dict[str, Attributes]], last: str
) -> None:
    """Settle the series that no later key belongs to: keys come in order."""
    for key in list(waiting):
        if not last.startswith(layout.series_prefix(*key) + "/"):
            settle(catalog, storage, key, waiting.pop(key))


def _restore_quarantine(catalog: Catalog, storage: Storage) -> None:
    refused: list[Refused] = []
    for key in storage.list(layout.QUARANTINE):
        if not key.endswith(".json"):
            continue
        try:
            note = json.loads(storage.get(key))
            refused.append(Refused(note["sha256"], note["size"], note["reason"], note["origin"]))
        except (StorageError, ValueError, KeyError):
            continue  # the bytes beside it stay; verify names them
    if refused:
        with catalog.change("rebuild") as (connection, v):
            writer.add_refused(connection, v, refused)
