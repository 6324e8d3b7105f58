"""What can go wrong with a peer."""

from __future__ import annotations

from dicomlake.errors import DicomlakeError


class AddressError(DicomlakeError):
    """An address of a peer that cannot be understood."""


class PeerError(DicomlakeError):
    """A peer that cannot be reached, refuses, or went away.

    temporary: whether the same may work a little later.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class Lost(PeerError):
    """An association or a connection that ended while something was under way."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=True)
