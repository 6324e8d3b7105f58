"""Input that means harm or is broken is stored, quarantined or listed; nothing else happens."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import dicomlake
from dicomlake.storage import layout
from tests.objects import ROOT, by_hand, dicom, explicit, head, series
from tests.support import PROJECT

MEMORY = 2 << 30  # bytes of address space, Python and its libraries included


def element_claiming(length: int, group: int, element: int, vr: bytes) -> bytes:
    return struct.pack("<HH2sHI", group, element, vr, 0, length) + bytes(64)


def nested_undefined(depth: int) -> bytes:
    """Sequences and items of undefined length, never closed."""
    sequence = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return (sequence + item) * depth


def nested_defined(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = explicit(0x0040, 0xA730, b"SQ", item)
    return inner


def zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return target.getvalue()


def tar_with_links() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../../escaped.dcm")
        info.size = len(dicom(1))
        archive.addfile(info, io.BytesIO(dicom(1)))
    return target.getvalue()


def overflowing(vr: bytes, length: int) -> bytes:
    return by_hand(more=element_claiming(length, 0x0028, 0x3006, vr))


BAD_UIDS = {
    "climbing": b"../../../../escaped ",
    "absolute": b"/etc/escaped",
    "with NUL": b"1.2\x00.3 ",
    "long": b"1." + b"2" * 298,
    "latin": "1.2.é".encode("latin-1") + b" ",
    "newline": b"1.2\n3 ",
    "escape": b"1.2\x1b[31m ",
    "dots": b"..",
    "backslashes": b"a\\..\\b ",
    "tilde": b"1~abababab",
    "reserved": b"CON ",
    "empty": b"",
    "blank": b"    ",
}
HOSTILE: dict[str, bytes] = {
    **{f"SOP {name}": by_hand({0x00080018: uid}) for name, uid in BAD_UIDS.items()},
    **{f"series {name}": by_hand({0x0020000E: uid}) for name, uid in BAD_UIDS.items()},
    **{f"study {name}": by_hand({0x0020000D: uid}) for name, uid in BAD_UIDS.items()},
    **{f"cut at {size}": dicom(50)[:size] for size in (1, 100, 132, 140, 200, 300, 400, 700, 900)},
    "3 GB of pixels": by_hand(more=element_claiming(3 << 30, 0x7FE0, 0x0010, b"OW")),
    "3 GB of bytes": overflowing(b"OB", 3 << 30),
    "3 GB of text": overflowing(b"UT", 3 << 30),
    "3 GB of items": overflowing(b"SQ", 3 << 30),
    "4 GB less one": overflowing(b"UN", 0xFFFFFFFE),
    "pixels without end": by_hand(more=element_claiming(0xFFFFFFFF, 0x7FE0, 0x0010, b"OB")),
    "3 GB of meta": bytes(128) + b"DICM" + element_claiming(3 << 30, 0x0002, 0x0102, b"OB"),
    "3 GB of item": by_hand(
        more=explicit(0x0040, 0xA730, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 3 << 30))
    ),
    "nested without end": by_hand(more=nested_undefined(20_000)),
    "nested 3000 deep": by_hand({0x00080018: b"1.2.3.77"}, nested_defined(3000)),
    "huge image": dicom(60, Rows=65535, Columns=65535, NumberOfFrames=2_000_000_000),
    "negative image": dicom(61, NumberOfFrames=-5, Rows=0, Columns=0),
    "no numbers": by_hand(
        {0x00080018: b"1.2.3.78"},
        explicit(0x0020, 0x0032, b"DS", b"nan\\inf\\1e999 ") + explicit(0x0028, 0x0030, b"DS", b"-0\\x "),
    ),
    "no SOPInstanceUID": dicom(62, SOPInstanceUID=None),
    "no SeriesInstanceUID": dicom(63, SeriesInstanceUID=None),
    "nothing but a preamble": head(),
    "deflated bomb": dicom(64)[:132]
    + explicit(2, 0x10, b"UI", b"1.2.840.10008.1.2.1.99\0\0")
    + gzip.compress(bytes(1 << 24))[10:],
    "zip bomb": zipped({"bomb.dcm": dicom(65) + bytes(1 << 22), "../../escaped.dcm": dicom(66)}),
    "zip cut": zipped({"a": dicom(67)})[:-30],
    "tar": tar_with_links(),
    "gzip cut": gzip.compress(dicom(68))[:-9],
    "text": b"just text\n",
    "nothing": b"",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with every hostile file, a good series among them, and odd things beside."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, (name, data) in enumerate(HOSTILE.items()):
        (folder / f"{number:03} {name}.dcm").write_bytes(data)
    for number, data in enumerate(series(3, f"{ROOT}.7.1")):
        (folder / f"good{number}").write_bytes(data)
    os.mkfifo(folder / "fifo.dcm")
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")
    (folder / os.fsdecode(b"name \xff\n.dcm")).write_bytes(dicom(69))
    return folder


def snapshot(folder: Path, but: str) -> dict[str, object]:
    """All that lies in a folder, links not followed, without one of its subfolders."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        if p.is_file() and not p.is_symlink()
        else p.lstat().st_mode
        for p in sorted(folder.rglob("*"))
        if p.relative_to(folder).parts[0] != but
    }


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicomlake", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )


def test_hostile_input_is_stored_quarantined_or_listed_and_nothing_else_happens(
    tmp_path: Path, source: Path
) -> None:
    before = snapshot(tmp_path, "lake")
    done = run("ingest", source, "--lake", tmp_path / "lake", "--json")
    assert done.stderr == ""
    assert done.returncode == 1  # some were refused
    assert snapshot(tmp_path, "lake") == before
    objects = json.loads(done.stdout)["objects"]
    of_file: dict[str, list[str]] = {}
    for entry in objects:
        of_file.setdefault(entry["origin"].removeprefix(f"{source}/").partition("!/")[0], []).append(
            entry["outcome"]
        )
    for number, (name, data) in enumerate(HOSTILE.items()):
        found = of_file[f"{number:03} {name}.dcm"]
        assert found, name
        if found == ["refused"]:
            kept = tmp_path / "lake" / layout.quarantine_key(hashlib.sha256(data).hexdigest())
            assert kept.read_bytes() == data, name
            note = json.loads(kept.with_suffix(".json").read_text())
            assert note["size"] == len(data)
            assert note["reason"]
            assert name in note["origin"]
    assert {of_file[f"good{n}"][0] for n in range(3)} == {"stored"}
    assert {"fifo.dcm", "loop", "broken"} <= of_file.keys()
    assert any(origin.startswith("name \\xff") for origin in of_file)
    for path in (tmp_path / "lake").rglob("*"):
        assert not path.is_symlink()
        assert "escaped" not in path.name
    check_the_lake(tmp_path / "lake")


def check_the_lake(folder: Path) -> None:
    """It answers, verifies, and a repeated ingest has nothing to add."""
    done = run("verify", "--lake", folder)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    done = run("query", "Modality=CT", f"SeriesInstanceUID={ROOT}.7.1", "--lake", folder, "--json")
    assert done.stderr == ""
    assert [row["instances"] for row in json.loads(done.stdout)] == [3]
    again = run("ingest", folder.parent / "in", "--lake", folder, "--json", "--no-volumes")
    assert again.stderr == ""
    found = json.loads(again.stdout)
    assert (found["stored"], found["conflict"]) == (0, 0)
    run("rebuild", "--lake", folder).check_returncode()
    with dicomlake.open(folder) as lake:
        assert lake.verify().ok
        assert len(lake.query()) == len(lake.rows("series")) > 20


@pytest.mark.parametrize("name", ["climbing", "absolute", "long", "latin", "newline", "dots", "reserved"])
def test_a_uid_that_is_none_names_its_object_and_never_a_path(tmp_path: Path, name: str) -> None:
    data = by_hand({0x00080018: BAD_UIDS[name], 0x0020000E: BAD_UIDS[name], 0x0020000D: BAD_UIDS[name]})
    uid = BAD_UIDS[name].decode("latin-1").strip()
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        assert lake.ingest(data).stored == 1
        (one,) = lake.find(uid)
        assert one.uid == uid
        (instance,) = one.instances
        assert lake.original(instance) == data
        assert all(part.isascii() and ".." not in part for part in instance.key.split("/"))
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


@pytest.mark.parametrize("tag", [0x00080018, 0x0020000E, 0x0020000D])
def test_a_uid_with_nul_inside_is_refused_and_kept(tmp_path: Path, tag: int) -> None:
    data = by_hand({tag: b"1.2\0.3 "})
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        (refused,) = lake.ingest(data).refused
        assert "NUL" in refused.detail
        (kept,) = lake.refused()
        assert (lake.path / layout.quarantine_key(kept.sha256)).read_bytes() == data
        assert lake.rows("series") == []


def test_refusing_again_changes_nothing(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for _ in range(2):
            assert len(lake.ingest(head()).refused) == 1
        assert len(lake.refused()) == 1
        assert len(list((lake.path / "quarantine").iterdir())) == 2
        assert lake.verify().ok
