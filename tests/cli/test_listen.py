"""`dicomlake listen`: what it says, when it is ready, how it ends, and what it refuses to start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import typer
from click.testing import Result
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from typer.testing import CliRunner

import dicomlake
from dicomlake.cli import listen
from dicomlake.cli.stopping import stopping
from dicomlake.errors import SettingsError
from dicomlake.network.config import ReceiverConfig
from dicomlake.network.peers import Peers
from dicomlake.network.tls import TlsFiles
from tests.objects import dataset
from tests.support import PROJECT

PEERS = '[[peer]]\nname = "CT 1"\nae_title = "CT1"\nhosts = ["127.0.0.1"]\n'


class Standin:
    """What `Lake.listen` gives, without a network: it ends when told, and keeps how it was called."""

    made: list[Standin]

    def __init__(self, *, config: ReceiverConfig, open_to_all: bool, plain: bool) -> None:
        self.config, self.open_to_all, self.plain = config, open_to_all, plain
        self.port, self.ae_title, self.http_port = config.port or 104, config.ae_titles[0], config.http_port
        self.stopped: list[float] = []
        self.ends_by_itself = False
        self.made.append(self)

    def wait_stopped(self, timeout: float | None = None) -> bool:
        assert timeout == 0
        if not self.ends_by_itself:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.ends_by_itself

    def stats(self) -> dict[str, Any]:
        return {"stored": 1234, "bytes": 99, "failed": 0, "series_ready": 2}

    def stop(self, drain_s: float) -> None:
        self.stopped.append(drain_s)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> type[Standin]:
    """Stands in for the receiver of every lake."""
    made = type("Made", (Standin,), {"made": []})
    monkeypatch.setattr(listen, "_LOOK_S", 0.01)
    monkeypatch.setattr("dicomlake.listening.logs.configure", lambda *_args: None)
    monkeypatch.setattr(dicomlake.Lake, "listen", lambda _lake, **others: made(**others), raising=False)
    return made


def run(*words: object) -> Result:
    program = typer.Typer()
    program.command("listen")(listen.command)
    return CliRunner().invoke(program, [str(word) for word in words])


# ---- what it says ----------------------------------------------------------------------------------------


def test_it_says_where_it_listens_and_what_came(standin: type[Standin], tmp_path: Path) -> None:
    done = run("--lake", tmp_path / "lake", "--peers", "any", "--ae-title", "LAKE")
    assert done.output.splitlines() == [
        f"listening as LAKE on 127.0.0.1:11112, lake {tmp_path / 'lake'}, peers any",
        "stopping; what is under way has 30 s to end",
        "stopped: stored 1,234, series ready 2",
    ]
    assert done.exit_code == 0
    (made,) = standin.made
    assert made.stopped == [30.0]
    assert made.config == ReceiverConfig(ae_titles=("LAKE",), peers=Peers.any())


def test_what_is_given_wins_over_lake_toml(standin: type[Standin], tmp_path: Path) -> None:
    dicomlake.open(tmp_path / "lake", create=True).close()
    settings = tmp_path / "lake" / "lake.toml"
    settings.write_text(
        settings.read_text()
        + '[receiver]\nport = 4242\nquiet_s = 7\ndrain_s = 2\nae_titles = ["A", "B"]\n'
        + PEERS
    )
    done = run("--lake", tmp_path / "lake", "--quiet", 3, "--http-port", 8042, "--no-volumes", "--plain")
    (made,) = standin.made
    assert done.output.splitlines()[0] == (
        f"listening as A|B on 127.0.0.1:4242, lake {tmp_path / 'lake'}, http 8042, peers CT 1"
    )
    config = made.config
    assert (config.port, config.quiet_s, config.drain_s, config.volumes) == (4242, 3.0, 2.0, False)
    assert made.plain
    assert made.stopped == [2.0]


def test_files_of_tls_are_handed_on_and_their_end_is_told(
    standin: type[Standin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomlake.network.tls.expires_soon", lambda files: [f"{files.key} ends soon"])
    done = run(
        *("--lake", tmp_path / "lake", "--host", "::", "--processes", 3, "--log-format", "json"),
        *("--tls-cert", "c.pem", "--tls-key", "c.key", "--tls-ca", "ca.pem", "--webhook", "http://x/"),
    )
    (made,) = standin.made
    assert done.output.splitlines()[0].startswith("listening as DICOMLAKE on [::]:11112 with TLS, lake ")
    assert "c.key ends soon" in done.output.splitlines()
    assert made.config.tls == TlsFiles(Path("c.pem"), Path("c.key"), Path("ca.pem"))
    assert (made.config.processes, made.config.log_format) == (3, "json")
    assert made.config.webhook == "http://x/"


def test_without_peers_it_says_that_nobody_may_send(standin: type[Standin], tmp_path: Path) -> None:
    said = run("--lake", tmp_path / "lake").output.splitlines()
    assert said[0].endswith("peers none")
    assert said[1] == "nobody may send yet: list peers in lake.toml, or pass --peers any"


def test_many_peers_are_counted(standin: type[Standin], tmp_path: Path) -> None:
    path = tmp_path / "peers.toml"
    path.write_text("".join(PEERS.replace("CT 1", f"CT {n}") for n in range(8)))
    said = run("--lake", tmp_path / "lake", "--peers", path, "--host", "0.0.0.0").output
    assert ", peers CT 0, CT 1, CT 2, CT 3, CT 4 and 3 more\n" in said


# ---- what it refuses -------------------------------------------------------------------------------------


def test_it_is_not_opened_to_everybody_by_accident(standin: type[Standin], tmp_path: Path) -> None:
    words = ("--lake", tmp_path / "lake", "--peers", "any", "--host", "0.0.0.0")
    done = run(*words)
    assert isinstance(done.exception, SettingsError)
    assert "--open-to-all" in str(done.exception)
    assert standin.made == []
    assert not (tmp_path / "lake").exists()
    assert run(*words, "--open-to-all").exit_code == 0
    assert standin.made[0].open_to_all


@pytest.mark.parametrize(
    "words",
    [("--tls-key", "k.pem"), ("--tls-ca", "k.pem"), ("--port", "65536"), ("--log-format", "xml")],
)
def test_wrong_usage_is_told(words: tuple[str, ...], standin: type[Standin], tmp_path: Path) -> None:
    assert run("--lake", tmp_path / "lake", *words).exit_code == 2
    assert standin.made == []


@pytest.mark.parametrize("words", [("--ae-title", "A\\B"), ("--webhook", "x"), ("--peers", "gone.toml")])
def test_what_cannot_be_used_is_an_error(
    words: tuple[str, ...], standin: type[Standin], tmp_path: Path
) -> None:
    assert isinstance(run("--lake", tmp_path / "lake", *words).exception, SettingsError)


def test_a_receiver_that_ends_by_itself_is_a_failure(
    standin: type[Standin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Standin, "wait_stopped", lambda *_args: True)
    done = run("--lake", tmp_path / "lake")
    assert isinstance(done.exception, dicomlake.DicomlakeError)
    assert "ended by itself" in str(done.exception)


# ---- signals and systemd ---------------------------------------------------------------------------------


def test_the_first_signal_stops_one_at_once_again_does_not_count_a_later_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.6)
        with pytest.raises(KeyboardInterrupt):
            _terminate()
    assert signal.getsignal(signal.SIGTERM) is before


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(5)


@contextlib.contextmanager
def manager(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind("\0" + address[1:] if address.startswith("@") else address)
        bound.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield bound


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_it_is_ready_and_when_it_stops(
    abstract: bool, standin: type[Standin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"@dicomlake-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with manager(address, monkeypatch) as bound:
        assert run("--lake", tmp_path / "lake").exit_code == 0
        assert [bound.recv(100) for _ in range(2)] == [b"READY=1\nSTATUS=listening", b"STOPPING=1"]


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not listen.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not listen.notify("READY=1")


# ---- the whole program -----------------------------------------------------------------------------------


@contextlib.contextmanager
def program(lake: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`dicomlake listen` in a process of its own, ready, and its port."""
    command = [sys.executable, "-m", "dicomlake", "listen", "--lake", str(lake), "--port", "0", *words]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = re.match(r"listening as LAKE on 127\.0\.0\.1:(\d+), ", process.stdout.readline())
        if ready is None:
            process.kill()
            pytest.fail(_text(process.stderr))
        try:
            yield process, int(ready[1])
        finally:
            if process.poll() is None:
                process.kill()


def _text(stream: IO[str] | None) -> str:
    return stream.read() if stream is not None else ""


@pytest.mark.parametrize("words", [(), ("--plain",)], ids=["fast", "plain"])
def test_what_was_acknowledged_is_in_the_lake_after_sigterm(words: tuple[str, ...], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    options = ("--ae-title", "LAKE", "--peers", "any", "--no-volumes", *words)
    with program(lake, *options) as (process, port):
        entity = AE("CT1")
        entity.add_requested_context(CTImageStorage)
        association = entity.associate("127.0.0.1", port, ae_title="LAKE")
        assert association.is_established
        sent = [association.send_c_store(dataset(n)).Status for n in (1, 2, 3)]
        association.release()
        association.join(10)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert sent == [0, 0, 0]
    assert "stopping; what is under way has 30 s to end\nstopped: " in output
    assert "Phantom" not in output + errors
    with dicomlake.open(lake) as opened:
        assert opened.counts()["instances"] == 3


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "dicomlake", "listen", "--lake", str(tmp_path / "lake")]
        done = subprocess.run(
            [*command, "--port", str(taken.getsockname()[1])],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("dicomlake: cannot listen on 127.0.0.1:")
    assert "Traceback" not in done.stderr
