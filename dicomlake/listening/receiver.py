"""A lake that listens: associations, the series they bring, commitments, HTTP, and what is told of it all."""

from __future__ import annotations

import socket as sockets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dicomlake.catalog import reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror
from dicomlake.errors import CannotListen
from dicomlake.listening.building import Elsewhere, Here, Work
from dicomlake.listening.committing import Committer
from dicomlake.listening.events import EventLog, Watchers, now
from dicomlake.listening.expecting import from_catalog
from dicomlake.listening.front import Anteroom, Front, Reception
from dicomlake.listening.fronts import Fronts
from dicomlake.listening.live import Live
from dicomlake.listening.logs import LogWatcher
from dicomlake.listening.metrics import Metrics
from dicomlake.listening.settling import Settler
from dicomlake.listening.tallying import Tally
from dicomlake.listening.webhooks import DEFAULT, Webhooks, read_secret
from dicomlake.network import tls
from dicomlake.network.config import ReceiverConfig
from dicomlake.network.seams import Sender, Stored, StoreRequest
from dicomlake.network.server import Unwatched
from dicomlake.network.services.commitment import Reference
from dicomlake.records import SeriesKey
from dicomlake.settings import Mode
from dicomlake.storage.objectstore import Storage

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.network.web.serving import HttpServer
    from dicomlake.widgets.monitor import Monitor

_BACKLOG = 1024
_LOOK_S = 5.0  # between two looks for what nobody could tell, as its process was killed


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of the lake that listens. volumes: how they are kept."""

    root: Path
    catalog: Catalog
    storage: Storage
    mirror: Mirror
    volumes: Mode = "copy"


class Receiver:
    """Takes what modalities push, until `stop`; made by `Lake.listen`, and a context that drains at its end.

    events: what happens, as `EventLog`.
    """

    def __init__(self, site: Site, config: ReceiverConfig, *, plain: bool = False, builders: int = 1) -> None:
        """builders: processes that build volumes; 0 builds in a thread of this one."""
        self.config = config
        self.events = EventLog()
        self._site, self._stopped = site, threading.Event()
        self._reception = Reception(site.root, site.catalog.database.place, config, plain)
        work: Work = (
            Elsewhere(site.catalog, site.storage, builders=builders, mode=site.volumes)
            if builders
            else Here(site.catalog, site.storage, site.volumes)
        )
        self._settler = Settler(
            site.catalog,
            site.storage,
            work,
            volumes=config.volumes,
            quiet_s=config.quiet_s,
            builders=max(1, builders),
            on_event=self.events.add,
            expected=from_catalog(site.catalog),
            look_s=_LOOK_S,
        )
        self._committer = Committer(
            site.catalog,
            site.storage,
            config.peers,
            config.ae_titles[0],
            tls=tls.client_context(config.tls) if config.tls else None,
            tell=self.events.tell,
            complete=self._complete,
        )
        self._metrics = Metrics(
            peers={peer.ae_title for peer in config.peers},
            queue=self._settler.counts,
            commitments=lambda: len(self._committer.unreported()),
            folder=site.root,
        )
        self._tally, log = Tally(), LogWatcher()
        for listener in (self._metrics, log):
            self.events.subscribe(listener.event)
        arrived = _Arrived(self._settler)
        self._watcher = Watchers(arrived, self._tally, self.events, self._metrics, log)
        self._front: Anteroom | None = None
        self._http: HttpServer | None = None
        self._webhooks: Webhooks | None = None
        self._live = Live(
            site.root,
            self.as_dict,
            on_low=lambda free: self.events.tell("disk_low", detail=f"{free / 1e9:.1f} GB free"),
        )
        self._began = ""
        self._stopping = False

    # ---- life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen. Raises CannotListen for an address that is not to be had, SettingsError for TLS files."""
        config = self.config
        try:
            self._front = self._made_front()
            self._settler.start()
            self._committer.start()
            if config.webhook is not None:
                self._webhooks = self._made_webhooks(config.webhook)
            self._front.start()
            if config.http_port is not None:
                self._http = self._made_http(config.http_port)
        except OSError as error:
            self.stop(0.0)
            raise CannotListen(
                f"cannot listen on {config.host}:{config.port} ({error.strerror}): choose another port, "
                "or stop what listens there"
            ) from error
        except BaseException:
            self.stop(0.0)
            raise
        self._began = now()
        self._live.start()
        self.events.tell("started", detail=f"{config.host}:{self.port}")
        return self

    def _made_front(self) -> Anteroom:
        config, site = self.config, self._site
        if config.processes > 1:
            return Fronts(self._reception, _bound(config), self._watcher)
        return Front(
            self._reception, site.catalog, site.storage, site.mirror, self._committer, self._watcher
        ).server

    def _made_webhooks(self, url: str) -> Webhooks:
        config = self.config
        secret = read_secret(config.webhook_secret) if config.webhook_secret else None
        return Webhooks(self.events, url, kinds=config.webhook_events or DEFAULT, secret=secret)

    def _made_http(self, port: int) -> HttpServer:
        from dicomlake.ingest.arriving import Arrivals
        from dicomlake.network.web.access import Tokens
        from dicomlake.network.web.app import app
        from dicomlake.network.web.serving import HttpServer

        config = self.config
        served = app(
            Arrivals(self._site.catalog, self._site.storage),
            metrics=self.metrics,
            status=self.as_dict,
            health=self._health,
            tokens=Tokens(config.http_tokens) if config.http_tokens else None,
            watcher=self._watcher,
            conflict=config.conflict_status,
            called=self.ae_title,
        )
        context = tls.server_context(config.tls) if config.tls else None
        server = HttpServer(served, config.host, port, tls=context)
        server.start()
        return server

    def _health(self) -> str:
        """Why nothing is taken at the moment; empty while objects are."""
        return "draining" if self._stopping else ""

    def _complete(self, references: Sequence[Reference]) -> None:
        """A sender had the safety of these objects confirmed: it waits for no more, nor do their series."""
        with self._site.catalog.read() as view:
            found = reader.instances_with_uids(view, [one.sop_instance_uid for one in references])
        for key in {instance.series for held in found.values() for instance in held}:
            self._settler.settle_now(series=key)

    def stop(self, drain_s: float | None = None) -> None:
        """Take nothing more, let what is under way end, settle what came; at most `drain_s` seconds, about.

        What is not settled by then is acknowledged and safe, and settles when the lake is opened again.
        """
        if self._stopping:
            self._stopped.wait()
            return
        self._stopping = True
        left = self.config.drain_s if drain_s is None else drain_s
        deadline = time.monotonic() + left
        if self._front is not None:
            self._front.stop(left)
        if self._http is not None:
            self._http.stop(max(0.0, deadline - time.monotonic()))
        self._committer.stop()
        self._settler.stop(max(0.0, deadline - time.monotonic()))
        self.events.tell("stopped")
        self.events.flush()
        if self._webhooks is not None:
            self._webhooks.close()
        self._live.stop()
        self.events.close()
        self._stopped.set()

    def wait_stopped(self, timeout: float | None = None) -> bool:
        """Wait until it has been stopped; whether it was."""
        return self._stopped.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop(0.0 if kind is not None else None)

    # ---- asking ---------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """That it listens on."""
        return self._front.port if self._front is not None else self.config.port

    @property
    def http_port(self) -> int | None:
        """That of STOW-RS, /metrics and /healthz; None without."""
        return None if self._http is None else self._http.port

    @property
    def ae_title(self) -> str:
        """The first that it answers to."""
        return self.config.ae_titles[0]

    @property
    def associations(self) -> int:
        """How many are open now."""
        return 0 if self._front is None else self._front.associations

    def wait(
        self,
        *,
        studies: int | None = None,
        series: int | None = None,
        instances: int | None = None,
        timeout: float | None = None,
    ) -> list[SeriesKey]:
        """Wait until so many came and can be opened; the series that can, the oldest first.

        Without numbers: until nothing is under way. Raises NotArrived, a TimeoutError saying what there is.
        """
        return self._settler.wait(studies=studies, series=series, instances=instances, timeout=timeout)

    def settle_now(self, study_uid: str | None = None) -> int:
        """Settle a study, or all, without waiting for quiet; how many series these are."""
        return self._settler.settle_now(study_uid=study_uid)

    def progress(self) -> pd.DataFrame:
        """One row a series that is under way or was lately: received, expected, missing, state, since."""
        import pandas as pd

        return pd.DataFrame(self._settler.progress())

    def stats(self) -> dict[str, Any]:
        """Counts since the start: instances by outcome, bytes, associations, series by state."""
        queue = self._settler.counts()
        return self._tally.counts() | {f"series_{state}": number for state, number in queue.items()}

    def metrics(self) -> bytes:
        """The figures in the text format of Prometheus."""
        return self._metrics.text()

    def monitor(self) -> Monitor:
        """What arrives here, what is due, what failed and why: a widget that follows while it is seen."""
        from dicomlake.listening.monitoring import LakeSource, ReceiverSource
        from dicomlake.widgets.monitor import Monitor

        site = self._site
        lake = LakeSource(site.catalog, site.storage, site.root, site.volumes)
        return Monitor(ReceiverSource(self.events, self._settler, lake, self.as_dict))

    def as_dict(self) -> dict[str, Any]:
        """What it is and does, in JSON types, without identifying values."""
        return {
            "ae_titles": list(self.config.ae_titles),
            "host": self.config.host,
            "ports": [port for port in (self.port, self.http_port) if port],
            "processes": self.config.processes,
            "since": self._began,
            "associations": self.associations,
            "queue": self._settler.counts(),
            "stats": self._tally.counts(),
        }

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else f"{self.associations} associations"
        return f"<Receiver {self.ae_title}@{self.config.host}:{self.port}: {state}>"


class _Arrived(Unwatched):
    """Tells the settler what came, and when it may be known what will."""

    def __init__(self, settler: Settler) -> None:
        self._settler = settler

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:  # noqa: ARG002
        """A series has something new."""
        self._settler.stored(request, result)

    def closed(self, sender: Sender, how: str) -> None:  # noqa: ARG002
        """What it was told will come may be known by now."""
        self._settler.expectations_changed()


def _bound(config: ReceiverConfig) -> sockets.socket:
    """A socket that listens, to be shared by processes. Raises OSError."""
    family, kind, protocol, _name, address = sockets.getaddrinfo(
        config.host, config.port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE
    )[0]
    found = sockets.socket(family, kind, protocol)
    try:
        found.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
    except BaseException:
        found.close()
        raise
    return found
