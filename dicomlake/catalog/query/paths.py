"""What a condition is about: an element, by keyword, tag or private creator, nested or by index.

SliceThickness                       a keyword of PS3.6
0018,0081                            a tag
0019,xx0C["SIEMENS MR HEADER"]       a private element of a creator, in whatever block (PS3.5 7.8.1)
ReferencedSeriesSequence.SeriesInstanceUID      in any item of a sequence
ReferencedSeriesSequence[0].SeriesInstanceUID   in the first item
ImageType[2]                         the third value; indices count from 0
PatientName.family                   a component of a name, of any component group
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dicomlake.catalog.query.folding import FOLDED_VRS, IDENTIFIERS
from dicomlake.catalog.query.spelling import unknown_element
from dicomlake.dicom import standard
from dicomlake.errors import QueryError

COMPONENTS = ("family", "given", "middle", "prefix", "suffix")  # PS3.5 6.2.1.1
_SEGMENT = r'(?:[^.\[\]"]|\["(?:(?!"\]).)*"\]|\[\d+\])+'
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*", re.DOTALL)
_PRIVATE = re.compile(r'([0-9A-Fa-f]{4}),xx([0-9A-Fa-f]{2})\["(.+)"\]', re.DOTALL)
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")
_INDEX = re.compile(r"(.+)\[(\d{1,9})\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """One element on the way. name: as in the catalog's paths. item: the one item or value wanted."""

    name: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class ElementPath:
    """The way to an element through sequences.

    component: 0 to 4 for family name to suffix, None for the whole value.
    """

    steps: tuple[Step, ...]
    component: int | None = None

    @property
    def name(self) -> str:
        """As in the catalog, where all items and values share a path."""
        return ".".join(step.name for step in self.steps)

    def __str__(self) -> str:
        words = [s.name if s.index is None else f"{s.name}[{s.index}]" for s in self.steps]
        return ".".join(words if self.component is None else [*words, COMPONENTS[self.component]])

    @property
    def value_index(self) -> int | None:
        """The one value wanted."""
        return self.steps[-1].index

    @property
    def indexed(self) -> bool:
        """Whether one item or value is wanted, which the rows of the mirror do not tell apart."""
        return any(step.index is not None for step in self.steps)

    @property
    def tag(self) -> int | None:
        """The tag of the element, where it is public."""
        return _tag(self.steps[-1].name)

    @property
    def vr(self) -> str:
        """The VR of PS3.6, the first of several; UN where it gives none, as for private elements."""
        return "UN" if self.tag is None else standard.vr_of(self.tag).split(" or ")[0]

    @property
    def folded(self) -> bool:
        """Whether its text is compared without case and accents, where nothing else is asked."""
        return self.vr in FOLDED_VRS | {"UN"} and self.steps[-1].name not in IDENTIFIERS

    def sequences(self) -> tuple[str, ...]:
        """The paths of the sequences around it."""
        names = [step.name for step in self.steps]
        return tuple(".".join(names[:i]) for i in range(1, len(names)))


_NOT_CATALOGUED = {
    0x0002: "File Meta Information is of files; TransferSyntaxUID is in the table instances of lake.sql",
    0x7FE0: "ask what became of the pixels, as verdict=, shape= or volumes=",
}


def _tag(name: str) -> int | None:
    written = _TAG.fullmatch(name)
    return int(written[1] + written[2], 16) if written else standard.tag_of(name)


@lru_cache(maxsize=1024)
def element(name: str) -> ElementPath:
    """The path that a name means. Raises QueryError, with what is spelled alike, when there is none."""
    whole = name.strip()
    if not _PATH.fullmatch(whole):
        raise QueryError(f"{name!r} names no element: write a keyword of PS3.6 or a tag as '0018,0081'")
    segments = re.findall(_SEGMENT, whole, re.DOTALL)
    component = COMPONENTS.index(segments.pop()) if len(segments) > 1 and segments[-1] in COMPONENTS else None
    found = ElementPath(tuple(_step(segment, whole) for segment in segments), component)
    if component is not None and found.vr != "PN":
        raise QueryError(f"{whole!r}: only names have a {COMPONENTS[component]} component")
    group = None if found.tag is None else found.tag >> 16
    if group in _NOT_CATALOGUED:
        raise QueryError(f"{whole!r} is not catalogued: {_NOT_CATALOGUED[group]}")
    if found.value_index is not None and found.vr == "SQ":
        raise QueryError(f"{whole!r} is an item: name an element in it, as in '{whole}.Keyword'")
    return found


def _step(segment: str, whole: str) -> Step:
    indexed = _INDEX.fullmatch(segment)
    if indexed:
        return Step(_name(indexed[1], whole), int(indexed[2]))
    return Step(_name(segment, whole))


def _name(segment: str, whole: str) -> str:
    private = _PRIVATE.fullmatch(segment)
    if private:
        return f'{private[1].lower()},xx{private[2].upper()}["{private[3]}"]'
    tag = _TAG.fullmatch(segment)
    if tag:
        entry = standard.lookup(int(tag[1] + tag[2], 16))
        return entry[1] if entry and entry[1] else f"{tag[1]},{tag[2]}".upper()
    if segment not in standard.keywords():
        raise unknown_element(segment, whole)
    return segment
