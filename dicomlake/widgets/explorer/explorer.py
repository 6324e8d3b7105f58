"""The widget: facets that filter each other, a table, and one query that is the whole state of both."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import traitlets
from ipywidgets import Widget as AnyWidget

from dicomlake.errors import DicomlakeError, QueryError
from dicomlake.widgets.base import Answer, handles
from dicomlake.widgets.base.hosting import Hosting, place
from dicomlake.widgets.explorer import answers, wording
from dicomlake.widgets.explorer.choosing import Choosing
from dicomlake.widgets.explorer.engine import Engine, Sort
from dicomlake.widgets.explorer.facets import path_of
from dicomlake.widgets.explorer.source import CohortLike, Source

FACETS = (
    *("Modality", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "StudyDate"),
    *("SliceThickness", "PatientSex", "PatientAge", "ConvolutionKernel", "MagneticFieldStrength"),
)
COLUMNS = (
    *("PatientID", "StudyDate", "Modality", "BodyPartExamined", "SeriesDescription", "Manufacturer"),
    *("SliceThickness", "instances"),
)
_MOST_SELECTED = 1000
_MOST_FACETS = 40
_MANY = 50_000  # series of which a page is not read from files each time

Callbacks = dict[str, Callable[..., Any] | None]


class RefusedQuery(QueryError, traitlets.TraitError):
    """A query, facet or column that cannot be understood; the trait keeps its value."""


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        raise RefusedQuery(str(error)) from error


class Explorer(Choosing, Hosting):
    """What a lake holds, and a cohort of it found by clicking; `query`, `cohort` and `sql` are what is shown.

    `explorer.query = "Modality=CT SliceThickness=(0, 1.5)"` moves the widget. `cohort` is what
    `lake.query` finds for the same; `selected` are the rows that are marked in the table.
    """

    ENTRY: ClassVar[str] = "explorer/explorer.js"
    STYLES: ClassVar[tuple[str, ...]] = ("explorer/explorer.css",)

    query = traitlets.Unicode("", help="What is asked, as typed; or JSON. Not saved: it may hold a name.")
    asked = traitlets.Int(0, help="Grows when the query changes.").tag(sync=True)
    facets = traitlets.List(traitlets.Unicode(), help="Elements and facts with a facet.").tag(sync=True)
    columns = traitlets.List(traitlets.Unicode(), help="Columns of the table.").tag(sync=True)
    sort = traitlets.Unicode("", help="The column that the table is sorted by; empty: reading order.").tag(
        sync=True
    )
    descending = traitlets.Bool(False).tag(sync=True)
    selected_ids = traitlets.List(traitlets.Int(), help="Rows of the catalog that are marked.").tag(sync=True)
    viewer = place(help="What a button showed below.")
    can = traitlets.Dict(help="What there are buttons for.").tag(sync=True)

    def __init__(
        self,
        source: Source,
        cohort: CohortLike | None = None,
        facets: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        query: str = "",
        on_freeze: Callable[[CohortLike, str, str], Any] | None = None,
        on_share: Callable[[CohortLike], Any] | None = None,
        on_view: Callable[[Any], Any] | None = None,
        on_sheet: Callable[[CohortLike], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """cohort: only series of it are explored. facets: elements and facts, the usual ones unless given.

        on_freeze(cohort, name, note): keeps a cohort, and may return what to tell; `cohort.freeze(name)` does
        unless given. on_share(cohort), on_view(series), on_sheet(cohort): what buttons do; none without. They
        may return what to tell, or a widget, which is shown below.
        Raises QueryError for a facet, a column or a query that cannot be understood.
        """
        self._source = source
        self._calls: Callbacks = {"share": on_share, "view": on_view, "sheet": on_sheet, "freeze": on_freeze}
        self._engine = Engine(source, cohort, ())
        self._counting = self._warm = False
        self._engine.keep(list(FACETS if facets is None else facets))
        shown = answers.known(list(COLUMNS if columns is None else columns))
        can = {name: call is not None for name, call in self._calls.items()}
        super().__init__(facets=self._engine.names, columns=shown, can=can, **kwargs)
        if query:
            self.query = query

    # ---- in Python --------------------------------------------------------------------------------------

    @property
    def cohort(self) -> CohortLike:
        """The series that meet the query, as `lake.query` finds them."""
        found = self._source.requery(self._engine.history.as_json)
        base = self._engine.cohort
        joined: CohortLike = found if base is None else base & found
        return joined

    @property
    def sql(self) -> str:
        """A SELECT for `Lake.sql` that gives the same series."""
        return self.cohort.sql

    @property
    def selected(self) -> CohortLike:
        """The series that are marked in the table."""
        universe = self._engine.universe
        ids = universe.ids[universe.rows(self.selected_ids)]
        return self._source.cohort_of(self._source.keys_of(ids))

    def undo(self) -> None:
        """Back to the query before."""
        self._engine.history.undo()
        self._moved()

    def redo(self) -> None:
        """Forth again to what was undone."""
        self._engine.history.redo()
        self._moved()

    def _moved(self) -> None:
        self.query = self._engine.history.text

    @traitlets.validate("query")
    def _read_query(self, proposal: dict[str, Any]) -> str:
        """The query in its usual form; the engine takes it over, so that it is never another one."""
        text, engine = str(proposal["value"]), self._engine
        if text != engine.history.text:
            with _refused():
                engine.history.set(engine.read(text))
        return engine.history.text

    @traitlets.observe("query")
    def _query_changed(self, _change: dict[str, Any]) -> None:
        self.asked += 1

    @traitlets.validate("facets")
    def _read_facets(self, proposal: dict[str, Any]) -> list[str]:
        names = list(dict.fromkeys(proposal["value"]))[:_MOST_FACETS]
        if names != self._engine.names:
            with _refused():
                self._engine.keep(names)
        return names

    @traitlets.validate("columns")
    def _read_columns(self, proposal: dict[str, Any]) -> list[str]:
        with _refused():
            return answers.known(proposal["value"])

    @traitlets.validate("selected_ids")
    def _read_selected(self, proposal: dict[str, Any]) -> list[int]:
        found: list[int] = list(dict.fromkeys(proposal["value"]))[:_MOST_SELECTED]
        return found

    # ---- what is shown ----------------------------------------------------------------------------------

    def _sorting(self) -> Sort | None:
        return (self.sort, self.descending) if self.sort else None

    def _shown(self) -> dict[str, Any]:
        """All that the browser draws, after the query changed."""
        engine = self._engine
        with engine.lock:
            counted = engine.counted()
            return {
                "query": engine.history.text,
                "asked": self.asked,
                "terms": [
                    {"text": wording.told(term), "paths": wording.paths_of(term)}
                    for term in engine.history.terms
                ],
                "undo": engine.history.can_undo,
                "redo": engine.history.can_redo,
                "sizes": engine.sizes(),
                "facets": counted,
                "page": self._page(0, answers.PAGE),
                "revision": engine.revision,
            }

    def _page(self, start: int, count: int) -> dict[str, Any]:
        return answers.page(self._engine, self.columns, self._sorting(), start, count)

    @handles("state")
    def _state(self, _args: dict[str, Any], _buffers: Any) -> Answer:
        shown = self._shown()
        if self._engine.universe.count > _MANY and not self._warm:
            self._warm = True
            self.beside(self.hold_columns)
        return Answer(shown)

    def hold_columns(self) -> None:
        """Take the columns of the table into memory, so that a page of a large lake costs nothing."""
        for name in self.columns:
            if not name.endswith("UID"):  # as many values as series
                self._engine.column(name)

    @handles("rows")
    def _rows(self, args: dict[str, Any], _buffers: Any) -> Answer:
        return Answer(self._page(_whole(args, "start"), _whole(args, "count")))

    @handles("sort")
    def _sort(self, args: dict[str, Any], _buffers: Any) -> Answer:
        path = str(args.get("path", ""))
        if path:
            self._engine.column(path_of(path))  # before the trait is set: it may be no column
        with self.hold_sync():
            self.sort, self.descending = path, bool(args.get("descending"))
        return Answer(self._page(0, answers.PAGE))

    @handles("columns")
    def _choose_columns(self, args: dict[str, Any], _buffers: Any) -> Answer:
        self.columns = [str(name) for name in args.get("names", ())][:_MOST_FACETS]
        return Answer({"columns": self.columns, "page": self._page(0, answers.PAGE)})

    @handles("facets")
    def _choose_facets(self, args: dict[str, Any], _buffers: Any) -> Answer:
        self.facets = [str(name) for name in args.get("names", ())]
        return Answer(self._shown())

    @handles("explain")
    def _explain(self, _args: dict[str, Any], _buffers: Any) -> Answer:
        return Answer(answers.explained(self._engine))

    @handles("missing")
    def _missing(self, args: dict[str, Any], _buffers: Any) -> Answer:
        names = dict.fromkeys([*map(path_of, self.facets), *self.columns])
        return Answer(answers.missing(self._engine, str(args.get("by", "")), list(names)[:_MOST_FACETS]))

    @handles("names")
    def _names(self, args: dict[str, Any], _buffers: Any) -> Answer:
        engine = self._engine
        if engine.universe.paths is None and not self._counting:
            self._counting = True
            self.beside(self._count_names)
        found = answers.names_like(engine, str(args.get("text", ""))[:100])
        return Answer({"names": found, "counting": engine.universe.paths is None})

    def _count_names(self) -> None:
        """Look up which elements there are; the list of names is better then."""
        try:
            answers.occurring(self._engine, wait=True)
        finally:
            self._counting = False
        self.tell("names")

    @handles("values")
    def _values(self, args: dict[str, Any], _buffers: Any) -> Answer:
        name, text = str(args.get("facet", "")), str(args.get("text", ""))[:200]
        return Answer(answers.values_like(self._engine, name, text))

    # ---- what buttons do --------------------------------------------------------------------------------

    @handles("cube")
    def _cube(self, args: dict[str, Any], _buffers: Any) -> Answer:
        engine = self._engine
        with engine.lock:
            found, places = engine.cube(str(args.get("facet", "")))
            told = {"facet": args["facet"], "query": engine.history.text, "places": places}
        return Answer(told | {"width": found.shape[1]}, [found])

    @handles("freeze")
    def _freeze(self, args: dict[str, Any], _buffers: Any) -> Answer:
        name, note = str(args.get("name", "")).strip(), str(args.get("note", "")).strip()
        call = self._calls["freeze"]
        told = self.cohort.freeze(name) if call is None else call(self.cohort, name, note)
        return Answer({"told": told if isinstance(told, str) else f"kept: lake.cohort({name!r})"})

    @handles("call")
    def _call(self, args: dict[str, Any], _buffers: Any) -> Answer:
        what = str(args.get("what", ""))
        call = self._calls.get(what)
        if call is None or what == "freeze":
            raise DicomlakeError(f"there is nothing here to {what or 'do'}: give the explorer on_{what}=")
        chosen = self.selected
        if what == "view":
            if not len(chosen):
                raise DicomlakeError("no series is marked: mark a row of the table first")
            told = call(chosen[0])
        else:
            told = call(chosen if len(chosen) and what == "sheet" else self.cohort)
        if isinstance(told, AnyWidget):
            self.put("viewer", told)
        return Answer({"told": told if isinstance(told, str) else ""})

    @handles("unview")
    def _unview(self, _args: dict[str, Any], _buffers: Any) -> Answer:
        self.put("viewer", None)
        return Answer({})

    def still(self) -> str:
        """Counts, as no kernel runs to show more."""
        sizes = self._engine.sizes()
        told = ", ".join(f"{sizes[name]:,} {name}" for name in ("series", "studies", "patients"))
        return f"<p>Cohort explorer: {html.escape(told)}. Run the cell to explore.</p>"


def _whole(args: dict[str, Any], name: str) -> int:
    value = args.get(name, 0)
    return int(value) if isinstance(value, int | float) and abs(value) < 2**53 else 0
