"""Where lakes are: opening one in a folder, making one, and making its catalog again."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from dicomlake.catalog.catalog import require_unused
from dicomlake.errors import CatalogError, NotALake
from dicomlake.lake.lake import Lake
from dicomlake.settings import Settings
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage

if TYPE_CHECKING:
    from dicomlake.ingest.report import Report


def open(
    path: str | os.PathLike[str] | None = None, *, create: bool = False, catalog: str | None = None
) -> Lake:
    """Open the lake in a folder; with `create`, make it when there is none.

    path: DICOMLAKE_LAKE, then the current folder, unless given.
    catalog: with `create`, the URL of a PostgreSQL database that keeps the catalog, without a password:
        postgresql+psycopg://user@host/database, and ?schema=name where it keeps several.
    A folder that cannot be written opens read-only. Raises NotALake when there is no lake.
    """
    root = _root(path)
    settings = root / layout.LAKE_TOML
    if not settings.is_file():
        if not create:
            raise NotALake(f"{root} holds no lake: pass create=True, or run `dicomlake init`")
        _make(root, settings, catalog)
    try:
        text = settings.read_text(encoding="utf-8")
    except OSError as error:
        raise NotALake(f"{settings} cannot be read ({error.strerror}): check its permissions") from error
    found = Settings.parse(text)
    if catalog not in (None, found.catalog):
        raise CatalogError(
            f"{root} is a lake with another catalog: docs/how-to/postgresql.md tells how to move it"
        )
    return Lake(root.resolve(), found)


def _root(path: str | os.PathLike[str] | None) -> Path:
    return Path(path if path is not None else os.environ.get("DICOMLAKE_LAKE") or ".").expanduser()


_REOPENED: WeakValueDictionary[str, Lake] = WeakValueDictionary()
_REOPENING = Lock()


def reopened(path: str) -> Lake:
    """The lake in a folder, opened once in this process for all that came here from another."""
    with _REOPENING:
        lake = _REOPENED.get(path)
        if lake is None:
            lake = _REOPENED[path] = open(path)
        return lake


def rebuild(
    path: str | os.PathLike[str] | None = None, *, volumes_only: bool = False, progress: bool | None = None
) -> Report:
    """`Lake.rebuild` for a lake whose catalog cannot even be opened; what is damaged is set aside."""
    from dicomlake.ingest.rebuild import set_aside

    root = _root(path)
    try:
        lake = open(root)
    except CatalogError:
        if volumes_only:
            raise
        settings = Settings.parse((root / layout.LAKE_TOML).read_text(encoding="utf-8"))
        set_aside(root, settings.catalog)
        lake = Lake(root.resolve(), settings, fresh=True)
    with lake:
        return lake.rebuild(volumes_only=volumes_only, progress=progress)


def _make(root: Path, settings: Path, catalog: str | None) -> None:
    new = Settings.new(catalog=catalog)
    if catalog is not None:
        require_unused(catalog)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(path.name != layout.STAGING for path in root.iterdir()):
            raise NotALake(f"{root} holds other files: choose an empty or a new folder for a lake")
        LocalStorage(root).replace(layout.LAKE_TOML, new.text().encode())
    except OSError as error:
        raise NotALake(
            f"no lake can be made at {settings.parent} ({error.strerror}): choose another folder"
        ) from error
