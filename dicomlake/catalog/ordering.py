"""Series in reading order: PatientID, StudyDate, StudyInstanceUID, SeriesNumber, SeriesInstanceUID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.mirror.shown import ORDER

if TYPE_CHECKING:
    from dicomlake.catalog.session import Session

Ids = npt.NDArray[np.int64]
_FEW = 20_000  # series that are sorted by themselves; for more the order of all is worth making, and keeping
_ORDER = "PatientID, coalesce(StudyDate, ''), StudyInstanceUID, coalesce(SeriesNumber, 0), SeriesInstanceUID"


def order(session: Session, ids: Ids | Sequence[int]) -> Ids:
    """The same ids in reading order; those of no current series are left out."""
    wanted = np.asarray(ids, dtype=np.int64)
    if len(wanted) <= _FEW:
        return _sorted(session, wanted)
    every = _all(session)
    if not len(every):
        return every
    low, high = int(every.min()), int(every.max())
    there = np.zeros(high - low + 1, dtype=bool)
    there[wanted[(wanted >= low) & (wanted <= high)] - low] = True
    return every[there[every - low]]


def top(session: Session, ids: Ids | Sequence[int], n: int) -> Ids:
    """The first n of some series in reading order."""
    wanted = np.asarray(ids, dtype=np.int64)
    return order(session, wanted)[:n] if len(wanted) > _FEW else _sorted(session, wanted, n)


def _all(session: Session) -> Ids:
    """All series in reading order, kept until there are others."""
    shown, held = session.shown("series")
    query = f"SELECT series_id FROM series ORDER BY {_ORDER}"
    return shown.kept(ORDER, held, lambda: _fetched(session, query), only=True)


def _sorted(session: Session, ids: Ids, limit: int | None = None) -> Ids:
    query = f"SELECT series_id FROM series SEMI JOIN given ON given.id = series.series_id ORDER BY {_ORDER}"
    return _fetched(session, query + ("" if limit is None else f" LIMIT {int(limit)}"), given=ids)


def _fetched(session: Session, query: str, **ids: Ids) -> Ids:
    found = session.execute(query, ids=ids).fetchnumpy()["series_id"]
    return np.asarray(np.ma.getdata(found), dtype=np.int64)
