"""What the explorer knows and computes: counts, cubes, pages and explanations of one query."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import RLock
from typing import Any

import numpy as np

from dicomlake.catalog.query import Expression
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.explorer import columns, facets, wording
from dicomlake.widgets.explorer.columns import Column
from dicomlake.widgets.explorer.cube import Cube, cube
from dicomlake.widgets.explorer.facets import Counts, Facet
from dicomlake.widgets.explorer.masks import Masks
from dicomlake.widgets.explorer.source import CohortLike, Ids, Mask, Source
from dicomlake.widgets.explorer.state import History, Terms
from dicomlake.widgets.explorer.universe import Rows, Universe

_COLUMNS = 48  # columns that are kept in memory

Sort = tuple[str, bool]


class Engine:
    """Answers for one query at a time. Every method may be called from any thread.

    names: of the facets. revision: changes with all that cubes and pages depend on.
    """

    def __init__(self, source: Source, cohort: CohortLike | None, names: Sequence[str]) -> None:
        self.source, self.cohort = source, cohort
        self.names = list(names)
        self.history = History()
        self.lock = RLock()
        self.revision = 0
        self._universe: Universe | None = None
        self._columns: OrderedDict[str, Column] = OrderedDict()
        self._facets: dict[str, Facet] = {}
        self._masks: Masks | None = None
        self._listed: tuple[object, Rows] | None = None

    # ---- what is held -----------------------------------------------------------------------------------

    @property
    def universe(self) -> Universe:
        """All series, as they are now; made again when the lake changed."""
        with self.lock:
            if self._universe is None or self._universe.stamp != self.source.stamp:
                self._universe = made = Universe(self.source, self.cohort)
                self._columns.clear()
                self._facets.clear()
                self._listed = None
                self._masks = Masks(self.source, made, self._columns.get)
                self.revision += 1
            return self._universe

    @property
    def masks(self) -> Masks:
        """Of terms."""
        with self.lock:
            self.universe  # noqa: B018 - makes it
            assert self._masks is not None
            return self._masks

    def column(self, path: str) -> Column:
        """What all series say of an element or fact. Raises QueryError for what has no values."""
        with self.lock:
            universe = self.universe
            if path not in self._columns:
                self._columns[path] = columns.load(universe, path)
                kept = {facets.path_of(name) for name in self.names} | {path}
                for old in [name for name in self._columns if name not in kept][: -_COLUMNS or None]:
                    del self._columns[old]
            return self._columns[path]

    def holds(self, path: str) -> bool:
        """Whether a column is in memory."""
        with self.lock:
            return path in self._columns

    def facet(self, name: str) -> Facet:
        """One of the facets. Raises Refusal for another name."""
        with self.lock:
            if name not in self.names:
                raise Refusal(f"there is no facet {name!r} here: add it first")
            universe = self.universe
            if name not in self._facets:
                self._facets[name] = facets.made(name, self.column(facets.path_of(name)), universe.base)
            return self._facets[name]

    def keep(self, names: Sequence[str]) -> None:
        """Let other facets be shown. Raises QueryError, and changes nothing, for what cannot be one."""
        with self.lock:
            for name in names:
                self.column(facets.path_of(name))
            self.names = list(dict.fromkeys(names))
            self._facets = {name: self._facets[name] for name in self.names if name in self._facets}
            self.revision += 1

    # ---- which series -----------------------------------------------------------------------------------

    def rows(self, terms: Terms | None = None) -> Rows | None:
        """The rows that meet all terms, those of the query unless given; None for all."""
        with self.lock:
            given = self.history.terms if terms is None else terms
            if not given and self.universe.base is None:
                return None
            return np.flatnonzero(self.meets(given))

    def meets(self, terms: Terms) -> Mask:
        """(n,) which rows meet all terms, and are of the cohort."""
        with self.lock:
            universe = self.universe
            base = universe.base
            found = np.ones(universe.count, dtype=bool) if base is None else base.copy()
            for term in terms:
                found &= self.masks.of(term)
            return found

    def ids(self) -> Ids:
        """Ids of the series that meet the query, ascending."""
        with self.lock:
            rows = self.rows()
            return self.universe.ids if rows is None else self.universe.ids[rows]

    def listed(self, sort: Sort | None) -> Rows:
        """The rows that meet the query in reading order, or by a column; those without a value last."""
        with self.lock:
            universe = self.universe
            about = (self.revision, self.history.terms, sort)
            if self._listed is None or self._listed[0] != about:
                met = None if self.rows() is None else self.meets(self.history.terms)
                ordered = universe.order if met is None else universe.order[met[universe.order]]
                self._listed = about, ordered if sort is None else self._sorted(ordered, sort)
            return self._listed[1]

    def _sorted(self, ordered: Rows, sort: Sort) -> Rows:
        column, descending = self.column(sort[0]), sort[1]
        rank = column.rank[ordered]
        if not descending:
            return ordered[np.argsort(rank, kind="stable")]
        last = np.inf if column.kind != "text" else len(column.values)
        there = rank != last
        some = ordered[there]
        falling = some[len(some) - 1 - np.argsort(rank[there][::-1], kind="stable")[::-1]]
        return np.concatenate([falling, ordered[~there]])

    # ---- counts -----------------------------------------------------------------------------------------

    def own(self, facet: Facet) -> Terms:
        """The terms of the query that are about a facet alone."""
        return tuple(term for term in self.history.terms if facet.owns(term))

    def without(self, *some: Facet) -> Rows | None:
        """The rows that meet all terms but those about some facets."""
        kept = tuple(term for term in self.history.terms if not any(one.owns(term) for one in some))
        return self.rows(kept)

    def counted(self) -> list[dict[str, Any]]:
        """Each facet with its counts under what is chosen in the others."""
        with self.lock:
            everywhere = self.rows()
            return [self._counted(self.facet(name), everywhere) for name in self.names]

    def _counted(self, facet: Facet, everywhere: Rows | None) -> dict[str, Any]:
        own = self.own(facet)
        rows = self.without(facet) if own else everywhere
        choice = facet.choice(own)
        if facet.bins is None:
            facet.show(facet.of_values(rows), choice.places if choice else ())
        base = self.universe.base
        now: Counts = facet.binned().counts(rows)
        taken = self._taken(own) if own else None
        found = facets.described(facet, now, taken, base)
        brush = {"span": choice.span, "ends": choice.ends} if choice and choice.span else {"span": None}
        return found | brush | {"asked": bool(own), "byHand": choice is not None}

    def _taken(self, own: Terms) -> Mask:
        found = np.ones(self.universe.count, dtype=bool)
        for term in own:
            found &= self.masks.of(term)
        return found

    def sizes(self) -> dict[str, int]:
        """Series, studies and patients that meet the query, and of all."""
        with self.lock:
            universe, rows = self.universe, self.rows()
            some = np.arange(universe.count) if rows is None else rows
            return {
                "series": len(some),
                "studies": universe.distinct(universe.studies, some),
                "patients": universe.distinct(universe.patients, some),
                "of": universe.size,
            }

    def cube(self, name: str) -> tuple[Cube, list[dict[str, Any]]]:
        """The cube of a facet of numbers or dates, and where each other facet is in its columns."""
        with self.lock:
            active = self.facet(name)
            if active.bins is None:
                raise Refusal(f"{name} holds text: there is no brush over it")
            others = [self.facet(other) for other in self.names if other != name]
            rows = self.without(active)
            each = [(one.binned(), self.without(active, one) if self.own(one) else rows) for one in others]
            places, offset = [], 1
            for one, (binned, _rows) in zip(others, each, strict=True):
                places.append({"name": one.name, "offset": offset, "size": binned.count})
                offset += binned.count
            return cube(active.binned(), each, rows), places

    # ---- choosing ---------------------------------------------------------------------------------------

    def replace(self, facet: Facet, term: Expression | None) -> None:
        """Let one term, or none, be all that is asked of a facet."""
        with self.lock:
            terms, new = list(self.history.terms), [] if term is None else [term]
            places = [i for i, one in enumerate(terms) if facet.owns(one)]
            at = places[0] if places else len(terms)
            kept = [one for i, one in enumerate(terms) if i not in places]
            self.history.set([*kept[:at], *new, *kept[at:]])

    def read(self, text: str) -> Terms:
        """The terms of a text. Raises QueryError for what cannot be understood."""
        terms = wording.read(text, self.source.parsed)
        self.meets(terms)  # what can be read may still not be answered
        return terms
