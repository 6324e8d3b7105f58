"""Every file met is accounted for exactly once, whatever was done to it. Archives here are real ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.ingest.sources import (
    BytesContent,
    Candidate,
    FileContent,
    Item,
    Limits,
    Refused,
    Skipped,
    Source,
    SpooledContent,
    count,
    discover,
)

TESTDATA = Path(os.environ.get("DICOMLAKE_TESTDATA", Path(__file__).parents[3] / "shared" / "data"))
DICOMDIRS = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
PROJECT = Path(__file__).parents[2]
PDF = b"%PDF-1.7\n" + b"x" * 100


def dicom(number: int = 0, size: int = 0) -> bytes:
    """The first elements of a DICOM file, different for each number; `size` zeros follow."""
    sop_instance = f"1.2.{number}".encode().ljust(16, b"\0")
    meta = struct.pack("<HH2sH26s", 2, 2, b"UI", 26, b"1.2.840.10008.5.1.4.1.1.7\0")
    meta += struct.pack("<HH2sH16s", 2, 3, b"UI", 16, sop_instance)
    return bytes(128) + b"DICM" + meta + bytes(size)


def found(*sources: Source, limits: Limits | None = None) -> list[Item]:
    return list(discover(*sources, limits=limits or Limits()))


def fates(items: list[Item]) -> dict[str, str]:
    """Origin to the name of the item's class; an origin met twice fails."""
    origins = [item.origin for item in items]
    assert len(set(origins)) == len(origins)
    return {item.origin: type(item).__name__ for item in items}


def only(items: list[Item]) -> Item:
    (item,) = items
    return item


def reason_of(item: Item) -> str:
    assert isinstance(item, (Skipped, Refused))
    return item.reason


def bytes_of(item: Item) -> bytes:
    assert isinstance(item, (Candidate, Refused))
    assert item.content is not None
    return item.content.read()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return target.getvalue()


def tarred(members: dict[str, bytes], *others: tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in others:
            archive.addfile(info)
    return target.getvalue()


def tar_entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that origins are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- real data -----------------------------------------------------------------------------


def test_every_file_of_the_real_data_is_accounted_for_once() -> None:
    if not TESTDATA.is_dir():
        pytest.skip("no test data: set DICOMLAKE_TESTDATA")
    items = found(TESTDATA)
    paths = {str(path) for path in TESTDATA.rglob("*") if path.is_file()}
    assert fates(items).keys() == paths
    assert count(TESTDATA) == len(paths)


def test_every_real_file_that_pydicom_reads_is_a_candidate_unless_it_is_a_dicomdir() -> None:
    if not TESTDATA.is_dir():
        pytest.skip("no test data: set DICOMLAKE_TESTDATA")
    met = fates(found(TESTDATA))
    for path in filter(Path.is_file, TESTDATA.rglob("*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
            except Exception:
                continue
        is_directory = meta.get("MediaStorageSOPClassUID") == "1.2.840.10008.1.3.10"
        assert met[str(path)] == ("Skipped" if is_directory else "Candidate")


# --- folders -------------------------------------------------------------------------------


def test_a_folder_is_read_to_any_depth_in_sorted_order(here: Path) -> None:
    deep = Path("a", *("b" * 20), "c")
    deep.mkdir(parents=True)
    for number, path in enumerate([deep / "IM1", Path("a/z"), Path("a/A")]):
        path.write_bytes(dicom(number))
    assert [item.origin for item in found("a")] == ["a/A", str(deep / "IM1"), "a/z"]
    assert count("a") == 3


def test_a_folder_is_walked_lazily(here: Path) -> None:
    for name in "ab":
        Path(name).write_bytes(dicom())
    items = discover(".")
    assert isinstance(next(items), Candidate)
    Path("b").unlink()
    vanished = next(items)
    assert isinstance(vanished, Refused)
    assert vanished.content is None
    assert "vanished" in vanished.reason


def test_a_folder_that_vanishes_is_refused(here: Path) -> None:
    Path("a").write_bytes(dicom())
    Path("b").mkdir()
    items = discover(".")
    next(items)
    Path("b").rmdir()
    assert "vanished" in reason_of(only(list(items)))


def test_bytes_decide_and_names_do_not(here: Path) -> None:
    contents = {
        "report.txt": dicom(),
        "IM1.dcm": PDF,
        "IM2.IMA": b"",
        "IM3.dicom": b"text",
        "notes": b"text",
        "empty": b"",
        "old.7z": b"7z\xbc\xaf\x27\x1c\0\x04",
        ".DS_Store": b"\0\0\0\1Bud1",
        "Thumbs.db": b"",
        "desktop.ini": b"[.ShellClassInfo]",
        "DIRFILE": b"\1\2\3",
        "._IM1.dcm": b"\0\5\x16\7\0\2\0\0Mac OS X",
        "__MACOSX/IM1.dcm": b"x",
    }
    for name, data in contents.items():
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_bytes(data)
    items = {item.origin.removeprefix("in/"): item for item in found("in")}
    refused = {"IM1.dcm", "IM2.IMA", "IM3.dicom", "old.7z"}
    assert items.keys() == contents.keys()
    assert isinstance(items.pop("report.txt"), Candidate)
    assert {name for name, item in items.items() if isinstance(item, Refused)} == refused
    for name in refused:
        assert bytes_of(items[name]) == contents[name]
    assert reason_of(items["notes"]) == "text, not DICOM"
    assert reason_of(items["empty"]) == "empty file"
    assert "macOS" in reason_of(items[".DS_Store"])
    assert "resource fork" in reason_of(items["._IM1.dcm"])


def test_a_symbolic_link_is_followed_to_the_ordinary_file(here: Path) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/IM1").write_bytes(dicom())
    Path("in").mkdir()
    Path("in/file").symlink_to("../elsewhere/IM1")
    Path("in/folder").symlink_to("../elsewhere")
    items = found("in")
    assert fates(items) == {"in/file": "Candidate", "in/folder/IM1": "Candidate"}
    link = items[0]
    assert isinstance(link, Candidate)
    assert link.content.path is not None
    assert not link.content.path.is_symlink()


def test_symbolic_link_loops_end(here: Path) -> None:
    Path("in/sub").mkdir(parents=True)
    Path("in/sub/IM1").write_bytes(dicom())
    Path("in/sub/up").symlink_to("..")
    Path("in/twin").symlink_to("sub")
    Path("in/self").symlink_to("self")
    Path("in/broken").symlink_to("nothing")
    reasons = {item.origin: reason_of(item) for item in found("in") if not isinstance(item, Candidate)}
    assert reasons.keys() == {"in/sub/up", "in/twin", "in/self", "in/broken"}
    assert "symbolic link loop" in reasons["in/sub/up"]
    assert "already read" in reasons["in/twin"]
    assert reasons["in/self"] == "symbolic link loop"
    assert reasons["in/broken"] == "broken symbolic link"


def test_what_could_block_is_named_and_not_opened(here: Path) -> None:
    os.mkfifo("fifo.dcm")
    Path("link").symlink_to("fifo.dcm")
    Path("null").symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        items = found(".")
    assert set(fates(items).values()) == {"Skipped"}
    kinds = {item.origin: reason_of(item).split(",")[0] for item in items}
    assert kinds == {
        "./fifo.dcm": "FIFO",
        "./link": "FIFO",
        "./null": "character device",
        "./socket": "socket",
    }


def test_a_file_that_became_a_fifo_does_not_block(here: Path) -> None:
    Path("IM1").write_bytes(dicom())
    candidate = only(found("IM1"))
    Path("IM1").unlink()
    os.mkfifo("IM1")
    with pytest.raises(OSError, match="not an ordinary file"):
        bytes_of(candidate)


def test_what_may_not_be_read_is_refused(here: Path) -> None:
    """Root may read everything, so the test asks as somebody else."""
    Path("file").write_bytes(dicom())
    Path("folder").mkdir()
    Path("file").chmod(0)
    Path("folder").chmod(0)
    here.chmod(0o755)
    script = """
import os
from dicomlake.ingest.sources import discover
os.geteuid() or os.seteuid(65534)
for item in discover("."):
    print(type(item).__name__, item.origin, item.reason)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    Path("folder").chmod(0o700)
    assert run.stderr == ""
    for line, name in zip(run.stdout.splitlines(), ["file", "folder"], strict=True):
        assert line.startswith(f"Refused ./{name} not readable: permission denied")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"IM\n1", "IM\\n1"),
        (b"IM\x1b[31m", "IM\\x1b[31m"),
        (b"IM\xff", "IM\\xff"),
        ("IM\u202e1".encode(), "IM\\u202e1"),
        ("Größe".encode(), "Größe"),
        (b"I" * 255, "I" * 255),
    ],
)
def test_any_name_is_read_and_shown_on_one_line(here: Path, name: bytes, shown: str) -> None:
    Path("in").mkdir()
    Path("in", os.fsdecode(name)).write_bytes(dicom())
    candidate = only(found("in"))
    assert candidate.origin == f"in/{shown}"
    assert bytes_of(candidate) == dicom()


@pytest.mark.parametrize("path", ["nothing", "a\0b", "a" * 300, ""])
def test_a_path_that_cannot_be_is_refused_and_the_next_source_read(here: Path, path: str) -> None:
    refused, candidate = found(path, dicom())
    assert isinstance(refused, Refused)
    assert refused.content is None
    assert isinstance(candidate, Candidate)


def test_a_missing_path_is_said_to_be_missing(here: Path) -> None:
    assert reason_of(only(found("nothing"))).startswith("no such file or folder")


# --- bytes ---------------------------------------------------------------------------------


def test_bytes_and_iterables_of_bytes_are_numbered(here: Path) -> None:
    Path("IM1").write_bytes(dicom(9))
    sources: list[Source] = [
        dicom(0),
        (dicom(n) for n in (1, 2)),
        [bytearray(dicom(3)), Path("IM1")],
        b"x",
        b"",
    ]
    items = found(*sources)
    assert fates(items) == {
        **{f"bytes[{number}]": "Candidate" for number in range(4)},
        "IM1": "Candidate",
        "bytes[4]": "Refused",
        "bytes[5]": "Refused",
    }
    assert [bytes_of(items[number]) for number in range(4)] == [dicom(number) for number in range(4)]


def test_sources_are_taken_one_at_a_time() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield dicom()

    items = discover(endless())
    assert [next(items).origin for _ in range(3)] == ["bytes[0]", "bytes[1]", "bytes[2]"]


@pytest.mark.parametrize("source", [None, 3, io.BytesIO(dicom())])
def test_what_is_no_source_raises(source: Source) -> None:
    with pytest.raises(TypeError, match="pass a path, bytes"):
        found(source)


def test_an_archive_in_memory_is_unpacked() -> None:
    assert fates(found(zipped({"IM1": dicom()}))) == {"bytes[0]!/IM1": "Candidate"}


# --- contents ------------------------------------------------------------------------------


def spooled(folder: Path, data: bytes) -> SpooledContent:
    (folder / "spooled").write_bytes(data)
    return SpooledContent(folder / "spooled", len(data))


def in_a_file(folder: Path, data: bytes) -> FileContent:
    (folder / "file").write_bytes(data)
    return FileContent(folder / "file", len(data))


@pytest.mark.parametrize("make", [in_a_file, spooled, lambda _, data: BytesContent(data)])
def test_contents_of_all_kinds_read_alike(
    tmp_path: Path, make: Callable[[Path, bytes], FileContent | SpooledContent | BytesContent]
) -> None:
    data = bytes(range(256)) * 10
    content = make(tmp_path, data)
    assert content.size == len(data)
    assert content.read() == data
    assert content.read(10, 300) == data[10:300]
    assert content.read(2550) == data[2550:]
    assert content.read(20, 10) == b""
    assert [len(chunk) for chunk in content.chunks(1000)] == [1000, 1000, 560]
    assert content.path is None or content.path.read_bytes() == data
    content.close()


def test_file_contents_pickle_without_their_bytes(tmp_path: Path) -> None:
    content = in_a_file(tmp_path, dicom(size=1 << 20))
    pickled = pickle.dumps(content)
    assert len(pickled) < 1000
    assert pickle.loads(pickled) == content


def test_a_large_member_is_a_temporary_file_until_it_is_closed(tmp_path: Path) -> None:
    data = dicom(size=100_000)
    limits = Limits(in_memory=10_000, spool_folder=tmp_path)
    kept, dropped = found(zipped({"a": data, "b": data}), limits=limits)
    assert isinstance(kept, Candidate)
    assert isinstance(kept.content, SpooledContent)
    assert bytes_of(kept) == data
    os.link(kept.content.path, tmp_path / "linked")
    kept.content.close()
    del dropped
    assert [path.name for path in tmp_path.iterdir()] == ["linked"]
    assert (tmp_path / "linked").read_bytes() == data


# --- zip -----------------------------------------------------------------------------------


def test_zip_members_are_read_and_their_names_never_used(here: Path) -> None:
    names = ["../../evil", "/etc/evil", "dir/IM1", "a\nb", "I" * 255, "dir\\IM2"]
    Path("a.zip").write_bytes(zipped({name: dicom(number) for number, name in enumerate(names)}))
    items = found("a.zip")
    assert [bytes_of(item) for item in items] == [dicom(number) for number in range(len(names))]
    assert [item.origin for item in items] == [f"a.zip!/{name}".replace("\n", "\\n") for name in names]
    assert list(Path().iterdir()) == [Path("a.zip")]
    assert count("a.zip") == len(names)


def test_zip_members_that_are_not_dicom_are_judged_as_files_are() -> None:
    members = {"a.pdf": PDF, "IM1.dcm": PDF, "__MACOSX/._IM1": b"\0\5\x16\7", "folder/": b"", "e.dcm": b""}
    items = {item.origin: item for item in found(zipped(members))}
    assert {origin.removeprefix("bytes[0]!/"): type(item) for origin, item in items.items()} == {
        "a.pdf": Skipped,
        "IM1.dcm": Refused,
        "__MACOSX/._IM1": Skipped,
        "e.dcm": Refused,
    }
    assert bytes_of(items["bytes[0]!/IM1.dcm"]) == PDF


def test_a_zip_bomb_of_zeros_is_not_inflated() -> None:
    """64 MiB that are not DICOM count 4096 bytes: a budget of 64 KiB suffices for the archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("zeros", "w") as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
        archive.writestr("IM1", dicom())
    limits = Limits(max_expansion=1 << 16, max_ratio=0)
    assert list(fates(found(target.getvalue(), limits=limits)).values()) == ["Skipped", "Candidate"]


def test_a_zip_bomb_that_begins_as_dicom_ends_with_the_budget(tmp_path: Path) -> None:
    bomb = zipped({"first": dicom(), "bomb": dicom(size=20 << 20), "last": dicom()})
    limits = Limits(max_expansion=4 << 20, in_memory=1 << 18, max_ratio=10, spool_folder=tmp_path)
    items = found(bomb, limits=limits)
    assert fates(items) == {"bytes[0]!/first": "Candidate", "bytes[0]": "Refused"}
    assert "expands to more than 4 MiB" in reason_of(items[-1])
    assert bytes_of(items[-1]) == bomb
    assert list(tmp_path.iterdir()) == []


def test_the_budget_is_shared_by_nested_archives() -> None:
    inner = zipped({"IM1": dicom(size=1 << 20)})
    outer = zipped({f"{number}.zip": inner for number in range(50)})
    items = found(outer, limits=Limits(max_expansion=4 << 20, max_ratio=1))
    assert 2 <= sum(isinstance(item, Candidate) for item in items) <= 4
    assert isinstance(items[-1], Refused)
    assert items[-1].origin == "bytes[0]"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_over_the_object_limit_is_refused_unread_and_the_next_read(
    pack: Callable[[dict[str, bytes]], bytes],
) -> None:
    archive = pack(
        {"large": dicom(size=1 << 16), "film": bytes(1 << 16), "x.dcm": bytes(1 << 16), "IM1": dicom()}
    )
    limits = Limits(max_object=1 << 13, in_memory=1 << 13, max_expansion=1 << 15, max_ratio=0)
    items = found(archive, limits=limits)
    assert list(fates(items).values()) == ["Refused", "Skipped", "Refused", "Candidate"]
    assert "larger than" in reason_of(items[0])


def test_a_compressed_file_over_the_object_limit_is_refused(tmp_path: Path) -> None:
    limits = Limits(max_object=3 << 20, in_memory=1 << 20, spool_folder=tmp_path)
    refused = only(found(gzip.compress(dicom(size=8 << 20)), limits=limits))
    assert "larger than 3 MiB" in reason_of(refused)
    assert list(tmp_path.iterdir()) == []


def overlapping_zip() -> bytes:
    """Two names for one and the same member, which is how a small zip becomes a large bomb."""
    data = bytearray(zipped({"a": dicom(0), "b": dicom(1)}, zipfile.ZIP_STORED))
    second = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, second + 42, 0)  # offset of its local header, APPNOTE.TXT 4.3.12
    data[second + 46 : second + 47] = b"a"
    return bytes(data)


def test_overlapping_zip_members_are_refused() -> None:
    items = found(overlapping_zip())
    assert len(items) == 2
    assert "overlap" in reason_of(items[0])
    assert sum(isinstance(item, Candidate) for item in items) <= 1


def test_a_member_that_reaches_into_the_next_one_is_refused() -> None:
    """The quoted overlap: a member's bytes hold the next member's header."""
    data = bytearray(zipped({"a": dicom(0), "b": dicom(1)}, zipfile.ZIP_STORED))
    first = data.index(b"PK\1\2")
    size = struct.unpack_from("<I", data, first + 20)[0] + 40
    struct.pack_into("<II", data, first + 20, size, size)
    assert [type(item) for item in found(bytes(data))] == [Refused, Candidate]


def test_a_member_with_a_wrong_crc_is_refused_and_the_next_read() -> None:
    data = bytearray(zipped({"a": dicom(7), "b": dicom()}, zipfile.ZIP_STORED))
    data[data.index(b"1.2.7") + 4] ^= 1
    items = found(bytes(data))
    assert list(fates(items).values()) == ["Refused", "Candidate"]
    assert "damaged" in reason_of(items[0])


def test_an_encrypted_member_is_refused_with_a_remedy() -> None:
    data = bytearray(zipped({"a": dicom(), "b": dicom()}))
    data[data.index(b"PK\3\4") + 6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    items = found(bytes(data))
    assert list(fates(items).values()) == ["Refused", "Candidate"]
    assert reason_of(items[0]) == "encrypted; unpack it first with its password"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_cannot_be_unpacked_in_bounds_is_refused(method: int) -> None:
    assert "unpack it first" in reason_of(only(found(zipped({"a": dicom()}, method))))


def test_a_symbolic_link_in_a_zip_is_skipped() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "symbolic link" in reason_of(only(found(target.getvalue())))


@pytest.mark.parametrize("cut", [30, 100, 200, 320])
def test_a_zip_cut_short_is_refused_with_its_bytes(cut: int) -> None:
    data = zipped({"a": dicom(), "b": dicom()}, zipfile.ZIP_STORED)[:cut]
    refused = only(found(data))
    assert isinstance(refused, Refused)
    assert bytes_of(refused) == data


def test_a_zip_with_a_directory_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomlake.ingest.sources.archives._MAX_ZIP_DIRECTORY", 70_000)
    data = zipped({f"{number:04}": b"" for number in range(2000)})
    assert "directory is too large" in reason_of(only(found(data)))


def test_an_archive_without_files_is_named() -> None:
    folder = tar_entry("folder", tarfile.DIRTYPE)
    empty = [zipped({}), zipped({"folder/": b""}), tarred({}, folder), gzip.compress(tarred({}, folder))]
    assert [reason_of(item) for item in found(empty)] == ["archive without files"] * len(empty)


# --- tar -----------------------------------------------------------------------------------


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("compress", [plain, gzip.compress, bz2.compress, lzma.compress])
def test_tar_archives_are_read_in_every_compression(here: Path, compress: Callable[[bytes], bytes]) -> None:
    members = {f"dir/IM{number}": dicom(number, size=number * 1000) for number in range(5)}
    Path("a.tar").write_bytes(compress(tarred({**members, "a.pdf": PDF})))
    items = found("a.tar")
    assert [bytes_of(item) for item in items[:5]] == list(members.values())
    assert fates(items) == {f"a.tar!/{name}": "Candidate" for name in members} | {"a.tar!/a.pdf": "Skipped"}


def test_only_bytes_are_taken_from_a_tar(here: Path) -> None:
    evil = [
        tar_entry("symlink", tarfile.SYMTYPE, "/etc/passwd"),
        tar_entry("hardlink", tarfile.LNKTYPE, "../../etc/passwd"),
        tar_entry("device", tarfile.CHRTYPE),
        tar_entry("disk", tarfile.BLKTYPE),
        tar_entry("fifo", tarfile.FIFOTYPE),
        tar_entry("folder", tarfile.DIRTYPE),
    ]
    Path("a.tar").write_bytes(
        tarred({"../../evil": dicom(), "/etc/evil": dicom(), "n" * 255: dicom()}, *evil)
    )
    items = found("a.tar")
    assert fates(items) == {
        "a.tar!/../../evil": "Candidate",
        "a.tar!//etc/evil": "Candidate",
        f"a.tar!/{'n' * 255}": "Candidate",
        **{f"a.tar!/{name}": "Skipped" for name in ("symlink", "hardlink", "device", "disk", "fifo")},
    }
    assert list(Path().iterdir()) == [Path("a.tar")]


def test_a_sparse_member_that_claims_a_huge_size_is_refused() -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50), "GNU.sparse.numblocks": "1"}
    assert "sparse" in reason_of(only(found(tarred({}, info))))


@pytest.mark.parametrize("compress", [plain, gzip.compress])
@pytest.mark.parametrize("at", [1536, 1700, 2048])
def test_a_tar_cut_short_keeps_what_was_read(compress: Callable[[bytes], bytes], at: int) -> None:
    """The first member ends at byte 1024 (a header and a block), the second at 2048."""
    data = compress(tarred({"a": dicom(0), "b": dicom(1, size=100)}, format=tarfile.USTAR_FORMAT)[:at])
    items = found(data)
    assert isinstance(items[0], Candidate)
    assert isinstance(items[-1], Refused)
    assert items[-1].origin == "bytes[0]"
    assert bytes_of(items[-1]) == data


def test_a_damaged_tar_header_is_not_taken_for_the_end() -> None:
    data = bytearray(tarred({"a": dicom(0), "b": dicom(1), "c": dicom(2)}, format=tarfile.USTAR_FORMAT))
    data[1024 + 150] ^= 7  # in the checksum of the second header
    assert fates(found(bytes(data))) == {"bytes[0]!/a": "Candidate", "bytes[0]": "Refused"}


def test_a_second_tar_behind_the_end_of_the_first_is_reported() -> None:
    items = found(tarred({"a": dicom(0)}) + tarred({"b": dicom(1)}))
    assert fates(items) == {"bytes[0]!/a": "Candidate", "bytes[0]": "Refused"}
    assert "bytes follow" in reason_of(items[-1])


@pytest.mark.parametrize("compress", [plain, gzip.compress])
@pytest.mark.parametrize("size", [-512, -2048])
def test_a_negative_size_in_a_tar_ends_it(compress: Callable[[bytes], bytes], size: int) -> None:
    """tarfile itself goes round in circles here, before it was mended (CVE-2025-8194)."""
    data = bytearray(tarred({"a": dicom(0), "b": b"x" * 100}, format=tarfile.USTAR_FORMAT))
    header = data[1024:1536]
    header[124:136] = b"\xff" * 10 + struct.pack(">h", size)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    data[1024:1536] = header
    items = found(compress(bytes(data)))
    assert isinstance(items[0], Candidate)
    assert isinstance(items[-1], Refused)


def test_a_tar_header_that_asks_for_all_memory_is_refused() -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * (1 << 20)}
    assert "too large" in reason_of(only(found(gzip.compress(tarred({}, info)))))


def test_a_compressed_tar_bomb_ends_with_the_budget() -> None:
    bomb = bz2.compress(tarred({"a": dicom(), "zeros": bytes(30 << 20), "b": dicom()}))
    items = found(bomb, limits=Limits(max_expansion=8 << 20))
    assert isinstance(items[0], Candidate)
    assert "expands to more than" in reason_of(items[-1])
    assert "b" not in [item.origin for item in items]


# --- gzip ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_a_compressed_dicom_file_keeps_its_own_origin(
    here: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    Path(f"scan.dcm.{suffix}").write_bytes(pack(dicom()))
    candidate = only(found("."))
    assert candidate.origin == f"./scan.dcm.{suffix}"
    assert bytes_of(candidate) == dicom()


def test_what_a_gzip_file_holds_is_named(here: Path) -> None:
    nifti = struct.pack("<i", 348) + bytes(340) + b"n+1\0" + bytes(100)
    Path("a.nii.gz").write_bytes(gzip.compress(nifti))
    Path("b.dcm.gz").write_bytes(gzip.compress(b"no image"))
    skipped, refused = found(".")
    assert isinstance(skipped, Skipped)
    assert skipped.reason.startswith("NIfTI, gzip-compressed")
    assert isinstance(refused, Refused)
    assert bytes_of(refused) == b"no image"


@pytest.mark.parametrize("missing", [1, 4, 8, 30])
def test_a_gzip_file_cut_short_is_refused_with_its_bytes(missing: int) -> None:
    data = gzip.compress(dicom(size=5000))[:-missing]
    refused = only(found(data))
    assert isinstance(refused, Refused)
    assert "cut short" in refused.reason
    assert bytes_of(refused) == data


def test_a_gzip_file_with_a_wrong_crc_is_refused() -> None:
    data = bytearray(gzip.compress(dicom()))
    data[-8] ^= 1
    assert "damaged" in reason_of(only(found(bytes(data))))


@pytest.mark.parametrize(
    "pack", [gzip.compress, lambda data: zipped({"inner": data}), lambda data: tarred({"i": data})]
)
def test_archives_are_opened_three_deep_and_no_deeper(pack: Callable[[bytes], bytes]) -> None:
    three = pack(pack(pack(dicom())))
    assert bytes_of(only(found(three))) == dicom()
    assert "nested more than 3 deep" in reason_of(only(found(pack(three))))


def test_a_compressed_tar_counts_as_one_archive() -> None:
    nested = zipped({"b.zip": zipped({"c.tar.gz": gzip.compress(tarred({"IM1": dicom()}))})})
    assert only(found(nested)).origin == "bytes[0]!/b.zip!/c.tar.gz!/IM1"


def test_a_broken_inner_archive_does_not_end_the_outer_one() -> None:
    items = found(
        zipped({"a.zip": zipped({"IM1": dicom()})[:-10], "b.tar": tarred({})[:512], "IM2": dicom()})
    )
    assert isinstance(items[-1], Candidate)
    assert fates(items)["bytes[0]!/a.zip"] == "Refused"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are kept on Linux")
def test_bombs_stay_within_memory(tmp_path: Path) -> None:
    """Each would take over 200 MiB if it were unpacked at once; 192 MiB is all there is, Python included."""
    (tmp_path / "a.bz2").write_bytes(bz2.compress(bytes(200 << 20)))
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(tarred({"large": dicom(size=200 << 20)})))
    sparse_map = tarfile.TarInfo("map")  # each number of a sparse map becomes an object
    sparse_map.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    sparse_map.size = 16 << 20
    numbers = tarred({}, sparse_map)[: 3 * tarfile.BLOCKSIZE] + b"8000000\n" + b"1\n" * (8 << 20)
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(numbers))
    script = """
import resource, sys
from dicomlake.ingest.sources import Limits, discover
resource.setrlimit(resource.RLIMIT_AS, (192 << 20, 192 << 20))
for item in discover(sys.argv[1], limits=Limits(in_memory=16 << 20)):
    content = getattr(item, "content", None)
    what = getattr(item, "reason", content and content.size)
    print(type(item).__name__, item.origin.rpartition("/")[2], what)
    if content:
        content.close()
"""
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert run.stderr == ""
    bzip2, large, header = run.stdout.splitlines()
    assert bzip2.startswith("Skipped a.bz2 unknown binary")
    assert large == f"Candidate large {len(dicom(size=200 << 20))}"
    assert header.startswith("Refused c.tar.gz its directory is too large")


PACKED = {
    "zip": zipped({"a": dicom(0), "b/c": dicom(1), "d.pdf": PDF}),
    "stored": zipped({"a": dicom(0), "b": zipped({"c": dicom(1)})}, zipfile.ZIP_STORED),
    "tar": tarred({"a": dicom(0), "n" * 200: dicom(1)}, tar_entry("l", tarfile.SYMTYPE, "a")),
    "gnu": tarred({"a": dicom(0), "n" * 200: dicom(1)}, format=tarfile.GNU_FORMAT),
    "tar.gz": gzip.compress(tarred({"a": dicom(0), "b": dicom(1)})),
    "bz2": bz2.compress(dicom()),
    "xz": lzma.compress(dicom()),
}


@settings(max_examples=60)
@given(st.sampled_from(sorted(PACKED)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_damage_of_any_kind_gives_items_and_never_an_error(
    kind: str, damage: list[tuple[float, int]]
) -> None:
    data = bytearray(PACKED[kind])
    for where, byte in damage:
        data[int(where * (len(data) - 1))] = byte
    items = found(bytes(data))
    assert items
    assert all(item.origin.isprintable() for item in items)


# --- DICOMDIR ------------------------------------------------------------------------------


@pytest.fixture
def disc(here: Path) -> Path:
    shutil.copytree(DICOMDIRS / "TINY_ALPHA", "disc")
    return Path("disc")


def named_by(dicomdir: Path) -> set[str]:
    """The paths that pydicom finds in a DICOMDIR."""
    records = pydicom.dcmread(dicomdir).DirectoryRecordSequence
    return {str(dicomdir.parent.joinpath(*r.ReferencedFileID)) for r in records if "ReferencedFileID" in r}


def test_a_dicomdir_given_itself_leads_to_the_files_it_names(disc: Path) -> None:
    (disc / "not-named").write_bytes(dicom())
    first, *others = found(disc / "DICOMDIR")
    assert isinstance(first, Skipped)
    assert fates(others) == dict.fromkeys(named_by(disc / "DICOMDIR"), "Candidate")
    assert count(disc / "DICOMDIR") is None


def test_a_dicomdir_in_a_folder_or_archive_is_skipped(disc: Path) -> None:
    dicomdir = (disc / "DICOMDIR").read_bytes()
    items = fates(found(disc))
    assert items.pop("disc/DICOMDIR") == "Skipped"
    assert items["disc/README"] == "Skipped"
    assert reason_of(only(found(zipped({"X": dicomdir})))).startswith("DICOMDIR")
    assert reason_of(only(found(dicomdir))).startswith("DICOMDIR")


def test_file_ids_match_names_in_small_letters(disc: Path) -> None:
    expected = {path.lower() for path in named_by(disc / "DICOMDIR")}
    for path in sorted(disc.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower()))
    _, *others = found(disc / "dicomdir")
    assert fates(others) == dict.fromkeys(expected, "Candidate")


def test_a_file_that_a_dicomdir_names_and_that_is_missing_is_refused(disc: Path) -> None:
    missing = sorted(named_by(disc / "DICOMDIR"))[0]
    Path(missing).unlink()
    refused = [item for item in found(disc / "DICOMDIR") if isinstance(item, Refused)]
    assert [item.origin for item in refused] == [missing]
    assert "named by the DICOMDIR but missing" in refused[0].reason


def edited(dicomdir: Path, edit: Callable[[pydicom.Dataset], None]) -> None:
    directory = pydicom.dcmread(dicomdir)
    edit(next(r for r in directory.DirectoryRecordSequence if "ReferencedFileID" in r))
    directory.save_as(dicomdir)


@pytest.mark.parametrize("file_id", [["..", "EVIL"], ["", "ETC", "EVIL"], ["/ETC/EVIL"], ["A", ".", "B"]])
def test_a_dicomdir_does_not_lead_out_of_its_folder(disc: Path, file_id: list[str]) -> None:
    Path("EVIL").write_bytes(dicom())

    def lead_out(record: pydicom.Dataset) -> None:
        record["ReferencedFileID"]._value = file_id  # pydicom would warn of it

    edited(disc / "DICOMDIR", lead_out)
    refused = only([item for item in found(disc / "DICOMDIR") if not isinstance(item, Candidate)][1:])
    assert "outside its folder" in reason_of(refused)


def test_a_record_that_is_no_longer_in_use_is_skipped(disc: Path) -> None:
    edited(disc / "DICOMDIR", lambda record: setattr(record, "RecordInUseFlag", 0))
    assert (
        sum(
            "no longer in use" in reason_of(item)
            for item in found(disc / "DICOMDIR")
            if isinstance(item, Skipped)
        )
        == 1
    )


@pytest.mark.parametrize("size", [400, 1000, 2000])
def test_a_dicomdir_cut_short_is_refused_or_read_as_far_as_it_goes(disc: Path, size: int) -> None:
    data = (disc / "DICOMDIR").read_bytes()[:size]
    (disc / "DICOMDIR").write_bytes(data)
    first, *others = found(disc / "DICOMDIR")
    assert isinstance(first, Refused) or (isinstance(first, Skipped) and others != [])


# --- counting ------------------------------------------------------------------------------


def test_what_cannot_be_counted_cheaply_is_none(here: Path) -> None:
    Path("a.tar").write_bytes(tarred({"IM1": dicom()}))
    Path("a.zip").write_bytes(zipped({"IM1": dicom(), "folder/": b"", "IM2": dicom()}))
    Path("broken.zip").write_bytes(zipped({"IM1": dicom()})[:-5])
    taken: list[bytes] = []
    assert count(dicom(), [dicom(), "a.zip"]) == 4
    assert count("a.tar") is None
    assert count("broken.zip") is None
    assert count(taken.append(b"") or b"" for _ in range(3)) is None
    assert taken == []
