"""The verdicts on the edge cases as a page: totals, the rules of judging, a table of all cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.correctness import Row


def totals(rows: Sequence[Row]) -> str:
    return "\n".join(
        f"{t.name} {t.version} "
        + str(
            {m: sum(r.verdicts[t].mark == m for r in rows) for m in ("right", "refused", "warned", "wrong")}
        )
        for t in rows[0].verdicts
    )


def page(rows):
    return ""
