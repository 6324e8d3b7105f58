"""What every storage must do: one class, run over each implementation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.errors import StorageError
from dicomlake.storage.layout import STAGING
from dicomlake.storage.local import LocalStorage
from dicomlake.storage.memory import MemoryStorage
from dicomlake.storage.objectstore import Data, Storage, key_parts

UNSAFE = {
    "": "part 1 of 1 is empty",
    "/a": "part 1 of 2 is empty",
    "a/": "part 2 of 2 is empty",
    "a//b": "part 2 of 3 is empty",
    ".": "is '.'",
    "a/../b": "part 2 of 3 is '..'",
    "a\0b": "control character",
    "a/b\n": "control character",
    "a\x9fb": "control character",
    "a\\b": "backslash",
    "a/" + "ä" * 128: "more than 255 bytes",
    "a\ud800": "not valid Unicode",
    STAGING: "reserved",
    f"{STAGING}/a": "reserved",
}


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = LocalStorage(tmp_path / "lake") if request.param == "local" else MemoryStorage()
    yield made
    made.close()


class TestStorage:
    @pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), [b"a", b"", b"bc"]])
    def test_what_was_put_is_read_back(self, storage: Storage, data: Data) -> None:
        assert storage.put("a/b", data) is True
        assert (storage.get("a/b"), storage.size("a/b"), storage.exists("a/b")) == (b"abc", 3, True)

    def test_an_iterator_is_stored_piece_by_piece(self, storage: Storage) -> None:
        assert storage.stage("a", (bytes([n]) * n for n in range(5))).size == 10
        storage.put("a", (bytes([n]) * n for n in range(3)))
        assert storage.get("a") == b"\x01\x02\x02"

    @pytest.mark.parametrize("link", [False, True])
    def test_a_file_is_stored_by_its_content(self, storage: Storage, tmp_path: Path, link: bool) -> None:
        source = tmp_path / "source"
        source.write_bytes(bytes(range(256)) * 10_000)
        staged = storage.stage("a/b", source, link=link)
        assert staged.size == 2_560_000
        assert list(storage.publish([staged])) == [True]
        assert storage.get("a/b") == source.read_bytes()

    def test_a_file_that_cannot_be_read_is_told_as_such(self, storage: Storage, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"the file to store cannot be read: No such file"):
            storage.put("a", tmp_path / "absent")
        with pytest.raises(StorageError, match=r"the file to store cannot be read: Is a directory"):
            storage.stage("a", tmp_path, link=True)

    def test_nothing_is_visible_before_it_is_published(self, storage: Storage) -> None:
        staged = [storage.stage("a/1", b"1"), storage.stage("a/2", b"2")]
        assert list(storage.list()) == []
        assert not storage.exists("a/1")
        assert list(storage.publish(staged)) == [True, True]
        assert list(storage.list()) == ["a/1", "a/2"]

    def test_a_key_that_exists_keeps_its_content(self, storage: Storage) -> None:
        storage.put("a", b"first")
        assert storage.put("a", b"second") is False
        assert storage.put("a", b"first") is False
        assert storage.get("a") == b"first"

    def test_an_empty_object_is_created_once(self, storage: Storage) -> None:
        assert [storage.put("a", b""), storage.put("a", b"")] == [True, False]

    def test_a_batch_answers_in_its_own_order(self, storage: Storage) -> None:
        storage.put("b/2", b"old")
        keys = ["c/1", "b/2", "a/1", "b/1", "a/1"]
        created = storage.publish([storage.stage(key, key.encode()) for key in keys])
        assert list(created) == [True, False, True, True, False]
        assert storage.get("b/2") == b"old"
        assert list(storage.publish([])) == []

    def test_what_was_discarded_or_published_cannot_be_published_again(self, storage: Storage) -> None:
        dropped, published = storage.stage("a", b"1"), storage.stage("b", b"2")
        storage.discard([dropped, dropped])
        storage.publish([published])
        for staged in (dropped, published):
            with pytest.raises(StorageError, match="No such file"):
                storage.publish([staged])
        assert list(storage.list()) == ["b"]

    def test_an_error_in_the_source_passes_through_and_leaves_nothing(self, storage: Storage) -> None:
        def broken() -> Iterator[bytes]:
            yield b"begun"
            raise ConnectionResetError("the peer is gone")

        with pytest.raises(ConnectionResetError):
            storage.put("a/b", broken())
        assert list(storage.list()) == []

    def test_replace_gives_a_key_new_content(self, storage: Storage) -> None:
        storage.replace("state.json", b"1")
        storage.replace("state.json", b"22")
        assert storage.get("state.json") == b"22"
        assert list(storage.list()) == ["state.json"]

    @given(start=st.integers(0, 12), stop=st.none() | st.integers(0, 12))
    def test_a_range_is_a_slice(self, start: int, stop: int | None) -> None:
        storage = MemoryStorage()
        storage.put("a", b"0123456789")
        assert storage.get("a", start, stop) == b"0123456789"[start:stop]

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 4), (3, None), (3, 7), (9, 99), (10, None), (50, 60), (7, 3)]
    )
    def test_a_range_is_read(self, storage: Storage, start: int, stop: int | None) -> None:
        storage.put("a", b"0123456789")
        assert storage.get("a", start, stop) == b"0123456789"[start:stop]

    @pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, -1)])
    def test_a_range_from_the_end_is_refused(self, storage: Storage, start: int, stop: int | None) -> None:
        storage.put("a", b"0123456789")
        with pytest.raises(ValueError, match="counts from the beginning"):
            storage.get("a", start, stop)

    def test_a_missing_object_is_told_by_its_key(self, storage: Storage) -> None:
        assert storage.exists("a/b") is False
        for read in (storage.get, storage.size):
            with pytest.raises(StorageError, match=r"cannot read .*'a/b': No such file"):
                read("a/b")

    def test_a_folder_is_not_an_object(self, storage: Storage) -> None:
        storage.put("a/b", b"1")
        assert storage.exists("a") is False
        for use in (storage.get, storage.size, storage.delete):
            with pytest.raises(StorageError, match="Is a directory"):
                use("a")
        for write in (storage.put, storage.replace):
            with pytest.raises(StorageError, match="Is a directory"):
                write("a", b"2")
            with pytest.raises(StorageError, match="Not a directory"):
                write("a/b/c", b"2")
        with pytest.raises(StorageError, match="Not a directory"):
            list(storage.list("a/b"))
        assert list(storage.list()) == ["a/b"]

    def test_keys_are_listed_in_the_order_of_their_characters(self, storage: Storage) -> None:
        keys = ["a/x", "a-b/x", "a.c", "a/b/c", "a/b-c", "ab", "b/é", "b/z", "b/😀"]
        storage.publish([storage.stage(key, b"") for key in keys])
        assert list(storage.list()) == sorted(keys)
        assert list(storage.list("a")) == ["a/b-c", "a/b/c", "a/x"]
        assert list(storage.list("a/b")) == ["a/b/c"]
        assert list(storage.list("absent/folder")) == []

    def test_deleting_removes_one_object_and_may_be_repeated(self, storage: Storage) -> None:
        storage.publish([storage.stage(key, b"") for key in ("a/1", "a/2")])
        for _ in range(2):
            storage.delete("a/1")
        storage.delete("absent/key")
        assert list(storage.list()) == ["a/2"]

    def test_deleting_a_tree_removes_what_is_below_it_only(self, storage: Storage) -> None:
        storage.publish([storage.stage(key, b"") for key in ("a/1", "a/b/2", "ab/3")])
        for _ in range(2):
            storage.delete_tree("a")
        storage.delete_tree("ab/3")
        storage.delete_tree("absent/tree")
        assert list(storage.list()) == ["ab/3"]

    def test_the_whole_lake_cannot_be_deleted_by_an_empty_prefix(self, storage: Storage) -> None:
        with pytest.raises(StorageError, match="is empty"):
            storage.delete_tree("")

    def test_a_tree_appears_as_a_whole_and_replaces_an_older_one(self, storage: Storage) -> None:
        for content in (
            {"zarr.json": b"1", "c/0": b"old", "c/1": b"old"},
            {"zarr.json": b"2", "c/0": b"new"},
        ):
            before = list(storage.list())
            tree = storage.stage_tree("series/volumes/0.zarr")
            for name, data in content.items():
                storage.put(f"{tree}/{name}", data)
            assert list(storage.list()) == before
            assert list(storage.list(tree)) == sorted(f"{tree}/{name}" for name in content)
            storage.publish_tree(tree, "series/volumes/0.zarr")
            below = "series/volumes/0.zarr/"
            assert {key.removeprefix(below): storage.get(key) for key in storage.list()} == content
            assert list(storage.list(tree)) == []

    def test_a_tree_of_nothing_replaces_nothing(self, storage: Storage) -> None:
        storage.put("0.zarr/zarr.json", b"1")
        with pytest.raises(StorageError, match=r"publish '0\.zarr': "):
            storage.publish_tree(storage.stage_tree("0.zarr"), "0.zarr")
        assert list(storage.list()) == ["0.zarr/zarr.json"]

    def test_a_tree_does_not_replace_an_object(self, storage: Storage) -> None:
        storage.put("0.zarr", b"1")
        tree = storage.stage_tree("0.zarr")
        storage.put(f"{tree}/zarr.json", b"2")
        with pytest.raises(StorageError, match="Not a directory"):
            storage.publish_tree(tree, "0.zarr")
        assert storage.get("0.zarr") == b"1"

    def test_a_tree_can_be_given_up(self, storage: Storage) -> None:
        tree = storage.stage_tree("0.zarr")
        storage.put(f"{tree}/zarr.json", b"1")
        storage.delete_tree(tree)
        assert list(storage.list(tree)) == []

    @pytest.mark.parametrize(("key", "cause"), UNSAFE.items(), ids=ascii)
    def test_an_unsafe_key_is_refused_with_its_cause(self, storage: Storage, key: str, cause: str) -> None:
        for use in (
            lambda: storage.put(key, b""),
            lambda: storage.replace(key, b""),
            lambda: storage.get(key),
            lambda: storage.size(key),
            lambda: storage.exists(key),
            lambda: storage.delete(key),
            lambda: storage.delete_tree(key),
            lambda: storage.stage_tree(key),
            lambda: storage.local_path(key),
            lambda: storage.publish_tree(f"{STAGING}/a/b", key),
            lambda: list(storage.list(key or "/")),
        ):
            with pytest.raises(StorageError, match="unsafe key") as caught:
                use()
            assert cause in str(caught.value) or not key
        assert list(storage.list()) == []

    def test_many_threads_stage_and_publish_at_once(self, storage: Storage) -> None:
        def work(number: int) -> int:
            keys = [f"own/{number}/{n}" for n in range(5)] + [f"shared/{n}" for n in range(5)]
            staged = [storage.stage(key, key.encode() * 1000) for key in keys]
            return sum(storage.publish(staged))

        with ThreadPoolExecutor(8) as pool:
            created = sum(pool.map(work, range(16)))
        keys = list(storage.list())
        assert created == len(keys) == 16 * 5 + 5
        assert all(storage.get(key) == key.encode() * 1000 for key in keys)

    def test_sweeping_spares_what_a_live_writer_has_staged(self, storage: Storage) -> None:
        staged = storage.stage("a", b"1")
        assert storage.sweep(older_than_s=-1) == 0
        assert list(storage.publish([staged])) == [True]

    def test_closing_drops_what_was_not_published(self, storage: Storage) -> None:
        storage.put("a", b"1")
        staged = storage.stage("b", b"2")
        storage.close()
        with pytest.raises(StorageError):
            storage.publish([staged])
        assert storage.put("c", b"3") is True
        assert list(storage.list()) == ["a", "c"]


@given(st.text(max_size=300))
def test_an_accepted_key_stays_below_the_folder_it_is_joined_to(key: str) -> None:
    try:
        parts = key_parts(key)
    except StorageError:
        return
    assert os.path.normpath(os.path.join("/lake", key)) == "/lake/" + "/".join(parts)
