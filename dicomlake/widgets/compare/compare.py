"""Two to four viewers beside each other, linked in patient millimetres or by their place in the stack.

Links work in the browser alone. Python says which images lie in one space, by their frame of reference or by
a registration, which runs beside everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import traitlets
from ipywidgets import widget_serialization

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Refusal, Widget
from dicomlake.widgets.compare.linking import LINKS, places_of
from dicomlake.widgets.compare.prior import study_day
from dicomlake.widgets.compare.registering import Pair, Registering
from dicomlake.widgets.viewer.viewer import Viewer

_FEWEST, _MOST = 2, 4


class Compare(Registering, Widget):
    """Viewers that scroll, point, zoom and, where it means the same, window together.

    link: "auto" (mm where a frame of reference or a registration tells, else the place in the stack), "mm",
    "index", "register" (mm; what has another frame of reference than the first image is registered), "none".
    """

    ENTRY: ClassVar[str] = "compare/compare.js"
    STYLES: ClassVar[tuple[str, ...]] = (*Viewer.STYLES, "compare/compare.css")

    viewers = traitlets.List(traitlets.Instance(Widget)).tag(sync=True, **widget_serialization)
    titles = traitlets.List(traitlets.Unicode(), help="One a viewer; saved, so without names.").tag(sync=True)
    link = traitlets.Enum(LINKS, "auto").tag(sync=True)
    linked = traitlets.Bool(True).tag(sync=True)
    zoom_linked = traitlets.Bool(True).tag(sync=True)
    window_linked = traitlets.Bool(True, help="Where modality and units are equal.").tag(sync=True)
    toolbars = traitlets.Bool(True, help="Of each viewer; hidden at first for more than two.").tag(sync=True)
    places = traitlets.List(traitlets.Dict(), help="Where each image lies; see linking.Place.").tag(sync=True)

    def __init__(self, viewers: Sequence[Viewer], *, link: str = "auto", **kwargs: Any) -> None:
        """viewers: two to four. link: see above. kwargs: traits, as `titles`.

        Raises DicomlakeError for another number of viewers, or a link that there is not.
        """
        if not _FEWEST <= len(viewers) <= _MOST:
            raise DicomlakeError(f"{_FEWEST} to {_MOST} images are compared, these are {len(viewers)}")
        if link not in LINKS:
            raise DicomlakeError(f"images are not linked by {link!r}, but by one of {', '.join(LINKS)}")
        if len(kwargs.get("titles", viewers)) != len(viewers):
            raise DicomlakeError(f"{len(kwargs['titles'])} titles for {len(viewers)} images: give one each")
        kwargs = {"titles": titles_of(viewers), "toolbars": len(viewers) == _FEWEST} | kwargs
        super().__init__(viewers=list(viewers), link=link, linked=link != "none", **kwargs)
        self._place()
        self.observe(self._link_by_registration, "link")
        if link == "register" and self._unregistered():
            self.start_registration()

    def _link_by_registration(self, change: Any) -> None:
        """Chosen in the page or set in Python: what lies in another space is registered."""
        if change["new"] == "register" and self._unregistered() and not self._running.locked():
            self.start_registration()

    def _stack_at(self, number: int) -> Any:
        return self.viewers[number].stack_source

    def _called(self, number: int) -> str:
        return self.titles[number] if number < len(self.titles) else f"image {number + 1}"

    def _count(self) -> int:
        return len(self.viewers)

    def _place(self) -> None:
        stacks = [viewer.stack_source for viewer in self.viewers]
        self.places = [place.meta() for place in places_of(stacks, self.registrations)]

    def _unregistered(self) -> list[int]:
        """Viewers that lie somewhere, but in another space than the first."""
        space = self.places[0]["space"]
        spaces = [place["space"] for place in self.places]
        return [] if space is None else [i for i, s in enumerate(spaces) if s is not None and s != space]

    def _pairs(self) -> list[Pair]:
        waiting = self._unregistered()
        if waiting:
            return [(0, i) for i in waiting]
        without = [self._called(i) for i, place in enumerate(self.places) if place["space"] is None]
        if without:
            raise Refusal(f"{', '.join(without)} cannot be registered: no even geometry places the planes")
        raise Refusal("nothing needs registration: all images lie in one space already")

    def still(self) -> str | None:
        """The pictures of the viewers, one after the other."""
        return "".join(html for viewer in self.viewers if (html := viewer.still())) or None

    def __repr__(self) -> str:
        return f"<Compare {len(self.viewers)} images, link={self.link!r}>"


def compare(
    images: Sequence[Any],
    *,
    link: str = "auto",
    titles: Sequence[str] | None = None,
    **viewer: Any,
) -> Compare:
    """Viewers of two to four images beside each other: Viewers, Stacks or image arrays.

    titles: saved with the notebook, so without names. viewer: traits of the Viewers that are made.
    """
    viewers = [one if isinstance(one, Viewer) else Viewer(one, **viewer) for one in images]
    return Compare(viewers, link=link, **({} if titles is None else {"titles": list(titles)}))


def titles_of(viewers: Sequence[Any]) -> list[str]:
    """What each stack is called, after its study's day from the earliest; dates themselves are not saved."""
    days = [study_day(_facts(viewer)) for viewer in viewers]
    known = [day for day in days if day is not None]
    titles = []
    for viewer, day in zip(viewers, days, strict=True):
        name = str(viewer.stack.get("title") or "image")
        shown = day is not None and len(known) > 1
        titles.append(f"{day_words((day - min(known)).days)} · {name}" if day and shown else name)
    return titles


def day_words(days: int) -> str:
    """As in "day 0", "+1 day", "+93 days"."""
    return "day 0" if days == 0 else f"{days:+,} day{'' if abs(days) == 1 else 's'}"


def _facts(viewer: Any) -> Mapping[str, Any]:
    facts = getattr(getattr(viewer, "subject", None), "facts", None)
    return facts if isinstance(facts, Mapping) else {}
