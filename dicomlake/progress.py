"""Progress of a long verb: a bar in a terminal or a notebook, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


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
    return sys.stderr.isatty() or "ipykernel" in sys.modules
