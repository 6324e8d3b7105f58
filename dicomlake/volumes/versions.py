"""Versions of a volume: whether its store is still true, what the next one is called, which may go.

A published store is never changed nor replaced: whoever has it open goes on reading what he opened. A
volume whose plan changed gets a new store under a new key; the former one stays until `prune`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dicomlake.errors import StorageError, VolumeError
from dicomlake.records import Instance, SeriesKey, Volume
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes import manifest
from dicomlake.volumes.check import store_sha256
from dicomlake.volumes.plan import Plan

_AROUND = frozenset({"duplicates", "split_by", "partial"})
"""Facts about the rest of the series: they may change while the volume stays what it is."""


def plan_digest(plan: Plan, instances: Mapping[str, Instance]) -> str:
    """BLAKE2b-128, in hexadecimal, over all that the store of a planned volume is made from.

    The frames in their order with the tile of each, the SHA-256 of the objects they lie in, dims, shape,
    dtype, affine, coordinates and the other facts of the store, and the number of its format.
    """
    volume = plan.volume
    uids = sorted({frame.sop_instance_uid for frame in plan.frames})
    made_from = {
        "format": manifest.FORMAT,
        "number": volume.number,
        "verdict": volume.verdict,
        "dims": volume.dims,
        "shape": volume.shape,
        "dtype": volume.dtype,
        "affine_lps": volume.affine_lps,
        "spacing_mm": volume.spacing_mm,
        "info": {name: value for name, value in volume.info.items() if name not in _AROUND},
        "frames": [(frame.sop_instance_uid, frame.frame_index, frame.tile) for frame in plan.frames],
        "objects": [(uid, instances[uid].sha256 if uid in instances else None) for uid in uids],
    }
    text = json.dumps(made_from, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def still_true(former: Volume, digest: str, storage: Storage) -> bool:
    """Whether a volume was made from just this, and its store is byte for byte what was built."""
    return former.key is not None and former.plan_digest == digest and is_whole(former, storage)


def is_whole(volume: Volume, storage: Storage) -> bool:
    """Whether the store of a volume is there, byte for byte."""
    store = None if volume.key is None else storage.local_path(volume.key)
    try:
        return store is not None and store_sha256(store) == volume.store_sha256
    except (OSError, VolumeError):
        return False


def kept(former: Volume, planned: Volume) -> Volume:
    """The record of a store that is still true, with what the plan now says about the rest of the series."""
    made = {name: value for name, value in former.info.items() if name not in _AROUND}
    return replace(former, reason=planned.reason, info=made | planned.info)


def stores_of(storage: Storage, key: SeriesKey) -> set[str]:
    """The keys of the volume stores in the folder of a series, whether the catalog lists them or not."""
    return stores_among(storage.list(layout.volumes_prefix(*key)))


def stores_among(keys: Iterable[str]) -> set[str]:
    """The keys of the volume stores that these files lie in."""
    return {store for key in keys if (store := layout.store_of(key)) is not None}


def next_version(number: int, used: Iterable[str]) -> int:
    """The first version of a volume above all that these store keys take."""
    parsed = [layout.parse_volume_key(key) for key in used]
    return 1 + max((one.version for one in parsed if one is not None and one.number == number), default=0)


def delete_stores(storage: Storage, keys: Iterable[str]) -> list[str]:
    """Delete these stores; what cannot be deleted now is left for `prune`. Returns what was deleted."""
    gone: list[str] = []
    for key in sorted(keys):
        try:
            storage.delete_tree(key)
        except StorageError:  # in use on a share, or no permission: it is only in the way
            continue
        gone.append(key)
    return gone


def facts_of(volume: Volume) -> dict[str, Any]:
    """What identifies a version, for tables and reports."""
    return {"series_uid": volume.series_uid, "number": volume.number, "version": volume.version}
