"""TLS by PS3.15 section B.12: what is agreed, what is refused, and which file is to blame."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from dicomlake.errors import SettingsError
from dicomlake.network.limits import Limits
from dicomlake.network.peers import Peers
from dicomlake.network.plain import PlainServer
from dicomlake.network.server import Server
from dicomlake.network.tls import (
    SUITES,
    TlsFiles,
    client_context,
    expires,
    expires_soon,
    server_context,
    validity,
)
from tests.network.certificates import Authority, needs_openssl, openssl
from tests.network.collecting import Collecting, Noting
from tests.objects import dataset, dicom

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority.make(tmp_path_factory.mktemp("authority"))
    for name in ("lake", "scanner"):
        made.issue(name)
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority.make(tmp_path_factory.mktemp("stranger"), "stranger")
    made.issue("intruder")
    return made


def files(authority: Authority, name: str, **others: object) -> TlsFiles:
    given = {
        "certificate": authority.folder / f"{name}.pem",
        "key": authority.folder / f"{name}.key",
        "authorities": authority.certificate,
        **others,
    }
    return TlsFiles(**given)  # type: ignore[arg-type]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """Version and suite that the two agree on. Raises what the client or the server raises."""
    ours, theirs = socket.socketpair()
    failed: list[Exception] = []

    def serve() -> None:
        try:
            with server.wrap_socket(ours, server_side=True) as connection:
                connection.settimeout(10)
                connection.sendall(connection.recv(1))
        except (OSError, ssl.SSLError) as error:
            failed.append(error)
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        theirs.settimeout(10)
        with client.wrap_socket(theirs, server_hostname="localhost") as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            return str(connection.version()), str((connection.cipher() or [""])[0])
    finally:
        thread.join(10)
        theirs.close()
        if failed:
            raise failed[0]


# ---- what is agreed --------------------------------------------------------------------------------------


def test_both_ends_with_certificates_agree_on_tls_1_3(authority: Authority) -> None:
    version, suite = handshake(
        server_context(files(authority, "lake")), client_context(files(authority, "scanner"))
    )
    assert version == "TLSv1.3"
    assert suite.startswith("TLS_")


def test_a_peer_with_tls_1_2_gets_a_strong_suite(authority: Authority) -> None:
    client = client_context(files(authority, "scanner"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    version, suite = handshake(server_context(files(authority, "lake")), client)
    assert version == "TLSv1.2"
    assert suite in SUITES


def test_only_suites_with_forward_secrecy_and_authenticated_encryption_are_offered(
    authority: Authority,
) -> None:
    for context in (server_context(files(authority, "lake")), client_context(files(authority, "lake"))):
        offered = {suite["name"]: suite for suite in context.get_ciphers()}
        old = {name for name, suite in offered.items() if suite["protocol"] != "TLSv1.3"}
        assert old == set(SUITES)
        assert all(suite["aead"] for suite in offered.values())
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("version", "suites"), [("TLSv1_1", "ALL:@SECLEVEL=0"), ("TLSv1_2", "AES128-GCM-SHA256:AES256-SHA")]
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_and_weak_suites_are_turned_away(
    version: str, suites: str, authority: Authority
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(authority.certificate)
    client.load_cert_chain(authority.folder / "scanner.pem", authority.folder / "scanner.key")
    client.set_ciphers(suites)
    client.minimum_version = getattr(ssl.TLSVersion, "TLSv1" if version == "TLSv1_1" else version)
    client.maximum_version = getattr(ssl.TLSVersion, version)
    with pytest.raises(ssl.SSLError):
        handshake(server_context(files(authority, "lake")), client)


def test_a_client_without_a_certificate_is_turned_away_where_authorities_are_given(
    authority: Authority,
) -> None:
    bare = client_context(TlsFiles(authorities=authority.certificate))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_context(files(authority, "lake")), bare)
    handshake(server_context(files(authority, "lake", clients=False)), bare)
    handshake(server_context(files(authority, "lake", authorities=None)), bare)


def test_a_certificate_of_another_authority_is_turned_away_by_either_end(
    authority: Authority, stranger: Authority
) -> None:
    intruder = files(stranger, "intruder", authorities=authority.certificate)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_context(files(authority, "lake")), client_context(intruder))
    impostor = server_context(files(stranger, "intruder"))
    with pytest.raises(ssl.SSLError):
        handshake(impostor, client_context(files(authority, "scanner")))


def test_the_name_of_a_peer_is_checked_unless_told_otherwise(authority: Authority) -> None:
    assert client_context(files(authority, "scanner")).check_hostname
    loose = client_context(files(authority, "scanner"), check_name=False)
    assert not loose.check_hostname
    assert loose.verify_mode == ssl.CERT_REQUIRED


# ---- which file is to blame ------------------------------------------------------------------------------


def refused(given: TlsFiles) -> str:
    with pytest.raises(SettingsError) as error:
        server_context(given)
    return str(error.value)


def test_what_is_missing_is_named(authority: Authority, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    assert "TLS needs a certificate" in refused(TlsFiles())
    assert f"the certificate {gone} cannot be read: No such file" in refused(TlsFiles(certificate=gone))
    assert f"the key {gone} cannot be read" in refused(files(authority, "lake", key=gone))
    assert f"the certificate {gone} cannot be read" in refused(files(authority, "lake", authorities=gone))
    assert "--tls-ca" in refused(files(authority, "lake", authorities=None, clients=True))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_key_that_this_user_may_not_read_is_named(authority: Authority, tmp_path: Path) -> None:
    key = Path(shutil.copy(authority.folder / "lake.key", tmp_path))
    key.chmod(0)
    assert "set mode 0640" in refused(files(authority, "lake", key=key))


def test_what_is_no_certificate_is_named(authority: Authority, tmp_path: Path) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_bytes(b"\xff\0 no PEM")
    assert f"{odd} holds no certificate in PEM" in refused(files(authority, "lake", certificate=odd))
    assert f"{odd} holds no private key in PEM" in refused(files(authority, "lake", key=odd))
    odd.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert f"{odd} is damaged" in refused(files(authority, "lake", certificate=odd))


def test_the_key_of_another_certificate_is_named(authority: Authority) -> None:
    other = authority.folder / "scanner.key"
    assert f"the key {other} is not that of" in refused(files(authority, "lake", key=other))


def test_a_certificate_that_has_ended_is_named_with_its_day(authority: Authority) -> None:
    certificate, key = authority.issue("old", days=-1)
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    words = refused(files(authority, "lake", certificate=certificate, key=key))
    assert words == f"the certificate {certificate} ended on {yesterday:%Y-%m-%d}: renew it, and start again"


def test_a_password_is_read_from_its_file(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("locked", password="hush-hush")
    password = tmp_path / "password"
    password.write_text("hush-hush\n")
    given = {"certificate": certificate, "key": key}
    server_context(files(authority, "lake", password=password, **given))
    assert "is protected by a password" in refused(files(authority, "lake", **given))
    password.write_text("hush\n")
    words = refused(files(authority, "lake", password=password, **given))
    assert "the password of the key" in words
    assert "hush" not in words


def test_validity_is_what_openssl_says(authority: Authority) -> None:
    path = authority.folder / "lake.pem"
    said = dict(line.split("=", 1) for line in openssl("x509", "-in", path, "-noout", "-dates").splitlines())
    start, end = validity(ssl.PEM_cert_to_DER_cert(path.read_text()))
    assert [start, end] == [
        datetime.datetime.strptime(said[key], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=datetime.UTC)
        for key in ("notBefore", "notAfter")
    ]
    assert expires(path) == end


def test_a_certificate_that_ends_soon_is_told_in_time(authority: Authority) -> None:
    given = files(authority, "lake")
    assert [line.split(" ends on ")[0] for line in expires_soon(given)] == [
        str(given.certificate),
        str(given.authorities),
    ]
    assert expires_soon(given, days=1) == []


# ---- over the wire ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Server, PlainServer])
def test_objects_come_over_tls_and_plain_text_does_not(
    kind: type[Server] | type[PlainServer], authority: Authority, tmp_path: Path
) -> None:
    sink, watcher = Collecting(), Noting()
    server = kind(
        *(sink, (), Peers.any(), Limits(request_s=2)),
        ae_titles=("LAKE",),
        tls=server_context(files(authority, "lake")),
        watcher=watcher,
    )
    server.start()
    try:
        entity = AE("SCANNER")
        entity.add_requested_context(CTImageStorage)
        context = client_context(files(authority, "scanner"))
        association = entity.associate(
            "127.0.0.1", server.port, ae_title="LAKE", tls_args=(context, "localhost")
        )
        assert association.send_c_store(dataset(1)).Status == 0
        association.release()
        with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
            plain.sendall(b"\1\0\0\0\0\4abcd")
            with suppress(ConnectionResetError):
                assert plain.recv(1000)[:1] in (b"", b"\x15")  # a TLS alert at most
        if shutil.which("storescu"):
            (tmp_path / "2.dcm").write_bytes(dicom(2))
            _by_storescu(authority, server.port, tmp_path / "2.dcm")
    finally:
        server.stop(1)
    assert len(sink.received) == (2 if shutil.which("storescu") else 1)
    assert [event[0] for event in watcher.events if event[0] == "refused"] == ["refused"]


def _by_storescu(authority: Authority, port: int, path: Path) -> None:
    folder = authority.folder
    command = ["storescu", "-aec", "LAKE", "+tls", str(folder / "scanner.key"), str(folder / "scanner.pem")]
    command += ["+cf", str(authority.certificate), "127.0.0.1", str(port), str(path)]
    subprocess.run(command, check=True, timeout=60)
