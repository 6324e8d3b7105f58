"""The mirror of the scale fixture, in the mirror's own format, with the full headers of all series.

The mirror would make its rows from the header blocks, which hold here a tenth of what headers hold, and take
half an hour. The parts are as large as merging leaves them. This is the one place outside
`dicomlake.catalog.mirror` that knows how a mirror lies on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks import scale_attributes
from dicomlake.catalog import schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import parts, state, tables
from dicomlake.storage import layout

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from benchmarks.scale import Fixture

_SERIES_A_PART = state._LARGEST // 128  # about as many rows of elements has a series


def write(made: Fixture) -> None:
    """Make the mirror of a fixture whose catalog is complete."""
    from benchmarks.scale import connect

    folder = made.lake / layout.MIRROR
    folder.mkdir(exist_ok=True)
    catalog = Catalog.open(made.lake / layout.CATALOG)
    try:
        with catalog.read() as view:
            head, identity = schema.head(view), schema.identity(view)
    finally:
        catalog.close()
    with connect(made.folder) as connection:
        series = _part(connection, folder, "series", 0, f"(FROM '{made.rows}' ORDER BY series_id)")
        elements = tuple(_elements(connection, folder, made))
    held = {"series": state.Held(head, (series,)), "attributes": state.Held(head, elements)}
    (folder / state.STATE).write_text(state.to_json(state.State(identity, held)), encoding="utf-8")


def _elements(connection: DuckDBPyConnection, folder: Path, made: Fixture) -> Iterator[state.Part]:
    for number, first in enumerate(range(1, made.series + 1, _SERIES_A_PART)):
        last = first + _SERIES_A_PART - 1
        some = f"(FROM '{made.rows}' WHERE series_id BETWEEN {first} AND {last})"
        yield _part(
            connection, folder, "attributes", number, f"({scale_attributes.select(connection, some)})"
        )


def _part(connection: DuckDBPyConnection, folder: Path, name: str, number: int, source: str) -> state.Part:
    """A part of rows that come in the order that it needs."""
    table = tables.TABLES[name]
    path = folder / f"{name}-scale{number}.parquet"
    query = f"SELECT {', '.join(table.columns)} FROM {source}"
    connection.execute(f"COPY ({query}) TO {parts.literal(path)} ({parts._PARQUET})")
    facts = f"count(*), min({table.key}), max({table.key}), count(DISTINCT {table.key})"
    found = connection.execute(f"SELECT {facts} FROM read_parquet({parts.literal(path)})").fetchone()
    rows, low, high, keys = found or (0, 0, 0, 0)
    return state.Part(path.name, rows, path.stat().st_size, low, high, keys)
