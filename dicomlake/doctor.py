"""What an installation and a lake rest on: versions, decoders, disk; what to mend first."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Check = tuple[str, str, str]
_LITTLE = 5 << 30  # bytes free that call for attention
_FAR_MS = 20
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "sshfs", "fuse.sshfs", "lustre", "9p"}


def examine(lake: Path | None = None) -> list[Check]:
    """(name, state, remark); state is ok, warn or bad."""
    checks = [_python(), _sqlite(), _pipeline(), _decoders()]
    if lake is not None:
        url = _catalog_url(lake)
        checks += [_disk(lake), _file_system(lake, server=url is not None)]
        checks += [] if url is None else [_server(url)]
    return checks


def _catalog_url(lake: Path) -> str | None:
    from dicomlake.settings import Settings
    from dicomlake.storage import layout

    path = lake / layout.LAKE_TOML
    return Settings.parse(path.read_text(encoding="utf-8")).catalog if path.is_file() else None


def _server(url: str) -> Check:
    from dicomlake.catalog.postgresql import OLDEST, server
    from dicomlake.errors import CatalogError

    try:
        version, ms = server(url)
    except CatalogError as error:
        return ("PostgreSQL", "bad", str(error))
    if version < OLDEST:
        return ("PostgreSQL", "warn", f"{version} is no longer mended: {OLDEST} or newer is tested")
    slow = "; far away: every look-up waits for the network" if ms > _FAR_MS else ""
    return ("PostgreSQL", "warn" if slow else "ok", f"{version}, answers in {ms:.1f} ms{slow}")


def _python() -> Check:
    return ("Python", "ok", f"{platform.python_version()}, {sys.platform}, {os.cpu_count()} cores")


def _sqlite() -> Check:
    from dicomlake.catalog.engine import SAFE_SQLITE, sqlite_version

    found, safe = sqlite_version()
    if safe:
        return ("SQLite", "ok", f"{found}, free of the WAL-reset race; writers take turns by a lock file")
    needed = ".".join(map(str, SAFE_SQLITE))
    remark = f"{found} is older than {needed}: the lock file alone keeps checkpoints and commits apart"
    return ("SQLite", "warn", remark + "; `pip install pysqlite3`")


def _pipeline() -> Check:
    from dicomlake.storage.arrays import pipeline_name

    name = pipeline_name()
    remark = "" if name == "zarrs" else "; `pip install zarrs` reads two to three times as fast"
    return ("Zarr pipeline", "ok", f"{name}{remark}")


def _decoders() -> Check:
    try:
        return (
            "Pixel decoders",
            "ok",
            f"imagecodecs {version('imagecodecs')}: JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE",
        )
    except PackageNotFoundError:
        remark = "imagecodecs is missing, compressed pixels stay closed: `pip install imagecodecs`"
        return ("Pixel decoders", "bad", remark)


def _disk(lake: Path) -> Check:
    free = shutil.disk_usage(lake).free
    state = "ok" if free > _LITTLE else "warn"
    return ("Free space", state, f"{free / 1e9:,.1f} GB beside the lake")


def _file_system(lake: Path, *, server: bool = False) -> Check:
    kind = file_system_of(lake)
    if kind in _NETWORK and not server:
        return ("File system", "bad", f"{kind}: SQLite needs a local disk; move the lake or use PostgreSQL")
    return ("File system", "ok", kind or "unknown")


def file_system_of(path: Path) -> str:
    """The type of the file system that holds a path, as Linux names it; empty elsewhere."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    mounts = [(fields[1], fields[2]) for line in lines if len(fields := line.split()) > 2]
    above = [(point, kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(above, key=lambda entry: len(entry[0]), default=("", ""))[1]
