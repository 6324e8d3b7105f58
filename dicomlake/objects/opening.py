"""Objects that are no stack of frames, each opened as what it is, by its SOP class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from dicomlake.dicom import sop_classes, standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import DicomlakeError
from dicomlake.objects.whole_slide import Frames, open_slide

_ROOT = "1.2.840.10008.5.1.4.1.1."
_SPECTROSCOPY = _ROOT + "4.2"
# SOP class, or a family of them that ends in a dot -> what reads it
_READERS = {
    _ROOT + "66.4": ("segmentation", "read_segmentation"),
    _ROOT + "66.7": ("segmentation", "read_segmentation"),  # label map
    _ROOT + "481.3": ("structures", "read_structures"),
    _ROOT + "481.5": ("rt_plan", "read_plan"),
    _ROOT + "481.8": ("rt_plan", "read_plan"),  # ion
    _ROOT + "88.": ("reports", "read_report"),
    _ROOT + "11.": ("presentation", "read_presentation"),
    _ROOT + "9.": ("waveforms", "open_waveforms"),
    _ROOT + "104.": ("documents", "read_document"),
}

Read = Callable[[str], bytes]
"""SOPInstanceUID -> the bytes of its original."""
Opened = Callable[[str], Frames]
"""SOPInstanceUID -> its frames, decoded one by one."""


def open_objects(headers: Sequence[tuple[str, Attributes]], read: Read, opened: Opened) -> Any:
    """What the objects of one series open as; a list when they are several, a DataTree of a whole slide.

    Raises DicomlakeError, naming the SOP class, for those that open in no way.
    """
    slides = [(uid, h) for uid, h in headers if h.text("SOPClassUID") == sop_classes.WHOLE_SLIDE]
    found: list[Any] = [open_slide(slides, opened)] if slides else []
    for uid, header in headers:
        sop_class = header.text("SOPClassUID") or ""
        if sop_class != sop_classes.WHOLE_SLIDE:
            found.append(open_object(sop_class, read(uid)))
    return found[0] if len(found) == 1 else found


def open_object(sop_class_uid: str, source: bytes) -> Any:
    """One object: Segmentation, StructureSet, Plan, Report, PresentationState, waveform Dataset, Document.

    A video, whatever its class, is a Document. Raises DicomlakeError, naming the SOP class, when an object
    opens in no way.
    """
    from dicomlake.dicom.headers import read_header
    from dicomlake.objects.documents import is_video, read_document

    read = _reader(sop_class_uid)
    if read is not None:
        return read(source)
    if is_video(read_header(source).transfer_syntax):
        return read_document(source)
    what = "holds spectra, which are no volume" if sop_class_uid == _SPECTROSCOPY else "does not open yet"
    name = standard.uid_name(sop_class_uid)
    raise DicomlakeError(f"{name} {what}: series.header() has its elements, lake.original() its bytes")


def opens(sop_class_uid: str) -> bool:
    """Whether `open_object` has a way to open objects of a class; whole slides open as a series."""
    return _reader(sop_class_uid) is not None


def _reader(sop_class_uid: str) -> Callable[[bytes], Any] | None:
    for classes, (module, name) in _READERS.items():
        whole = not classes.endswith(".")
        if sop_class_uid == classes if whole else sop_class_uid.startswith(classes):
            found: Callable[[bytes], Any] = getattr(import_module(f"dicomlake.objects.{module}"), name)
            return found
    return None


def named_series(opened: Any) -> frozenset[str]:
    """SeriesInstanceUIDs that an opened object refers to; none for kinds that refer to no images."""
    from dicomlake.objects.presentation import PresentationState
    from dicomlake.objects.reports import Report
    from dicomlake.objects.segmentation import Segmentation
    from dicomlake.objects.structures import StructureSet

    match opened:
        case Segmentation():
            return frozenset(opened.referenced_series)
        case StructureSet():
            return frozenset(opened.referenced_series_uids)
        case Report():
            return frozenset(ref.series_uid for ref in opened.evidence if ref.series_uid)
        case PresentationState():
            return frozenset(ref.series_uid for ref in opened.images if ref.series_uid)
        case _:
            return frozenset()
