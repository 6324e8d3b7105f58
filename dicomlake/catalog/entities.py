"""Patients, studies and series as a query of DICOM sees them: what each holds, page by page.

An entity is told by the smallest id of its series, so that whole answers are arrays of numbers. What it
holds of an element is what any of its instances has; the value of most instances comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.catalog.query.matching import refused
from dicomlake.catalog.session import Session
from dicomlake.dicom import standard

Ids = npt.NDArray[np.int64]
HeadersOf = Callable[[int], SeriesHeaders]
Values = tuple[str, ...]
Held = dict[str, list[Values]]
"""Keyword -> what an entity holds of it, the value of most instances first."""

_OF_ALL = "StudyInstanceUID"  # every series has it

GROUPED = {
    "PATIENT": ("PatientID", "IssuerOfPatientID"),
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
}
"""What makes series one entity, by level."""

COUNTED: Mapping[str, tuple[str, str]] = {
    "NumberOfPatientRelatedStudies": ("PATIENT", "count(DISTINCT StudyInstanceUID)"),
    "NumberOfPatientRelatedSeries": ("PATIENT", "count(*)"),
    "NumberOfPatientRelatedInstances": ("PATIENT", "sum(instances)::BIGINT"),
    "NumberOfStudyRelatedSeries": ("STUDY", "count(*)"),
    "NumberOfStudyRelatedInstances": ("STUDY", "sum(instances)::BIGINT"),
    "NumberOfSeriesRelatedInstances": ("SERIES", "sum(instances)::BIGINT"),
}
"""Numbers that are counted, not held: of which level, and how."""
LISTED: Mapping[str, str] = {"ModalitiesInStudy": "Modality", "SOPClassesInStudy": "SOPClassUID"}
"""Lists of what the series of a study have."""


class Page(NamedTuple):
    """Some entities: the ids of the series of each, ascending."""

    level: str
    entities: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> Ids:
        """Of all series."""
        return np.array([i for some in self.entities for i in some], dtype=np.int64)


def pages(session: Session, level: str, among: Ids | None, size: int) -> Iterator[Page]:
    """The entities of a level that have any of these series (of all), with all of their series."""
    series, entity = _entities(session, level, among)
    starts = np.flatnonzero(np.diff(entity, prepend=-1))
    for first in range(0, len(starts), size):
        ends = [*starts[first + 1 : first + size + 1], len(series)][: len(starts[first : first + size])]
        spans = zip(starts[first : first + size], ends, strict=True)
        yield Page(level, tuple(tuple(series[a:b].tolist()) for a, b in spans))


def _entities(session: Session, level: str, among: Ids | None) -> tuple[Ids, Ids]:
    """All series of entities, and the entity of each, ascending by entity and series."""
    names = ", ".join(GROUPED[level])
    some = ""
    if among is not None:
        some = (
            f"WHERE ({names}) IN (SELECT ({names}) FROM series WHERE series_id IN (SELECT id FROM given_ids))"
        )
    found = _columns(
        session,
        f"SELECT series_id, min(series_id) OVER (PARTITION BY {names}) AS entity FROM series {some} "
        "ORDER BY entity, series_id",
        among,
    )
    return found["series_id"].astype(np.int64), found["entity"].astype(np.int64)


def entities_with(session: Session, level: str, ids: Ids) -> Ids:
    """All series of those entities of a level that have any of these series, ascending."""
    return np.sort(_entities(session, level, ids)[0])


def held(session: Session, page: Page, keywords: Sequence[str], headers_of: HeadersOf) -> Iterator[Held]:
    """What each entity of a page holds of these elements, in the order of the page."""
    counted = [name for name in keywords if name in COUNTED]
    listed = [name for name in keywords if name in LISTED]
    plain = [name for name in keywords if name not in COUNTED and name not in LISTED]
    by_series = _held(session, page.ids, plain, headers_of)
    facts = facts_of(session, page.ids, [*counted, *listed])
    for ids in page.entities:
        found = {name: _ranked(by_series[i].get(name) for i in ids) for name in plain}
        for name in (*counted, *listed):  # of a patient, those of each of its studies
            found[name] = sorted({facts[i][name] for i in ids if name in facts[i]})
        yield {name: texts for name, texts in found.items() if texts}


def _ranked(counts: Iterator[Counter[Values] | None]) -> list[Values]:
    """Values by how many instances have them, and then in order."""
    whole: Counter[Values] = Counter()
    for one in counts:
        if one is not None:
            whole.update(one)
    return sorted(whole, key=lambda texts: (-whole[texts], texts))


def _held(
    session: Session, ids: Ids, keywords: Sequence[str], headers_of: HeadersOf
) -> dict[int, dict[str, Counter[Values]]]:
    """Series -> keyword -> values, with how many instances have them.

    The mirror has single values; several values of an instance, and what it only sums up, are in the headers.
    So are those of a series that was replaced since it was found.
    """
    found: dict[int, dict[str, Counter[Values]]] = {}
    if not keywords or not len(ids):
        return {int(i): {} for i in ids}
    in_headers: dict[int, set[str]] = {}
    for series_id, path, text, instances, several in _rows(session, ids, {*keywords, _OF_ALL}):
        held = found.setdefault(series_id, {})
        if text is None or several:
            in_headers.setdefault(series_id, set()).add(path)
        elif text:
            held.setdefault(path, Counter())[(text,)] += instances
    in_headers |= {int(i): set(keywords) for i in ids if int(i) not in found}
    for series_id, paths in in_headers.items():
        headers = headers_of(series_id)
        found.setdefault(series_id, {}).update({path: in_instances(headers, path) for path in paths})
    return found


def _rows(
    session: Session, ids: Ids, keywords: Collection[str]
) -> Iterator[tuple[int, str, str | None, int, bool]]:
    marks = ", ".join("?" * len(keywords))
    sql = (
        f"SELECT series_id, path, text, instances, vm_high > 1 FROM attributes WHERE path IN ({marks}) "
        "AND series_id BETWEEN ? AND ? AND series_id IN (SELECT id FROM given_ids)"
    )
    parameters = [*keywords, int(ids.min()), int(ids.max())]
    with refused():
        yield from session.execute(sql, parameters, ids={"given_ids": ids})


def in_instances(headers: SeriesHeaders, keyword: str) -> Counter[Values]:
    """The values of an element in the instances of a series."""
    tag = standard.tag_of(keyword)
    found: Counter[Values] = Counter()
    for group in headers.groups:
        if tag is None:
            break
        cells = (
            [group.constant[tag]] * len(group.rows) if tag in group.constant else group.varying.get(tag, ())
        )
        for raw, count in Counter(cells).items():
            texts = () if raw is None else group.attributes({tag: raw}).texts(tag)
            if any(texts):
                found[texts] += count
    return found


# ---- what is counted and listed


def facts_of(session: Session, ids: Ids, names: Sequence[str]) -> dict[int, dict[str, Values]]:
    """Series -> what its patient, its study and itself have of `COUNTED` and `LISTED`."""
    found: dict[int, dict[str, Values]] = {int(i): {} for i in ids}
    for level in GROUPED:
        counted = [name for name in COUNTED if name in names and COUNTED[name][0] == level]
        if counted:
            _count(session, ids, level, counted, found)
    for name in set(names) & set(LISTED):
        _list(session, ids, name, found)
    return found


def _count(
    session: Session, ids: Ids, level: str, names: Sequence[str], found: dict[int, dict[str, Values]]
) -> None:
    keys = ", ".join(GROUPED[level])
    how = ", ".join(COUNTED[name][1] for name in names)
    sql = (
        f"WITH asked AS (SELECT series_id AS id, {keys} FROM series "
        "WHERE series_id IN (SELECT id FROM given_ids)) "
        f"SELECT id, c.* FROM asked JOIN (SELECT {keys}, {how} FROM series "
        f"WHERE ({keys}) IN (SELECT ({keys}) FROM asked) GROUP BY {keys}) c USING ({keys})"
    )
    with refused():
        for row in session.execute(sql, (), ids={"given_ids": ids}):
            for name, number in zip(names, row[-len(names) :], strict=True):
                found[row[0]][name] = (str(number),)


def _list(session: Session, ids: Ids, name: str, found: dict[int, dict[str, Values]]) -> None:
    sql = """WITH asked AS (SELECT series_id AS id, StudyInstanceUID FROM series
            WHERE series_id IN (SELECT id FROM given_ids)),
        beside AS (SELECT series_id, StudyInstanceUID FROM series
            WHERE StudyInstanceUID IN (SELECT StudyInstanceUID FROM asked)),
        held AS (SELECT StudyInstanceUID, list_sort(list(DISTINCT text)) AS texts FROM attributes
            JOIN beside USING (series_id) WHERE path = ? AND text <> '' GROUP BY StudyInstanceUID)
        SELECT id, texts FROM asked JOIN held USING (StudyInstanceUID)"""
    with refused():
        for series_id, texts in session.execute(sql, (LISTED[name],), ids={"given_ids": ids}):
            found[series_id][name] = tuple(texts)


def _columns(session: Session, sql: str, ids: Ids | None) -> dict[str, Any]:
    with refused():
        found = session.execute(sql, (), ids={} if ids is None else {"given_ids": ids}).fetchnumpy()
    return {name: np.ma.getdata(column) for name, column in found.items()}
