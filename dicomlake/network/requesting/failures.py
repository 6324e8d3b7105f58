"""What ends an association that we opened."""

from __future__ import annotations

from dicomlake.errors import PeerError


class Lost(PeerError):
    """An association or a connection that ended while something was under way."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=True)
