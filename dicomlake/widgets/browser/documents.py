"""What stands beside the images of a study: reports, key objects, presentation states, attached documents."""

from __future__ import annotations

from typing import Any

from dicomlake.dicom import standard
from dicomlake.objects.opening import open_object
from dicomlake.records import Instance, SeriesKey
from dicomlake.widgets.base import Answer, Refusal
from dicomlake.widgets.browser.source import Lake, Row, rows_of

_MOST_ITEMS = 3000  # of a report
_MOST_BYTES = 64 << 20  # of a document that is sent to the browser
_MOST_TEXT = 200_000  # characters
_OF_STUDY = """SELECT o.series_id AS id, o.Modality, o.SeriesNumber, o.SeriesDescription, o.SeriesDate,
    o.instances, o.SOPClassUID FROM series o JOIN series s USING (StudyInstanceUID)
    WHERE s.series_id = {id} AND (o.Modality IN ('SR', 'KO', 'PR', 'DOC', 'M3D')
        OR o.SOPClassUID LIKE '1.2.840.10008.5.1.4.1.1.104.%'
        OR o.SOPClassUID LIKE '1.2.840.10008.5.1.4.1.1.88.%'
        OR o.SOPClassUID LIKE '1.2.840.10008.5.1.4.1.1.11.%')
    ORDER BY o.Modality, o.SeriesNumber LIMIT 200"""


def of_study(lake: Lake, series_id: int) -> list[Row]:
    """Series of the same study that hold documents: what each is, by its SOP class."""
    rows = rows_of(lake, _OF_STUDY.format(id=int(series_id)))
    return [{**row, "what": standard.uid_name(row.pop("SOPClassUID") or "")} for row in rows]


def opened(lake: Lake, key: SeriesKey, number: int) -> Answer:
    """One document of a series: `kind`, `of` how many there are, and what is to be read.

    kind: report (items with a depth), presentation (lines), document (MIME type, words of a PDF; its bytes as
    the buffer), or none. Raises Refusal for a number that there is not.
    """
    instances = [one for one in lake.instances(key) if not one.conflict]
    if not 0 <= number < len(instances):
        raise Refusal(f"this series has {len(instances)} documents: number {number + 1} is none of them")
    found = _read(lake, instances[number])
    more = {"number": number, "of": len(instances), "sop": instances[number].sop_instance_uid}
    return Answer({**found.data, **more}, found.buffers)


def _read(lake: Lake, instance: Instance) -> Answer:
    from dicomlake.objects.documents import Document
    from dicomlake.objects.presentation import PresentationState
    from dicomlake.objects.reports import Report

    found = open_object(instance.sop_class_uid, lake.original(instance))
    match found:
        case Report():
            return Answer(_report(found))
        case PresentationState():
            return Answer(_presentation(found))
        case Document():
            return _document(found)
        case _:
            return Answer({"kind": "none", "title": standard.uid_name(instance.sop_class_uid)})


def _report(report: Any) -> Row:
    from dicomlake.objects.reports import describe

    items: list[Row] = []

    def add(item: Any, depth: int) -> None:
        if len(items) < _MOST_ITEMS:
            items.append({"depth": depth, "text": describe(item), "leaf": not item.children})
            for child in item.children:
                add(child, depth + 1)

    add(report.root, 0)
    title = report.title.meaning if report.title else "Report"
    flags = [flag for flag in (report.completion, report.verification) if flag]
    cited = {ref.series_uid for ref in report.evidence if ref.series_uid}
    objects = f"{len(report.evidence)} object{'' if len(report.evidence) == 1 else 's'}"
    about = [*flags, f"{objects} as evidence, of {len(cited)} series"]
    return {"kind": "report", "title": title, "about": about, "items": items}


def _presentation(state: Any) -> Row:
    texts = state.texts()
    words = [str(text) for text in texts["text"][:_MOST_ITEMS]] if len(texts) else []
    counts = {"image": len(state.images), "graphic": len(state.graphics()), "text": len(texts)}
    told = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    return {"kind": "presentation", "title": state.kind, "lines": [told, *words]}


def _document(document: Any) -> Answer:
    words, why_none = _words(document)
    data = {
        "kind": "document",
        "title": "Document",
        "mime": document.mime,
        "suffix": document.suffix,
        "bytes": len(document.data),
        "words": words,
        "why_none": why_none,
    }
    if len(document.data) > _MOST_BYTES:
        return Answer({**data, "too_large": True})
    return Answer(data, [document.data])


def _words(document: Any) -> tuple[str, str]:
    """The text of a document, and why there is none."""
    from dicomlake.catalog.document_text import TextError
    from dicomlake.catalog.document_text import document as text_of

    try:
        return text_of(document)[:_MOST_TEXT], ""
    except TextError as error:
        return "", str(error)
