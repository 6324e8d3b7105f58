"""Masks back to DICOM: a BINARY segmentation that refers to the images it was drawn on (PS3.3 A.51)."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.errors import GeometryError
from dicomlake.objects.codes import Code
from dicomlake.objects.colours import RGB, lab_of

if TYPE_CHECKING:
    import xarray as xr
    from pydicom import Dataset

Algorithm = Literal["MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"]
Mask = npt.NDArray[np.bool_]

TISSUE = Code("85756007", "SCT", "Tissue")  # says nothing wrong of any segment

_LABEL_LENGTH = 64  # of a value of VR LO
_PIXELS = 0x7FE00000


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCodes:
    """What one mask shows.

    category, type: of CID 7150 and CID 7151; `TISSUE` where nobody says more.
    rgb: colour to show it in, 0 to 255. tracking: (identifier, UID) of one lesion through several objects.
    """

    category: Code = TISSUE
    type: Code = TISSUE
    rgb: RGB | None = None
    tracking: tuple[str, str] | None = None


def write_segmentation(
    masks: Mapping[str, npt.ArrayLike] | xr.DataArray,
    sources: Sequence[bytes | Dataset],
    *,
    algorithm: Algorithm,
    algorithm_name: str | None = None,
    codes: Mapping[str, SegmentCodes] | None = None,
    series_description: str = "Segmentation",
    series_number: int = 1000,
    series_uid: str | None = None,
) -> bytes:
    """Masks as a BINARY segmentation object of the same study, in Explicit VR Little Endian.

    masks: label to bool array (z, y, x); or a DataArray (segment, z, y, x) with a coordinate `label`, or
        (z, y, x) with a name, as `Segmentation.open` and `.mask` give them. They may overlap.
    sources: the images: each slice of a series as the whole object or a pydicom Dataset, or one
        multi-frame object. Pixels are not needed. Their order does not matter.
    algorithm: how the masks were made (SegmentAlgorithmType); all but MANUAL need an algorithm_name.
    codes: what the segments are, by label; Tissue where absent.
    series_uid: of the new series; a new one when None.

    Slice z of a mask is the z-th image along the normal (row direction x column direction), as image
    volumes have them; a DataArray with a coordinate `instance_uid` is matched by that instead. Patient and
    study are copied from the sources. Slices without a voxel are left out.
    Raises GeometryError when masks and images do not fit together, ValueError for masks that are not
    bool or 0 and 1, or without a voxel, and for an algorithm without a name.
    """
    labelled = _labelled(masks)
    if algorithm != "MANUAL" and not algorithm_name:
        raise ValueError(f"masks made {algorithm} need an algorithm_name (PS3.3 C.8.20.4)")
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():  # which would quote names and dates
        warnings.simplefilter("ignore")
        images = [_parsed(source) for source in sources]
        images, order = _in_order(images, _instance_uids(masks), next(iter(labelled.values())).shape)
        pixels = np.stack([mask[order] for mask in labelled.values()], axis=-1)
        if not pixels.any():
            raise ValueError("no mask has a voxel: there is nothing to store")
        segments = [
            _segment(number, label, (codes or {}).get(label, SegmentCodes()), algorithm, algorithm_name)
            for number, label in enumerate(labelled, 1)
        ]
        made = _made(images, pixels, segments, series_uid, series_number)
        made.SeriesDescription = series_description
        out = BytesIO()
        made.save_as(out)
        return out.getvalue()


def _labelled(masks: Mapping[str, npt.ArrayLike] | xr.DataArray) -> dict[str, Mask]:
    """Label to bool array (z, y, x), all of one shape."""
    found = {label: _bool(np.asarray(mask), label) for label, mask in _pairs(masks)}
    if not found:
        raise ValueError("no masks, no segmentation")
    shapes = {mask.shape for mask in found.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise GeometryError(f"masks must have one shape (z, y, x), not {sorted(shapes)}")
    return found


def _pairs(masks: Mapping[str, npt.ArrayLike] | xr.DataArray) -> Iterable[tuple[str, Any]]:
    if isinstance(masks, Mapping):
        return masks.items()
    if masks.dims[-3:] != ("z", "y", "x") or masks.ndim not in (3, 4):
        raise GeometryError(f"masks have the dimensions {masks.dims}: transpose them to (segment, z, y, x)")
    if masks.ndim == 3:
        return [
            (_text(masks.coords["label"].item() if "label" in masks.coords else masks.name), masks.values)
        ]
    labels = masks.coords["label" if "label" in masks.coords else masks.dims[0]].values
    if len(set(labels)) != len(labels):
        raise ValueError("two masks have the same label")
    return [(_text(label), values) for label, values in zip(labels, masks.values, strict=True)]


def _text(label: Hashable) -> str:
    return "segment" if label is None else str(label)


def _bool(mask: npt.NDArray[Any], label: str) -> Mask:
    if not label or len(label) > _LABEL_LENGTH:
        raise ValueError(f"a label must have 1 to {_LABEL_LENGTH} characters")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError("a mask must be bool, or 0 and 1: compare an array of labels with each number first")
    return mask.astype(bool)


def _instance_uids(masks: Mapping[str, npt.ArrayLike] | xr.DataArray) -> list[str] | None:
    if isinstance(masks, Mapping) or "instance_uid" not in masks.coords:
        return None
    coordinate = masks.coords["instance_uid"]
    return [str(uid) for uid in coordinate.values] if coordinate.dims == ("z",) else None


def _parsed(source: bytes | Dataset) -> Dataset:
    from pydicom import dcmread

    return dcmread(BytesIO(source), stop_before_pixels=True) if isinstance(source, bytes) else source


def _in_order(
    images: list[Dataset], uids: list[str] | None, shape: tuple[int, ...]
) -> tuple[list[Dataset], npt.NDArray[np.intp]]:
    """The images, and for each of their slices the slice of the masks that was drawn on it."""
    if not images:
        raise ValueError("no source images: a segmentation must refer to what it was drawn on")
    multiframe = len(images) == 1 and int(images[0].get("NumberOfFrames") or 1) > 1
    if uids is not None and not multiframe:
        images = _picked(images, uids)
    slices = int(images[0].NumberOfFrames) if multiframe else len(images)
    if (slices, images[0].Rows, images[0].Columns) != tuple(shape):
        raise GeometryError(
            f"masks have the shape {tuple(shape)}, the images {(slices, images[0].Rows, images[0].Columns)}"
        )
    if uids is not None and not multiframe:
        return images, np.arange(slices)
    along = _along_normal(images[0] if multiframe else images, slices)
    if multiframe:
        order = np.empty(slices, dtype=np.intp)
        order[along] = np.arange(slices)
        return images, order
    return [images[i] for i in along], np.arange(slices)


def _picked(images: list[Dataset], uids: list[str]) -> list[Dataset]:
    by_uid = {str(image.SOPInstanceUID): image for image in images}
    if len(set(uids)) != len(uids) or not set(uids) <= set(by_uid):
        missing = len(set(uids) - set(by_uid))
        raise GeometryError(
            f"{missing} slices of the masks are of instances that are not among the sources, or a slice"
            " occurs twice: pass the series that the masks were opened on"
        )
    return [by_uid[uid] for uid in uids]


def _along_normal(images: Dataset | list[Dataset], slices: int) -> npt.NDArray[np.intp]:
    """The slices in the order in which volumes have them."""
    if slices == 1:
        return np.zeros(1, dtype=np.intp)
    planes = [_plane(image) for image in images] if isinstance(images, list) else _planes_of_frames(images)
    if any(at is None or turned is None for at, turned in planes):
        raise GeometryError("an image has no position: pass masks with a coordinate instance_uid")
    orientations = np.array([turned for _, turned in planes], dtype=float)
    if not np.allclose(orientations, orientations[0], rtol=0, atol=1e-3):
        raise GeometryError("the images have several orientations: pass those of one stack")
    height = np.array([at for at, _ in planes], dtype=float) @ geometry.normal(orientations[0])
    order = np.argsort(height, kind="stable")
    if np.diff(height[order]).min() < geometry.SAME_PLACE_MM:
        raise GeometryError(
            "two images are at one place: pass one stack, or masks with a coordinate instance_uid"
        )
    return order


def _plane(image: Dataset) -> tuple[Any, Any]:
    return image.get("ImagePositionPatient"), image.get("ImageOrientationPatient")


def _planes_of_frames(image: Dataset) -> list[tuple[Any, Any]]:
    """Position and orientation of the frames of an object with functional groups."""
    shared = image.get("SharedFunctionalGroupsSequence") or []
    found = []
    for own in image.get("PerFrameFunctionalGroupsSequence") or []:
        values = []
        for macro, keyword in (
            ("PlanePositionSequence", "ImagePositionPatient"),
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ):
            items = [item for place in (own, *shared) for item in place.get(macro) or []]
            values.append(items[0].get(keyword) if items else None)
        found.append((values[0], values[1]))
    return found or [(None, None)]


def _segment(number: int, label: str, codes: SegmentCodes, algorithm: str, name: str | None) -> Any:
    """The description of a segment; the algorithm by its name, as its family is not ours to guess."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code as Coded

    category, kind = (
        Coded(*(code.value, code.scheme, code.meaning)) for code in (codes.category, codes.type)
    )
    identified = None
    if algorithm != "MANUAL":
        family = Coded("123110", "DCM", "Artificial Intelligence")
        identified = AlgorithmIdentificationSequence(name or "", family, "")
    tracking_id, tracking_uid = codes.tracking or (None, None)
    made = SegmentDescription(
        number,
        label,
        category,
        kind,
        algorithm,
        identified,
        tracking_uid=tracking_uid,
        tracking_id=tracking_id,
    )
    if identified is not None:
        del made.SegmentationAlgorithmIdentificationSequence  # optional, and the family above is a stopgap
    if codes.rgb is not None:
        made.RecommendedDisplayCIELabValue = list(lab_of(codes.rgb))
    return made


# Patient and study, as the source has them (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2).
SUBJECT = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def _made(
    images: list[Dataset], pixels: Mask, segments: list[Any], series_uid: str | None, series_number: int
) -> Any:
    """The object. What is odd in patient and study goes over as it is; highdicom would quote it in errors."""
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    from dicomlake import __version__

    first = _decoded(images[0])
    made = Segmentation(
        source_images=[without_subject(first), *images[1:]],
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=series_uid or generate_uid(prefix=None),
        series_number=series_number,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="dicomlake",
        manufacturer_model_name="dicomlake",
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
    )
    for keyword in SUBJECT:
        if keyword in first:
            made[keyword] = first[keyword]
    return made


def _decoded(image: Dataset) -> Dataset:
    """A copy without pixels, its text in UTF-8, which can also write every label."""
    from pydicom import DataElement, Dataset

    copied = Dataset()
    for element in image:
        if element.tag < _PIXELS:  # made anew, as an element keeps the validation it was made with
            copied[element.tag] = DataElement(element.tag, element.VR, deepcopy(element.value))
    copied.SpecificCharacterSet = "ISO_IR 192"
    return copied


def without_subject(image: Dataset) -> Dataset:
    """A copy that names nobody, as highdicom checks names more strictly than files keep them."""
    from pydicom import Dataset
    from pydicom.datadict import dictionary_VR

    blank = Dataset()
    blank.update(image)
    for keyword in SUBJECT:
        blank.add_new(keyword, dictionary_VR(keyword), "")
    return blank
