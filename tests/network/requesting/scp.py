"""A storage SCP by pynetdicom that fails in chosen ways, and counts what it was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import CTImageStorage, Verification

ANY = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90")


class Peer:
    """What was received: by SOPInstanceUID the data set bytes as they came, and how often each did."""

    def __init__(self, behave: Callable[[Peer, Any], int]) -> None:
        self.behave = behave
        self.datasets: dict[str, bytes] = {}
        self.syntaxes: dict[str, str] = {}
        self.arrivals: Counter[str] = Counter()
        self.associations = 0
        self.proposed: list[int] = []
        self.address = ""

    @property
    def total(self) -> int:
        return sum(self.arrivals.values())

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.arrivals[uid] += 1
        status = self.behave(self, event)
        if status == 0 or status & 0xF000 == 0xB000:
            self.datasets[uid] = event.encoded_dataset(include_meta=False)
            self.syntaxes[uid] = str(event.context.transfer_syntax)
        return status

    def _opened(self, event: Any) -> None:
        self.associations += 1
        self.proposed.append(len(event.assoc.requestor.primitive.presentation_context_definition_list))


@contextmanager
def storing(
    behave: Callable[[Peer, Any], int] = lambda _peer, _event: 0,
    *,
    classes: Sequence[str] = (CTImageStorage,),
    syntaxes: Sequence[str] = ANY,
    require_calling: Sequence[str] = (),
    pdu: int = 16382,
) -> Iterator[Peer]:
    """A peer at its address until the end of the block."""
    peer = Peer(behave)
    entity = AE(ae_title="PEER")
    entity.maximum_pdu_size = pdu
    entity.require_calling_aet = list(require_calling)
    entity.supported_contexts = [build_context(uid, list(syntaxes)) for uid in (*classes, Verification)]
    handlers = [(evt.EVT_C_STORE, peer._store), (evt.EVT_REQUESTED, peer._opened)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.address = f"PEER@127.0.0.1:{server.socket.getsockname()[1]}"
    try:
        yield peer
    finally:
        server.shutdown()
