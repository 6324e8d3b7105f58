"""Who may do what: nobody may do anything that the list of peers does not allow."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from dicomlake.errors import SettingsError
from dicomlake.network import toml
from dicomlake.network.seams import Operation

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

OPERATIONS: frozenset[Operation] = frozenset(get_args(Operation))
TO_STORE: frozenset[Operation] = frozenset({"echo", "store"})
ANYWHERE: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
ANY_TITLE = "*"


def ae_title(text: object) -> str:
    """An AE title without the padding that does not count (VR AE, PS3.5 section 6.2).

    Raises SettingsError for what is empty, has more than 16 characters, a backslash, a control character or
    one outside ASCII. Upper and lower case stay what they are: titles that differ in it are two titles.
    """
    title = text.strip(" ") if isinstance(text, str) else ""
    if not title or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise SettingsError(
            f"{text!r} is no AE title: write 1 to 16 ASCII characters, no backslash, no control character"
        )
    return title


@dataclass(frozen=True, slots=True)
class Peer:
    """One entry of the list of peers.

    name: by which logs and the catalog call it.
    ae_title: its own AE title, as it calls itself; "*" for every title.
    networks: the addresses that it may call from.
    operations: what it may do.
    address: host and port to call it at, for commitment reports and C-MOVE; None for never.
    tls: whether these associations use TLS.
    quota_bytes: how much it may still add, while this receiver runs; None for as much as there is room for.
    associations: that it may have open at once; None for as many as the limits of the receiver allow.
    remarks: for people.
    """

    name: str
    ae_title: str = ANY_TITLE
    networks: tuple[Network, ...] = ()
    operations: frozenset[Operation] = TO_STORE
    address: tuple[str, int] | None = None
    tls: bool = False
    quota_bytes: int | None = None
    associations: int | None = None
    remarks: str = ""

    def may(self, operation: Operation) -> bool:
        """Whether it is allowed to do this."""
        return operation in self.operations

    def is_at(self, host: Address) -> bool:
        """Whether it may call from an address."""
        return any(host in network for network in self.networks if network.version == host.version)


PeersSource: TypeAlias = "Literal['any'] | Peers | str | Path | Iterable[Peer] | None"
"""What `Peers.of` makes a list of."""


@dataclass(frozen=True, slots=True)
class Peers:
    """A list of peers; who is not on it is turned away."""

    entries: tuple[Peer, ...] = ()

    @classmethod
    def any(cls) -> Peers:
        """Everybody may verify (C-ECHO) and store (C-STORE), and nothing else."""
        return cls((Peer("any", networks=ANYWHERE),))

    @classmethod
    def of(cls, source: PeersSource) -> Peers:
        """The peers of a TOML file with `[[peer]]` tables, or of a sequence; "any" is everybody, None nobody.

        Raises SettingsError for a file that cannot be read and for an entry that cannot be used.
        """
        if source is None:
            return cls()
        if isinstance(source, Peers):
            return source
        if source == "any":
            return cls.any()
        if isinstance(source, str | Path):
            return cls.read(Path(source))
        entries = tuple(source)
        if not all(isinstance(entry, Peer) for entry in entries):
            raise SettingsError('peers are `Peer(name, ae_title=…, networks=…)`, a TOML file, or "any"')
        return cls(entries)._checked()

    @classmethod
    def read(cls, path: Path) -> Peers:
        """The peers of a TOML file. Raises SettingsError."""
        tables = toml.read(path).get("peer", [])
        if not tables:
            raise SettingsError(
                f"{path} names no peer: write a table [[peer]] for each, with ae_title and hosts"
            )
        return cls.parse(tables, str(path))

    @classmethod
    def parse(cls, tables: object, origin: str, *, resolve: Resolve | None = None) -> Peers:
        """The peers of the `[[peer]]` tables of a file that is called `origin` in errors.

        resolve: gives the addresses of a host name; the system's resolver unless given.
        """
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise SettingsError(f"{origin}: peers are tables of their own: write [[peer]] above each")
        found = (
            _peer(table, f"{origin}, peer {n}", resolve or _resolve) for n, table in enumerate(tables, 1)
        )
        return cls(tuple(found))._checked()

    def find(self, calling: str, host: str) -> Peer | None:
        """The entry that lets in who calls itself `calling` from the IP address `host`; None for nobody.

        Entries that name the AE title come before those for every title; among these the first one counts.
        """
        address, title = address_of(host), calling.strip(" ")
        if address is None:
            return None
        here = [peer for peer in self.entries if peer.is_at(address)]
        exact = (peer for peer in here if peer.ae_title == title)
        return next(exact, next((peer for peer in here if peer.ae_title == ANY_TITLE), None))

    def why_not(self, calling: str, host: str) -> str:
        """Why `find` gives nobody, in few words of a fixed choice: they are counted and logged."""
        title = calling.strip(" ")
        if any(peer.ae_title == title for peer in self.entries):
            return "unknown peer: its AE title is listed for other addresses"
        if any(peer.ae_title.casefold() == title.casefold() for peer in self.entries):
            return "unknown peer: its AE title is listed in other upper and lower case"
        return "unknown peer" if self.knows(host) else "unknown peer: neither title nor address are listed"

    def knows(self, host: str) -> bool:
        """Whether any peer may call from an address: who may not is turned away before he says a word."""
        address = address_of(host)
        return address is not None and any(peer.is_at(address) for peer in self.entries)

    def by_ae(self, title: str) -> Peer | None:
        """The entry of an AE title that associations can be opened to; None when there is none."""
        wanted = title.strip(" ")
        return next((peer for peer in self.entries if peer.ae_title == wanted and peer.address), None)

    @property
    def anybody(self) -> bool:
        """Whether somebody unknown is let in: every AE title from every address."""
        return any(
            peer.ae_title == ANY_TITLE and any(network.prefixlen == 0 for network in peer.networks)
            for peer in self.entries
        )

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Peer]:
        """The entries, in their order."""
        return iter(self.entries)

    def _checked(self) -> Peers:
        names = [peer.name for peer in self.entries]
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(f"two peers are called {name!r}: give each a `name` of its own")
        return self


Resolve: TypeAlias = Callable[[str], Sequence[str]]


def _resolve(name: str) -> Sequence[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def address_of(host: str) -> Address | None:
    """The IP address that a text is, IPv4 mapped into IPv6 as IPv4, without a zone; None for no address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def network_of(text: str) -> Network | None:
    """The network that a text is, or the address alone; None for a name. Raises ValueError for a bad mask."""
    address, slash, _mask = text.partition("/")
    found = address_of(address)
    if found is None:
        return None
    if not slash:
        return ipaddress.ip_network(found)
    original = ipaddress.ip_network(text, strict=False)
    if original.version == 6 and found.version == 4:  # ::ffff:10.0.0.0/104
        return ipaddress.ip_network(f"{found}/{max(0, original.prefixlen - 96)}", strict=False)
    return original


def host_and_port(value: object, where: str) -> tuple[str, int]:
    """Host and port of a text like `ct1.example.org:11112` or `[2001:db8::7]:11112`. Raises SettingsError."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    wrong = not bare or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536
    if wrong or (":" in bare and bare == host):
        raise SettingsError(
            f'{where}: `address` must be like "ct1.example.org:11112" or "[2001:db8::7]:11112"'
        )
    return bare, int(port)


_KEYS = (
    *("name", "ae_title", "hosts", "operations", "address", "tls"),
    *("quota_bytes", "associations", "remarks"),
)


def _peer(table: Mapping[str, Any], where: str, resolve: Resolve) -> Peer:
    """The entry that a `[[peer]]` table describes."""
    toml.refuse_unknown(table, _KEYS, where)
    if "ae_title" not in table:
        raise SettingsError(
            f'{where}: `ae_title` is missing: write the title it calls itself, or "*" for all'
        )
    title = ANY_TITLE if table["ae_title"] == ANY_TITLE else _title(table["ae_title"], where)
    address = host_and_port(table["address"], where) if "address" in table else None
    hosts = toml.texts(table.get("hosts", [address[0]] if address else []), "hosts", where)
    if not hosts:
        raise SettingsError(
            f'{where}: `hosts` is missing: write the addresses it calls from, like ["10.1.2.3", '
            '"10.2.0.0/16"], or ["*"] for all'
        )
    return Peer(
        name=toml.text(table.get("name", ""), "name", where) or f"{title}@{hosts[0]}",
        ae_title=title,
        networks=tuple(network for host in hosts for network in _networks(host, where, resolve)),
        operations=_operations(table.get("operations", sorted(TO_STORE)), where),
        address=address,
        tls=toml.flag(table.get("tls", False), "tls", where),
        quota_bytes=_optional(table, "quota_bytes", where, 0),
        associations=_optional(table, "associations", where, 1),
        remarks=toml.text(table.get("remarks", ""), "remarks", where),
    )


def _title(value: object, where: str) -> str:
    try:
        return ae_title(value)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def _networks(host: str, where: str, resolve: Resolve) -> Sequence[Network]:
    """What an entry of `hosts` stands for; a name for the addresses that it has now."""
    if host == "*":
        return ANYWHERE
    try:
        network = network_of(host)
    except ValueError:
        raise SettingsError(
            f"{where}: {host!r} in `hosts` is no network: write it like 10.2.0.0/16"
        ) from None
    if network is not None:
        return (network,)
    if "/" in host:
        raise SettingsError(f"{where}: {host!r} in `hosts` is no network: write it like 10.2.0.0/16")
    try:
        found = [address for text in resolve(host) if (address := address_of(text))]
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise SettingsError(
            f"{where}: the host {host!r} in `hosts` has no address: correct the name, or write the IP "
            "address, which needs no name server"
        )
    return tuple(ipaddress.ip_network(address) for address in dict.fromkeys(found))


def _operations(value: object, where: str) -> frozenset[Operation]:
    wanted = toml.texts(value, "operations", where)
    for one in wanted:
        if one not in OPERATIONS:
            raise SettingsError(f"{where}: {one!r} in `operations` is none: {toml.nearest(one, OPERATIONS)}")
    return frozenset(one for one in OPERATIONS if one in wanted)


def _optional(table: Mapping[str, object], key: str, where: str, least: int) -> int | None:
    return toml.whole(table[key], key, where, least=least) if key in table else None
