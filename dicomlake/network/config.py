"""The settings of a receiver: the tables `[receiver]` and `[[peer]]` of lake.toml or of another file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from dicomlake.errors import SettingsError
from dicomlake.network import toml
from dicomlake.network.limits import Limits
from dicomlake.network.peers import Peers, PeersSource, address_of
from dicomlake.network.peers import ae_title as read_title
from dicomlake.network.tls import TlsFiles

LogFormat = Literal["text", "json"]
Conflict = Literal["success", "warning", "failure"]
"""What a peer is told when another object has the UID of the one it sends; both are kept in any case."""

_CONFLICT_STATUS: Mapping[Conflict, int] = {
    "success": 0x0000,
    "warning": 0xB000,  # PS3.4 table B.2-1
    "failure": 0x0111,  # duplicate SOP Instance, PS3.7 section C.5.8
}


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """How a lake listens.

    ae_titles: that it answers to; the first is its own where it calls.
    host: the address to listen on; only this machine reaches the default. "0.0.0.0" is all of IPv4, "::" all.
    port: 11112 is registered for DICOM, 2762 for DICOM with TLS; 0 takes a free one.
    processes: that receive, all on the one port; one is enough for some scanners at once.
    conflict: what a peer is told when another object has the UID of the one it sends. "success", the default,
        as the object is safe; both are kept and listed in any case.
    quiet_s: seconds without a new instance after which a series counts as complete and its volume is built.
    drain_s: seconds that associations get to end when the receiver is stopped.
    volumes: whether volumes are built when series settle.
    peers: who may do what; nobody unless given.
    limits: bounds on what peers may take, each with its own default.
    tls: files of certificates and keys; None for no TLS.
    webhook: a URL that is told when a series can be opened; None for none.
    webhook_secret: a file with the secret that signs what is sent there. webhook_events: the kinds that are
        sent (`listening.events`), the usual ones unless given.
    http_port: for STOW-RS, /metrics and /healthz; None for none. http_tokens: a file of bearer tokens
        (`web.access.Tokens`); without it only this computer may use them.
    log_format: "text" for people, "json" for programs.
    """

    ae_titles: tuple[str, ...] = ("DICOMLAKE",)
    host: str = "127.0.0.1"
    port: int = 11112
    processes: int = 1
    conflict: Conflict = "success"
    quiet_s: float = 30.0
    drain_s: float = 30.0
    volumes: bool = True
    peers: Peers = field(default_factory=Peers)
    limits: Limits = field(default_factory=Limits)
    tls: TlsFiles | None = None
    webhook: str | None = None
    webhook_secret: Path | None = None
    webhook_events: tuple[str, ...] = ()
    http_port: int | None = None
    http_tokens: Path | None = None
    log_format: LogFormat = "text"

    @classmethod
    def read(cls, path: Path) -> ReceiverConfig:
        """The settings in a TOML file; what is not in it has its default. Raises SettingsError."""
        return cls.of(toml.read(path), str(path), path.parent)

    @classmethod
    def of_lake(cls, folder: Path) -> ReceiverConfig:
        """The settings in the lake.toml of a lake; defaults where there is none yet. Raises SettingsError."""
        path = folder / "lake.toml"
        return cls.read(path) if path.is_file() else cls()

    @classmethod
    def of(cls, tables: Mapping[str, Any], origin: str, folder: Path) -> ReceiverConfig:
        """The settings in the tables of a file; relative paths start at `folder`. Raises SettingsError.

        origin: what errors call the file. Tables other than `receiver` and `peer` are for others.
        """
        for name in tables.keys() - set(_TABLES):  # others are for others, but for slips of the pen
            if toml.resembles(name, _TABLES[1:]):
                raise SettingsError(f"{origin}: [{name}] is no table: {toml.nearest(name, _TABLES)}")
        table, where = tables.get("receiver", {}), f"{origin}, [receiver]"
        if not isinstance(table, dict):
            raise SettingsError(f"{origin}: the receiver is a table: write [receiver] above its settings")
        toml.refuse_unknown(table, (*_PARSERS, *_FILES, "limits", "tls", "ae_title"), where)
        if "ae_title" in table:
            if "ae_titles" in table:
                raise SettingsError(f"{where}: write `ae_title` or `ae_titles`, not both")
            table = {**table, "ae_titles": table["ae_title"]}
        found: dict[str, Any] = {
            key: parse(table[key], key, where) for key, parse in _PARSERS.items() if key in table
        }
        if "peer" in tables:
            found["peers"] = Peers.parse(tables["peer"], origin)
        for key in _FILES & table.keys():
            found[key] = folder / toml.text(table[key], key, where)
        if "limits" in table:
            found["limits"] = _limits(table["limits"], f"{origin}, [receiver.limits]")
        if "tls" in table:
            found["tls"] = _tls(table["tls"], f"{origin}, [receiver.tls]", folder)
        return cls(**found)

    def but(
        self,
        *,
        ae_title: str | Sequence[str] | None = None,
        host: str | None = None,
        port: int | None = None,
        peers: PeersSource = None,
        tls: TlsFiles | None = None,
        processes: int | None = None,
        quiet: float | None = None,
        volumes: bool | None = None,
        http_port: int | None = None,
        webhook: str | None = None,
        log_format: str | None = None,
    ) -> ReceiverConfig:
        """These settings with others where they are given; peers: as in `Peers.of`. Raises SettingsError."""
        given: dict[str, tuple[str, object]] = {
            "ae_titles": (
                "ae_title",
                ae_title if ae_title is None or isinstance(ae_title, str) else list(ae_title),
            ),
            "host": ("host", host),
            "port": ("port", port),
            "processes": ("processes", processes),
            "quiet_s": ("quiet", quiet),
            "volumes": ("volumes", volumes),
            "http_port": ("http_port", http_port),
            "webhook": ("webhook", webhook),
            "log_format": ("log_format", log_format),
        }
        changed: dict[str, Any] = {
            key: _PARSERS[key](value, name, "the receiver")
            for key, (name, value) in given.items()
            if value is not None
        }
        if peers is not None:
            changed["peers"] = Peers.of(peers)
        if tls is not None:
            changed["tls"] = tls
        return dataclasses.replace(self, **changed)

    @property
    def conflict_status(self) -> int:
        """The status of a C-STORE-RSP for an object that is kept beside another one of its UID."""
        return _CONFLICT_STATUS[self.conflict]

    def checked(self, *, open_to_all: bool = False) -> ReceiverConfig:
        """These settings, unless they would open the lake to strangers. Raises SettingsError.

        open_to_all: that this is meant.
        """
        if self.peers.anybody and not is_loopback(self.host) and not open_to_all:
            raise SettingsError(
                f"everybody who reaches {self.host} could store into the lake: list the peers, or listen on "
                "127.0.0.1, or say that it is meant with --open-to-all"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    address = address_of(host)
    return host == "localhost" if address is None else address.is_loopback


def _titles(value: object, key: str, where: str) -> tuple[str, ...]:
    titles = [value] if isinstance(value, str) else value
    if not isinstance(titles, list) or not titles:
        raise SettingsError(f'{where}: `{key}` must be a list of AE titles, like ["DICOMLAKE"]')
    try:
        return tuple(dict.fromkeys(read_title(title) for title in titles))
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def _host(value: object, key: str, where: str) -> str:
    if not isinstance(value, str) or not value or any(c.isspace() for c in value):
        raise SettingsError(f'{where}: `{key}` must be an address or a host name, like "127.0.0.1"')
    return value


def _port(value: object, key: str, where: str) -> int:
    return toml.whole(value, key, where, most=65535)


def _processes(value: object, key: str, where: str) -> int:
    return toml.whole(value, key, where, least=1, most=64)


def _conflict(value: object, key: str, where: str) -> str:
    return toml.one_of(value, key, where, get_args(Conflict))


def _log_format(value: object, key: str, where: str) -> str:
    return toml.one_of(value, key, where, get_args(LogFormat))


def webhook_url(value: object, key: str = "webhook", where: str = "the webhook") -> str:
    """A URL that may be kept in a file. Raises SettingsError for what is none, or holds a password."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        known, secret = parts.scheme in ("http", "https") and bool(parts.hostname), parts.password is not None
    except ValueError:
        known = secret = False
    if not known:
        raise SettingsError(f"{where}: `{key}` must be a URL that begins with http:// or https://")
    if secret:
        raise SettingsError(
            f"{where}: the URL of `{key}` holds a password, and this file is no place for one"
        )
    return str(value)


_TABLES = ("lake", "receiver", "peer")
_FILES = frozenset({"webhook_secret", "http_tokens"})


def _events(value: object, key: str, where: str) -> tuple[str, ...]:
    return tuple(toml.texts(value, key, where))


_PARSERS: Mapping[str, Callable[[object, str, str], object]] = {
    "ae_titles": _titles,
    "host": _host,
    "port": _port,
    "processes": _processes,
    "conflict": _conflict,
    "quiet_s": toml.seconds,
    "drain_s": toml.seconds,
    "volumes": toml.flag,
    "webhook": webhook_url,
    "webhook_events": _events,
    "http_port": _port,
    "log_format": _log_format,
}


def _limits(table: object, where: str) -> Limits:
    """The limits that a table changes."""
    if not isinstance(table, dict):
        raise SettingsError(f"{where} must be a table")
    defaults = {one.name: one.default for one in dataclasses.fields(Limits)}
    toml.refuse_unknown(table, defaults, where)
    found: dict[str, Any] = {
        key: toml.seconds(value, key, where)
        if isinstance(defaults[key], float)
        else toml.whole(value, key, where, least=1)
        for key, value in table.items()
    }
    return Limits(**found)


_TLS = ("certificate", "key", "authorities", "clients", "password")


def _tls(table: object, where: str, folder: Path) -> TlsFiles:
    """The files that a table names; whether they can be used shows when they are."""
    if not isinstance(table, dict):
        raise SettingsError(f"{where} must be a table")
    toml.refuse_unknown(table, _TLS, where)
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key == "clients":
            found[key] = toml.flag(value, key, where)
        elif not isinstance(value, str) or not value or "\n" in value:
            raise SettingsError(f"{where}: `{key}` must be the path of a file")
        else:
            found[key] = folder / value
    if "certificate" not in found:
        raise SettingsError(f"{where}: `certificate` is missing: write the path of the file that holds it")
    return TlsFiles(**found)
