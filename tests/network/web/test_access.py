"""Who is let in over HTTP: holders of a token or a certificate; without either, only this computer."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

import httpx
import pytest

from dicomlake.errors import SettingsError
from dicomlake.network.web.access import Access, Tokens
from tests.network.certificates import Authority, needs_openssl
from tests.network.web.bodies import STUDIES, TYPE, multipart, served, uid_of
from tests.objects import dicom

SECRET, OTHER = "s3cret-" + "0" * 32, "another-" + "1" * 32


def tokens_file(
    folder: Path, text: str = f"# who may come\nct-one {SECRET}\nmr {OTHER}\n", mode: int = 0o600
) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


def scope(server: str = "127.0.0.1", client: str = "127.0.0.1", **headers: str) -> dict[str, object]:
    sent = {"host": f"{server}:8080"} | headers
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return {"server": (server, 8080), "client": (client, 5000), "headers": pairs}


def test_with_tokens_only_their_holders_store_and_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = Tokens(tokens_file(tmp_path))
    with served(tokens=tokens, metrics=lambda: b"up 1\n", status=lambda: {"a": 1}) as lake:
        body = multipart(dicom(1))
        for wrong in ({}, {"authorization": "Bearer " + "0" * 39}, {"authorization": f"Basic {SECRET}"}):
            response = lake.post(body, **wrong)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert lake.client.get("/metrics", headers=wrong).status_code == 401
            assert lake.client.get("/status", headers=wrong).status_code == 401
        assert lake.sink.received == {}
        assert lake.post(body, authorization=f"Bearer {SECRET}").status_code == 200
        assert lake.sink.received[uid_of(dicom(1))][0].sender.peer == "ct-one"
        asked = lake.client.get("/metrics", headers={"authorization": f"bearer {OTHER}"})
        assert (asked.status_code, asked.content) == (200, b"up 1\n")
        assert lake.client.get("/healthz").status_code == 200
        assert ("refused", "STOW-RS", "no valid token") in lake.watcher.events
    assert SECRET not in caplog.text + repr(tokens) + repr(vars(tokens))


def test_a_token_taken_out_of_the_file_lets_nobody_in_any_more(tmp_path: Path) -> None:
    tokens = Tokens(tokens_file(tmp_path))
    assert (tokens.name_of(SECRET), tokens.name_of(OTHER)) == ("ct-one", "mr")
    tokens_file(tmp_path, f"mr {OTHER}\n")
    assert (tokens.name_of(SECRET), tokens.name_of(OTHER)) == (None, "mr")
    (tmp_path / "tokens").chmod(0o644)
    assert tokens.name_of(OTHER) is None
    os.unlink(tmp_path / "tokens")
    assert tokens.name_of(OTHER) is None


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (f"ct {SECRET}\n", 0o640, "chmod 600"),
        (f"ct {SECRET}\n", 0o604, "chmod 600"),
        ("", 0o600, "no token"),
        ("ct short\n", 0o600, "line 1"),
        (f"{SECRET}\n", 0o600, "line 1"),
        (f"ct {SECRET} more\n", 0o600, "line 1"),
    ],
)
def test_a_file_of_tokens_that_is_not_as_it_must_be_is_refused_without_telling_them(
    tmp_path: Path, text: str, mode: int, says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        Tokens(tokens_file(tmp_path, text, mode))
    assert SECRET not in str(caught.value)


def test_no_file_of_tokens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        Tokens(tmp_path / "absent")


@pytest.mark.parametrize(
    ("asked", "let_in"),
    [
        (scope(), True),
        (scope("::1", "::1", host="[::1]:8080"), True),
        (scope(host="localhost:8080"), True),
        (scope("10.0.0.1", "10.0.0.2"), False),
        (scope("10.0.0.1", "10.0.0.1"), False),
        (scope(host="rebound.example:8080"), False),  # a page in a browser, by a name that points here
        (scope(x_forwarded_for="10.0.0.9"), False),  # a proxy on this computer
        (scope(forwarded="for=10.0.0.9"), False),
    ],
)
def test_without_tokens_only_this_computer_is_let_in(asked: dict[str, object], let_in: bool) -> None:
    assert (Access().name_of(asked) == "loopback") is let_in


def test_a_receiver_that_others_can_reach_lets_nobody_in_without_tokens() -> None:
    with served(server={"host": "0.0.0.0"}) as lake:
        asked = lake.post(multipart(dicom(1)), host="receiver.example")
        assert asked.status_code == 401
        assert lake.sink.received == {}


@needs_openssl
def test_a_client_certificate_that_tls_verified_lets_in(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    certificate, key = authority.issue("localhost")
    mine, my_key = authority.issue("client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    trusting.check_hostname = False
    tokens = Tokens(tokens_file(tmp_path))
    with served(tokens=tokens, server={"tls": context}) as lake:
        url = f"https://127.0.0.1:{lake.server.port}{STUDIES}"
        ask = {"content": multipart(dicom(1)), "headers": {"content-type": TYPE}}
        with httpx.Client(verify=trusting, trust_env=False) as stranger, pytest.raises(httpx.TransportError):
            stranger.post(url, **ask)
        trusting.load_cert_chain(mine, my_key)
        with httpx.Client(verify=trusting, trust_env=False) as client:
            assert client.post(url, **ask).status_code == 200
        assert lake.sink.received[uid_of(dicom(1))][0].sender.peer == "certificate"
