"""What can be asked of a lake: cohorts by conditions, SQL, words of reports, one object by its UID."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake import __version__
from dicomlake.catalog import clinical_rows, frozen, journal, reader, schema
from dicomlake.errors import CatalogError, QueryError
from dicomlake.lake.keeping import Keeping
from dicomlake.records import SeriesKey, Volume
from dicomlake.tables import frame

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.catalog.facets import Facet
    from dicomlake.catalog.query import Expression
    from dicomlake.catalog.query.explaining import Explanation
    from dicomlake.catalog.session import Session
    from dicomlake.catalog.sql import Answer
    from dicomlake.cohorts.cohort import Cohort
    from dicomlake.cohorts.frozen import FrozenCohort
    from dicomlake.series import Series

Ids = npt.NDArray[np.int64]
_FACETS = (
    *("Modality", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "StudyDate"),
    *("SliceThickness", "PatientSex", "PatientAge"),
)
_HIT = ("score", "kind", "snippet", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class Asking(Keeping):
    """A lake as one asks it."""

    def query(self, *conditions: str, **wanted: Any) -> Cohort:
        """The series that meet all conditions, on any element of any instance, by PS3.6 keyword.

        `query(Modality="CT", SliceThickness=(None, 1.5), EchoTime=[10, 20], StudyDescription="*chest*")`:
        a scalar is exact, a list is any of its members, a pair is a closed range with None for an open
        end, * and ? are wildcards. Names and free text fold case and accents. Suffixes ask otherwise:
        `KVP__ge=100`, `ContrastBolusAgent__missing=True`, `ProtocolName__regex="^T[12]"`. Text conditions
        read as on the command line: `query("KVP>=100", "StudyDate=2024-03")`.
        Nested elements (`"ReferencedSeriesSequence.SeriesInstanceUID"`), tags (`"0018,0081"`) and private
        ones (`'0019,xx0C["SIEMENS MR HEADER"]'`) go in a dict: `query(**{"0018,0081": 30})`. So do facts:
        `"label.quality"`, `"clinical.trial.response"`, `verdict`, `spacing_mm`, `text` (words of reports).
        All operators: docs/reference/query.md.
        Raises QueryError naming the condition that cannot be understood.
        """
        from dicomlake.cohorts.cohort import Cohort

        expression, stamp = self.parsed(*conditions, **wanted), self.stamp
        return Cohort(self, self.matching(expression), expression, stamp)

    def sql(self, query: str) -> Answer:
        """The answer to one SELECT on the mirror: `lake.sql("select * from series").df()`.

        Tables: series, attributes, volumes, instances, studies, patients, findings, labels, clinical,
        documents, cohorts. The answer gives pandas, polars, Arrow, rows, or DuckDB's relation.
        Raises QueryError for anything but a SELECT on these.
        """
        from dicomlake.catalog.sql import select

        return select(self._session(), query)

    def search(
        self, words: str, *, kinds: Collection[str] | str | None = None, limit: int | None = None
    ) -> pd.DataFrame:
        """Reports, attached documents and descriptions that hold words, one row each, the best first.

        words: all must be there; `"a phrase"`, a beginning `pneumo*`, `-without`, OR, parentheses. Case and
        accents do not count. kinds: "report", "document" or "description". limit: so many rows.
        Raises QueryError for words that cannot be understood.
        """
        from dicomlake.catalog import documents

        self._index_words()
        with self._catalog.read() as view:
            hits = documents.search(view, words, kinds=kinds, limit=limit)
        rows = [
            dict(zip(_HIT, (h.score, h.kind, h.snippet, h.study, h.series, h.sop), strict=True)) for h in hits
        ]
        return frame(rows, _HIT)

    def facets(
        self, *names: str, selected: Mapping[str, Collection[Any]] | None = None, among: Cohort | None = None
    ) -> dict[str, Facet]:
        """Values of columns of `series` with how many series have each; fast at a million series.

        names: columns; the usual ones unless given. selected: column to the values that are chosen in it; a
        facet shows what is left by the choices in the others. among: only the series of a cohort.
        """
        from dicomlake.catalog.facets import facets

        return facets(
            self._session(),
            names or _FACETS,
            selected=selected or {},
            among=None if among is None else among.ids,
        )

    def find(self, uid: str) -> list[Series]:
        """The series that a series, study or SOP instance UID names; a unique beginning of one is enough."""
        from dicomlake.series import Series

        with self._catalog.read() as view:
            return [Series(self, series_id) for series_id in reader.series_ids_with(view, uid)]

    def open(self, uid: str, **how: Any) -> Any:
        """What a SOPInstanceUID or SeriesInstanceUID opens as, whatever it is.

        Image series as `Series.open(**how)`; segmentations, structure sets, plans, reports, presentation
        states, waveforms, documents, videos and slides as the objects that they are.
        Raises VolumeError when the lake holds no such object, or several series of that UID.
        """
        from dicomlake.opening import open_uid

        return open_uid(self, uid, how)

    # ---- frozen cohorts -------------------------------------------------------------------------------

    def freeze(self, cohort: Cohort, name: str, *, who: str | None = None) -> FrozenCohort:
        """Keep what a cohort is, under a name: its query, UIDs, hashes, and the number of the newest change.

        who: the login name unless given. Raises QueryError when the name is taken or cannot be one.
        """
        from dicomlake.catalog.query import to_json

        keys = cohort.keys
        with self._catalog.read() as view:  # what they are in one view, whatever came since they were found
            ids = frozen.current_ids(view, keys)
            members = tuple(frozen.states(view, [ids[key] for key in keys if key in ids]))
            change = schema.head(view)
        if len(members) != len(cohort):
            raise CatalogError("series of this cohort are gone: make it again")
        expression = cohort.expression
        query = None if expression is None else json.loads(to_json(expression))
        signed = (__version__, who or journal.login(), journal.now())
        return self._keep(frozen.FrozenRow(name, query, members, change, *signed))

    def _keep(self, row: frozen.FrozenRow) -> FrozenCohort:
        from dicomlake.cohorts.frozen import FrozenCohort

        journal.record(self._catalog, self._storage, "cohort", row.as_json())
        return FrozenCohort(self, row)

    def cohorts(self) -> pd.DataFrame:
        """One row a frozen cohort, the oldest first."""
        with self._catalog.read() as view:
            return frame(list(frozen.listing(view)), frozen.LISTED)

    def cohort(self, name: str) -> FrozenCohort:
        """The frozen cohort of a name. Raises QueryError when there is none."""
        from dicomlake.cohorts.frozen import FrozenCohort

        with self._catalog.read() as view:
            row = frozen.frozen(view, name)
        if row is None:
            raise QueryError(f"there is no frozen cohort {name!r}: see lake.cohorts()")
        return FrozenCohort(self, row)

    def import_cohort(self, path: str | Path, *, name: str | None = None) -> FrozenCohort:
        """Take in a cohort that `FrozenCohort.export` wrote, here or from another lake.

        name: another one than it had. Its series need not be in this lake: `diff()` tells.
        Raises QueryError when the file is none or was changed, or the name is taken.
        """
        from dataclasses import replace

        from dicomlake.catalog.frozen_files import read_export

        row = read_export(Path(path))
        return self._keep(row if name is None else replace(row, name=name))

    def states(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, frozen.Member]:
        """What those of these series that the lake holds are now, told by hashes."""
        with self._catalog.read() as view:
            ids = frozen.current_ids(view, keys)
            return dict(zip(ids, frozen.states(view, list(ids.values())), strict=True))

    def cohort_of(self, keys: Sequence[SeriesKey]) -> Cohort:
        """Those of these series that the lake holds, in this order."""
        from dicomlake.cohorts.cohort import Cohort

        stamp = self.stamp
        with self._catalog.read() as view:
            ids = frozen.current_ids(view, keys)
        return Cohort.chosen(self, list(ids.values()), stamp)

    def requery(self, query: dict[str, Any]) -> Cohort:
        """What meets conditions now that were kept as JSON."""
        from dicomlake.catalog.query import from_json
        from dicomlake.cohorts.cohort import Cohort

        expression, stamp = from_json(json.dumps(query)), self.stamp
        return Cohort(self, self.matching(expression), expression, stamp)

    # ---- what a Cohort needs --------------------------------------------------------------------------

    def _session(self) -> Session:
        return self._mirror.session()

    def _searched(self, words: str) -> list[tuple[str, str]]:
        """Studies with a report or document that holds words, and series that are described so."""
        from dicomlake.catalog.documents import series_with

        self._index_words()
        with self._catalog.read() as view:
            told = series_with(view, words, kinds=("report", "document"))
            described = series_with(view, words, kinds="description")
        return [*((key.study_uid, "") for key in told), *described]

    def parsed(self, *conditions: str, **wanted: Any) -> Expression:
        """Conditions as `query` takes them. Raises QueryError for what nobody can understand or find."""
        from dicomlake.catalog.query import parse
        from dicomlake.catalog.query.expressions import conditions_in

        expression = parse(*conditions, **wanted)
        self._require_clinical([one.path for one in conditions_in(expression)])
        return expression

    def _require_clinical(self, paths: Sequence[str]) -> None:
        """Raise QueryError where one of these names a clinical column that there is not."""
        clinical = [path for path in paths if path.startswith("clinical.")]
        if clinical:
            with self._catalog.read() as view:
                clinical_rows.require_known(view, clinical)

    def matching(self, expression: Expression) -> Ids:
        """Ids of the series that meet an expression, ascending."""
        from dicomlake.catalog.query import matching

        return matching(self._session(), expression, self.headers, self._searched)

    def explain(self, expression: Expression) -> Explanation:
        """How many series each condition of an expression leaves."""
        from dicomlake.catalog.query.explaining import explain

        return explain(self._session(), expression, self.headers, self._searched)

    def sql_of(self, expression: Expression | None, ids: Ids) -> str:
        """A SELECT that gives the ids of the same series."""
        from dicomlake.catalog.query.matching import Asked
        from dicomlake.catalog.query.written import sql_of

        return sql_of(expression, ids, Asked(self._session(), self.headers, self._searched))

    def current(self, ids: Ids) -> Ids:
        """The ids that the same series have now, in this order; without those that are gone."""
        from dicomlake.catalog.tabular import absent

        closed = absent(self._session(), ids)
        if not len(closed):
            return ids
        with self._catalog.read() as view:
            rows = {row["id"]: row for row in reader.series_rows(view, closed.tolist())}
            keys = {
                i: SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]) for i, row in rows.items()
            }
            now = frozen.current_ids(view, list(keys.values()))
        gone = set(closed.tolist())
        found = (now.get(keys[i]) if i in keys else None if i in gone else i for i in ids.tolist())
        return np.array([i for i in found if i is not None], dtype=np.int64)

    def ordered(self, ids: Ids) -> Ids:
        """By patient, time, study and SeriesNumber."""
        from dicomlake.catalog.ordering import order

        return order(self._session(), ids)

    def columns(self, ids: Ids, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
        """Values of elements and facts of series, in this order; a tuple where they vary."""
        from dicomlake.catalog.query.columns import columns
        from dicomlake.catalog.tabular import absent

        self._require_clinical(names)
        session = self._session()
        if len(absent(session, ids)):  # late instances came since the ids were found
            ids = self.current(ids)
        return columns(session, ids.tolist(), names, self.headers)

    def series_table(self, ids: Ids, names: Sequence[str]) -> pd.DataFrame:
        """Columns of the table of series, in this order."""
        from dicomlake.catalog.tabular import series_table

        try:
            return series_table(self._session(), ids, names)
        except KeyError:  # late instances came since the ids were found
            return series_table(self._session(), self.current(ids), names)

    def instance_columns(
        self, series_id: int, names: Sequence[str]
    ) -> tuple[list[str], dict[str, list[Any]]]:
        """The SOPInstanceUIDs of a series, and values of elements of each."""
        from dicomlake.catalog.tabular import instance_columns

        return instance_columns(self.headers(series_id), names)

    def instances_where(self, series_id: int, expression: Expression) -> list[str]:
        """SOPInstanceUIDs of the instances of a series that meet an expression, each by itself."""
        from dicomlake.catalog.query import instances_where

        return instances_where(self._session(), series_id, expression, self.headers, self._searched)

    def keys_of(self, ids: Ids) -> list[SeriesKey]:
        """The UIDs of series, in this order."""
        found = self.series_table(ids, ("StudyInstanceUID", "SeriesInstanceUID"))
        return list(map(SeriesKey, found["StudyInstanceUID"].tolist(), found["SeriesInstanceUID"].tolist()))

    def volumes_of(self, keys: Sequence[SeriesKey]) -> Mapping[SeriesKey, Sequence[Volume]]:
        """The volumes of many series."""
        with self._catalog.read() as view:
            return reader.volumes_of_many(view, keys)
