"""`dicomlake query`: series that meet conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

if TYPE_CHECKING:
    from dicomlake.cohorts.cohort import Cohort

EXAMPLES = examples(
    "dicomlake query Modality=CT 'SliceThickness<1.5'",
    "dicomlake query 'StudyDate>=20240101' 'SeriesDescription=*chest*'",
    "dicomlake query 'EchoTime=10,20' --json",
    "dicomlake query 'ReferencedSeriesSequence.SeriesInstanceUID=1.2.*'",
    "dicomlake query Modality=CT KVP=70 --explain",
    "dicomlake query Modality=MR --columns EchoTime,FlipAngle,ProtocolName",
    "dicomlake query label.quality=good 'text=pneumothorax -old' --sql",
)
_COLUMNS = (
    "PatientID",
    "StudyDate",
    "Modality",
    "SeriesDescription",
    "SliceThickness",
    "instances",
    "SeriesInstanceUID",
)


def command(
    conditions: Annotated[
        list[str],
        typer.Argument(metavar="CONDITION…", help="Keyword=value, <, <=, >, >=; * and ? are wildcards."),
    ],
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B…", help="Elements and facts to show.", show_default=False),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="How many series each condition left.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SELECT for `dicomlake sql`.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find series by any element: keyword of PS3.6, tag as 0018,0081, nested as Sequence.Keyword."""
    from dicomlake.errors import QueryError

    with open_lake(lake) as opened:
        try:
            cohort = opened.query(*conditions)
            if explain:
                found = cohort.explain()
                return print_json(found.as_dict()) if as_json else typer.echo(str(found))
            if sql:
                return print_json({"sql": cohort.sql}) if as_json else typer.echo(cohort.sql)
            names = _COLUMNS if columns is None else (*columns.split(","), "SeriesInstanceUID")
            rows = cohort.rows() if columns is None else _rows(cohort, names)
        except QueryError as error:
            raise typer.BadParameter(str(error)) from error
    if as_json:
        return print_json(rows)
    return print_table(names, ([row.get(name) for name in names] for row in rows), right=("instances",))


def _rows(cohort: Cohort, names: Sequence[str]) -> list[dict[Any, Any]]:
    found = cohort.table(*names).astype(object)
    return found.where(found.notna(), None).to_dict("records")
