"""Facts that travel between the layers; frozen, without behaviour beyond small derivations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Severity = Literal["info", "warning", "error"]


class SeriesKey(NamedTuple):
    """What names a series in the lake; with its study, as one SeriesInstanceUID in two studies occurs."""

    study_uid: str
    series_uid: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A stored DICOM object.

    key: where its original lies in the lake's storage.
    size: bytes of the original.
    sha256: of the whole object; dataset_sha256: of the data set behind the File Meta Information, which
        is all that a network peer sends (both hexadecimal).
    conflict: another object with other data set bytes had this SOPInstanceUID before; both are kept.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series: SeriesKey
    transfer_syntax: str
    key: str
    size: int
    sha256: str
    dataset_sha256: str
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a series: what the frames form, and where it lies when it is built.

    number: 0, 1, … within the series.
    verdict: regular, sheared, missing_slices, irregular, plane_set, none.
    reason: the verdict in one sentence; for a volume that could not be built, why.
    dims, shape: axis names and lengths, slowest first; (z, y, x) for a scalar volume.
    dtype: of the stored values, in numpy's notation.
    affine_lps: 4x4 rows, voxel index (z, y, x) to patient position in mm, LPS; None without geometry.
    spacing_mm: distance between voxel centres along z, y, x; None without geometry.
    key: of the Zarr store; None while it is not built.
    store_sha256: over the names and bytes of all files of the store.
    version: 1, 2, …: how many stores this number of the series has had; a store is never changed.
    plan_digest: over what the store was made from (`volumes.versions.plan_digest`); None in rows of
        before versions.
    info: further facts for the opener (units, rescale, tilt, gaps, frames …), JSON types only.
    """

    series: SeriesKey
    number: int
    verdict: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    affine_lps: tuple[tuple[float, ...], ...] | None
    spacing_mm: tuple[float, ...] | None
    reason: str = ""
    key: str | None = None
    store_sha256: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    plan_digest: str | None = None

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.series.series_uid

    @property
    def built(self) -> bool:
        """Whether it can be opened: the verdict says what the frames are, not that they could be decoded."""
        return self.key is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about an object; free of identifying values.

    kind: a stable word such as conflict, truncated, mixed_patients, volume_failed.
    scope: the UID of the object, series or study concerned, or the hash of a quarantined object.
    """

    severity: Severity
    kind: str
    scope: str
    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that was not taken, kept in quarantine.

    sha256: of its bytes, which names it in quarantine/. origin: where it came from.
    """

    sha256: str
    size: int
    reason: str
    origin: str


# ---- objects that are received ------------------------------------------------------------------------

Outcome = Literal[
    "stored", "already", "conflict", "unreadable", "mismatch", "full", "over_quota", "failed", "refused"
]
"""What became of a received object; the status that answers each is in `network.statuses.STORE`."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who is at the other end of an association.

    calling, called: AE titles without padding. host: IP address. association: a token that tells
    associations apart, in logs and in the catalog. peer: the name of the entry that let it in.
    """

    calling: str
    called: str
    host: str
    association: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE-RQ says of the object that follows (PS3.7 section 9.3.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    sender: Sender


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an object that was received.

    detail: the reason for anything but "stored", free of identifying values. size: bytes of the data set.
    fresh: whether the lake holds it only since this request.
    """

    outcome: Outcome
    detail: str = ""
    series: SeriesKey | None = None
    size: int = 0
    fresh: bool = False
