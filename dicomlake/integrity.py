"""Proof that a lake holds what was put in: originals, catalog rows, volumes, each against its hash."""

from __future__ import annotations

import hashlib
import html
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from sqlalchemy import select, text

from dicomlake.catalog import blocks, journal, reader, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError, StorageError
from dicomlake.progress import Progress, progress
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage

_SHOWN = 20
_NAMES = ("key", "SeriesInstanceUID", "series_id", "scope", "sha256", "id", "v")  # what names a row
CheckVolume = Callable[[Volume, bool], list[Finding]]


@dataclass(frozen=True, slots=True, repr=False)
class VerifyReport:
    """What `verify` compared and what differs; `ok` when nothing does.

    findings: each names the object by key or UID. checked: how many of each kind were compared.
    """

    findings: Sequence[Finding]
    checked: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether everything is as it was stored."""
        return not self.findings

    def __str__(self) -> str:
        checked = ", ".join(f"{n:,} {kind}" for kind, n in self.checked.items())
        lines = [f"Verify: {'all well' if self.ok else f'{len(self.findings)} findings'} ({checked})"]
        lines += [f"  {f.kind}: {f.scope}: {f.message}" for f in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            lines.append(f"  … and {len(self.findings) - _SHOWN} more: report.findings")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<VerifyReport: {'all well' if self.ok else f'{len(self.findings)} findings'}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(f.kind)}</td>"
            f"<td style='text-align:left'>{html.escape(f.scope)}</td>"
            f"<td style='text-align:left'>{html.escape(f.message)}</td></tr>"
            for f in self.findings[:_SHOWN]
        )
        head = html.escape(str(self).splitlines()[0])
        more = f"<p>… and {len(self.findings) - _SHOWN} more</p>" if len(self.findings) > _SHOWN else ""
        return f"<div><strong>{head}</strong>{f'<table>{rows}</table>' if rows else ''}{more}</div>"


def verify(
    catalog: Catalog, storage: Storage, check_volume: CheckVolume, *, show: bool | None = None
) -> VerifyReport:
    """Read everything again and compare it with its hash.

    check_volume: compares one built volume, which a newer version has replaced or not; given by those who
        know volumes.
    """
    checked: Counter[str] = Counter()
    findings = list(_check_catalog(catalog, storage, checked))
    try:
        with catalog.read() as view:
            instances = list(reader.all_instances(view))
            volumes = [(v, False) for v in reader.volumes_of(view) if v.key is not None]
            former = [one.volume for one in reader.former_volumes(view)]
            refused = reader.refused(view)
    except (CatalogError, ValueError, TypeError):  # found above
        return VerifyReport(findings, dict(checked))
    volumes += [(v, True) for v in former if storage.exists(f"{v.key}/zarr.json")]  # the others were pruned
    total = len(instances) + len(volumes)
    with progress("verify", total, unit="objects", show=show) as bar, _threads() as pool:
        findings += _check_originals(storage, instances, pool, bar, checked)
        findings += _uncatalogued(catalog, storage, instances)
        findings += _check_quarantine(storage, refused, checked)
        findings += _unlisted(storage, refused)
        for volume, replaced in volumes:
            checked["former volumes" if replaced else "volumes"] += 1
            findings += check_volume(volume, replaced)
            bar.advance(1)
    return VerifyReport(findings, dict(checked))


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(os.cpu_count() or 1, 4))


# ---- the catalog ------------------------------------------------------------------------------------


def _check_catalog(catalog: Catalog, storage: Storage, checked: Counter[str]) -> Iterator[Finding]:
    catalog.database.reconnect()  # what a connection has cached says nothing about the disk
    try:
        yield from _check_pages(catalog)
        yield from _check_rows(catalog, checked)
        yield from _check_blocks(catalog, checked)
        with catalog.read() as view:
            yield from journal.check(view, storage)
    except (CatalogError, ValueError, TypeError) as error:
        yield Finding("error", "catalog_damaged", "catalog", f"cannot be read to the end: {error}")


def _check_pages(catalog: Catalog) -> Iterator[Finding]:
    if catalog.database.engine.dialect.name != "sqlite":
        return
    with catalog.read() as view:
        problems = [str(row[0]) for row in view.execute(text("PRAGMA integrity_check(5)"))]
    if problems != ["ok"]:
        message = f"SQLite finds {len(problems)} problems in the file: `dicomlake rebuild` recreates it"
        yield Finding("error", "catalog_damaged", "catalog", message)


def _check_rows(catalog: Catalog, checked: Counter[str]) -> Iterator[Finding]:
    with catalog.read() as view:
        for table in schema.DIGESTED:
            for row in view.execute(select(table)).mappings():
                checked["rows"] += 1
                facts = dict(row)
                if schema.row_digest(facts) != facts["digest"]:
                    name = next((facts[n] for n in _NAMES if facts.get(n) is not None), "")
                    message = "the row differs from its digest: `dicomlake rebuild` recreates it"
                    yield Finding("error", "row_damaged", f"{table.name} {name}", message)


def _check_blocks(catalog: Catalog, checked: Counter[str]) -> Iterator[Finding]:
    """Every visible series has headers, of exactly its instances."""
    with catalog.read() as view:
        rows = reader.series_rows(view)
        visible = {(row["StudyInstanceUID"], row["SeriesInstanceUID"]) for row in rows}
        for key in {instance.series for instance in reader.all_instances(view)} - visible:
            message = "has instances but is not listed: open the lake for writing, or rebuild it"
            yield Finding("warning", "series_unsettled", key.series_uid, message)
        for row in rows:
            checked["series"] += 1
            uid = row["SeriesInstanceUID"]
            try:
                headers = reader.headers_of(view, row["id"])
            except (KeyError, ValueError, blocks.BlockError):
                yield Finding("error", "headers_damaged", uid, "its headers cannot be read: rebuild the lake")
                continue
            key = SeriesKey(row["StudyInstanceUID"], uid)
            held = {instance.sop_instance_uid for instance in reader.instances_of(view, key)}
            if held != set(headers.instances):
                message = f"has {len(held)} instances but headers of {len(headers)}: ingest or rebuild"
                yield Finding("warning", "series_unsettled", uid, message)


# ---- originals --------------------------------------------------------------------------------------


def _check_originals(
    storage: Storage,
    instances: Sequence[Instance],
    pool: ThreadPoolExecutor,
    bar: Progress,
    checked: Counter[str],
) -> Iterator[Finding]:
    for instance, problem in zip(
        instances, pool.map(lambda i: _check_original(storage, i), instances), strict=True
    ):
        checked["originals"] += 1
        bar.advance(1, instance.size)
        if problem:
            yield Finding("error", "original_damaged", instance.key, problem)


def _check_original(storage: Storage, instance: Instance) -> str:
    try:
        data = storage.get(instance.key)
    except StorageError as error:
        return f"cannot be read ({error}): bring it back from a copy and ingest it again"
    if hashlib.sha256(data).hexdigest() == instance.sha256:
        return ""
    same_size = len(data) == instance.size
    return f"differs from its SHA-256{'' if same_size else ' and in size'}: bring it back from a copy"


def _uncatalogued(catalog: Catalog, storage: Storage, instances: Sequence[Instance]) -> Iterator[Finding]:
    known = {instance.key for instance in instances}
    stores: dict[str, None] = {}
    for key in storage.list(layout.STUDIES):
        if layout.parse_original_key(key) and key not in known:
            message = "an original that the catalog does not list: `dicomlake rebuild` takes it in"
            yield Finding("warning", "uncatalogued", key, message)
        if store := layout.store_of(key):
            stores[store] = None
    with catalog.read() as view:
        listed = reader.store_keys(view)  # read last: a volume may have been entered meanwhile
    for store in stores:
        if store not in listed and _left_over(catalog, store):
            message = "a volume store that the catalog does not list: `dicomlake volumes prune` deletes it"
            yield Finding("warning", "uncatalogued", store, message)


def _left_over(catalog: Catalog, store: str) -> bool:
    """Whether no builder has just made a store that it is about to enter."""
    if catalog.database.read_only:
        return True
    with catalog.database.building(store.rpartition("/")[0], wait=False) as alone:
        if not alone:
            return False
        with catalog.read() as view:
            return store not in reader.store_keys(view)


def _check_quarantine(
    storage: Storage, refused: Sequence[Refused], checked: Counter[str]
) -> Iterator[Finding]:
    for one in refused:
        checked["refused"] += 1
        try:
            good = hashlib.sha256(storage.get(layout.quarantine_key(one.sha256))).hexdigest() == one.sha256
            note = json.loads(storage.get(layout.quarantine_note_key(one.sha256)))
            good = good and note == asdict(one)
        except (StorageError, ValueError):
            good = False
        if not good:
            scope = f"{layout.QUARANTINE}/{one.sha256}.bin"
            yield Finding("error", "quarantine_damaged", scope, "it, or the note beside it, is not as it was")


def _unlisted(storage: Storage, refused: Sequence[Refused]) -> Iterator[Finding]:
    known = {f"{layout.QUARANTINE}/{one.sha256}.bin" for one in refused}
    for key in storage.list(layout.QUARANTINE):
        if key.endswith(".bin") and key not in known:
            message = "a refused file that the catalog does not list: `dicomlake rebuild` lists it"
            yield Finding("warning", "uncatalogued", key, message)
