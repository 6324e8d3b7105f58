"""TLS for associations, by the profile of PS3.15 section B.12 (BCP 195, that is RFC 8996 and RFC 9325).

TLS 1.2 with the suites that RFC 9325 section 4.2 recommends, and TLS 1.3; no older version, no compression,
no renegotiation. A peer of today that follows the retired profiles of sections B.9 to B.11 meets it, too.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicomlake.errors import SettingsError

PROFILE = "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile"
SUITES = (
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
)
"""Of TLS 1.2, in OpenSSL's names: forward secrecy and authenticated encryption, as all of TLS 1.3 have."""
SOON_DAYS = 30


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates and keys lie; PEM files. The files hold the secrets, the settings only their paths.

    certificate: our own, followed by the authorities between it and the root.
    key: its private key; None when it stands in the same file.
    authorities: certificates of those who vouch for peers; without them nobody is asked for a certificate,
        and servers that we call are checked against those that the system trusts.
    clients: whether a peer that calls must show a certificate; None, the default, when authorities are given.
    password: a file with the password of the key, on its first line.
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    clients: bool | None = None
    password: Path | None = None

    @property
    def asks_clients(self) -> bool:
        """Whether a peer that calls must show a certificate."""
        return self.authorities is not None if self.clients is None else self.clients


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """The context of a receiver. Raises SettingsError that names the file, what is wrong, and the remedy."""
    if files.certificate is None:
        raise SettingsError("TLS needs a certificate: give its file with --tls-cert or in lake.toml")
    if files.asks_clients and files.authorities is None:
        raise SettingsError(
            "certificates of clients cannot be checked without authorities: give their file, with --tls-ca "
            "or as `authorities`"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    _present(context, files)
    if files.authorities is not None:
        _trust(context, files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED if files.asks_clients else ssl.CERT_NONE
    return context


def client_context(files: TlsFiles, *, check_name: bool = True) -> ssl.SSLContext:
    """The context to call peers with: they must show a certificate of one of the authorities.

    check_name: whether the certificate must be for the host that is called; modalities are often called by
    addresses that their certificates do not name.
    Raises SettingsError that names the file, what is wrong, and the remedy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = check_name
    if files.authorities is not None:
        _trust(context, files.authorities)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if files.certificate is not None:
        _present(context, files)
    return context


def expires(path: Path) -> datetime.datetime:
    """When the first certificate of a PEM file ends, UTC. Raises SettingsError."""
    return _validity(path)[1]


def expires_soon(files: TlsFiles, *, days: int = SOON_DAYS) -> list[str]:
    """A sentence for each certificate that ends within so many days."""
    limit = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    paths = [path for path in (files.certificate, files.authorities) if path is not None]
    return [f"{path} ends on {end:%Y-%m-%d}: renew it" for path in paths if (end := expires(path)) < limit]


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.set_ciphers(":".join(SUITES))


def _present(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Load our own certificate and its key."""
    certificate = files.certificate
    assert certificate is not None
    _in_force(certificate)
    key = files.key or certificate
    _readable(key, "key")
    try:
        context.load_cert_chain(certificate, key, password=lambda: _password(files, key))
    except ssl.SSLError as error:
        raise SettingsError(_why_not(error, certificate, key)) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"the key {key} cannot be used: write it as PEM, see `openssl pkey`") from error


def _why_not(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} is not that of {certificate}: give the two that were made together"
    if b"ENCRYPTED" in key.read_bytes():  # OpenSSL gives many reasons for a wrong password
        return f"the password of the key {key} is wrong: correct the file that `password` names"
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return f"{certificate} is too weak: make one with RSA of 2048 bits or more, or P-256, and SHA-256"
    return f"{key} holds no private key in PEM: give the one that was made with {certificate}"


def _password(files: TlsFiles, key: Path) -> str:
    """The password of a key. OpenSSL asks for it only when the key has one; it must not ask a terminal."""
    if files.password is None:
        raise SettingsError(
            f"the key {key} is protected by a password: name the file that holds it as `password` in "
            "[receiver.tls], or take the password off with `openssl pkey`"
        )
    _readable(files.password, "password")
    return files.password.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    """Load the certificates of those who vouch for peers."""
    _in_force(authorities, every=False)
    try:
        context.load_verify_locations(authorities)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(
            f"{authorities} holds no certificate in PEM: give those of the authorities"
        ) from error


def _readable(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
        raise SettingsError(
            f"the {what} {path} cannot be read by {user}: give it to the service's group and set mode 0640"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"the {what} {path} cannot be read: {error.strerror}: give a file that is there"
        ) from error


def _in_force(path: Path, *, every: bool = True) -> None:
    """Raise SettingsError unless the first certificate of a file, or with every=False any, holds now."""
    now = datetime.datetime.now(datetime.UTC)
    spans = list(_validities(path))
    if not every and any(start <= now < end for start, end in spans):
        return
    start, end = spans[0]
    if end <= now:
        raise SettingsError(f"the certificate {path} ended on {end:%Y-%m-%d}: renew it, and start again")
    if start > now:
        raise SettingsError(
            f"the certificate {path} begins only on {start:%Y-%m-%d %H:%M} UTC: set the clock, or wait"
        )


def _validity(path: Path) -> tuple[datetime.datetime, datetime.datetime]:
    return next(_validities(path))


_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def _validities(path: Path) -> Iterator[tuple[datetime.datetime, datetime.datetime]]:
    """From when until when each certificate of a PEM file holds."""
    text = _readable(path, "certificate").decode("ascii", "replace")
    parts = text.split(_BEGIN)[1:]
    if not parts:
        raise SettingsError(f"{path} holds no certificate in PEM: convert it with `openssl x509`")
    for part in parts:
        try:
            yield validity(ssl.PEM_cert_to_DER_cert(_BEGIN + part.partition(_END)[0] + _END))
        except (ValueError, IndexError, StopIteration) as error:
            raise SettingsError(f"{path} is damaged: write the certificate again") from error


def validity(certificate: bytes) -> tuple[datetime.datetime, datetime.datetime]:
    """From when until when a certificate in DER holds, UTC (RFC 5280 section 4.1).

    The ssl module tells that only of a peer's certificate. Raises ValueError, IndexError or StopIteration for
    what is none.
    """
    outer = next(_elements(certificate))[1]
    fields = [one for one in _elements(next(_elements(outer))[1]) if one[0] != 0xA0]  # but the version
    start, end = (_time(kind, value) for kind, value in _elements(fields[3][1]))
    return start, end


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER element in some bytes (X.690 section 8.1)."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count]), at + count
        yield tag, data[at : at + size]
        at += size


def _time(kind: int, value: bytes) -> datetime.datetime:
    text = value.decode("ascii")
    if kind == 0x17:  # UTCTime: two digits of the year, 50 and more are of the last century
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)
