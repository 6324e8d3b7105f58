"""`dicomlake listen`: take what scanners push."""

from __future__ import annotations

import enum
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicomlake.cli.common import LakeOption, examples, open_lake
from dicomlake.cli.stopping import stopping

if TYPE_CHECKING:
    from dicomlake.network.config import ReceiverConfig

EXAMPLES = examples(
    "dicomlake listen --lake my-lake --peers any",
    "dicomlake listen --lake /data/archive --ae-title ARCHIVE --host 0.0.0.0",
    "dicomlake listen --port 2762 --tls-cert lake.pem --tls-key lake.key --tls-ca hospital.pem",
    "dicomlake listen --peers peers.toml --no-volumes",
    "dicomlake listen --processes 4 --http-port 8042 --log-format json",
)
_LOOK_S = 1.0


class LogFormat(enum.StrEnum):
    """How what happens is written."""

    text = "text"
    json = "json"


def command(
    lake: LakeOption = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes a free one.", show_default="11112")
    ] = None,
    ae_title: Annotated[
        list[str] | None,
        typer.Option(
            "--ae-title",
            metavar="TITLE",
            help="That it answers to; may be repeated.",
            show_default="DICOMLAKE",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="To listen on; 0.0.0.0 is every one of IPv4.", show_default="127.0.0.1"
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="any|FILE",
            help="Who may do what: everybody, who may then store, or a TOML file with tables of peers.",
            show_default="those of lake.toml",
        ),
    ] = None,
    open_to_all: Annotated[
        bool,
        typer.Option("--open-to-all", help="Let everybody store from other machines too, and mean it."),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Our certificate, PEM; TLS only, from then on."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="Its key, PEM, unless it is in the same file."),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca", metavar="FILE", help="Authorities; peers must show a certificate of theirs."
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that receive.", show_default="1")
    ] = None,
    quiet: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Without a new instance, then a series is complete.",
            show_default="30",
        ),
    ] = None,
    volumes: Annotated[
        bool | None,
        typer.Option(
            "--volumes/--no-volumes", help="Build volumes of complete series.", show_default="volumes"
        ),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            "--http-port", min=0, max=65535, help="For STOW-RS, /metrics and /healthz.", show_default="none"
        ),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Is told when a series is complete.", show_default=False)
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option("--log-format", help="Of what happens, on the standard error.", show_default="text"),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Receive by pynetdicom alone, slower; for when in doubt.")
    ] = False,
) -> None:
    """Receive what scanners push, until SIGTERM or Ctrl-C; success is answered when an object is safe.

    The lake is made when the folder is new or empty. What is not given is taken from the tables receiver and
    peer of its lake.toml; who is not listed there is turned away. When stopped, what is under way has
    30 seconds to end, or what `drain_s` says; a second signal ends it at once. Exit status 0 when it was
    stopped, 1 when it could not listen or ended by itself.
    """
    from dicomlake.errors import DicomlakeError
    from dicomlake.network.config import ReceiverConfig

    given: dict[str, Any] = {
        "ae_title": ae_title or None,
        "host": host,
        "port": port,
        "peers": peers,
        "tls": _tls(tls_cert, tls_key, tls_ca),
        "processes": processes,
        "quiet": quiet,
        "volumes": volumes,
        "http_port": http_port,
        "webhook": webhook,
        "log_format": log_format.value if log_format else None,
    }
    config = ReceiverConfig.of_lake(lake or Path()).but(**given).checked(open_to_all=open_to_all)
    _log(config, chosen=log_format is not None)
    with stopping() as stop, open_lake(lake, create=True) as opened:
        receiver = opened.listen(config=config, open_to_all=open_to_all, plain=plain)
        try:
            typer.echo(_ready(receiver, config, opened.path))
            notify("READY=1\nSTATUS=listening")
            for line in _worries(config):
                typer.echo(line)
            by_itself = _watch(receiver, stop)
            notify("STOPPING=1")
            typer.echo(f"stopping; what is under way has {config.drain_s:g} s to end")
        finally:
            receiver.stop(config.drain_s)
        typer.echo(f"stopped: {_counts(receiver) or 'nothing came'}")
        if by_itself:
            raise DicomlakeError("the receiver ended by itself: see its log, and start it again")


def _tls(certificate: Path | None, key: Path | None, authorities: Path | None) -> object:
    """The files that the options name; those of lake.toml count when none does."""
    from dicomlake.network.tls import TlsFiles

    if certificate is None and (key or authorities):
        raise typer.BadParameter("--tls-key and --tls-ca need --tls-cert")
    return TlsFiles(certificate, key, authorities) if certificate else None


def _ready(receiver: Any, config: ReceiverConfig, lake: Path) -> str:
    """The line that says that scanners may come."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    secure = " with TLS" if config.tls else ""
    words = f"listening as {'|'.join(config.ae_titles)} on {host}:{receiver.port}{secure}, lake {lake}"
    if config.http_port is not None:
        words += f", http {getattr(receiver, 'http_port', None) or config.http_port}"
    return f"{words}, peers {_whom(config)}"


def _whom(config: ReceiverConfig) -> str:
    if config.peers.anybody:
        return "any"
    names = [peer.name for peer in config.peers]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"


def _worries(config: ReceiverConfig) -> Iterator[str]:
    """What the administrator wants to know now rather than later."""
    from dicomlake.network.tls import expires_soon

    if not config.peers:
        yield "nobody may send yet: list peers in lake.toml, or pass --peers any"
    if config.tls is not None:
        yield from expires_soon(config.tls)


def _watch(receiver: Any, stop: threading.Event) -> bool:
    """Wait for a signal, showing counts where a terminal looks; whether the receiver ended before that."""
    with _shown(lambda: _counts(receiver)) as show:
        while not stop.wait(_LOOK_S):
            if receiver.wait_stopped(0):
                return True
            show()
    return False


def _counts(receiver: Any) -> str:
    """What came, in words."""
    stats = receiver.stats()
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,}"
        for name, value in stats.items()
        if isinstance(value, int) and value and not name.endswith("bytes")
    )


@contextmanager
def _shown(words: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """A line that is written over; nothing where no terminal is."""
    if not sys.stdout.isatty():
        yield lambda: None
        return
    from rich.console import Console

    with Console().status("waiting for the first association") as status:
        yield lambda: status.update(words() or "nothing came yet")


def _log(config: ReceiverConfig, *, chosen: bool) -> None:
    """Log to the standard error; in a terminal, which shows counts, only what is wrong unless asked for."""
    from dicomlake.listening import logs

    logs.configure(config.log_format, "WARNING" if sys.stdout.isatty() and not chosen else "INFO")


def notify(state: str) -> bool:
    """Tell systemd how a service of Type=notify is (sd_notify); whether it listens.

    A datagram to the socket that NOTIFY_SOCKET names; a name that begins with "@" is an abstract one.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(name)
            connection.sendall(state.encode())
    except OSError:
        return False  # a service manager that is gone is no reason not to receive
    return True
