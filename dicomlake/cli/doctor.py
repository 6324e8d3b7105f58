"""`dicomlake doctor`: what the installation and the lake rest on."""

from __future__ import annotations

from pathlib import Path

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, print_json, print_table

EXAMPLES = examples("dicomlake doctor", "dicomlake doctor --lake my-lake --json")


def command(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Check versions, decoders, disk and file system; exit status 1 when something has to be mended."""
    from dicomlake.doctor import examine
    from dicomlake.storage.layout import LAKE_TOML

    folder = lake or Path()
    checks = examine(folder if (folder / LAKE_TOML).is_file() else None)
    if as_json:
        print_json([dict(zip(("name", "state", "remark"), check, strict=True)) for check in checks])
    else:
        print_table(("what", "state", "remark"), checks)
    if any(state == "bad" for _name, state, _remark in checks):
        raise typer.Exit(1)
