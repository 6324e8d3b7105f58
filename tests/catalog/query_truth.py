"""What pydicom sees in files, and what conditions mean, written down a second time without dicomlake."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any, NamedTuple
from unicodedata import combining, normalize

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

BULK = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
NUMBERS = {"DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"}
FOLDED = {"PN", "LO", "SH", "LT", "ST", "UC", "UT"}
AS_WRITTEN = {"PatientID", "AccessionNumber", "StudyID", "OtherPatientIDs", "CodeValue", "IssuerOfPatientID"}

Value = str | float


class Seen(NamedTuple):
    """An element in one instance or item. values: of a sequence, one entry an item."""

    vr: str
    values: tuple[Value, ...]


def scanned(ds: Dataset) -> Iterator[tuple[str, Seen]]:
    """(path, values) of every element that pydicom sees, through all sequences."""
    for element in ds:
        name = path_of(ds, element)
        if name is None:
            continue
        if element.VR == "SQ":
            yield name, Seen("SQ", ("item",) * len(element.value))
            for item in element.value:
                yield from ((f"{name}.{path}", seen) for path, seen in scanned(item))
        else:
            values = [] if element.VR in BULK else [plain(element.VR, v) for v in values_of(element)]
            yield name, Seen(element.VR, tuple(values) if any(v != "" for v in values) else ())


def path_of(ds: Dataset, element: DataElement) -> str | None:
    tag = element.tag
    if tag.element == 0 or tag.group == 0xFFFC:  # group lengths and paddings are not catalogued
        return None
    if tag.is_private:
        creator = ds.get((tag.group, tag.element >> 8)) if tag.element > 0xFF else None
        if creator is None or not creator.value:
            return f"{tag.group:04X},{tag.element:04X}"
        return f'{tag.group:04x},xx{tag.element & 0xFF:02X}["{creator.value}"]'
    return pydicom.datadict.keyword_for_tag(tag) or f"{tag.group:04X},{tag.element:04X}"


def values_of(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    many = isinstance(value, (list, tuple, pydicom.multival.MultiValue))
    return list(value) if many else [value]


def plain(vr: str, value: Any) -> Value:
    if value is None or value == "":
        return ""
    if isinstance(value, PersonName):
        return str(value)
    if vr == "AT":
        return f"{int(value):08X}"
    if isinstance(value, str):
        return value.rstrip(" \0") if vr in ("LT", "ST", "UT", "UR") else value.strip(" \0")
    return float(value)


# --- what conditions mean -------------------------------------------------------------------------


def folded(text: str) -> str:
    return "".join(c for c in normalize("NFKD", text) if not combining(c)).casefold()


def forms(path: str, vr: str, value: Value) -> list[str]:
    """The texts that a value is compared as: each component group of a name."""
    text = str(value)
    parts = [group.rstrip("^ ") for group in text.split("=")] if vr == "PN" else [text]
    keep = vr not in FOLDED or path.rsplit(".", 1)[-1] in AS_WRITTEN
    return [part if keep else folded(part) for part in parts if part]


def ordered(vr: str, value: Value) -> float | None:
    """Where a value is in the order of its kind."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    try:
        if vr == "DA":
            return float(day(value.replace(".", "") if len(value) == 10 else value).toordinal())  # ACR-NEMA
        if vr == "TM":
            found = re.fullmatch(r"(\d\d)(?::?(\d\d)(?::?(\d\d(?:\.\d+)?))?)?", value)
            return (
                None if not found else int(found[1]) * 3600 + int(found[2] or 0) * 60 + float(found[3] or 0)
            )
        if vr == "AS":
            days = {"D": 1, "W": 7, "M": 365.2425 / 12, "Y": 365.2425}
            return int(value[:3]) * days[value[3]] / 365.2425 if len(value) == 4 else None
    except (ValueError, KeyError):
        return None
    return None


def day(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").date()


Meets = Callable[[str, Seen, Value], bool]


def any_value(seen: list[Seen], path: str, meets: Meets) -> bool:
    return any(
        meets(path, one, value) for one in seen if one.vr != "SQ" for value in one.values if value != ""
    )


def every_value(seen: list[Seen], path: str, meets: Meets) -> bool:
    found = [(one, value) for one in seen if one.vr != "SQ" for value in one.values if value != ""]
    return bool(found) and all(meets(path, one, value) for one, value in found)
