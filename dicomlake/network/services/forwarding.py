"""Objects go to the destination of a C-MOVE one after another, each with the status that answered it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dicomlake.dicom.headers import read_header
from dicomlake.errors import DicomlakeError, PeerError
from dicomlake.network.peers import Peer
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Waits, accepted, associated, store
from dicomlake.network.requesting.outgoing import Outgoing, data_set
from dicomlake.network.requesting.proposing import Batch, batches, way
from dicomlake.network.requesting.transcoding import transcoded
from dicomlake.network.services.moving import Originator

if TYPE_CHECKING:
    from pynetdicom.association import Association

_MESSAGES = 0xFFFF  # message IDs are US

Sent = Generator[tuple[Outgoing, int | None], None, None]


class _How(NamedTuple):
    syntax: str
    context: int
    message: int
    originator: Originator


class Forward:
    """A `moving.Send` by pynetdicom; a data set goes unchanged where the peer takes its transfer syntax.

    Nothing is tried twice: who asked for the move is told what failed, and asks again.
    tls: makes the context for peers that want it.
    """

    def __init__(
        self, *, tls: Callable[[], ssl.SSLContext | None] = lambda: None, waits: Waits | None = None
    ) -> None:
        self._tls = tls
        self._waits = waits or Waits()

    def __call__(
        self,
        objects: Sequence[Outgoing],
        destination: Peer,
        *,
        calling: str,
        originator: Originator,
    ) -> Sent:
        """As `moving.Send`. Raises PeerError when the peer cannot be reached or turns us away."""
        if destination.address is None:
            raise PeerError(f"the peer {destination.name} has no address: write it into the list of peers")
        tls = self._tls() if destination.tls else None
        if destination.tls and tls is None:
            raise PeerError(f"the peer {destination.name} wants TLS: give the receiver a certificate")
        address = Address(destination.ae_title, *destination.address)
        for batch in batches(objects, transcode=True):
            with associated(
                address, batch.contexts, calling=calling, tls=tls, waits=self._waits
            ) as association:
                yield from _on(association, objects, batch, originator)


def _on(association: Association, objects: Sequence[Outgoing], batch: Batch, originator: Originator) -> Sent:
    ways = accepted(association)
    for number, place in enumerate(batch.places):
        one = objects[place]
        syntax = way(one, ways, transcode=True)
        if syntax is None:
            yield one, None
            continue
        how = _How(syntax, ways[one.sop_class_uid, syntax], number % _MESSAGES + 1, originator)
        yield one, _stored(association, one, how)


def _stored(association: Association, one: Outgoing, how: _How) -> int | None:
    """The status of the answer; None where the object cannot be read or written otherwise."""
    uids = one.sop_class_uid, one.sop_instance_uid
    try:
        with one.open() as readable:
            header = read_header(readable)
            if how.syntax == one.transfer_syntax:
                pieces: Iterable[bytes] = data_set(readable, header)
            else:
                pieces = (transcoded(readable, header, how.syntax),)
            return store(association, uids, how.context, pieces, how.message, originator=how.originator)
    except PeerError:
        raise
    except DicomlakeError:
        return None
