"""A path to what it means: an element, or a fact, whose names are in lower case."""

from __future__ import annotations

from functools import lru_cache

from dicomlake.catalog.query.facts import Fact, fact
from dicomlake.catalog.query.paths import ElementPath, element


@lru_cache(maxsize=1024)
def resolve(path: str) -> ElementPath | Fact:
    """Raises QueryError, with what is spelled alike, for a path that means nothing."""
    return fact(path) if is_fact(path) else element(path)


def is_fact(path: str) -> bool:
    """Keywords begin with a capital and tags with a digit; `fffe,xx01["…"]` is told by its comma."""
    return path[:1].islower() and "," not in path.partition("[")[0]
