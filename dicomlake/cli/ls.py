"""`dicomlake ls`: what is in the lake."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

EXAMPLES = examples(
    "dicomlake ls",
    "dicomlake ls studies --lake my-lake",
    "dicomlake ls refused",
    "dicomlake ls series --json",
)


class Level(StrEnum):
    """What is listed."""

    patients = "patients"
    studies = "studies"
    series = "series"
    volumes = "volumes"
    findings = "findings"
    refused = "refused"
    conflicts = "conflicts"


_COLUMNS = {
    Level.patients: ("PatientID", "PatientName", "PatientSex", "studies", "series", "instances"),
    Level.studies: ("PatientID", "StudyDate", "StudyDescription", "series", "instances", "StudyInstanceUID"),
    Level.series: (
        *("PatientID", "StudyDate", "Modality", "SeriesDescription"),
        *("instances", "SeriesInstanceUID"),
    ),
    Level.volumes: ("verdict", "shape", "dtype", "series_uid", "number", "reason"),
    Level.findings: ("severity", "kind", "scope", "message"),
    Level.refused: ("reason", "size", "origin"),
    Level.conflicts: ("sop_instance_uid", "size", "key"),
}
_NUMBERS = ("studies", "series", "instances", "size", "number")


def command(
    level: Annotated[Level, typer.Argument(help="What to list.")] = Level.series,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List patients, studies, series, volumes, findings, refused objects or conflicts."""
    import dataclasses

    with open_lake(lake) as opened:
        if level in (Level.patients, Level.studies, Level.series):
            rows = opened.rows(level.value)
        else:
            records = getattr(opened, level.value)()
            rows = [dataclasses.asdict(one) for one in records]
            if level is Level.volumes:
                rows = [row | {"series_uid": row["series"][1]} for row in rows]
    if as_json:
        print_json(rows)
        return
    columns = _COLUMNS[level]
    print_table(columns, ([row.get(name) for name in columns] for row in rows), right=_NUMBERS)
