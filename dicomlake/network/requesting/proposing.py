"""What is proposed to a peer for the objects that are to go to it, and how each goes then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicomlake.network.requesting.associations import MAX_CONTEXTS, Context
from dicomlake.network.requesting.outgoing import Outgoing
from dicomlake.network.requesting.transcoding import TARGETS

_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Batch:
    """Objects that one association can carry, by their places, and the contexts that it proposes."""

    contexts: tuple[Context, ...]
    places: tuple[int, ...]


def flaw(item: Outgoing) -> str:
    """Why an object cannot be offered to any peer, or ""."""
    for name, uid in (("SOPClassUID", item.sop_class_uid), ("SOPInstanceUID", item.sop_instance_uid)):
        if not _UID.fullmatch(uid):
            return f"{name} is missing or is no UID"
    return "" if _UID.fullmatch(item.transfer_syntax) else "its transfer syntax is no UID"


def batches(items: Sequence[Outgoing], *, transcode: bool) -> Iterator[Batch]:
    """The objects in as few associations as their contexts allow, of `MAX_CONTEXTS` each (PS3.8 9.3.2.2).

    Each transfer syntax is a context of its own, so that the peer's choice cannot take one away.
    """
    contexts: list[Context] = []
    places: list[int] = []
    for wanted, of_class in _by_class(items, transcode):
        if len(contexts) + len(wanted) > MAX_CONTEXTS:
            yield Batch(tuple(contexts), tuple(sorted(places)))
            contexts, places = [], []
        contexts += wanted
        places += of_class
    if places:
        yield Batch(tuple(contexts), tuple(sorted(places)))


def _by_class(items: Sequence[Outgoing], transcode: bool) -> Iterator[tuple[list[Context], list[int]]]:
    """Contexts and places of each SOP class; in parts if it needs more contexts than there can be."""
    others = TARGETS if transcode else ()
    room = MAX_CONTEXTS - len(TARGETS)
    for sop_class, by_syntax in _grouped(items).items():
        syntaxes = list(by_syntax)
        for start in range(0, len(syntaxes), room):
            part = syntaxes[start : start + room]
            proposed = dict.fromkeys((*part, *others))
            yield (
                [Context(sop_class, (syntax,)) for syntax in proposed],
                [place for syntax in part for place in by_syntax[syntax]],
            )


def _grouped(items: Iterable[Outgoing]) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    for place, item in enumerate(items):
        if not flaw(item):
            found.setdefault(item.sop_class_uid, {}).setdefault(item.transfer_syntax, []).append(place)
    return found


def way(item: Outgoing, accepted: Mapping[tuple[str, str], int], *, transcode: bool) -> str | None:
    """The transfer syntax in which an object goes: its own if the peer takes it; None without any."""
    syntaxes: tuple[str, ...] = (item.transfer_syntax, *(TARGETS if transcode else ()))
    for syntax in syntaxes:
        if (item.sop_class_uid, syntax) in accepted:
            return syntax
    return None
