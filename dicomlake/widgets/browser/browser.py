"""The browser of a lake: search, tree, details, documents, headers, viewers, and files dropped into it."""

from __future__ import annotations

from functools import partial
from typing import Any

import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.records import SeriesKey
from dicomlake.widgets.base import Answer, Refusal, handles
from dicomlake.widgets.base.hosting import Hosting, place
from dicomlake.widgets.browser import documents
from dicomlake.widgets.browser.choosing import Choosing, counted
from dicomlake.widgets.browser.describing import Troubles, described
from dicomlake.widgets.browser.details import details, problems
from dicomlake.widgets.browser.hints import hints
from dicomlake.widgets.browser.receiving import Receiving, Upload, parts_of
from dicomlake.widgets.browser.source import Lake, Opener, Row
from dicomlake.widgets.browser.tagviewer import (
    Args,
    Shelf,
    answered,
    listed_instances,
    whole_number,
)
from dicomlake.widgets.browser.thumbs import Pictures

_THUMBS = 24  # in one message


class Browser(Choosing, Hosting):
    """Patients, studies and series of a lake, found while one types.

    lake: what is browsed. query: the text to begin with. opener: makes the widget that shows a series, from
    its key; without it series can be chosen, not viewed. height: of the list, in CSS pixels.
    `selection` is a DataFrame of what is chosen, `cohort` a Cohort; setting `query` or `selected` moves the
    browser.
    """

    PLACES = ("viewer", "other")
    ENTRY = "browser/browser.js"
    STYLES = ("browser/browser.css",)

    height = traitlets.Int(420, help="Of the list, in CSS pixels.").tag(sync=True)
    viewer = place(help="What shows a series below the list.")
    other = place(help="What shows another one beside it.")

    def __init__(
        self, lake: Lake, query: str | None = None, *, opener: Opener | None = None, height: int = 420
    ) -> None:
        self._opener = opener
        self._troubles = Troubles(lake)
        self._pictures = Pictures(lake)
        self._shelf = Shelf()
        self._receiving = Receiving(lake)
        super().__init__(lake, query, height=height)

    # ---- the list -------------------------------------------------------------------------------------

    @handles("start")
    def _start(self, _args: Args, _buffers: Any) -> Row:
        return {
            "text": self.query,
            "sort": self.sort,
            "read_only": bool(self._lake.read_only),
            "can_view": self._opener is not None,
        }

    @handles("children")
    def _children(self, args: Args, _buffers: Any) -> Row:
        level, rows = self.page(args)
        return {"rows": described(self._lake, self._troubles, level, rows)}

    @handles("hints")
    def _hints(self, args: Args, _buffers: Any) -> Row:
        return hints(self._lake, str(args.get("text") or "")[-400:])

    @handles("thumbs")
    def _thumbs(self, args: Args, _buffers: Any) -> Answer:
        wanted = args.get("ids")
        if not isinstance(wanted, list) or not all(type(i) is int for i in wanted):
            raise Refusal("these are no series: reload the page")
        ids = wanted[:_THUMBS]
        keys = [(row["id"], _key(row)) for row in self._lake.series_rows(ids)] if ids else []
        made = [(i, self._pictures.of(key)) for i, key in keys]
        found = [(i, png) for i, png in made if png]
        return Answer({"asked": ids, "ids": [i for i, _ in found]}, [png for _, png in found])

    # ---- one series -----------------------------------------------------------------------------------

    @handles("details")
    def _details(self, args: Args, _buffers: Any) -> Row:
        series_id, key = self._series(args)
        return details(self._lake, self._troubles, series_id, key)

    @handles("instances")
    def _instances(self, args: Args, _buffers: Any) -> Row:
        _, key = self._series(args)
        return listed_instances(self._lake.instances(key), whole_number(args.get("start")))

    @handles("tags")
    def _tags(self, args: Args, _buffers: Any) -> Row:
        _, key = self._series(args)
        instances, number = self._lake.instances(key), whole_number(args.get("number"))
        if number >= len(instances):
            raise Refusal(f"this series has {len(instances)} instances: number {number + 1} is none of them")
        one = instances[number]
        header = self._shelf.get(one.key, partial(self._lake.readable, one))
        return answered(header, args)

    @handles("document")
    def _document(self, args: Args, _buffers: Any) -> Answer:
        _, key = self._series(args)
        return documents.opened(self._lake, key, whole_number(args.get("number")))

    @handles("problems")
    def _problems(self, _args: Args, _buffers: Any) -> Row:
        return problems(self._lake)

    # ---- viewers --------------------------------------------------------------------------------------

    @handles("view")
    def _view(self, args: Args, _buffers: Any) -> Row:
        """Show a series, told by its id or its number among those chosen, in the viewer or beside it."""
        if self._opener is None:
            raise Refusal("this browser was made without a viewer: pass opener=, or use lake.view(series)")
        key = self._series(args)[1] if "id" in args else self.chosen_at(whole_number(args.get("chosen")))
        self.put(_side(args), self._opener(key))
        return {}

    @handles("unview")
    def _unview(self, args: Args, _buffers: Any) -> Row:
        self.put(_side(args), None)
        return {}

    # ---- files ----------------------------------------------------------------------------------------

    @handles("upload_begin")
    def _upload_begin(self, args: Args, _buffers: Any) -> Row:
        size, files = whole_number(args.get("size")), whole_number(args.get("files"))
        return {"upload": self._receiving.begin(size, files)}

    @handles("upload_piece")
    def _upload_piece(self, args: Args, buffers: Any) -> Row:
        if len(buffers) != 1:
            raise Refusal("a piece without its bytes: drop the files again")
        upload = self._receiving.upload(args.get("upload"))
        upload.add(parts_of(args.get("parts")), memoryview(buffers[0]).cast("B"))
        return {"got": upload.got}

    @handles("upload_cancel")
    def _upload_cancel(self, args: Args, _buffers: Any) -> Row:
        self._receiving.drop(args.get("upload"))
        return {}

    @handles("upload_end")
    def _upload_end(self, args: Args, _buffers: Any) -> Row:
        """Take in what came, on a thread of its own; the news `ingested` tell what became of it."""
        name = str(args.get("upload"))
        self.beside(partial(self._take_in, name, self._receiving.end(name)))
        return {}

    def _take_in(self, name: str, upload: Upload) -> None:
        try:
            self.tell("ingested", {"upload": name, **self._receiving.take_in(upload)})
        except Exception as exc:
            shown = str(exc) if isinstance(exc, DicomlakeError) else type(exc).__name__
            self.tell("ingested", {"upload": name, "failed": shown})
            raise

    # ---- inside ---------------------------------------------------------------------------------------

    def _series(self, args: Args) -> tuple[int, SeriesKey]:
        """The series that an ask names. Raises Refusal for none that there is."""
        series_id = args.get("id")
        if type(series_id) is not int:
            raise Refusal("this is no series: reload the page")
        try:
            (row,) = self._lake.series_rows([series_id])
        except (KeyError, ValueError):
            raise Refusal("this series is not in the lake any more: press Enter in the search box") from None
        return series_id, _key(row)

    def close(self) -> None:
        """End, and delete uploads that were not finished."""
        self._receiving.drop_all()
        super().close()

    def still(self) -> str:
        """Counts only."""
        count = counted(self._lake)
        told = ", ".join(f"{count[name]:,} {_named(name, count[name])}" for name in count)
        return f"Browser of a lake: {told}; run the cell to browse"


def _key(row: Row) -> SeriesKey:
    return SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"])


def _side(args: Args) -> str:
    return "other" if args.get("other") else "viewer"


def _named(name: str, count: int) -> str:
    one = {"patients": "patient", "studies": "study", "series": "series"}
    return one[name] if count == 1 else name
