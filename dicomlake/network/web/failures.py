"""What goes wrong with a request over HTTP, each with the status that answers it."""

from __future__ import annotations

from typing import ClassVar

from dicomlake.errors import DicomlakeError


class WebError(DicomlakeError):
    """A request that is not done. status: of the HTTP response; how: a short stable word or two."""

    status: ClassVar[int] = 400
    how: ClassVar[str] = "violation"


class Malformed(WebError):
    """The request or its body breaks the grammar."""


class TooLarge(WebError):
    """The body is larger than this receiver reads."""

    status = 413


class NotTaken(WebError):
    """A media type or an encoding of the body that is not taken."""

    status = 415


class NotOffered(WebError):
    """The client accepts no media type that the answer comes in."""

    status = 406


class Slow(WebError):
    """The client stalls, or sends too slowly to be waited for."""

    status = 408
    how = "timeout"


class Gone(WebError):
    """The client went away before its request was whole, or the server stops."""

    how = "connection lost"
