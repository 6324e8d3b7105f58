"""`dicomlake clinical`: clinical tables, joined to patients or studies."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

HELP = "Take in clinical tables, which are then asked like elements."
IMPORT_EXAMPLES = examples(
    "dicomlake clinical import trial trial.csv",
    "dicomlake clinical import labs labs.parquet --date taken --within-days 30",
    "dicomlake clinical import reads reads.csv --on AccessionNumber --key accession",
    "dicomlake query clinical.trial.arm=A",
)
LS_EXAMPLES = examples("dicomlake clinical ls", "dicomlake clinical ls trial --json")
DROP_EXAMPLES = examples("dicomlake clinical drop trial")
TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="What it is called in the lake.")]


class On(StrEnum):
    """What joins the rows."""

    PatientID = "PatientID"
    AccessionNumber = "AccessionNumber"


def import_(
    table: TableArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet.")],
    on: Annotated[On, typer.Option("--on", help="What joins its rows.")] = On.PatientID,
    key: Annotated[
        str | None, typer.Option("--key", help="The column that holds it.", show_default="so called")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", help="A column of dates: the nearest study.", show_default=False)
    ] = None,
    within_days: Annotated[
        float | None, typer.Option("--within-days", help="At most so far away.", show_default=False)
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", help="IssuerOfPatientID of the column.", show_default=False)
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Take in a table, or take it in again: then its rows replace the former ones.

    Exit status 1 when rows belong to nobody in the lake, or could belong to several; they are kept, and
    belong once the patient arrives.
    """
    with open_lake(lake) as opened:
        report = opened.import_clinical(
            table, file, on=on.value, key=key, date=date, within_days=within_days, issuer=issuer
        )
    typer.echo(str(report))
    if report.unmatched or report.ambiguous:
        raise typer.Exit(1)


def ls(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="Its rows.", show_default="the tables")
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the clinical tables, or the rows of one with what each belongs to."""
    with open_lake(lake) as opened:
        found = opened.clinical(table)
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    if as_json:
        print_json(rows)
        return
    columns = [str(name) for name in found.columns]
    print_table(columns, ([row[name] for name in columns] for row in rows))


def drop(table: TableArgument, lake: LakeOption = None) -> None:
    """Take a table out; what it said stays as history."""
    with open_lake(lake) as opened:
        opened.drop_clinical(table)


group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
for _name, _verb, _epilog in (
    ("import", import_, IMPORT_EXAMPLES),
    ("ls", ls, LS_EXAMPLES),
    ("drop", drop, DROP_EXAMPLES),
):
    group.command(_name, epilog=_epilog)(_verb)
