"""`dicomlake watch`: take in what comes to rest in a folder."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from dicomlake.cli.common import LakeOption, examples, open_lake
from dicomlake.cli.stopping import stopping

EXAMPLES = examples(
    "dicomlake watch /srv/incoming --lake my-lake",
    "dicomlake watch /srv/incoming --after move --moved-to /srv/done",
    "dicomlake watch /srv/incoming --after delete --settle 30",
)


class After(enum.StrEnum):
    """What becomes of files that are in the lake."""

    keep = "keep"
    move = "move"
    delete = "delete"


def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With all folders below it.")],
    lake: LakeOption = None,
    after: Annotated[After, typer.Option(help="What becomes of files that are in the lake.")] = After.keep,
    moved_to: Annotated[
        Path | None, typer.Option("--moved-to", metavar="FOLDER", help="Where `--after move` puts them.")
    ] = None,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a file must be at rest.")
    ] = 5.0,
    poll: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="Between two looks.")] = 2.0,
    volumes: Annotated[bool, typer.Option(help="Build volumes of the series that got new instances.")] = True,
) -> None:
    """Take in what comes to rest in a folder, until SIGTERM or Ctrl-C. What is deleted was proved first.

    The lake is made when the folder is new or empty. What is refused stays where it is, and is listed
    at the end.
    """
    with (
        stopping() as stop,
        open_lake(lake, create=True) as opened,
        opened.watch(
            folder, settle_s=settle, poll_s=poll, after=after.value, moved_to=moved_to, volumes=volumes
        ) as watch,
    ):
        typer.echo(f"watching {folder}, lake {opened.path}")
        stop.wait()
    typer.echo(f"stopped: {watch.taken:,} files taken")
    for path, kept in watch.kept.items():
        typer.echo(f"kept {path}: {kept.reason}")
