"""`dicomlake init`: make a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, examples, print_json

EXAMPLES = examples(
    "dicomlake init my-lake",
    "dicomlake init /data/archive && export DICOMLAKE_LAKE=/data/archive",
    "dicomlake init /data/archive --catalog postgresql+psycopg://archive@db.example.org/archive",
)


def command(
    folder: Annotated[Path, typer.Argument(metavar="LAKE", help="An empty or a new folder.")],
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A PostgreSQL database for the catalog, without the password; else a file in the lake.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a lake in a folder. A lake that is there already stays as it is."""
    from dicomlake.lake import open

    with open(folder, create=True, catalog=catalog) as lake:
        counts = lake.counts()
        if as_json:
            print_json({"lake": str(lake.path), **counts})
        else:
            typer.echo(f"{lake.path}: a lake with {counts['instances']} instances")
            typer.echo(f"Next: dicomlake ingest FOLDER --lake {folder}")
