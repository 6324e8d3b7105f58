"""`dicomlake rebuild`: everything but the originals, made again."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, print_json

EXAMPLES = examples("dicomlake rebuild --lake my-lake", "dicomlake rebuild --volumes")


def command(
    volumes: Annotated[bool, typer.Option("--volumes", help="Only the volumes; keep the catalog.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the catalog, the mirror and the volumes again from the originals alone."""
    from dicomlake.lake import rebuild

    report = rebuild(lake, volumes_only=volumes, progress=False if as_json else None)
    if as_json:
        print_json({"originals": report.already, "series": len(report.series), "volumes": len(report.built)})
        return
    typer.echo(f"Rebuilt in {report.seconds:.1f} s")
    if not volumes:
        typer.echo(f"  originals  {report.already:,}")
    typer.echo(f"  series     {len(report.series):,}")
    typer.echo(f"  volumes    {len(report.built):,} of {len(report.volumes):,}")
