"""The query as a list of terms, with what was before and after it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dicomlake.catalog.query import And, Expression, to_json
from dicomlake.widgets.explorer import wording

_KEPT = 200

Terms = tuple[Expression, ...]


class History:
    """What must hold now; every change can be undone."""

    def __init__(self, terms: Sequence[Expression] = ()) -> None:
        self.terms: Terms = tuple(terms)
        self._past: list[Terms] = []
        self._future: list[Terms] = []

    @property
    def text(self) -> str:
        """As one types it."""
        return wording.write(self.terms)

    @property
    def expression(self) -> Expression:
        """All of it."""
        return self.terms[0] if len(self.terms) == 1 else And(self.terms)

    @property
    def as_json(self) -> dict[str, object]:
        """All of it in JSON types."""
        found: dict[str, object] = json.loads(to_json(self.expression))
        return found

    @property
    def can_undo(self) -> bool:
        """Whether there is something before."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether something was undone."""
        return bool(self._future)

    def set(self, terms: Sequence[Expression]) -> None:
        """Let other terms hold; the same change nothing."""
        new = tuple(terms)
        if wording.normal(new) == wording.normal(self.terms):
            return
        self._past = [*self._past[-_KEPT:], self.terms]
        self._future.clear()
        self.terms = new

    def undo(self) -> None:
        """Back to what was before, if there was."""
        if self._past:
            self._future.append(self.terms)
            self.terms = self._past.pop()

    def redo(self) -> None:
        """Forth again to what was undone."""
        if self._future:
            self._past.append(self.terms)
            self.terms = self._future.pop()
