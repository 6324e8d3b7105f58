"""Cohorts: what a query gives, a sequence of series, and what can be asked of it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from dicomlake.cohorts.idsets import ascending, both, either, without
from dicomlake.cohorts.seen import Seen
from dicomlake.cohorts.source import Source
from dicomlake.errors import CatalogError, QueryError
from dicomlake.records import SeriesKey
from dicomlake.series import Row, Series, text_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from dicomlake.catalog.labels import LabelReport
    from dicomlake.catalog.query import Expression
    from dicomlake.catalog.query.explaining import Explanation
    from dicomlake.catalog.targets import Level as LabelLevel
    from dicomlake.cohorts.arrays.collection import Collection
    from dicomlake.cohorts.computing.result import Result
    from dicomlake.cohorts.frozen import FrozenCohort
    from dicomlake.cohorts.training.patches import Patches
    from dicomlake.cohorts.training.splitting import Columns, Split

Ids = npt.NDArray[np.int64]
Level = Literal["patient", "study", "series", "volume", "instance"]
_SHOWN = ("StudyDate", "Modality", "SeriesDescription", "BodyPartExamined", "instances")
_FEW = 12  # rows that a repr shows
_AT_ONCE = 500


class Cohort(Seen):
    """The series that meet some conditions, by patient, time, study and SeriesNumber.

    Behaves as a sequence of Series: `len(cohort)`, `cohort[0]`, iteration, slices. Cohorts of one lake
    combine: `a & b`, `a | b`, `a - b`, `~a`, and `a.where(...)` takes those of a that meet more.
    A cohort stays the series that it was when it was asked; ask again to see which came since.
    """

    def __init__(
        self,
        source: Source,
        ids: npt.ArrayLike,
        expression: Expression | None = None,
        stamp: tuple[str, int] | None = None,
    ) -> None:
        """stamp: of the catalog, taken before the ids were: what changed since is caught up with."""
        self._source = source
        self._ids = ascending(np.asarray(ids, dtype=np.int64))
        self._in_order: Ids | None = None
        self._catalog, self._change = source.stamp if stamp is None else stamp
        self.expression = expression

    @classmethod
    def chosen(cls, source: Source, ids: npt.ArrayLike, stamp: tuple[str, int] | None = None) -> Cohort:
        """Series that were chosen one by one; they keep their order, each once."""
        given = np.asarray(ids, dtype=np.int64)
        found = cls(source, given, stamp=stamp)
        found._in_order = np.array(list(dict.fromkeys(given.tolist())), dtype=np.int64)
        return found

    # ---- a sequence -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ids)

    def __bool__(self) -> bool:
        return len(self._ids) > 0

    @property
    def ids(self) -> Ids:
        """The ids of the catalog's rows of the series, ascending; they mean nothing after a rebuild."""
        self._catch_up()
        return self._ids

    @property
    def ordered(self) -> Ids:
        """The same ids in the order of the cohort."""
        self._catch_up()
        while self._in_order is None:
            ordered = self._source.ordered(self._ids)
            if len(ordered) == len(self._ids):
                self._in_order = ordered
            else:
                self._catch_up()  # instances came between the two
        return self._in_order

    def _catch_up(self) -> None:
        """Name the rows that these series have now, where late instances gave them new ones."""
        catalog, change = self._source.stamp
        if catalog != self._catalog:
            raise CatalogError("the catalog was rebuilt since this cohort was made: make it again")
        if change != self._change:
            if self._in_order is not None:
                self._in_order = self._source.current(self._in_order)
            self._ids = ascending(self._source.current(self._ids))
            self._change = change

    @overload
    def __getitem__(self, index: int) -> Series: ...

    @overload
    def __getitem__(self, index: slice) -> Cohort: ...

    def __getitem__(self, index: int | slice) -> Series | Cohort:
        if isinstance(index, slice):
            chosen = self.ordered[index]
            return Cohort.chosen(self._source, chosen, (self._catalog, self._change))
        return Series(self._source, int(self.ordered[index]))

    def at(self, positions: npt.ArrayLike) -> Cohort:
        """The series at these positions of the cohort, in this order."""
        chosen = self.ordered[np.asarray(positions, dtype=np.int64)]
        return Cohort.chosen(self._source, chosen, (self._catalog, self._change))

    def __iter__(self) -> Iterator[Series]:
        ordered = self.ordered.tolist()
        for start in range(0, len(ordered), _AT_ONCE):
            for row in self._source.series_rows(ordered[start : start + _AT_ONCE]):
                yield Series(self._source, row["id"], row)

    @property
    def keys(self) -> list[SeriesKey]:
        """StudyInstanceUID and SeriesInstanceUID of each series."""
        return self._source.keys_of(self.ordered)

    def __contains__(self, series: object) -> bool:
        if not isinstance(series, Series) or series.source is not self._source:
            return False
        return bool(np.isin(series.id, self.ids))

    # ---- others from it -------------------------------------------------------------------------------

    def where(self, *conditions: str, **wanted: Any) -> Cohort:
        """Those of these series that meet more conditions, given as in `Lake.query`."""
        more, stamp = self._source.parsed(*conditions, **wanted), self._source.stamp
        return self & Cohort(self._source, self._source.matching(more), more, stamp)

    def __and__(self, other: Cohort) -> Cohort:
        from dicomlake.catalog.query import And

        return self._combined(other, both, lambda a, b: And((a, b)))

    def __or__(self, other: Cohort) -> Cohort:
        from dicomlake.catalog.query import Or

        return self._combined(other, either, lambda a, b: Or((a, b)))

    def __sub__(self, other: Cohort) -> Cohort:
        from dicomlake.catalog.query import And, Not

        return self._combined(other, without, lambda a, b: And((a, Not(b))))

    def __invert__(self) -> Cohort:
        """All other series of the lake."""
        from dicomlake.catalog.query import And, Not

        stamp, every = self._source.stamp, And(())
        everything = Cohort(self._source, self._source.matching(every), every, stamp)
        found = everything - self
        found.expression = None if self.expression is None else Not(self.expression)
        return found

    def _combined(
        self,
        other: Cohort,
        combine: Callable[[Ids, Ids], Ids],
        join: Callable[[Expression, Expression], Expression],
    ) -> Cohort:
        if not isinstance(other, Cohort):
            return NotImplemented
        if other._source is not self._source:
            raise QueryError("the cohorts are of two lakes: only those of one lake can be combined")
        mine, others = self.ids, other.ids
        while self._change != other._change:  # instances came between the two
            mine, others = self.ids, other.ids
        ids = combine(mine, others)
        if self.expression is None or other.expression is None:
            return self._with(ids, None)
        return self._with(ids, join(self.expression, other.expression))

    def _with(self, ids: Ids, expression: Expression | None) -> Cohort:
        """Other series, as of the change that this cohort is of."""
        return Cohort(self._source, ids, expression, (self._catalog, self._change))

    # ---- facts ----------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """The catalog's columns of each series."""
        return [series.facts for series in self]

    def table(self, *columns: str, level: Level = "series") -> pd.DataFrame:
        """One row a series, or one a patient, study, volume or instance.

        columns: keywords, tags, nested or private paths and facts, as in `Lake.query`; the catalog's
            columns unless given. A cell is a tuple where an element has several values.
        """
        from dicomlake.cohorts.tables import table

        return table(self._source, self.ordered, columns, level)

    def instances(self, *conditions: str, columns: Sequence[str] = (), **wanted: Any) -> pd.DataFrame:
        """One row an instance of these series that meets all conditions by itself, given as in `Lake.query`.

        columns: elements of each instance to show. Looks into the headers of every series.
        """
        from dicomlake.catalog.query.expressions import is_positive

        expression = self._source.parsed(*conditions, **wanted)
        some = self.where(*conditions, **wanted) if is_positive(expression) else self
        found = some.table(*columns, level="instance")
        met = {
            (key.series_uid, uid)
            for i, key in zip(some.ordered.tolist(), some.keys, strict=True)
            for uid in self._source.instances_where(i, expression)
        }
        pairs = zip(found["SeriesInstanceUID"], found["SOPInstanceUID"], strict=True)
        return found[[pair in met for pair in pairs]].reset_index(drop=True)

    def explain(self) -> Explanation:
        """How many series each condition left, and which one left none.

        Raises QueryError for a cohort that was chosen otherwise than by conditions.
        """
        if self.expression is None:
            raise QueryError("these series were chosen one by one: there is no condition to explain")
        return self._source.explain(self.expression)

    @property
    def sql(self) -> str:
        """A SELECT for `Lake.sql` that gives the same series."""
        return self._source.sql_of(self.expression, self.ids)

    def freeze(self, name: str, *, who: str | None = None) -> FrozenCohort:
        """Keep it in the lake under a name, with hashes of all that it is; it never changes.

        who: the login name unless given. Raises QueryError when the name is taken or cannot be one.
        """
        return self._source.freeze(self, name, who=who)

    def set_label(
        self,
        name: str,
        value: str | float | bool,
        *,
        note: str | None = None,
        who: str | None = None,
        level: LabelLevel | None = None,
    ) -> LabelReport:
        """Label each of these series, or what they are part of; see `Lake.set_label`."""
        return self._source.set_label(self.keys, name, value, note=note, who=who, level=level)

    # ---- arrays ---------------------------------------------------------------------------------------

    @overload
    def open(self, *, grid: None = None, **how: Any) -> Collection: ...

    @overload
    def open(self, *, grid: Literal["common"], **how: Any) -> xr.DataArray: ...

    def open(self, *, grid: Literal["common"] | None = None, **how: Any) -> Collection | xr.DataArray:
        """Its series as lazy arrays; nothing is read before it is computed.

        grid: None gives a collection, by SeriesInstanceUID and by position, of what `Series.open` gives;
            `how` is that of `collection.open_cohort`: units, volume, sel, isel, chunks. "common" gives one
            array (series, z, y, x) with every volume on one grid; `how` is that of
            `common_grid.common_grid`: spacing, extent, reference, align, units, interpolation, errors …
        Raises VolumeError, with "common", when no series can be placed, and GeometryError when the volumes
        share nothing.
        """
        if grid not in (None, "common"):
            raise ValueError(f"grid is None or 'common', not {grid!r}")
        if grid is None:
            from dicomlake.cohorts.arrays.collection import open_cohort

            return open_cohort(self, volumes_of=self._source.volumes_of, **how)
        from dicomlake.cohorts.arrays.common_grid import common_grid

        return common_grid(self, **how)

    def map(self, func: Callable[..., Any], **how: Any) -> Result:
        """`func(image)` of every series, on Dask: numbers, rows or arrays, and failures as rows.

        how: that of `mapping.map_cohort`: args, kwargs, units, workers, client, and `name`, under which the
        result stays in the lake with its code, inputs and versions.
        """
        from dicomlake.cohorts.computing.mapping import map_cohort

        source = self._source
        return map_cohort(func, self, storage=source.storage, change=source.change, **how)

    def features(self, **how: Any) -> pd.DataFrame:
        """IBSI features of segmented regions, one row a series and region; what fails is a row with `error`.

        how: that of `regions.features`: of ("seg", "rtstruct", "both", masks), kinds, labels, units, width …
        """
        from dicomlake.cohorts.regions.features import features

        return features(self, **how)

    def first_order(self, **how: Any) -> pd.DataFrame:
        """IBSI intensity statistics of regions: mean_intensity, intensity_percentile_90 …; as `features`."""
        return self.features(kinds=("first_order",), **how)

    def shape(self, **how: Any) -> pd.DataFrame:
        """IBSI morphology of regions: volume_mesh, sphericity, maximum_3d_diameter …; as `features`."""
        return self.features(kinds=("shape",), **how)

    # ---- training -------------------------------------------------------------------------------------

    def split(
        self,
        *,
        train: float = 0.7,
        val: float = 0.15,
        test: float = 0.15,
        stratify: Columns = None,
        group: Columns = "PatientID",
        seed: int = 0,
        stable: bool = False,
    ) -> Split:
        """Parts that no patient crosses; `.proof()` counts it anew.

        `cohort.at(split["train"])` are the series of a part. stratify: columns that each part has in equal
        shares. stable: nobody changes its part when patients are added. Raises QueryError when a series
        does not say whose it is.
        """
        from dicomlake.cohorts.training.splitting import needed, split

        shares = {"train": train, "val": val, "test": test}
        table = self.table(*needed(stratify, group))
        return split(table, **shares, stratify=stratify, group=group, seed=seed, stable=stable)

    def patches(self, size: int | Sequence[int], **how: Any) -> Patches:
        """Training patches of `size` voxels (z, y, x), read straight from the shards; the same for a seed.

        how: that of `patches.patches`: per_volume, stride, balance_by, foreground, seed, units, pad, level …
        """
        from dicomlake.cohorts.training.patches import patches

        return patches(self, size, **how)

    # ---- shown ----------------------------------------------------------------------------------------

    def _told(self) -> str:
        return "chosen series" if self.expression is None else str(self.expression) or "no condition"

    def __repr__(self) -> str:
        return f"<Cohort of {len(self):,} series: {self._told()}>"

    def _repr_html_(self) -> str:
        rows = [series.facts for series in self[:_FEW]]
        head = "".join(f"<th>{name}</th>" for name in _SHOWN)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(text_of(row.get(name) or ''))}</td>" for name in _SHOWN)
            + "</tr>"
            for row in rows
        )
        more = f"<p>… and {len(self) - _FEW:,} more</p>" if len(self) > _FEW else ""
        return (
            f"<div><strong>Cohort of {len(self):,} series</strong> <code>{html.escape(self._told())}</code>"
            f"<table><tr>{head}</tr>{body}</table>{more}</div>"
        )
