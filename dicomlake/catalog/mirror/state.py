"""What a mirror holds, as its `state.json` says: the parts of each table, and their rows that are closed.

A part is one file. Small ones are JSON lines, which are quick to write and which a process keeps in memory;
the others are Parquet, sorted. Parts are merged with their neighbours when several are of like size, so that
a row is written again only some times while the mirror grows a million-fold.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

FORMAT = 3
STATE = "state.json"
SMALL = 2_000  # rows of a part that stays JSON lines
_FEW = 10_000  # rows of all small parts of a table together
_MANY = 64  # small parts
_FAN = 8  # parts of like size that become one
_LARGEST = 1 << 25  # rows; a larger part is left alone
_CLOSED = 0.25  # of a part's rows: more are worth writing it again


@dataclass(frozen=True, slots=True)
class Part:
    """One file. name: of it. size: in bytes. low, high: smallest and largest key in it. keys: how many."""

    name: str
    rows: int
    size: int
    low: int
    high: int
    keys: int

    @property
    def small(self) -> bool:
        """Whether it is JSON lines."""
        return self.name.endswith(".jsonl")


@dataclass(frozen=True, slots=True)
class Held:
    """What the mirror holds of a table.

    change: the newest change in it. parts: oldest first. closed: keys of rows in the parts that are no longer
    in force, ascending. closed_series: likewise, ids of series.
    """

    change: int = 0
    parts: tuple[Part, ...] = ()
    closed: tuple[int, ...] = ()
    closed_series: tuple[int, ...] = ()

    def without(self, merged: Sequence[Part], new: Part | None, applied: Held) -> Held:
        """With a part in the place of some that were merged, and without what need not be closed any more.

        applied: what was closed when they were merged.
        """
        at = min(self.parts.index(part) for part in merged)
        kept = [part for part in self.parts if part not in merged]
        before = sum(part not in merged for part in self.parts[:at])
        parts = (*kept[:before], *([new] if new is not None else []), *kept[before:])
        done = set(applied.closed) - set(found_in(kept, applied.closed))
        closed = tuple(i for i in self.closed if i not in done)
        gone = frozenset() if kept else frozenset(applied.closed_series)
        closed_series = tuple(i for i in self.closed_series if i not in gone)
        return replace(self, parts=parts, closed=closed, closed_series=closed_series)


@dataclass(frozen=True, slots=True)
class State:
    """What the mirror holds. catalog: the identity of the catalog whose ids these are."""

    catalog: str = ""
    tables: Mapping[str, Held] = field(default_factory=dict)

    def held(self, table: str) -> Held:
        """What it holds of a table."""
        return self.tables.get(table, Held())

    def having(self, table: str, held: Held) -> State:
        """With other parts of a table."""
        return replace(self, tables={**self.tables, table: held})

    def names(self) -> set[str]:
        """The files of all parts."""
        return {part.name for held in self.tables.values() for part in held.parts}


def to_json(state: State) -> str:
    """As `state.json` holds it."""
    return json.dumps({"format": FORMAT} | asdict(state), separators=(",", ":"))


def from_json(text: str) -> State:
    """The reverse; raises ValueError for what is none, or of another format."""
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ValueError("another format")
        return State(str(found["catalog"]), {name: _held(held) for name, held in found["tables"].items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no state of a mirror") from error


def _held(found: Mapping[str, Any]) -> Held:
    parts = tuple(Part(**part) for part in found["parts"])
    return Held(int(found["change"]), parts, tuple(found["closed"]), tuple(found["closed_series"]))


def load(folder: Path) -> State:
    """The state in a folder, with the tables whose files are all there; nothing where it cannot be read."""
    try:
        state = from_json((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return State()
    return replace(state, tables={n: held for n, held in state.tables.items() if _whole(folder, held)})


def _whole(folder: Path, held: Held) -> bool:
    try:
        return all((folder / part.name).stat().st_size == part.size for part in held.parts)
    except OSError:
        return False


def newer(one: State, other: State) -> State:
    """Of each table what is newer in two states of the same catalog."""
    tables = {
        name: max(one.held(name), other.held(name), key=lambda held: held.change)
        for name in (*one.tables, *other.tables)
    }
    return replace(one, tables=tables)


def to_merge(held: Held) -> tuple[Part, ...]:
    """The parts that had better be one: small ones, the last of like size, or those with many closed rows.

    () when all is well.
    """
    small = tuple(part for part in held.parts if part.small)
    if len(small) > _MANY or sum(part.rows for part in small) > _FEW:
        return small
    for level in sorted({_level(part) for part in held.parts} - {0}):
        tail = _tail(held.parts, level)
        if len(tail) >= _FAN and level < _level_of(_LARGEST):
            return tail
    return _with_many_closed(held)


def _tail(parts: Sequence[Part], level: int) -> tuple[Part, ...]:
    """The last parts of no higher level, but for small ones."""
    start = len(parts)
    while start and _level(parts[start - 1]) <= level:
        start -= 1
    return tuple(part for part in parts[start:] if not part.small)


def _level(part: Part) -> int:
    return 0 if part.small else _level_of(part.rows)


def _level_of(rows: int) -> int:
    level = 1
    while rows > SMALL * _FAN**level:
        level += 1
    return level


def _with_many_closed(held: Held) -> tuple[Part, ...]:
    for part in held.parts:
        closed = bisect_right(held.closed, part.high) - bisect_left(held.closed, part.low)
        if closed and (closed >= part.keys or closed > max(_CLOSED * part.keys, SMALL)):
            return (part,)
    rows = sum(part.rows for part in held.parts)
    return held.parts if len(held.closed_series) > max(_CLOSED * rows, SMALL) else ()


def found_in(parts: Iterable[Part], keys: Sequence[int]) -> tuple[int, ...]:
    """Those of some keys that may be in parts."""
    ranges = [(part.low, part.high) for part in parts]
    return tuple(key for key in keys if any(low <= key <= high for low, high in ranges))
