"""`dicomlake pull`: fetch DICOM from a peer."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table
from dicomlake.cli.peers import AuthoritiesOption, CertificateOption, KeyOption, TlsOption, client_tls

if TYPE_CHECKING:
    from dicomlake.network.requesting.pull import Receiving
    from dicomlake.network.requesting.pull_report import PullReport
    from dicomlake.network.requesting.wanted import Wanted

EXAMPLES = examples(
    "dicomlake pull PACS@pacs.example.org:104 --study 1.2.826.0.1.3680043.8.498.1",
    "dicomlake pull PACS@10.0.0.5:104 --accessions trial.csv --window 20:00-06:00 --rate 20MB/s --resume",
    "dicomlake pull PACS@10.0.0.5:104 --query PatientID=P17 --query 'StudyDate=20240101-20241231' --priors 2",
    "dicomlake pull PACS@10.0.0.5:104 --study 1.2.3 --by move --listen 10.0.0.9:11112",
    "dicomlake pull https://pacs.example.org/dicom-web --study 1.2.3",
)
TOKEN = "DICOMLAKE_TOKEN"
_COLUMNS = ("row", "outcome", "expected", "moved", "fresh", "failed", "size", "reason", "study_uid")


def command(
    source: Annotated[
        str, typer.Argument(metavar="AE@HOST:PORT|URL", help="The peer, or the root of a DICOMweb service.")
    ],
    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="UID", help="A study.", show_default=False)
    ] = None,
    accessions: Annotated[
        Path | None,
        typer.Option(
            "--accessions",
            metavar="CSV",
            help="A table whose columns are keywords: AccessionNumber, PatientID, StudyInstanceUID …",
            show_default=False,
        ),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", metavar="KEY=VALUE", help="A key; several go together.", show_default=False),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="get|move|web", help="get, or web for a URL.", show_default=False)
    ] = None,
    calling: Annotated[str, typer.Option(metavar="AE", help="Our AE title.")] = "DICOMLAKE",
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where a C-MOVE sends to, meanwhile.", show_default=False),
    ] = None,
    move_to: Annotated[
        str | None,
        typer.Option(
            "--move-to", metavar="AE", help="A receiver of this lake that listens.", show_default=False
        ),
    ] = None,
    root: Annotated[str, typer.Option(metavar="study|patient", help="The information model.")] = "study",
    priors: Annotated[int, typer.Option(min=0, help="So many earlier studies of each patient.")] = 0,
    prior_modality: Annotated[
        str | None,
        typer.Option(
            "--prior-modality", metavar="CS|same", help="Only of this modality.", show_default=False
        ),
    ] = None,
    prior_body_part: Annotated[
        str | None,
        typer.Option("--prior-body-part", metavar="CS", help="Only of this body part.", show_default=False),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="30studies/min, 20MB/s, or both with a comma.", show_default=False),
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="HH:MM-HH:MM", help="Only at this time of day.", show_default=False)
    ] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Studies at the same time.")] = 1,
    retries: Annotated[int, typer.Option(min=0, help="Tries again of a study that breaks off.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same pull ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask, and fetch nothing.")] = False,
    volumes: Annotated[bool, typer.Option(help="Build volumes of the series that got new instances.")] = True,
    tls: TlsOption = False,
    tls_ca: AuthoritiesOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch studies from a peer; what the lake holds, instance by instance, is not fetched again.

    A token for DICOMweb is taken from the environment, DICOMLAKE_TOKEN. The result has a row for each study
    and shows what was asked for. Exit status 1 when one is not wholly here.
    """
    from dicomlake.errors import AddressError, QueryError
    from dicomlake.lake.exchanging import pull
    from dicomlake.network.requesting.pacing import Pacing
    from dicomlake.network.requesting.priors import Priors
    from dicomlake.network.requesting.pull import Options

    try:
        context = client_tls(tls, tls_ca, tls_cert, tls_key)
        way = _way(source, by)
        if way == "move" and listen is None and move_to is None and not dry_run:
            raise typer.BadParameter(
                "--by move needs --listen HOST:PORT, or --move-to AE of a receiver that runs"
            )
        options = Options(
            by=way,
            calling=calling,
            move_to=move_to or "",
            receiving=_receiving(source, listen, move_to or calling) if way == "move" else None,
            root=_root(root),
            tls=context,
            headers=_headers(source, context),
            pacing=Pacing.parse(rate, window),
            priors=Priors(priors, prior_modality, prior_body_part) if priors else None,
            at_once=at_once,
            retries=retries,
            resume=resume,
            dry_run=dry_run,
            show=False if as_json else None,
        )
        wanted = _wanted(study, accessions, query)
        with open_lake(lake, create=True) as opened:
            report = pull(opened, source, wanted, options=options, volumes=volumes)
    except (AddressError, QueryError) as error:
        raise typer.BadParameter(str(error)) from error
    _tell(report, as_json)
    if report.failed:
        raise typer.Exit(1)


def _tell(report: PullReport, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    rows = [[getattr(one, name) for name in _COLUMNS] for one in report.studies]
    print_table(_COLUMNS, rows, right=("row", "expected", "moved", "fresh", "failed", "size"))
    typer.echo(str(report))


def _wanted(study: list[str] | None, accessions: Path | None, query: list[str] | None) -> list[Wanted]:
    from dicomlake.network.requesting import wanted

    if sum(map(bool, (study, accessions, query))) != 1:
        raise typer.BadParameter("say what to fetch by one of --study, --accessions and --query")
    if study:
        return wanted.studies(study)
    return wanted.from_csv(accessions) if accessions else [wanted.from_conditions(*(query or ()))]


def _way(source: str, by: str | None) -> Literal["get", "move", "web"] | None:
    from dicomlake.network.requesting.addresses import Address, is_web

    if not is_web(source):
        Address.parse(source)
    if by is None or by in ("get", "move", "web"):
        return by  # type: ignore[return-value]  # one of these
    raise typer.BadParameter(f"{by} is no way to fetch: get, move or web")


def _root(root: str) -> Literal["study", "patient"]:
    if root not in ("study", "patient"):
        raise typer.BadParameter(f"{root} is no information model: study or patient")
    return root  # type: ignore[return-value]  # one of these


def _receiving(source: str, listen: str | None, title: str) -> Receiving | None:
    """A receiver for the time of the pull, at `listen`; None when one is listening already."""
    if listen is None:
        return None
    from dicomlake.network.requesting.addresses import Address
    from dicomlake.network.requesting.destination import receiving

    here = Address.parse(f"{title}@{listen}")
    return receiving(Address.parse(source), ae_title=title, host=here.host, port=here.port)


def _headers(source: str, tls: ssl.SSLContext | None) -> dict[str, str]:
    """The credentials for DICOMweb, which go over TLS only, or stay on this machine."""
    token = os.environ.get(TOKEN)
    if not token or not source.lower().startswith("http"):
        return {}
    from urllib.parse import urlsplit

    local = urlsplit(source).hostname in ("127.0.0.1", "::1", "localhost")
    if source.lower().startswith("http:") and not local and tls is None:
        raise typer.BadParameter(f"{TOKEN} is not sent without TLS: use the service's https URL")
    return {"Authorization": f"Bearer {token}"}
