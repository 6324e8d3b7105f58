"""How an association can end before its time.

    AssociationError
    ├── Violation        the peer broke the protocol; it is told so by an A-ABORT
    ├── Aborted          the peer sent an A-ABORT
    ├── ConnectionLost   the connection ended within a message, or broke
    ├── TimedOut         the peer sends nothing, too slowly, or does not read
    └── Stopped          this receiver stops

No message holds what a peer sent, lengths and numbers excepted.
"""

from __future__ import annotations

from dicomlake.errors import DicomlakeError

BY_USER, BY_PROVIDER = 0, 2
"""Sources of an A-ABORT (PS3.8 table 9-26)."""

NO_REASON, UNRECOGNIZED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 0, 1, 2, 5, 6
"""Reasons of an A-ABORT by the service-provider (PS3.8 table 9-26)."""


class AssociationError(DicomlakeError):
    """An association cannot go on; what was being received is void.

    how: one stable word or two, as `Watcher.closed` is told.
    abort: source and reason of the A-ABORT to send; None when there is nobody to tell.
    """

    how = "failed"
    abort: tuple[int, int] | None = (BY_USER, NO_REASON)


class Violation(AssociationError):
    """The peer broke the protocol; reason: of PS3.8 table 9-26."""

    how = "violation"

    def __init__(self, message: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.abort = (BY_PROVIDER, reason)


class Aborted(AssociationError):
    """The peer sent an A-ABORT."""

    how = "aborted"
    abort = None


class ConnectionLost(AssociationError):
    """The connection broke, or ended where more had to come."""

    how = "connection lost"
    abort = None


class TimedOut(AssociationError):
    """The peer sent nothing, or too slowly, or did not read what it was sent."""

    how = "timeout"


class Stopped(AssociationError):
    """The receiver stops."""

    how = "stopped"
