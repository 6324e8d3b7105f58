"""`dicomlake label`: labels and notes on patients, studies, series, instances."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

HELP = "Label series, studies, patients, instances; see who said what, and when."
SET_EXAMPLES = examples(
    "dicomlake label set quality good 1.2.840.113619.2.1",
    "dicomlake label set review done --where Modality=CT --where 'SliceThickness<1.5' --level study",
    "dicomlake label set motion 3 1.2.840.113619.2.1 --note 'breathing'",
)
RM_EXAMPLES = examples("dicomlake label rm quality 1.2.840.113619.2.1")
LS_EXAMPLES = examples(
    "dicomlake label ls", "dicomlake label ls quality --json", "dicomlake query label.quality=good"
)
HISTORY_EXAMPLES = examples("dicomlake label history 1.2.840.113619.2.1")
_LISTED = (
    *("level", "name", "value", "note", "who", "at"),
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
)


class Level(StrEnum):
    """What is labelled."""

    patient = "patient"
    study = "study"
    series = "series"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the label: a word.")]
TargetsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="UID…", help="Of studies, series or instances.", show_default=False),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Series that meet it instead; may be repeated.",
        show_default=False,
    ),
]
LevelOption = Annotated[
    Level | None,
    typer.Option("--level", help="What they are part of instead.", show_default="the things themselves"),
]
WhoOption = Annotated[
    str | None, typer.Option("--who", help="Who says so.", show_default="DICOMLAKE_USER or the login name")
]
NoteOption = Annotated[str | None, typer.Option("--note", help="In words.", show_default=False)]


def set_(
    name: NameArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text, a number, true or false.")],
    uids: TargetsArgument = None,
    where: WhereOption = None,
    level: LevelOption = None,
    note: NoteOption = None,
    who: WhoOption = None,
    lake: LakeOption = None,
) -> None:
    """Label things; a new value replaces the former one, which stays as history."""
    with open_lake(lake) as opened:
        targets = _targets(opened, uids, where)
        report = opened.set_label(
            targets, name, _value(value), note=note, who=who, level=None if level is None else level.value
        )
    typer.echo(str(report))


def rm(
    name: NameArgument,
    uids: TargetsArgument = None,
    where: WhereOption = None,
    level: LevelOption = None,
    note: NoteOption = None,
    who: WhoOption = None,
    lake: LakeOption = None,
) -> None:
    """Take a label off; its history stays."""
    with open_lake(lake) as opened:
        targets = _targets(opened, uids, where)
        report = opened.remove_label(
            targets, name, note=note, who=who, level=None if level is None else level.value
        )
    typer.echo(str(report))


def ls(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this one.", show_default="all")
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the labels in force."""
    with open_lake(lake) as opened:
        rows = _rows(opened.labels(name=name))
    _print(rows, _LISTED, as_json)


def history(
    uid: Annotated[str, typer.Argument(metavar="UID", help="Of a study, series or instance.")],
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all that was ever said of one thing, the oldest first."""
    with open_lake(lake) as opened:
        rows = _rows(opened.label_history(uid))
    _print(rows, ("name", "value", "note", "who", "at", "change"), as_json)


def _rows(table: Any) -> list[dict[Any, Any]]:
    found: list[dict[Any, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return found


def _print(rows: list[dict[Any, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_table(columns, ([row[name] for name in columns] for row in rows))


def _targets(lake: Any, uids: list[str] | None, where: list[str] | None) -> list[Any]:
    if bool(uids) == bool(where):
        raise typer.BadParameter("give UIDs, or conditions with --where")
    return list(uids) if uids else lake.query(*(where or ())).keys


def _value(text: str) -> str | float | bool:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
for _name, _verb, _epilog in (
    ("set", set_, SET_EXAMPLES),
    ("rm", rm, RM_EXAMPLES),
    ("ls", ls, LS_EXAMPLES),
    ("history", history, HISTORY_EXAMPLES),
):
    group.command(_name, epilog=_epilog)(_verb)
