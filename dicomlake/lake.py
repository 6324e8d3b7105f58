"""A lake: where the parts meet. Opens it, and passes what each verb needs to those who do it."""

from __future__ import annotations

import builtins
import html
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomlake.catalog import reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror
from dicomlake.catalog.schema import SERIES_COLUMNS
from dicomlake.errors import CatalogError, DicomlakeError, NotALake, StorageError, StorageFull, VolumeError
from dicomlake.progress import progress
from dicomlake.records import Finding, Instance, Refused, SeriesKey, Volume
from dicomlake.settings import Settings
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from dicomlake.tables import frame

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from dicomlake.catalog.blocks import SeriesHeaders
    from dicomlake.cohort import Cohort, Series
    from dicomlake.ingest.report import Report
    from dicomlake.ingest.sources import Source
    from dicomlake.integrity import VerifyReport
    from dicomlake.volumes.plan import Plan

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
_VOLUME_FINDINGS = ("volume_failed",)


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
    root = _root(path)
    try:
        lake = open(root)
    except CatalogError:
        if volumes_only:
            raise
        _set_aside(root)
        lake = Lake(
            root.resolve(), Settings.parse((root / layout.LAKE_TOML).read_text(encoding="utf-8")), fresh=True
        )
    with lake:
        return lake.rebuild(volumes_only=volumes_only, progress=progress)


def _set_aside(root: Path) -> None:
    """Keep a damaged catalog beside the fresh one."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        found = root / (layout.CATALOG + suffix)
        if found.exists():
            found.rename(root / f"{layout.CATALOG}.damaged-{stamp}{suffix}")


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
        self, series: Iterable[SeriesKey] | None = None, *, progress: bool | None = None
    ) -> list[Volume]:
        """Make the volumes of these series, or of all that lack theirs; return what became of each."""
        keys = self._without_volumes() if series is None else builtins.list(series)
        return [volume for key in _shown(keys, "volumes", "series", progress) for volume in self._build(key)]

    def _without_volumes(self) -> list[SeriesKey]:
        with self._catalog.read() as view:
            return reader.series_without_volumes(view)

    def _build(self, key: SeriesKey) -> list[Volume]:
        """Plan, build and record the volumes of one series, alone: a slower builder must not publish last."""
        with self._catalog.database.building():
            return self._build_alone(key)

    def _build_alone(self, key: SeriesKey) -> list[Volume]:
        from dicomlake.volumes.plan import plan

        with self._catalog.read() as view:
            series_id = reader.series_id(view, key)
            if series_id is None:
                return []
            plans = plan(key, reader.headers_of(view, series_id))
            instances = {i.sop_instance_uid: i for i in reader.instances_of(view, key)}
            former = reader.volumes_of(view, key)
        if not plans and not former:
            return []
        if former:  # what they describe is about to be replaced
            with self._catalog.change("volumes") as (connection, v):
                writer.set_volumes(connection, v, key, [])
        findings: list[Finding] = []
        volumes = [
            self._build_one(one, instances, findings) if one.buildable else one.volume for one in plans
        ]
        with self._catalog.change("volumes") as (connection, v):
            if reader.series_id(connection, key) != series_id:
                return []  # new instances came meanwhile: whoever settled them builds again
            writer.close_findings(connection, v, key.series_uid, _VOLUME_FINDINGS)
            writer.set_volumes(connection, v, key, volumes)
            writer.add_findings(connection, v, findings)
        kept = {volume.key for volume in volumes}
        for volume in former:
            if volume.key is not None and volume.key not in kept:
                self._storage.delete_tree(volume.key)
        return volumes

    def _build_one(self, one: Plan, instances: dict[str, Instance], findings: list[Finding]) -> Volume:
        """The built volume; when it cannot be built, its record says why and a finding is added."""
        from dataclasses import replace

        from dicomlake.volumes.build import build

        try:
            return build(self._storage, one, instances)
        except StorageFull:
            raise
        except (DicomlakeError, MemoryError) as failure:
            error = (
                failure if isinstance(failure, DicomlakeError) else VolumeError("it does not fit into memory")
            )
            message = f"volume {one.volume.number} was not built: {error}"
            findings.append(Finding("error", "volume_failed", one.volume.series_uid, message))
            return replace(one.volume, reason=str(error))

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
        """The same as plain rows; level is patients, studies or series."""
        read = {"patients": reader.patients, "studies": reader.studies, "series": reader.series_rows}
        with self._catalog.read() as view:
            rows = read[level](view)
        hidden = ("id", "v_from", "v_to", "digest")
        return [{name: value for name, value in row.items() if name not in hidden} for row in rows]

    def volumes(self) -> list[Volume]:
        """A record for each volume, built or not, with its verdict."""
        with self._catalog.read() as view:
            return reader.volumes_of(view)

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
        from dicomlake.cohort import Series

        with self._catalog.read() as view:
            return [Series(self, series_id) for series_id in reader.series_ids_with(view, uid)]

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

    def _store(self, volume: Volume) -> Path:
        store = self._storage.local_path(volume.key) if volume.key is not None else None
        if store is None:
            raise VolumeError(f"volume {volume.number} of {volume.series_uid} is not built: {volume.reason}")
        return store

    def original(self, instance: Instance) -> bytes:
        """The bytes of an object, as they came."""
        return self._storage.get(instance.key)

    # ---- proving and mending ------------------------------------------------------------------------

    def verify(self, *, deep: bool = False, progress: bool | None = None) -> VerifyReport:
        """Read everything again and compare: originals, catalog rows, volume files against their hashes.

        deep: also decode every original again and compare it with its slice of the volume.
        """
        from dicomlake.integrity import verify

        def check(volume: Volume) -> list[Finding]:
            return self._check_volume(volume, deep)

        return verify(self._catalog, self._storage, check, show=progress)

    def _check_volume(self, volume: Volume, deep: bool) -> list[Finding]:
        from dicomlake.volumes import check

        scope = str(volume.key)
        remedy = "`dicomlake rebuild --volumes` makes it again"
        try:
            store = self._store(volume)
            if check.store_sha256(store) != volume.store_sha256:
                message = f"{_damage(store)} differ from what was built: {remedy}"
                return [Finding("error", "volume_damaged", scope, message)]
            if deep:
                with self._catalog.read() as view:
                    instances = {i.sop_instance_uid: i for i in reader.instances_of(view, volume.series)}
                wrong = check.differing_frames(store, self._storage, instances)
                if wrong:
                    message = f"slices {wrong[:8]} differ from their originals: {remedy}"
                    return [Finding("error", "volume_differs", scope, message)]
        except (VolumeError, StorageError) as error:
            return [Finding("error", "volume_damaged", scope, f"{error}")]
        return []

    def rebuild(self, *, volumes_only: bool = False, progress: bool | None = None) -> Report:
        """Make the catalog, the mirror and the volumes again, from the originals alone.

        volumes_only: keep the catalog. Returns a report of the originals and the volumes.
        """
        from dicomlake.ingest.report import Report

        started = time.perf_counter()
        originals = 0
        if not volumes_only:
            with self._catalog.database.alone(wait=True):  # what is taken in meanwhile would not be listed
                originals = self._rebuild_catalog(progress)
        with self._catalog.read() as view:
            rows = reader.series_rows(view)
        keys = [SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]) for row in rows]
        volumes = self.build_volumes(keys, progress=progress)
        return Report.rebuilt(originals, keys, volumes, time.perf_counter() - started)

    def _rebuild_catalog(self, show: bool | None) -> int:
        from dicomlake.ingest.restore import restore

        fresh_path = self.path / f".{layout.CATALOG}.rebuilt"
        for suffix in ("", "-wal", "-shm"):
            fresh_path.with_name(fresh_path.name + suffix).unlink(missing_ok=True)
        before = self._known_hashes()
        fresh = Catalog.open(fresh_path)
        try:
            originals, _troubles = restore(fresh, self._storage, show=show)
            _note_damage(fresh, before)
        finally:
            fresh.close()
        self._catalog.database.replace_with(fresh_path)
        fresh_path.with_suffix(".lock").unlink(missing_ok=True)
        return originals

    def _known_hashes(self) -> dict[str, str]:
        """Key and SHA-256 of every original in the catalog, as far as it can be read."""
        try:
            with self._catalog.read() as view:
                return {instance.key: instance.sha256 for instance in reader.all_instances(view)}
        except CatalogError:
            return {}

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


def _damage(store: Path) -> str:
    """What of a volume store differs from what was built."""
    from dicomlake.volumes.check import damaged_frames

    try:
        damaged = damaged_frames(store)
    except Exception:  # damaged metadata fails in as many ways as there are
        damaged = []
    return f"slices {damaged[:8]}" if damaged else "metadata or a copy for quick looks"


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


def _shown(keys: Sequence[SeriesKey], title: str, unit: str, show: bool | None) -> Iterator[SeriesKey]:
    with progress(title, len(keys), unit=unit, show=show) as bar:
        for key in keys:
            yield key
            bar.advance(1)
