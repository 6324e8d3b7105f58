"""What takes associations in one process: a server, its sink and services, over a catalog and a storage."""

from __future__ import annotations

import socket as sockets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror
from dicomlake.ingest.arriving import Arrivals
from dicomlake.listening.offering import Offering
from dicomlake.listening.register import CatalogSteps
from dicomlake.network import tls
from dicomlake.network.config import ReceiverConfig
from dicomlake.network.seams import Sender, Service, Watcher
from dicomlake.network.server import Server
from dicomlake.network.services.commitment import CommitmentService, Ledger
from dicomlake.network.services.finding import FindService
from dicomlake.network.services.forwarding import Forward
from dicomlake.network.services.getting import GetService
from dicomlake.network.services.moving import MoveService
from dicomlake.network.services.mpps import MppsService
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from dicomlake.storage.objectstore import Storage


@dataclass(frozen=True, slots=True)
class Reception:
    """What a process that receives needs to know; it travels.

    root: the lake's folder. place: of its catalog. plain: receive with pynetdicom alone.
    """

    root: Path
    place: Path | str
    config: ReceiverConfig
    plain: bool = False


class Parts:
    """Catalog, storage and mirror of a lake, opened by a process that receives."""

    def __init__(self, reception: Reception) -> None:
        self.catalog = Catalog.open(reception.place)
        self.storage = LocalStorage(reception.root)
        self.mirror = Mirror(self.catalog, reception.root / layout.MIRROR)

    def close(self) -> None:
        """Let go of them."""
        self.mirror.close()
        self.catalog.database.engine.dispose()
        self.storage.close()


class Anteroom(Protocol):
    """A server as `server.Server` and `plain.PlainServer` are."""

    @property
    def port(self) -> int:
        """That it listens on."""

    @property
    def associations(self) -> int:
        """How many are open."""

    def start(self) -> None:
        """Listen and answer."""

    def stop(self, drain_s: float = 10.0) -> None:
        """Take no more, finish what is under way."""


@dataclass(frozen=True)
class Front:
    """The server of one process.

    ledger: where requests for commitment go. socket: one that listens already.
    """

    reception: Reception
    catalog: Catalog
    storage: Storage
    mirror: Mirror
    ledger: Ledger
    watcher: Watcher
    socket: sockets.socket | None = None

    @cached_property
    def sink(self) -> Arrivals:
        """Where objects go."""
        return Arrivals(self.catalog, self.storage, quotas=self._quota)

    @cached_property
    def server(self) -> Anteroom:
        """What listens. Raises SettingsError for TLS files that cannot be used."""
        config = self.reception.config
        make: Callable[..., Anteroom] = Server
        if self.reception.plain:
            from dicomlake.network.plain import PlainServer

            make = PlainServer
        return make(
            self.sink,
            self._services(),
            config.peers,
            config.limits,
            ae_titles=config.ae_titles,
            host=config.host,
            port=config.port,
            tls=None if config.tls is None else tls.server_context(config.tls),
            watcher=self.watcher,
            socket=self.socket,
            conflict_status=config.conflict_status,
        )

    def _quota(self, sender: Sender) -> int | None:
        peers = self.reception.config.peers
        return next((peer.quota_bytes for peer in peers if peer.name == sender.peer), None)

    def _services(self) -> list[Service]:
        finder = Offering(self.catalog, self.mirror, self.storage)
        return [
            CommitmentService(self.ledger),
            MppsService(CatalogSteps(self.catalog)),
            FindService(finder),
            MoveService(finder, Forward(tls=self._client_tls), self.reception.config.peers.by_ae),
            GetService(finder),
        ]

    def _client_tls(self) -> ssl.SSLContext | None:
        files = self.reception.config.tls
        return None if files is None else tls.client_context(files)
