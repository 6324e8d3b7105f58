"""Tables for people: columns of the catalog for many series, and what each instance of one series says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.attributes import listing
from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.catalog.query.paths import element
from dicomlake.catalog.session import Session

if TYPE_CHECKING:
    import pandas as pd


def absent(session: Session, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of these ids whose rows are not in force."""
    query = "SELECT id FROM wanted EXCEPT SELECT series_id FROM series"
    found = session.execute(query, ids={"wanted": ids}).fetchnumpy()["id"]
    return np.asarray(np.ma.getdata(found), dtype=np.int64)


def series_table(session: Session, ids: npt.NDArray[np.int64], names: Sequence[str]) -> pd.DataFrame:
    """Columns of the table of series for these, in this order; whole numbers stay whole where some are not.

    An element that varies within a series is told by its first instance. Raises KeyError for an id that is
    not in force.
    """
    import pandas as pd

    chosen = ", ".join(f'"{name}"' for name in dict.fromkeys(("series_id", *names)))
    every = f"SELECT {chosen} FROM series WHERE series_id IN (SELECT id FROM wanted) ORDER BY series_id"
    found = session.execute(every, ids={"wanted": ids}).fetchnumpy()
    held = np.ma.getdata(found["series_id"])
    order = np.searchsorted(held, ids)
    if len(ids) and (not len(held) or (held[np.minimum(order, len(held) - 1)] != ids).any()):
        raise KeyError("series_id")
    return pd.DataFrame({name: _column(found[name], order) for name in names})


def _column(values: Any, order: npt.NDArray[np.int64]) -> Any:
    """One column in order: text as objects, whole numbers as Int64, None where there is nothing."""
    import pandas as pd

    data, missing = np.ma.getdata(values)[order], np.ma.getmaskarray(values)[order]
    if data.dtype.kind in "iu":
        return pd.arrays.IntegerArray(data.astype(np.int64), missing)
    if data.dtype.kind == "f":
        return np.where(missing, np.nan, data)
    found = data.astype(object)
    found[missing] = None
    return found


def instance_columns(headers: SeriesHeaders, names: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """The SOPInstanceUIDs of a series, and what each instance has of some elements, as text.

    A cell is a tuple of several values, None without one. Raises QueryError for an unknown element.
    """
    paths = {name: element(name).name for name in names}
    found: dict[str, list[Any]] = {name: [] for name in names}
    for _uid, attributes in headers:
        held = listing(attributes)
        for name, path in paths.items():
            values = held.get(path, ())
            found[name].append(None if not values else values[0] if len(values) == 1 else tuple(values))
    return list(headers.instances), found
