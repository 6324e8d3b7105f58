"""The search and the selection of a browser: what both it and Python know of them.

Neither is saved with a notebook: what somebody types may hold a name, and UIDs name a patient to those who
have the archive. Both travel in asks and news; a still notebook keeps only counts.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from dicomlake.errors import QueryError
from dicomlake.records import SeriesKey
from dicomlake.widgets.base import Refusal, Widget, handles
from dicomlake.widgets.browser.listing import MOST_ROWS, SORTS, Ids, Listing, Order
from dicomlake.widgets.browser.source import Lake, Row, rows_of
from dicomlake.widgets.browser.tagviewer import Args, whole_number
from dicomlake.widgets.browser.typed import Problem, Typed, read

if TYPE_CHECKING:
    import pandas as pd

MOST_CHOSEN = 500  # series that are chosen one by one; more are a query
_LISTINGS = 6  # that are kept: of two views, and of the search before


class Choosing(Widget):
    """Lists what a text finds, and keeps what is chosen of it."""

    query = traitlets.Unicode("", help="What is searched for; setting it moves the browser. Not saved.")
    selected = traitlets.List(
        traitlets.Unicode(),
        help=f"SeriesInstanceUIDs, at most {MOST_CHOSEN}; empty when all that a query finds are chosen.",
    )
    sort = traitlets.Enum(SORTS, "patient", help="Of patients and what is below them.").tag(sync=True)

    def __init__(self, lake: Lake, query: str | None = None, **traits: Any) -> None:
        self._lake = lake
        self._guard = RLock()
        self._order: tuple[tuple[str, int], Order] | None = None
        self._listings: OrderedDict[int, tuple[Typed, Listing]] = OrderedDict()
        self._number = 0
        self._keys: list[SeriesKey] = []
        self._all: Typed | None = None
        self._telling = True
        super().__init__(**traits)
        self.query = query or ""

    # ---- for Python -----------------------------------------------------------------------------------

    @property
    def cohort(self) -> Any:
        """The Cohort of what is chosen: series one by one, or all that a query finds."""
        with self._guard:
            every, keys = self._all, list(self._keys)
        if every is None:
            return self._lake.cohort_of(keys)
        from dicomlake.catalog.query import to_json

        return self._lake.requery(json.loads(to_json(every.expression)))

    @property
    def selection(self) -> pd.DataFrame:
        """One row a chosen series, the catalog's columns, as `Cohort.table()`."""
        found: pd.DataFrame = self.cohort.table()
        return found

    @property
    def selects_all(self) -> bool:
        """Whether all that a query finds are chosen, rather than series one by one."""
        return self._all is not None

    def select_all(self) -> None:
        """Choose all that the query finds. Raises QueryError for one that cannot be understood."""
        typed = self._read(self.query)
        if typed.problem is not None:
            raise QueryError(typed.problem.message)
        self._choose([], typed)
        self.tell("selected", self._told())

    @traitlets.observe("query")
    def _query_was_set(self, change: Any) -> None:
        if self._telling:
            self.tell("query", {"text": change["new"], "by": ""})

    @traitlets.validate("selected")
    def _known_series(self, proposal: Any) -> list[str]:
        uids = list(dict.fromkeys(proposal["value"]))
        if len(uids) > MOST_CHOSEN:
            raise traitlets.TraitError(f"at most {MOST_CHOSEN} series: set `query` and call `select_all()`")
        return uids

    @traitlets.observe("selected")
    def _selected_was_set(self, change: Any) -> None:
        if not self._telling:
            return
        keys = [one.key for uid in change["new"] for one in self._lake.find(uid)]
        found = {key.series_uid for key in keys}
        missing = [uid for uid in change["new"] if uid not in found]
        if missing:
            raise QueryError(f"the lake holds no series {missing[0]}: see lake.series()")
        with self._guard:
            self._keys, self._all = keys, None
        self.tell("selected", self._told())

    # ---- for the browser ------------------------------------------------------------------------------

    @handles("list")
    def _list(self, args: Args, _buffers: Any) -> Row:
        """about: the id of the series that is looked at; `holds` tells whether it is listed."""
        text, sort = str(args.get("text") or ""), args.get("sort")
        if sort not in SORTS:
            raise Refusal(f"there is no such order: {', '.join(SORTS)} are known")
        try:
            typed = self._read(text)
            listed = (typed, self._listing(typed, sort)) if typed.problem is None else None
            problem = typed.problem
        except QueryError as error:
            listed, problem = None, Problem(0, len(text), str(error))
        self._quietly(query=text, sort=sort)
        self.tell("query", {"text": text, "by": str(args.get("view") or "")[:40]})
        if listed is None:
            return {"problem": None if problem is None else problem.as_dict()}
        number, listing = self._keep(listed), listed[1]
        about = args.get("about")
        holds = type(about) is int and bool(listing.places_of(np.array([about], dtype=np.int64)))
        return {"list": number, "counts": listing.counts(), "holds": holds, **self._told(listing)}

    @handles("places")
    def _places(self, args: Args, _buffers: Any) -> Row:
        return self._told(self._listed(args)[1])

    @handles("select")
    def _select(self, args: Args, _buffers: Any) -> Row:
        """ranges: of places, each end exclusive; all: everything that the text finds instead."""
        typed, listing = self._listed(args)
        if args.get("all"):
            self._choose([], typed)
        else:
            ids = listing.ids_in(_ranges(args.get("ranges")), MOST_CHOSEN)
            self._choose(self._keys_of(ids), None)
        told = self._told(listing)
        self.tell("selected", {**self._told(), "by": str(args.get("view") or "")[:40]})
        return told

    def page(self, args: Args) -> tuple[str, list[Row]]:
        """The level and the rows of a page that the browser asks for."""
        level = str(args.get("level"))
        start, count = whole_number(args.get("start")), whole_number(args.get("count"), MOST_ROWS)
        return level, self._listed(args)[1].page(level, whole_number(args.get("of")), start, count)

    def chosen_at(self, number: int) -> SeriesKey:
        """One of what is chosen, in the order of the list. Raises Refusal when there are fewer."""
        with self._guard:
            every, keys = self._all, list(self._keys)
        if every is not None:
            keys = self._keys_of(self._listing(every, self.sort).ids[number : number + 1])
            number = 0
        if number >= len(keys):
            raise Refusal("this series is not selected any more: select it again")
        return keys[number]

    # ---- inside ---------------------------------------------------------------------------------------

    def _read(self, text: str) -> Typed:
        return read(text, self._lake)

    def _listing(self, typed: Typed, sort: Any) -> Listing:
        order = self._ordered()
        ids = self._lake.matching(typed.expression) if typed.conditions or typed.words else None
        return Listing(order, ids, sort)

    def _ordered(self) -> Order:
        """All series in order, made again when the lake has changed."""
        with self._guard:
            stamp = self._lake.stamp
            if self._order is None or self._order[0] != stamp:
                self._order = stamp, Order.read(self._lake)
            return self._order[1]

    def _keep(self, listed: tuple[Typed, Listing]) -> int:
        """Keep a list for the pages that are asked of it; its number."""
        with self._guard:
            self._number += 1
            self._listings[self._number] = listed
            while len(self._listings) > _LISTINGS:
                self._listings.popitem(last=False)
            return self._number

    def _listed(self, args: Args) -> tuple[Typed, Listing]:
        """A list that a view shows, and what was typed for it: the box may say something else by now."""
        with self._guard:
            found = self._listings.get(whole_number(args.get("list")))
        if found is None:
            raise Refusal("this list is out of date: press Enter in the search box")
        return found

    def _choose(self, keys: list[SeriesKey], every: Typed | None) -> None:
        with self._guard:
            self._keys, self._all = keys, every
        self._quietly(selected=[key.series_uid for key in keys])

    def _quietly(self, **traits: Any) -> None:
        """Set traits that the browser knows already."""
        with self._guard:
            self._telling = False
            try:
                self.set_trait_values(traits)
            finally:
                self._telling = True

    def set_trait_values(self, traits: Row) -> None:
        """Set several traits."""
        for name, value in traits.items():
            setattr(self, name, value)

    def _keys_of(self, ids: Ids) -> list[SeriesKey]:
        rows = self._lake.series_rows(ids.tolist()) if len(ids) else []
        return [SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"]) for row in rows]

    def _told(self, listing: Listing | None = None) -> Row:
        """What is chosen, as the browser shows it: how many, and where in a listing."""
        with self._guard:
            every, keys = self._all, list(self._keys)
        if every is not None:
            return {"chosen": None, "all": True, "same": every.text == self.query, "places": []}
        places: list[int] = []
        if listing is not None and keys:
            ids = [found for key in keys if (found := self._lake.series_id(key)) is not None]
            places = listing.places_of(np.array(ids, dtype=np.int64))
        return {"chosen": len(keys), "all": False, "same": True, "places": places}


def _ranges(given: Any) -> list[tuple[int, int]]:
    """Ranges as the browser sent them. Raises Refusal for anything else."""
    if not isinstance(given, list) or len(given) > 2 * MOST_CHOSEN:
        raise Refusal(f"at most {MOST_CHOSEN} series are chosen one by one: select all matching instead")
    found = []
    for pair in given:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            raise Refusal("that is no range of series: reload the page")
        found.append((pair[0], pair[1]))
    return found


def counted(lake: Lake) -> Row:
    """Patients, studies and series of a lake."""
    query = """SELECT count(DISTINCT (PatientID, IssuerOfPatientID)) AS patients,
        count(DISTINCT StudyInstanceUID) AS studies, count(*) AS series FROM series"""
    return rows_of(lake, query)[0]
