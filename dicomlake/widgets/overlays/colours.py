"""Colours of what is laid over images, told apart by most colour-blind eyes; names stand beside them anyway.

The palette is that of Okabe and Ito without black, on images darker than grey first; then the same hues
lighter, then darker.
"""

from __future__ import annotations

import re
from typing import Any

from dicomlake.errors import DicomlakeError
from dicomlake.objects.colours import RGB, hex_of

OKABE_ITO: tuple[RGB, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermilion
    (0, 114, 178),  # blue
)
# from the highest dose down: warm to cold, and each next to one that is lighter or darker
_DOSE: tuple[RGB, ...] = (
    (213, 94, 0),
    (230, 159, 0),
    (240, 228, 66),
    (0, 158, 115),
    (86, 180, 233),
    (0, 114, 178),
    (204, 121, 167),
)
_TINTS = ((0.0, 0), (0.5, 255), (0.4, 0))  # how far towards white or black, round after round
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def palette(number: int) -> str:
    """The colour of the n-th thing, from 0: "#rrggbb"; it repeats after 21."""
    share, towards = _TINTS[number // len(OKABE_ITO) % len(_TINTS)]
    base = OKABE_ITO[number % len(OKABE_ITO)]
    red, green, blue = (round(v + (towards - v) * share) for v in base)
    return hex_of((red, green, blue))


def dose_colour(rank: int) -> str:
    """The colour of an isodose line; rank 0 is the highest dose."""
    return hex_of(_DOSE[rank % len(_DOSE)])


def colour_of(given: Any, instead: str) -> str:
    """A colour as "#rrggbb": of text like it, or of three numbers from 0 to 255; `instead` of None.

    Raises DicomlakeError for what is no colour.
    """
    if given is None:
        return instead
    if is_colour(given):
        return str(given).lower()
    try:
        numbers = [int(v) for v in given]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 3 and all(0 <= v <= 255 for v in numbers):
        return hex_of((numbers[0], numbers[1], numbers[2]))
    raise DicomlakeError("this is no colour: give '#rrggbb', or red, green and blue from 0 to 255")


def is_colour(given: Any) -> bool:
    """Whether it is text like "#rrggbb"."""
    return isinstance(given, str) and _HEX.fullmatch(given) is not None
