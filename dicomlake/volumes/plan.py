"""From the headers of a series to the volumes its frames form: decided, not yet built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dicomlake.dicom import geometry
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Frame, frames_of
from dicomlake.dicom.sop_classes import is_image
from dicomlake.dicom.stacking import Stack, stack
from dicomlake.errors import DicomlakeError
from dicomlake.records import SeriesKey, Volume
from dicomlake.storage.arrays import slab_depth

_LARGEST_LEVEL = 256  # voxels along the longest axis of the last level


@dataclass(frozen=True, slots=True)
class Plan:
    """A volume and the frames that make it, slice by slice."""

    volume: Volume
    frames: tuple[Frame, ...]
    buildable: bool


def plan(key: SeriesKey, headers: Iterable[tuple[str, Attributes]]) -> list[Plan]:
    """The volumes of a series. Objects without image pixels make none; those that cannot be understood are
    a volume with the verdict none and the reason."""
    frames: list[Frame] = []
    first: dict[str, Attributes] = {}
    refused: list[Plan] = []
    for uid, header in headers:
        if not is_image(header.text("SOPClassUID") or ""):
            continue
        try:
            frames.extend(frames_of(header))
            first[uid] = header
        except DicomlakeError as error:
            refused.append(_refused(key, len(refused), str(error)))
    stacks = stack(frames).stacks if frames else ()
    plans = [_plan(key, number, one, first) for number, one in enumerate(stacks)]
    return plans + [_renumbered(one, len(plans) + i) for i, one in enumerate(refused)]


def _refused(key: SeriesKey, number: int, reason: str) -> Plan:
    return Plan(Volume(key, number, "none", ("frame",), (1,), "", None, None, reason), (), False)


def _renumbered(one: Plan, number: int) -> Plan:
    from dataclasses import replace

    return replace(one, volume=replace(one.volume, number=number))


def _plan(key: SeriesKey, number: int, one: Stack, headers: dict[str, Attributes]) -> Plan:
    frame = one.frames[0]
    pixel = frame.pixel
    slices = "z" if one.affine is not None else "frame"
    colour = pixel.samples > 1
    dims = (slices, "y", "x", "rgb") if colour else (slices, "y", "x")
    shape = (len(one.frames), pixel.rows, pixel.columns, *((pixel.samples,) if colour else ()))
    affine = None if one.affine is None else tuple(tuple(float(v) for v in row) for row in one.affine)
    spacing = None if one.affine is None else geometry.spacing_mm(one.affine)
    volume = Volume(
        series=key,
        number=number,
        verdict=one.verdict,
        dims=dims,
        shape=shape,
        dtype=one.dtype.str.lstrip("<|"),
        affine_lps=affine,
        spacing_mm=spacing,
        reason="" if one.buildable else one.reason,
        info=_info(one, headers[frame.sop_instance_uid], shape),
    )
    return Plan(volume, one.frames, one.buildable)


def _info(one: Stack, header: Attributes, shape: tuple[int, ...]) -> dict[str, Any]:
    frame = one.frames[0]
    slab = slab_depth(one.dtype.itemsize * int(np.prod(shape[1:])))
    found: dict[str, Any] = {
        "modality": header.text("Modality"),
        "sop_class_uid": frame.sop_class_uid,
        "frame_of_reference_uid": frame.frame_of_reference_uid,
        "photometric_interpretation": frame.pixel.photometric,
        "bits_stored": max(f.pixel.bits_stored for f in one.frames),
        "units": _same([f.units for f in one.frames]),
        "rescale_slope": _scalar_or_list([f.slope for f in one.frames]),
        "rescale_intercept": _scalar_or_list([f.intercept for f in one.frames]),
        "modality_lut": "ModalityLUTSequence" in header or None,
        "rescale_mixed": _mixed([f.slope for f in one.frames], [f.intercept for f in one.frames]) or None,
        "padding_value": _padding(header.number("PixelPaddingValue"), frame),
        "padding_limit": _padding(header.number("PixelPaddingRangeLimit"), frame),
        "window": _window(header),
        "lossy": _lossy(header),
        "slice_step": one.slice_step,
        "gaps": [[gap.after, gap.position_mm, gap.missing] for gap in one.gaps] or None,
        "slab": slab,
        "levels": _levels(shape, slab) if _may_be_averaged(one, header) else 1,
    }
    if one.affine is not None:
        found["origin_mm"] = _origin_mm(one)
        found["tilt_degrees"] = geometry.tilt_degrees(one.affine) if one.verdict == "sheared" else None
    return {name: value for name, value in found.items() if value is not None}


def _same(values: list[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None


def _scalar_or_list(values: list[float | None]) -> float | list[float] | None:
    """One number when all frames agree, a number a frame when they differ, None when none has any."""
    if len(set(values)) == 1:
        return values[0]
    if None in values:
        return None
    return [value for value in values if value is not None]


def _mixed(*factors: list[float | None]) -> bool:
    """Whether some frames have a factor and others lack it: then no value can be rescaled safely."""
    return any(None in values and len(set(values)) > 1 for values in factors)


def _padding(value: float | None, frame: Frame) -> float | None:
    """A padding value as the pixels hold it: writers put it in an unsigned VR for signed pixels, too."""
    bits = frame.pixel.bits_allocated
    if value is not None and frame.pixel.signed and value >= 1 << (bits - 1):
        return value - (1 << bits)
    return value


def _may_be_averaged(one: Stack, header: Attributes) -> bool:
    """Whether a mean of stored values means anything: not of indices, padding, or slices scaled apart."""
    alike = len({(f.slope, f.intercept) for f in one.frames}) == 1
    palette = one.frames[0].pixel.photometric == "PALETTE COLOR"
    return alike and not palette and "PixelPaddingValue" not in header


def _window(header: Attributes) -> list[float] | None:
    centre, width = header.number("WindowCenter"), header.number("WindowWidth")
    return None if centre is None or width is None else [centre, width]


def _lossy(header: Attributes) -> str | None:
    """The history of lossy compression (PS3.3 C.7.6.1.1.5), which decoding does not undo."""
    if header.text("LossyImageCompression") != "01":
        return None
    return ", ".join(header.texts("LossyImageCompressionMethod")) or "yes"


def _origin_mm(one: Stack) -> list[float]:
    """Positions of the first voxel along the axes z (normal), y, x; for axial slices these are LPS."""
    frame = one.frames[0]
    assert frame.orientation is not None  # a stack with an affine has geometry
    assert one.affine is not None
    row, column = geometry.plane_axes(frame.orientation)
    origin = one.affine[:3, 3]
    return [float(origin @ geometry.normal(frame.orientation)), float(origin @ column), float(origin @ row)]


def _levels(shape: tuple[int, ...], slab: int) -> int:
    """How many levels the store has: halved until the longest axis is small enough for a quick look, or a
    slab is down to one slice."""
    levels, longest = 1, max(shape[:3])
    while longest > _LARGEST_LEVEL and slab >> levels:
        longest = -(-longest // 2)
        levels += 1
    return levels
