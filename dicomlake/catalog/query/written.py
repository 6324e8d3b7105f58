"""An expression as SQL that one can read, run through `lake.sql` and change."""

from __future__ import annotations

import numpy as np

from dicomlake.catalog.query.expressions import Expression, conditions_in
from dicomlake.catalog.query.fragments import TRUE, Sql, either
from dicomlake.catalog.query.leaves import leaf
from dicomlake.catalog.query.matching import Asked, Ids, candidates
from dicomlake.catalog.query.planning import hand_written
from dicomlake.errors import QueryError


def sql_of(expression: Expression | None, ids: Ids | None = None, asked: Asked | None = None) -> str:
    """A SELECT of the series_id of all series that meet an expression, over the documented tables.

    ids, asked: what `matching` found and with what. Series whose headers had to decide, because the rows of
    `attributes` only sum them up, are listed by their ids, which mean nothing after a change. Without these
    two, such series are left out. An expression of None stands for series that were chosen one by one.
    Raises QueryError for a full-text search without `asked`.
    """
    if expression is None:
        test = _among(np.zeros(0, dtype=np.int64) if ids is None else ids)
    else:
        found = {} if asked is None else asked.leaves(expression)
        if asked is None:
            if any(condition.operator == "search" for condition in conditions_in(expression)):
                raise QueryError("text=… is answered by the full-text index: there is no SQL for it alone")
            found = {condition: leaf(condition) for condition in conditions_in(expression)}
        test = hand_written(expression, found)
        if asked is not None and ids is not None:
            by_rows, sure = candidates(asked, expression)
            by_headers = np.setdiff1d(ids, by_rows[sure])
            test = either([test, _among(by_headers)]) if len(by_headers) else test
    where = "" if test == TRUE else f"\nWHERE {test}"
    return f"SELECT series_id FROM series{where}\nORDER BY series_id"


def _among(ids: Ids) -> Sql:
    return Sql(f"series_id IN ({', '.join(map(str, ids.tolist()))})") if len(ids) else Sql("false")
