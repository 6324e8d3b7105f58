"""Bytes that a notebook does not print: what they hold may name somebody."""

from __future__ import annotations

from typing import Self


class Quiet(bytes):
    """The bytes of a file; shown as what it is and its size."""

    what: str

    def __new__(cls, data: bytes, what: str) -> Self:
        """what: a word for it, as "DICOM SEG"."""
        made = super().__new__(cls, data)
        made.what = what
        return made

    def __repr__(self) -> str:
        return f"<{self.what}, {len(self):,} bytes>"
