"""Looking macros up in functional groups (PS3.3 C.7.6.16): in the item of the frame, else in the shared one.

An object may hold tens of thousands of frames whose macros repeat each other: equal bytes are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.lookups import pointed_at, readable_items
from dicomlake.errors import BrokenObject

T = TypeVar("T")

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


class FunctionalGroups:
    """The macros of the frames of one object.

    count: how many frames there are.
    flaw: why nothing can be said of its frames one by one; None when there is an item for each.
    dimensions: the keyword of each entry of DimensionIndexSequence, in order (C.7.6.17); `Private` and
        the tag where there is none.
    """

    def __init__(self, dataset: Attributes, count: int) -> None:
        """Read both sequences of an object with `count` frames; never raises."""
        nothing = Attributes({}, dataset.encoding, dataset.charset, dataset.signed)
        self.count = count
        self.flaw: str | None = None
        self._shared, self._per_frame = nothing, (nothing,) * count
        self._items: dict[Hashable, tuple[Attributes, ...]] = {}
        self._read: dict[Hashable, Any] = {}
        self.dimensions = _dimensions(dataset)
        try:
            self._shared = next(iter(dataset.items(SHARED)), nothing)
            per_frame = dataset.items(PER_FRAME)
        except BrokenObject:
            self.flaw = "the functional groups cannot be read"
        else:
            self.flaw = _flaw(dataset, len(per_frame), count)
            self._per_frame = per_frame if self.flaw is None and per_frame else self._per_frame
        self._tags = set(self._shared.elements).union(*(item.elements for item in self._per_frame))

    def __contains__(self, keyword: str) -> bool:
        """Whether any frame has this macro, shared or its own."""
        return standard.tag_of(keyword) in self._tags

    def items(self, index: int, keyword: str) -> tuple[Attributes, ...]:
        """The items of a macro of the frame with this index, counted from 0; none when it has no such macro.

        Raises BrokenObject when the sequence cannot be read.
        """
        tag = standard.tag_of(keyword)
        if tag is None or tag not in self._tags:
            return ()
        for holder in (self._per_frame[index], self._shared):
            raw = holder.elements.get(tag)
            if raw is None:
                continue
            found = self._items.get((tag, raw))
            if found is None:
                found = self._items[tag, raw] = holder.items(tag)
            if found:
                return found
        return ()

    def read(self, index: int, keyword: str, reader: Callable[[Attributes], T]) -> T | None:
        """What `reader` makes of the first item of a macro; None when the frame has no such macro."""
        items = self.items(index, keyword)
        if not items:
            return None
        key = (reader, id(items))  # `_items` keeps them alive
        if key not in self._read:
            self._read[key] = reader(items[0])
        found: T = self._read[key]
        return found


def _flaw(dataset: Attributes, items: int, count: int) -> str | None:
    """Why the items of the per-frame sequence do not describe the frames; None when they do."""
    if items == count or (items == 0 and count == 1 and SHARED in dataset):
        return None
    if items:
        return f"{PER_FRAME} has {items} items for {count} frames"
    if dataset.text("DimensionOrganizationType") == "TILED_FULL":  # C.7.6.17.3: positions are implied
        return "the frame is a tile of a slide"
    return f"{PER_FRAME} is absent or empty"


def _dimensions(dataset: Attributes) -> tuple[str, ...]:
    pointers = [
        pointed_at(item, "DimensionIndexPointer")
        for item in readable_items(dataset, "DimensionIndexSequence")
    ]
    return tuple(pointer[0] if pointer else "" for pointer in pointers)
