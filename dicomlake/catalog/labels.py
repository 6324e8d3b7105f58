"""Labels and notes: a named value on a patient, study, series, instance or volume, with who and when.

A new value closes the row of the former one; nothing is overwritten. A removal leaves a row of its own
that is in force at no change. Every change is in the journal first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, RowMapping, and_

from dicomlake.catalog import journal, rows, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.targets import COLUMNS, Level, Target, listed, resolve, target_of
from dicomlake.errors import QueryError

Value = str | int | float | bool
LABEL = (*COLUMNS, "name", "value", "note", "who", "at")
_NAME = re.compile(r"[^\W\d]\w{0,63}\Z")
_COLUMN_OF = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instance": "SOPInstanceUID",
    "volume": "SeriesInstanceUID",
}


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What became of a label on many targets.

    changed: targets whose value is new. same: those that had it. unknown: positions, counted from 0, of
    targets that the lake does not hold.
    """

    changed: int
    same: int
    unknown: tuple[int, ...] = ()

    def __str__(self) -> str:
        unknown = f", {len(self.unknown):,} not in the lake" if self.unknown else ""
        return f"{self.changed:,} changed, {self.same:,} as before{unknown}"


def set_label(
    catalog: Catalog,
    storage: journal.Files,
    targets: Any,
    name: str,
    value: Value,
    *,
    note: str | None = None,
    who: str | None = None,
    level: Level | None = None,
) -> LabelReport:
    """Give a value to one target or to many, in one change; the former values are kept as history.

    targets: see `targets.resolve`; many of them are no more than one change. level: label what they are
        part of instead, such as the patient of each series.
    value: text, a number or a bool; a number can be compared with in queries.
    who: DICOMLAKE_USER or the login name unless given.
    A target that the lake does not hold is listed in the report and stops no other. Raises QueryError when
    it holds none of them, and for a name or a value that cannot be kept.
    """
    text, number = _checked_value(value)
    facts = _facts(name, note, who) | {"text": text, "number": number}
    return _change(catalog, storage, listed(targets), level, facts)


def remove_label(
    catalog: Catalog,
    storage: journal.Files,
    targets: Any,
    name: str,
    *,
    note: str | None = None,
    who: str | None = None,
    level: Level | None = None,
) -> LabelReport:
    """Take a label off; its history stays. `changed` counts those that had it. Raises as `set_label`."""
    facts = _facts(name, note, who) | {"text": None, "number": None}
    return _change(catalog, storage, listed(targets), level, facts)


def _facts(name: str, note: str | None, who: str | None) -> dict[str, Any]:
    return {
        "name": _checked_name(name),
        "note": None if note is None else _checked_text(note),
        "who": _checked_text(who or journal.login()),
    }


def _change(
    catalog: Catalog, storage: journal.Files, wanted: list[Any], level: Level | None, facts: dict[str, Any]
) -> LabelReport:
    with catalog.read() as view:
        found = resolve(view, wanted, level)
        targets = list(dict.fromkeys(one for one in found if one is not None))
        if wanted and not targets:
            raise QueryError(f"the lake holds none of the {len(wanted)} targets: nothing was labelled")
        held = _held(view, targets, facts["name"])
    changed = [one for one in targets if not _says(held.get(one.identity), facts)]
    if changed:
        payload = facts | {"at": journal.now(), "targets": [one.as_list() for one in changed]}
        journal.record(catalog, storage, "label", payload)
    unknown = tuple(i for i, one in enumerate(found) if one is None)
    return LabelReport(len(changed), len(targets) - len(changed), unknown)


def apply(connection: Connection, v: int, payload: dict[str, Any]) -> None:
    """Enter what an entry of the journal says."""
    facts = {name: payload[name] for name in ("name", "text", "number", "note", "who", "at")}
    targets = [Target(*one) for one in payload["targets"]]
    held = _held(connection, targets, facts["name"])
    changed = [one for one in targets if not _says(held.get(one.identity), facts)]
    had = [one for one in changed if one.identity in held]
    rows.close(connection, schema.label, v, (held[one.identity] for one in had))
    if facts["text"] is None:
        gone = (one.as_row() | facts | {"text": ""} for one in had)
        rows.add_closed(connection, schema.label, v, gone)
    else:
        rows.add(connection, schema.label, v, (one.as_row() | facts for one in changed))


def _says(row: RowMapping | None, facts: dict[str, Any]) -> bool:
    """Whether a target has this label already, of the same person; or lacks it, where it is to be removed."""
    if row is None or facts["text"] is None:
        return row is None and facts["text"] is None
    return all(row[name] == facts[name] for name in ("text", "number", "note", "who"))


def _held(view: Connection, targets: Sequence[Target], name: str) -> dict[tuple[Any, ...], RowMapping]:
    """The row in force of a label on each of these that has it, by identity."""
    table = schema.label
    found: dict[tuple[Any, ...], RowMapping] = {}
    for level, some in groupby(sorted(targets, key=lambda one: one.level), key=lambda one: one.level):
        column = table.c[_COLUMN_OF[level]]
        keys = sorted({str(one.as_row()[_COLUMN_OF[level]]) for one in some})
        for part in rows.in_parts(keys):
            which = and_(table.c.name == name, table.c.level == level, column.in_(part))
            for row in view.execute(schema.current(table).where(which)).mappings():
                found[target_of(row).identity] = row
    return found


# ---- reading -----------------------------------------------------------------------------------------


def labels(
    view: Connection, targets: Any = None, *, name: str | None = None, level: Level | None = None
) -> list[dict[str, Any]]:
    """The labels in force: one dict each, with the columns LABEL.

    targets: only those on these; on what they are part of, with `level`. Without targets, `level` chooses
        labels of that level.
    """
    table = schema.label
    query = schema.current(table).order_by(table.c.id)
    if name is not None:
        query = query.where(table.c.name == name)
    if targets is None:
        query = query if level is None else query.where(table.c.level == level)
        return [_told(row) for row in view.execute(query).mappings()]
    wanted = [one for one in resolve(view, listed(targets), level) if one is not None]
    return [_told(row) for row in _on(view, wanted, name) if row["v_to"] is None]


def history(view: Connection, target: Any, name: str | None = None) -> list[dict[str, Any]]:
    """All that was ever said of one target, the oldest first: the columns LABEL and `change`, its number.

    A removal has the value None.
    """
    wanted = [one for one in resolve(view, listed(target)) if one is not None]
    return [_told(row) | {"change": row["v_from"]} for row in _on(view, wanted, name)]


def _on(view: Connection, targets: Sequence[Target], name: str | None) -> Iterator[RowMapping]:
    """All rows on these targets, also closed ones, in their order."""
    table, wanted = schema.label, {one.identity for one in targets}
    found: list[RowMapping] = []
    for level in {one.level for one in targets}:
        column = _COLUMN_OF[level]
        keys = sorted({str(one.as_row()[column]) for one in targets if one.level == level})
        for part in rows.in_parts(keys):
            query = table.select().where(table.c.level == level, table.c[column].in_(part))
            query = query if name is None else query.where(table.c.name == name)
            found += [row for row in view.execute(query).mappings() if target_of(row).identity in wanted]
    return iter(sorted(found, key=lambda row: int(row["id"])))


def _told(row: RowMapping) -> dict[str, Any]:
    removed = row["v_from"] == row["v_to"]
    facts = dict(row) | {"value": None if removed else value_of(row["text"], row["number"])}
    return {name: facts[name] for name in LABEL}


def value_of(text: str, number: float | None) -> Value:
    """The value that was given, from the columns that hold it: text, and a number where it is one."""
    if number is None:
        return text
    if text in ("true", "false"):
        return text == "true"
    return float(text) if any(sign in text for sign in ".en") else int(text)


def _checked_value(value: Value) -> tuple[str, float | None]:
    """The columns that hold a value."""
    if isinstance(value, bool):
        return ("true" if value else "false"), float(value)
    if isinstance(value, str):
        return _checked_text(value), None
    plain: Any = value.item() if hasattr(value, "item") else value  # a number of numpy
    if isinstance(plain, bool | str):
        return _checked_value(plain)
    if not isinstance(plain, int | float) or not abs(plain) <= sys.float_info.max:
        raise QueryError("a label's value is text, a finite number or a bool")
    return repr(plain), float(plain)


def _checked_text(text: str) -> str:
    """Text that both databases can hold: without NUL. Raises QueryError when it is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QueryError("the text is not valid Unicode: it holds half a character") from None
    return text.replace("\0", "")


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise QueryError("a label's name is 1 to 64 letters, digits and underscores, no digit first")
    return name
