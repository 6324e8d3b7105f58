"""What SOP classes say about their objects."""

from __future__ import annotations

import pytest
from pydicom import uid

from dicomlake.dicom import sop_classes


@pytest.mark.parametrize(
    "known",
    [
        uid.CTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.RTDoseStorage,
        uid.SegmentationStorage,
        uid.ParametricMapStorage,
        uid.EnhancedUSVolumeStorage,
        uid.VLWholeSlideMicroscopyImageStorage,
    ],
)
def test_objects_with_pixels_are_images(known: uid.UID) -> None:
    assert sop_classes.is_image(known)


@pytest.mark.parametrize(
    "other",
    [
        uid.RTStructureSetStorage,
        uid.EncapsulatedPDFStorage,
        uid.GrayscaleSoftcopyPresentationStateStorage,
        uid.Comprehensive3DSRStorage,
        uid.TwelveLeadECGWaveformStorage,
        uid.MRSpectroscopyStorage,
        "1.2.3.4",
    ],
)
def test_objects_without_pixels_are_no_images(other: str) -> None:
    assert not sop_classes.is_image(other)


def test_enhanced_classes_use_functional_groups_and_classic_ones_do_not() -> None:
    assert sop_classes.uses_functional_groups(uid.EnhancedCTImageStorage)
    assert sop_classes.uses_functional_groups(uid.LegacyConvertedEnhancedPETImageStorage)
    assert not sop_classes.uses_functional_groups(uid.RTDoseStorage)
    assert not sop_classes.uses_functional_groups(uid.CTImageStorage)


def test_single_frame_classes_are_not_multiframe_capable() -> None:
    assert sop_classes.is_multiframe_capable(uid.NuclearMedicineImageStorage)
    assert sop_classes.is_multiframe_capable(uid.SegmentationStorage)
    assert not sop_classes.is_multiframe_capable(uid.MRImageStorage)
    assert not sop_classes.is_multiframe_capable(uid.DigitalXRayImageStorageForPresentation)
