"""What the verbs that call peers share: TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

import typer

TlsOption = Annotated[bool, typer.Option("--tls", help="Call the peer with TLS.")]
AuthoritiesOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", metavar="FILE", help="Who vouches for the peer, PEM.", show_default=False),
]
CertificateOption = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Our certificate, PEM.", show_default=False)
]
KeyOption = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key, PEM.", show_default=False)
]


def client_tls(
    wanted: bool, authorities: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext | None:
    """The context that the options describe; None without TLS."""
    if not (wanted or authorities or certificate or key):
        return None
    from dicomlake.network.tls import TlsFiles, client_context

    return client_context(TlsFiles(certificate=certificate, key=key, authorities=authorities))
