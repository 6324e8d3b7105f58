"""What a user asks of the full text, parsed here and nowhere else: no database reads the user's words.

    pneumo*  "ground glass"  -artefact  NOT (old OR former)  edema OR oedema

Words beside each other must all be there. AND, OR and NOT are written large; OR binds least.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dicomlake.catalog.words import spelled_out, words
from dicomlake.errors import QueryError

MAX_QUERY = 2000  # characters
MAX_DEPTH = 20  # parentheses and NOTs in each other
_MAX_TERMS = 100

_TOKEN = re.compile(r'\s*(?:(?P<phrase>"[^"]*"\*?)|(?P<sign>[()])|(?P<minus>-(?=\S))|(?P<word>[^\s()"]+))')


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase; prefix: its last word may go on."""

    words: tuple[str, ...]
    prefix: bool = False

    @property
    def needle(self) -> str:
        """What is sought in a folded text."""
        return f" {' '.join(self.words)}{'' if self.prefix else ' '}"


@dataclass(frozen=True, slots=True)
class Both:
    """All parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of the parts holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Without:
    """The part does not hold."""

    part: Node


Node = Term | Both | Either | Without


def parse(query: str) -> Node:
    """The meaning of a query.

    Raises QueryError when it is none, or names nothing to look for: one that only excludes has no answer
    that an index could give.
    """
    if len(query) > MAX_QUERY:
        raise QueryError(f"the search has more than {MAX_QUERY} characters: shorten it")
    parser = _Parser(list(_tokens(query)))
    node = parser.whole()
    if node is None or not for_sqlite(node):
        raise QueryError("the search can be met without any of its words: add a word to look for")
    if sum(1 for _term in terms(node)) > _MAX_TERMS:
        raise QueryError(f"the search has more than {_MAX_TERMS} words: shorten it")
    return node


def _tokens(query: str) -> Iterator[tuple[str, str]]:
    position = 0
    text = query.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.end() == position:
            raise QueryError(f"the search has a quotation mark without its pair at character {position + 1}")
        position = found.end()
        kind = str(found.lastgroup)
        yield kind, found[kind]


class _Parser:
    """Recursive descent over tokens; a part without any word, such as "...", is left out."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens: Final = tokens
        self.at = 0
        self.depth = 0

    def whole(self) -> Node | None:
        node = self.either()
        if self.at < len(self.tokens):
            raise QueryError("the search closes a parenthesis that it did not open")
        return node

    def either(self) -> Node | None:
        parts = [self.both()]
        while self.next_is("OR"):
            parts.append(self.both())
        return _joined(Either, parts)

    def both(self) -> Node | None:
        parts: list[Node | None] = []
        while self.at < len(self.tokens) and self.tokens[self.at] not in (("word", "OR"), ("sign", ")")):
            if not self.next_is("AND"):
                parts.append(self.one())
        return _joined(Both, parts)

    def next_is(self, word: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at] == ("word", word)
        self.at += found
        return found

    def one(self) -> Node | None:
        if self.depth >= MAX_DEPTH:
            raise QueryError(f"the search nests deeper than {MAX_DEPTH} levels: simplify it")
        if self.at >= len(self.tokens):
            return None
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "minus" or (kind, text) == ("word", "NOT"):
            self.depth += 1
            part = self.one()
            self.depth -= 1
            return None if part is None else Without(part)
        if (kind, text) == ("sign", "("):
            return self.group()
        return _term(text)

    def group(self) -> Node | None:
        self.depth += 1
        node = self.either()
        self.depth -= 1
        if self.at >= len(self.tokens):
            raise QueryError("the search opens a parenthesis that it does not close")
        self.at += 1
        return node


def _joined(kind: type[Both] | type[Either], parts: Sequence[Node | None]) -> Node | None:
    present = tuple(part for part in parts if part is not None)
    return kind(present) if len(present) > 1 else present[0] if present else None


def _term(text: str) -> Node | None:
    prefix = text.endswith("*")
    plain = text.strip('"*')
    spellings = {tuple(words(plain)), tuple(words(spelled_out(plain) or plain))}
    found = tuple(Term(spelling, prefix) for spelling in sorted(spellings) if spelling)
    return _joined(Either, found)


# ---- meaning -----------------------------------------------------------------------------------------


def meets(node: Node, texts: Sequence[str]) -> bool:
    """Whether a document meets the query. texts: it, folded, in its spellings."""
    if isinstance(node, Term):
        return any(node.needle in text for text in texts)
    if isinstance(node, Without):
        return not meets(node.part, texts)
    answers = (meets(part, texts) for part in node.parts)
    return all(answers) if isinstance(node, Both) else any(answers)


def score(node: Node, texts: Sequence[str]) -> float:
    """How much a document is about the query: for each term n / (n + 1), n its count, at most 1 a term."""
    counts = (max(_times(term, text) for text in texts) for term in terms(node))
    return sum(n / (n + 1) for n in counts)


def _times(term: Term, text: str) -> int:
    if term.prefix:
        return text.count(term.needle)
    return len(re.findall(f"{term.needle[:-1]}(?= )", text))  # two in a row share the blank between them


def terms(node: Node) -> Iterator[Term]:
    """The terms that are looked for; not those that are excluded."""
    if isinstance(node, Term):
        yield node
    elif not isinstance(node, Without):
        for part in node.parts:
            yield from terms(part)


def for_sqlite(node: Node) -> str:
    """A query of FTS5 that finds all that meets this one, and perhaps more."""
    return _necessary(node, _fts5_term, " AND ", " OR ") or ""


def for_postgresql(node: Node) -> str:
    """A tsquery that finds all that meets this one, and perhaps more: it knows no phrases."""
    return _necessary(node, _lexemes, " & ", " | ") or ""


def _fts5_term(term: Term) -> str:
    return f'"{" ".join(term.words)}"{" *" if term.prefix else ""}'


def _lexemes(term: Term) -> str:
    quoted = " & ".join(f"'{word}'" for word in term.words)
    return f"({quoted}{':*' if term.prefix else ''})"


def _necessary(node: Node, spell: Callable[[Term], str], both: str, either: str) -> str | None:
    """What must hold of the terms looked for; None where nothing must."""
    if isinstance(node, Term):
        return spell(node)
    if isinstance(node, Without):
        return None
    parts = [_necessary(part, spell, both, either) for part in node.parts]
    needed = [part for part in parts if part is not None]
    if isinstance(node, Either) and len(needed) < len(parts):
        return None
    return f"({(both if isinstance(node, Both) else either).join(needed)})" if needed else None
