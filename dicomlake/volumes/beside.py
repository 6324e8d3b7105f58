"""What images hold beside their pixels: overlays and palettes, kept in the store as arrays of their own.

An overlay (PS3.3 C.9.2) becomes a bool array over the image, a palette (C.7.6.3.1.5) a table of colours.
Neither is ever burned into the image, and one that is broken never costs the image: it is left out, and the
record says so. Text that somebody typed, OverlayLabel and OverlayDescription, is not copied.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.luts import Palette, palette
from dicomlake.dicom.overlays import Overlay, overlay_frame, overlays_of
from dicomlake.dicom.walk import Readable
from dicomlake.errors import DicomlakeError, StorageError
from dicomlake.records import Volume
from dicomlake.storage import arrays
from dicomlake.volumes.originals import Originals, Source, cut

PALETTE = "palette"
_DAMAGED = "it is damaged"


def overlay_name(group: int) -> str:
    """The name of the array of an overlay group: overlay_6000 … overlay_601e."""
    return f"overlay_{group:04x}"


def plane_dims(volume: Volume) -> int:
    """How many dimensions an overlay of the volume has: all but the colour."""
    return volume.dims.index("x") + 1


class Beside:
    """The overlays and palettes of the objects of a volume, noted as these are opened, by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._overlays: dict[str, dict[str, Overlay]] = {}
        self._palettes: dict[bytes | None, Palette | None] = {}
        self._last: tuple[str, bytes | Readable, Header] | None = None

    def note(self, uid: str, header: Header) -> None:
        """Keep what the header of an object says."""
        found = {overlay_name(one.group): one for one in overlays_of(header.dataset)}
        if found:
            with self._lock:
                self._overlays[uid] = found
        if header.dataset.text("PhotometricInterpretation") == "PALETTE COLOR":
            self._note_palette(header)

    def _note_palette(self, header: Header) -> None:
        found, digest = _palette(header), None
        if found is not None:
            told = f"{found.first} {found.colours.dtype.str} {found.colours.shape}".encode()
            digest = hashlib.blake2b(told + found.colours.tobytes(), digest_size=16).digest()
        with self._lock:
            if len(self._palettes) < 2:  # more than one is as good as many
                self._palettes.setdefault(digest, found)

    def write(
        self, folder: Path, group: Any, volume: Volume, sources: Sequence[Source], originals: Originals
    ) -> dict[str, Any]:
        """Write the arrays into the group of level 0, slab by slab; return what the record says of them.

        `overlays`: name to OverlayType and shard; `overlays_unread`: name to the reason; `palette`: first
        mapped value, number of entries and dtype; `palette_differs`: the objects disagree, or one of them
        has none that can be read. Only what applies is there.
        Raises StorageError when an original is gone meanwhile.
        """
        kept: dict[str, Any] = {}
        unread: dict[str, str] = {}
        for name in sorted({name for one in self._overlays.values() for name in one}):
            try:
                kept[name] = self._write_overlay(name, folder, group, volume, sources, originals)
            except _Unread as error:
                shutil.rmtree(folder / group.path / name)
                unread[name] = str(error)
        self._last = None
        facts = {"overlays": kept or None, "overlays_unread": unread or None}
        return {key: value for key, value in facts.items() if value} | self._write_palette(group)

    # ---- overlays ----

    def _write_overlay(
        self,
        name: str,
        folder: Path,
        group: Any,
        volume: Volume,
        sources: Sequence[Source],
        originals: Originals,
    ) -> dict[str, Any]:
        count = plane_dims(volume)
        shape, dims = volume.shape[:count], volume.dims[:count]
        whole = arrays.layout_of(volume.shape, volume.dims, volume.dtype)
        layout = arrays.Layout(whole.chunk[:count], whole.shard[:count])
        with arrays.fast_pipeline():
            array = arrays.create_array(group, name, shape, bool, dims, layout)
        kind = self._kind(name)
        if kind is not None:
            array.update_attributes({"OverlayType": kind})
        plane = shape[-2:]
        for start, places in _shards(shape[:-2], layout.shard):
            values = np.zeros((places.size, *plane), bool)
            for slot, place in enumerate(places.ravel().tolist()):
                self._fill(name, values[slot], sources[place], originals)
            arrays.write_block(folder, array, (*start, 0, 0), values.reshape(*places.shape, *plane))
        said: dict[str, Any] = {"shard": list(layout.shard)}
        return said | ({"OverlayType": kind} if kind is not None else {})

    def _kind(self, name: str) -> str | None:
        """OverlayType, G or R, where all objects agree; a term that is neither may be any text."""
        kinds = {one[name].kind for one in self._overlays.values() if name in one}
        kind = kinds.pop()
        return kind if not kinds and kind in ("G", "R") else None

    def _fill(self, name: str, values: np.ndarray, source: Source, originals: Originals) -> None:
        """The bits over one plane of the volume. Raises _Unread when they cannot be had."""
        overlay = self._overlays.get(source.sop_instance_uid, {}).get(name)
        if overlay is None or overlay.plane_of(source.frame_index) is None:
            return
        try:
            given, header = self._object(source.sop_instance_uid, originals)
            bits = overlay_frame(header, overlay, source.frame_index, source=given)
            values[...] = cut(bits, source, values.shape, values.dtype)
        except (StorageError, OSError, MemoryError):
            raise
        except DicomlakeError as error:
            raise _Unread(str(error)) from error
        except Exception as error:  # a damaged value fails in as many ways as there are
            raise _Unread(_DAMAGED) from error

    def _object(self, uid: str, originals: Originals) -> tuple[bytes | Readable, Header]:
        """An object and its header; kept for its next frame."""
        if self._last is None or self._last[0] != uid:
            given = originals.source(uid)
            self._last = (uid, given, read_header(given))
        return self._last[1:]

    # ---- palettes ----

    def _write_palette(self, group: Any) -> dict[str, Any]:
        if not self._palettes:
            return {}
        found = next(iter(self._palettes.values()))
        if len(self._palettes) > 1 or found is None:
            return {"palette_differs": True}
        first, colours = found.first, np.ascontiguousarray(found.colours)
        arrays.create_table(group, PALETTE, colours, ("index", "rgb"), {"first": first})
        return {PALETTE: {"first": first, "entries": len(colours), "dtype": colours.dtype.str.lstrip("<|")}}


class _Unread(Exception):
    """An overlay that cannot be read; the message says why."""


def _shards(leading: tuple[int, ...], shard: Sequence[int]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Where each shard begins, and the planes in it, numbered in C order."""
    places = np.arange(int(np.prod(leading))).reshape(leading)
    for start in itertools.product(*(range(0, n, s) for n, s in zip(leading, shard, strict=False))):
        yield start, places[tuple(slice(a, a + s) for a, s in zip(start, shard, strict=False))]


def _palette(header: Header) -> Palette | None:
    try:
        return palette(header.dataset)
    except DicomlakeError:
        return None
