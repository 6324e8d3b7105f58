"""Objects that are durable and in the catalog, and that nobody settled yet: as a receiver leaves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicomlake.catalog.catalog import Catalog
from dicomlake.ingest import sources
from dicomlake.ingest.take import take
from dicomlake.listening.settling import Settler
from dicomlake.records import SeriesKey
from dicomlake.settings import Settings
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from tests.objects import ROOT

FIRST, SECOND = f"{ROOT}.1.1", f"{ROOT}.1.2"


def key(series: str) -> SeriesKey:
    """The key of a series of `tests.objects`."""
    return SeriesKey(series.rpartition(".")[0], series)


class Parts:
    """A lake's parts, without what opening a lake does by itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = LocalStorage(root)
        if not (root / layout.LAKE_TOML).exists():
            root.mkdir(parents=True, exist_ok=True)
            self.storage.replace(layout.LAKE_TOML, Settings.new().text().encode())
        self.catalog = Catalog.open(root / layout.CATALOG)

    def take(self, objects: Iterable[bytes]) -> list[tuple[SeriesKey, str]]:
        """Acknowledge objects; (series, SOPInstanceUID) of those that are new."""
        taken = take(self.catalog, self.storage, list(sources.discover(*objects)))
        return [(key, uid) for key, headers in taken.headers.items() for uid, _header in headers]

    def receive(self, settler: Settler, objects: Iterable[bytes], calling: str = "CT1") -> None:
        """The same, and tell the settler, as a receiver does."""
        for one, uid in self.take(objects):
            settler.arrived(one, uid, calling)


@contextmanager
def parts(root: Path) -> Iterator[Parts]:
    """The parts of a lake in a folder, new or not."""
    found = Parts(root)
    try:
        yield found
    finally:
        found.catalog.close()
        found.storage.close()
