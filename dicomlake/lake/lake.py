"""The lake itself: takes DICOM in, builds volumes, proves and mends what it holds."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from dicomlake.catalog import reader
from dicomlake.catalog.clinical_rows import rematch
from dicomlake.lake.networking import Networking
from dicomlake.records import Finding, Instance, SeriesKey, Volume

if TYPE_CHECKING:
    from distributed import Client

    from dicomlake.ingest.report import Report
    from dicomlake.ingest.sources import Source
    from dicomlake.integrity import VerifyReport
    from dicomlake.series import Series
    from dicomlake.settings import Mode
    from dicomlake.volumes.prune import PruneReport

_ONE = {
    "patients": "patient",
    "studies": "study",
    "series": "series",
    "instances": "instance",
    "volumes": "volume",
    "findings": "finding",
    "refused": "refused",
}


class Lake(Networking):
    """An archive of DICOM objects in one folder. Made by `dicomlake.open`; safe to use from many threads."""

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
        self._index_words()
        rematch(self._catalog)
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
                originals = rebuild_catalog(self._catalog, self._storage, show=progress)
        self._index_words()
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
