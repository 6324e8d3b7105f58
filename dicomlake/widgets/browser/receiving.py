"""Files that come from the browser in pieces: written beside the lake, then taken in.

They lie in a folder of their own outside the lake that nobody else can read, and are removed when the lake
has what it could take, or when the process ends.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from uuid import uuid4

from dicomlake.widgets.base import Refusal
from dicomlake.widgets.browser.source import Lake, Report

LARGEST_PIECE = 4 << 20  # bytes in one message
MOST_FILES = 20_000  # of one upload
_SPARE = 256 << 20  # bytes that must stay free on the device
_MOST_AT_ONCE = 4  # uploads that are open
_IDLE = 300.0  # seconds without a piece, after which another upload may take the place of one
_LONGEST_NAME = 120  # bytes of UTF-8: file systems take 255, Windows 260 for a whole path
_ENDS = re.compile(r"\.[A-Za-z0-9]{1,8}(\.(gz|bz2|xz))?\Z")  # kept whole: archives are known by them
_UNSAFE = '<>:"|?*'  # that Windows keeps for itself
_REASONS = 20  # that are shown
_FILES_SHOWN = 40


@dataclass
class Upload:
    """One upload under way. names: of its files as the browser has them, by the path they are kept under."""

    kept: TemporaryDirectory[str]
    size: int
    files: int
    names: dict[str, str] = field(default_factory=dict)
    got: int = 0
    current: str = ""
    touched: float = field(default_factory=time.monotonic)
    guard: Lock = field(default_factory=Lock)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(self.kept.name)

    @property
    def complete(self) -> bool:
        """Whether all that was announced has come."""
        return self.got == self.size and len(self.names) == self.files

    def add(self, parts: list[tuple[str | None, int, int]], piece: memoryview) -> None:
        """Add a piece, bytes of one or more files one after the other.

        parts: for each the name of a file that begins, or None where the last one goes on; where in the file
        it belongs; and how many bytes it has. Raises Refusal for what does not follow what came before.
        """
        if len(piece) > LARGEST_PIECE or sum(count for _name, _at, count in parts) != len(piece):
            raise Refusal("a piece is not as large as agreed: drop the files again")
        with self.guard:
            if self.got + len(piece) > self.size:
                raise Refusal("more bytes came than were announced: drop the files again")
            self.got += len(piece)
            self.touched = time.monotonic()
            begin = 0
            for name, at, count in parts:
                if name is not None:
                    self._begin_file(name)
                self._write(piece[begin : begin + count], at)
                begin += count

    def _begin_file(self, name: str) -> None:
        if len(self.names) >= self.files:
            raise Refusal("more files came than were announced: drop them again")
        folder = self.folder / f"{len(self.names):06d}"  # of its own: no two files meet, whatever their names
        folder.mkdir(mode=0o700)
        path = folder / safe_name(name)
        path.touch(mode=0o600)
        self.current = str(path)
        self.names[self.current] = name[-200:]

    def _write(self, piece: memoryview, at: int) -> None:
        if not self.current:
            raise Refusal("a piece of no file: drop the files again")
        with open(self.current, "ab") as file:
            if file.tell() != at:
                raise Refusal("a piece of a file is missing: drop the files again")
            file.write(piece)

    def remove(self) -> None:
        """Delete what came."""
        self.kept.cleanup()


def safe_name(name: str) -> str:
    """The last part of a name that came from outside, as one that is safe for a file in a folder of its own.

    It ends with what the user knows the file by, so that the origin that the lake records says which it was.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join("_" if one in _UNSAFE or not one.isprintable() else one for one in last).lstrip(". ")
    end = _ENDS.search(kept)
    stem = kept[: end.start()] if end else kept
    room = _LONGEST_NAME - (len(end[0]) if end else 0)
    stem = stem.encode()[:room].decode(errors="ignore").rstrip(". ")
    return (stem or "file") + (end[0] if end else "")


class Receiving:
    """The uploads into one lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._guard = Lock()
        self._open: dict[str, Upload] = {}

    def begin(self, size: int, files: int) -> str:
        """Begin an upload of so many bytes and files; returns its name. Raises Refusal when it cannot be."""
        if self._lake.read_only:
            raise Refusal("this lake is read-only: open one that you can write, and drop files there")
        if not 0 < files <= MOST_FILES or size < 0:
            raise Refusal(f"at most {MOST_FILES:,} files: lake.ingest(path) takes any number")
        with self._guard:
            self._drop_idle()
            if len(self._open) >= _MOST_AT_ONCE:
                raise Refusal("other uploads are under way: wait for them, or cancel them")
            coming = sum(one.size - one.got for one in self._open.values())
            if shutil.disk_usage(tempfile.gettempdir()).free < size + coming + _SPARE:
                raise Refusal("too little space for temporary files: use lake.ingest(path) on the files")
            name = uuid4().hex
            kept = TemporaryDirectory(prefix="dicomlake-upload-", ignore_cleanup_errors=True)
            self._open[name] = Upload(kept, size, files)
        return name

    def _drop_idle(self) -> None:
        """Forget uploads whose page went away, when others need their place."""
        before = time.monotonic() - _IDLE
        idle = [name for name, one in self._open.items() if one.touched < before]
        for name in idle if len(self._open) >= _MOST_AT_ONCE else []:
            self._open.pop(name).remove()

    def upload(self, name: Any) -> Upload:
        """The upload of a name. Raises Refusal when there is none."""
        with self._guard:
            found = self._open.get(str(name))
        if found is None:
            raise Refusal("this upload is over: drop the files again")
        return found

    def drop(self, name: Any) -> None:
        """Forget an upload, and delete what came."""
        with self._guard:
            found = self._open.pop(str(name), None)
        if found is not None:
            found.remove()

    def drop_all(self) -> None:
        """Forget all uploads."""
        for name in list(self._open):
            self.drop(name)

    def end(self, name: Any) -> Upload:
        """End an upload: nobody can add to it or drop it any more. Raises Refusal if it is not complete."""
        upload = self.upload(name)
        with self._guard:
            ended = self._open.pop(str(name), None)
        if ended is None:
            raise Refusal("this upload is over: drop the files again")
        if not upload.complete:
            upload.remove()
            raise Refusal("the upload is not complete: drop the files again")
        return upload

    def take_in(self, upload: Upload) -> dict[str, Any]:
        """Ingest what came; what became of it, in JSON types."""
        try:
            return summary(self._lake.ingest(upload.folder, workers=1, progress=False), upload)
        finally:
            upload.remove()


def summary(report: Report, upload: Upload) -> dict[str, Any]:
    """Counts of what became of the files, and those not simply stored by the names that the browser gave."""
    notable = [one for one in report.entries if one.outcome in ("conflict", "refused", "skipped")]
    reasons: dict[tuple[str, str], int] = {}
    for one in notable:
        reasons[one.outcome, one.detail] = reasons.get((one.outcome, one.detail), 0) + 1
    ranked = sorted(reasons.items(), key=lambda item: -item[1])[:_REASONS]
    return {
        "counts": report.counts(),
        "series": len(report.series),
        "reasons": [{"outcome": o, "detail": d, "count": n} for (o, d), n in ranked],
        "files": [
            {"name": _named(upload, one.origin), "outcome": one.outcome, "detail": one.detail}
            for one in notable[:_FILES_SHOWN]
        ],
        "more": max(0, len(notable) - _FILES_SHOWN),
    }


def _named(upload: Upload, origin: str) -> str:
    """The name of a file as the browser has it; of a member of an archive with what follows."""
    for path, name in upload.names.items():
        if origin.startswith(path):
            return name + origin[len(path) :]
    return Path(origin).name


def parts_of(given: Any) -> list[tuple[str | None, int, int]]:
    """Parts of a piece as the browser sent them. Raises Refusal for anything else."""
    listed = given if isinstance(given, list) and len(given) <= MOST_FILES else [None]
    found: list[tuple[str | None, int, int]] = []
    for one in listed:
        part = one if isinstance(one, dict) else {}
        name, at, count = part.get("name"), part.get("at"), part.get("bytes")
        named = name is None or isinstance(name, str)
        if not named or type(at) is not int or type(count) is not int or count < 0:
            raise Refusal("that is no part of a file: reload the page")
        found.append((name, at, count))
    return found
