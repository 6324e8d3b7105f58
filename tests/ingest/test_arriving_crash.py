"""What was acknowledged to a peer outlives kill -9 and a loss of power; two processes do not harm it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dicomlake.catalog import network, reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.records import Instance
from dicomlake.storage.local import LocalStorage
from tests.support import PROJECT

ROUNDS = 30

PREPARED = """
import os, random, signal, sys, threading, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.engine import sqlite_module
from dicomlake.ingest.arriving import Arrivals
from dicomlake.records import Sender, StoreRequest
from dicomlake.storage.local import LocalStorage
import sqlalchemy.dialects.sqlite
from tests.ingest.arrivals import pieces, sent
from tests.objects import ROOT, dicom

sqlite_module()
root = Path(sys.argv[1])

def told(report, uid, body, outcome):
    import hashlib
    os.write(report, f"{uid} {hashlib.sha256(body).hexdigest()} {outcome}\\n".encode())
"""

KILLED = (
    PREPARED
    + """
template = sent(dicom(1, series=f"{ROOT}.0000.0000", InstanceNumber=1000))[1]
head = sent(dicom(1))[0]

def made(number, thread, n):
    # as quick as can be: an object of its own by its UIDs, of the same length
    old = f"{ROOT}.0000.0000"
    series = f"{ROOT}.{1000 + number}.{1000 + thread + 4 * (n // 9)}"
    sop = f"{series}.{n % 9 + 1}"
    body = template.replace(f"{old}.1".encode(), sop.encode()).replace(old.encode(), series.encode())
    body = body.replace(f"{ROOT}.0000".encode(), f"{ROOT}.{1000 + number}".encode())
    sender = Sender("S", "D", "h", "a", "p")
    return StoreRequest(head.sop_class_uid, sop, head.transfer_syntax, sender), body

def work(number, report):
    catalog, storage = Catalog.open(root / "catalog.sqlite"), LocalStorage(root)
    sink = Arrivals(catalog, storage, in_memory=10_000 if number % 3 else 500)
    os.write(report, b"begun\\n")
    def send(thread):
        for n in range(10_000):
            request, body = made(number, thread, n)
            stored = sink.store(request, pieces(body))
            assert stored.outcome == "stored", stored
            told(report, request.sop_instance_uid, body, stored.outcome)
    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for one in threads: one.start()
    for one in threads: one.join()

for number in range(int(sys.argv[3])):
    into, report = os.pipe()
    child = os.fork()  # no other thread runs here
    if child == 0:
        try:
            work(number, report)
        finally:
            os._exit(0)
    os.close(report)
    lines = os.read(into, 6)
    time.sleep(random.Random(number).uniform(0.005, 0.35))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(into) as rest:
        sys.stdout.write(rest.read())
    print(f"round {number}", flush=True)
"""
)


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def held_in(root: Path) -> list[Instance]:
    catalog = Catalog.open(root / "catalog.sqlite")
    with catalog.read() as view:
        found = list(reader.all_instances(view))
    catalog.close()
    return found


def test_nothing_acknowledged_is_lost_by_kill_9_at_any_moment(tmp_path: Path) -> None:
    lines = run(KILLED, tmp_path, PROJECT, ROUNDS).splitlines()
    acknowledged = [line.split() for line in lines if line.endswith(" stored")]
    rounds = [number for number, line in enumerate(lines) if line.startswith("round ")]
    assert len(rounds) == ROUNDS
    assert len(acknowledged) > 10 * ROUNDS
    held = {one.sop_instance_uid: one for one in held_in(tmp_path)}
    storage = LocalStorage(tmp_path)
    for uid, dataset_sha256, _ in acknowledged:
        one = held[uid]
        data = storage.get(one.key)
        assert hashlib.sha256(data).hexdigest() == one.sha256
        assert one.dataset_sha256 == dataset_sha256
        assert len(data) == one.size
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    with catalog.read() as view:
        noted = {one.sop_instance_uid for one in network.arrivals(view)}
    assert noted == held.keys()
    catalog.close()
    unknown = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("studies/*/*/originals/*")}
    unknown -= {one.key for one in held.values()}
    assert len(unknown) <= 4 * ROUNDS, "what was in place, but not yet registered, of four threads"
    assert list(tmp_path.glob(".staging/*"))
    storage.sweep(older_than_s=0)
    storage.close()
    assert not list(tmp_path.glob(".staging/*"))


# ---- loss of power ------------------------------------------------------------------------------------

RECORDED = (
    PREPARED
    + """
import fcntl, json
EVENTS, LOCK = [], threading.Lock()

def path_of(target, folder=None):
    if isinstance(target, int):
        return os.readlink(f"/proc/self/fd/{target}")
    if os.path.isabs(target):
        return str(target)
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}") if folder is not None else os.getcwd(), target)

def note(*event):
    with LOCK:
        EVENTS.append(event)

real = {name: getattr(os, name) for name in ("write", "fsync", "link", "rename", "mkdir")}

def write(fd, data):
    path = path_of(fd)
    done = real["write"](fd, data)
    if path.startswith(str(root)):
        note("write", path, done)
    return done

def fsync(fd):
    path = path_of(fd)
    real["fsync"](fd)
    note("fsync", path)

def link(source, target, **how):
    real["link"](source, target, **how)
    note("link", path_of(source, how.get("src_dir_fd")), path_of(target, how.get("dst_dir_fd")))

def rename(source, target, **how):
    real["rename"](source, target, **how)
    note("link", path_of(source, how.get("src_dir_fd")), path_of(target, how.get("dst_dir_fd")))

def mkdir(path, *how, **more):
    real["mkdir"](path, *how, **more)
    note("mkdir", path_of(path, more.get("dir_fd")))

os.write, os.fsync, os.link, os.rename, os.mkdir = write, fsync, link, rename, mkdir

catalog, storage = Catalog.open(root / "catalog.sqlite"), LocalStorage(root)
from sqlalchemy import event

@event.listens_for(catalog.database.engine, "connect")
def _connected(raw, _record):
    assert raw.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL: a commit waits for the disk
    assert raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal"

catalog.database.reconnect()

from sqlalchemy.engine import Engine

committed = type(catalog.database.engine.dialect).do_commit
def do_commit(self, raw):
    rows = [row[0] for row in raw.execute('SELECT "key" FROM arrival').fetchall()]
    committed(self, raw)
    note("commit", rows)
type(catalog.database.engine.dialect).do_commit = do_commit

sink = Arrivals(catalog, storage, in_memory=2000)
def send(thread):
    for n in range(1, 13):
        size = 16 if n % 3 else 64  # some are streamed
        series = f"{ROOT}.{n % 2}.{thread % 2}{n % 4}"
        request, body = sent(dicom(n, series=series, size=size, EchoNumbers=thread))
        stored = sink.store(request, pieces(body))
        assert stored.outcome in ("stored", "conflict"), stored
        import hashlib
        note("acknowledged", request.sop_instance_uid, hashlib.sha256(body).hexdigest())
threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
for one in threads: one.start()
for one in threads: one.join()
print(json.dumps(EVENTS))
catalog.close()
storage.close()
"""
)


class Disk:
    """What a disk would hold if the power failed: bytes and names that were synced, and commits.

    A file is its first path; a name is durable once its folder was synced after it was made, and only if
    the names of all folders above are.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.written: dict[str, int] = {}  # by first path
        self.synced: dict[str, int] = {}
        self.named: dict[str, str] = {}  # name -> first path
        self.durable_names: set[str] = {root}
        self.folders: set[str] = {root}
        self.committed: set[str] = set()

    def play(self, event: list[Any]) -> None:
        kind, *rest = event
        if kind == "write":
            self.written[rest[0]] = self.written.get(rest[0], 0) + rest[1]
        elif kind == "mkdir":
            self.folders.add(rest[0])
        elif kind == "link":
            self.named[rest[1]] = rest[0]
            assert self.synced.get(rest[0]) == self.written.get(rest[0]), "made visible before it was durable"
        elif kind == "fsync" and rest[0] in self.written:
            self.synced[rest[0]] = self.written[rest[0]]
        elif kind == "fsync":
            inside = (*self.named, *self.folders)
            self.durable_names |= {name for name in inside if os.path.dirname(name) == rest[0]}
        elif kind == "commit":
            self.committed |= set(rest[0])

    def holds(self, path: str, size: int) -> bool:
        """Whether all of a file would be there under its name."""
        above = path
        while above != self.root:
            if above not in self.durable_names:
                return False
            above = os.path.dirname(above)
        return self.synced.get(self.named[path]) == size


def test_power_may_fail_after_any_acknowledgement(tmp_path: Path) -> None:
    """The recorded order of writes, syncs, links and commits, played back until each acknowledgement."""
    root = tmp_path / "lake"
    root.mkdir()
    events = json.loads(run(RECORDED, root, PROJECT))
    by_hash = {(one.sop_instance_uid, one.dataset_sha256): one for one in held_in(root)}
    disk = Disk(str(root))
    seen = 0
    for event in events:
        if event[0] == "acknowledged":
            one = by_hash[event[1], event[2]]
            assert one.key in disk.committed
            assert disk.holds(f"{root}/{one.key}", one.size)
            seen += 1
        else:
            disk.play(event)
    assert seen == len(by_hash) == 48
    assert sum(event[0] == "mkdir" for event in events) > 20
    for one in by_hash.values():  # the recorder saw all that was written
        assert disk.written[disk.named[f"{root}/{one.key}"]] == (root / one.key).stat().st_size


def test_the_model_of_a_disk_knows_what_is_not_durable() -> None:
    """Else the test before would prove nothing."""
    whole = [
        ["mkdir", "/r/a"],
        ["write", "/r/t", 5],
        ["fsync", "/r/t"],
        ["link", "/r/t", "/r/a/f"],
        ["fsync", "/r/a"],
        ["fsync", "/r"],
    ]
    for left_out in (None, 4, 5):
        disk = Disk("/r")
        for number, event in enumerate(whole):
            if number != left_out:
                disk.play(event)
        assert disk.holds("/r/a/f", 5) == (left_out is None)


# ---- two processes ------------------------------------------------------------------------------------

RACING = (
    PREPARED
    + """
catalog, storage = Catalog.open(root / "catalog.sqlite"), LocalStorage(root)
sink = Arrivals(catalog, storage, in_memory=500 if sys.argv[3] == "1" else 100_000)
print("ready", flush=True)
sys.stdin.readline()
for n in range(1, 61):
    for variant in ("same", sys.argv[3]):
        request, body = sent(dicom(n, StudyDescription=variant))
        told(1, request.sop_instance_uid, body, sink.store(request, pieces(body)).outcome)
catalog.close()
storage.close()
"""
)


def test_two_processes_that_store_the_same_and_other_objects_at_once(tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RACING, str(tmp_path), str(PROJECT), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    told = [line.split() for one in both for line in one.communicate()[0].splitlines()]
    assert [one.returncode for one in both] == [0, 0]
    outcomes = [outcome for _, _, outcome in told]
    assert {name: outcomes.count(name) for name in set(outcomes)} == {
        "stored": 60,
        "already": 60,
        "conflict": 120,
    }
    storage = LocalStorage(tmp_path)
    held = {(one.sop_instance_uid, one.dataset_sha256): one for one in held_in(tmp_path)}
    assert held.keys() == {(uid, sha256) for uid, sha256, _ in told}
    for one in held.values():
        assert hashlib.sha256(storage.get(one.key)).hexdigest() == one.sha256
    assert len({one.key for one in held.values()}) == 180
