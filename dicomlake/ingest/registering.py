"""A group of received objects, each durable but invisible: put in place and registered in one transaction.

All of it happens under the catalog's write lock. So no other receiver puts files in place meanwhile, and
what the catalog says of an object is what is true when its file appears. The order is that of DESIGN: file
durable, in its place, folders durable, catalog committed; what comes after may be acknowledged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from sqlalchemy import Connection

from dicomlake.catalog import instances, network, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import StorageError
from dicomlake.ingest.conflict import conflict, conflict_finding, header_of
from dicomlake.ingest.examine import Examined
from dicomlake.ingest.take import instance_at, noted, places, present_at, problem_findings
from dicomlake.records import Finding, Instance, Outcome, Refused, Stored, StoreRequest
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Staged, Storage

CHANGE = "receive"
_REPLACED = "its original was gone or damaged: the same object took its place when it was sent again"
_GONE = "the original of this object in the lake is gone: this one is kept beside its place"


@dataclass(slots=True)
class Ready:
    """An object that is staged and durable, and examined.

    object: None for one that is refused; then `refused` and `outcome` say why. size: of the data set, bytes.
    held: the instance of the lake that it is, when the answer is "already"; it stays staged then, until the
    original was read again. distrusted: keys of originals that were found damaged so.
    """

    request: StoreRequest
    staged: Staged
    size: int
    object: Examined | None
    refused: Refused | None = None
    outcome: Outcome = "stored"
    held: Instance | None = None
    distrusted: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Group:
    """A group under way. known: objects of the catalog and of this group, by SOPInstanceUID."""

    known: dict[str, list[Instance]]
    headers: dict[str, Examined] = field(default_factory=dict)  # of this group, by key
    plans: list[_Plan] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    """An object that is to be put in place. again: it is in the catalog, but its original was gone."""

    ready: Ready
    object: Examined
    instance: Instance
    conflict: str = ""
    again: bool = False

    @property
    def staged(self) -> Staged:
        return replace(self.ready.staged, key=self.instance.key)


def register(catalog: Catalog, storage: Storage, group: Sequence[Ready]) -> list[Stored]:
    """Make a group visible and register it; afterwards it is durable.

    What was staged is gone, also after an error; only what is in the lake already is left to the caller.
    Raises StorageError (StorageFull) or CatalogError when nothing of it was registered.
    """
    try:
        with catalog.database.shared(), catalog.database.write() as connection:
            return _register(connection, storage, group)
    except BaseException:
        storage.discard(ready.staged for ready in group)
        raise


def _register(connection: Connection, storage: Storage, group: Sequence[Ready]) -> list[Stored]:
    uids = [ready.object.sop_instance_uid for ready in group if ready.object is not None]
    under_way = _Group(instances.known(connection, uids))
    answers: list[tuple[Stored, Instance | None]] = [_plan(storage, ready, under_way) for ready in group]
    plans = under_way.plans
    refused = _put_in_place(storage, plans, [ready for ready in group if ready.refused is not None])
    # `_put_in_place` may have found other places
    final = {id(plan.ready): plan for plan in plans}
    answers = [
        _told(final[id(ready)]) if id(ready) in final else answer
        for ready, answer in zip(group, answers, strict=True)
    ]
    new = [plan for plan in plans if not plan.again]
    if plans or refused:
        v = writer.begin_change(connection, CHANGE)
        instances.add(connection, v, instances.drafted([plan.instance for plan in new]))
        writer.add_findings(connection, v, [found for plan in plans for found in _findings(plan)])
        writer.add_refused(connection, v, refused)
    network.add_arrivals(connection, list(_arrivals(group, answers)))
    return [stored for stored, _instance in answers]


def _plan(storage: Storage, ready: Ready, group: _Group) -> tuple[Stored, Instance | None]:
    """Plan an object, if it is new; what is to be answered if nothing changes."""
    one = ready.object
    if one is None:
        assert ready.refused is not None
        return Stored(ready.outcome, ready.refused.reason, size=ready.size), None
    others = group.known.setdefault(one.sop_instance_uid, [])
    same = [other for other in others if _is_this(one, other)]
    there = next(
        (other for other in same if other.key in group.headers or _is_there(storage, ready, other)), None
    )
    if there is not None:
        ready.held = there
        return Stored("already", "", there.series, ready.size), there
    lost = next((other for other in same if other.sha256 == one.sha256), None)
    if lost is not None:
        plan = _Plan(ready, one, lost, again=True)
    else:
        used = {other.key for other in others}
        key = next(key for key in places(one) if key not in used)
        plan = _Plan(ready, one, instance_at(one, key), _difference(storage, one, others, same, group))
        others.append(plan.instance)
    group.plans.append(plan)
    group.headers[plan.instance.key] = one
    return _told(plan)


def _is_this(one: Examined, other: Instance) -> bool:
    """Whether it is the same object: the same bytes in another transfer syntax mean something else."""
    return other.dataset_sha256 == one.dataset_sha256 and other.transfer_syntax == one.transfer_syntax


def _is_there(storage: Storage, ready: Ready, instance: Instance) -> bool:
    """Whether an original lies where the catalog says: only then may its sender delete its own copy."""
    if instance.key in ready.distrusted:
        return False
    try:
        return storage.size(instance.key) == instance.size
    except StorageError:
        return False


def _difference(
    storage: Storage, one: Examined, others: Sequence[Instance], same: Sequence[Instance], group: _Group
) -> str:
    if not others:
        return ""
    if same:
        return _GONE
    first = group.headers.get(others[0].key)
    return conflict(one.header, first.header if first else header_of(storage, others[0]))


def _told(plan: _Plan) -> tuple[Stored, Instance | None]:
    outcome: Outcome = "conflict" if plan.conflict else "stored"
    stored = Stored(outcome, plan.conflict, plan.object.series, plan.ready.size, fresh=not plan.again)
    return stored, plan.instance


# ---- files --------------------------------------------------------------------------------------------


def _put_in_place(storage: Storage, plans: list[_Plan], bad: Sequence[Ready]) -> list[Refused]:
    """Make the planned originals, and what is refused, visible and durable."""
    for plan in plans:
        if plan.object.data is None and not plan.again:  # its bytes would be gone if its place were taken
            _find_room(storage, plan)
        if plan.again:  # what lies there is not what it was: this one takes its place
            storage.delete(plan.instance.key)
    files = [plan.staged for plan in plans]
    for ready in bad:
        assert ready.refused is not None
        note = json.dumps(asdict(ready.refused), indent=1).encode()
        files.append(replace(ready.staged, key=layout.quarantine_key(ready.refused.sha256)))
        files.append(storage.stage(layout.quarantine_note_key(ready.refused.sha256), note))
    created = storage.publish(files)
    for plan, is_new in zip(plans, created, strict=False):
        if not is_new and not plan.again:
            _settle_place(storage, plan)
    notes = created[len(plans) + 1 :: 2]
    return [
        ready.refused if is_new else noted(storage, ready.refused)
        for ready, is_new in zip(bad, notes, strict=True)
        if ready.refused is not None
    ]


def _find_room(storage: Storage, plan: _Plan) -> None:
    """Leave a place that a writer took which ended before it was registered, unless with these bytes."""
    keys = places(plan.object)
    for key in keys[keys.index(plan.instance.key) :]:
        if not storage.exists(key):
            plan.instance = instance_at(plan.object, key)
            return
        if _is_same(storage, plan, key):
            return
    raise _no_place(plan)


def _settle_place(storage: Storage, plan: _Plan) -> None:
    """The place was taken by a writer that is not in the catalog: it holds the same, or there is another."""
    one = plan.object
    keys = places(one)
    for key in keys[keys.index(plan.instance.key) :]:
        if key != plan.instance.key and one.data is not None and storage.put(key, one.data):
            plan.instance = instance_at(one, key)
            return
        if _is_same(storage, plan, key):
            return
        if one.data is None:
            raise StorageError(f"another object appeared where {one.sop_instance_uid} belongs: send it again")
    raise _no_place(plan)


def _is_same(storage: Storage, plan: _Plan, key: str) -> bool:
    """Whether this data set lies under a key; then it is registered as it lies there, else it differs."""
    present, header = present_at(storage, instance_at(plan.object, key))
    if present.dataset_sha256 == plan.object.dataset_sha256:
        plan.instance = present
        return True
    plan.conflict = plan.conflict or conflict(plan.object.header, header)
    return False


def _no_place(plan: _Plan) -> StorageError:
    uid = plan.object.sop_instance_uid
    return StorageError(f"another object lies where {uid} belongs: run `dicomlake verify` and move it away")


# ---- rows ---------------------------------------------------------------------------------------------


def _findings(plan: _Plan) -> Iterator[Finding]:
    uid = plan.object.sop_instance_uid
    if plan.again:
        yield Finding("warning", "original_replaced", uid, _REPLACED)
        return
    if plan.conflict:
        yield conflict_finding(uid, plan.conflict)
    yield from problem_findings(uid, plan.object.problems)


def _arrivals(
    group: Sequence[Ready], answers: Sequence[tuple[Stored, Instance | None]]
) -> Iterator[network.Arrival]:
    at = network.now()
    for ready, (stored, instance) in zip(group, answers, strict=True):
        if instance is not None:
            sender = ready.request.sender
            yield network.Arrival(
                instance.sop_instance_uid,
                instance.series.series_uid,
                instance.series.study_uid,
                instance.key,
                ready.size,
                stored.outcome,
                sender.calling,
                sender.called,
                sender.host,
                sender.association,
                sender.peer,
                at,
            )
