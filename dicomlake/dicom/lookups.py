"""Questions to a data set that damaged elements answer with nothing, rather than with an error."""

from __future__ import annotations

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import BrokenObject


def readable_items(dataset: Attributes, keyword: str) -> tuple[Attributes, ...]:
    """The items of a sequence; none when it is absent or cannot be read."""
    try:
        return dataset.items(keyword)
    except BrokenObject:
        return ()


def pointed_at(dataset: Attributes, keyword: str) -> tuple[str, ...]:
    """The keywords of the attributes that an element of VR AT names; `Private<tag>` where there is none."""
    return tuple(_keyword(tag) for tag in dataset.texts(keyword))


def _keyword(tag: str) -> str:
    """tag: eight hexadecimal digits."""
    try:
        entry = standard.lookup(int(tag, 16))
    except ValueError:
        return f"Private{tag}"
    return entry[1] if entry and entry[1] else f"Private{tag}"
