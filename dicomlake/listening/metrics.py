"""What a receiver does, in numbers for Prometheus; labels are few: AE titles of known peers, short words."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dicomlake.listening.events import Event
from dicomlake.network.seams import Sender, Stored, StoreRequest, Watcher

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"

_ANSWER_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_WORK_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_WORDS = 40  # different reasons that get a label of their own

Counts = Callable[[], Mapping[str, int]]


class Metrics(Watcher):
    """The numbers of one receiver, in a registry of their own. Safe to use from many threads.

    peers: calling AE titles that get a label; all others share one.
    queue: state to how many series are in it. commitments: how many are open. folder: of the lake.
    """

    def __init__(
        self,
        *,
        peers: Collection[str] = (),
        queue: Counts | None = None,
        commitments: Callable[[], int] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._peers = frozenset(peers)
        self._words: dict[str, set[str]] = {}
        self._children: dict[tuple[str, str], tuple[Counter, Counter, Gauge]] = {}
        self._make_of_network()
        self._make_of_work()
        self.registry.register(_Looked(queue, commitments, folder))

    def _make_of_network(self) -> None:
        add: dict[str, Any] = {"registry": self.registry}
        self._now = Gauge("dicomlake_associations", "Associations that are open.", **add)
        self._opened = Counter("dicomlake_associations_accepted", "By calling AE.", ["calling"], **add)
        self._closed = Counter("dicomlake_associations_closed", "By how they ended.", ["how"], **add)
        self._refused = Counter("dicomlake_associations_refused", "By reason.", ["reason"], **add)
        self._objects = Counter(
            "dicomlake_instances",
            "Objects by calling AE and what became of them.",
            ["calling", "outcome"],
            **add,
        )
        self._bytes = Counter("dicomlake_received_bytes", "Bytes of data sets.", ["calling"], **add)
        self._answer = Histogram(
            "dicomlake_store_seconds", "From a C-STORE-RQ to its answer.", buckets=_ANSWER_S, **add
        )
        self._last = Gauge(
            "dicomlake_last_arrival_timestamp_seconds", "When an object came last.", ["calling"], **add
        )

    def _make_of_work(self) -> None:
        add: dict[str, Any] = {"registry": self.registry}
        self._settle = Histogram(
            "dicomlake_settle_seconds", "To make a series visible.", buckets=_WORK_S, **add
        )
        self._build = Histogram(
            "dicomlake_build_seconds", "To build the volumes of a series.", buckets=_WORK_S, **add
        )
        self._failures = Counter("dicomlake_failures", "What failed, by kind of event.", ["kind"], **add)
        self._commitments = Counter(
            "dicomlake_commitments", "Storage commitment, by what became of it.", ["state"], **add
        )

    # ---- seams.Watcher ------------------------------------------------------------------------------------

    def opened(self, sender: Sender) -> None:
        """See Watcher."""
        self._now.inc()
        self._opened.labels(self._peer(sender.calling)).inc()

    def refused(self, host: str, calling: str, reason: str) -> None:  # noqa: ARG002  # the seam
        """See Watcher."""
        self._refused.labels(self._word("reason", reason)).inc()

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        """See Watcher."""
        calling = self._peer(request.sender.calling)
        known = self._children.get((calling, result.outcome))
        if known is None:  # looking them up by their labels costs more than counting
            objects = self._objects.labels(calling, result.outcome)
            known = (objects, self._bytes.labels(calling), self._last.labels(calling))
            self._children[calling, result.outcome] = known
        objects, received, last = known
        objects.inc()
        received.inc(result.size)
        self._answer.observe(seconds)
        if result.outcome in ("stored", "already", "conflict"):
            last.set(time.time())

    def closed(self, sender: Sender, how: str) -> None:  # noqa: ARG002  # the seam
        """See Watcher."""
        self._now.dec()
        self._closed.labels(self._word("how", how)).inc()

    # ---- what is not on an association --------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Count what happened elsewhere: to be subscribed to an EventLog."""
        kind = event.kind
        if kind == "series_settled" and event.seconds is not None:
            self._settle.observe(event.seconds)
        elif kind == "series_ready" and event.seconds is not None:
            self._build.observe(event.seconds)
        elif kind.startswith("commitment_"):
            self._commitments.labels(kind.removeprefix("commitment_")).inc(event.count)
        if kind in (
            "settle_failed",
            "volume_failed",
            "commitment_failed",
            "webhook_failed",
            "webhook_dropped",
        ):
            self._failures.labels(kind).inc(event.count)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus; see CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _peer(self, calling: str) -> str:
        return calling if calling in self._peers else OTHER

    def _word(self, label: str, word: str) -> str:
        known = self._words.setdefault(label, set())
        if word not in known:
            if len(known) >= _WORDS:
                return OTHER
            known.add(word)
        return word


class _Looked:
    """What is looked up when somebody asks for the numbers."""

    def __init__(
        self, queue: Counts | None, commitments: Callable[[], int] | None, folder: Path | None
    ) -> None:
        self._queue, self._commitments, self._folder = queue, commitments, folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry. What cannot be had now is left out."""
        if self._queue is not None:
            family = GaugeMetricFamily("dicomlake_series", "Series that are not ready.", labels=["state"])
            for state, number in self._queue().items():
                family.add_metric([state], number)
            yield family
        with suppress(Exception):
            if self._commitments is not None:
                number = self._commitments()
                yield GaugeMetricFamily("dicomlake_commitments_open", "To be answered.", value=number)
        with suppress(OSError):
            if self._folder is not None:
                free = shutil.disk_usage(self._folder).free
                yield GaugeMetricFamily("dicomlake_disk_free_bytes", "Beside the lake.", value=free)
