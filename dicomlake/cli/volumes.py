"""`dicomlake volumes`: build them, list what they are, delete former versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table

if TYPE_CHECKING:
    from dicomlake.cohorts.cohort import Cohort
    from dicomlake.lake import Lake
    from dicomlake.records import SeriesKey, Volume

HELP = "Build volumes, list what they are, delete former versions."
BUILD_EXAMPLES = examples(
    "dicomlake volumes build",
    "dicomlake volumes build --where Modality=CT --where 'SliceThickness<1.5'",
    "dicomlake volumes build --again --where Modality=PT --workers 2",
    "dicomlake volumes build --reference --where Modality=CT",
)
LS_EXAMPLES = examples(
    "dicomlake volumes ls",
    "dicomlake volumes ls --verdict missing_slices --verdict irregular",
    "dicomlake volumes ls --where Modality=MR --json",
)
PRUNE_EXAMPLES = examples(
    "dicomlake volumes prune --dry-run", "dicomlake volumes prune --keep 1 --older-than 30"
)
_COLUMNS = (
    *("series_uid", "number", "version", "verdict", "dims", "shape"),
    *("spacing_mm", "split_by", "state", "reason"),
)

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only series that meet it, as in `dicomlake query`; may be repeated.",
        show_default=False,
    ),
]


def build(
    where: WhereOption = None,
    again: Annotated[bool, typer.Option("--again", help="Also build what is still true.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Volumes built at once.", show_default="by the number of cores")
    ] = None,
    reference: Annotated[
        bool | None,
        typer.Option(
            "--reference/--copy",
            help="Leave uncompressed voxels in their originals, or copy them into chunks.",
            show_default="as lake.toml says",
        ),
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the volumes of series that lack theirs; with a condition, of all that meet it.

    What is still true keeps its store; what changed becomes a new version. Exit status 1 when a volume could
    not be built; the others are.
    """
    with open_lake(lake) as opened:
        chosen = _matching(opened, where) if where or again else None
        volumes = opened.build_volumes(
            chosen,
            workers=workers,
            rebuild=again,
            mode=None if reference is None else "reference" if reference else "copy",
            progress=False if as_json else None,
        )
    failed = [volume for volume in volumes if not volume.built]
    if as_json:
        print_json([_row(volume) for volume in volumes])
    else:
        typer.echo(f"{len(volumes) - len(failed):,} of {len(volumes):,} volumes are built")
        for volume in failed:
            typer.echo(f"  not built: volume {volume.number} of {volume.series_uid}: {volume.reason}")
    if failed:
        raise typer.Exit(1)


def ls(
    where: WhereOption = None,
    verdict: Annotated[
        list[str] | None,
        typer.Option("--verdict", metavar="VERDICT", help="Only these; may be repeated.", show_default=False),
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List volumes with what was proven about them, and those that are not built with the reason."""
    with open_lake(lake) as opened:
        wanted = None if where is None else set(_keys(_matching(opened, where)))
        volumes = [
            volume
            for volume in opened.volumes()
            if (wanted is None or volume.series in wanted) and (not verdict or volume.verdict in verdict)
        ]
    rows = [_row(volume) for volume in volumes]
    if as_json:
        print_json(rows)
        return
    print_table(_COLUMNS, ([row[name] for name in _COLUMNS] for row in rows), right=("number", "version"))


def prune(
    keep: Annotated[int, typer.Option(min=0, help="So many former versions of each volume stay.")] = 0,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Only what was replaced longer ago."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the stores of former versions of volumes, and those that a crash left."""
    with open_lake(lake) as opened:
        report = opened.prune(keep=keep, older_than_days=older_than, dry_run=dry_run)
    if as_json:
        print_json(report.as_dict())
        return
    typer.echo(str(report))
    for volume in report.volumes:
        typer.echo(f"  version {volume.version} of volume {volume.number} of {volume.series_uid}")
    for store in report.leftovers:
        typer.echo(f"  {store}")


def _matching(lake: Lake, where: list[str] | None) -> Cohort:
    from dicomlake.errors import QueryError

    try:
        return lake.query(*(where or ()))
    except QueryError as error:
        raise typer.BadParameter(str(error)) from error


def _keys(cohort: Cohort) -> list[SeriesKey]:
    return [series.key for series in cohort]


def _row(volume: Volume) -> dict[str, Any]:
    return {
        "series_uid": volume.series_uid,
        "number": volume.number,
        "version": volume.version,
        "verdict": volume.verdict,
        "dims": ",".join(volume.dims),
        "shape": volume.shape,
        "spacing_mm": volume.spacing_mm,
        "split_by": volume.info.get("split_by"),
        "state": "built" if volume.built else "not built",
        "reason": volume.reason,
        "key": volume.key,
    }


group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
for _verb, _examples in ((build, BUILD_EXAMPLES), (ls, LS_EXAMPLES), (prune, PRUNE_EXAMPLES)):
    group.command(_verb.__name__, epilog=_examples)(_verb)
