"""Whether a built volume is what it was built as; told as findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dicomlake.errors import StorageError, VolumeError
from dicomlake.records import Finding, Instance, Volume
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes import check

_MAKE = "`dicomlake rebuild --volumes` makes it again"
_PRUNE = "it is a former version: `dicomlake volumes prune` deletes it"


def local_store(volume: Volume, storage: Storage) -> Path:
    """Where the store of a volume lies. Raises VolumeError when it is not built."""
    store = storage.local_path(volume.key) if volume.key is not None else None
    if store is None:
        raise VolumeError(f"volume {volume.number} of {volume.series_uid} is not built: {volume.reason}")
    return store


def check_volume(
    volume: Volume,
    storage: Storage,
    instances: Callable[[], Mapping[str, Instance]] | None = None,
    *,
    former: bool = False,
) -> list[Finding]:
    """What of a built volume differs from what was built; [] is good.

    instances: of its series, by SOPInstanceUID; given, every slice is compared with its original, too.
    former: it was replaced, so there is no need to make it again.
    """
    scope, remedy = str(volume.key), _PRUNE if former else _MAKE
    try:
        store = local_store(volume, storage)
        if check.store_sha256(store) != volume.store_sha256:
            message = f"{_damage(store)} differ from what was built: {remedy}"
            return [Finding("error", "volume_damaged", scope, message)]
        if instances is not None:
            wrong = check.differing_frames(store, storage, instances())
            if wrong:
                message = f"slices {wrong[:8]} differ from their originals: {remedy}"
                return [Finding("error", "volume_differs", scope, message)]
    except (VolumeError, StorageError) as error:
        return [Finding("error", "volume_damaged", scope, f"{error}")]
    return []


def _damage(store: Path) -> str:
    """What of a volume store differs from what was built."""
    try:
        damaged = check.damaged_frames(store)
    except Exception:  # damaged metadata fails in as many ways as there are
        damaged = []
    return f"slices {damaged[:8]}" if damaged else "metadata, an overlay or a copy for quick looks"
