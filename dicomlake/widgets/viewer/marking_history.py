"""Undo and redo over marks and strokes: one row of steps, bounded in number and in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dicomlake.widgets.viewer.masks import Patch

_STEPS = 200
_BYTES = 64 << 20  # of patches


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One change. what: in words. marks: all of them before and after; or patch: of the mask."""

    what: str
    marks: tuple[list[Any], list[Any]] | None = None
    patch: Patch | None = None

    @property
    def nbytes(self) -> int:
        """In memory."""
        return self.patch.nbytes if self.patch else 0


@dataclass(slots=True)
class History:
    """What was done, and what was undone."""

    done: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)

    def push(self, step: Step) -> None:
        """Something was done: nothing can be redone from here. The oldest steps are forgotten."""
        self.done.append(step)
        self.undone.clear()
        while len(self.done) > _STEPS or (len(self.done) > 1 and sum(s.nbytes for s in self.done) > _BYTES):
            del self.done[0]

    def back(self) -> Step | None:
        """The newest step, which is to be undone; None when there is none."""
        if not self.done:
            return None
        self.undone.append(self.done.pop())
        return self.undone[-1]

    def forth(self) -> Step | None:
        """The step that was undone last, which is to be done again; None when there is none."""
        if not self.undone:
            return None
        self.done.append(self.undone.pop())
        return self.done[-1]

    @property
    def words(self) -> dict[str, str]:
        """What undo and redo would do; "" for nothing."""
        return {
            "undo": self.done[-1].what if self.done else "",
            "redo": self.undone[-1].what if self.undone else "",
        }


def difference(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """What became of marks, in words."""
    was, now = ({mark["id"]: mark for mark in marks} for marks in (old, new))
    added, gone = [k for k in now if k not in was], [k for k in was if k not in now]
    other = [k for k in now if k in was and now[k] != was[k]]
    for keys, marks, word in ((added, now, "added"), (gone, was, "removed"), (other, now, "changed")):
        if len(keys) == 1 and len(added) + len(gone) + len(other) == 1:
            return f"{marks[keys[0]]['name']} {word}"
    return f"{len(added)} added, {len(gone)} removed, {len(other)} changed"
