"""The application that gathers the verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomlake.cli import (
    clinical,
    cohorts,
    demo,
    doctor,
    ingest,
    init,
    label,
    listen,
    ls,
    pull,
    query,
    rebuild,
    search,
    send,
    show,
    sql,
    status,
    verify,
    volumes,
    watch,
)

app = typer.Typer(
    name="dicomlake",
    help="The research imaging archive that lives in Jupyter: DICOM in, lazy xarray out.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import dicomlake

        typer.echo(f"dicomlake {dicomlake.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the verb."""


for _verb in (
    *(init, ingest, listen, watch, pull, send, ls, query, search, sql, show),
    *(status, verify, rebuild, doctor, demo),
):
    app.command(_verb.__name__.rpartition(".")[2], epilog=_verb.EXAMPLES)(_verb.command)
for _group in (volumes, cohorts, label, clinical):
    app.add_typer(_group.group, name=_group.__name__.rpartition(".")[2])
