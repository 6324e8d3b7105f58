"""A small pixel font, 5 x 7, for text that is burned into an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = {
    " ": "00 00 00 00 00 00 00",
    "-": "00 00 00 1F 00 00 00",
    "^": "04 0A 11 00 00 00 00",
    "0": "0E 11 13 15 19 11 0E",
    "1": "04 0C 04 04 04 04 0E",
    "2": "0E 11 01 02 04 08 1F",
    "3": "1F 02 04 02 01 11 0E",
    "4": "02 06 0A 12 1F 02 02",
    "5": "1F 10 1E 01 01 11 0E",
    "6": "06 08 10 1E 11 11 0E",
    "7": "1F 01 02 04 08 08 08",
    "8": "0E 11 11 0E 11 11 0E",
    "9": "0E 11 11 0F 01 02 0C",
    "A": "0E 11 11 1F 11 11 11",
    "C": "0E 11 10 10 10 11 0E",
    "D": "1E 11 11 11 11 11 1E",
    "E": "1F 10 10 1E 10 10 1F",
    "H": "11 11 11 1F 11 11 11",
    "L": "10 10 10 10 10 10 1F",
    "M": "11 1B 15 15 11 11 11",
    "N": "11 19 15 13 11 11 11",
    "O": "0E 11 11 11 11 11 0E",
    "P": "1E 11 11 1E 10 10 10",
    "T": "1F 04 04 04 04 04 04",
}


def stamp(rgb: NDArray[np.uint8], text: str, *, top: int, left: int, scale: int, grey: int) -> None:
    """Write text into an image of shape (rows, columns, 3), in place; a glyph is 6 * scale pixels wide."""
    for place, letter in enumerate(text):
        bits = np.array(
            [[int(row, 16) >> bit & 1 for bit in (4, 3, 2, 1, 0)] for row in _ROWS[letter].split()]
        )
        glyph = np.kron(bits, np.ones((scale, scale), np.int64)).astype(np.bool_)
        start = left + place * 6 * scale
        rgb[top : top + 7 * scale, start : start + 5 * scale][glyph] = grey
