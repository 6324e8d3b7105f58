"""`dicomlake search`: words in reports, attached documents and descriptions."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

EXAMPLES = examples(
    "dicomlake search pneumothorax",
    "dicomlake search '\"pleural effusion\" -carcinoma'",
    "dicomlake search 'metasta* OR lymphom*' --limit 20 --json",
    "dicomlake query 'text=pneumothorax' Modality=CT",
)
_COLUMNS = ("kind", "score", "snippet", "SeriesInstanceUID")


def command(
    words: Annotated[
        str,
        typer.Argument(
            metavar="WORDS", help='All must be there; "a phrase", a begin*, -without, OR, parentheses.'
        ),
    ],
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many, the best first.")] = 50,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the words of reports, attached documents and descriptions; case and accents do not count."""
    from dicomlake.errors import QueryError

    with open_lake(lake) as opened:
        try:
            hits = opened.search(words, limit=limit).to_dict("records")
        except QueryError as error:
            raise typer.BadParameter(str(error)) from error
    if as_json:
        print_json(hits)
        return
    for hit in hits:
        hit["score"] = f"{hit['score']:.2f}"
    print_table(_COLUMNS, ([hit[name] for name in _COLUMNS] for hit in hits))
