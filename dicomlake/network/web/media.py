"""Media types, as in Content-Type and Accept (RFC 9110 sections 8.3.1 and 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dicomlake.network.web.failures import Malformed

_NAME = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*")
# an unquoted value may hold a slash: type=application/dicom is wrong, and what many clients write
_PARAMETER = re.compile(
    r";[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    r'(?:"((?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*)"|([^;,"\s]+))[ \t]*)?'
)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class MediaType(NamedTuple):
    """A media type in lower case, and its parameters with names in lower case."""

    name: str
    parameters: Mapping[str, str]


def media_type(text: str) -> MediaType:
    """The one media type of a field. Raises Malformed."""
    found, end = _one(text, 0)
    if end != len(text):
        raise Malformed("a media type is followed by what is no parameter")
    return found


def boundary_of(found: MediaType) -> bytes:
    """The boundary parameter of a multipart type (RFC 2046 section 5.1.1). Raises Malformed."""
    boundary = found.parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise Malformed(
            "the boundary of a multipart body is 1 to 70 letters, digits and '()+_,-./:=? of RFC 2046; "
            "give one in Content-Type"
        )
    return boundary.encode("ascii")


def best_of(accept: str, offered: Sequence[str]) -> str | None:
    """Which of the offered types the client likes most, the first of equals; None when it takes none.

    Raises Malformed.
    """
    ranges = list(_ranges(accept))
    if not ranges:
        return offered[0]
    quality = {name: _quality(name, ranges) for name in offered}
    best = max(offered, key=quality.__getitem__)
    return best if quality[best] > 0 else None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    at = 0
    while at < len(accept):
        if accept[at] in ", \t":
            at += 1
            continue
        found, at = _one(accept, at)
        name = found.name
        if name == "multipart/related":  # as for what is retrieved; the answer is a single part
            name = found.parameters.get("type", name).lower()
        yield name, _weight(found.parameters.get("q", "1"))
        if at < len(accept) and accept[at] != ",":
            raise Malformed("Accept is no list of media types")


def _weight(text: str) -> float:
    if not re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text):
        raise Malformed("a weight in Accept is not between 0 and 1")
    return float(text)


def _quality(name: str, ranges: Sequence[tuple[str, float]]) -> float:
    """By the most specific range that covers the name."""
    kind = name.partition("/")[0]
    for wanted in (name, f"{kind}/*", "*/*"):
        weights = [weight for accepted, weight in ranges if accepted == wanted]
        if weights:
            return max(weights)
    return 0.0


def _one(text: str, at: int) -> tuple[MediaType, int]:
    match = _NAME.match(text, at)
    if match is None:
        raise Malformed("a media type is missing or makes no sense")
    name, at = match[1].lower(), match.end()
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(text, at):
        at = match.end()
        if not match[1]:
            continue
        key = match[1].lower()
        if key in parameters:
            raise Malformed("a parameter of a media type is given twice")
        parameters[key] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
    return MediaType(name, parameters), at
