"""What an unknown name may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from dicomlake.dicom import standard
from dicomlake.errors import QueryError

_PRIVATE_LIKE = re.compile(r"[0-9A-Fa-f]{4},\s*(xx|[0-9A-Fa-f]{2}).*", re.DOTALL)


def near(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words that are spelled most alike, whatever their case."""
    spelled = {one.lower(): one for one in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower(), spelled, n=count, cutoff=0.7)
    return [spelled[one] for one in found]


def unknown_element(segment: str, whole: str) -> QueryError:
    """The error for a name that is no keyword, tag or fact."""
    from dicomlake.catalog.query.facts import NAMES

    if _PRIVATE_LIKE.fullmatch(segment):
        return QueryError(
            f"{whole!r}: write a tag as '0018,0081', and a private element with its creator, "
            """as in '0019,xx0C["SIEMENS MR HEADER"]'"""
        )
    known = [*standard.keywords(), *NAMES]
    close = near(segment, known)
    meant = f"; did you mean {' or '.join(close)}?" if close else "."
    return QueryError(f"{whole!r}: {segment!r} is not a keyword of PS3.6{meant} Write a tag as '0018,0081'.")
