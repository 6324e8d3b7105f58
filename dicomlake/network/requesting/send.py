"""Objects are sent to a peer (C-STORE as SCU, PS3.4 Annex B): unchanged where it takes them as they are."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicomlake.dicom.headers import read_header
from dicomlake.errors import DicomlakeError, PeerError
from dicomlake.network.requesting import answers
from dicomlake.network.requesting.addresses import Address, checked_title
from dicomlake.network.requesting.associations import Waits, accepted, associated, store
from dicomlake.network.requesting.failures import Lost
from dicomlake.network.requesting.outgoing import Outgoing, data_set
from dicomlake.network.requesting.proposing import Batch, batches, flaw, way
from dicomlake.network.requesting.send_report import (
    FAILED,
    PLANNED,
    SENT,
    UNSENT,
    WARNED,
    SendReport,
    SentObject,
)
from dicomlake.network.requesting.transcoding import transcoded
from dicomlake.progress import Progress
from dicomlake.progress import progress as bar

if TYPE_CHECKING:
    from pynetdicom.association import Association

_MESSAGES = 0xFFFF  # message IDs are US


def send(
    objects: Iterable[Outgoing],
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
    """Send objects to a peer; one that fails stops no other, and what was acknowledged is not sent again.

    The bytes of the data set go as they are when the peer accepts their transfer syntax; otherwise, with
    `transcode`, the object is written in Explicit or Implicit VR Little Endian, without loss.
    to: AE@HOST:PORT. calling: our AE title. retries: so many more tries, each after a longer pause, when
        an association cannot be had or is lost. dry_run: tell what would be sent, and ask nobody.
    Raises AddressError for an address or title that is none.
    """
    address = to if isinstance(to, Address) else Address.parse(to)
    sending = _Sending(
        list(objects), address, checked_title(calling), tls, retries, transcode, waits or Waits()
    )
    started = time.perf_counter()
    if dry_run:
        sending.plan()
    else:
        with bar(f"Sending to {address}", len(sending.items), unit="objects", show=progress) as shown:
            sending.run(shown)
    found = [sending.found[place] for place in range(len(sending.items))]
    return SendReport(found, str(address), sending.associations, time.perf_counter() - started)


@dataclass(slots=True)
class _Sending:
    """A send under way. found: what became of the objects, by place. tries: how often each was sent."""

    items: list[Outgoing]
    address: Address
    calling: str
    tls: ssl.SSLContext | None
    retries: int
    transcode: bool
    waits: Waits
    found: dict[int, SentObject] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    associations: int = 0
    message: int = 0

    def plan(self) -> None:
        """What would be sent."""
        for place, item in enumerate(self.items):
            why = flaw(item)
            self._tell(place, UNSENT if why else PLANNED, detail=why)

    def run(self, shown: Progress) -> None:
        """Send all."""
        for place, item in enumerate(self.items):
            if why := flaw(item):
                self._tell(place, UNSENT, detail=why, shown=shown)
        for batch in batches(self.items, transcode=self.transcode):
            self._batch(batch, shown)

    def _batch(self, batch: Batch, shown: Progress) -> None:
        """Until each object has an outcome: again from the first that has none."""
        waiting, failures, poisoned = deque(batch.places), 0, 0
        while waiting:
            first = waiting[0]
            try:
                self._associate(batch, waiting, shown)
            except PeerError as error:
                same = waiting[0] == first
                failures, poisoned = (failures + 1, poisoned) if same else (1, 0)
                if error.temporary and failures <= self.retries:
                    time.sleep(self.waits.pause(failures))
                    continue
                poisoned, failures = poisoned + 1, 0
                only_this = isinstance(error, Lost) and poisoned <= self.retries
                for _ in range(1 if only_this else len(waiting)):
                    self._tell(waiting.popleft(), FAILED, detail=str(error), shown=shown)

    def _associate(self, batch: Batch, waiting: deque[int], shown: Progress) -> None:
        """Send on one association until all is sent or it is lost."""
        how = {"calling": self.calling, "tls": self.tls, "waits": self.waits}
        with associated(self.address, batch.contexts, **how) as association:  # type: ignore[arg-type]
            self.associations += 1
            ways = accepted(association)
            while waiting:
                self._one(association, ways, waiting[0], shown)
                waiting.popleft()

    def _one(
        self, association: Association, ways: Mapping[tuple[str, str], int], place: int, shown: Progress
    ) -> None:
        item = self.items[place]
        syntax = way(item, ways, transcode=self.transcode)
        if syntax is None:
            tail = " nor uncompressed" if self.transcode else ""
            why = f"the peer does not take this SOP class in the transfer syntax {item.transfer_syntax}{tail}"
            return self._tell(place, UNSENT, detail=why, shown=shown)
        try:
            status = self._put(association, item, syntax, ways[item.sop_class_uid, syntax], place)
        except (PeerError, MemoryError):
            raise
        except DicomlakeError as error:
            return self._tell(place, UNSENT, detail=str(error), shown=shown)
        except OSError as error:
            return self._tell(place, UNSENT, detail=f"it cannot be read ({error.strerror})", shown=shown)
        good, warned = answers.is_success(status), answers.is_warning(status)
        outcome = SENT if good else WARNED if warned else FAILED
        return self._tell(place, outcome, status, answers.meaning(status), syntax, shown)

    def _put(self, association: Association, item: Outgoing, syntax: str, context: int, place: int) -> int:
        uids = item.sop_class_uid, item.sop_instance_uid
        with item.open() as readable:
            header = read_header(readable)
            if syntax == item.transfer_syntax:
                pieces: Iterable[bytes] = data_set(readable, header)
            else:
                pieces = (transcoded(readable, header, syntax),)
            self.message = self.message % _MESSAGES + 1
            self.tries[place] = self.tries.get(place, 0) + 1
            return store(association, uids, context, pieces, self.message)

    def _tell(
        self,
        place: int,
        outcome: str,
        status: int | None = None,
        detail: str = "",
        sent_as: str = "",
        shown: Progress | None = None,
    ) -> None:
        item = self.items[place]
        self.found[place] = SentObject(
            item.sop_instance_uid,
            outcome,
            status,
            detail,
            item.transfer_syntax,
            sent_as,
            self.tries.get(place, 0),
            item.size,
            getattr(item, "series_uid", ""),
        )
        if shown is not None:
            shown.advance(1, item.size)
