"""What only a file system can get wrong: crashes, full disks, symbolic links, order of writing."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import random
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dicomlake.errors import StorageError, StorageFull
from dicomlake.storage import files, local
from dicomlake.storage.layout import STAGING
from dicomlake.storage.local import LocalStorage
from tests.support import PROJECT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def storage(root: Path) -> Iterator[LocalStorage]:
    made = LocalStorage(root)
    yield made
    made.close()


class WatchedOs:
    """The os module, but each call of a named function goes through `watch` first."""

    def __init__(self, watch: Callable[..., None], *names: str) -> None:
        self._watch, self._names = watch, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in self._names:
            return found

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._watch(name, *args, **kwargs)
            return found(*args, **kwargs)

        return watched


def watched(patch: pytest.MonkeyPatch, system: WatchedOs) -> None:
    """Put it in the place of `os` for all that touches files."""
    for module in (local, files):
        patch.setattr(module, "os", system)


def failing(number: int) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@contextmanager
def python(program: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the program; killed if it still runs when the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def leftovers(root: Path) -> list[str]:
    """Names of what is staged, by whomever; locks do not count."""
    return sorted(path.name for path in (root / STAGING).glob("*/*") if path.name != "lock")


# order of writing


def test_files_are_synced_before_they_appear_and_folders_after(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []

    def watch(call: str, target: Any, *args: Any, **_: Any) -> None:
        path = os.readlink(f"/proc/self/fd/{target}") if call == "fsync" else args[0]
        events.append((call, os.path.relpath(path, root) if call == "fsync" else path))

    staged = [storage.stage(key, b"x") for key in ("s/1/a", "s/2/b", "s/2/c")]
    watched(monkeypatch, WatchedOs(watch, "fsync", "link"))
    storage.publish(staged)

    assert events[:3] == [("fsync", one.temporary) for one in staged]
    assert events[3:6] == [("link", "a"), ("link", "b"), ("link", "c")]
    assert sorted(events[6:]) == [("fsync", folder) for folder in (".", "s", "s/1", "s/2")]


def test_a_key_that_another_process_published_is_made_durable_before_it_is_called_stored(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("s/a", b"x")
    staged = storage.stage("s/a", b"x")
    synced: list[str] = []
    watched(monkeypatch, WatchedOs(lambda _, fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")), "fsync"))
    assert list(storage.publish([staged])) == [False]
    assert str(root / "s") in synced


def test_replace_syncs_the_file_before_and_the_folder_after(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    storage.replace("state", b"1")
    watched(monkeypatch, WatchedOs(lambda call, *_, **__: calls.append(call), "fsync", "rename"))
    storage.replace("state", b"2")
    assert calls == ["fsync", "rename", "fsync"]


def test_every_file_and_folder_of_a_tree_is_synced_before_it_appears(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = storage.stage_tree("v/0.zarr")
    path = storage.local_path(tree)
    assert path is not None
    (path / "image" / "c").mkdir(parents=True)
    for name in ("zarr.json", "image/zarr.json", "image/c/0"):
        (path / name).write_bytes(b"x")
    events: list[str] = []

    def watch(call: str, target: Any, *_: Any, **__: Any) -> None:
        events.append(
            os.path.relpath(os.readlink(f"/proc/self/fd/{target}"), path) if call == "fsync" else call
        )

    watched(monkeypatch, WatchedOs(watch, "fsync", "rename"))
    storage.publish_tree(tree, "v/0.zarr")
    assert sorted(events[:6]) == [".", "image", "image/c", "image/c/0", "image/zarr.json", "zarr.json"]
    assert events[6] == "rename"
    assert [os.path.normpath(path / event) for event in events[7:]] == [str(root / "v"), str(root)]


# crashes

CRASHING = """
import os, signal, sys
from dicomlake.storage import files, local

class Dying:
    left = int(sys.argv[2])
    def __getattr__(self, name):
        found = getattr(os, name)
        if name not in ("write", "fsync", "link", "rename", "unlink", "mkdir"):
            return found
        def step(*args, **kwargs):
            if self.left == 0:
                if name == "write":
                    os.write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return found(*args, **kwargs)
        return step

storage = local.LocalStorage(sys.argv[1])
local.os = files.os = Dying()
assert all(storage.publish([storage.stage(key, key.encode() * 999) for key in ("s/1/a", "s/2/b", "t/c")]))
print("objects", flush=True)
storage.replace("state", b"new" * 999)
print("state", flush=True)
tree = storage.stage_tree("v/0.zarr")
for name in ("zarr.json", "c/0"):
    storage.put(f"{tree}/{name}", b"new" * 999)
storage.publish_tree(tree, "v/0.zarr")
print("tree", flush=True)
"""


def test_a_process_killed_before_any_of_its_steps_leaves_nothing_half_visible(tmp_path: Path) -> None:
    killed = -1
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        killed += 1
        lake = LocalStorage(tmp_path / str(killed))
        for key in ("state", "v/0.zarr/zarr.json", "v/0.zarr/c/0"):
            lake.put(key, b"old" * 999)
        with python(CRASHING, tmp_path / str(killed), killed) as process:
            said = process.communicate()[0].split()
            code = process.returncode
        found = {key: lake.get(key) for key in lake.list()}

        objects = {key: data for key, data in found.items() if key in ("s/1/a", "s/2/b", "t/c")}
        assert all(data == key.encode() * 999 for key, data in objects.items())
        assert len(objects) == 3 or "objects" not in said
        assert found["state"] in ((b"old" * 999, b"new" * 999) if "state" not in said else (b"new" * 999,))
        tree = {data for key, data in found.items() if key.startswith("v/")}
        count = sum(key.startswith("v/") for key in found)
        assert (count, tree) in ((0, set()), (2, {b"old" * 999}), (2, {b"new" * 999}))
        assert tree == {b"new" * 999} or "tree" not in said
        assert len(found) == len(objects) + 1 + count

        lake.sweep(older_than_s=0)
        assert leftovers(tmp_path / str(killed)) == []
        lake.close()
        assert not (tmp_path / str(killed) / STAGING).exists()
    assert code == 0
    assert killed > 30  # steps there were to die before


WRITING = """
import hashlib, random, sys
from dicomlake.storage.local import LocalStorage
storage, chance = LocalStorage(sys.argv[1]), random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    data = [chance.randbytes(chance.randrange(300_000)) for _ in range(chance.randrange(1, 20))]
    keys = [f"s/{chance.randrange(5)}/{hashlib.sha256(one).hexdigest()}" for one in data]
    storage.publish([storage.stage(key, one) for key, one in zip(keys, data, strict=True)])
    print(*keys, sep="\\n", end="\\n.\\n", flush=True)
"""


def test_a_writer_killed_at_a_random_instant_leaves_whole_objects_only(
    storage: LocalStorage, root: Path
) -> None:
    chance = random.Random(20)
    for number in range(20):
        with python(WRITING, root, number) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.001, 0.08))
            process.kill()
            batches = process.stdout.read().split("\n.\n")
        acknowledged = {key for batch in batches[:-1] for key in batch.split("\n")}
        visible = set(storage.list())
        assert acknowledged <= visible
        assert all(hashlib.sha256(storage.get(key)).hexdigest() == key[4:] for key in visible)
        storage.sweep(older_than_s=0)
        assert leftovers(root) == []
        storage.delete_tree("s")


RACING = """
import sys
from dicomlake.storage.local import LocalStorage
storage = LocalStorage(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    print(int(storage.put(f"s/{number}", sys.argv[2].encode() * 1000)))
storage.close()
"""


def test_of_two_processes_that_put_one_key_exactly_one_creates_it(storage: LocalStorage, root: Path) -> None:
    with python(RACING, root, "a") as one, python(RACING, root, "b") as other:
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        created = [process.communicate()[0].split() for process in (one, other)]
    for number in range(100):
        winners = [name for name, answers in zip(b"ab", created, strict=True) if answers[number] == "1"]
        assert len(winners) == 1
        assert storage.get(f"s/{number}") == bytes(winners) * 1000


# sweeping

STAGING_PROGRAM = """
import os, signal, sys
from dicomlake.storage.local import LocalStorage
storage = LocalStorage(sys.argv[1])
storage.stage("a", b"1")
storage.put(storage.stage_tree("v") + "/zarr.json", b"2")
print("staged", flush=True)
sys.stdin.readline()
"""


def test_sweeping_removes_what_a_dead_writer_left_and_spares_a_live_one(
    storage: LocalStorage, root: Path
) -> None:
    with python(STAGING_PROGRAM, root) as dead, python(STAGING_PROGRAM, root) as live:
        for process in (dead, live):
            assert process.stdout is not None
            assert process.stdout.readline() == "staged\n"
        assert storage.sweep(older_than_s=0) == 0
        dead.kill()
        dead.wait()
        assert storage.sweep() == 0  # left a moment ago: perhaps its locks are not seen from here
        assert storage.sweep(older_than_s=0) == 2
        assert len(leftovers(root)) == 2
        live.communicate("end\n")
        assert live.returncode == 0
    assert leftovers(root) == []


def test_a_writer_that_is_swept_while_it_begins_begins_anew(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sweeps between the making of the lock file and the locking of it."""
    swept: list[int] = []

    def sweep_once(fd: int, operation: int) -> None:
        if not swept:
            swept.append(1)
            LocalStorage(root).sweep(older_than_s=0)
        flock(fd, operation)

    flock = local.fcntl.flock
    monkeypatch.setattr(local.fcntl, "flock", sweep_once)
    assert storage.put("a", b"1") is True
    assert len(os.listdir(root / STAGING)) == 1


def test_what_is_not_a_writer_s_folder_is_not_swept(storage: LocalStorage, root: Path) -> None:
    storage.put("a", b"1")
    (root / STAGING / ".DS_Store").write_bytes(b"")
    assert storage.sweep(older_than_s=0) == 0
    assert (root / STAGING / ".DS_Store").exists()


FORKING = """
import os, sys
from dicomlake.storage.local import LocalStorage
storage = LocalStorage(sys.argv[1])
kept = storage.stage("parent", b"1")
read, write = os.pipe()
resume, go = os.pipe()
child = os.fork()
os.close(write if child else go)
if not child:
    staged = storage.stage("child", b"2")
    os.write(write, b".")
    os.read(resume, 1)
    assert storage.publish([staged]) == [True]
    storage.close()
    os._exit(0)
os.read(read, 1)
assert storage.publish([kept]) == [True]
storage.close()
os.write(go, b".")
assert os.waitpid(child, 0)[1] == 0
storage.put("parent again", b"3")
"""


def test_a_forked_process_is_a_writer_of_its_own(storage: LocalStorage, root: Path) -> None:
    with python(FORKING, root) as process:
        process.communicate()
        assert process.returncode == 0
    assert list(storage.list()) == ["child", "parent", "parent again"]
    assert not (root / STAGING).exists()  # swept up at exit, without close


def test_another_process_may_publish_what_this_one_staged(storage: LocalStorage) -> None:
    staged = pickle.loads(pickle.dumps(storage.stage("a", b"1")))
    other = pickle.loads(pickle.dumps(storage))
    assert list(other.publish([staged])) == [True]
    assert storage.get("a") == b"1"


# full disks and other failures


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_file_sizes_is_told_with_its_remedy_and_leaves_nothing(
    storage: LocalStorage, root: Path
) -> None:
    storage.put("a/1", b"small")
    with (
        file_size_limit(100_000),
        pytest.raises(StorageFull, match=r"cannot write 'a/2': File too large; raise the limit"),
    ):
        storage.put("a/2", b"x" * 200_000)
    assert leftovers(root) == []
    assert list(storage.list()) == ["a/1"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root and the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_with_its_remedy_and_what_was_staged_before_is_safe(small_disk: Path) -> None:
    storage = LocalStorage(small_disk / "lake")
    staged = [storage.stage(f"a/{number}", bytes([number]) * 300_000) for number in range(3)]
    with pytest.raises(StorageFull, match=r"cannot write 'a/3': No space left on device; free some space"):
        storage.stage("a/3", b"x" * 300_000)
    assert leftovers(small_disk / "lake") == sorted(one.temporary.split("/")[-1] for one in staged)
    storage.discard(staged[:1])
    assert all(storage.publish(staged[1:]))
    assert storage.put("a/3", b"x" * 300_000)
    assert list(storage.list()) == ["a/1", "a/2", "a/3"]
    assert storage.get("a/2") == bytes([2]) * 300_000
    storage.close()


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageError)]
)
def test_a_failing_fsync_makes_nothing_visible(
    storage: LocalStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[StorageError],
) -> None:
    staged = [storage.stage(f"a/{n}", b"x") for n in range(20)]
    watched(monkeypatch, WatchedOs(failing(number), "fsync"))
    with pytest.raises(StorageError, match="cannot make durable 'a/") as caught:
        storage.publish(staged)
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, OSError)
    assert list(storage.list()) == []
    assert leftovers(root) == []


def test_a_folder_that_cannot_be_made_makes_nothing_of_the_batch_visible(
    storage: LocalStorage, root: Path
) -> None:
    storage.put("b", b"an object, not a folder")
    staged = [storage.stage(key, b"x") for key in ("a/1", "b/1", "c/1")]
    with pytest.raises(StorageError, match="cannot make the folder 'b'"):
        storage.publish(staged)
    assert list(storage.list()) == ["b"]
    assert leftovers(root) == []


def test_an_older_tree_comes_back_where_the_new_one_cannot_take_its_place(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("v/zarr.json", b"old")
    tree = storage.stage_tree("v")
    storage.put(f"{tree}/zarr.json", b"new")
    renames: list[str] = []

    def fail_third(*args: Any, **_: Any) -> None:
        renames.append(args[1])
        if len(renames) == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    watched(monkeypatch, WatchedOs(fail_third, "rename"))
    with pytest.raises(StorageError, match="cannot publish 'v'"):
        storage.publish_tree(tree, "v")
    assert storage.get("v/zarr.json") == b"old"


def test_of_many_that_publish_one_tree_the_last_stays_whole(storage: LocalStorage, root: Path) -> None:
    def build(number: int) -> None:
        tree = storage.stage_tree("v")
        storage.publish([storage.stage(f"{tree}/{name}", bytes([number])) for name in ("zarr.json", "c/0")])
        storage.publish_tree(tree, "v")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(build, range(16)))
    assert storage.get("v/zarr.json") == storage.get("v/c/0")
    assert leftovers(root) == []


def test_no_descriptor_stays_open(storage: LocalStorage, root: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    storage.put("a/b", b"1")
    storage.get("a/b", 0, 1)
    for use in (storage.get, storage.size, storage.delete):
        for key in ("a", "a/b/c", "a\0"):
            with pytest.raises(StorageError):
                use(key)
    with pytest.raises(StorageError):
        storage.put("a/b/c", b"1")
    assert next(storage.list()) == "a/b"
    storage.sweep(older_than_s=0)
    storage.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_reading_writes_nothing(storage: LocalStorage, root: Path) -> None:
    assert (list(storage.list()), storage.exists("a"), storage.sweep(older_than_s=0)) == ([], False, 0)
    assert not root.exists()


# file systems without hard links; hard links to the user's files


def test_without_hard_links_a_key_is_still_created_once(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(monkeypatch, WatchedOs(failing(errno.EPERM), "link"))

    def put(number: int) -> bool:
        return storage.put(f"a/{number % 4}", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(put, range(32)))
    winners = {str(number).encode() for number in range(32) if created[number]}
    assert len(winners) == 4
    assert {storage.get(key) for key in storage.list()} == winners
    assert leftovers(root) == []


def test_without_hard_links_whoever_waited_for_the_lock_sees_what_came_first(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage("a/b", b"second")
    watched(monkeypatch, WatchedOs(failing(errno.EPERM), "link"))
    monkeypatch.setattr(local.fcntl, "flock", lambda *_: (root / "a" / "b").write_bytes(b"first"))
    assert list(storage.publish([staged])) == [False]
    assert storage.get("a/b") == b"first"


def test_a_hard_link_is_made_only_when_asked_for(storage: LocalStorage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    (tmp_path / "alias").symlink_to(source)
    storage.publish(
        [
            storage.stage("copied", source),
            storage.stage("linked", source, link=True),
            storage.stage("followed", tmp_path / "alias", link=True),
        ]
    )
    same = {key: os.path.samefile(tmp_path / "lake" / key, source) for key in storage.list()}
    assert same == {"copied": False, "linked": True, "followed": True}
    assert all(stat.S_ISREG((tmp_path / "lake" / key).lstat().st_mode) for key in same)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_hard_link_can_be_made_the_file_is_copied(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    with monkeypatch.context() as patch:
        watched(patch, WatchedOs(failing(number), "link"))
        staged = storage.stage("a", source, link=True)
    assert list(storage.publish([staged])) == [True]
    assert storage.get("a") == b"abc"
    assert source.stat().st_nlink == 1


# symbolic links


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "tree").mkdir(parents=True)
    (folder / "file").write_bytes(b"precious")
    (folder / "tree" / "file").write_bytes(b"precious")
    return folder


@pytest.mark.parametrize("where", ["s", "s/deep"])
def test_a_symbolic_link_to_a_folder_redirects_nothing(
    storage: LocalStorage, root: Path, outside: Path, where: str
) -> None:
    (root / where).parent.mkdir(parents=True)
    (root / where).symlink_to(outside, target_is_directory=True)
    before = sorted(outside.rglob("*"))
    tree = storage.stage_tree("v")
    storage.put(f"{tree}/zarr.json", b"1")
    for use in (
        lambda: storage.put(f"{where}/new", b"1"),
        lambda: storage.put(f"{where}/tree/new", b"1"),
        lambda: storage.replace(f"{where}/file", b"1"),
        lambda: storage.get(f"{where}/file"),
        lambda: storage.delete(f"{where}/file"),
        lambda: storage.delete_tree(f"{where}/tree"),
        lambda: storage.publish_tree(tree, f"{where}/v"),
        lambda: list(storage.list(where)),
    ):
        with pytest.raises(StorageError, match="symbolic link"):
            use()
    assert list(storage.list()) == []
    assert sorted(outside.rglob("*")) == before
    assert (outside / "file").read_bytes() == b"precious"


def test_a_symbolic_link_in_place_of_the_staging_folder_is_refused(
    storage: LocalStorage, root: Path, outside: Path
) -> None:
    root.mkdir()
    (root / STAGING).symlink_to(outside, target_is_directory=True)
    with pytest.raises(StorageError, match="symbolic link"):
        storage.put("a", b"1")
    assert sorted(path.name for path in outside.iterdir()) == ["file", "tree"]


def test_a_symbolic_link_under_a_key_is_neither_read_nor_taken_for_the_object(
    storage: LocalStorage, root: Path, outside: Path
) -> None:
    root.mkdir()
    (root / "a").symlink_to(outside / "file")
    (root / "dangling").symlink_to(outside / "absent")
    for key in ("a", "dangling"):
        assert storage.exists(key) is False
        for use in (lambda key=key: storage.put(key, b"1"), lambda key=key: storage.get(key)):
            with pytest.raises(StorageError, match="symbolic link"):
                use()
    storage.replace("a", b"1")
    assert (outside / "file").read_bytes() == b"precious"
    assert not (outside / "absent").exists()
    assert list(storage.list()) == ["a"]


@pytest.mark.parametrize("target", ["file", "tree"])
def test_a_symbolic_link_in_a_tree_keeps_it_from_being_published(
    storage: LocalStorage, outside: Path, target: str
) -> None:
    tree = storage.stage_tree("v")
    path = storage.local_path(tree)
    assert path is not None
    (path / "zarr.json").write_bytes(b"1")
    (path / "c").symlink_to(outside / target)
    with pytest.raises(StorageError, match="symbolic link"):
        storage.publish_tree(tree, "v")
    assert list(storage.list()) == []


def test_a_lake_may_itself_be_reached_through_a_symbolic_link(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put("a", b"1")
    (tmp_path / "alias").symlink_to(tmp_path / "lake")
    assert LocalStorage(tmp_path / "alias").get("a") == b"1"


def test_a_pipe_in_a_lake_does_not_hang_a_reader(storage: LocalStorage, root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "pipe")
    with pytest.raises(StorageError):
        storage.get("pipe")
    assert list(storage.list()) == []
