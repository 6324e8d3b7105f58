"""What the verbs share: the lake they work on, tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dicomlake.lake import Lake

LakeOption = Annotated[
    Path | None,
    typer.Option(
        "--lake",
        envvar="DICOMLAKE_LAKE",
        metavar="FOLDER",
        help="The lake; the current folder unless given.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def examples(*lines: str) -> str:
    """The examples below a verb's help."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[cyan]$ {line}[/cyan]" for line in lines)


def open_lake(path: Path | None, *, create: bool = False) -> Lake:
    """The lake that the options name."""
    from dicomlake.lake import open

    return open(path or Path(), create=create)


def print_json(value: Any) -> None:
    """A value as JSON; what JSON has no type for becomes text, bytes no file name can hold are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


_PROSE = frozenset(
    {"message", "reason", "remark", "value", "StudyDescription", "SeriesDescription", "origin", "key"}
)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
) -> None:
    """A table as wide as the terminal; plain tab-separated lines where nobody looks.

    Short columns keep their width; prose and UIDs share what is left, folded.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(shown(value).replace("\t", " ").replace("\n", " ") for value in row))
        return
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for name in columns:
        wide = name in _PROSE or name.lower().endswith(("uid", "sha256", "scope"))
        table.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=not wide
        )
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    console.print(table)


def shown(value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        if value and all(isinstance(member, int | float) for member in value):
            return " × ".join(map(shown, value))
        return "\\".join(map(shown, value))
    return str(value)
