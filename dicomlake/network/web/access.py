"""Who may use the HTTP side: holders of a token or of a certificate; without either, only this computer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomlake.errors import SettingsError

LEAST = 20  # characters of a token
_LINE = re.compile(r"([\w.-]{1,64})[ \t]+([!-~]+)")
_HERE = ("localhost", "127.0.0.1", "[::1]")


class Tokens:
    """Bearer tokens (RFC 6750) from a file, one a line: a name that is shown, white space, the token.

    The file is read again when it changes; while it is not as it must be, nobody is let in. Only hashes of
    the tokens are held.
    """

    def __init__(self, path: Path) -> None:
        """Raises SettingsError that names the file, what is wrong and the remedy."""
        self._path = path
        self._seen, self._names = _read(path)

    def name_of(self, token: str) -> str | None:
        """The name that goes with a token; None for no such token."""
        given = _digest(token)
        found = None
        for digest, name in self._now().items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, given):
                found = name
        return found

    def _now(self) -> Mapping[bytes, str]:
        try:
            if _state(os.stat(self._path)) != self._seen:
                self._seen, self._names = _read(self._path)
        except (OSError, SettingsError):
            return {}
        return self._names

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._names)}>"


@dataclass(frozen=True, slots=True)
class Access:
    """Decides who is let in. tokens: None when there are none."""

    tokens: Tokens | None = None

    def name_of(self, scope: Mapping[str, Any]) -> str | None:
        """What lets a request in, for the catalog: the name of its token, "certificate" or "loopback".

        None when nothing does. A client certificate counts where the TLS layer has verified it.
        """
        if scope.get("state", {}).get("certificate"):
            return "certificate"
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self.tokens is not None:
            scheme, _blank, token = headers.get(b"authorization", "").partition(" ")
            return self.tokens.name_of(token.strip()) if scheme.lower() == "bearer" else None
        return "loopback" if _is_here(scope, headers) else None


def _is_here(scope: Mapping[str, Any], headers: Mapping[bytes, str]) -> bool:
    """Whether a request stays on this computer: not handed on by a proxy, nor by a name that points here."""
    ends = scope.get("server"), scope.get("client")
    if not all(end and _is_loopback(end[0]) for end in ends):
        return False
    if any(name in headers for name in (b"forwarded", b"x-forwarded-for", b"via")):
        return False
    return re.sub(r":\d+$", "", headers.get(b"host", "").lower()) in _HERE


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _read(path: Path) -> tuple[tuple[int, ...], Mapping[bytes, str]]:
    try:
        with open(path, encoding="ascii") as file:
            found = os.fstat(file.fileno())
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the tokens cannot be read ({type(error).__name__})") from None
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        raise SettingsError(f"{path}: others can read the tokens: chmod 600 {path}")
    names: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or len(match[2]) < LEAST:
            raise SettingsError(
                f"{path}, line {number}: write a name, a space and a token of {LEAST} characters or more, "
                "such as `openssl rand -hex 32` makes"
            )
        names[_digest(match[2])] = match[1]
    if not names:
        raise SettingsError(f"{path}: holds no token; write a name, a space and a token on a line")
    return _state(found), names
