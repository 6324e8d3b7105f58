"""The content tree of a structured report, as it is written (PS3.3 C.17.3): items, values, relationships."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import BrokenObject
from dicomlake.objects.codes import Code, Reference, code_in, code_of, reference_of, references_in

_DEEPEST = 100  # levels; templates of the standard stay below 20
_TEXT_OF = {
    "TEXT": "TextValue",
    "DATETIME": "DateTime",
    "DATE": "Date",
    "TIME": "Time",
    "UIDREF": "UID",
    "PNAME": "PersonName",
}
REFERRING = ("COMPOSITE", "IMAGE", "WAVEFORM")

Position = tuple[int, ...]


class Region(NamedTuple):
    """Graphic data of a SCOORD or SCOORD3D item (PS3.3 C.18.6, C.18.9).

    kind: POINT, MULTIPOINT, POLYLINE, CIRCLE, ELLIPSE; in 3D also POLYGON, ELLIPSOID.
    points: (n, 2) column and row in an image, 0.0 being the top left corner of the first pixel and 0.5
        its centre; or (n, 3) LPS in mm in the frame of reference.
    images: that a region in two dimensions was selected from.
    """

    kind: str
    points: npt.NDArray[np.float64]
    frame_of_reference_uid: str | None
    images: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Item:
    """One content item.

    position: its number at each level, from 1, the root being (1,), as ReferencedContentItemIdentifier.
    relationship: to its parent, None for the root. name: the concept; None where a template wants none.
    value: text, a Code, a float (several: a tuple), a Region, or None, after `value_type`.
    unit, qualifier: of a number; the qualifier says why a number is absent.
    references: what a COMPOSITE, IMAGE or WAVEFORM item names.
    target: for an item by reference, the position of the item that it stands for.
    template: TemplateIdentifier, on the root of a template's content.
    """

    position: Position
    relationship: str | None
    value_type: str
    name: Code | None
    value: Any
    unit: Code | None
    qualifier: Code | None
    references: tuple[Reference, ...]
    target: Position | None
    template: str | None
    children: tuple[Item, ...]

    def walk(self) -> Iterator[Item]:
        """This item and all below it, in the order of the document."""
        yield self
        for child in self.children:
            yield from child.walk()

    def named(self, *codes: tuple[str, str]) -> Iterator[Item]:
        """The children whose name is one of these (value, scheme) pairs."""
        return (child for child in self.children if child.name and child.name.is_one_of(*codes))

    def __repr__(self) -> str:
        where = ".".join(map(str, self.position))
        return f"<Item {where}: {self.value_type or 'by reference'}, {len(self.children)} children>"


def content_of(dataset: Attributes) -> Item:
    """The tree of a document. Raises BrokenObject when there is none, or it is nested without end."""
    if "ValueType" not in dataset:
        raise BrokenObject("ValueType is absent: the object has no content tree")
    return _item(dataset, (1,), None)


def _item(found: Attributes, position: Position, relationship: str | None) -> Item:
    if len(position) > _DEEPEST:
        raise BrokenObject(f"the content is nested more than {_DEEPEST} levels deep")
    kind = found.text("ValueType") or ""
    children = tuple(
        _item(child, (*position, number), child.text("RelationshipType"))
        for number, child in enumerate(found.items("ContentSequence"), 1)
    )
    target = tuple(int(n) for n in found.numbers("ReferencedContentItemIdentifier"))
    measured = next(iter(found.items("MeasuredValueSequence")), None) if kind == "NUM" else None
    templates = found.items("ContentTemplateSequence")
    return Item(
        position=position,
        relationship=relationship,
        value_type=kind,
        name=code_in(found, "ConceptNameCodeSequence"),
        value=_value(found, kind, measured, children),
        unit=code_in(measured, "MeasurementUnitsCodeSequence") if measured else None,
        qualifier=code_in(found, "NumericValueQualifierCodeSequence"),
        references=tuple(_references(found)) if kind in REFERRING else (),
        target=target or None,
        template=templates[0].text("TemplateIdentifier") if templates else None,
        children=children,
    )


def _references(found: Attributes) -> Iterator[Reference]:
    """The instance, and the presentation state or value map to show it with (PS3.3 C.18.4)."""
    for item in found.items("ReferencedSOPSequence"):
        reference = reference_of(item)
        yield from (reference,) if reference else ()
        yield from references_in(item, "ReferencedSOPSequence")
        yield from references_in(item, "ReferencedRealWorldValueMappingInstanceSequence")


def _value(found: Attributes, kind: str, measured: Attributes | None, children: tuple[Item, ...]) -> Any:
    if kind in _TEXT_OF:
        return found.text(_TEXT_OF[kind])
    if kind == "CODE":
        codes = found.items("ConceptCodeSequence")
        return code_of(codes[0]) if codes else None
    if kind in ("SCOORD", "SCOORD3D"):
        return _region(found, 2 if kind == "SCOORD" else 3, children)
    if kind == "TCOORD":
        return _temporal(found)
    return _number(measured) if measured else None


def _number(measured: Attributes) -> float | tuple[float, ...] | None:
    """The value in full precision where it is given (PS3.3 C.18.1), else the decimal string."""
    values = measured.numbers("FloatingPointValue") or measured.numbers("NumericValue")
    return values[0] if len(values) == 1 else values or None


def _region(found: Attributes, axes: int, children: tuple[Item, ...]) -> Region | None:
    data = found.numbers("GraphicData")
    if not data or len(data) % axes:
        return None
    images = tuple(ref for child in children for ref in child.references)
    frame_of_reference = found.text("ReferencedFrameOfReferenceUID")
    points = np.array(data, dtype=np.float64).reshape(-1, axes)
    return Region(found.text("GraphicType") or "", points, frame_of_reference, images)


def _temporal(found: Attributes) -> str | None:
    """Type and places of temporal coordinates (PS3.3 C.18.7), as text."""
    for keyword in ("ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime"):
        values = found.texts(keyword)
        if values:
            return f"{found.text('TemporalRangeType') or ''} {', '.join(values)}".strip()
    return found.text("TemporalRangeType")
