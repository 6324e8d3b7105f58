"""From a data set to all its frames, whichever way its kind of object describes them."""

from __future__ import annotations

from dicomlake.dicom import cine, facets, groups, packed, sop_classes
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import MAX_FRAMES, Frame, first_frame, number_of_frames, uses_groups
from dicomlake.errors import BrokenObject


def frames_of(dataset: Attributes) -> tuple[Frame, ...]:
    """One record per frame of an image, in the order of the object; per tile where an image packs slices.

    Raises BrokenObject when the pixels are not described; geometry that is absent or invalid is no
    error, a frame then has none and says why in `flaw`.
    """
    count = number_of_frames(dataset)
    if count > MAX_FRAMES:
        raise BrokenObject(f"NumberOfFrames is {count}, more than {MAX_FRAMES:,} are not taken apart")
    first = first_frame(dataset)
    if uses_groups(dataset):
        return groups.frames(dataset, first, count)
    if count > 1 or sop_classes.is_multiframe_capable(first.sop_class_uid):
        return cine.frames(dataset, first, count)
    if packed.is_packed(dataset):
        return packed.frames(dataset, first)
    return (facets.with_facets(dataset, first),)
