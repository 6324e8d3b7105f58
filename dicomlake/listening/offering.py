"""What a lake offers to peers that ask: a Finder over its catalog, its mirror and its originals.

Found is what has settled, retrieved what was acknowledged. The mirror narrows a question to entities that may
match; the rules of DICOM are applied to what those hold (`network.matching`). Between two pages nothing is
held: no view of the catalog, no answer of the database.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dicomlake.catalog import entities, reader
from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.entities import COUNTED, LISTED, Page
from dicomlake.catalog.mirror import Mirror
from dicomlake.catalog.query import And, Condition, Expression
from dicomlake.catalog.query import matching as series_matching
from dicomlake.catalog.query.predicates import check
from dicomlake.catalog.retrieved import instances_below
from dicomlake.catalog.session import Session
from dicomlake.dicom import standard, values
from dicomlake.errors import CatalogError, QueryError
from dicomlake.network import matching
from dicomlake.network.requesting.outgoing import Original, originals
from dicomlake.network.services.finding import Found
from dicomlake.network.services.levels import Level
from dicomlake.storage.objectstore import Storage

Ids = npt.NDArray[np.int64]

_PAGE = 2000  # entities whose values are in memory together
_FIRST_PAGE = 50  # who asks sees something soon


class Offering:
    """A `finding.Finder` over a lake. Safe to use from many threads."""

    def __init__(self, catalog: Catalog, mirror: Mirror, storage: Storage) -> None:
        self._catalog = catalog
        self._mirror = mirror
        self._storage = storage

    def match(
        self, level: Level, keys: Mapping[str, str], return_keys: Sequence[str]
    ) -> Generator[Found, None, None]:
        """As `Finder.match`."""
        session = self._mirror.session()
        among = self._candidates(session, level, keys)
        wanted = list(dict.fromkeys((*keys, *return_keys)))
        of = "SERIES" if level == "IMAGE" else level
        for page in _growing(session, of, among):
            if level == "IMAGE":
                yield from self._instances(session, page, wanted)
            else:
                yield from entities.held(session, page, wanted, self._headers)

    def instances(self, uids: Mapping[str, Sequence[str]]) -> Sequence[Original]:
        """As `Finder.instances`: every object that was acknowledged, settled or not."""
        with self._catalog.read() as view:
            found = instances_below(view, uids)
        return list(originals(found, self._storage))

    def _headers(self, series_id: int) -> SeriesHeaders:
        try:
            with self._catalog.read() as view:
                return reader.headers_of(view, series_id)
        except KeyError:
            raise CatalogError("the catalog was rebuilt while it was asked: ask again") from None

    def _candidates(self, session: Session, level: Level, keys: Mapping[str, str]) -> Ids | None:
        """The series of entities that may match; None for all.

        Of a patient or a study, each key may be met by another series; of a series, all by itself.
        """
        asked = [(name, condition) for name, key in keys.items() if (condition := _condition(name, key))]
        own = [c for name, c in asked if name not in LISTED]
        of_studies = [c for name, c in asked if name in LISTED]
        if level in ("SERIES", "IMAGE"):
            found = [self._series(session, And(tuple(own)))] if own else []
        else:
            found = [entities.entities_with(session, level, self._series(session, c)) for c in own]
        found += [entities.entities_with(session, "STUDY", self._series(session, c)) for c in of_studies]
        if level == "PATIENT":
            found = [entities.entities_with(session, level, ids) for ids in found]
        return _common(found)

    def _series(self, session: Session, expression: Expression) -> Ids:
        return series_matching(session, expression, self._headers)

    def _instances(self, session: Session, page: Page, wanted: Sequence[str]) -> Iterable[Found]:
        """What each instance of some series holds itself."""
        facts = entities.facts_of(session, page.ids, wanted)
        tags = {name: tag for name in wanted if name not in COUNTED and (tag := standard.tag_of(name))}
        for (series_id,) in page.entities:
            known = {name: [texts] for name, texts in facts[series_id].items()}
            for _uid, header in self._headers(series_id):
                own = {name: [texts] for name, tag in tags.items() if any(texts := header.texts(tag))}
                yield own | known


def _growing(session: Session, level: str, among: Ids | None) -> Iterable[Page]:
    """All pages, the first of which is small."""
    for page in entities.pages(session, level, among, _PAGE):
        first = Page(level, page.entities[:_FIRST_PAGE])
        yield first
        if rest := page.entities[_FIRST_PAGE:]:
            yield Page(level, rest)


def _common(found: Sequence[Ids]) -> Ids | None:
    if not found:
        return None
    common = found[0]
    for ids in found[1:]:
        common = np.intersect1d(common, ids)
    return np.asarray(common, dtype=np.int64)


def _condition(keyword: str, key: str) -> Condition | None:
    """What any match meets, for the query engine; None where it cannot say so."""
    tag = standard.tag_of(keyword)
    if tag is None or keyword in COUNTED:
        return None
    vr = values.resolve_vr(standard.vr_of(tag), signed=False)
    path = LISTED.get(keyword, keyword)
    members = tuple(one.strip(" \0") for one in matching.split(vr, key) if one.strip(" \0"))
    found = _of_dates(path, members) if vr == "DA" else _of_text(path, vr, members)
    try:
        if found is not None:
            check(found)
    except QueryError:
        return None
    return found


def _of_dates(path: str, members: Sequence[str]) -> Condition | None:
    if len(members) != 1 or "-" not in members[0]:
        return None if any("-" in one for one in members) else Condition(path, "is", tuple(members))
    low, _, high = members[0].partition("-")
    return Condition(path, "between", (low.strip() or None, high.strip() or None))


def _of_text(path: str, vr: str, members: Sequence[str]) -> Condition | None:
    if vr == "UI":
        return Condition(path, "is", tuple(members), exact=True)
    if vr == "PN" and any("=" in one for one in members):
        return None
    if vr in matching.WILDCARD_VRS:
        return Condition(path, "is", tuple(map(_wider, members)))
    return Condition(path, "is", tuple(members)) if vr in values.NUMBER_VRS - {"AS"} else None


def _wider(member: str) -> str:
    """A pattern of few steps that finds at least as much: ends, and the longest part between them.

    Letters fold to several, so that ? may stand for more than one there.
    """
    if not matching.has_wildcard(member):
        return member
    first, *between = member.replace("?", "*").split("*")
    last = between.pop()
    longest = max(between, key=len, default="")
    return f"{first}*{longest}*{last}" if longest else f"{first}*{last}"
