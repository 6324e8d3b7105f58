"""All series that are explored, as rows numbered from 0: whose they are, and in which order they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.explorer.source import CohortLike, Ids, Mask, Source

if TYPE_CHECKING:
    from dicomlake.catalog.session import Session

Rows = npt.NDArray[np.int64]

_GROUPS = """SELECT s.series_id, g.place FROM series s JOIN
    (SELECT {key}, row_number() OVER () AS place FROM series GROUP BY {key}) g USING ({key})"""


class Universe:
    """The series of a lake at one change; of a cohort's, `base` tells which.

    ids: of the catalog, ascending; a row is a place in them. studies, patients: (n,) the number of each.
    order: (n,) the rows in reading order, by patient and time. paths: elements and facts that there are, with
    the number of series; once they were looked up.
    """

    def __init__(self, source: Source, cohort: CohortLike | None) -> None:
        self.stamp = source.stamp
        self.session = source._session()
        with self.session.mirror.still():
            found = self.session.execute("SELECT series_id FROM series ORDER BY series_id").fetchnumpy()
            self.ids: Ids = np.asarray(np.ma.getdata(found["series_id"]), dtype=np.int64)
            self.count = len(self.ids)
            self._first = int(self.ids[0]) if self.count else 0
            self._dense = bool(self.count) and int(self.ids[-1]) - self._first + 1 == self.count
            self.studies = self._groups("StudyInstanceUID")
            self.patients = self._groups("PatientID, IssuerOfPatientID")
        self.order = self.rows(source.ordered(self.ids))
        self.base: Mask | None = None if cohort is None else self.mask(cohort.ids)
        self.paths: dict[str, int] | None = None
        self.size = self.count if self.base is None else int(np.count_nonzero(self.base))

    def rows(self, ids: npt.ArrayLike) -> Rows:
        """The rows of series, in this order; those that are not in it are left out."""
        wanted = np.asarray(ids, dtype=np.int64)
        if not self.count:
            return wanted[:0]
        if self._dense:
            rows = wanted - self._first
            there = (rows >= 0) & (rows < self.count)
        else:
            rows = np.minimum(np.searchsorted(self.ids, wanted), self.count - 1)
            there = self.ids[rows] == wanted
        return rows if there.all() else rows[there]

    def mask(self, ids: npt.ArrayLike) -> Mask:
        """(n,) which rows these series are."""
        found = np.zeros(self.count, dtype=bool)
        found[self.rows(ids)] = True
        return found

    def distinct(self, groups: npt.NDArray[Any], chosen: Rows) -> int:
        """How many different studies, or patients, some rows are of."""
        seen = np.zeros(self.count + 1, dtype=bool)
        seen[groups[chosen]] = True
        return int(np.count_nonzero(seen))

    def _groups(self, key: str) -> npt.NDArray[np.int32]:
        found = fetched(self.session, _GROUPS.format(key=key))
        numbers = np.zeros(self.count, dtype=np.int32)
        numbers[self.rows(found["series_id"])] = found["place"]
        return numbers


def fetched(session: Session, sql: str, parameters: Any = ()) -> dict[str, npt.NDArray[Any]]:
    """The columns of an answer; where there is NULL, numbers are NaN and texts None."""
    found = session.execute(sql, parameters).fetchnumpy()
    return {name: _filled(values) for name, values in found.items()}


def _filled(values: Any) -> npt.NDArray[Any]:
    missing = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    if not missing.any():
        return np.asarray(data)
    if data.dtype.kind in "iuf":
        return np.where(missing, np.nan, data.astype(np.float64))
    found = data.astype(object)
    found[missing] = None
    return found
