"""A lake on the network: it listens, sends, pulls, and says how it fares."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dicomlake.catalog import network
from dicomlake.errors import CatalogError
from dicomlake.lake.seeing import Seeing

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from dicomlake.ingest.report import Report
    from dicomlake.listening.receiver import Receiver
    from dicomlake.listening.status import Status
    from dicomlake.listening.watching import After, WatchFolder
    from dicomlake.network.config import ReceiverConfig
    from dicomlake.network.peers import Peer, Peers
    from dicomlake.network.requesting.addresses import Address
    from dicomlake.network.requesting.pull import Options
    from dicomlake.network.requesting.pull_report import PullReport
    from dicomlake.network.requesting.send_report import SendReport
    from dicomlake.network.requesting.wanted import Wanted
    from dicomlake.network.tls import TlsFiles
    from dicomlake.widgets.monitor import Monitor


class Networking(Seeing):
    """What a lake does with other machines."""

    def listen(
        self,
        *,
        ae_title: str | None = None,
        port: int | None = None,
        host: str | None = None,
        peers: Literal["any"] | Peers | str | Path | Iterable[Peer] | None = None,
        tls: TlsFiles | None = None,
        processes: int | None = None,
        quiet: float | None = None,
        volumes: bool | None = None,
        http_port: int | None = None,
        webhook: str | None = None,
        config: ReceiverConfig | str | os.PathLike[str] | None = None,
        open_to_all: bool = False,
        plain: bool = False,
        builders: int = 1,
    ) -> Receiver:
        """Take what modalities push (C-STORE), until the receiver is stopped.

        `with lake.listen(port=0, peers="any") as receiver: receiver.wait(studies=1)`

        An object is answered with success once it is durable and in the catalog. A series settles when it was
        quiet for a while, or is complete as its sender says; then its volumes are built.
        ae_title: that it answers to. port: 0 takes a free one. host: this machine alone unless given.
        peers: who may do what: a TOML file, entries, or "any" for everybody to verify and store; nobody
            unless given here or in lake.toml.
        quiet: seconds after which a series counts as complete. volumes: whether they are built.
        http_port: for STOW-RS, /metrics and /healthz. webhook: a URL that is told of ready series.
        config: all of this and more (`ReceiverConfig`), from a TOML file; those of lake.toml unless given.
        open_to_all: that everybody may store from other machines, which is refused otherwise.
        plain: receive with pynetdicom alone. builders: processes that build volumes; 0 for a thread.
        Raises SettingsError for what cannot be meant, CannotListen when the port is not to be had.
        """
        from dicomlake.listening.receiver import Receiver, Site
        from dicomlake.network.config import ReceiverConfig

        if not isinstance(config, ReceiverConfig):
            config = (
                ReceiverConfig.of_lake(self.path) if config is None else ReceiverConfig.read(Path(config))
            )
        chosen = config.but(
            ae_title=ae_title,
            host=host,
            port=port,
            peers=peers,
            tls=tls,
            processes=processes,
            quiet=quiet,
            volumes=volumes,
            http_port=http_port,
            webhook=webhook,
        ).checked(open_to_all=open_to_all)
        if self.read_only:
            raise CatalogError("the lake is read-only: open one that can be written")
        site = Site(self.path, self._catalog, self._storage, self._mirror, self.settings.volumes)
        return Receiver(site, chosen, plain=plain, builders=builders).start()

    def send(self, what: Any, to: Address | str, **how: Any) -> SendReport:
        """Send originals to a peer (C-STORE), byte for byte where it takes their transfer syntax.

        `lake.send(cohort, "PACS@10.1.2.3:104")`
        what: UIDs of studies, series or instances, series, or a cohort. to: AE@HOST:PORT.
        how: calling, tls, retries, transcode, dry_run, progress; see `network.requesting.send.send`.
        What could not be sent is in the report and stops no other. Raises QueryError when the lake does not
        hold one of the UIDs: nothing is sent then.
        """
        from dicomlake.lake.exchanging import send

        whole: Any = self  # a Lake
        return send(whole, what, to, **how)

    def pull(
        self,
        source: Address | str,
        wanted: str | Iterable[str | Wanted],
        *,
        options: Options | None = None,
        volumes: bool = True,
    ) -> PullReport:
        """Fetch studies from a peer (C-FIND with C-MOVE or C-GET, or DICOMweb); what is here is not fetched.

        source: AE@HOST:PORT, or the URL of a DICOMweb service. wanted: StudyInstanceUIDs, or what
        `network.requesting.wanted` makes of queries and tables. options: how, how fast, priors
        (`network.requesting.pull.Options`).
        volumes: build those of the series that got new instances.
        A row for each study in the report; what failed is fetched by the same call again.
        """
        from dicomlake.lake.exchanging import pull

        whole: Any = self  # a Lake, which builds volumes
        return pull(whole, source, wanted, options=options, volumes=volumes)

    def watch(
        self,
        folder: str | os.PathLike[str],
        *,
        settle_s: float = 5.0,
        poll_s: float = 2.0,
        after: After = "keep",
        moved_to: str | os.PathLike[str] | None = None,
        volumes: bool = True,
    ) -> WatchFolder:
        """Take in what comes to rest in a folder, until the watch is stopped.

        `with lake.watch("incoming", after="move", moved_to="done") as watch: ...`
        settle_s: how long a file must be at rest. poll_s: between two looks.
        after: what becomes of files that are in the lake; "delete" only after the original was read again.
        volumes: build those of series that got new instances. `watch.kept` lists what stays, and why.
        """
        from dicomlake.listening.watching import Proof, WatchFolder

        whole: Any = self  # a Lake, which ingests

        def take(files: list[Path]) -> Report:
            report: Report = whole.ingest(*files, volumes=volumes, progress=False)
            return report

        return WatchFolder(
            Path(folder),
            take,
            settle_s=settle_s,
            poll_s=poll_s,
            after=after,
            moved_to=None if moved_to is None else Path(moved_to),
            is_safe=Proof(self._catalog, self._storage) if after == "delete" else None,
        ).start()

    def status(self, *, hours: float = 24.0) -> Status:
        """What came lately, what is due, what went wrong, and the receivers that run, in whatever process.

        hours: how far back to count.
        """
        from dicomlake.listening.status import status

        return status(self._catalog, self.path, hours=hours)

    def monitor(self, receiver: Receiver | None = None) -> Monitor:
        """What arrives, what is due, what failed and why, with "try again": a widget that follows while seen.

        receiver: of this process, which tells of every event; without it the lake is asked every two seconds,
        whichever process receives. Names show only where they are asked for, and are never saved.
        """
        from dicomlake.listening.monitoring import LakeSource
        from dicomlake.widgets.monitor import Monitor

        if receiver is not None:
            return receiver.monitor()
        return Monitor(LakeSource(self._catalog, self._storage, self.path, self.settings.volumes))

    def arrivals(self, *, since: datetime | None = None, calling: str | None = None) -> pd.DataFrame:
        """One row an object that a peer sent: when, from whom, what became of it; the newest first.

        since: a time with its zone. calling: the AE title of the sender.
        """
        import pandas as pd

        with self._catalog.read() as view:
            rows = network.arrivals(view, since=since, calling=calling)
        return pd.DataFrame(rows, columns=network.Arrival._fields)

    def expected(self) -> pd.DataFrame:
        """What modalities said they would send (MPPS, storage commitment), and what of it is here."""
        import pandas as pd

        with self._catalog.read() as view:
            rows = network.expectations(view)
        columns = ("study_uid", "series_uid", "source", "reference", "count", "received", "missing", "at")
        return pd.DataFrame([[getattr(one, name) for name in columns] for one in rows], columns=columns)
