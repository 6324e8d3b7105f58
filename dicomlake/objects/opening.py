"""Objects that are no stack of frames, each opened as what it is, by its SOP class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dicomlake.dicom import sop_classes, standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import DicomlakeError
from dicomlake.objects.whole_slide import Frames, open_slide

_ROOT = "1.2.840.10008.5.1.4.1.1."
_STRUCTURES, _PLANS = _ROOT + "481.3", frozenset({_ROOT + "481.5", _ROOT + "481.8"})
_SPECTROSCOPY = _ROOT + "4.2"

Read = Callable[[str], bytes]
"""SOPInstanceUID -> the bytes of its original."""
Opened = Callable[[str], Frames]
"""SOPInstanceUID -> its frames, decoded one by one."""


def open_objects(headers: Sequence[tuple[str, Attributes]], read: Read, opened: Opened) -> Any:
    """What the objects of one series open as; a list when they are several, a DataTree of a whole slide.

    Raises DicomlakeError, naming the SOP class, for those that open in no way.
    """
    slides = [(uid, h) for uid, h in headers if h.text("SOPClassUID") == sop_classes.WHOLE_SLIDE]
    if slides:
        return open_slide(slides, opened)
    found = [open_object(header.text("SOPClassUID") or "", read(uid)) for uid, header in headers]
    return found[0] if len(found) == 1 else found


def open_object(sop_class_uid: str, source: bytes) -> Any:
    """One object: Segmentation, StructureSet, Plan, Report, PresentationState, waveform Dataset, Document.

    Raises DicomlakeError, naming the SOP class, when it opens in no way.
    """
    reader = _reader(sop_class_uid)
    if reader is None:
        name = standard.uid_name(sop_class_uid)
        if sop_class_uid == _SPECTROSCOPY:
            raise DicomlakeError(f"{name} holds spectra, which are no volume: take the original")
        raise DicomlakeError(f"there is no way to open {name} yet: its header and its original are there")
    return reader(source)


def opens(sop_class_uid: str) -> bool:
    """Whether `open_object` has a way to open objects of a class; whole slides open as a series."""
    return _reader(sop_class_uid) is not None


def _reader(sop_class_uid: str) -> Callable[[bytes], Any] | None:
    from dicomlake.objects import (
        documents,
        presentation,
        reports,
        rt_plan,
        segmentation,
        structures,
        waveforms,
    )

    tail = sop_class_uid.removeprefix(_ROOT)
    family = tail.split(".")[0] if tail != sop_class_uid else ""
    if sop_classes.is_segmentation(sop_class_uid):
        return segmentation.read_segmentation
    if sop_class_uid == _STRUCTURES:
        return structures.read_structures
    if sop_class_uid in _PLANS:
        return rt_plan.read_plan
    families: dict[str, Callable[[bytes], Any]] = {
        "88": reports.read_report,
        "11": presentation.read_presentation,
        "9": waveforms.open_waveforms,
        "104": documents.read_document,
    }
    return families.get(family)
