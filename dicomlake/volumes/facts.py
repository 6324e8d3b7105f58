"""What a volume's record says beyond its shape: units, rescale, gaps, coordinates; JSON types only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dicomlake.dicom import geometry, luts, standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.cine import ultrasound_spacing
from dicomlake.dicom.coordinates import Coordinate, coordinates, over_axes
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.real_world import mappings_of
from dicomlake.dicom.stacking import Stack
from dicomlake.dicom.suv import pet_inputs
from dicomlake.errors import BrokenObject

Headers = Mapping[str, Attributes]
"""SOPInstanceUID -> header."""


def facts(one: Stack, header: Attributes, others: Headers | None = None) -> dict[str, Any]:
    """The `info` of a volume.

    header: of the instance that holds its first frame. others: of all instances; what would mean something
    else in another instance is told only where all are known to agree.
    """
    frame = one.frames[0]
    slopes, intercepts = [f.slope for f in one.frames], [f.intercept for f in one.frames]
    found: dict[str, Any] = {
        "modality": header.text("Modality"),
        "sop_class_uid": frame.sop_class_uid,
        "frame_of_reference_uid": frame.frame_of_reference_uid,
        "photometric_interpretation": frame.pixel.photometric,
        "bits_stored": max(f.pixel.bits_stored for f in one.frames),
        "units": _same([f.units for f in one.frames]),
        "rescale_slope": _same(slopes),
        "rescale_intercept": _same(intercepts),
        "rescale_mixed": _mixed(slopes, intercepts) or None,
        "modality_lut": _modality_lut(one, header, others),
        "real_world": _real_world(one, header, others),
        "padding_value": _padding(header.number("PixelPaddingValue"), frame),
        "padding_limit": _padding(header.number("PixelPaddingRangeLimit"), frame),
        "window": _window(header),
        "lossy": _lossy(header),
        "pet": pet_inputs(header, one.frames) if header.text("Modality") == "PT" else None,
        "multiframe": any(f.frame_index for f in one.frames) or None,
        "split_by": ", ".join(one.split_by) or None,
        "duplicates": sorted({f.sop_instance_uid for f in one.duplicates}) or None,
        "partial": one.partial or None,
        "coordinates": frame.facets.get("coordinates"),  # "volume": of the transducer, not of the patient
        "coords": {name: _plain(c) for name, c in _coordinates(one, slopes, intercepts).items()} or None,
        **(_geometry(one) or _in_plane(header)),
    }
    return {name: value for name, value in found.items() if value is not None}


def may_be_averaged(one: Stack, header: Attributes) -> bool:
    """Whether a mean of stored values means anything: not of indices, padding, or slices scaled apart."""
    alike = len({(f.slope, f.intercept) for f in one.frames}) == 1
    palette = one.frames[0].pixel.photometric == "PALETTE COLOR"
    return alike and not palette and "PixelPaddingValue" not in header


def _geometry(one: Stack) -> dict[str, Any]:
    """Where the planes lie along the axes z (normal), y, x, in mm; for axial slices these are LPS."""
    if one.heights is None or one.positions is None:
        return {}
    frame = one.frames[0]
    assert frame.orientation is not None  # a stack with heights has geometry
    assert frame.spacing_mm is not None
    row, column = geometry.plane_axes(frame.orientation)
    origin = one.positions[0] if one.affine is None else one.affine[:3, 3]
    found: dict[str, Any] = {
        "origin_mm": [float(origin @ a) for a in (geometry.normal(frame.orientation), column, row)],
        "orientation": [*map(float, row), *map(float, column)],
        "pixel_spacing_mm": list(frame.spacing_mm),
        "slice_step": one.slice_step,
    }
    if one.affine is not None:
        z, y, x = geometry.spacing_mm(one.affine)
        along = float(np.cross(row, column) @ one.affine[:3, 0])
        found["step_mm"] = [along if one.verdict == "sheared" else z, y, x]
        found["tilt_degrees"] = geometry.tilt_degrees(one.affine) if one.verdict == "sheared" else None
    else:
        found["z_mm"] = [float(h) for h in one.heights]
        found["gaps"] = [list(asdict(gap).values()) for gap in one.gaps] or None
    return found


def _in_plane(header: Attributes) -> dict[str, Any]:
    """The distance between pixels of an image without geometry, and what it was stated for.

    PixelSpacing of a projection is at the patient, calibrated; ImagerPixelSpacing is at the detector
    (PS3.3 10.7, C.8.11.3), larger than in the patient; that of ultrasound is of its one region.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = header.numbers(keyword)
        if len(found) == 2 and min(found) > 0:
            return {"pixel_spacing_mm": list(found), "pixel_spacing_of": keyword}
    scanned = ultrasound_spacing(header)
    return (
        {"pixel_spacing_mm": list(scanned), "pixel_spacing_of": "SequenceOfUltrasoundRegions"}
        if scanned
        else {}
    )


def _coordinates(
    one: Stack, slopes: list[float | None], intercepts: list[float | None]
) -> dict[str, Coordinate]:
    found = coordinates(one)
    for name, values in (("rescale_slope", slopes), ("rescale_intercept", intercepts)):
        if len(set(values)) > 1 and None not in values:
            found[name] = over_axes(one, values)
    dim = "frame" if one.heights is None else "z"
    if one.affine is None and one.positions is not None:
        found["position"] = Coordinate((dim, "lps"), one.positions.tolist(), "mm")
        for i, axis in enumerate("xyz"):  # an array cannot carry a coordinate with a dimension it lacks
            found[f"position_{axis}"] = Coordinate((dim,), one.positions[:, i].tolist(), "mm")
    if one.verdict == "plane_set" and one.heights is None:
        turned = [list(f.orientation or ()) for f in one.frames[: one.places]]
        found["orientation"] = Coordinate((dim, "cosine"), turned)
    return found


def _modality_lut(one: Stack, header: Attributes, others: Headers | None) -> dict[str, Any] | bool | None:
    """The table; True where there is one that cannot be read, or is not proven to be that of all frames."""
    if not _agree(one, "ModalityLUTSequence", header, others):
        return True
    if "ModalityLUTSequence" not in header:
        return None
    try:
        table = luts.modality_lut(header)
    except BrokenObject:
        return True
    return table.to_json() if table else True


def _real_world(one: Stack, header: Attributes, others: Headers | None) -> list[dict[str, Any]] | None:
    """The mappings that hold for all frames alike; none is better than a wrong one."""
    keywords = ("RealWorldValueMappingSequence", "SharedFunctionalGroupsSequence")
    if not all(_agree(one, keyword, header, others) for keyword in keywords):
        return None
    try:
        return [mapping.to_json() for mapping in mappings_of(header)] or None
    except BrokenObject:
        return None


def _agree(one: Stack, keyword: str, header: Attributes, others: Headers | None) -> bool:
    """Whether an element is, byte for byte, the same in all objects of a stack; one alone agrees."""
    uids = {frame.sop_instance_uid for frame in one.frames}
    if len(uids) == 1:
        return True
    if others is None:
        return keyword not in header
    tag = standard.tag_of(keyword) or 0
    return all(others[uid].elements.get(tag) == header.elements.get(tag) for uid in uids)


def _plain(coordinate: Coordinate) -> dict[str, Any]:
    found: dict[str, Any] = {"dims": list(coordinate.dims), "values": coordinate.values}
    return found | ({"units": coordinate.units} if coordinate.units else {})


def _same(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else None


def _mixed(*factors: list[float | None]) -> bool:
    """Whether some frames have a factor and others lack it: then no value can be rescaled safely."""
    return any(None in values and len(set(values)) > 1 for values in factors)


def _padding(value: float | None, frame: Frame) -> float | None:
    """A padding value as the pixels hold it: writers put it in an unsigned VR for signed pixels, too."""
    bits = frame.pixel.bits_allocated
    if value is not None and frame.pixel.signed and value >= 1 << (bits - 1):
        return value - (1 << bits)
    return value


def _window(header: Attributes) -> list[float] | None:
    centre, width = header.number("WindowCenter"), header.number("WindowWidth")
    return None if centre is None or width is None else [centre, width]


def _lossy(header: Attributes) -> str | None:
    """The history of lossy compression (PS3.3 C.7.6.1.1.5), which decoding does not undo."""
    if header.text("LossyImageCompression") != "01":
        return None
    return ", ".join(header.texts("LossyImageCompressionMethod")) or "yes"
