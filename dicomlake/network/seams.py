"""What the network layer is given and what it hands on: a sink for objects, services for the rest.

Nothing in this package knows a lake. An association reads a request from its peer and gives it to the sink
or to a service; what these answer becomes a DIMSE status by `statuses`.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from dicomlake.records import Outcome, Sender, Stored, StoreRequest

Operation = Literal["echo", "store", "commit", "mpps", "find", "move", "get"]
"""What a peer may be allowed to do."""

__all__ = [  # with what `records` holds, as the sink lies in another layer
    "Answered",
    "Command",
    "Message",
    "Operation",
    "Outcome",
    "Replies",
    "Reply",
    "Sender",
    "Service",
    "Sink",
    "StoreRequest",
    "Stored",
    "Watcher",
]


class Sink(Protocol):
    """Where received objects go. Safe to use from many threads."""

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        """Take an object in; returns once it is durable and in the catalog, or says why it is not.

        pieces: the data set as it came over the wire, in pieces; each is valid until the next is asked for.
        The caller draws what is left of them. What `pieces` raises passes through, and nothing is kept.
        """


Command: TypeAlias = dict[int, bytes | str | int]
"""A command set: element number within group 0000 -> value (US and UL int, UI and AE str, others bytes)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A DIMSE request other than C-STORE and C-ECHO, whole.

    dataset: as encoded in the transfer syntax.
    contexts: abstract syntax -> transfer syntaxes of the presentation contexts on which the peer also takes
        requests, having proposed to be the SCP of it (PS3.7 annex D.3.3.4); for the sub-operations of C-GET.
    """

    command: Command
    dataset: bytes = field(repr=False)
    abstract_syntax: str
    transfer_syntax: str
    sender: Sender
    contexts: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to the peer on the same presentation context: a response, or a request of our own.

    command: without group length and data set type, which follow from the rest.
    dataset: whole, or where it is too large to hold in pieces, which are drawn once.
    abstract_syntax, transfer_syntax: of the presentation context to send it on, where that is another one.
    """

    command: Command
    dataset: bytes | Iterator[bytes] = field(default=b"", repr=False)
    abstract_syntax: str = ""
    transfer_syntax: str = ""


Replies: TypeAlias = Generator[Reply, "Answered | None", None]


@dataclass(frozen=True, slots=True)
class Answered:
    """What the peer answered to a request of ours; status None when it did not, or went away."""

    status: int | None


class Cancelled(Exception):
    """Thrown into the generator of a service when the peer sends C-CANCEL-RQ (PS3.7 section 9.3.2.3).

    What it yields then is the final response. Where it raises or returns instead, status 0xFE00 is sent.
    """


class Service(Protocol):
    """What answers the requests to some SOP classes."""

    @property
    def operation(self) -> Operation:
        """What a peer needs to be allowed to do."""

    @property
    def sop_classes(self) -> Collection[str]:
        """Abstract syntaxes that it accepts."""

    def answer(self, message: Message) -> Replies:
        """What to send, in order. After a request of ours, the generator gets what the peer answered.

        An abort or the end of the association closes the generator; a C-CANCEL-RQ throws `Cancelled` into it.
        Raises DicomlakeError for what becomes a failure (0x0110, processing failure).
        """


class Watcher(Protocol):
    """Who is told what happens on associations; must return at once and raise nothing."""

    def opened(self, sender: Sender) -> None:
        """An association was accepted."""

    def refused(self, host: str, calling: str, reason: str) -> None:
        """A connection or an association was turned away; reason is a short stable word or two."""

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        """An object was answered, `seconds` after its command."""

    def closed(self, sender: Sender, how: str) -> None:
        """An association ended: released, aborted, timeout, violation, connection lost, stopped."""
