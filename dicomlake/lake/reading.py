"""What a lake holds: its parts, and the facts that it tells of series, volumes and findings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dicomlake import forking
from dicomlake.catalog import journal, reader, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.clinical_rows import rematch
from dicomlake.catalog.mirror import Mirror
from dicomlake.catalog.schema import SERIES_COLUMNS, VOLUME_COLUMNS
from dicomlake.errors import StorageFull
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume
from dicomlake.settings import Settings
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from dicomlake.tables import frame

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from dicomlake.catalog.blocks import SeriesHeaders
    from dicomlake.dicom.walk import Readable
    from dicomlake.storage.objectstore import Storage

Row = dict[str, Any]


class Reading:
    """The parts of a lake, and what they tell."""

    def __init__(self, root: Path, settings: Settings, *, fresh: bool = False) -> None:
        held = (root / layout.STUDIES).exists() or (root / layout.QUARANTINE).exists()
        self.path = root
        self.settings = settings
        self.read_only = not os.access(root, os.W_OK)
        self._storage = LocalStorage(root)
        self._catalog = Catalog.open(
            settings.catalog or root / layout.CATALOG,
            read_only=self.read_only,
            must_exist=held and not fresh,
        )
        self._mirror = Mirror(self._catalog, root / layout.MIRROR)
        forking.watch(self)
        if not self.read_only:
            self._storage.sweep()
            with suppress(StorageFull):  # what is there can be read all the same
                self._settle_leftovers()
                journal.replay(self._catalog, self._storage)
                rematch(self._catalog)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release files; the lake is complete on disk afterwards, ready to be moved."""
        self._mirror.close()
        self._catalog.close()
        self._storage.close()

    def forked(self) -> None:
        """Begin anew in a forked process, as worker processes of torch and multiprocessing are by default."""
        forking.leave(self._mirror.forked(), self._catalog.database.forked())

    def __reduce__(self) -> tuple[Callable[[str], Reading], tuple[str]]:
        """A lake travels to another process as its place; it is opened there once."""
        from dicomlake.lake.places import reopened

        return reopened, (str(self.path),)

    @property
    def stamp(self) -> tuple[str, int]:
        """The identity of the catalog, which a rebuild changes and with it all ids; and the newest change."""
        with self._catalog.read() as view:
            return schema.identity(view), schema.head(view)

    @property
    def change(self) -> int:
        """The number of the newest change."""
        return self._catalog.head()

    @property
    def storage(self) -> Storage:
        """Where originals, volumes and results lie."""
        return self._storage

    def _settle_leftovers(self) -> None:
        """Make visible what a writer acknowledged before it ended."""
        with self._catalog.read() as view:
            if not reader.unsettled(view):
                return
        from dicomlake.ingest.settle import settle_leftovers
        from dicomlake.listening.live import receivers

        if receivers(self.path):  # they settle what they got, once it is complete
            return

        settle_leftovers(self._catalog, self._storage)

    def _index_words(self) -> None:
        """Make the words of what settled since findable; a lake that cannot be written stays as it is."""
        if self.read_only:
            return
        from dicomlake.catalog.text_index import index_missing
        from dicomlake.objects.documents import read_document

        index_missing(self._catalog, self._storage, read_document)

    # ---- all of it ----------------------------------------------------------------------------------

    def series(self) -> pd.DataFrame:
        """One row a series, the catalog's columns."""
        return frame(self.rows("series"), SERIES_COLUMNS)

    def studies(self) -> pd.DataFrame:
        """One row a study, with counts."""
        return frame(self.rows("studies"))

    def patients(self) -> pd.DataFrame:
        """One row a patient, with counts."""
        return frame(self.rows("patients"))

    def rows(self, level: str) -> list[Row]:
        """The same as plain rows; level is patients, studies, series or volumes."""
        read = {
            "patients": reader.patients,
            "studies": reader.studies,
            "series": reader.series_rows,
            "volumes": reader.volume_rows,
        }
        with self._catalog.read() as view:
            rows = read[level](view)
        hidden = ("id", "v_from", "v_to", "digest")
        return [{name: value for name, value in row.items() if name not in hidden} for row in rows]

    def volumes(self) -> list[Volume]:
        """A record for each volume, built or not, with its verdict."""
        with self._catalog.read() as view:
            return reader.volumes_of(view)

    def volume_table(self) -> pd.DataFrame:
        """One row a volume, the catalog's columns: verdict, tilt_degrees, gaps, extra_dims, split_by …"""
        return frame(self.rows("volumes"), VOLUME_COLUMNS)

    def volume_versions(self, key: SeriesKey) -> list[Volume]:
        """The former volumes of a series whose stores are still there, by number, the newest first.

        `open_volume` opens them as what they were.
        """
        from dicomlake.volumes.prune import present

        with self._catalog.read() as view:
            former = reader.former_volumes(view, key)
        return [one.volume for one in present(self._storage, former)]

    def findings(self) -> list[Finding]:
        """What is known to be wrong with objects of the lake."""
        with self._catalog.read() as view:
            return reader.findings(view)

    def conflicts(self) -> list[Instance]:
        """Objects kept beside another one with the same SOPInstanceUID in their series."""
        with self._catalog.read() as view:
            return reader.conflicts(view)

    def refused(self) -> list[Refused]:
        """What lies in quarantine, with the reasons."""
        with self._catalog.read() as view:
            return reader.refused(view)

    def counts(self) -> dict[str, int]:
        """How many patients, studies, series, instances, volumes, findings and refused objects there are."""
        with self._catalog.read() as view:
            return reader.counts(view)

    # ---- what a Series needs ------------------------------------------------------------------------

    def series_row(self, series_id: int) -> Row:
        """The catalog's row of a series."""
        return self.series_rows([series_id])[0]

    def series_id(self, key: SeriesKey) -> int | None:
        """The id of the catalog's row of a series now."""
        with self._catalog.read() as view:
            return reader.series_id(view, key)

    def series_rows(self, ids: Sequence[int]) -> list[Row]:
        """The rows of several series, in this order."""
        with self._catalog.read() as view:
            return reader.series_rows(view, ids)

    def headers(self, series_id: int) -> SeriesHeaders:
        """The full headers of a series."""
        with self._catalog.read() as view:
            return reader.headers_of(view, series_id)

    def instances(self, key: SeriesKey) -> list[Instance]:
        """The stored objects of a series, those in conflict included."""
        with self._catalog.read() as view:
            return reader.instances_of(view, key, conflicts=True)

    def series_volumes(self, key: SeriesKey) -> list[Volume]:
        """The volumes of a series."""
        with self._catalog.read() as view:
            return reader.volumes_of(view, key)

    def series_findings(self, key: SeriesKey) -> list[Finding]:
        """Findings about a series or one of its objects."""
        with self._catalog.read() as view:
            scopes = {key.series_uid, *(i.sop_instance_uid for i in reader.instances_of(view, key))}
            return [found for found in reader.findings(view) if found.scope in scopes]

    def open_volume(self, volume: Volume, *, chunks: Any = "auto", level: int = 0) -> xr.Dataset:
        """A built volume as lazy xarray. Raises VolumeError when it is not built."""
        from dicomlake.volumes.read import open_volume

        return open_volume(volume, self._store(volume), chunks=chunks, level=level)

    def open_objects(self, key: SeriesKey) -> Any:
        """What is in a series that holds no stack of frames; None when it holds nothing to open."""
        from dicomlake.opening import open_series

        return open_series(self, key)

    def readable(self, instance: Instance) -> Readable:
        """An original as something to read by range."""
        from dicomlake.ingest.settle import Original

        return Original(self._storage, instance)

    def _store(self, volume: Volume) -> Path:
        from dicomlake.volumes.proof import local_store

        return local_store(volume, self._storage)

    def original(self, instance: Instance) -> bytes:
        """The bytes of an object, as they came."""
        return self._storage.get(instance.key)
