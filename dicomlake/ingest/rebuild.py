"""A fresh catalog in the place of the old one, made from the originals; what they were is not forgotten."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from dicomlake.catalog import journal, network, reader, schema, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError
from dicomlake.ingest.restore import restore
from dicomlake.records import Finding
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage

_SUFFIXES = ("", "-wal", "-shm")


def set_aside(root: Path, url: str | None = None) -> None:
    """Keep a damaged catalog beside the fresh one. url: of one on a server."""
    if url is not None:
        from dicomlake.catalog.postgresql import PostgreSQL

        database = PostgreSQL(url)
        database.set_aside()
        database.close()
        return
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for suffix in _SUFFIXES:
        found = root / (layout.CATALOG + suffix)
        if found.exists():
            found.rename(root / f"{layout.CATALOG}.damaged-{stamp}{suffix}")


def rebuild_catalog(catalog: Catalog, storage: Storage, *, show: bool | None = None) -> int:
    """Make the catalog of a lake again; return how many originals there are.

    Nobody may take objects in meanwhile: they would not be listed.
    """
    before, lost = _known_hashes(catalog), _lost_annotations(catalog, storage)
    fresh = Catalog(catalog.database.fresh())
    try:
        originals, _troubles = restore(fresh, storage, show=show)
        journal.replay(fresh, storage)
        _note_damage(fresh, before, lost)
        _keep_network(catalog, fresh)
    finally:
        fresh.close()
    catalog.database.replace_with(fresh.database)
    return originals


def _known_hashes(catalog: Catalog) -> dict[str, str]:
    """Key and SHA-256 of every original in the catalog, as far as it can be read."""
    try:
        with catalog.read() as view:
            return {instance.key: instance.sha256 for instance in reader.all_instances(view)}
    except CatalogError:
        return {}


def _lost_annotations(catalog: Catalog, storage: Storage) -> list[Finding]:
    """What the catalog knew of labels, clinical tables and cohorts whose files are damaged or gone."""
    try:
        with catalog.read() as view:
            return [found for found in journal.check(view, storage) if found.severity == "error"]
    except CatalogError:
        return []


def _note_damage(fresh: Catalog, before: dict[str, str], lost: list[Finding]) -> None:
    """Keep in mind which originals are not what they were: a rebuilt catalog takes their hashes anew."""
    with fresh.read() as view:
        now = {instance.key: instance.sha256 for instance in reader.all_instances(view)}
    findings = lost + [
        Finding(
            "error",
            "original_damaged",
            key,
            "differed from its SHA-256 at a rebuild: bring it back from a copy",
        )
        if key in now
        else Finding("error", "original_missing", key, "was gone at a rebuild: bring it back from a copy")
        for key, sha256 in before.items()
        if now.get(key) != sha256
    ]
    if findings:
        with fresh.change("rebuild") as (connection, v):
            writer.add_findings(connection, v, findings)


def _keep_network(catalog: Catalog, fresh: Catalog) -> None:
    """Copy what peers sent and were promised, as far as it can be read: no original says it."""
    for table in schema.NETWORK:
        with suppress(CatalogError), catalog.read() as view, fresh.database.write() as connection:
            network.copy(view, connection, table)
