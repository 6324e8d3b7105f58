"""What a running receiver leaves for other processes to see: a small file in the lake, as long as it runs.

`receivers/<token>.json` is replaced, never changed; `<token>.lock` beside it is locked by the receiver, so
what a crash left shows by a lock that nobody holds. Only the user that listens can read them.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from dicomlake.listening.events import now

FOLDER = "receivers"

_EVERY_S = 1.0
_LEAST = 5 << 30  # bytes free that call for attention, as for `dicomlake doctor`
_SIGN_OF_LIFE_S = 30.0  # a file is written again after so long, even if nothing changed
_SILENT_S = 4 * _SIGN_OF_LIFE_S  # where locks do not work, an older file is of a receiver that is gone

Facts = Callable[[], Mapping[str, Any]]


class Live:
    """Keeps the file of this receiver; what cannot be written is not, as receiving goes on all the same.

    root: of the lake. facts: what to tell, JSON types, without identifying values.
    on_low: called with the free bytes when fewer than `least` are left, once until there are more again.
    """

    def __init__(
        self,
        root: Path,
        facts: Facts,
        *,
        on_low: Callable[[int], object] | None = None,
        least: int = _LEAST,
        every_s: float = _EVERY_S,
    ) -> None:
        self._root, self._folder, self._facts, self._every_s = root, root / FOLDER, facts, every_s
        self._on_low, self._least, self._low = on_low, least, False
        self.token = secrets.token_hex(8)
        self._started = now()
        self._lock: int | None = None
        self._last: tuple[str, float] = ("", float("-inf"))
        self._end = Event()
        self._thread = Thread(target=self._run, daemon=True, name="live")

    def start(self) -> None:
        """Write the file, and again when something changed."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write()
        self._thread.start()

    def stop(self) -> None:
        """Remove the file."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        for ending in ("json", "lock"):
            with suppress(OSError):
                self._path(ending).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        with suppress(OSError):  # others still run
            self._folder.rmdir()

    def _path(self, ending: str) -> Path:
        return self._folder / f"{self.token}.{ending}"

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            self._write()
            self._look_at_disk()

    def _look_at_disk(self) -> None:
        with suppress(Exception):
            free = shutil.disk_usage(self._root).free
            if free < self._least and not self._low and self._on_low is not None:
                self._on_low(free)
            self._low = free < self._least

    def _write(self) -> None:
        with suppress(Exception):  # the next time
            text = json.dumps(dict(self._facts()), sort_keys=True)
            before, at = self._last
            if text == before and time.monotonic() - at < _SIGN_OF_LIFE_S:
                return
            of_receiver = {"token": self.token, "pid": os.getpid(), "started": self._started, "at": now()}
            _replace(self._path("json"), json.dumps(json.loads(text) | of_receiver).encode())
            self._last = (text, time.monotonic())


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    os.replace(beside, path)


def receivers(root: Path) -> list[dict[str, Any]]:
    """What the receivers of a lake that run now tell; files of others are removed where that is possible."""
    found = []
    for path in sorted((root / FOLDER).glob("*.json")):
        if not _alive(path):
            _remove(path)
            continue
        with suppress(OSError, ValueError):
            told = json.loads(path.read_bytes())
            if isinstance(told, dict):
                found.append(told)
    return found


def _alive(path: Path) -> bool:
    """Whether the receiver of a file still runs."""
    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return _young(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return _young(path)
    else:
        return False
    finally:
        os.close(lock)


def _young(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _SILENT_S
    except OSError:
        return False


def _remove(path: Path) -> None:
    for ending in (".json", ".new", ".lock"):
        with suppress(OSError):
            path.with_suffix(ending).unlink(missing_ok=True)
