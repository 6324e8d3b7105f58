"""Rows as data frames: columns in reading order, whole numbers whole, also where some are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_LAST = ("UID",)


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A DataFrame of these rows; UIDs come last, as they are long and seldom read.

    columns: those of an empty frame, so that a query without a match has them too.
    """
    import pandas as pd

    names = list(rows[0]) if rows else list(columns or ())
    ordered = sorted(names, key=lambda name: name.endswith(_LAST))
    found = pd.DataFrame(list(rows), columns=ordered)
    for name in ordered:
        values = [value for row in rows if (value := row[name]) is not None]
        if values and all(isinstance(value, int) for value in values):
            found[name] = found[name].astype("Int64")
    return found
