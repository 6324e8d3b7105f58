"""A server from start to stop: who is let in, how many, and what becomes of work under way."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicomlake.network.seams import Stored, StoreRequest
from dicomlake.network.server import Server
from tests.network import raw
from tests.network.raw import Peers, Raw, Sink, Watcher, serving


def rejected(server: Server, **how: bytes) -> tuple[int, ...]:
    with Raw(server.port) as peer:
        kind, body = peer.send(raw.proposal(raw.DEFAULT, **how)).pdu()  # type: ignore[arg-type]
        assert kind == 3, (kind, body)
        assert peer.pdu() == (0, b"")
        return tuple(body[1:])


def test_who_is_not_known_is_rejected_and_told_why() -> None:
    watcher = Watcher()
    peers = Peers({"TESTER": raw.Peer()})
    with serving(peers=peers, ae_titles=["LAKE"], watcher=watcher) as server:
        assert rejected(server, called=b"LAKE", calling=b"OTHER") == (1, 1, 3)
        assert rejected(server, called=b"SEA") == (1, 1, 7)
        assert rejected(server, called=b"LAKE", application=b"1.2") == (1, 1, 2)
        assert rejected(server, called=b"LAKE", version=2) == (1, 2, 2)  # type: ignore[arg-type]
        with Raw(server.port) as peer:
            peer.associate(called=b"LAKE")
            assert peer.send(raw.ECHO).status() == 0
    assert [how for what, how in watcher.events if what == "refused"] == [
        "unknown peer", "called AE title", "application context", "protocol version"
    ]  # fmt: skip


def test_more_associations_than_the_limit_are_told_to_come_later() -> None:
    with serving(limits=replace(raw.SMALL, associations=2)) as server, Raw(server.port) as one:
        one.associate()
        with Raw(server.port) as two:
            two.associate()
            assert server.associations == 2
            assert rejected(server) == (2, 3, 2)
        raw.until(lambda: server.associations == 1)
        with Raw(server.port) as three:
            three.associate()
            assert one.send(raw.ECHO).status() == three.send(raw.ECHO).status() == 0


def test_one_host_does_not_take_all_associations() -> None:
    with serving(limits=replace(raw.SMALL, associations_of_host=1)) as server, Raw(server.port) as one:
        one.associate()
        assert rejected(server) == (2, 3, 2)


def test_the_limit_of_a_peer_is_its_own() -> None:
    peers = Peers({"ONE": raw.Peer(name="one", associations=1), "TWO": raw.Peer(name="two")})
    with serving(peers=peers) as server, Raw(server.port) as one, Raw(server.port) as two:
        one.associate(calling=b"ONE")
        assert rejected(server, calling=b"ONE") == (2, 3, 2)
        two.associate(calling=b"TWO")


def test_half_open_connections_keep_nobody_out_and_end_in_time() -> None:
    watcher = Watcher()
    with serving(watcher=watcher) as server:
        silent = [Raw(server.port) for _ in range(40)]
        with Raw(server.port) as peer:
            peer.associate()
            assert peer.send(raw.store("1.2.3", b"abc")).status() == 0
            assert server.connections <= 18
        for one in silent:
            assert one.pdu()[0] in (0, 7)
            one.socket.close()
        raw.until(lambda: server.connections == 0)
    assert ("refused", "too many connections") in watcher.events
    assert ("refused", "timeout") in watcher.events


def test_the_watcher_sees_an_association_from_its_opening_to_its_end() -> None:
    watcher = Watcher()
    with serving(watcher=watcher) as server, Raw(server.port) as peer:
        peer.associate()
        assert peer.send(raw.store("1.2.3", b"abc")).status() == 0
        assert peer.send(raw.RELEASE).pdu()[0] == 6
        watcher.wait(("closed", "released"))
    assert watcher.events == [("opened", "TESTER"), ("stored", "stored"), ("closed", "released")]


def test_stop_aborts_the_idle_and_lets_the_busy_finish() -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(_: StoreRequest) -> Stored | None:
        begun.set()
        assert go.wait(10)
        return None

    sink, watcher = Sink(before=wait), Watcher()
    with serving(sink, watcher=watcher) as server, Raw(server.port) as idle, Raw(server.port) as busy:
        idle.associate()
        busy.associate()
        busy.send(raw.store("1.2.3", bytes(100_000)))
        assert begun.wait(5)
        stopping = threading.Thread(target=server.stop, args=(8,))
        stopping.start()
        assert idle.pdu() == (7, bytes(4))
        go.set()
        assert busy.status() == 0
        assert busy.pdu() == (7, bytes(4))
        stopping.join()
        assert server.associations == server.connections == 0
        with pytest.raises(OSError):  # noqa: PT011 - refused, or reset
            Raw(server.port)
    assert sink.objects == {"1.2.3": bytes(100_000)}
    assert watcher.events.count(("closed", "stopped")) == 2


def test_what_is_not_done_at_the_deadline_is_aborted_and_not_kept() -> None:
    sink, watcher = Sink(), Watcher()
    with (
        serving(sink, watcher=watcher, limits=replace(raw.SMALL, stall_s=60)) as server,
        Raw(server.port) as peer,
    ):
        peer.associate()
        peer.send(raw.data(3, 3, raw.store_command("1.2.3")) + raw.data(3, 0, b"some"))
        watcher.wait(("opened", "TESTER"))
        server.stop(0.2)
        assert peer.pdu()[0] == 7
    assert sink.objects == {}
    assert len(sink.errors) <= 1


def test_servers_share_a_socket_that_listens_already() -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared:
        with serving(socket=shared) as one:
            assert one.port == shared.getsockname()[1]
            other = Server(Sink(), (), Peers(), raw.SMALL, socket=shared)
            other.start()
            for _ in range(10):
                with Raw(one.port) as peer:
                    peer.associate()
                    assert peer.send(raw.ECHO).status() == 0
            other.stop(2)
            with Raw(one.port) as peer:
                peer.associate()
        assert shared.fileno() >= 0


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with serving() as server:
        again = Server(Sink(), (), Peers(), port=server.port)
        with pytest.raises(OSError, match="in use"):
            again.start()
        again.stop()


def test_an_association_over_ipv6_and_the_host_as_the_peers_know_it() -> None:
    hosts: list[str] = []

    class Asked(Peers):
        def find(self, calling: str, host: str) -> raw.Peer | None:
            hosts.append(host)
            return raw.Peer()

    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        pytest.skip("no IPv6 here")
    with listener, serving(peers=Asked(), socket=listener) as server, Raw(server.port) as peer:
        peer.associate()
    assert hosts == ["127.0.0.1"]


def test_senders_at_once_do_not_mix() -> None:
    sink = Sink()
    errors: list[BaseException] = []
    limits = replace(raw.SMALL, associations=20, associations_of_host=20, stall_s=5)

    def send(port: int, who: int) -> None:
        try:
            with Raw(port) as peer:
                peer.associate(calling=f"SENDER{who}".encode())
                for number in range(25):
                    data = bytes((who, number)) * (1000 + 3000 * number)
                    assert peer.send(raw.store(f"1.{who}.{number}", data, size=5000 + who)).status() == 0
                assert peer.send(raw.RELEASE).pdu()[0] == 6
        except BaseException as error:
            errors.append(error)

    with serving(sink, limits=limits) as server:
        senders = [threading.Thread(target=send, args=(server.port, who)) for who in range(12)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    assert errors == []
    expected = {
        f"1.{who}.{number}": bytes((who, number)) * (1000 + 3000 * number)
        for who in range(12)
        for number in range(25)
    }
    assert sink.objects == expected
    assert all(r.sender.calling == f"SENDER{r.sop_instance_uid.split('.')[1]}" for r in sink.requests)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl program")
    return cert, key


def secured(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def client(certificate: tuple[Path, Path], port: int) -> Raw:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    peer = Raw(port)
    peer.socket = context.wrap_socket(peer.socket, server_hostname="localhost")
    return peer


def test_objects_come_over_tls(certificate: tuple[Path, Path]) -> None:
    sink, data = Sink(), bytes(range(256)) * 4000
    limits = replace(raw.SMALL, pdu=128 << 10)
    tls = secured(certificate)
    with serving(sink, tls=tls, limits=limits) as server, client(certificate, server.port) as peer:
        peer.associate()
        for number in range(3):
            assert peer.send(raw.store(f"1.2.{number}", data, size=100_000)).status() == 0
        assert peer.send(raw.RELEASE).pdu()[0] == 6
    assert sink.objects == {f"1.2.{number}": data for number in range(3)}


def test_a_peer_without_tls_or_silent_in_the_handshake_is_closed(certificate: tuple[Path, Path]) -> None:
    watcher = Watcher()
    with serving(tls=secured(certificate), watcher=watcher) as server:
        with Raw(server.port) as plain, Raw(server.port) as silent:
            plain.send(raw.proposal(raw.DEFAULT))
            while plain.pdu()[0] not in (0, 7):
                pass
            assert silent.pdu()[0] in (0, 21)  # an alert of TLS
            assert silent.pdu()[0] == 0
        with client(certificate, server.port) as peer:
            peer.associate()
            assert peer.send(raw.ECHO).status() == 0
        raw.until(lambda: server.connections == 0)
    assert len([1 for what, _ in watcher.events if what == "refused"]) == 2


def test_limits_hold_over_tls(certificate: tuple[Path, Path]) -> None:
    watcher = Watcher()
    with serving(tls=secured(certificate), watcher=watcher) as server:
        with client(certificate, server.port) as peer:
            peer.associate()
            peer.send(raw.data(3, 3, raw.store_command("1.2.3")) + raw.data(3, 0, b"some"))
            with pytest.raises(ssl.SSLError):  # the alert of a session that was cut
                assert peer.pdu()[0] == 0
        watcher.wait(("closed", "timeout"))


# Time


def stalled(peer: Raw) -> None:
    peer.send(raw.data(3, 3, raw.store_command("1.2.3")) + raw.data(3, 0, b"some"))


def half_a_header(peer: Raw) -> None:
    peer.send(b"\4\0\0")


def trickling(peer: Raw) -> None:
    peer.send(raw.data(3, 3, raw.store_command("1.2.3")))
    while True:  # less than the slowest rate, never silent for long
        peer.socket.settimeout(0.05)
        try:
            peer.send(raw.data(3, 0, b"x"))
            peer.socket.recv(1, socket.MSG_PEEK)
            return
        except TimeoutError:
            continue
        except OSError:
            return


@pytest.mark.parametrize("how", [stalled, half_a_header, trickling])
def test_a_peer_that_stalls_in_a_message_is_aborted_and_nothing_is_kept(how: Callable[[Raw], None]) -> None:
    sink, watcher = Sink(), Watcher()
    with serving(sink, watcher=watcher) as server, Raw(server.port) as peer:
        peer.associate()
        how(peer)
        peer.socket.settimeout(8)
        assert peer.pdu()[0] in (0, 7)
        watcher.wait(("closed", "timeout"))
    assert sink.objects == {}


def test_a_peer_that_is_silent_between_messages_is_aborted_after_the_longer_time() -> None:
    watcher = Watcher()
    with (
        serving(watcher=watcher, limits=replace(raw.SMALL, silence_s=1.5)) as server,
        Raw(server.port) as peer,
    ):
        peer.associate()
        threading.Event().wait(1.0)  # longer than a stall may be
        assert peer.send(raw.ECHO).status() == 0
        assert peer.pdu()[0] == 7
        watcher.wait(("closed", "timeout"))


def test_a_peer_that_does_not_read_is_let_go() -> None:
    watcher = Watcher()
    with serving(watcher=watcher) as server, Raw(server.port) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.associate()
        peer.socket.setblocking(False)
        sent = 0
        while ("closed", "timeout") not in watcher.events and sent < 1 << 28:
            try:
                sent += peer.socket.send(raw.ECHO * 100)
            except BlockingIOError:
                threading.Event().wait(0.05)
            except OSError:
                break
        watcher.wait(("closed", "timeout"))


def test_a_reset_connection_is_lost_and_nothing_more() -> None:
    watcher = Watcher()
    with serving(watcher=watcher) as server:
        with Raw(server.port) as peer:
            peer.associate()
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        watcher.wait(("closed", "connection lost"))
