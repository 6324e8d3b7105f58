"""Small pictures: one of a series for a list, many of a stack for a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicomlake.errors import VolumeError
from dicomlake.widgets.images.encode import png
from dicomlake.widgets.images.memory import told
from dicomlake.widgets.images.stack import MOST_AT_ONCE, Stack
from dicomlake.widgets.images.still import dark_on_light, fitted

if TYPE_CHECKING:
    import xarray as xr

_LARGEST = 512  # pixels of a side
_MOST_TILES = 256


@dataclass(frozen=True, slots=True)
class Tile:
    """One plane of a contact sheet. number: of the plane. png: its picture."""

    number: int
    png: bytes


def thumbnail(image: xr.DataArray | xr.Dataset, size: int = 96) -> bytes:
    """PNG of the middle plane as acquired, `size` pixels at its longer side, through the first window.

    image: as of `Stack.of`; a halved copy is faster. Only this plane is read and nothing of it is kept.
    Raises VolumeError when it cannot be read. It may show burned-in text: for live pages only.
    """
    stack = _middle(image)
    plane = next(iter(stack.planes.values()))
    picture = stack.shown(stack.run(plane.name, 0, 1)[0], invert=dark_on_light(stack))
    return png(fitted(picture, plane, _side(size)))


def _middle(image: xr.DataArray | xr.Dataset) -> Stack:
    """The middle plane as acquired, of the first volume, alone and in memory."""
    whole = image["image"] if isinstance(image, Mapping) else image
    palette = image["palette"] if isinstance(image, Mapping) and "palette" in image else None
    leading = [d for d in whole.dims if d not in ("y", "x", "rgb")]
    stack = next((d for d in ("z", "frame") if d in leading), leading[-1] if leading else None)
    at = {d: whole.sizes[d] // 2 if d == stack else 0 for d in leading}
    lone = whole.isel({d: slice(i, i + 1) for d, i in at.items()})
    lone = lone.drop_vars(["instance_uid", "frame_index"], errors="ignore")  # they would be read
    try:
        return Stack.of(lone.load(), palette=palette)
    except Exception as error:
        raise told("the middle plane", error) from error


def tiles(
    stack: Stack,
    plane: str,
    every: int = 1,
    size: int = 128,
    *,
    window: tuple[float, float] | None = None,
    invert: bool = False,
    extra: Sequence[int] = (),
) -> list[Tile]:
    """Every n-th plane of a stack as PNG, at most 256; of a stack of a halved copy it is faster.

    window: centre and width in units; the first preset unless told. invert: as of `Stack.shown`.
    Raises VolumeError when planes cannot be read, or there would be too many.
    """
    if plane not in stack.planes:
        raise VolumeError(f"this image has no {plane[:20]!r} planes, but {', '.join(stack.planes)}")
    shown = stack.planes[plane]
    numbers = range(0, shown.count, max(int(every), 1))
    if len(numbers) > _MOST_TILES:
        raise VolumeError(f"{len(numbers)} pictures are more than {_MOST_TILES}: take fewer planes")
    found = []
    for start in _starts(numbers):
        run = stack.run(plane, start, MOST_AT_ONCE if numbers.step < MOST_AT_ONCE else 1, extra)
        for number in range(start, start + len(run)):
            if number in numbers:
                picture = stack.shown(run[number - start], window, invert=invert)
                found.append(Tile(number, png(fitted(picture, shown, _side(size)))))
    return found


def _starts(numbers: range) -> range:
    """Where runs begin that hold all of these planes."""
    return numbers if numbers.step >= MOST_AT_ONCE else range(0, numbers.stop, MOST_AT_ONCE)


def _side(size: int) -> int:
    return min(max(int(size), 8), _LARGEST)
