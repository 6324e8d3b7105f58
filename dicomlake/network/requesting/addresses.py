"""Where a peer is: AE@HOST:PORT, or the URL of a DICOMweb service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dicomlake.errors import AddressError

_FORM = "write it as AE@HOST:PORT, for example ORTHANC@pacs.example.org:4242"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True, slots=True)
class Address:
    """A peer that speaks DIMSE: its AE title, and where it listens."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """An address from AE@HOST:PORT; an IPv6 host is in brackets. Raises AddressError."""
        ae_title, at, place = text.rpartition("@")
        if not at:
            raise AddressError(f"the address {text!r} has no AE title: {_FORM}")
        host, colon, port = place.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise AddressError(f"the address {text!r} has no port: {_FORM}")
        if not 0 < int(port) < 65536:
            raise AddressError(f"the port of {text!r} is not between 1 and 65535: {_FORM}")
        return cls(checked_title(ae_title), _checked_host(host, text), int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


def checked_title(title: str) -> str:
    """An AE title without padding (PS3.5 section 6.2, AE). Raises AddressError for what is none."""
    found = title.strip(" ")
    if not found:
        raise AddressError(f"an AE title is missing: {_FORM}")
    if len(found) > 16:
        raise AddressError(f"the AE title {found!r} has {len(found)} characters: 16 are the most")
    if not found.isascii() or not found.isprintable() or "\\" in found:
        raise AddressError("an AE title holds other characters than ASCII, or a backslash: correct it")
    return found


def is_web(source: str) -> bool:
    """Whether a source is a URL of DICOMweb."""
    return source.lower().startswith(("http://", "https://"))


def web_root(url: str) -> str:
    """The root of a DICOMweb service without a slash at its end. Raises AddressError."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise AddressError("the URL names no host: write it as https://HOST/dicom-web")
    if parts.username is not None or parts.password is not None:
        raise AddressError("the URL holds a name or password: take it out and pass headers or a token")
    if parts.query or parts.fragment:
        raise AddressError("the URL has a query: write only the root, as https://HOST/dicom-web")
    return url.rstrip("/")


def _checked_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]") and _IPV6.fullmatch(host[1:-1]):
        return host[1:-1]
    if not _HOST.fullmatch(host):
        hint = "an IPv6 address is written in brackets" if ":" in host else _FORM
        raise AddressError(f"the host of {text!r} is none: {hint}")
    return host
