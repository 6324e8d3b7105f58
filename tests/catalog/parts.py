"""A catalog and a storage with objects taken in, without a lake around them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dicomlake.catalog.catalog import Catalog
from dicomlake.ingest.pipeline import Options, ingest
from dicomlake.storage.local import LocalStorage


class Parts(NamedTuple):
    """What the functions of the catalog are given."""

    catalog: Catalog
    storage: LocalStorage
    root: Path

    def take(self, objects: list[bytes]) -> None:
        """Take objects in."""
        ingest(self.catalog, self.storage, objects, Options(show=False))

    def close(self) -> None:
        """End what the parts hold open."""
        self.catalog.close()
        self.storage.close()


def parts_in(root: Path, url: str | None = None) -> Parts:
    """An empty lake's parts; the catalog at a URL, or else a file in the folder."""
    root.mkdir(exist_ok=True)
    return Parts(Catalog.open(url or root / "catalog.sqlite"), LocalStorage(root), root)
