"""A lake and a peer: what is sent is found in the catalog, what is fetched goes where received objects go."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dicomlake.catalog import holdings, reader
from dicomlake.catalog.clinical_rows import rematch
from dicomlake.errors import CatalogError, QueryError
from dicomlake.records import Instance, SeriesKey

if TYPE_CHECKING:
    from dicomlake.cohorts.cohort import Cohort
    from dicomlake.lake.lake import Lake
    from dicomlake.network.requesting.addresses import Address
    from dicomlake.network.requesting.associations import Waits
    from dicomlake.network.requesting.pull import Options
    from dicomlake.network.requesting.pull_report import PullReport
    from dicomlake.network.requesting.send_report import SendReport
    from dicomlake.network.requesting.wanted import Wanted
    from dicomlake.series import Series

PULLS = "pulls"
"""The folder of a lake that keeps the journals of pulls; they identify patients, and leave no lake."""


def send(
    lake: Lake,
    what: str | Cohort | Iterable[str | Series],
    to: Address | str,
    *,
    calling: str = "DICOMLAKE",
    tls: ssl.SSLContext | None = None,
    retries: int = 3,
    transcode: bool = True,
    waits: Waits | None = None,
    dry_run: bool = False,
    progress: bool | None = None,
) -> SendReport:
    """Send originals of a lake to a peer, as `network.requesting.send.send`.

    what: UIDs of studies, series or instances, series, or a cohort. Of objects in conflict the first goes.
    Raises QueryError when the lake does not hold one of the UIDs: nothing is sent then.
    """
    from dicomlake.network.requesting.outgoing import originals
    from dicomlake.network.requesting.send import send as send_objects

    chosen = _instances(lake, [what] if isinstance(what, str) else what)
    return send_objects(
        originals(chosen, lake.storage),
        to,
        calling=calling,
        tls=tls,
        retries=retries,
        transcode=transcode,
        waits=waits,
        dry_run=dry_run,
        progress=progress,
    )


def pull(
    lake: Lake,
    source: Address | str,
    wanted: str | Iterable[str | Wanted],
    *,
    options: Options | None = None,
    volumes: bool = True,
) -> PullReport:
    """Fetch studies from a peer into a lake, as `network.requesting.pull.pull`; what is here is not fetched.

    wanted: StudyInstanceUIDs, or what `network.requesting.wanted` makes of queries and tables. options: the
    journal lies in the lake.
    volumes: build those of the series that got new instances.
    """
    from dicomlake.ingest.arriving import Arrivals
    from dicomlake.network.requesting import pull as pulling
    from dicomlake.network.requesting.wanted import studies

    if lake.read_only:
        raise CatalogError("the lake is read-only: open one that can be written")
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    uids = [one for one in asked if isinstance(one, str)]
    rows = studies(uids) + [one for one in asked if not isinstance(one, str)]
    chosen = dataclasses.replace(options or pulling.Options(), journal=lake.path / PULLS)
    fresh: dict[SeriesKey, None] = {}
    sink = Arrivals(
        lake._catalog, lake._storage, on_stored=lambda key, _uid, _header, _request: fresh.update({key: None})
    )

    def held(study_uid: str) -> set[str]:
        with lake._catalog.read() as view:
            return holdings.instances_of_study(view, study_uid)

    try:
        return pulling.pull(source, rows, into=sink, held=held, options=chosen)
    finally:
        _make_visible(lake, list(fresh), volumes, chosen.show)


def _make_visible(lake: Lake, fresh: Sequence[SeriesKey], volumes: bool, show: bool | None) -> None:
    from dicomlake.ingest.settle import settle

    for key in fresh:
        settle(lake._catalog, lake._storage, key)
    lake._index_words()
    rematch(lake._catalog)
    if volumes and fresh:
        lake.build_volumes(fresh, progress=show)


def _instances(lake: Lake, what: Iterable[str | Series]) -> list[Instance]:
    """The objects, each once, in the order in which they are named."""
    found: dict[tuple[SeriesKey, str], Instance] = {}
    unknown: list[str] = []
    for one in what:
        named = _of_uid(lake, one) if isinstance(one, str) else _of_series(lake, one.key)
        if not named and isinstance(one, str):
            unknown.append(one)
        found.update({(i.series, i.sop_instance_uid): i for i in named})
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise QueryError(f"the lake holds nothing of the UID {unknown[0]}{more}: see `dicomlake ls`")
    return list(found.values())


def _of_uid(lake: Lake, uid: str) -> list[Instance]:
    """What a whole UID of a study, a series or an instance names."""
    keys = [series.key for series in lake.find(uid)]
    instances = [instance for key in keys for instance in _of_series(lake, key)]
    for named in (
        [i for i in instances if uid in (i.series.study_uid, i.series.series_uid)],
        [i for i in instances if i.sop_instance_uid == uid],
    ):
        if named:
            return named
    return []


def _of_series(lake: Lake, key: SeriesKey) -> list[Instance]:
    with lake._catalog.read() as view:
        return reader.instances_of(view, key)
