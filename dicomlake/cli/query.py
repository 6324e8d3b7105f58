"""`dicomlake query`: series that meet conditions."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

EXAMPLES = examples(
    "dicomlake query Modality=CT 'SliceThickness<1.5'",
    "dicomlake query 'StudyDate>=20240101' 'SeriesDescription=*chest*'",
    "dicomlake query 'EchoTime=10,20' --json",
    "dicomlake query 'ReferencedSeriesSequence.SeriesInstanceUID=1.2.*'",
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
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find series by any element: keyword of PS3.6, tag as 0018,0081, nested as Sequence.Keyword."""
    from dicomlake.errors import QueryError

    with open_lake(lake) as opened:
        try:
            cohort = opened.query(*conditions)
        except QueryError as error:
            raise typer.BadParameter(str(error)) from error
        rows = cohort.rows()
    if as_json:
        print_json(rows)
        return
    print_table(_COLUMNS, ([row.get(name) for name in _COLUMNS] for row in rows), right=("instances",))
