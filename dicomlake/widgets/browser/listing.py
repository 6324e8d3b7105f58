"""The tree of a query, patients over studies over series, as whole numbers: pages are cut from it.

A million series are some tens of megabytes here, made once for each state of the catalog; the words of a page
are read when it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.base import Refusal
from dicomlake.widgets.browser.source import Lake

Ids = npt.NDArray[np.int64]
Sort = Literal["patient", "date", "size"]
SORTS = get_args(Sort)
MOST_ROWS = 200  # of a page

_EVERY = """WITH groups AS (
    SELECT PatientID, IssuerOfPatientID, StudyInstanceUID,
        min(TRY_CAST(StudyDate AS INTEGER)) AS day,
        dense_rank() OVER (ORDER BY PatientID, IssuerOfPatientID) AS patient,
        row_number() OVER (ORDER BY PatientID, IssuerOfPatientID, min(StudyDate), StudyInstanceUID) AS study
    FROM series GROUP BY PatientID, IssuerOfPatientID, StudyInstanceUID)
SELECT series_id, patient, study, coalesce(day, 0) AS day, bytes
FROM series JOIN groups USING (PatientID, IssuerOfPatientID, StudyInstanceUID)
ORDER BY study, coalesce(SeriesNumber, 0), SeriesInstanceUID"""


@dataclass(frozen=True, slots=True)
class Order:
    """All series of a lake in reading order, as of one change.

    ids: of the rows of series. patient, study: numbers that ascend. day: StudyDate as a number, 0 without
    one. size: bytes.
    """

    ids: Ids
    patient: Ids
    study: Ids
    day: Ids
    size: Ids

    @classmethod
    def read(cls, lake: Lake) -> Order:
        """The order of a lake now."""
        found = lake.sql(_EVERY).fetchnumpy()
        names = ("series_id", "patient", "study", "day", "bytes")
        return cls(*(np.asarray(np.ma.getdata(found[name]), dtype=np.int64) for name in names))

    def places(self, ids: Ids) -> Ids:
        """Where series stand, ascending; without those that are not here."""
        if not len(self.ids) or not len(ids):
            return np.zeros(0, dtype=np.int64)
        sorter = np.argsort(self.ids)
        held = self.ids[sorter]
        at = np.minimum(np.searchsorted(held, ids), len(held) - 1)
        return np.sort(sorter[at][held[at] == ids])


class Listing:
    """The series that meet a query, in an order, with where patients and studies begin.

    ids: of series, in order. studies, patients: the place in `ids` where each begins, and one more: the end.
    """

    def __init__(self, order: Order, ids: Ids | None, sort: Sort = "patient") -> None:
        """ids: of the series that meet the query; None for all."""
        chosen = np.arange(len(order.ids)) if ids is None else order.places(ids)
        chosen = chosen[_sorted(order, chosen, sort)]
        self.ids = order.ids[chosen]
        self.studies = _begins(order.study[chosen])
        self.patients = _begins(order.patient[chosen])
        self._study_of_patient = np.searchsorted(self.studies, self.patients)
        self._sizes = order.size[chosen]
        self._days = order.day[chosen]

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> dict[str, int]:
        """How many patients, studies and series."""
        return {
            "patients": len(self.patients) - 1,
            "studies": len(self.studies) - 1,
            "series": len(self.ids),
        }

    def page(self, level: str, of: int, start: int, count: int) -> list[dict[str, Any]]:
        """Some children: patients of the lake, studies of a patient, series of a study.

        of: the number of the patient or study, counted over the listing; 0 for patients.
        Each has `at`, its own number; `first` and `series`, its series by place; `children`; and `id`, of its
        first series.
        """
        if level == "patients":
            low, high = 0, len(self.patients) - 1
        elif level == "studies":
            low, high = self._span(self._study_of_patient, of)
        elif level == "series":
            low, high = self._span(self.studies, of)
        else:
            raise Refusal(f"there is no level {level!r}: patients, studies and series are listed")
        begin = min(max(low + start, low), high)
        end = min(begin + min(max(count, 0), MOST_ROWS), high)
        return [self._row(level, at) for at in range(begin, end)]

    def _span(self, begins: Ids, of: int) -> tuple[int, int]:
        if not 0 <= of < len(begins) - 1:
            raise Refusal(f"number {of} is not in this list of {len(begins) - 1}: list again")
        return int(begins[of]), int(begins[of + 1])

    def _row(self, level: str, at: int) -> dict[str, Any]:
        if level == "series":
            return {"at": at, "first": at, "series": 1, "id": int(self.ids[at])}
        begins = self.patients if level == "patients" else self.studies
        first, end = int(begins[at]), int(begins[at + 1])
        row = {"at": at, "first": first, "series": end - first, "id": int(self.ids[first])}
        row["bytes"] = int(self._sizes[first:end].sum())
        row["children"] = end - first
        if level == "patients":
            row["children"] = int(self._study_of_patient[at + 1] - self._study_of_patient[at])
            row["day"] = int(self._days[first:end].max())
        return row

    def ids_in(self, ranges: list[tuple[int, int]], most: int) -> Ids:
        """Ids of series by ranges of places, each end exclusive. Raises Refusal for more than `most`."""
        whole = len(self.ids)
        clamped = [(max(0, min(a, whole)), max(0, min(b, whole))) for a, b in ranges]
        if sum(max(0, b - a) for a, b in clamped) > most:
            raise Refusal(
                f"more than {most} series cannot be chosen one by one: narrow the search, "
                "then choose “Select all matching”, which keeps the query"
            )
        found = [self.ids[a:b] for a, b in clamped if b > a]
        return np.concatenate(found) if found else self.ids[:0]

    def places_of(self, ids: Ids) -> list[int]:
        """Where series stand in this listing, ascending."""
        if not len(ids):
            return []
        return [int(i) for i in np.flatnonzero(np.isin(self.ids, ids))]


def _begins(numbers: Ids) -> Ids:
    """Where each run of equal numbers begins, and the end."""
    if not len(numbers):
        return np.zeros(1, dtype=np.int64)
    changes = np.flatnonzero(np.diff(numbers)) + 1
    return np.concatenate([[0], changes, [len(numbers)]]).astype(np.int64)


def _sorted(order: Order, chosen: Ids, sort: Sort) -> Any:
    """What brings places into an order; those of one patient, and of one study, stay together."""
    if sort == "patient" or not len(chosen):
        return slice(None)
    patient, study = order.patient[chosen], order.study[chosen]
    weight = order.day[chosen] if sort == "date" else order.size[chosen]
    of_patient = _per_group(patient, weight, together=sort == "size")
    of_study = _per_group(study, weight, together=sort == "size")
    own = np.zeros_like(weight) if sort == "date" else -weight
    return np.lexsort((np.arange(len(chosen)), own, study, -of_study, patient, -of_patient))


def _per_group(groups: Ids, weight: Ids, *, together: bool) -> Ids:
    """The sum, or the largest, of each run of a group, for each of its members."""
    begins = _begins(groups)
    reduce = np.add if together else np.maximum
    return np.repeat(reduce.reduceat(weight, begins[:-1]), np.diff(begins))
