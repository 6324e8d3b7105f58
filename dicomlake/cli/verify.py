"""`dicomlake verify`: prove that the lake holds what was put in."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json

EXAMPLES = examples("dicomlake verify --lake my-lake", "dicomlake verify --deep --json")


def command(
    deep: Annotated[bool, typer.Option("--deep", help="Also decode all originals again.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read everything again and compare it with its hash; exit status 1 when anything differs."""
    with open_lake(lake) as opened:
        report = opened.verify(deep=deep, progress=False if as_json else None)
    if as_json:
        findings = [dataclasses.asdict(finding) for finding in report.findings]
        print_json({"ok": report.ok, "checked": report.checked, "findings": findings})
    else:
        typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)
