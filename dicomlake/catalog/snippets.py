"""The words around what a search found. They are report text: for the caller's eyes, never for a log."""

from __future__ import annotations

import re

from dicomlake.catalog.text_query import Node, terms
from dicomlake.catalog.words import BARRIER, folded, spelled_out, words

_BEFORE, _AFTER = 60, 140  # characters around the first place
_CHUNK = re.compile(r"\S+")


def snippet(text: str, node: Node) -> str:
    """The text around the first place that a term of the query is found at, in one line."""
    start, end = _place(text, node)
    left = text.rfind(" ", 0, max(0, start - _BEFORE)) + 1 if start > _BEFORE else 0
    right = text.find(" ", end + _AFTER)
    right = len(text) if right < 0 else right
    shown = " ".join(text[left:right].split())
    return f"{'… ' if left else ''}{shown}{' …' if right < len(text) else ''}"


def _place(text: str, node: Node) -> tuple[int, int]:
    """Where the first word of the first match begins and ends."""
    spellings = [folded(one) for one in (text, spelled_out(text)) if one is not None]
    found = [
        _count(one, at) for one in spellings for term in terms(node) if (at := one.find(term.needle)) >= 0
    ]
    left = min(found, default=0)
    for chunk in _CHUNK.finditer(text):
        left -= len(words(chunk[0]))
        if left < 0:
            return chunk.span()
    return 0, 0


def _count(spelling: str, at: int) -> int:
    """How many words come before a place of a folded text."""
    return sum(word != BARRIER for word in spelling[:at].split())
