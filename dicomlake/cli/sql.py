"""`dicomlake sql`: one SELECT on the mirror."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

EXAMPLES = examples(
    'dicomlake sql "select Modality, count(*) as series from series group by all order by 2 desc"',
    "dicomlake sql \"select text, instances from attributes where path = 'ConvolutionKernel'\"",
)


def command(
    query: Annotated[
        str,
        typer.Argument(
            help="A SELECT on series, attributes, volumes, instances, studies, patients, labels …"
        ),
    ],
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the catalog in SQL (DuckDB's), read-only."""
    import duckdb

    from dicomlake.errors import QueryError

    with open_lake(lake) as opened:
        try:
            relation = opened.sql(query)
            columns, rows = list(relation.columns), relation.fetchall()
        except QueryError as error:
            raise typer.BadParameter(str(error)) from error
        except duckdb.Error as error:  # its text may quote a value of a patient
            raise typer.BadParameter(f"the SQL failed while it ran: {type(error).__name__}") from None
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
