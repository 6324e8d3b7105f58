"""Full-text search over reports, documents and descriptions; one function, the same on every database.

The database only narrows down: what meets the query is decided here, on the folded text, so phrases,
exclusions and the order are the same everywhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select, text

from dicomlake.catalog import rows, schema, text_query
from dicomlake.catalog.snippets import snippet
from dicomlake.catalog.text_index import INDEX, has_index, unindexed
from dicomlake.errors import QueryError
from dicomlake.records import SeriesKey

KINDS = ("description", "report", "document")
_SHOWN = ("id", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "kind")


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that meets a search. sop: None for the descriptions of a series.

    kind: description, report or document. snippet: the words around the first place; they are the text of a
    patient's report and in no repr. score: how much the text is about the query, see `text_query.score`.
    """

    study: str
    series: str
    sop: str | None
    kind: str
    snippet: str = field(repr=False)
    score: float


def search(
    view: Connection, query: str, *, kinds: Collection[str] | str | None = None, limit: int | None = None
) -> list[Hit]:
    """The texts that meet a query, those most about it first.

    query: words that must all be there, `"a phrase"`, `pneumo*`, `-excluded` or NOT, AND, OR, parentheses;
        case and accents do not count. kinds: of texts, see KINDS; all unless given.
    Raises QueryError for a query that cannot be understood, and where the lake has no index yet.
    """
    node, wanted = text_query.parse(query), _checked(kinds)
    if not _is_indexed(view):
        return []
    found = _scored(view, node, wanted)
    if limit is None:
        ordered = sorted(found, key=_rank, reverse=True)
    else:
        ordered = heapq.nlargest(limit, found, key=_rank)
    texts = _texts(view, [int(row["id"]) for _score, row in ordered])
    return [_hit(row, snippet(texts[int(row["id"])], node), score) for score, row in ordered]


def series_with(
    view: Connection, query: str, *, kinds: Collection[str] | str | None = None
) -> set[SeriesKey]:
    """The series that have a text which meets a query; what a condition on text asks. Raises as `search`."""
    node, wanted = text_query.parse(query), _checked(kinds)
    if not _is_indexed(view):
        return set()
    rows_found = (row for _score, row in _scored(view, node, wanted))
    return {SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]) for row in rows_found}


def _checked(kinds: Collection[str] | str | None) -> Sequence[str]:
    wanted = KINDS if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if unknown := set(wanted) - set(KINDS):
        raise QueryError(f"{len(unknown)} of these kinds of texts are unknown: there are {', '.join(KINDS)}")
    return wanted


def _is_indexed(view: Connection) -> bool:
    """Whether there is an index. Raises QueryError when there is none, but series that it should hold."""
    if has_index(view):
        return True
    if unindexed(view):
        raise QueryError("the texts of this lake are not indexed yet: open it where it can be written")
    return False


def _rank(one: tuple[float, RowMapping]) -> tuple[float, int]:
    return one[0], -int(one[1]["id"])  # of equal ones the oldest first


def _scored(
    view: Connection, node: text_query.Node, kinds: Sequence[str]
) -> Iterator[tuple[float, RowMapping]]:
    for row in view.execute(_candidates(view, node, kinds)).mappings():
        spellings = (row["folded"], row["spelled"])
        if text_query.meets(node, spellings):
            yield text_query.score(node, spellings), row


def _candidates(view: Connection, node: text_query.Node, kinds: Sequence[str]) -> Select[Any]:
    held = schema.document
    shown = (*(held.c[name] for name in _SHOWN), INDEX.c.folded, INDEX.c.spelled)
    if view.dialect.name == "sqlite":
        meets = text(f"{INDEX.name} MATCH :wanted").bindparams(wanted=text_query.for_sqlite(node))
    else:
        meets = text("words @@ CAST(:wanted AS TSQUERY)").bindparams(wanted=text_query.for_postgresql(node))
    joined = INDEX.join(held, held.c.id == INDEX.c.rowid)
    return select(*shown).select_from(joined).where(meets, held.c.v_to.is_(None), held.c.kind.in_(kinds))


def _texts(view: Connection, ids: Sequence[int]) -> dict[int, str]:
    held = schema.document
    found: dict[int, str] = {}
    for part in rows.in_parts(ids):
        query = select(held.c.id, held.c.text).where(held.c.id.in_(part))
        found |= {int(i): str(words) for i, words in view.execute(query)}
    return found


def _hit(row: RowMapping, words: str, score: float) -> Hit:
    place = (row["StudyInstanceUID"], row["SeriesInstanceUID"], row["SOPInstanceUID"], row["kind"])
    return Hit(*place, words, score)
