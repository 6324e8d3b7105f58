"""A batch of objects: examined, made durable, registered; only then are they acknowledged.

The order is that of DESIGN: staged beside their place, fsynced, put in place, folders fsynced, one
catalog commit. Two writers may take the same object at once: the first file under a key stays, and what
the catalog lacks is settled inside the transaction, under its write lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dicomlake.catalog import reader, writer
from dicomlake.catalog.blocks import is_catalogued
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.headers import Attributes, HeaderReader, read_header
from dicomlake.errors import NotADicomObject, StorageError
from dicomlake.ingest import sources
from dicomlake.ingest.examine import Examined, Unusable, examine, sha256_of
from dicomlake.ingest.report import ALREADY, CONFLICT, REFUSED, SKIPPED, STORED, Entry
from dicomlake.records import Finding, Instance, Refused, SeriesKey
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Staged, Storage

_ORIGIN = 1000  # characters of an origin that are kept
_QUARANTINED = 1 << 30  # bytes of a refused archive that are still copied
_SAME = "the same object is in the lake"
_TAKEN = "another object with this SOPInstanceUID was stored at the same time"


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


def take(catalog: Catalog, storage: Storage, items: Sequence[sources.Item], *, link: bool = False) -> Taken:
    """Take a batch in; afterwards everything reported as stored is durable and in the catalog."""
    headers = HeaderReader()
    taken = Taken()
    good: list[Examined] = []
    bad: list[Unusable] = []
    try:
        for item in items:
            if isinstance(item, sources.Skipped):
                taken.entries.append(Entry(item.origin, SKIPPED, item.reason))
            elif isinstance(item, sources.Refused):
                bad.append(_unusable(item))
            else:
                found = examine(item, headers)
                (good if isinstance(found, Examined) else bad).append(found)  # type: ignore[arg-type]
        _store(catalog, storage, good, bad, taken, link)
    finally:
        for item in items:
            if not isinstance(item, sources.Skipped) and item.content is not None:
                item.content.close()
    taken.bytes = sum(one.size for one in good)
    return taken


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


def _store(
    catalog: Catalog,
    storage: Storage,
    good: Sequence[Examined],
    bad: Sequence[Unusable],
    taken: Taken,
    link: bool,
) -> None:
    with catalog.read() as view:
        known = reader.instances_with_uids(view, [one.sop_instance_uid for one in good])
    plans = _plan(storage, good, known, taken)
    instances = _publish(storage, plans, link)
    refused = _quarantine(storage, bad, taken)
    if not plans and not refused:
        return
    with catalog.change("ingest") as (connection, v):
        present = reader.keys_among(connection, [instance.key for instance in instances])
        writer.add_instances(connection, v, [i for i in instances if i.key not in present])
        writer.add_findings(connection, v, [f for plan in plans for f in _findings(plan)])
        writer.add_refused(connection, v, refused)
    for plan, instance in zip(plans, instances, strict=True):
        _acknowledge(plan, instance, instance.key in present, taken)


def _acknowledge(plan: _Plan, instance: Instance, present: bool, taken: Taken) -> None:
    """Say what became of an object, now that it is durable and in the catalog."""
    one = plan.object
    if present:  # another writer was first
        taken.entries.append(_entry(one, ALREADY, _SAME))
        return
    conflict = plan.conflict or (_TAKEN if instance.conflict else "")
    taken.entries.append(_entry(one, CONFLICT if conflict else STORED, conflict))
    if not instance.conflict:
        taken.headers.setdefault(one.series, []).append((one.sop_instance_uid, one.header))


def _plan(
    storage: Storage, good: Sequence[Examined], known: dict[str, list[Instance]], taken: Taken
) -> list[_Plan]:
    """Which objects are new and where they go; those that are not are reported."""
    plans: list[_Plan] = []
    for one in good:
        others = known.setdefault(one.sop_instance_uid, [])
        if any(one.sha256 == o.sha256 or one.dataset_sha256 == o.dataset_sha256 for o in others):
            taken.entries.append(_entry(one, ALREADY, _SAME))
            continue
        instance = _instance(one, others)
        conflict = ""
        if others:
            difference = _difference(storage, one, others[0], plans)
            conflict = f"another object with this SOPInstanceUID differs in {difference}"
        others.append(instance)
        plans.append(_Plan(one, instance, conflict))
    return plans


def _entry(one: Examined, outcome: str, detail: str) -> Entry:
    return Entry(one.origin, outcome, detail, one.sop_instance_uid, one.series.series_uid, one.size)


def _instance(one: Examined, others: Sequence[Instance]) -> Instance:
    """Its place: the plain name in its series, or one with its hash when that name is taken."""
    second = any(other.series == one.series for other in others)
    conflict = one.sha256[:8] if second else None
    return Instance(
        one.sop_instance_uid,
        one.sop_class_uid,
        one.series,
        one.transfer_syntax,
        layout.original_key(*one.series, one.sop_instance_uid, conflict=conflict),
        one.size,
        one.sha256,
        one.dataset_sha256,
        conflict=second,
    )


def _findings(plan: _Plan) -> Iterator[Finding]:
    uid = plan.object.sop_instance_uid
    if plan.conflict:
        yield Finding("warning", "conflict", uid, plan.conflict)
    yield from problem_findings(uid, plan.object.problems)


def problem_findings(uid: str, problems: Sequence[str]) -> Iterator[Finding]:
    """What the header reader noticed, as findings about the object."""
    for problem in problems:
        if "cut off" in problem or "ends inside" in problem:
            yield Finding("error", "cut_off", uid, problem)
        else:
            yield Finding("info", "odd_encoding", uid, problem)


def _difference(storage: Storage, one: Examined, first: Instance, plans: Sequence[_Plan]) -> str:
    """The keywords in which an object differs from the one that came first; never their values."""
    header = next((p.object.header for p in plans if p.instance.key == first.key), None)
    if header is None:
        try:
            header = read_header(storage.get(first.key)).dataset
        except (StorageError, NotADicomObject):
            return "something: the first cannot be read"
    tags = filter(is_catalogued, one.header.elements.keys() | header.elements.keys())
    differing = sorted(t for t in tags if one.header.elements.get(t) != header.elements.get(t))
    if not differing:
        return "its pixels or its encoding"
    names = [_keyword(tag) for tag in differing]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more elements" if len(names) > 10 else "")


def _keyword(tag: int) -> str:
    from dicomlake.dicom import standard

    entry = standard.lookup(tag)
    return entry[1] if entry and entry[1] else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _publish(storage: Storage, plans: Sequence[_Plan], link: bool) -> list[Instance]:
    """Make the objects durable and visible; return the instances with the keys they have now."""
    staged: list[Staged] = []
    try:
        for plan in plans:  # one by one: what is staged when one fails has to be discarded
            staged.append(_stage(storage, plan.object, plan.instance.key, link))  # noqa: PERF401
    except BaseException:
        storage.discard(staged)
        raise
    created = storage.publish(staged)
    return [
        plan.instance if new else _beside(storage, plan) for plan, new in zip(plans, created, strict=True)
    ]


def _stage(storage: Storage, one: Examined, key: str, link: bool) -> Staged:
    path = one.content.path
    if link and path is not None:
        return storage.stage(key, path, link=True)
    return storage.stage(key, one.data if one.data is not None else one.content.chunks())


def _beside(storage: Storage, plan: _Plan) -> Instance:
    """The key was taken by a writer that is not in the catalog (yet): the same bytes, or a conflict."""
    import hashlib

    present = storage.get(plan.instance.key)
    if hashlib.sha256(present).hexdigest() == plan.instance.sha256:
        return plan.instance
    key = layout.original_key(
        *plan.instance.series, plan.instance.sop_instance_uid, conflict=plan.instance.sha256[:8]
    )
    storage.put(key, plan.object.data if plan.object.data is not None else plan.object.content.chunks())
    return replace(plan.instance, key=key, conflict=True)


def _quarantine(storage: Storage, bad: Sequence[Unusable], taken: Taken) -> list[Refused]:
    """Keep what was refused, with its reason beside it; return what the catalog has to list."""
    kept: list[Refused] = []
    staged: list[Staged] = []
    for one in bad:
        taken.entries.append(Entry(one.origin, REFUSED, one.reason, size=one.size))
        if not one.sha256 or (one.data is None and one.content is None):
            continue
        refused = Refused(one.sha256, one.size, one.reason, one.origin[:_ORIGIN])
        data = one.data if one.data is not None else one.content.chunks() if one.content else b""
        note = {"sha256": one.sha256, "size": one.size, "reason": one.reason, "origin": refused.origin}
        staged.append(storage.stage(layout.quarantine_key(one.sha256), data))
        staged.append(
            storage.stage(layout.quarantine_note_key(one.sha256), json.dumps(note, indent=1).encode("utf-8"))
        )
        kept.append(refused)
    storage.publish(staged)
    return kept
