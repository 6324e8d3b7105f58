"""Former versions of volumes go: their stores are deleted, their rows stay in the catalog's history."""

from __future__ import annotations

import datetime
import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dicomlake.catalog import reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.reader import Former
from dicomlake.records import Volume
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes import versions


@dataclass(frozen=True, slots=True, repr=False)
class PruneReport:
    """What `prune` deleted, or would delete.

    volumes: former versions whose stores are gone. leftovers: keys of stores that no volume had, such as
    a crash leaves. bytes: of their files. dry_run: nothing was deleted.
    """

    volumes: Sequence[Volume]
    leftovers: Sequence[str]
    bytes: int
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON types."""
        return {
            "dry_run": self.dry_run,
            "bytes": self.bytes,
            "volumes": [versions.facts_of(volume) | {"key": volume.key} for volume in self.volumes],
            "leftovers": list(self.leftovers),
        }

    def __str__(self) -> str:
        verb = "would delete" if self.dry_run else "deleted"
        left = f" and {len(self.leftovers):,} leftovers" if self.leftovers else ""
        return f"Prune: {verb} {len(self.volumes):,} former versions{left}, {self.bytes / 1e6:,.1f} MB"

    def __repr__(self) -> str:
        return f"<PruneReport: {str(self)[7:]}>"

    def _repr_html_(self) -> str:
        return f"<div><strong>Prune</strong> {html.escape(str(self)[7:])}</div>"


def present(storage: Storage, former: Sequence[Former]) -> list[Former]:
    """Those whose stores are still there."""
    return [one for one in former if storage.exists(f"{one.volume.key}/zarr.json")]


def prune(
    catalog: Catalog,
    storage: Storage,
    *,
    keep: int = 0,
    older_than_days: float | None = None,
    dry_run: bool = False,
) -> PruneReport:
    """Delete the stores of volumes that were replaced, and stores that no volume had.

    keep: of each volume, so many of its newest former versions stay.
    older_than_days: only those replaced longer ago; leftovers go in any case.
    A series that is being built is left alone. Whoever has a former version open can no longer read it.
    """
    if keep < 0:
        raise ValueError(f"keep counts versions from 0, not {keep}")
    lying = versions.stores_among(storage.list(layout.STUDIES))
    with catalog.read() as view:
        former = present(storage, reader.former_volumes(view))
        listed = reader.store_keys(view)
    volumes = [one.volume for one in _old(_beyond(former, keep), older_than_days)]
    leftovers = sorted(lying - listed)
    size = sum(_bytes(storage, str(key)) for key in [*(v.key for v in volumes), *leftovers])
    if not dry_run:
        versions.delete_stores(storage, [str(volume.key) for volume in volumes])
        leftovers = _swept(catalog, storage, leftovers)
    return PruneReport(tuple(volumes), tuple(leftovers), size, dry_run)


def _beyond(former: Sequence[Former], keep: int) -> list[Former]:
    """All but the newest `keep` of each volume; they come by series and number, the newest first."""
    groups = groupby(former, key=lambda one: (one.volume.series, one.volume.number))
    return [one for _volume, group in groups for one in list(group)[keep:]]


def _old(former: Sequence[Former], days: float | None) -> list[Former]:
    if days is None:
        return list(former)
    latest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    return [one for one in former if datetime.datetime.fromisoformat(one.closed_at) <= latest]


def _bytes(storage: Storage, key: str) -> int:
    return sum(storage.size(file) for file in storage.list(key))


def _swept(catalog: Catalog, storage: Storage, leftovers: Sequence[str]) -> list[str]:
    """Delete leftovers, unless a builder has just made them and is about to enter them in the catalog."""
    gone: list[str] = []
    for prefix, stores in groupby(leftovers, key=lambda store: store.rpartition("/")[0]):
        with catalog.database.building(prefix, wait=False) as alone:
            if alone:
                with catalog.read() as view:
                    listed = reader.store_keys(view)
                gone += versions.delete_stores(storage, [one for one in stores if one not in listed])
    return gone
