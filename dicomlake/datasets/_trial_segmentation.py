"""The segmentations of the trial: the lesion, as it was computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets import _segmentation as seg
from dicomlake.datasets._trial_plan import Exam
from dicomlake.datasets._truth import Planes

_TIME = "140000"


def segmentation(exam: Exam, stack: Planes, lesion: NDArray[np.bool_]) -> h.Elements:
    """One binary segment; planes in which it is empty are left out. lesion: shape (z, y, x)."""
    held = [index for index in range(stack.count) if lesion[index].any()]
    planes = [exam.uid("ct", "plane", index) for index in range(stack.count)]
    day = f"{exam.day:%Y%m%d}"
    rows, columns = lesion.shape[1:]
    organization = exam.uid("dimensions")
    bits = np.packbits(lesion[held].reshape(-1), bitorder="little").tobytes()
    category = h.code("49755003", "Morphologically Abnormal Structure")
    kind = h.code("52988006", "Lesion")
    return {
        **h.instance(seg.SEGMENTATION_CLASS, exam.uid("segmentation"), number=1, time=_TIME),
        **seg.modules(stack, stack.step_mm, rows=rows, columns=columns, organization=organization),
        **seg.drawn_on(exam.uid("ct", "series"), planes),
        "InstanceCreationDate": day,
        "ContentDate": day,
        "ContentTime": _TIME,
        "ContentLabel": "LESION",
        "ContentDescription": "Lesion",
        "SegmentSequence": [seg.segment(1, "Lesion", category, kind, [50000, 50000, 40000])],
        "NumberOfFrames": len(held),
        "PerFrameFunctionalGroupsSequence": [
            seg.frame(1, place, stack.position(index), planes[index]) for place, index in enumerate(held, 1)
        ],
        "PixelData": bits + b"\0" * (len(bits) % 2),
    }
