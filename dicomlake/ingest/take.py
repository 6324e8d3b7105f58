"""A batch of objects: examined, made durable, registered; only then are they acknowledged.

The order is that of DESIGN: staged beside their place, fsynced, put in place, folders fsynced, one
catalog commit. Two writers may take the same object at once: the first file under a key stays, and what
the catalog lacks is settled inside the transaction, under its write lock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from dicomlake.catalog import reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import HeaderReader, read_header
from dicomlake.errors import NotADicomObject, StorageError
from dicomlake.ingest import sources
from dicomlake.ingest.conflict import conflict, conflict_finding, header_of
from dicomlake.ingest.examine import Examined, Unusable, examine, sha256_of
from dicomlake.ingest.report import ALREADY, CONFLICT, REFUSED, SKIPPED, STORED, Entry
from dicomlake.ingest.settle import Original
from dicomlake.records import Finding, Instance, Refused, SeriesKey
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Staged, Storage

_BITE = 4 << 20  # bytes of objects that are held at once
_ORIGIN = 1000  # characters of an origin that are kept
_QUARANTINED = 1 << 30  # bytes of a refused archive that are still copied
_SAME = "the same object is in the lake"


@dataclass(slots=True)
class Taken:
    """What became of a batch; headers of the new instances by series, for those who settle them."""

    entries: list[Entry] = field(default_factory=list)
    headers: dict[SeriesKey, list[tuple[str, Attributes]]] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """An object that is new, where it is to lie, and how it differs from an older one of its UID."""

    object: Examined
    instance: Instance
    conflict: str


@dataclass(slots=True)
class _Batch:
    """A batch under way.

    known: stored or planned objects by SOPInstanceUID. staged: the files of the plans, in their order.
    """

    known: dict[str, list[Instance]] = field(default_factory=dict)
    plans: list[_Plan] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    bad: list[Unusable] = field(default_factory=list)


def take(catalog: Catalog, storage: Storage, items: Sequence[sources.Item], *, link: bool = False) -> Taken:
    """Take a batch in; afterwards everything reported as stored is durable and in the catalog."""
    headers = HeaderReader()
    taken, batch = Taken(), _Batch()
    try:
        for bite in _bites(items):
            good = _examine_all(bite, headers, batch, taken)
            _stage_new(catalog, storage, good, batch, taken, link)
    except BaseException:
        storage.discard(batch.staged)
        raise
    else:
        _store(catalog, storage, batch, taken)
    finally:
        for item in items:
            if not isinstance(item, sources.Skipped) and item.content is not None:
                item.content.close()
    return taken


def _bites(items: Sequence[sources.Item]) -> Iterator[list[sources.Item]]:
    """Few enough at once that their bytes are still in the processor's cache when they are written."""
    bite: list[sources.Item] = []
    size = 0
    for item in items:
        bite.append(item)
        size += 0 if isinstance(item, sources.Skipped) or item.content is None else item.content.size
        if size >= _BITE:
            yield bite
            bite, size = [], 0
    if bite:
        yield bite


def _examine_all(
    items: Sequence[sources.Item], headers: HeaderReader, batch: _Batch, taken: Taken
) -> list[Examined]:
    good: list[Examined] = []
    for item in items:
        if isinstance(item, sources.Skipped):
            taken.entries.append(Entry(item.origin, SKIPPED, item.reason))
        elif isinstance(item, sources.Refused):
            batch.bad.append(_unusable(item))
        else:
            found = examine(item, headers)
            if isinstance(found, Examined):
                good.append(found)
                taken.bytes += found.size
            else:
                batch.bad.append(found)
    return good


def _stage_new(
    catalog: Catalog, storage: Storage, good: Sequence[Examined], batch: _Batch, taken: Taken, link: bool
) -> None:
    """Write what is new aside, and let go of its bytes."""
    uids = [one.sop_instance_uid for one in good if one.sop_instance_uid not in batch.known]
    if uids:
        with catalog.read() as view:
            batch.known |= reader.instances_with_uids(view, uids)
    for plan in _plan(storage, good, batch, taken):
        one = plan.object
        try:
            staged = _stage(storage, one, plan.instance.key, link)
        except OSError as error:
            batch.known[one.sop_instance_uid].remove(plan.instance)
            reason = f"cannot be read to the end ({error}): ingest it again when it is at rest"
            batch.bad.append(Unusable(one.origin, reason, None, size=one.size))
            continue
        batch.staged.append(staged)
        batch.plans.append(replace(plan, object=replace(one, data=None)))


def _unusable(item: sources.Refused) -> Unusable:
    """What a source could not deliver whole; its bytes are kept where there are any, and not too many."""
    content = item.content
    if content is None:
        return Unusable(item.origin, item.reason, None)
    if content.size > _QUARANTINED:
        reason = f"{item.reason} (too large for quarantine: only listed)"
        return Unusable(item.origin, reason, None, size=content.size)
    try:
        sha256 = sha256_of(content)
    except OSError:
        return Unusable(item.origin, item.reason, None, size=content.size)
    return Unusable(item.origin, item.reason, content, None, sha256, content.size)


def _store(catalog: Catalog, storage: Storage, batch: _Batch, taken: Taken) -> None:
    """Make the batch durable and visible, then register it."""
    created = storage.publish(batch.staged)
    plans = [p if new else _beside(storage, p) for p, new in zip(batch.plans, created, strict=True)]
    refused = _quarantine(storage, batch.bad, taken)
    if not plans and not refused:
        return
    with catalog.change("ingest") as (connection, v):
        others = reader.instances_with_uids(connection, [plan.instance.sop_instance_uid for plan in plans])
        present = {one.key for found in others.values() for one in found}
        new = [_late(storage, plan, others) for plan in plans if plan.instance.key not in present]
        writer.add_instances(connection, v, [plan.instance for plan in new])
        writer.add_findings(connection, v, [found for plan in new for found in _findings(plan)])
        writer.add_refused(connection, v, refused)
    for plan in new:
        _acknowledge(plan, taken)
    for plan in plans:
        if plan.instance.key in present:  # another writer was first
            taken.entries.append(_entry(plan.object, ALREADY, _SAME))


def _acknowledge(plan: _Plan, taken: Taken) -> None:
    """Say what became of an object, now that it is durable and in the catalog."""
    one = plan.object
    taken.entries.append(_entry(one, CONFLICT if plan.conflict else STORED, plan.conflict))
    headers = taken.headers.setdefault(one.series, [])
    if not plan.instance.conflict:
        headers.append((one.sop_instance_uid, one.header))


def _plan(storage: Storage, good: Sequence[Examined], batch: _Batch, taken: Taken) -> list[_Plan]:
    """Which objects are new and where they go; those that are not are reported."""
    plans: list[_Plan] = []
    for one in good:
        others = batch.known.setdefault(one.sop_instance_uid, [])
        same = [o for o in others if one.sha256 == o.sha256 or _same_data_set(one, o)]
        planned = {p.instance.key for p in (*batch.plans, *plans)} if same else set()
        stored = [o for o in same if o.sha256 == one.sha256 and o.key not in planned]
        lost = next((o for o in stored if not storage.exists(o.key)), None)
        if lost is not None:  # in the catalog, but its original is gone: this one takes its place
            plans.append(_Plan(one, lost, ""))
            continue
        if same:
            taken.entries.append(_entry(one, ALREADY, _SAME))
            continue
        used = {other.key for other in others}
        instance = instance_at(one, next(key for key in places(one) if key not in used))
        message = ""
        if others:
            first = (p for p in (*batch.plans, *plans) if p.instance.key == others[0].key)
            of_first = next((p.object.header for p in first), None)
            message = conflict(one.header, of_first or header_of(storage, others[0]))
        others.append(instance)
        plans.append(_Plan(one, instance, message))
    return plans


def _same_data_set(one: Examined, other: Instance) -> bool:
    """The same bytes in another transfer syntax mean something else."""
    return one.dataset_sha256 == other.dataset_sha256 and one.transfer_syntax == other.transfer_syntax


def _entry(one: Examined, outcome: str, detail: str) -> Entry:
    return Entry(one.origin, outcome, detail, one.sop_instance_uid, one.series.series_uid, one.size)


def places(one: Examined) -> tuple[str, str, str]:
    """The keys it may have: the plain name in its series, or where that is taken one with its hash."""
    uids = (*one.series, one.sop_instance_uid)
    return (
        layout.original_key(*uids),
        layout.original_key(*uids, conflict=one.sha256),
        layout.original_key(*uids, conflict=one.sha256, whole=True),
    )


def instance_at(one: Examined, key: str) -> Instance:
    """The record of an object under one of its places."""
    return Instance(
        one.sop_instance_uid,
        one.sop_class_uid,
        one.series,
        one.transfer_syntax,
        key,
        one.size,
        one.sha256,
        one.dataset_sha256,
        conflict=key != layout.original_key(*one.series, one.sop_instance_uid),
    )


def _findings(plan: _Plan) -> Iterator[Finding]:
    uid = plan.object.sop_instance_uid
    if plan.conflict:
        yield conflict_finding(uid, plan.conflict)
    yield from problem_findings(uid, plan.object.problems)


def problem_findings(uid: str, problems: Sequence[str]) -> Iterator[Finding]:
    """What the header reader noticed, as findings about the object."""
    for problem in problems:
        if "cut off" in problem or "ends inside" in problem:
            yield Finding("error", "cut_off", uid, problem)
        else:
            yield Finding("info", "odd_encoding", uid, problem)


def _stage(storage: Storage, one: Examined, key: str, link: bool) -> Staged:
    path = one.content.path
    if link and path is not None:
        return storage.stage(key, path, link=True)
    return storage.stage(key, _bytes(one))


def _bytes(one: Examined) -> bytes | Iterable[bytes]:
    return one.data if one.data is not None else _unchanged(one)


def _unchanged(one: Examined) -> Iterator[bytes]:
    """The bytes once more, which must still be those that were hashed; OSError when they are not."""
    digest = hashlib.sha256()
    for chunk in one.content.chunks():
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != one.sha256:
        raise OSError("it changed while it was read")


def _beside(storage: Storage, plan: _Plan) -> _Plan:
    """The key was taken by a writer that is not in the catalog, or not yet: it holds the same, or a conflict.

    Where that writer ended early, what lies there is registered by whoever brings the same object again.
    """
    one, message = plan.object, plan.conflict
    keys = places(one)
    for key in keys[keys.index(plan.instance.key) :]:
        if key != plan.instance.key and storage.put(key, _bytes(one)):
            return _Plan(one, instance_at(one, key), message)
        present, header = present_at(storage, instance_at(one, key))
        if present.dataset_sha256 == one.dataset_sha256:
            return _Plan(one, present, message)
        message = message or conflict(one.header, header)
    raise StorageError(
        f"another object lies where {one.sop_instance_uid} belongs: run `dicomlake verify` and move it away"
    )


def present_at(storage: Storage, instance: Instance) -> tuple[Instance, Attributes | None]:
    """What lies under the key of an instance, and its header; None when it is no DICOM object."""
    original = Original(storage, instance)
    try:
        header = read_header(original)
    except NotADicomObject:
        sha256 = _sha256(original)
        return replace(instance, size=original.size, sha256=sha256, dataset_sha256=sha256), None
    found = replace(
        instance,
        transfer_syntax=header.transfer_syntax,
        size=original.size,
        sha256=_sha256(original),
        dataset_sha256=_sha256(original, header.dataset_offset),
    )
    return found, header.dataset


def _sha256(original: Original, start: int = 0) -> str:
    digest = hashlib.sha256()
    while chunk := original.read(start, start + _BITE):
        digest.update(chunk)
        start += len(chunk)
    return digest.hexdigest()


def _late(storage: Storage, plan: _Plan, others: dict[str, list[Instance]]) -> _Plan:
    """The plan, in conflict with what another writer registered meanwhile, perhaps in another series.

    One that is in conflict already, because this object lies under the plain name, has been told.
    """
    mine = plan.instance
    found = [o for o in others.get(mine.sop_instance_uid, []) if not (o.conflict and o.series == mine.series)]
    if plan.conflict or not found:
        return plan
    return replace(plan, conflict=conflict(plan.object.header, header_of(storage, found[0])))


def _quarantine(storage: Storage, bad: Sequence[Unusable], taken: Taken) -> list[Refused]:
    """Keep what was refused, with its reason beside it; return what the catalog has to list."""
    kept: list[Refused] = []
    staged: list[Staged] = []
    try:
        for one in bad:
            taken.entries.append(Entry(one.origin, REFUSED, one.reason, size=one.size))
            data = one.data if one.data is not None else one.content.chunks() if one.content else None
            if not one.sha256 or data is None:
                continue
            refused = Refused(one.sha256, one.size, one.reason, one.origin[:_ORIGIN])
            note = json.dumps(asdict(refused), indent=1).encode()
            staged.append(storage.stage(layout.quarantine_key(one.sha256), data))
            staged.append(storage.stage(layout.quarantine_note_key(one.sha256), note))
            kept.append(refused)
    except BaseException:
        storage.discard(staged)
        raise
    created = storage.publish(staged)[1::2]
    return [one if new else noted(storage, one) for one, new in zip(kept, created, strict=True)]


def noted(storage: Storage, refused: Refused) -> Refused:
    """What the note says that was there before; the catalog is to say the same."""
    try:
        return Refused(**json.loads(storage.get(layout.quarantine_note_key(refused.sha256))))
    except (StorageError, ValueError, TypeError):  # `verify` names it
        return refused
