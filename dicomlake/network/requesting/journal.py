"""The journal of a pull: what became of each row, so that it goes on where it was interrupted.

It holds what the result table holds, which may identify patients: it lies in a folder that the caller names,
the lake's own, and only its owner may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

Row = dict[str, Any]


class Journal:
    """Rows that are done, by the digest of their keys. Safe to use from many threads."""

    def __init__(self, folder: Path, job: Iterable[str], *, resume: bool) -> None:
        """job: what makes this pull another one than the next: source, way, options.

        resume: go on with what is there; otherwise it begins anew.
        """
        name = hashlib.sha256("\0".join(job).encode()).hexdigest()[:16]
        self.path = folder / f"pull-{name}.jsonl"
        self._lock = Lock()
        self.done: dict[str, list[Row]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if resume:
            self._read()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if resume else os.O_TRUNC)
        self._file = os.open(self.path, flags, 0o600)
        os.fchmod(self._file, 0o600)

    def finish(self, digest: str, rows: Sequence[Row]) -> None:
        """Keep what became of a row; durable when this returns."""
        line = json.dumps({"row": digest, "studies": list(rows)}, ensure_ascii=True) + "\n"
        with self._lock:
            os.write(self._file, line.encode())
            os.fsync(self._file)
            self.done[digest] = list(rows)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _read(self) -> None:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return
        whole = text.rfind(b"\n") + 1
        if whole < len(text):  # a line that a crash cut off
            os.truncate(self.path, whole)
        for line in text[:whole].splitlines():
            try:
                found = json.loads(line)
                self.done[found["row"]] = found["studies"]
            except (ValueError, KeyError, TypeError):
                continue
