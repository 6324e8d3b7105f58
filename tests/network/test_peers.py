"""The list of peers: default deny, who is found by title and address, and what is refused with a remedy."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom._validators import validate_ae

from dicomlake.errors import SettingsError
from dicomlake.network.peers import OPERATIONS, TO_STORE, Peer, Peers, address_of, ae_title, network_of


def nowhere(name: str) -> Sequence[str]:
    raise OSError(name)


def peers(*tables: dict[str, Any], resolve: Any = nowhere) -> Peers:
    return Peers.parse(list(tables), "lake.toml", resolve=resolve)


CT = {"ae_title": "CT1", "hosts": ["10.1.2.3"]}
ALL = {"ae_title": "*", "hosts": ["10.1.0.0/16"], "operations": ["echo"], "name": "ward"}


# ---- AE titles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "title"), [("CT1", "CT1"), (" CT 1  ", "CT 1"), ("a" * 16, "a" * 16), (" " * 9 + "X", "X")]
)
def test_padding_of_an_ae_title_does_not_count(text: str, title: str) -> None:
    assert ae_title(text) == title


@pytest.mark.parametrize("text", ["", "   ", "a" * 17, "A\\B", "A\nB", "A\x7f", "Röntgen", "\tCT", 7, None])
def test_what_is_no_ae_title_is_refused(text: object) -> None:
    with pytest.raises(SettingsError, match="is no AE title: write 1 to 16"):
        ae_title(text)


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=20))
def test_pynetdicom_finds_ae_titles_valid_that_are_taken(text: str) -> None:
    valid = bool(text.strip(" ")) and validate_ae(text.strip(" "))[0]
    try:
        taken = bool(ae_title(text))
    except SettingsError:
        taken = False
    assert taken == valid


# ---- finding ---------------------------------------------------------------------------------------------


def test_nobody_is_let_in_unless_listed() -> None:
    assert Peers().find("CT1", "127.0.0.1") is None
    assert Peers.of(None).find("CT1", "127.0.0.1") is None
    assert not Peers().knows("127.0.0.1")


def test_any_lets_everybody_echo_and_store_and_nothing_else() -> None:
    for host in ("127.0.0.1", "203.0.113.9", "2001:db8::1", "::ffff:10.0.0.1"):
        found = Peers.of("any").find("WHOEVER", host)
        assert found is not None
        assert found.operations == {"echo", "store"}
    assert Peers.any().anybody


def test_title_and_address_must_both_fit() -> None:
    known = peers(CT)
    assert known.find("CT1", "10.1.2.3") is known.entries[0]
    assert known.find("  CT1 ", "10.1.2.3") is known.entries[0]
    for title, host in (("CT2", "10.1.2.3"), ("ct1", "10.1.2.3"), ("CT1", "10.1.2.4"), ("CT1", "no address")):
        assert known.find(title, host) is None
    assert known.knows("10.1.2.3")
    assert not known.knows("10.1.2.4")


def test_an_entry_with_the_title_comes_before_one_for_all_titles() -> None:
    known = peers(ALL, CT)
    assert [getattr(known.find(t, "10.1.2.3"), "name", None) for t in ("CT1", "MR1")] == [
        "CT1@10.1.2.3",
        "ward",
    ]
    ward = known.find("MR1", "10.1.9.9")
    assert ward is not None
    assert ward.may("echo")
    assert not ward.may("store")


@pytest.mark.parametrize(
    ("written", "calls", "fits"),
    [
        ("10.1.2.3", "::ffff:10.1.2.3", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("::ffff:10.1.0.0/112", "10.1.2.3", True),
        ("::ffff:10.1.0.0/112", "10.2.2.3", False),
        ("10.1.2.3/16", "10.1.9.9", True),
        ("2001:db8::/32", "2001:db8:7::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("2001:db8::/32", "10.1.2.3", False),
        ("*", "2001:db8::1", True),
        ("*", "10.1.2.3", True),
    ],
)
def test_addresses_compare_as_addresses_however_they_are_written(
    written: str, calls: str, fits: bool
) -> None:
    assert (peers({"ae_title": "CT1", "hosts": written}).find("CT1", calls) is not None) == fits


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_a_mapped_network_holds_what_the_plain_one_holds(
    base: ipaddress.IPv4Address, prefix: int, host: ipaddress.IPv4Address
) -> None:
    plain, mapped = network_of(f"{base}/{prefix}"), network_of(f"::ffff:{base}/{96 + prefix}")
    assert plain is not None
    assert plain == mapped
    assert address_of(f"::ffff:{host}") == host


def test_a_host_name_stands_for_all_its_addresses() -> None:
    known = peers(
        {"ae_title": "CT1", "hosts": ["ct1.example.org"]},
        resolve={"ct1.example.org": ["10.1.2.3", "2001:db8::7", "10.1.2.3"]}.__getitem__,
    )
    assert len(known.entries[0].networks) == 2
    assert known.find("CT1", "2001:db8::7")
    assert known.find("CT1", "10.1.2.3")


def test_the_resolver_of_the_system_knows_localhost() -> None:
    known = Peers.parse([{"ae_title": "CT1", "hosts": ["localhost"]}], "lake.toml")
    assert known.find("CT1", "127.0.0.1") or known.find("CT1", "::1")


def test_who_can_be_called_is_found_by_title() -> None:
    known = peers(CT, {**CT, "name": "back", "address": "10.1.2.3:104", "tls": True})
    found = known.by_ae(" CT1 ")
    assert found is not None
    assert (found.address, found.tls) == (("10.1.2.3", 104), True)
    assert peers(CT).by_ae("CT1") is None
    assert Peers.any().by_ae("CT1") is None


def test_where_only_the_address_is_given_it_calls_from_there() -> None:
    known = peers({"ae_title": "WS", "address": "[2001:db8::7]:11112"})
    assert known.entries[0].address == ("2001:db8::7", 11112)
    assert known.find("WS", "2001:db8::7")


def test_an_entry_for_all_titles_from_everywhere_is_open_to_anybody() -> None:
    assert peers({"ae_title": "*", "hosts": ["0.0.0.0/0"]}).anybody
    assert not peers(ALL).anybody
    assert not peers({"ae_title": "CT1", "hosts": ["*"]}).anybody


# ---- reading ---------------------------------------------------------------------------------------------


def test_all_settings_of_an_entry_are_read() -> None:
    (found,) = peers(
        {
            "name": "CT in room 3",
            "ae_title": " CT1 ",
            "hosts": ["10.1.2.3"],
            "address": "ct1:104",
            "operations": ["store", "commit"],
            "tls": True,
            "quota_bytes": 5,
            "associations": 2,
            "remarks": "since 2024",
        }
    )
    assert found == Peer(
        name="CT in room 3",
        ae_title="CT1",
        networks=(ipaddress.ip_network("10.1.2.3"),),
        operations=frozenset({"store", "commit"}),
        address=("ct1", 104),
        tls=True,
        quota_bytes=5,
        associations=2,
        remarks="since 2024",
    )
    assert peers(CT).entries[0].operations == TO_STORE


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"hosts": ["10.1.2.3"]}, "peer 1: `ae_title` is missing"),
        ({"ae_title": "CT1"}, "`hosts` is missing: write the addresses it calls from"),
        ({**CT, "hosts": []}, "`hosts` is missing"),
        ({**CT, "ae_title": "A\\B"}, "peer 1: 'A.*is no AE title"),
        ({**CT, "operation": ["echo"]}, "`operation` is no setting: did you mean `operations`?"),
        ({**CT, "zzz": 1}, "`zzz` is no setting: there are address, ae_title"),
        ({**CT, "operations": ["stor"]}, "'stor' in `operations` is none: did you mean `store`?"),
        ({**CT, "operations": 3}, "`operations` must be a list of texts"),
        ({**CT, "hosts": ["10.1.2.3/33"]}, "'10.1.2.3/33' in `hosts` is no network"),
        ({**CT, "hosts": ["ct1/16"]}, "'ct1/16' in `hosts` is no network"),
        ({**CT, "hosts": ["ct9.example.org"]}, "'ct9.example.org' in `hosts` has no address"),
        ({**CT, "address": "ct1"}, "`address` must be like"),
        ({**CT, "address": "ct1:0"}, "`address` must be like"),
        ({**CT, "address": "2001:db8::7:104"}, "`address` must be like"),
        ({**CT, "tls": "yes"}, "`tls` must be true or false"),
        ({**CT, "quota_bytes": -1}, "`quota_bytes` must be a whole number of at least 0"),
        ({**CT, "associations": True}, "`associations` must be a whole number of at least 1"),
        ({**CT, "remarks": "a\nb"}, "`remarks` must be a text in quotes, on one line"),
    ],
)
def test_what_cannot_be_used_is_refused_with_place_and_remedy(table: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")) as refused:
        peers(table)
    assert str(refused.value).startswith("lake.toml, peer 1: ")


def test_peers_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "peers.toml"
    path.write_text('[[peer]]\nae_title = "CT1"\nhosts = "10.1.2.3"\n')
    assert Peers.of(path) == Peers.of(str(path)) == peers(CT)
    assert Peers.of(list(peers(CT))) == peers(CT)
    assert Peers.of(peers(CT)) == peers(CT)
    path.write_text("[receiver]\n")
    with pytest.raises(SettingsError, match=r"names no peer: write a table \[\[peer\]\]"):
        Peers.of(path)
    path.write_text("[peer]\n")
    with pytest.raises(SettingsError, match="names no peer:"):
        Peers.of(path)
    path.write_text('[peer]\nae_title = "CT1"\n')
    with pytest.raises(SettingsError, match=r"write \[\[peer\]\] above each"):
        Peers.of(path)
    path.write_text("[[peer]\n")
    with pytest.raises(SettingsError, match="is no TOML"):
        Peers.of(path)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        Peers.of(tmp_path / "gone.toml")


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"two peers are called 'CT1@10\.1\.2\.3'"):
        peers(CT, {**CT, "operations": ["find"]})


def test_every_operation_can_be_allowed() -> None:
    (found,) = peers({**CT, "operations": sorted(OPERATIONS)})
    assert found.operations == OPERATIONS
