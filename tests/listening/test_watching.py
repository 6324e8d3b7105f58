"""The watch folder: what comes to rest is taken once, what is refused stays, nothing unproven is deleted."""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicomlake.catalog import reader
from dicomlake.errors import DicomlakeError, StorageFull
from dicomlake.ingest.pipeline import Options, ingest
from dicomlake.ingest.report import Entry, Report
from dicomlake.listening import watching
from dicomlake.listening.watching import Proof, WatchFolder, is_passed_over
from tests.listening.arriving import Parts, parts
from tests.objects import as_bytes, dataset, dicom, series, uids_of


@dataclass
class Clock:
    """The clock of the watch folder, moved by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Taking:
    """Takes files as a lake does: stored at first, already later; keeps what it was asked to take."""

    outcomes: dict[str, str] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    fails: Exception | None = None
    held: set[bytes] = field(default_factory=set)

    def __call__(self, paths: list[Path]) -> Report:
        if self.fails is not None:
            raise self.fails
        self.batches.append([path.name for path in paths])
        return Report.of([self._entry(path) for path in paths], [], 0.0)

    def _entry(self, path: Path) -> Entry:
        content = path.read_bytes()
        usual = "already" if content in self.held else "stored"
        self.held.add(content)
        return Entry(str(path), self.outcomes.get(path.name, usual), "the reason")

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watching, "monotonic", made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "incoming"
    made.mkdir()
    return made


def settle(watch: WatchFolder, clock: Clock) -> None:
    """A look, the time that files must be at rest, and another look."""
    watch.poll()
    clock.now += 5
    watch.poll()


# ---- when a file is taken -----------------------------------------------------------------------------


def test_a_file_is_taken_once_when_it_has_been_at_rest_and_again_when_it_changes(
    folder: Path, clock: Clock
) -> None:
    take = Taking()
    watch = WatchFolder(folder, take)
    (folder / "a").write_bytes(b"begun")
    watch.poll()
    clock.now += 4.9
    watch.poll()
    with (folder / "a").open("ab") as file:
        file.write(b" and gone on")  # still being written: the time begins anew
    watch.poll()
    clock.now += 4.9
    watch.poll()
    assert take.names == []
    clock.now += 0.1
    watch.poll()
    assert take.names == ["a"]
    clock.now += 100
    watch.poll()
    assert take.names == ["a"]
    (folder / "new").write_bytes(b"the same size, xx")
    os.replace(folder / "new", folder / "a")
    settle(watch, clock)
    assert take.names == ["a", "a"]


def test_a_file_that_is_renamed_is_at_rest_from_then_on(folder: Path, clock: Clock) -> None:
    take = Taking()
    watch = WatchFolder(folder, take)
    (folder / "a.part").write_bytes(b"x")
    settle(watch, clock)
    (folder / "a.part").rename(folder / "a")
    watch.poll()
    assert take.names == []
    clock.now += 5
    watch.poll()
    assert take.names == ["a"]


def test_a_file_written_to_while_it_is_taken_is_taken_again_and_not_moved(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    def take(paths: list[Path]) -> Report:
        first.append(1)
        if len(first) == 1:
            with paths[0].open("ab") as file:
                file.write(b"late")
        return Report.of([Entry(str(path), "stored") for path in paths], [], 0.0)

    first: list[int] = []
    watch = WatchFolder(folder, take, after="move", moved_to=tmp_path / "done")
    (folder / "a").write_bytes(b"early ")
    settle(watch, clock)
    assert (folder / "a").exists()
    settle(watch, clock)
    assert (tmp_path / "done" / "a").read_bytes() == b"early late"


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        *[(name, True) for name in (".hidden", "a.PART", "a.tmp", "a.dcm~", "~a", "a.filepart", "dicomdir")],
        *[(name, False) for name in ("a", "a.dcm", "IM00001", "part", "a.partial.dcm", "DICOMDIR2")],
    ],
)
def test_hidden_and_temporary_names_are_passed_over(
    name: str, passed: bool, folder: Path, clock: Clock
) -> None:
    assert is_passed_over(name) is passed
    (folder / "sub").mkdir()
    (folder / "sub" / name).write_bytes(b"x")
    (folder / name).mkdir()
    (folder / name / "inside").write_bytes(b"y")
    take = Taking()
    settle(WatchFolder(folder, take), clock)
    assert take.names == ([] if passed else ["inside", name])


def test_folders_of_any_depth_are_read_and_empty_files_wait(folder: Path, clock: Clock) -> None:
    deep = folder.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"x")
    (folder / "empty").touch()
    take = Taking()
    watch = WatchFolder(folder, take)
    settle(watch, clock)
    assert take.names == ["a"]
    assert watch.status() == {"waiting": 1, "taken": 1, "kept": 0, "problem": ""}


def test_links_and_special_files_are_listed_and_not_followed(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (folder / "file").symlink_to(outside / "secret")
    (folder / "tree").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    take = Taking()
    watch = WatchFolder(folder, take)
    settle(watch, clock)
    assert take.names == []
    assert {path.name for path in watch.kept} == {"file", "tree", "loop", "pipe"}
    assert ["symbolic link" in watch.kept[folder / name].reason for name in ("tree", "pipe")] == [True, False]
    (folder / "file").unlink()
    watch.poll()
    assert "file" not in {path.name for path in watch.kept}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_listed(folder: Path, clock: Clock) -> None:
    (folder / "closed").mkdir(mode=0o000)
    (folder / "a").write_bytes(b"x")
    take = Taking()
    watch = WatchFolder(folder, take)
    settle(watch, clock)
    (folder / "closed").chmod(0o700)
    assert take.names == ["a"]
    assert "cannot be read" in watch.kept[folder / "closed"].reason


# ---- what goes wrong ----------------------------------------------------------------------------------


def test_what_is_refused_stays_is_listed_and_is_tried_again_only_when_it_changes(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    take = Taking({"bad": "refused", "text": "skipped"})
    watch = WatchFolder(folder, take, after="move", moved_to=tmp_path / "done")
    for name in ("bad", "good", "text"):
        (folder / name).write_bytes(name.encode())
    settle(watch, clock)
    settle(watch, clock)
    assert take.names == ["bad", "good", "text"]
    assert sorted(os.listdir(folder)) == ["bad", "text"]
    assert watch.kept[folder / "bad"].reason == "refused: the reason"
    (folder / "bad").write_bytes(b"mended")
    take.outcomes.clear()
    settle(watch, clock)
    assert take.names[3:] == ["bad"]
    assert list(watch.kept) == [folder / "text"]


def test_while_the_lake_is_full_nothing_is_lost_and_the_problem_is_told(folder: Path, clock: Clock) -> None:
    take = Taking(fails=StorageFull("no space left"))
    watch = WatchFolder(folder, take)
    (folder / "a").write_bytes(b"x")
    settle(watch, clock)
    assert watch.status() == {"waiting": 1, "taken": 0, "kept": 0, "problem": "no space left"}
    pauses = []
    for _ in range(8):
        watch.poll()
        pauses.append(watch._pause())
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60
    take.fails = None
    watch.poll()
    assert (take.names, watch.problem, watch._pause()) == (["a"], "", 2.0)


def test_many_files_are_taken_in_batches(folder: Path, clock: Clock) -> None:
    for number in range(1100):
        (folder / f"{number:04}").write_bytes(b"%d" % number)
    take, seen = Taking(), []
    watch = WatchFolder(folder, take, on_report=seen.append)
    settle(watch, clock)
    assert [len(batch) for batch in take.batches] == [500, 500, 100]
    assert len(seen) == 3
    assert watch.taken == 1100


@pytest.mark.parametrize(
    "how",
    [
        {"after": "delete"},
        {"after": "move"},
        {"moved_to": Path("elsewhere")},
        {"after": "move", "moved_to": Path("incoming/done")},
        {"after": "move", "moved_to": Path("incoming")},
    ],
)
def test_contradictions_are_refused_before_anything_is_touched(
    folder: Path, how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(DicomlakeError):
        WatchFolder(folder, Taking(), **how)  # type: ignore[arg-type]
    with pytest.raises(DicomlakeError):
        WatchFolder(folder / "absent", Taking())


# ---- moving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("across", [False, True])
def test_moving_keeps_the_tree_and_never_writes_over_another_file(
    folder: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, across: bool
) -> None:
    if across:

        def refuse(source: Path, target: Path) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "replace", refuse)
    done = tmp_path / "done"
    watch = WatchFolder(folder, Taking(), after="move", moved_to=done)
    for content in (b"one", b"two", b"three"):
        (folder / "sub").mkdir(exist_ok=True)
        (folder / "sub" / "a.dcm").write_bytes(content)
        settle(watch, clock)
    found = {
        path.relative_to(done).as_posix(): path.read_bytes() for path in done.rglob("*") if path.is_file()
    }
    assert found == {"sub/a.dcm": b"one", "sub/a~1.dcm": b"two", "sub/a~2.dcm": b"three"}
    assert os.listdir(folder / "sub") == []


def test_a_file_that_cannot_be_moved_stays_with_the_reason(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "done").write_bytes(b"a file where a folder should be")
    watch = WatchFolder(folder, Taking(), after="move", moved_to=tmp_path / "done")
    (folder / "a").write_bytes(b"x")
    settle(watch, clock)
    assert (folder / "a").read_bytes() == b"x"
    assert "not moved" in watch.kept[folder / "a"].reason


# ---- with a lake --------------------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path / "lake") as made:
        yield made


def taking(lake: Parts) -> watching.Take:
    return lambda paths: ingest(lake.catalog, lake.storage, paths, Options(show=False))


def stored(lake: Parts) -> dict[str, str]:
    """SOPInstanceUID to the key of the original."""
    with lake.catalog.read() as view:
        return {one.sop_instance_uid: one.key for one in reader.all_instances(view)}


def test_after_a_restart_nothing_is_stored_twice(folder: Path, clock: Clock, lake: Parts) -> None:
    for number, content in enumerate(series(5)):
        (folder / f"{number}.dcm").write_bytes(content)
    reports: list[Report] = []
    for _ in range(2):
        settle(WatchFolder(folder, taking(lake), on_report=reports.append), clock)
    assert [(one.stored, one.already) for one in reports] == [(5, 0), (0, 5)]
    assert len(stored(lake)) == 5


def test_what_the_lake_holds_is_deleted_and_what_it_does_not_stays(
    folder: Path, clock: Clock, lake: Parts
) -> None:
    same = as_bytes(dataset(1), version="OTHER")  # another File Meta Information, one data set
    files = {
        "1.dcm": dicom(1),
        "again.dcm": same,
        "2.dcm": dicom(2),
        "text.txt": b"no DICOM",
        "cut.dcm": dicom(3),
    }
    files["cut.dcm"] = files["cut.dcm"][:200]
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        archive.writestr("4.dcm", dicom(4))
    watch = WatchFolder(folder, taking(lake), after="delete", is_safe=Proof(lake.catalog, lake.storage))
    settle(watch, clock)
    left = sorted(os.listdir(folder))
    assert left == ["cut.dcm", "export.zip", "text.txt"]
    assert set(stored(lake)) == {uids_of(dicom(number))[0] for number in (1, 2, 4)}
    assert sorted(path.name for path in watch.kept) == left


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_file_whose_original_is_damaged_is_not_deleted(
    folder: Path, clock: Clock, lake: Parts, damage: str
) -> None:
    (folder / "a.dcm").write_bytes(dicom(1))

    def take(paths: list[Path]) -> Report:
        report = taking(lake)(paths)
        original = lake.storage.local_path(next(iter(stored(lake).values())))
        assert original is not None
        content = original.read_bytes()
        original.chmod(0o600)
        if damage == "gone":
            original.unlink()
        else:
            original.write_bytes(content[:-1] + (b"\xff" if damage == "changed" else b""))
        return report

    watch = WatchFolder(folder, take, after="delete", is_safe=Proof(lake.catalog, lake.storage))
    settle(watch, clock)
    assert (folder / "a.dcm").read_bytes() == dicom(1)
    assert "in the lake, but" in watch.kept[folder / "a.dcm"].reason


def test_a_file_changed_after_it_was_taken_is_not_proven(tmp_path: Path, lake: Parts) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(1))
    taking(lake)([path])
    proof = Proof(lake.catalog, lake.storage)
    assert proof(path)
    path.write_bytes(dicom(1)[:-1] + b"\x7f")
    assert not proof(path)
    path.write_bytes(dicom(2))
    assert not proof(path)


def test_the_thread_takes_what_comes_and_ends(folder: Path, lake: Parts) -> None:
    told = threading.Event()
    with WatchFolder(
        folder, taking(lake), settle_s=0.05, poll_s=0.02, on_report=lambda _report: told.set()
    ) as watch:
        (folder / "a.dcm").write_bytes(dicom(1))
        assert told.wait(20)
    assert list(stored(lake)) == [uids_of(dicom(1))[0]]
    assert watch.taken == 1


def test_the_thread_survives_what_it_did_not_expect(folder: Path) -> None:
    failed, told = threading.Event(), threading.Event()

    def take(paths: list[Path]) -> Report:
        if not failed.is_set():
            failed.set()
            raise ValueError("Somebody^Secret")
        return Report.of([Entry(str(path), "stored") for path in paths], [], 0.0)

    (folder / "a").write_bytes(b"x")
    watch = WatchFolder(folder, take, settle_s=0, poll_s=0.02, on_report=lambda _report: told.set())
    with watch:
        assert failed.wait(20)
        assert told.wait(20)
    assert watch.problem == ""


def test_a_folder_that_vanishes_and_comes_back_is_watched_on(folder: Path, clock: Clock) -> None:
    take = Taking()
    watch = WatchFolder(folder, take)
    (folder / "a").write_bytes(b"x")
    settle(watch, clock)
    shutil.rmtree(folder)
    watch.poll()
    folder.mkdir()
    (folder / "b").write_bytes(b"y")
    settle(watch, clock)
    assert take.names == ["a", "b"]
