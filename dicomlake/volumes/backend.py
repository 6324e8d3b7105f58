"""`xr.open_dataset("….zarr", engine="dicomlake")`: a volume store opened without its lake."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from dicomlake.errors import VolumeError
from dicomlake.volumes.manifest import volume_of_store
from dicomlake.volumes.read import open_volume


class DicomlakeBackend(BackendEntrypoint):
    """xarray's entry to a volume store."""

    description = "Volumes of a dicomlake, with geometry and units"
    url = "https://github.com/dicomlake/dicomlake"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "level")

    def open_dataset(  # type: ignore[override]  # xarray's own backends narrow it as well
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        level: int = 0,
    ) -> xr.Dataset:
        """The volume at a path; level 1, 2 … are its halved copies."""
        store = Path(filename_or_obj)
        dataset = open_volume(volume_of_store(store), store, chunks=None, level=level)
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether a path holds a volume store."""
        try:
            text = (Path(filename_or_obj) / "zarr.json").read_text(encoding="utf-8")
            return "dicomlake" in json.loads(text).get("attributes", {})
        except (OSError, TypeError, ValueError, VolumeError):
            return False
