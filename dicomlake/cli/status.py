"""`dicomlake status`: how the lake and its receivers are."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

if TYPE_CHECKING:
    from dicomlake.listening.status import Status

_EVERY_S = 2.0
_CLEAR = "\x1b[2J\x1b[H"  # of a terminal

EXAMPLES = examples("dicomlake status", "dicomlake status --lake my-lake --json", "dicomlake status --watch")


def command(
    lake: LakeOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    hours: Annotated[float, typer.Option("--hours", min=0.01, help="How far back to count.")] = 24.0,
) -> None:
    """Tell what came, what is due and what went wrong, beside running receivers; changes nothing."""
    with open_lake(lake) as opened:
        if not watch:
            _print(opened.status(hours=hours), as_json)
            return
        with suppress(KeyboardInterrupt):
            while True:
                if sys.stdout.isatty():
                    typer.echo(_CLEAR, nl=False)
                _print(opened.status(hours=hours), as_json)
                time.sleep(_EVERY_S)


def _print(found: Status, as_json: bool) -> None:
    if as_json:
        print_json(found.as_dict())
        return
    print_table(("what", "value", "remark"), list(found.lines()), right=("value",))
    for words in found.problems:
        typer.echo(f"! {words}")
