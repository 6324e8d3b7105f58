"""Frozen cohorts as files, JSON or Parquet, that another lake can take in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dicomlake.catalog.frozen import FrozenRow
from dicomlake.errors import QueryError

_COLUMNS = ["StudyInstanceUID", "SeriesInstanceUID", "instances", "objects", "headers", "volumes"]


def write_export(row: FrozenRow, target: Path) -> Path:
    """Write a cohort to a .json or .parquet file. Raises QueryError for another suffix, or without a way."""
    try:
        if target.suffix == ".parquet":
            _write_parquet(row, target)
        elif target.suffix == ".json":
            target.write_text(json.dumps(row.as_json(), indent=1) + "\n", encoding="utf-8")
        else:
            told = target.suffix or "no suffix"
            raise QueryError(f"a cohort is exported as .json or .parquet, not as {told}")
    except OSError as error:
        raise QueryError(f"{target.name} cannot be written: {error.strerror}") from error
    return target


def _write_parquet(row: FrozenRow, target: Path) -> None:
    """One row a series, its volumes as JSON; what is known of the cohort itself is in the file's metadata."""
    import duckdb
    import pandas as pd

    body = row.as_json()
    facts = json.dumps({name: value for name, value in body.items() if name != "members"})
    rows = [member | {"volumes": json.dumps(member["volumes"])} for member in body["members"]]
    with duckdb.connect(":memory:") as connection:
        connection.register("member", pd.DataFrame(rows, columns=_COLUMNS).astype({"instances": "int64"}))
        path, told = (text.replace("'", "''") for text in (str(target), facts))
        how = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{cohort: '{told}'}}"
        connection.execute(f"COPY (SELECT * FROM member) TO '{path}' ({how})")


def read_export(source: Path) -> FrozenRow:
    """A cohort from a file that `write_export` wrote. Raises QueryError when it is none."""
    try:
        body = _from_parquet(source) if source.suffix == ".parquet" else json.loads(source.read_text("utf-8"))
    except OSError as error:
        raise QueryError(f"{source.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise QueryError(f"{source.name} is no frozen cohort: export one again") from error
    return FrozenRow.parse(body)


def _from_parquet(source: Path) -> dict[str, Any]:
    import duckdb

    if not source.is_file():
        raise QueryError(f"there is no file {source.name}")
    try:
        with duckdb.connect(":memory:") as connection:
            told = connection.execute(
                "SELECT key, value FROM parquet_kv_metadata(?)", [str(source)]
            ).fetchall()
            query = f"SELECT {', '.join(_COLUMNS)} FROM read_parquet(?)"
            rows = connection.execute(query, [str(source)]).fetchall()
    except duckdb.Error as error:
        raise ValueError(type(error).__name__) from error
    facts = {bytes(key).decode(): bytes(value).decode() for key, value in told}
    body: dict[str, Any] = json.loads(facts.get("cohort", "{}"))
    members = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return body | {"members": [member | {"volumes": json.loads(member["volumes"])} for member in members]}
