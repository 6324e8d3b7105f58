"""`dicomlake send`: give DICOM to a peer."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json
from dicomlake.cli.peers import AuthoritiesOption, CertificateOption, KeyOption, TlsOption, client_tls

EXAMPLES = examples(
    "dicomlake send 1.2.826.0.1.3680043.8.498.1 ORTHANC@pacs.example.org:4242",
    "dicomlake send --query Modality=CT --query 'StudyDate>=20240101' PACS@10.0.0.5:104 --dry-run",
    "dicomlake send 1.2.3.4 PACS@pacs.example.org:2762 --tls --tls-ca hospital.pem --calling RESEARCH",
)


def command(
    what: Annotated[
        list[str],
        typer.Argument(metavar="[UID…] AE@HOST:PORT", help="Studies, series or instances, then the peer."),
    ],
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query", metavar="CONDITION", help="Also the series that meet it.", show_default=False
        ),
    ] = None,
    calling: Annotated[str, typer.Option(metavar="AE", help="Our AE title.")] = "DICOMLAKE",
    retries: Annotated[int, typer.Option(min=0, help="Tries again after a loss.")] = 3,
    transcode: Annotated[
        bool, typer.Option(help="Write objects anew, without loss, whose transfer syntax the peer refuses.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List, and send nothing.")] = False,
    tls: TlsOption = False,
    tls_ca: AuthoritiesOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send originals to a peer, byte for byte where it takes them as they are.

    Exit status 1 when the peer has not acknowledged an object.
    """
    from dicomlake.errors import AddressError
    from dicomlake.lake.exchanging import send
    from dicomlake.network.requesting.addresses import Address

    *uids, place = what
    try:
        address = Address.parse(place)
    except AddressError as error:
        raise typer.BadParameter(str(error)) from error
    if not uids and not query:
        raise typer.BadParameter("nothing is named: give UIDs before the peer, or --query")
    with open_lake(lake) as opened:
        series = list(opened.query(*query)) if query else []
        report = send(
            opened,
            [*uids, *series],
            address,
            calling=calling,
            tls=client_tls(tls, tls_ca, tls_cert, tls_key),
            retries=retries,
            transcode=transcode,
            dry_run=dry_run,
            progress=False if as_json else None,
        )
    if as_json:
        print_json(report.as_dict())
    else:
        if dry_run:
            for one in report.objects:
                typer.echo(f"{one.sop_instance_uid}\t{one.outcome}\t{one.size}")
        typer.echo(str(report))
    if report.failed:
        raise typer.Exit(1)
