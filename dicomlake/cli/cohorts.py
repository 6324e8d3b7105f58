"""`dicomlake cohorts`: freeze what a query gives, list and compare frozen cohorts, carry them elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

HELP = "Freeze cohorts, list, compare, cite, export and import them."
FREEZE_EXAMPLES = examples(
    "dicomlake cohorts freeze thin-ct Modality=CT 'SliceThickness<1.5'",
    "dicomlake cohorts freeze all-mr Modality=MR --who 'A. Author'",
)
LS_EXAMPLES = examples("dicomlake cohorts ls", "dicomlake cohorts ls --json")
DIFF_EXAMPLES = examples(
    "dicomlake cohorts diff thin-ct", "dicomlake cohorts diff thin-ct thin-ct-2025 --json"
)
CITE_EXAMPLES = examples("dicomlake cohorts cite thin-ct", "dicomlake cohorts cite thin-ct --style ris")
EXPORT_EXAMPLES = examples(
    "dicomlake cohorts export thin-ct thin-ct.json", "dicomlake cohorts export thin-ct thin-ct.parquet"
)
IMPORT_EXAMPLES = examples(
    "dicomlake cohorts import thin-ct.json", "dicomlake cohorts import thin-ct.json --name theirs"
)
_LISTED = ("name", "series", "at", "who", "change", "program")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of a frozen cohort.")]


class Style(StrEnum):
    """Of a citation."""

    bibtex = "bibtex"
    ris = "ris"


def freeze(
    name: NameArgument,
    conditions: Annotated[
        list[str], typer.Argument(metavar="CONDITION…", help="As in `dicomlake query`.", show_default=False)
    ],
    who: Annotated[
        str | None, typer.Option("--who", help="Who chose it.", show_default="the login name")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Keep what a query gives now, under a name, with hashes of all that it is; it never changes."""
    with open_lake(lake) as opened:
        frozen = opened.query(*conditions).freeze(name, who=who)
        typer.echo(f"{frozen.name}: {len(frozen):,} series, SHA-256 {frozen.digest}")


def ls(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """List the frozen cohorts, the oldest first."""
    with open_lake(lake) as opened:
        rows = opened.cohorts().to_dict("records")
    if as_json:
        print_json(rows)
        return
    print_table(_LISTED, ([row[name] for name in _LISTED] for row in rows), right=("series", "change"))


def diff(
    name: NameArgument,
    other: Annotated[
        str | None,
        typer.Argument(metavar="OTHER", help="Another frozen cohort.", show_default="the lake as it is"),
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what is gone, was added or changed since. Exit status 1 when something differs."""
    with open_lake(lake) as opened:
        found = opened.cohort(name).diff(None if other is None else opened.cohort(other))
    if as_json:
        print_json({"same": found.same, "changes": found.table().to_dict("records")})
    else:
        typer.echo(str(found))
        columns = ("what", "SeriesInstanceUID", "detail")
        if found:
            print_table(columns, ((c.what, c.key.series_uid, c.detail) for c in found.changes))
    if found:
        raise typer.Exit(1)


def cite(
    name: NameArgument,
    style: Annotated[Style, typer.Option(help="BibTeX or RIS.")] = Style.bibtex,
    lake: LakeOption = None,
) -> None:
    """Print a citation of the cohort, of the collections of its data, and of dicomlake."""
    with open_lake(lake) as opened:
        typer.echo(opened.cohort(name).cite(style.value))


def export(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .json or .parquet file to write.")],
    lake: LakeOption = None,
) -> None:
    """Write a frozen cohort to a file that another lake with the same objects can import."""
    with open_lake(lake) as opened:
        typer.echo(str(opened.cohort(name).export(file)))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `cohorts export` wrote.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Another name.", show_default="the one it had")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Take in a frozen cohort from a file; its series need not be here: `cohorts diff` tells."""
    with open_lake(lake) as opened:
        frozen = opened.import_cohort(file, name=name)
        typer.echo(f"{frozen.name}: {len(frozen):,} series; {frozen.diff()}")


group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
for _name, _verb, _epilog in (
    ("freeze", freeze, FREEZE_EXAMPLES),
    ("ls", ls, LS_EXAMPLES),
    ("diff", diff, DIFF_EXAMPLES),
    ("cite", cite, CITE_EXAMPLES),
    ("export", export, EXPORT_EXAMPLES),
    ("import", import_, IMPORT_EXAMPLES),
):
    group.command(_name, epilog=_epilog)(_verb)
