"""Small objects with functional groups, written by pydicom; macros are given as dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header
from tests.dicom.phantoms import as_bytes, slice_dataset

Item = dict[str, Any]

AXIAL_PLANE: Item = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}}
MEASURES: Item = {"PixelMeasuresSequence": {"PixelSpacing": [0.7, 0.6], "SpacingBetweenSlices": 2.5}}


def item(content: Item) -> Dataset:
    """A data set; dictionaries in it become sequences of one item, lists of dictionaries of several."""
    ds = Dataset()
    for keyword, value in content.items():
        if isinstance(value, dict):
            value = [item(value)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            value = [item(part) for part in value]
        setattr(ds, keyword, value)
    return ds


def at(*position: float, **macros: Item) -> Item:
    """The groups of a frame at this position."""
    return {"PlanePositionSequence": {"ImagePositionPatient": list(position)}, **macros}


def grouped(per_frame: Sequence[Item] | None, shared: Item | None = None, **others: Any) -> Dataset:
    """An enhanced MR image; NumberOfFrames is the number of items unless `others` say another."""
    count = others.pop("NumberOfFrames", len(per_frame or ()))
    keywords: Item = {"SOPClassUID": EnhancedMRImageStorage, "NumberOfFrames": count, **others}
    pixels = np.zeros((2, 3), dtype=np.uint16)
    ds = slice_dataset(None, orientation=None, spacing=None, pixels=pixels, **keywords)
    if shared is not None:
        ds.SharedFunctionalGroupsSequence = [item(shared)]
    if per_frame is not None:
        ds.PerFrameFunctionalGroupsSequence = [item(content) for content in per_frame]
    return ds


def expand(ds: Dataset) -> tuple[Frame, ...]:
    """The frames, through the bytes of a file."""
    return frames_of(read_header(as_bytes(ds)).dataset)
