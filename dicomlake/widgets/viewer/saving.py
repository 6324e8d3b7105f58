"""Marks and masks to keep: as a label of the series in its lake, as DICOM SEG, as DICOM SR.

The label `viewer_marks` of a series holds JSON: for each image of the series that was marked, told by a
digest of its shape, place and instances, the marks without their numbers, the labels, and the mask,
compressed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dicomlake.errors import GeometryError
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.base.quiet import Quiet

LABEL = "viewer_marks"
_VERSION = 1
_MOST_TEXT = 1 << 20  # characters: labels are read with the catalog
_NAME = re.compile(r"\w{1,50}\Z")
_NO_SERIES = "this viewer shows an array, not a series of a lake: open it with series.view() to save"


class Source(Protocol):
    """What saving needs of a lake."""

    def set_label(self, targets: Any, name: str, value: str) -> Any:
        """Label a series."""

    def labels(self, targets: Any = None, *, name: str | None = None) -> Any:
        """The labels of a series, as a DataFrame."""

    def instances(self, key: Any) -> Any:
        """The records of the objects of a series."""

    def original(self, instance: Any) -> bytes:
        """An object as it was taken in."""

    def ingest(self, *sources: Any) -> Any:
        """Take objects in."""


class Subject(Protocol):
    """What saving needs of a series."""

    @property
    def key(self) -> Any:
        """Study and series."""

    @property
    def source(self) -> Source:
        """Its lake."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved under which label of the series."""

    label: str
    marks: int
    voxels: int

    def __str__(self) -> str:
        painted = f" and {self.voxels:,} voxels of the mask" if self.voxels else ""
        marks = "1 mark" if self.marks == 1 else f"{self.marks} marks"
        return f"{marks}{painted} saved with the series as {self.label}"


class Saving:
    """The part of a viewer that keeps what was drawn. Expects `stack_source`, `subject` and Marking's own."""

    stack_source: Any
    subject: Any = None
    marks: Any
    mask_labels: Any
    _painted: Any

    def save(self, name: str | None = None) -> Saved:
        """Keep marks and mask as a label of the series in its lake, where the next viewer finds them.

        name: letters, digits and _, such as of a reader; each has a label of its own. Raises Refusal without
        a series, and for a mask that is too large for a label.
        """
        subject, label = self._its_series(), _label_name(name)
        images = _kept(subject, label)
        images[_digest(self.stack_source)] = {
            "marks": [_bare(mark) for mark in self.marks],
            "labels": [
                {k: v for k, v in one.items() if k not in ("voxels", "ml")} for one in self.mask_labels
            ],
            "mask": packed(self._painted.labels) if not self._painted.empty else None,
        }
        text = json.dumps({"version": _VERSION, "images": images}, separators=(",", ":"))
        if len(text) > _MOST_TEXT:
            raise Refusal(
                f"marks and mask are {len(text):,} characters, more than a label may have ({_MOST_TEXT:,}):"
                " keep the mask as a segmentation, viewer.to_seg(ingest=True), and erase it here"
            )
        subject.source.set_label(subject, label, text)
        return Saved(label, len(self.marks), int(np.count_nonzero(self._painted.labels)))

    def load_marks(self, name: str | None = None) -> int:
        """Show what was saved of this image, instead of what is drawn; returns how many marks.

        Nothing is changed, and 0 returned, where nothing was saved. Raises Refusal without a series, and
        for a label that cannot be read.
        """
        label = _label_name(name)
        found = _kept(self._its_series(), label).get(_digest(self.stack_source))
        if found is None:
            return 0
        try:
            labels = None if not found["mask"] else unpacked(found["mask"], self.stack_source.shape)
            marks, names = list(found["marks"]), list(found["labels"])
        except (KeyError, TypeError, ValueError, zlib.error, binascii.Error):
            raise Refusal(f"the label {label} of this series is damaged: see lake.label_history") from None
        self._take_over(marks, names, labels)
        return len(marks)

    def _take_over(self, marks: list[Any], labels: list[Any], mask: Any) -> None:
        """Replace marks, labels and mask."""
        raise NotImplementedError

    def to_seg(self, path: str | Path | None = None, *, ingest: bool = False) -> bytes:
        """The mask as a DICOM segmentation (PS3.3 A.51), one segment a label; returns the object.

        path: also write it there. ingest: also take it into the lake, where `series.segmentations()` has it.
        Raises Refusal without a series, and where nothing is painted; GeometryError when the slices of the
        image cannot be told.
        """
        from dicomlake.objects.write_segmentation import SegmentCodes, write_segmentation

        subject = self._its_series()
        if self._painted.empty:
            raise Refusal(
                "nothing is painted: take the brush, or fill a region, before writing a segmentation"
            )
        painted = [one for one in self.mask_labels if self._painted.count(one["value"])]
        segments = self._segments([one["value"] for one in painted], [one["name"] for one in painted])
        codes = {one["name"]: SegmentCodes(rgb=_rgb(one["color"])) for one in painted}
        try:
            data = write_segmentation(segments, headers_of(subject), algorithm="MANUAL", codes=codes)
        except GeometryError as exc:
            if "frame_index" in self.stack_source.image.coords:
                raise Refusal(
                    "these are some of the frames of an object, and a segmentation is written over all of"
                    " them: keep the mask with viewer.save(), or take viewer.mask"
                ) from exc
            if self.stack_source.affine is not None:
                raise
            raise Refusal(
                "these images have no place in the patient, which a segmentation refers to: keep the mask"
                " with viewer.save(), or take viewer.mask"
            ) from exc
        return self._put(data, "DICOM SEG", path, ingest)

    def to_sr(self, path: str | Path | None = None, *, ingest: bool = False) -> bytes:
        """The measurements as a structured report by TID 1500 (PS3.16); returns the object.

        path: also write it there. ingest: also take it into the lake, where `series.reports()` has it.
        Raises Refusal without a series, and where nothing is measured.
        """
        from dicomlake.widgets.viewer.marking_sr import write_measurements

        subject = self._its_series()
        data = write_measurements(self.stack_source, self.marks, headers_of(subject))
        return self._put(data, "DICOM SR", path, ingest)

    def _segments(self, values: list[int], names: list[str]) -> Any:
        """The painted labels as bool (segment, z, y, x), with the instance of each slice where it is told."""
        import xarray as xr

        mask = self.mask  # type: ignore[attr-defined]
        dims = ("z", "y", "x")
        array = np.asarray(mask.values).reshape(self._painted.shape)
        if len(set(names)) != len(names):
            raise Refusal("two labels have one name, and segments are told by it: rename one")
        coords: dict[str, Any] = {"label": ("segment", names)}
        uids = mask.coords.get("instance_uid")
        if uids is not None and uids.ndim == 1 and len(set(uids.values.tolist())) == len(array):
            coords["instance_uid"] = ("z", [str(uid) for uid in uids.values])
        elif uids is not None and uids.ndim == 0 and len(array) == 1:
            coords["instance_uid"] = ("z", [str(uids.item())])
        return xr.DataArray(np.stack([array == v for v in values]), dims=("segment", *dims), coords=coords)

    def _put(self, data: bytes, what: str, path: str | Path | None, ingest: bool) -> bytes:
        if path is not None:
            Path(path).write_bytes(data)
        if ingest:
            report = self._its_series().source.ingest(data)
            if not (report.stored or report.already):
                raise Refusal("the lake did not take the object in: see lake.refused()")
        return Quiet(data, what)

    def _its_series(self) -> Subject:
        subject = getattr(self, "subject", None)
        if subject is None:
            raise Refusal(_NO_SERIES)
        found: Subject = subject
        return found


def headers_of(subject: Subject) -> list[Any]:
    """The objects of a series as pydicom Datasets, without their pixels."""
    import warnings

    from pydicom import config, dcmread

    with warnings.catch_warnings(), config.disable_value_validation():  # which would quote names and dates
        warnings.simplefilter("ignore")
        return [
            dcmread(BytesIO(subject.source.original(one)), stop_before_pixels=True, force=True)
            for one in subject.source.instances(subject.key)
        ]


def packed(labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """The box that is painted: start and size (z, y, x), its bytes compressed by zlib, in base64."""
    where = [np.flatnonzero(labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)
    data = zlib.compress(np.ascontiguousarray(labels[box]).tobytes(), 6)
    return {
        "start": [one.start for one in box],
        "size": [one.stop - one.start for one in box],
        "zlib": base64.b64encode(data).decode("ascii"),
    }


def unpacked(found: Mapping[str, Any], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Labels (z, y, x) of a packed box. Raises ValueError for one that does not fit the shape."""
    start, size = (tuple(int(n) for n in found[key]) for key in ("start", "size"))
    if len(start) != 3 or any(
        a < 0 or n < 1 or a + n > s for a, n, s in zip(start, size, shape, strict=True)
    ):
        raise ValueError("the box lies outside")
    wanted = int(np.prod(size))
    inflate = zlib.decompressobj()
    data = inflate.decompress(base64.b64decode(found["zlib"], validate=True), wanted + 1)
    if len(data) != wanted:
        raise ValueError("the box holds another number of voxels")
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = np.frombuffer(
        data, np.uint8
    ).reshape(size)
    return labels


def _kept(subject: Subject, label: str) -> dict[str, Any]:
    """What the label of a series holds, by image; empty where there is none."""
    table = subject.source.labels(subject, name=label)
    if not len(table):
        return {}
    try:
        found = json.loads(str(table["value"].iloc[-1]))
        version, images = found["version"], found["images"]
        if not isinstance(images, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise Refusal(
            f"the label {label} of this series was not written by a viewer: take another name"
        ) from None
    if version != _VERSION:
        raise Refusal(f"the label {label} is of version {version}: take a newer dicomlake to read it")
    return dict(images)


def _label_name(name: str | None) -> str:
    if name is None:
        return LABEL
    if not isinstance(name, str) or not _NAME.match(name):
        raise Refusal("name: 1 to 50 letters, digits and _")
    return f"{LABEL}_{name}"


def _bare(mark: Mapping[str, Any]) -> dict[str, Any]:
    """A mark without what is computed from it."""
    return {k: v for k, v in mark.items() if k not in ("stats", "points_mm", "key_image")}


def _digest(stack: Any) -> str:
    """What tells an image among those of its series."""
    image = stack.image
    affine = None if stack.affine is None else np.round(np.asarray(stack.affine), 3).tolist()
    uids = image.coords["instance_uid"].values.reshape(-1)[[0, -1]] if "instance_uid" in image.coords else ()
    frames = image.coords["frame_index"].values.reshape(-1) if "frame_index" in image.coords else ()
    told = [list(stack.shape), affine, [str(uid) for uid in uids], sorted(dict(stack.extras).items())]
    told.append([int(frame) for frame in frames])  # volumes of one object differ in their frames alone
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
