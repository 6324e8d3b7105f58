"""Measurements out of a content tree: by template TID 1500 where it is followed, else numbers with paths.

TID 1500 keeps measurements in groups (TID 1410 planar, 1411 volumetric, 1501 other) that share a finding, a
site and a region (PS3.16 annex A). Codes of SNOMED are known in both their forms, SCT and the older SRT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dicomlake.objects.codes import Code, Reference
from dicomlake.objects.content import Item, Position, Region

_GROUP = (("125007", "DCM"),)
_TRACKING_ID = (("112039", "DCM"),)
_TRACKING_UID = (("112040", "DCM"),)
_FINDING = (("121071", "DCM"),)
_CATEGORY = (("276214006", "SCT"), ("R-42018", "SRT"))
_SITE = (("363698007", "SCT"), ("G-C0E3", "SRT"))
_LATERALITY = (("272741003", "SCT"), ("G-C171", "SRT"))
_METHOD = (("370129005", "SCT"), ("G-C306", "SRT"))
_DERIVATION = (("121401", "DCM"),)
_ALGORITHM = (("111001", "DCM"),)
_ALGORITHM_VERSION = (("111003", "DCM"),)
_SESSION = (("C67447", "NCIt"),)
_TIME_POINT = (("C2348792", "UMLS"),)
_SEGMENT = (("121191", "DCM"), ("121214", "DCM"))
_SOURCE_IMAGES = (("121233", "DCM"), ("260753009", "SCT"), ("121112", "DCM"))
_SOURCE_SERIES = (("121232", "DCM"),)
_DESCRIBES_GROUP = (*_FINDING, *_CATEGORY, *_SITE, *_METHOD, *_SESSION, *_TIME_POINT)

MEASUREMENT = (
    "group",
    "tracking_id",
    "finding",
    "finding_site",
    "laterality",
    "quantity",
    "quantity_code",
    "value",
    "unit",
    "unit_meaning",
    "qualifier",
    "method",
    "derivation",
    "algorithm",
    "session",
    "time_point",
    "region",
    "regions",
    "segment",
    "position",
    "tracking_UID",
    "segmentation_UID",
    "image_UID",
    "source_series_UID",
)
EVALUATION = (
    "group",
    "tracking_id",
    "finding",
    "finding_site",
    "concept",
    "concept_code",
    "value",
    "value_code",
    "position",
    "tracking_UID",
)
NUMBER = (
    "path",
    "quantity",
    "quantity_code",
    "value",
    "unit",
    "unit_meaning",
    "qualifier",
    "modifiers",
    "position",
)


def measurements(root: Item) -> Iterator[dict[str, Any]]:
    """One row for each number of a measurement group."""
    items = {item.position: item for item in root.walk()}
    for number, group in enumerate(_groups(root), 1):
        shared = _shared(number, group)
        for item in group.children:
            if item.value_type == "NUM" and item.relationship == "CONTAINS":
                yield dict.fromkeys(MEASUREMENT) | shared | _measurement(item, group, items)


def evaluations(root: Item) -> Iterator[dict[str, Any]]:
    """One row for each qualitative statement of a measurement group: a code or a text about the finding."""
    for number, group in enumerate(_groups(root), 1):
        shared = {name: value for name, value in _shared(number, group).items() if name in EVALUATION}
        for item in group.children:
            if item.value_type not in ("CODE", "TEXT") or item.relationship != "CONTAINS" or not item.name:
                continue
            if not item.name.is_one_of(*_DESCRIBES_GROUP):
                coded = item.value if isinstance(item.value, Code) else None
                yield (
                    dict.fromkeys(EVALUATION)
                    | shared
                    | {
                        "concept": item.name.meaning,
                        "concept_code": _code(item.name),
                        "value": coded.meaning if coded else item.value,
                        "value_code": _code(coded),
                        "position": dotted(item.position),
                    }
                )


def numbers(root: Item) -> Iterator[dict[str, Any]]:
    """One row for each number of the document, whatever its template, with the way to it."""
    yield from _numbers(root, ())


def _numbers(item: Item, path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if item.value_type == "NUM":
        yield {"path": " / ".join(path), **_quantity(item), "modifiers": _modifiers(item)}
    here = " ".join(filter(None, (item.name.meaning if item.name else item.value_type, _bracketed(item))))
    for child in item.children:
        yield from _numbers(child, (*path, here))


def _groups(root: Item) -> list[Item]:
    return [item for item in root.walk() if item.name and item.name.is_one_of(*_GROUP)]


def _shared(number: int, group: Item) -> dict[str, Any]:
    """What all measurements of a group have in common."""
    site = next(group.named(*_SITE), None)
    return {
        "group": number,
        "tracking_id": _first(group, _TRACKING_ID),
        "tracking_UID": _first(group, _TRACKING_UID),
        "finding": _first(group, _FINDING),
        "finding_site": _meaning(site),
        "laterality": _first(site, _LATERALITY) if site else None,
        "method": _first(group, _METHOD),
        "algorithm": _algorithm(group),
        "session": _first(group, _SESSION),
        "time_point": _first(group, _TIME_POINT),
        "source_series_UID": _first(group, _SOURCE_SERIES),
    }


def _measurement(item: Item, group: Item, items: dict[Position, Item]) -> dict[str, Any]:
    """What one measurement says; what it does not say itself is that of its group, and left out here."""
    site = next(item.named(*_SITE), None)
    own = {
        "finding_site": _meaning(site),
        "laterality": _first(site, _LATERALITY) if site else None,
        "method": _first(item, _METHOD),
        "algorithm": _algorithm(item),
        "derivation": _first(item, _DERIVATION),
    }
    found = {name: value for name, value in own.items() if value is not None}
    return found | _quantity(item) | _evidence(item, group, items)


def _quantity(item: Item) -> dict[str, Any]:
    return {
        "quantity": item.name.meaning if item.name else None,
        "quantity_code": _code(item.name),
        "value": item.value,
        "unit": item.unit.value if item.unit else None,
        "unit_meaning": item.unit.meaning if item.unit else None,
        "qualifier": item.qualifier.meaning if item.qualifier else None,
        "position": dotted(item.position),
    }


def _evidence(item: Item, group: Item, items: dict[Position, Item]) -> dict[str, Any]:
    """Regions, images and segment that a number comes from: its own, else those of the group."""
    own = [child for child in _resolved(item, items) if _inferred(child)]
    used = own or list(_resolved(group, items))
    regions = tuple(child.value for child in used if isinstance(child.value, Region))
    segment = _reference(child for child in (*own, *group.children) if _is(child, _SEGMENT))
    images = [ref for region in regions for ref in region.images]
    images += [r for c in used if c.value_type == "IMAGE" and not _is(c, _SEGMENT) for r in c.references]
    if own and not images:  # the region of a number may lean on the images of the group
        images = [ref for child in group.named(*_SOURCE_IMAGES) for ref in child.references]
    return {
        "region": ", ".join(region.kind for region in regions) or None,
        "regions": regions,
        "segment": segment.segments[0] if segment and len(segment.segments) == 1 else None,
        "segmentation_UID": segment.sop_instance_uid if segment else None,
        "image_UID": " ".join(dict.fromkeys(ref.sop_instance_uid for ref in images)) or None,
    }


def _resolved(item: Item, items: dict[Position, Item]) -> Iterator[Item]:
    """The children; those by reference replaced by what they stand for."""
    for child in item.children:
        yield items.get(child.target, child) if child.target else child


def _inferred(child: Item) -> bool:
    return isinstance(child.value, Region) or child.value_type == "IMAGE"


def _is(item: Item, codes: tuple[tuple[str, str], ...]) -> bool:
    return item.name is not None and item.name.is_one_of(*codes)


def _reference(items: Iterable[Item]) -> Reference | None:
    return next((ref for item in items for ref in item.references), None)


def _first(item: Item, codes: tuple[tuple[str, str], ...]) -> Any:
    return _meaning(next(item.named(*codes), None))


def _meaning(item: Item | None) -> Any:
    if item is None:
        return None
    return item.value.meaning if isinstance(item.value, Code) else item.value


def _algorithm(item: Item) -> str | None:
    words = [_first(item, _ALGORITHM), _first(item, _ALGORITHM_VERSION)]
    return " ".join(str(word) for word in words if word) or None


def _modifiers(item: Item) -> str | None:
    """What is said of a number: method, point of the cardiac cycle, derivation, normality …"""
    found = [
        f"{child.name.meaning} = {_meaning(child)}"
        for child in item.children
        if child.relationship in ("HAS CONCEPT MOD", "HAS PROPERTIES") and child.name
        if child.value is not None and not isinstance(child.value, Region)
    ]
    return "; ".join(found) or None


def _bracketed(item: Item) -> str | None:
    """Concept modifiers of a container that are codes: the finding site of a section, for one."""
    found = [
        child.value.meaning
        for child in item.children
        if child.relationship == "HAS CONCEPT MOD"
        and isinstance(child.value, Code)
        and len(item.position) > 1
    ]
    return f"[{', '.join(found)}]" if found and item.value_type == "CONTAINER" else None


def _code(code: Code | None) -> str | None:
    return f"{code.scheme}:{code.value}" if code else None


def dotted(position: Position) -> str:
    """As documents are cited: 1.4.2."""
    return ".".join(map(str, position))
