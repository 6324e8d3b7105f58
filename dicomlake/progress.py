"""Progress of a long verb: a bar in a terminal or a notebook, silence elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """What a long verb tells while it runs."""

    def advance(self, items: int, size: int = 0) -> None:
        """So many more items, and bytes, are done."""


class Silent:
    """Tells nothing."""

    def advance(self, items: int, size: int = 0) -> None:
        """Nothing."""


class _Bar:
    def __init__(self, bar: object, task: object) -> None:
        self._bar, self._task, self._bytes = bar, task, 0

    def advance(self, items: int, size: int = 0) -> None:
        self._bytes += size
        megabytes = f"{self._bytes / 1e6:,.0f} MB" if self._bytes else ""
        self._bar.update(self._task, advance=items, megabytes=megabytes)  # type: ignore[attr-defined]  # rich


@contextmanager
def progress(title: str, total: int | None, *, unit: str, show: bool | None = None) -> Iterator[Progress]:
    """A bar with rate and time left. show: None shows it where somebody looks at it."""
    if not (somebody_looks() if show is None else show):
        yield Silent()
        return
    if _in_notebook():
        with _NotebookBar(title, total, unit) as notebook_bar:
            yield notebook_bar
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} {unit}/s" if speed else "", style="cyan")

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("{task.fields[megabytes]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task(title, total=total, megabytes=""))


def somebody_looks() -> bool:
    """Whether standard error is a terminal or this is a notebook."""
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


class _NotebookBar:
    """One line of HTML that updates itself and is gone at the end."""

    _EVERY_S = 0.2

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        from IPython.display import display

        self._title, self._total, self._unit = title, total, unit
        self._done, self._bytes, self._started, self._shown = 0, 0, time.monotonic(), 0.0
        self._handle = display(self._line(), display_id=True)  # IPython

    def __enter__(self) -> _NotebookBar:
        return self

    def __exit__(self, *_exception: object) -> None:
        from IPython.display import HTML

        self._handle.update(HTML(""))  # IPython

    def advance(self, items: int, size: int = 0) -> None:
        self._done += items
        self._bytes += size
        if time.monotonic() - self._shown > self._EVERY_S:
            self._shown = time.monotonic()
            self._handle.update(self._line())

    def _line(self) -> Any:
        from IPython.display import HTML

        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = self._done / seconds
        of = f" of {self._total:,}" if self._total else ""
        left = f", {(self._total - self._done) / rate:,.0f} s left" if self._total and self._done else ""
        megabytes = f", {self._bytes / 1e6:,.0f} MB" if self._bytes else ""
        bar = f"<progress max='{self._total or 1}' value='{self._done if self._total else 0}'></progress>"
        words = f"{self._title} {self._done:,}{of} {self._unit} ({rate:,.0f}/s{megabytes}{left})"
        return HTML(f"{bar} {words}")  # IPython
