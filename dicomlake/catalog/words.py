"""Words of a text as the full-text index has them, the same on every database: case and accents folded.

ß is ss, ø is o, æ is ae (`query.folding`). A text with German or Scandinavian letters is also kept with
ae, oe, ue, aa for them, so that Müller is found as Muller and as Mueller. Chinese and Japanese characters
are words of their own, as nothing separates words there.
"""

from __future__ import annotations

import re
import unicodedata

from dicomlake.catalog.query.folding import fold

MAX_WORD = 200  # characters: a longer one, such as encoded bytes, is cut here and in queries
BARRIER = "|"  # between paragraphs in a folded text: no phrase crosses it

_SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_SPELLED_OUT = re.compile("[äöüåø]")
_EAST = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_EAST}]|(?:(?![{_EAST}])[^\W_])+")
_PARAGRAPH = re.compile(r"\n\s*\n")


def words(text: str) -> list[str]:
    """The folded words of a text, in order."""
    return [word[:MAX_WORD] for word in _WORD.findall(fold(text))]


def spelled_out(text: str) -> str | None:
    """The text with ae for ä and so on, in lower case; None where there is nothing to spell out."""
    if text.isascii():
        return None
    lower = unicodedata.normalize("NFC", text).casefold()
    return lower.translate(_SPELLED) if _SPELLED_OUT.search(lower) else None


def folded(text: str) -> str:
    """The words of a text between blanks, its paragraphs between barriers, ready to be searched."""
    parts = (" ".join(words(part)) for part in _PARAGRAPH.split(text))
    return f" {f' {BARRIER} '.join(filter(None, parts))} "
