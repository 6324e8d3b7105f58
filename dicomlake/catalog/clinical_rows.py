"""The rows of clinical tables in the catalog: a row for every cell, with whom it belongs to.

A row on a patient keeps the PatientID, so that it holds for whatever of the patient comes later. A row on
a study keeps the StudyInstanceUID, which `rematch` finds again after studies have come. A table taken in
again replaces what differs; former cells stay as history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Connection, RowMapping, delete, func, select

from dicomlake.catalog import journal, rows, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.clinical_match import Join, Match, matches
from dicomlake.catalog.clinical_source import Cell, Column, Kind, days_of, text_of
from dicomlake.errors import QueryError

_INFO = "clinical:"  # the rows of `info` that say how a table is joined, and what its columns are
_MARK = "clinical-matched"  # the row of `info` with the newest series that all rows were matched against
_KEYS = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")
_FACTS = (*_KEYS, "text", "number")
_PLAIN = ("source", "row", "name", "text", "number")


def apply(connection: Connection, v: int, payload: dict[str, Any]) -> None:
    """Enter what an entry of the journal says."""
    name = payload["table"]
    if payload.get("dropped"):
        _close(connection, v, _cells(connection, name).values())
        connection.execute(delete(schema.info).where(schema.info.c.name == _INFO + name))
        return
    others = _info(connection).keys() - {name}
    up_to_date = not others or _matched(connection) >= _newest(connection)
    columns = [Column(**column) for column in payload["columns"]]
    found = matched(connection, Join(**payload["join"]), columns)
    gone, new = _differences(connection, payload, found)
    _close(connection, v, gone)
    rows.add(connection, schema.clinical, v, new)
    journal.set_info(connection, _INFO + name, json.dumps(_described(payload)))
    if up_to_date:  # all tables are matched against what is there now
        journal.set_info(connection, _MARK, str(_newest(connection)))


def _close(connection: Connection, v: int, cells: Collection[RowMapping]) -> None:
    rows.close(connection, schema.clinical, v, cells)


def _described(payload: dict[str, Any]) -> dict[str, Any]:
    columns = {column["name"]: column["kind"] for column in payload["columns"]}
    return {"join": payload["join"], "columns": columns, "rows": len(payload["columns"][0]["cells"])}


def matched(view: Connection, join: Join, columns: Sequence[Column]) -> list[Match]:
    """Whom each row of a table belongs to, as things are."""
    cells = {column.name: column.cells for column in columns}
    keys = [None if cell is None else text_of(cell) for cell in cells[join.key]]
    dates = [] if join.date is None else [cast("str | None", cell) for cell in cells[join.date]]
    return matches(view, join, keys, dates)


def holds(view: Connection, payload: dict[str, Any], found: Sequence[Match]) -> bool:
    """Whether the catalog has the table exactly as an entry says it."""
    if _info(view).get(payload["table"]) != _described(payload):
        return False
    return not any(_differences(view, payload, found))


def _differences(
    view: Connection, payload: dict[str, Any], found: Sequence[Match]
) -> tuple[list[RowMapping], list[dict[str, Any]]]:
    """The cells that the table no longer has, and those that it has not had."""
    held = _cells(view, payload["table"])
    wanted = {(cell["row"], cell["name"]): cell for cell in _wanted(payload, found)}
    same = {
        place
        for place, cell in wanted.items()
        if place in held and all(held[place][name] == cell[name] for name in _FACTS)
    }
    gone = [cell for place, cell in held.items() if place not in same]
    return gone, [cell for place, cell in wanted.items() if place not in same]


def _wanted(payload: dict[str, Any], found: Sequence[Match]) -> Iterator[dict[str, Any]]:
    """A row of the catalog for every cell that holds a value."""
    issuer = payload["join"]["issuer"]
    owners = [_owner(one, issuer) for one in found]
    for column in payload["columns"]:
        for number, (cell, owner) in enumerate(zip(column["cells"], owners, strict=True), 1):
            if cell is not None:
                facts = {"source": payload["table"], "row": number, "name": column["name"]}
                yield facts | owner | _value(column["kind"], cell)


def _owner(match: Match, issuer: str | None) -> dict[str, Any]:
    return {
        "PatientID": match.patient_id,
        "IssuerOfPatientID": None if match.patient_id is None else issuer,
        "StudyInstanceUID": match.study_uid,
    }


def _value(kind: Kind, cell: str | int | float | bool) -> dict[str, Any]:
    text = (text_of(cell) if isinstance(cell, bool | int) else str(cell)).replace("\0", "")
    number = days_of(text) if kind == "date" else float(cell) if kind in ("number", "flag") else None
    return {"text": text, "number": number}


def _cells(view: Connection, table: str) -> dict[tuple[int, str], RowMapping]:
    """The cells of a table that are in force, by row and column."""
    of = schema.clinical
    found = view.execute(schema.current(of).where(of.c.source == table).order_by(of.c.id)).mappings()
    return {(row["row"], row["name"]): row for row in found}


def _info(view: Connection) -> dict[str, dict[str, Any]]:
    """How each table is joined, what its columns are, and how many rows it has."""
    table = schema.info
    query = select(table.c.name, table.c.value).where(table.c.name.like(_INFO + "%")).order_by(table.c.name)
    return {name.removeprefix(_INFO): json.loads(value) for name, value in view.execute(query)}


def described(view: Connection, table: str) -> dict[str, Any]:
    """How a table is joined, what its columns are, and how many rows it has. Raises QueryError without it."""
    known = _info(view)
    if table not in known:
        raise QueryError(f"there is no clinical table {table!r}: there are {', '.join(known) or 'none'}")
    return known[table]


def rematch(catalog: Catalog) -> int:
    """Find again whom the rows of all tables belong to; return how many cells changed.

    To be called after objects were taken in, and when a lake is opened: whoever took them in may have ended
    before. Costs nothing in a lake without clinical tables, and where no series came since. Not in the
    journal, as it follows from it and the originals.
    """
    with catalog.read() as view:
        if not _info(view) or _matched(view) >= _newest(view):
            return 0
    with catalog.change("rematch") as (connection, v):
        count, newest = 0, _newest(connection)
        for _table, moved in _moved(connection):
            _close(connection, v, [cell for cell, _owner in moved])
            fresh = [{name: cell[name] for name in _PLAIN} | owner for cell, owner in moved]
            rows.add(connection, schema.clinical, v, fresh)
            count += len(moved)
        journal.set_info(connection, _MARK, str(newest))
    return count


def _newest(view: Connection) -> int:
    """The change that the newest series is of."""
    return int(view.execute(select(func.max(schema.series.c.v_from))).scalar() or 0)


def _matched(view: Connection) -> int:
    found = view.execute(select(schema.info.c.value).where(schema.info.c.name == _MARK)).scalar()
    return int(found or 0)


def _moved(view: Connection) -> Iterator[tuple[str, list[tuple[RowMapping, dict[str, Any]]]]]:
    """The cells of each table that belong to another than they say, with whom they belong to."""
    for table, facts in _info(view).items():
        join = Join(**facts["join"])
        cells = _cells(view, table)
        numbers = range(1, facts["rows"] + 1)
        keys = [_text(cells, number, join.key) for number in numbers]
        dates = [] if join.date is None else [_text(cells, number, join.date) for number in numbers]
        found = matches(view, join, keys, dates)
        owners = {number: _owner(one, join.issuer) for number, one in zip(numbers, found, strict=True)}
        yield (
            table,
            [
                (cell, owners[number])
                for (number, _name), cell in cells.items()
                if number in owners and any(cell[name] != owners[number][name] for name in _KEYS)
            ],
        )


def _text(cells: dict[tuple[int, str], RowMapping], row: int, column: str) -> str | None:
    cell = cells.get((row, column))
    return None if cell is None else str(cell["text"])


# ---- reading -----------------------------------------------------------------------------------------


def clinical_tables(view: Connection) -> list[dict[str, Any]]:
    """One dict a table: its name, rows, columns and how it is joined."""
    return [
        {"table": name, "rows": facts["rows"], "columns": list(facts["columns"]), **facts["join"]}
        for name, facts in _info(view).items()
    ]


def clinical(view: Connection, table: str) -> list[dict[str, Any]]:
    """A table as it was taken in, one dict a row: `row`, from 1, its columns, `match` and `study`.

    Numbers are numbers, flags bools, dates ISO text; None where there is no value. match: "matched",
    "unmatched" or "ambiguous". study: the StudyInstanceUID that the row belongs to, None of a patient's.
    """
    facts = described(view, table)
    join, kinds = Join(**facts["join"]), facts["columns"]
    cells = _cells(view, table)
    found: list[dict[str, Any]] = []
    for number in range(1, facts["rows"] + 1):
        own = {name: _cell(cells.get((number, name)), kind) for name, kind in kinds.items()}
        found.append({"row": number, **own})
    owners = matches(
        view,
        join,
        [_text(cells, row["row"], join.key) for row in found],
        [] if join.date is None else [_text(cells, row["row"], join.date) for row in found],
    )
    return [
        row | {"match": one.outcome, "study": one.study_uid} for row, one in zip(found, owners, strict=True)
    ]


def _cell(cell: RowMapping | None, kind: Kind) -> Cell:
    if cell is None:
        return None
    text, number = str(cell["text"]), cell["number"]
    if kind == "flag":
        return text == "true"
    if kind == "number":
        return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else float(number)
    return text


def require_known(view: Connection, paths: Iterable[str]) -> None:
    """Raise QueryError for one of `clinical.<table>.<column>` that there is not: a typo is no answer."""
    known = {table: list(facts["columns"]) for table, facts in _info(view).items()}
    for _, table, column in (path.split(".", 2) for path in paths):
        if table not in known:
            raise QueryError(f"there is no clinical table {table!r}: there are {', '.join(known) or 'none'}")
        if column not in known[table]:
            raise QueryError(
                f"the clinical table {table!r} has no column {column!r}: it has {', '.join(known[table])}"
            )
