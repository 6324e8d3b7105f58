"""`dicomlake ingest`: take DICOM in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json

EXAMPLES = examples(
    "dicomlake ingest /media/cdrom --lake my-lake",
    "dicomlake ingest export.zip scans/ DICOMDIR",
    "dicomlake ingest scans/ --json | jq '.objects[] | select(.outcome == \"refused\")'",
)


def command(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC…", help="Files, folders, zip, tar, DICOMDIR.")
    ],
    lake: LakeOption = None,
    volumes: Annotated[bool, typer.Option(help="Build volumes of the series that got new instances.")] = True,
    link: Annotated[
        bool, typer.Option("--link", help="Hard-link instead of copying; sources must never change.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="by the number of objects")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take DICOM in. Stored means durable; run it again and nothing is stored twice.

    The lake is made when the folder is new or empty. Exit status 1 when objects were refused or are in
    conflict with others; they are kept and listed.
    """
    with open_lake(lake, create=True) as opened:
        report = opened.ingest(
            *sources, volumes=volumes, link=link, workers=workers, progress=False if as_json else None
        )
    if as_json:
        print_json(report.as_dict())
    else:
        typer.echo(str(report))
    if report.refused or report.conflicts:
        raise typer.Exit(1)
