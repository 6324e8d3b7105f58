"""What a volume's record says beyond its shape: units, rescale, gaps, coordinates; JSON types only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dicomlake.dicom import geometry
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.coordinates import Coordinate, coordinates, over_axes
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.stacking import Stack
from dicomlake.dicom.suv import pet_inputs


def facts(one: Stack, header: Attributes) -> dict[str, Any]:
    """The `info` of a volume; header: of the instance that holds its first frame."""
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
        "modality_lut": "ModalityLUTSequence" in header or None,
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
        **_geometry(one),
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
