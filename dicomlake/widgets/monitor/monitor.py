"""The monitor: what arrives, what is due, what failed and why, and the buttons that try it again.

Nothing of what it shows is a trait, as traits are saved with the notebook. The page says when it is seen;
only then the source is asked. It gets the whole once, then what changes, at most four times a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Condition, Lock
from typing import Any

import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Refusal, Widget, handles, without_uids
from dicomlake.widgets.monitor.page import Keys, Page, changes, counted, page_of
from dicomlake.widgets.monitor.rates import Rates
from dicomlake.widgets.monitor.source import Source

Args = dict[str, Any]

_LEAST_S = 0.25  # between two messages
_POLL_S = 2.0  # where nobody tells of changes
_TICK_S = 1.0  # rates go on when nothing happens
_LAPSE_S = 60.0  # a view that was not heard of for so long is gone; views say every 20 s that they are seen
_SHARE = 10  # looking takes at most one part in so many of the time
_VIEWS = 64
_NAMES = 200


class Monitor(Widget):
    """Arriving studies, queue, failures with reason and retry, disk and rates of a receiver.

    source: where to look. height: of the lists, in CSS pixels.
    """

    ENTRY = "monitor/monitor.js"
    STYLES = ("monitor/monitor.css",)

    height = traitlets.Int(360, help="Of the list of studies, in CSS pixels.").tag(sync=True)

    def __init__(self, source: Source, *, height: int = 360) -> None:
        self._source = source
        self._keys, self._rates = Keys(), Rates()
        self._page: Page = {}
        self._version = 0
        self._views: dict[str, float] = {}  # when each was heard of last
        self._state = Condition()  # guards all of the above but the rates
        self._looking = Lock()  # guards the rates
        self._watching = self._stirred = self._ended = False
        self._blind = False  # whether the source could not be looked at
        super().__init__(height=height)

    # ---- asks -----------------------------------------------------------------------------------------

    @handles("watch")
    def _watch(self, args: Args, _buffers: Any) -> Args:
        """A view is seen. have: the version of its page; it is given the whole where that is old."""
        name = _name(args.get("view"))
        with self._state:
            fresh = self._watching
        if not fresh:
            self._look()  # what was shown last may be long ago
        with self._state:
            if len(self._views) >= _VIEWS and name not in self._views:
                raise Refusal("too many views of one monitor: close some, or make another monitor")
            self._views[name] = time.monotonic()
            start, self._watching = not (self._watching or self._ended), not self._ended
            same = args.get("have") == self._version
            answer = {"version": self._version} | ({} if same else {"page": self._page})
        if start:
            self.beside(self._watched)
        return answer

    @handles("unwatch")
    def _unwatch(self, args: Args, _buffers: Any) -> None:
        with self._state:
            self._views.pop(_name(args.get("view")), None)
            self._state.notify_all()

    @handles("settle")
    def _settle(self, args: Args, _buffers: Any) -> Args:
        with self._state:
            study = self._keys.study(args.get("study"))
        if study is None:
            raise Refusal("this is no study of this monitor: reload the page")
        self._do(lambda: self._source.settle(study))
        return {}

    @handles("retry")
    def _retry(self, args: Args, _buffers: Any) -> Args:
        with self._state:
            series = self._keys.series(args.get("series"))
        if series is None:
            raise Refusal("this is no series of this monitor: reload the page")
        self._do(lambda: self._source.retry(series))
        return {}

    @handles("names")
    def _names(self, args: Args, _buffers: Any) -> Args:
        """Who the patients of some studies are; never sent but as this answer."""
        asked = args.get("studies")
        if not isinstance(asked, list):
            raise Refusal("these are no studies: reload the page")
        with self._state:
            meant = {key: uid for key in asked[:_NAMES] if (uid := self._keys.study(key)) is not None}
        known = self._source.names(list(meant.values()))
        return {"names": {key: _named(uid, known.get(uid)) for key, uid in meant.items()}}

    def _do(self, work: Callable[[], object]) -> None:
        """Work that may take long, and a look at what became of it."""

        def run() -> None:
            try:
                work()
            finally:
                self._stir()

        self.error = ""
        self.beside(run)
        self._stir()

    # ---- looking --------------------------------------------------------------------------------------

    def _watched(self) -> None:
        """As long as a view is seen: look, tell what changed, wait."""
        stop: Callable[[], object] | None = None
        with suppress(Exception):
            stop = self._source.subscribe(self._stir)
        try:
            while True:
                began = time.monotonic()
                self._look()
                took = time.monotonic() - began
                if not self._go_on(max(_LEAST_S, _SHARE * took), _POLL_S if stop is None else _TICK_S):
                    return
        finally:
            if stop is not None:
                with suppress(Exception):
                    stop()

    def _go_on(self, least_s: float, most_s: float) -> bool:
        """Wait for something to look at; False when nobody looks any more."""
        begin = time.monotonic()
        with self._state:
            while (passed := time.monotonic() - begin) < max(least_s, most_s):
                if not self._seen():
                    return False
                if self._stirred and passed >= least_s:
                    break
                self._state.wait((least_s if passed < least_s else max(least_s, most_s)) - passed)
            self._stirred = False
            return self._seen()

    def _seen(self) -> bool:
        """Whether a view is seen; called with the lock. The thread that gets False ends."""
        gone = time.monotonic() - _LAPSE_S
        self._views = {name: at for name, at in self._views.items() if at > gone}
        self._watching = bool(self._views) and not self._ended
        return self._watching

    def _stir(self) -> None:
        with self._state:
            self._stirred = True
            self._state.notify_all()

    def _look(self) -> None:
        """Take a snapshot and tell what is other than before; a failure is shown, and stops nothing."""
        with self._looking:
            try:
                snapshot = self._source.snapshot()
            except Exception as exc:
                self._cannot_look(exc)
                return
            counters = {one["token"]: (one["objects"], one["bytes"]) for one in snapshot["receivers"]}
            self._rates.read(time.monotonic(), counters)
            rate = self._rates.rate()
            if self._blind:
                self.error, self._blind = "", False
            with self._state:  # kept while it is sent, so that answers and news come in their order
                page = page_of(snapshot, rate, self._keys)
                changed = changes(self._page, page)
                if not changed:
                    return
                self._page, before = page, self._version
                self._version += 1
                if self._views:
                    self.tell("changed", {"before": before, "version": self._version, "changes": changed})

    def _cannot_look(self, exc: Exception) -> None:
        told = without_uids(str(exc)) if isinstance(exc, DicomlakeError) else type(exc).__name__
        if not self._blind or self.error != told:
            self.failed(exc)
        self._blind = True

    # ---- the rest -------------------------------------------------------------------------------------

    def close(self) -> None:
        """End; the receiver goes on."""
        with self._state:
            self._ended = True
            self._views.clear()
            self._state.notify_all()
        super().close()

    def still(self) -> str:
        """Counts only."""
        if not self._page:
            self._look()
        with self._state:
            told = counted(self._page)
        return f"Monitor of a lake: {told}; run the cell to watch"


def _name(given: Any) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= 40:
        raise Refusal("a view without a name: reload the page")
    return given


def _named(uid: str, known: Mapping[str, Any] | None) -> dict[str, Any]:
    if known is None:
        return {"known": False, "uid": uid}
    texts = {name: str(known.get(name) or "")[:200] for name in ("PatientID", "StudyDescription")}
    return {"known": True, "uid": uid, **texts}
