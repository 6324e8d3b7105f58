"""The values of an element as the header block holds them: where the rows of the mirror leave a doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dicomlake.catalog import attributes as rows
from dicomlake.catalog.blocks import Group, SeriesHeaders
from dicomlake.catalog.query.folding import fold_value
from dicomlake.catalog.query.fragments import Sql, clean
from dicomlake.catalog.query.paths import ElementPath, Step
from dicomlake.dicom import values
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.walk import Raw


class Held(NamedTuple):
    """The values that an element has in one instance or item. instance: its position in the series."""

    instance: int
    vr: str
    texts: tuple[str, ...]
    multiplicity: int


def held(headers: SeriesHeaders, path: ElementPath) -> Iterator[Held]:
    """Each occurrence of an element, in the items and at the value that its indices name."""
    for group in headers.groups:
        tags = _tags(group, path.steps[0])
        if tags:
            yield from _held_in(group, tags, path)


def _tags(group: Group, step: Step) -> tuple[int, ...]:
    """The tags that a name may mean, with those of private creators, in this group of instances."""
    private = "[" in step.name
    found = [tag for tag in (*group.constant, *group.varying) if _may_be(tag, step.name, private)]
    return tuple(found) if any(not _is_creator(tag) or not private for tag in found) else ()


def _may_be(tag: int, name: str, private: bool) -> bool:
    if private:
        return tag >> 16 == int(name[:4], 16) and (_is_creator(tag) or tag & 0xFF == int(name[7:9], 16))
    return rows.name_of(tag, None) == name or (tag & 0x00010000 != 0 and _is_creator(tag))


def _is_creator(tag: int) -> bool:
    return tag & 0x00010000 != 0 and tag & 0xFF00 == 0


def _held_in(group: Group, tags: Sequence[int], path: ElementPath) -> Iterator[Held]:
    known: dict[tuple[Raw | None, ...], tuple[Held, ...]] = {}
    for i, row in enumerate(group.rows):
        cells = tuple(group.varying[tag][i] if tag in group.varying else group.constant[tag] for tag in tags)
        if cells not in known:
            elements = {tag: raw for tag, raw in zip(tags, cells, strict=True) if raw is not None}
            known[cells] = tuple(_walk(group.attributes(elements), path.steps))
        for one in known[cells]:
            yield one._replace(instance=row)


def _walk(attributes: Attributes, steps: Sequence[Step]) -> Iterator[Held]:
    step, further = steps[0], steps[1:]
    for tag in attributes.elements:
        creator = attributes.creator(tag) if tag & 0x00010000 else None
        if rows.name_of(tag, creator) != step.name:
            continue
        if further:
            items = rows.items_of(attributes, tag) if attributes.vr(tag) == "SQ" else ()
            for item in items if step.index is None else items[step.index : step.index + 1]:
                yield from _walk(item, further)
        else:
            yield _one(attributes, tag, step.index)


def _one(attributes: Attributes, tag: int, index: int | None) -> Held:
    vr = attributes.vr(tag)
    if vr == "SQ":
        return Held(0, vr, (), len(rows.items_of(attributes, tag)))
    texts = attributes.texts(tag)
    if index is None:
        return Held(0, vr, texts, 1 if vr in values.BULK_VRS else len(texts))
    texts = texts[index : index + 1] if any(texts[index : index + 1]) else ()
    return Held(0, vr, texts, len(texts))


def relation(found: Sequence[tuple[int, Held]]) -> Sql:
    """Rows like those of `attributes`, one for each value: (series_id, values)."""
    ids, vrs, texts, counts = list[int](), list[str](), list[str](), list[int]()
    folds, lows = list[str | None](), list[float | None]()
    for series_id, one in found:
        for text in one.texts or ("",):
            ids.append(series_id)
            vrs.append(one.vr)
            texts.append(clean(text))
            folds.append(None if (folded := fold_value(one.vr, text)) is None else clean(folded))
            lows.append(values.typed(one.vr, text))
            counts.append(one.multiplicity)
    columns = "series_id, vr, text, fold, low, low AS high, vm AS vm_low, vm AS vm_high"
    lists = (
        "unnest(?::BIGINT[]) AS series_id, unnest(?::VARCHAR[]) AS vr, unnest(?::VARCHAR[]) AS text, "
        "unnest(?::VARCHAR[]) AS fold, unnest(?::DOUBLE[]) AS low, unnest(?::BIGINT[]) AS vm"
    )
    return Sql(f"(SELECT {columns} FROM (SELECT {lists}))", (ids, vrs, texts, folds, lows, counts))
