"""Asks that change the query: a click, a brush, a typed text, a dropped term, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from dicomlake.catalog.query import Expression, Or
from dicomlake.errors import QueryError
from dicomlake.widgets.base import Answer, Refusal, handles
from dicomlake.widgets.explorer.facets import Facet

if TYPE_CHECKING:
    from dicomlake.widgets.explorer.engine import Engine


class Choosing(traitlets.HasTraits):
    """The part of the explorer that changes its query. Every ask is answered with all that is shown then."""

    _engine: Engine
    error: str

    def _moved(self) -> None:
        """Let the trait say what the engine holds."""
        raise NotImplementedError

    def _shown(self) -> dict[str, Any]:
        """All that the browser draws."""
        raise NotImplementedError

    def _now(self) -> Answer:
        self.error = ""
        self._moved()
        return Answer(self._shown())

    @handles("ask")
    def _ask(self, args: dict[str, Any], _buffers: Any) -> Answer:
        """A typed query. args: text."""
        engine = self._engine
        engine.history.set(engine.read(str(args.get("text", ""))))
        return self._now()

    @handles("drop")
    def _drop(self, args: dict[str, Any], _buffers: Any) -> Answer:
        """Take one term away, or all. args: place, or -1."""
        place, terms = args.get("place"), self._engine.history.terms
        if place == -1:
            self._engine.history.set(())
        elif isinstance(place, int) and 0 <= place < len(terms):
            self._engine.history.set(terms[:place] + terms[place + 1 :])
        return self._now()

    @handles("undo")
    def _undo(self, _args: dict[str, Any], _buffers: Any) -> Answer:
        self._engine.history.undo()
        return self._now()

    @handles("redo")
    def _redo(self, _args: dict[str, Any], _buffers: Any) -> Answer:
        self._engine.history.redo()
        return self._now()

    @handles("toggle")
    def _toggle(self, args: dict[str, Any], _buffers: Any) -> Answer:
        """Choose a value of a text facet, or series without one. args: facet, value (None: missing), add.

        add: beside what is chosen already; otherwise it alone, or nothing when it alone was chosen.
        """
        engine = self._engine
        with engine.lock:
            facet = engine.facet(str(args.get("facet", "")))
            places, missing = self._chosen(facet)
            value = args.get("value")
            new = [] if value is None else _places(facet, value)
            if args.get("add"):
                places = [p for p in places if p not in new] if set(new) & set(places) else [*places, *new]
                missing ^= value is None
            else:
                alone = set(places) == set(new) and missing == (value is None)
                places, missing = ([], False) if alone else (new, value is None)
            engine.replace(facet, facet.term(places, missing))
        return self._now()

    @handles("brush")
    def _brush(self, args: dict[str, Any], _buffers: Any) -> Answer:
        """Choose bins first up to stop of a histogram, or a range. args: facet, bins or ends, missing.

        bins: [first, stop] or None. ends: [low, high] as text, "" is open. missing: also series without.
        """
        engine = self._engine
        with engine.lock:
            facet = engine.facet(str(args.get("facet", "")))
            if facet.bins is None:
                raise Refusal(f"{facet.name} holds text: click on values")
            ends = self._ends(facet, args)
            parts: list[Expression] = [] if ends is None else [self._ranged(facet, *ends)]
            if args.get("missing"):
                parts.append(self._engine.source.parsed(f"{facet.path}__missing=true"))
            term = None if not parts else parts[0] if len(parts) == 1 else Or(tuple(parts))
            engine.replace(facet, term)
        return self._now()

    def _ends(self, facet: Facet, args: dict[str, Any]) -> tuple[str, str] | None:
        bins, ends = args.get("bins"), args.get("ends")
        if isinstance(ends, list) and len(ends) == 2:
            low, high = (str(end).strip() for end in ends)
            return (low, high) if low or high else None
        if not isinstance(bins, list) or len(bins) != 2 or facet.bins is None:
            return None
        count = facet.bins.count
        first, stop = (min(max(int(place), 0), count) for place in bins)
        return facet.bins.ends(first, stop) if first < stop else None

    def _ranged(self, facet: Facet, low: str, high: str) -> Expression:
        """A range of numbers or dates as one types it."""
        path, read = facet.path, self._engine.source.parsed
        if any(set(end) & set("<>=~,\"'()*?") or ".." in end for end in (low, high)):
            raise QueryError(f"{path}: an end of a range is a number or a date, as 1.5 or 2024-03")
        if low and low == high:
            return read(f"{path}={low}")
        if not low or not high:
            unbounded = not low and not high
            return read(
                f"{path}__missing=false" if unbounded else f"{path}>={low}" if low else f"{path}<={high}"
            )
        return read(f"{path}={low}..{high}")

    def _chosen(self, facet: Facet) -> tuple[list[int], bool]:
        """What is chosen in a text facet; of terms that cannot be clicked, what they take among the shown."""
        if facet.bins is not None:
            raise Refusal(f"{facet.name} holds numbers: draw a brush over its histogram")
        own = self._engine.own(facet)
        if not own:
            return [], False
        choice = facet.choice(own)
        return ([], False) if choice is None else (choice.places, choice.missing)


def _places(facet: Facet, value: Any) -> list[int]:
    """The places of a value. Raises Refusal for one that no series has."""
    found = facet.column.places.get(value) if isinstance(value, str) else []
    if found is None:
        found = [
            p
            for p, one in enumerate(facet.column.values, 1)
            if not isinstance(one, str) and f"{one:g}" == value
        ]
    if not found:
        raise Refusal(f"no series has that {facet.name}: the lake has changed, reload the facets")
    return found
