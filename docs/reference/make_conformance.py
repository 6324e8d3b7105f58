"""Write conformance.md from the receiver itself: `python docs/reference/make_conformance.py`.

A test compares the page with it.
"""

from __future__ import annotations

from pathlib import Path

from dicomlake.network.conformance import statement

PAGE = Path(__file__).with_name("conformance.md")

if __name__ == "__main__":
    PAGE.write_text(statement(), encoding="utf-8")
