"""Columns of `series` as numbers: each value once, and for each series which one it has.

A part of the mirror never changes, so the codes of its columns are made once, kept in files beside it, and
mapped into the memory of all processes. Series of small parts, which are few, are coded anew after each
refresh.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from dicomlake.catalog import schema
from dicomlake.catalog.mirror.parts import literal
from dicomlake.catalog.mirror.shown import ORDER
from dicomlake.catalog.mirror.tables import TABLES

if TYPE_CHECKING:
    from dicomlake.catalog.session import Session

Value = str | float
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_T = TypeVar("_T")

_SERIES = TABLES["series"]
NUMBERS = frozenset({*schema.NUMBER_FACETS, *schema.WHOLE_FACETS, "instances", "bytes"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of some series. codes: 0 where it has no value, else the place in values + 1."""

    codes: npt.NDArray[Any]
    values: list[Value]
    counts: Numbers


@dataclass(frozen=True, slots=True)
class Block:
    """Series that are coded together. ids: ascending. path: of their part, None for those in memory."""

    name: str
    ids: Numbers
    path: Path | None


@dataclass(frozen=True, slots=True)
class Joined:
    """A column over all blocks. values: all there are; place 0 is None, for no value.

    places: for each block, the place of each of its codes. counts: series of each value, also closed ones.
    """

    values: list[Value | None]
    places: tuple[Numbers, ...]
    counts: Numbers


class Coded:
    """The series of a session, coded."""

    def __init__(self, session: Session) -> None:
        self._shown, held = session.shown("series")
        self.closed: Numbers = np.array(held.closed, dtype=np.int64)
        names = [part.name for part in held.parts if not part.small]
        tail = "+".join(part.name for part in held.parts if part.small)
        self.blocks = [self._part(name) for name in names]
        self.blocks += [self._tail(tail)] if tail else []
        self._all = "all|" + "|".join((*names, tail))  # never the name of a block
        self._shown.keep_only({*names, tail, self._all, ORDER})

    def column(self, block: Block, name: str) -> Column:
        """A column of a block."""
        return self._kept(block.name, name, lambda: self._made(block, name))

    def joined(self, name: str) -> Joined:
        """A column over all blocks."""
        return self._kept(self._all, name, lambda: _joined([self.column(b, name) for b in self.blocks]))

    def _kept(self, block: str, name: str, make: Callable[[], _T]) -> _T:
        return self._shown.kept(block, name, make)

    def _part(self, name: str) -> Block:
        path = self._shown.files.path(name)
        return Block(name, self._kept(name, "series_id", lambda: self._ids(path)), path)

    def _ids(self, path: Path) -> Numbers:
        place = self._file(path, "series_id", ".npy")
        if not place.exists():
            _save(place, self._numbers(f"SELECT series_id FROM read_parquet({literal(path)})", np.int64))
        return _load(place)

    def _tail(self, name: str) -> Block:
        query = f"SELECT series_id FROM {self._shown.tail(_SERIES)} ORDER BY series_id"
        return Block(name, self._kept(name, "series_id", lambda: self._numbers(query, np.int64)), None)

    def _made(self, block: Block, name: str) -> Column:
        if block.path is None:
            query = f'SELECT "{name}" FROM {self._shown.tail(_SERIES)} ORDER BY series_id'
            return _coded([value for (value,) in self._shown.cursor().execute(query).fetchall()])
        codes, listed = self._file(block.path, name, ".npy"), self._file(block.path, name, ".json")
        if not codes.exists():
            self._code(block.path, name, codes, listed)
        found = json.loads(listed.read_text(encoding="utf-8"))
        return Column(_load(codes), found["values"], np.array(found["counts"], dtype=np.int64))

    def _code(self, part: Path, name: str, target: Path, listed: Path) -> None:
        """Write the codes of a column of a part; DuckDB's own codes of an ENUM."""
        cursor, kind = self._shown.cursor(), f"values_{secrets.token_hex(8)}"
        rows = f"read_parquet({literal(part)})"
        cursor.begin()  # the type is for nobody else
        try:
            cursor.execute(
                f'CREATE TYPE {kind} AS ENUM (SELECT DISTINCT "{name}"::VARCHAR AS v FROM {rows} '
                "WHERE v IS NOT NULL ORDER BY v)"
            )
            texts = [
                text for (text,) in cursor.execute(f"SELECT unnest(enum_range(NULL::{kind}))").fetchall()
            ]
            cursor.execute(
                f'SELECT coalesce(enum_code("{name}"::VARCHAR::{kind})::BIGINT + 1, 0) AS c FROM {rows}'
            )
            codes = np.ma.getdata(cursor.fetchnumpy()["c"])
        finally:
            cursor.rollback()
        counts = np.bincount(codes, minlength=len(texts) + 1)
        values = [float(text) for text in texts] if name in NUMBERS else texts
        temporary = listed.with_name(f"{listed.name}.{secrets.token_hex(4)}")
        temporary.write_text(json.dumps({"values": values, "counts": counts.tolist()}), encoding="utf-8")
        temporary.replace(listed)
        _save(target, codes.astype(np.min_scalar_type(len(texts))))

    def _numbers(self, query: str, dtype: Any) -> npt.NDArray[Any]:
        found = self._shown.cursor().execute(query).fetchnumpy()
        return np.ma.getdata(next(iter(found.values()))).astype(dtype)

    def _file(self, part: Path, name: str, suffix: str) -> Path:
        return self._shown.files.own / f"{part.name}~{name}{suffix}"


def _coded(found: Sequence[Value | None]) -> Column:
    places: dict[Value, int] = {}
    codes = np.array(
        [0 if value is None else places.setdefault(value, len(places) + 1) for value in found], dtype=np.int64
    )
    counts = np.bincount(codes, minlength=len(places) + 1)
    return Column(codes.astype(np.min_scalar_type(len(places))), list(places), counts)


def _joined(columns: Sequence[Column]) -> Joined:
    places: dict[Value | None, int] = {None: 0}
    maps = []
    for column in columns:
        every = [0, *(places.setdefault(value, len(places)) for value in column.values)]
        maps.append(np.array(every, dtype=np.int64))
    counts = np.zeros(len(places), dtype=np.int64)
    for column, place in zip(columns, maps, strict=True):
        counts[place] += column.counts
    return Joined(list(places), tuple(maps), counts)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(temporary, "wb") as file:
        np.save(file, array)
    temporary.replace(path)


def _load(path: Path) -> npt.NDArray[Any]:
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return np.asarray(mapped)  # without what np.memmap adds to each step
