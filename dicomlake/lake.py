"""A lake: where the parts meet. Opens it, and passes what each verb needs to those who do it."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomlake.catalog import reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror
from dicomlake.catalog.schema import SERIES_COLUMNS, VOLUME_COLUMNS
from dicomlake.errors import CatalogError, NotALake, StorageFull
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume
from dicomlake.settings import Mode, Settings
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from dicomlake.tables import frame

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from dicomlake.catalog.blocks import SeriesHeaders
    from dicomlake.cohort import Cohort
    from dicomlake.dicom.walk import Readable
    from dicomlake.ingest.report import Report
    from dicomlake.ingest.sources import Source
    from dicomlake.integrity import VerifyReport
    from dicomlake.series import Series
    from dicomlake.volumes.prune import PruneReport

Row = dict[str, Any]
_ONE = {
    "patients": "patient",
    "studies": "study",
    "series": "series",
    "instances": "instance",
    "volumes": "volume",
    "findings": "finding",
    "refused": "refused",
}


def open(path: str | os.PathLike[str] | None = None, *, create: bool = False) -> Lake:
    """Open the lake in a folder; with `create`, make it when there is none.

    path: DICOMLAKE_LAKE, then the current folder, unless given.
    A folder that cannot be written opens read-only. Raises NotALake when there is no lake.
    """
    root = _root(path)
    settings = root / layout.LAKE_TOML
    if not settings.is_file():
        if not create:
            raise NotALake(f"{root} holds no lake: pass create=True, or run `dicomlake init`")
        _make(root, settings)
    try:
        text = settings.read_text(encoding="utf-8")
    except OSError as error:
        raise NotALake(f"{settings} cannot be read ({error.strerror}): check its permissions") from error
    return Lake(root.resolve(), Settings.parse(text))


def _root(path: str | os.PathLike[str] | None) -> Path:
    return Path(path if path is not None else os.environ.get("DICOMLAKE_LAKE") or ".").expanduser()


def rebuild(
    path: str | os.PathLike[str] | None = None, *, volumes_only: bool = False, progress: bool | None = None
) -> Report:
    """`Lake.rebuild` for a lake whose catalog cannot even be opened; what is damaged is set aside."""
    from dicomlake.ingest.rebuild import set_aside

    root = _root(path)
    try:
        lake = open(root)
    except CatalogError:
        if volumes_only:
            raise
        set_aside(root)
        lake = Lake(
            root.resolve(), Settings.parse((root / layout.LAKE_TOML).read_text(encoding="utf-8")), fresh=True
        )
    with lake:
        return lake.rebuild(volumes_only=volumes_only, progress=progress)


def _make(root: Path, settings: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(path.name != layout.STAGING for path in root.iterdir()):
            raise NotALake(f"{root} holds other files: choose an empty or a new folder for a lake")
        LocalStorage(root).replace(layout.LAKE_TOML, Settings.new().text().encode())
    except OSError as error:
        raise NotALake(
            f"no lake can be made at {settings.parent} ({error.strerror}): choose another folder"
        ) from error


class Lake:
    """An archive of DICOM objects in one folder. Made by `dicomlake.open`; safe to use from many threads."""

    def __init__(self, root: Path, settings: Settings, *, fresh: bool = False) -> None:
        held = (root / layout.STUDIES).exists() or (root / layout.QUARANTINE).exists()
        if not fresh and held and not (root / layout.CATALOG).exists():
            raise CatalogError(
                f"the catalog of {root} is missing: `dicomlake rebuild` makes it from the originals"
            )
        self.path = root
        self.settings = settings
        self.read_only = not os.access(root, os.W_OK)
        self._storage = LocalStorage(root)
        self._catalog = Catalog.open(root / layout.CATALOG, read_only=self.read_only)
        self._mirror = Mirror(self._catalog, root / layout.MIRROR)
        if not self.read_only:
            self._storage.sweep()
            with suppress(StorageFull):  # what is there can be read all the same
                self._settle_leftovers()

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release files; the lake is complete on disk afterwards, ready to be moved."""
        self._mirror.close()
        self._catalog.close()
        self._storage.close()

    # ---- putting in ---------------------------------------------------------------------------------

    def ingest(
        self,
        *sources: Source,
        volumes: bool = True,
        link: bool = False,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> Report:
        """Take DICOM in: files, folders, zip and tar archives, a DICOMDIR, bytes; return what happened.

        Every object is durable before it counts as stored. What is there already is not stored twice, so
        an interrupted ingest is simply repeated. What cannot be taken is kept in quarantine and listed.
        volumes: build the volumes of the series that got new instances, or lack theirs since an
            ingest of the same objects was interrupted.
        link: hard-link files instead of copying; the sources must then never change.
        workers: processes; None chooses by the number of objects.
        progress: None shows a bar where somebody looks.
        Raises StorageFull when the device is full: what was stored before is safe.
        """
        from dicomlake.ingest.pipeline import Options, ingest

        options = Options(link=link, workers=workers, show=progress)
        report = ingest(self._catalog, self._storage, sources, options)
        met = {entry.series_uid for entry in report.entries}
        keys = [key for key in self._without_volumes() if key.series_uid in met] if volumes else []
        if not keys:
            return report
        started = time.perf_counter()
        built = self.build_volumes(keys, progress=progress)
        return report.with_volumes(built, time.perf_counter() - started)

    def build_volumes(
        self,
        series: Iterable[SeriesKey | Series] | None = None,
        *,
        client: Client | None = None,
        workers: int | None = None,
        progress: bool | None = None,
        rebuild: bool = False,
        mode: Mode | None = None,
    ) -> list[Volume]:
        """Make the volumes of these series, or of all that lack theirs; return what became of each.

        A volume whose store is still true keeps it; one that changed gets a new version, and the former
        store can be opened until `prune`. One that cannot be built is a finding and stops no other.
        series: keys, or what a query gave.
        client: a Dask client whose workers build. Without one the active client of this process serves,
            if its workers see the lake, else threads do.
        workers: volumes built at once in this process, whatever client is active.
        rebuild: also build what is still true.
        mode: "copy" or "reference" (`Settings.volumes`); None takes what lake.toml says. A volume that is
            kept in the other way becomes a new version.
        """
        from dicomlake.ingest.settle import read_original
        from dicomlake.volumes.engine import Options, build_volumes

        keys = (
            self._without_volumes()
            if series is None
            else [one if isinstance(one, SeriesKey) else one.key for one in series]
        )
        options = Options(
            rebuild=rebuild,
            mode=self.settings.volumes if mode is None else mode,
            client=client,
            workers=workers,
            show=progress,
        )
        return build_volumes(
            self._catalog, self._storage, keys, partial(read_original, self._storage), options
        )

    def _without_volumes(self) -> list[SeriesKey]:
        with self._catalog.read() as view:
            return reader.series_without_volumes(view)

    def prune(
        self, *, keep: int = 0, older_than_days: float | None = None, dry_run: bool = False
    ) -> PruneReport:
        """Delete the stores of former versions of volumes, and those that a crash left.

        keep: so many of the newest former versions of each volume stay.
        older_than_days: only versions replaced longer ago. dry_run: only tell.
        """
        from dicomlake.volumes.prune import prune

        return prune(
            self._catalog, self._storage, keep=keep, older_than_days=older_than_days, dry_run=dry_run
        )

    def _settle_leftovers(self) -> None:
        """Make visible what a writer acknowledged before it ended."""
        with self._catalog.read() as view:
            if not reader.unsettled(view):
                return
        from dicomlake.ingest.settle import settle_leftovers

        settle_leftovers(self._catalog, self._storage)

    # ---- asking -------------------------------------------------------------------------------------

    def query(self, *conditions: str, **wanted: Any) -> Cohort:
        """The series that meet all conditions, on any element, by PS3.6 keyword.

        `query(Modality="CT", SliceThickness=(None, 1.5), EchoTime=[10, 20], StudyDescription="*chest*")`:
        a scalar is exact, a list is any of its members, a pair is a closed range with None for an open
        end, * and ? are wildcards. Text conditions read as on the command line: `query("KVP>=100")`.
        Nested elements (`"ReferencedSeriesSequence.SeriesInstanceUID"`), tags (`"0018,0081"`) and private
        ones (`'0019,xx0C["SIEMENS MR HEADER"]'`) go in a dict: `query(**{"0018,0081": 30})`.
        Raises QueryError naming the condition that cannot be understood.
        """
        from dicomlake.catalog.query import conditions as parsed
        from dicomlake.catalog.query import matching, parse
        from dicomlake.cohort import Cohort

        every = (*(parse(text) for text in conditions), *parsed(wanted))
        with self._connection() as connection:
            return Cohort(self, matching(connection, every, self.headers), every)

    def _connection(self) -> DuckDBPyConnection:
        return self._mirror.connect()

    def sql(self, query: str) -> DuckDBPyRelation:
        """The answer to one SELECT on the mirror: `lake.sql("select * from series").df()`.

        Views: series, attribute (path, text, low, high, instances), study, patient, volume.
        Raises QueryError for anything but a SELECT.
        """
        from dicomlake.catalog.sql import select

        return select(self._connection(), query)

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

    def find(self, uid: str) -> list[Series]:
        """The series that a series, study or SOP instance UID names; a unique beginning of one is enough."""
        from dicomlake.series import Series

        with self._catalog.read() as view:
            return [Series(self, series_id) for series_id in reader.series_ids_with(view, uid)]

    def open(self, uid: str, **how: Any) -> Any:
        """What a SOPInstanceUID or SeriesInstanceUID opens as, whatever it is.

        Image series as `Series.open(**how)`; segmentations, structure sets, plans, reports, presentation
        states, waveforms, documents, videos and slides as the objects that they are.
        Raises VolumeError when the lake holds no such object, or several series of that UID.
        """
        from dicomlake.opening import open_uid

        return open_uid(self, uid, how)

    # ---- what a Series needs ------------------------------------------------------------------------

    def series_row(self, series_id: int) -> Row:
        """The catalog's row of a series."""
        return self.series_rows([series_id])[0]

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

    # ---- proving and mending ------------------------------------------------------------------------

    def verify(self, *, deep: bool = False, progress: bool | None = None) -> VerifyReport:
        """Read everything again and compare: originals, catalog rows, volume files against their hashes.

        deep: also decode every original again and compare it with its slice of the volume.
        """
        from dicomlake.integrity import verify
        from dicomlake.volumes.proof import check_volume

        def check(volume: Volume, former: bool) -> list[Finding]:
            def instances() -> dict[str, Instance]:
                with self._catalog.read() as view:
                    return {i.sop_instance_uid: i for i in reader.instances_of(view, volume.series)}

            originals = instances if deep and not former else None
            return check_volume(volume, self._storage, originals, former=former)

        return verify(self._catalog, self._storage, check, show=progress)

    def rebuild(self, *, volumes_only: bool = False, progress: bool | None = None) -> Report:
        """Make the catalog, the mirror and the volumes again, from the originals alone.

        Volumes become new versions; former ones that are whole stay until `prune` if the catalog is kept.
        volumes_only: keep the catalog. Returns a report of the originals and the volumes.
        """
        from dicomlake.ingest.rebuild import rebuild_catalog
        from dicomlake.ingest.report import Report

        started = time.perf_counter()
        originals = 0
        if not volumes_only:
            with self._catalog.database.alone(wait=True):  # what is taken in meanwhile would not be listed
                originals = rebuild_catalog(self._catalog, self._storage, self.path, show=progress)
        with self._catalog.read() as view:
            rows = reader.series_rows(view)
        keys = [SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]) for row in rows]
        volumes = self.build_volumes(keys, progress=progress, rebuild=True)
        return Report.rebuilt(originals, keys, volumes, time.perf_counter() - started)

    def doctor(self) -> list[tuple[str, str, str]]:
        """What this installation and this lake rest on: (name, state, remark), state ok, warn or bad."""
        from dicomlake.doctor import examine

        return examine(self.path)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{n:,} {_ONE[name] if n == 1 else name}" for name, n in self.counts().items() if n
        )
        return f"<Lake {str(self.path)!r}: {counts or 'empty'}>"

    def _repr_html_(self) -> str:
        cells = "".join(f"<td style='text-align:right'>{n:,}</td>" for n in self.counts().values())
        heads = "".join(f"<th>{name}</th>" for name in self.counts())
        title = f"<strong>Lake</strong> <code>{html.escape(str(self.path))}</code>"
        return f"<div>{title}<table><tr>{heads}</tr><tr>{cells}</tr></table></div>"
