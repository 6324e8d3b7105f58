"""What a SOP class says about its objects: do they carry image pixels, may they hold several frames?

Sets are written as the part of the UID behind 1.2.840.10008.5.1.4.1.1 (PS3.4 annex B.5).
"""

from __future__ import annotations

from dicomlake.dicom import standard

_ROOT = "1.2.840.10008.5.1.4.1.1."

CT = _ROOT + "2"
PET = _ROOT + "128"
RT_DOSE = _ROOT + "481.2"


def _uids(tails: str) -> frozenset[str]:
    return frozenset(_ROOT + tail for tail in tails.split())


# Frames are described in functional groups (PS3.3 C.7.6.16): enhanced and legacy converted CT, MR and
# PET, enhanced XA and XRF, 3D X-ray, breast, IVOCT, ultrasound volume, photoacoustic, parametric map,
# segmentation, label map and height map, ophthalmic tomography, whole slide, confocal, enhanced RT.
_FUNCTIONAL_GROUPS = _uids(
    "2.1 2.2 4.1 4.3 4.4 128.1 130 12.1.1 12.2.1 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5 14.1 14.2 6.2 6.3 30"
    " 66.4 66.7 66.8 77.1.5.4 77.1.5.8 77.1.6 77.1.8 77.1.9 481.23 481.24"
)

# NumberOfFrames without functional groups: ultrasound, nuclear medicine, XA and XRF, secondary capture,
# RT image and dose, video, ophthalmic photography.
_CLASSIC_MULTIFRAME = _uids(
    "3 3.1 5 20 12.1 12.2 12.3 7.1 7.2 7.3 7.4 481.1 481.2 77.1.1.1 77.1.2.1 77.1.4.1 77.1.5.1 77.1.5.2"
    " 77.1.5.5 77.1.5.6 77.2 601.2"
)

# Classes with pixels whose name does not end in "Image Storage".
_OTHER_IMAGES = _uids("6.2 30 66.4 66.7 66.8 77.1.5.8 81.1 82.1 481.2 501.4 501.5")


_SEGMENTATIONS = _uids("66.4 66.7")
WHOLE_SLIDE = _ROOT + "77.1.6"


def is_segmentation(sop_class_uid: str) -> bool:
    """Whether a class is a Segmentation or a Label Map Segmentation."""
    return sop_class_uid in _SEGMENTATIONS


def opens_as_object(sop_class_uid: str) -> bool:
    """Whether objects of an image class open in a way of their own, not as a stack of frames:
    segmentations on the grid of what they segment, whole slides as pyramids of tiles."""
    return sop_class_uid in _SEGMENTATIONS or sop_class_uid == WHOLE_SLIDE


def is_image(sop_class_uid: str) -> bool:
    """Whether objects of this storage SOP class carry pixels: images, dose, segmentations, maps.

    False for presentation states, documents, waveforms, and for classes that are not in PS3.6.
    """
    return sop_class_uid in _OTHER_IMAGES or "Image Storage" in standard.uid_name(sop_class_uid)


def uses_functional_groups(sop_class_uid: str) -> bool:
    """Whether position and orientation of frames are in functional groups, even for one frame."""
    return sop_class_uid in _FUNCTIONAL_GROUPS


def is_multiframe_capable(sop_class_uid: str) -> bool:
    """Whether an object of this class may hold more than one frame by its IOD (PS3.3 annex A)."""
    return sop_class_uid in _FUNCTIONAL_GROUPS or sop_class_uid in _CLASSIC_MULTIFRAME
