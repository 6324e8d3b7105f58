"""The base of every widget: asks from the browser, answers and news from Python.

The browser asks `{"ask": name, "id": n, "args": {…}}` with binary buffers. Python answers
`{"answer": n, "data": {…}}` with buffers, or `{"answer": n, "failed": "…"}`. Python tells news as
`{"news": name, "data": {…}}`. Pixels travel in buffers only, never in traits: traits are saved with the
notebook. Asks come on another thread than cells run on (kernel subshells): handlers guard what they share.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import anywidget
import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base.assets import script, style
from dicomlake.widgets.base.still import shown_before

Buffer = bytes | bytearray | memoryview
Args = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger(__name__)
_BASE_STYLE = "base/base.css"
_UID = re.compile(r"\b(?=[\d.]{16})[0-2](?:\.\d+){2,}\b")


class Refusal(DicomlakeError, traitlets.TraitError):
    """What was asked for in a widget cannot be done; the message is shown in it.

    A TraitError, so that a trait that is refused keeps its value.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """data: of JSON types. buffers: bytes-like, C-contiguous; they arrive in this order."""

    data: Mapping[str, Any] = field(default_factory=dict)
    buffers: Sequence[Any] = ()


def handles(ask: str) -> Callable[[F], F]:
    """Mark a method `(self, args, buffers)` as what answers an ask: an Answer, a dict, or None."""

    def mark(method: F) -> F:
        method.__ask__ = ask  # type: ignore[attr-defined]
        return method

    return mark


class Widget(anywidget.AnyWidget):
    """A widget whose asks are answered by its methods marked with `handles`."""

    ENTRY: ClassVar[str] = ""  # the script below static/ whose `export default { render }` draws it
    STYLES: ClassVar[tuple[str, ...]] = ()
    _asks: ClassVar[dict[str, str]] = {}

    error = traitlets.Unicode("", help="What went wrong last; shown in the widget.").tag(sync=True)
    identity = traitlets.Unicode(help="Of the model; what browsers keep of it is kept under this.").tag(
        sync=True
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Join the scripts of the class once, and find its handlers."""
        if "ENTRY" in vars(cls):
            cls._esm = script(cls.ENTRY)
            cls._css = style(_BASE_STYLE, *cls.STYLES)
        super().__init_subclass__(**kwargs)
        members = [item for base in reversed(cls.__mro__) for item in vars(base).items()]
        cls._asks = {
            m.__ask__: name for name, m in members if inspect.isfunction(m) and hasattr(m, "__ask__")
        }

    @traitlets.observe("comm")
    def _answer_where_asked(self, change: Any) -> None:
        """Leave asks on the subshell that the front end chose.

        ipykernel 7 sends what comes from a front end to the shell that spoke last: after a cell has made or
        moved a widget that is the main one, so the widget would be dead as long as the next cell runs.
        """
        if hasattr(change.new, "_reply_subshell_for"):
            change.new._reply_subshell_for = None

    @traitlets.default("identity")
    def _some_identity(self) -> str:
        return uuid4().hex

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: traits."""
        super().__init__(**kwargs)
        self.last_exception: Exception | None = None
        self.on_msg(_receive)

    def tell(self, news: str, data: Mapping[str, Any] | None = None, buffers: Sequence[Any] = ()) -> None:
        """Send news to every view; of JSON types."""
        self.send({"news": news, "data": dict(data or {})}, [_flat(b) for b in buffers])

    def beside(self, work: Callable[[], object]) -> Thread:
        """Do work that takes long on a thread of its own, so that other asks are answered meanwhile."""

        def run() -> None:
            try:
                work()
            except Exception as exc:
                self.failed(exc)

        thread = Thread(target=run, name=f"dicomlake-{type(self).__name__}", daemon=True)
        thread.start()
        return thread

    def failed(self, exc: Exception) -> str:
        """Show in the widget what went wrong; returns what is shown. `last_exception` keeps it whole.

        Only messages of dicomlake's own errors are shown: those of others may quote values of a header.
        UIDs are left out, as the text is a trait and saved with the notebook.
        """
        self.last_exception = exc
        told = without_uids(str(exc)) if isinstance(exc, DicomlakeError) else _unnamed(exc)
        self.error = told
        return told

    def still(self) -> str | None:
        """HTML that stands for the widget where no kernel runs: no scripts, no identifying text."""
        return None

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        shown_before(self)
        return super()._repr_mimebundle_(**kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _receive(widget: Widget, content: Any, buffers: Sequence[Buffer]) -> None:
    """Answer one ask; whatever is wrong with it is told to who asked, and stops nothing."""
    if not isinstance(content, dict) or not isinstance(content.get("ask"), str):
        return
    number = content.get("id")
    try:
        answer = _answered(widget, content["ask"], content.get("args") or {}, buffers)
    except Exception as exc:
        _log.debug("%s: ask %r failed: %s", type(widget).__name__, content["ask"], type(exc).__name__)
        widget.send({"answer": number, "failed": widget.failed(exc)})
        return
    if number is not None:
        widget.send({"answer": number, "data": dict(answer.data)}, [_flat(b) for b in answer.buffers])


def _answered(widget: Widget, ask: str, args: Args, buffers: Sequence[Buffer]) -> Answer:
    name = widget._asks.get(ask)
    if name is None:
        raise Refusal(
            f"this widget knows no {ask[:40]!r}: reload the page, the scripts are of another version"
        )
    found = getattr(widget, name)(args, buffers)
    return found if isinstance(found, Answer) else Answer(found or {})


def _flat(buffer: Any) -> Any:
    """Bytes of an array as they lie in memory; refuses an order that would be copied wrongly."""
    view = memoryview(buffer)
    if not view.nbytes:
        return b""  # what is empty cannot be cast
    return view.cast("B") if view.ndim != 1 or view.format != "B" else view


def without_uids(text: str) -> str:
    """A text with its UIDs replaced: they name a study as surely as a patient."""
    return _UID.sub("<UID>", text)


def _unnamed(exc: Exception) -> str:
    """An error of another library, without its words."""
    return f"{type(exc).__name__}: see last_exception of the widget"
