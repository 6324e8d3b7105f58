"""A fresh catalog in the place of the old one, made from the originals; what they were is not forgotten."""

from __future__ import annotations

import time
from pathlib import Path

from dicomlake.catalog import reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError
from dicomlake.ingest.restore import restore
from dicomlake.records import Finding
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage

_SUFFIXES = ("", "-wal", "-shm")


def set_aside(root: Path) -> None:
    """Keep a damaged catalog beside the fresh one."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for suffix in _SUFFIXES:
        found = root / (layout.CATALOG + suffix)
        if found.exists():
            found.rename(root / f"{layout.CATALOG}.damaged-{stamp}{suffix}")


def rebuild_catalog(catalog: Catalog, storage: Storage, root: Path, *, show: bool | None = None) -> int:
    """Make the catalog of a lake again; return how many originals there are.

    Nobody may take objects in meanwhile: they would not be listed.
    """
    fresh_path = root / f".{layout.CATALOG}.rebuilt"
    for suffix in _SUFFIXES:
        fresh_path.with_name(fresh_path.name + suffix).unlink(missing_ok=True)
    before = _known_hashes(catalog)
    fresh = Catalog.open(fresh_path)
    try:
        originals, _troubles = restore(fresh, storage, show=show)
        _note_damage(fresh, before)
    finally:
        fresh.close()
    catalog.database.replace_with(fresh_path)
    fresh_path.with_suffix(".lock").unlink(missing_ok=True)
    return originals


def _known_hashes(catalog: Catalog) -> dict[str, str]:
    """Key and SHA-256 of every original in the catalog, as far as it can be read."""
    try:
        with catalog.read() as view:
            return {instance.key: instance.sha256 for instance in reader.all_instances(view)}
    except CatalogError:
        return {}


def _note_damage(fresh: Catalog, before: dict[str, str]) -> None:
    """Keep in mind which originals are not what they were: a rebuilt catalog takes their hashes anew."""
    with fresh.read() as view:
        now = {instance.key: instance.sha256 for instance in reader.all_instances(view)}
    findings = [
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
