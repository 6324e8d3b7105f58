"""From the headers of a series to the volumes its frames form: decided, not yet built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from dicomlake.dicom import facets, geometry, packed
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.coordinates import lead_dims
from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.sop_classes import is_image, opens_as_object
from dicomlake.dicom.stacking import PixelHash, Stack, stack
from dicomlake.errors import DicomlakeError
from dicomlake.records import SeriesKey, Volume
from dicomlake.storage.arrays import level_count
from dicomlake.volumes.facts import facts, may_be_averaged

Original = Callable[[str], Attributes]
"""The whole header of an instance, from its original: SOPInstanceUID -> header."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A volume and the frames that make it, in C order over its axes before y.

    buildable: its frames can be read; False for objects that could not be understood.
    """

    volume: Volume
    frames: tuple[Frame, ...]
    buildable: bool


def plan(
    key: SeriesKey,
    headers: Iterable[tuple[str, Attributes]],
    *,
    original: Original | None = None,
    pixel_hash: PixelHash | None = None,
) -> list[Plan]:
    """The volumes of a series.

    headers: of its instances, perhaps without values that only the originals hold; where those decide,
        `original` reads them. pixel_hash: proves exact duplicates (`stacking.stack`).
    Objects without image pixels make none, nor do segmentations and whole slides, which open in their own
    way; those that cannot be understood are a volume with the verdict none and the reason.
    """
    frames: list[Frame] = []
    first: dict[str, Attributes] = {}
    refused: list[str] = []
    for uid, header in headers:
        if uid in first:
            refused.append("another object of this SOPInstanceUID is there: its frames cannot be told apart")
            continue
        sop_class = header.text("SOPClassUID") or ""
        if not is_image(sop_class) or opens_as_object(sop_class):
            continue
        try:
            frames.extend(frames_of(_whole(uid, header, original)))
            first[uid] = header
        except DicomlakeError as error:
            refused.append(str(error))
    stacks = stack(frames, pixel_hash).stacks if frames else ()
    plans = [_plan(key, number, one, first) for number, one in enumerate(stacks)]
    return plans + [_refused(key, len(plans) + i, reason) for i, reason in enumerate(refused)]


def _whole(uid: str, header: Attributes, original: Original | None) -> Attributes:
    if original is not None and (packed.needs_original(header) or facets.needs_original(header)):
        return original(uid)
    return header


def _refused(key: SeriesKey, number: int, reason: str) -> Plan:
    return Plan(Volume(key, number, "none", ("frame",), (1,), "", None, None, reason), (), False)


def _plan(key: SeriesKey, number: int, one: Stack, headers: dict[str, Attributes]) -> Plan:
    frame = one.frames[0]
    pixel = frame.pixel
    lead = lead_dims(one)
    colour = (("rgb", pixel.samples),) if pixel.samples > 1 else ()
    axes = (*lead, ("y", pixel.rows), ("x", pixel.columns), *colour)
    affine = None if one.affine is None else tuple(tuple(float(v) for v in row) for row in one.affine)
    volume = Volume(
        series=key,
        number=number,
        verdict=one.verdict,
        dims=tuple(name for name, _ in axes),
        shape=tuple(size for _, size in axes),
        dtype=one.dtype.str.lstrip("<|"),
        affine_lps=None if "coordinates" in frame.facets else affine,
        spacing_mm=None if one.affine is None else geometry.spacing_mm(one.affine),
        reason=one.reason,
        info=facts(one, headers[frame.sop_instance_uid], headers),
    )
    levels = 1
    if may_be_averaged(one, headers[frame.sop_instance_uid]):
        levels = level_count(volume.shape, volume.dims, volume.dtype)
    return Plan(replace(volume, info=volume.info | {"levels": levels}), one.frames, True)
