"""Structured reports: the tree to read, the measurements to count with, the instances that they refer to.

All SR document classes and Key Object Selection (PS3.3 A.35). Nothing of the content is in a repr; `tree()`
shows it, as that is what it is asked for.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicomlake.dicom import standard
from dicomlake.dicom.headers import read_header
from dicomlake.objects import measurements as templates
from dicomlake.objects.codes import Code, Reference, evidence
from dicomlake.objects.content import Item, Position, Region, content_of
from dicomlake.tables import frame as table_of

if TYPE_CHECKING:
    import pandas as pd

_REFERENCES = (
    "relationship",
    "value_type",
    "concept",
    "sop_class",
    "frames",
    "segments",
    "position",
    "SOPInstanceUID",
    "SeriesInstanceUID",
)
_POINTS_SHOWN = 3


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Report:
    """A structured report or key object selection.

    root: the content tree. title: its concept name. template: TemplateIdentifier of the root.
    evidence: the instances that the document lists as evidence, with their series.
    completion, verification: CompletionFlag and VerificationFlag.
    """

    root: Item
    evidence: tuple[Reference, ...]
    sop_class_uid: str
    sop_instance_uid: str
    completion: str | None
    verification: str | None

    @property
    def title(self) -> Code | None:
        """What kind of document it is; for a key object selection, why the objects were selected."""
        return self.root.name

    @property
    def template(self) -> str | None:
        """TemplateIdentifier of the root, such as 1500; None where it is not stated."""
        return self.root.template

    def item(self, position: Position) -> Item:
        """The item at a position. Raises KeyError when there is none."""
        item = self.root
        for number in position[1:]:
            if not 1 <= number <= len(item.children):
                raise KeyError(f"no item at {templates.dotted(position)}")
            item = item.children[number - 1]
        return item

    def tree(self) -> Tree:
        """The content to read: indented text, collapsible in a notebook. Shows what identifies, too."""
        return Tree(self.root)

    def measurements(self) -> pd.DataFrame:
        """One row for each measurement of TID 1500 and templates like it; empty for others (`numbers`).

        Codes are shown by their meanings, `quantity_code` has scheme and value; units are UCUM codes.
        `regions` holds `Region`s with their points, `image_UID` the images a number was taken from.
        """
        return table_of(list(templates.measurements(self.root)), templates.MEASUREMENT)

    def evaluations(self) -> pd.DataFrame:
        """One row for each qualitative evaluation in a measurement group (TID 1500)."""
        return table_of(list(templates.evaluations(self.root)), templates.EVALUATION)

    def numbers(self) -> pd.DataFrame:
        """One row for each number of the document, with its path: echo, dose, CAD, any template."""
        return table_of(list(templates.numbers(self.root)), templates.NUMBER)

    def references(self) -> pd.DataFrame:
        """One row for each instance that the content refers to, with its series as the evidence has it."""
        series = {ref.sop_instance_uid: ref.series_uid for ref in self.evidence}
        rows = [
            {
                "relationship": item.relationship,
                "value_type": item.value_type,
                "concept": item.name.meaning if item.name else None,
                "sop_class": standard.uid_name(ref.sop_class_uid) or ref.sop_class_uid,
                "frames": ref.frames,
                "segments": ref.segments,
                "position": templates.dotted(item.position),
                "SOPInstanceUID": ref.sop_instance_uid,
                "SeriesInstanceUID": series.get(ref.sop_instance_uid),
            }
            for item in self.root.walk()
            for ref in item.references
        ]
        return table_of(rows, _REFERENCES)

    def __repr__(self) -> str:
        kinds = Counter(item.value_type or "by reference" for item in self.root.walk())
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        return f"<Report: {counts}>"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Tree:
    """The content of a report, to print or to unfold."""

    root: Item

    def __str__(self) -> str:
        return "\n".join(_lines(self.root, 0))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<div style='text-align:left'>{_unfolding(self.root, 0)}</div>"


def _lines(item: Item, depth: int) -> Iterator[str]:
    text = describe(item).replace("\n", "\n" + "  " * (depth + 1))
    yield "  " * depth + text
    for child in item.children:
        yield from _lines(child, depth + 1)


def _unfolding(item: Item, depth: int) -> str:
    text = html.escape(describe(item)).replace("\n", "<br>")
    if not item.children:
        return f"<div style='margin-left:1em'>{text}</div>"
    inside = "".join(_unfolding(child, depth + 1) for child in item.children)
    is_open = " open" if depth < 2 else ""
    return f"<details{is_open} style='margin-left:1em'><summary>{text}</summary>{inside}</details>"


def describe(item: Item) -> str:
    """One item in words: relationship, what, and the value."""
    if item.target:
        return f"{_related(item)}→ item {templates.dotted(item.target)}"
    name = item.name.meaning if item.name else item.value_type
    value = _shown(item)
    return f"{_related(item)}{name}: {value}" if value else f"{_related(item)}{name}"


def _related(item: Item) -> str:
    plain = item.relationship in (None, "CONTAINS")
    return "" if plain else f"({str(item.relationship).lower()}) "


def _shown(item: Item) -> str:
    value: Any = item.value
    if item.value_type == "NUM":
        words = [
            _numbers(value),
            item.unit and item.unit.value,
            item.qualifier and f"({item.qualifier.meaning})",
        ]
        return " ".join(word for word in words if word)
    if isinstance(value, Code):
        return value.meaning
    if isinstance(value, Region):
        points = "; ".join(", ".join(f"{c:g}" for c in point) for point in value.points[:_POINTS_SHOWN])
        more = len(value.points) - _POINTS_SHOWN
        return f"{value.kind} {points}" + (f" … and {more} more points" if more > 0 else "")
    if item.references:
        return ", ".join(_cited(ref) for ref in item.references)
    return "" if value is None else str(value)


def _numbers(value: float | tuple[float, ...] | None) -> str:
    values = value if isinstance(value, tuple) else () if value is None else (value,)
    return ", ".join(f"{number:.12g}" for number in values)


def _cited(ref: Reference) -> str:
    parts = [standard.uid_name(ref.sop_class_uid) or ref.sop_class_uid, ref.sop_instance_uid]
    parts += [f"frames {', '.join(map(str, ref.frames))}"] if ref.frames else []
    parts += [f"segments {', '.join(map(str, ref.segments))}"] if ref.segments else []
    return " ".join(parts)


def read_report(source: bytes) -> Report:
    """Read a structured report or a key object selection.

    Raises NotADicomObject for bytes that are not DICOM, BrokenObject when there is no content tree.
    """
    dataset = read_header(source).dataset
    return Report(
        root=content_of(dataset),
        evidence=tuple(evidence(dataset)),
        sop_class_uid=dataset.text("SOPClassUID") or "",
        sop_instance_uid=dataset.text("SOPInstanceUID") or "",
        completion=dataset.text("CompletionFlag"),
        verification=dataset.text("VerificationFlag"),
    )
