"""The settings of a receiver: defaults, what is read, what is refused."""

from __future__ import annotations

import configparser
import dataclasses
import inspect
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

import dicomlake
from dicomlake.cli.listen import command
from dicomlake.errors import SettingsError
from dicomlake.network.config import ReceiverConfig, is_loopback
from dicomlake.network.limits import Limits
from dicomlake.network.peers import _KEYS, Peers
from dicomlake.network.tls import TlsFiles
from tests.support import PROJECT

FULL = """
[receiver]
ae_titles = ["LAKE", " ARCHIVE "]
host = "::"
port = 104
processes = 4
conflict = "warning"
quiet_s = 60
drain_s = 5.5
volumes = false
webhook = "https://example.org/hook?of=lake"
webhook_secret = "hook.secret"
webhook_events = ["series_ready"]
http_port = 8042
http_tokens = "tokens"
log_format = "json"

[receiver.limits]
associations = 20
stall_s = 5

[receiver.tls]
certificate = "tls/lake.pem"
key = "/etc/ssl/lake.key"
authorities = "tls/hospital.pem"
clients = false

[[peer]]
ae_title = "CT1"
hosts = ["10.1.2.3"]
"""


def parse(text: str) -> ReceiverConfig:
    return ReceiverConfig.of(tomllib.loads(text), "lake.toml", Path("lake"))


def test_without_settings_it_listens_to_nobody_on_this_machine() -> None:
    found = parse("[lake]\nformat = 1\n")
    assert found == ReceiverConfig()
    assert (found.ae_titles, found.host, found.port) == (("DICOMLAKE",), "127.0.0.1", 11112)
    assert found.peers == Peers()
    assert found.conflict_status == 0


def test_all_settings_are_read() -> None:
    found = parse(FULL)
    assert found == ReceiverConfig(
        ae_titles=("LAKE", "ARCHIVE"),
        host="::",
        port=104,
        processes=4,
        conflict="warning",
        quiet_s=60.0,
        drain_s=5.5,
        volumes=False,
        peers=found.peers,
        limits=Limits(associations=20, stall_s=5.0),
        tls=TlsFiles(
            certificate=Path("lake/tls/lake.pem"),
            key=Path("/etc/ssl/lake.key"),
            authorities=Path("lake/tls/hospital.pem"),
            clients=False,
        ),
        webhook="https://example.org/hook?of=lake",
        webhook_secret=Path("lake/hook.secret"),
        webhook_events=("series_ready",),
        http_port=8042,
        http_tokens=Path("lake/tokens"),
        log_format="json",
    )
    assert [peer.ae_title for peer in found.peers] == ["CT1"]
    assert found.conflict_status == 0xB000


def test_the_full_example_has_every_setting() -> None:
    table = tomllib.loads(FULL)["receiver"]
    assert {one.name for one in dataclasses.fields(ReceiverConfig)} - {"peers"} == table.keys()


def test_a_lake_with_the_settings_of_a_receiver_still_opens(tmp_path: Path) -> None:
    dicomlake.open(tmp_path / "lake", create=True).close()
    path = tmp_path / "lake" / "lake.toml"
    path.write_text(path.read_text() + FULL)
    with dicomlake.open(tmp_path / "lake") as lake:
        assert lake.counts()["instances"] == 0
    assert ReceiverConfig.read(path).ae_titles == ("LAKE", "ARCHIVE")


def test_one_title_may_be_written_alone() -> None:
    assert parse('[receiver]\nae_title = "LAKE"').ae_titles == ("LAKE",)
    with pytest.raises(SettingsError, match="not both"):
        parse('[receiver]\nae_title = "LAKE"\nae_titles = ["X"]')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prt = 104", "`prt` is no setting: did you mean `port`"),
        ("zzzzz = 1", "there are ae_title"),
        ("port = 65536", "`port` must be a whole number from 0 to 65535"),
        ('port = "104"', "`port` must be a whole number"),
        ("processes = 0", "`processes` must be a whole number from 1 to 64"),
        ('ae_titles = ["A\\\\B"]', "is no AE title"),
        ("ae_titles = []", "must be a list of AE titles"),
        ("ae_titles = 4", "must be a list of AE titles"),
        ('host = ""', "`host` must be an address or a host name"),
        ('conflict = "keep"', "`conflict` must be one of 'success', 'warning', 'failure'"),
        ("quiet_s = -1", "`quiet_s` must be a number of seconds"),
        ("quiet_s = nan", "`quiet_s` must be a number of seconds"),
        ("quiet_s = true", "`quiet_s` must be a number of seconds"),
        ("volumes = 1", "`volumes` must be true or false"),
        ('webhook = "ftp://x"', "must be a URL that begins with http"),
        ('log_format = "xml"', "must be one of 'text', 'json'"),
        ("limits = 3", r"\[receiver.limits\] must be a table"),
        ("tls = 3", r"\[receiver.tls\] must be a table"),
        ("[receiver.limits]\nasociations = 3", "did you mean `associations`"),
        ("[receiver.limits]\nassociations = 0", "of at least 1"),
        ("[receiver.limits]\nassociations = 1.5", "of at least 1"),
        ("[receiver.tls]\ncert = 'x'", "did you mean `certificate`"),
        ("[receiver.tls]\nkey = 'x'", "`certificate` is missing"),
        ("[receiver.tls]\ncertificate = 3", "must be the path of a file"),
        ("[receiver.tls]\ncertificate = 'x'\nclients = 3", "must be true or false"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        parse(f"[receiver]\n{text}")
    assert str(refused.value).startswith("lake.toml, [receiver")


def test_a_receiver_that_is_no_table_is_refused() -> None:
    with pytest.raises(SettingsError, match="the receiver is a table"):
        parse("receiver = 3")


def test_a_password_in_the_webhook_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="is no place for one") as refused:
        parse('[receiver]\nwebhook = "https://me:hush@example.org/"')
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)),
        *(("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False), ("10.1.2.3", False)),
        ("lake.example.org", False),
    ],
)
def test_a_lake_is_opened_to_everybody_only_when_that_is_said(host: str, own: bool) -> None:
    assert is_loopback(host) == own
    config: dict[str, Any] = {"host": host, "peers": Peers.any()}
    if own:
        ReceiverConfig(**config).checked()
    else:
        with pytest.raises(SettingsError, match="--open-to-all"):
            ReceiverConfig(**config).checked()
    ReceiverConfig(**config).checked(open_to_all=True)
    ReceiverConfig(host=host).checked()


def test_what_is_given_in_a_call_wins_over_the_file(tmp_path: Path) -> None:
    config = parse(FULL)
    assert config.but() == config
    changed = config.but(ae_title="OTHER", port=0, quiet=1, volumes=True, peers="any", processes=1)
    assert (changed.ae_titles, changed.port, changed.quiet_s, changed.volumes) == (("OTHER",), 0, 1.0, True)
    assert changed.peers == Peers.any()
    assert changed.limits == config.limits
    assert config.but(ae_title=("A", "B")).ae_titles == ("A", "B")
    for wrong in ({"ae_title": "A" * 17}, {"port": -1}, {"webhook": "x"}, {"log_format": "xml"}):
        with pytest.raises(SettingsError, match="the receiver: "):
            config.but(**wrong)  # type: ignore[arg-type]


def test_a_folder_without_a_lake_has_the_defaults(tmp_path: Path) -> None:
    assert ReceiverConfig.of_lake(tmp_path) == ReceiverConfig()


# ---- what the how-to says --------------------------------------------------------------------------------

HOW_TO = (PROJECT / "docs/how-to/receive-from-a-scanner.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"^```toml\n(.*?)^```", HOW_TO, re.DOTALL | re.MULTILINE))
def test_the_settings_of_the_how_to_can_be_used(block: str) -> None:
    assert parse(block).checked() != ReceiverConfig()


def test_the_how_to_names_every_setting() -> None:
    settings = HOW_TO.split("## Settings")[1].split("## TLS")[0]
    named = set(re.findall(r"`([a-z_]+)`", settings))
    tables = {"peers": "[[peer]]", "limits": "[receiver.limits]", "tls": "[receiver.tls]"}
    fields = {one.name for one in dataclasses.fields(ReceiverConfig)}
    assert fields - tables.keys() <= named
    assert {one.name for one in dataclasses.fields(TlsFiles)} <= named
    assert all(f"{table}`" in HOW_TO or table in HOW_TO for table in tables.values())
    of_peers = HOW_TO.split("| of a peer | |")[1].split("## Settings")[0]
    assert set(_KEYS) <= set(re.findall(r"`([a-z_]+)`", of_peers))


def test_the_unit_of_systemd_starts_a_verb_that_there_is() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((PROJECT / "docs/examples/dicomlake-listen.service").read_text(encoding="utf-8"))
    service = unit["Service"]
    assert service["Type"] == "notify"
    words = shlex.split(service["ExecStart"])
    assert words[1] == "listen"
    options = {p.name.replace("_", "-") for p in inspect.signature(command).parameters.values()}
    assert [word for word in words if word.startswith("--") and word[2:] not in options] == []
    assert float(service["TimeoutStopSec"]) > ReceiverConfig().drain_s
