"""Which of several images lie in one space, and where: by frame of reference, or by registration.

A space is a set of images between which positions in mm can be told. Its origin is that of its first image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LINKS: tuple[str, ...] = ("auto", "mm", "index", "none", "register")


@dataclass(frozen=True, eq=False)
class Place:
    """Where an image lies. space: number of the space, None without geometry. matrix: position in the space
    -> in the image, LPS, mm; (4, 4). how: "reference", "frame", "registered" or "alone"; detail: in words.
    """

    space: int | None
    matrix: Array
    how: str
    detail: str = ""

    def meta(self) -> dict[str, Any]:
        """JSON types, for the browser."""
        return {
            "space": self.space,
            "matrix": self.matrix.tolist(),
            "inverse": np.linalg.inv(self.matrix).tolist(),
            "how": self.how,
            "detail": self.detail,
        }


def places_of(stacks: Sequence[Any], registered: Mapping[tuple[int, int], Any] | None = None) -> list[Place]:
    """The place of each of several stacks."""
    frames = [stack.frame_of_reference for stack in stacks]
    return places(frames, [stack.affine is not None for stack in stacks], registered)


def places(
    frames: Sequence[str], placed: Sequence[bool], registered: Mapping[tuple[int, int], Any] | None = None
) -> list[Place]:
    """The place of each image.

    frames: digests of frames of reference, "" where unknown. placed: whether positions in mm are known.
    registered: (fixed, moving) -> Registration; it counts for more than an equal frame of reference.
    """
    edges = _edges(frames, placed, registered or {})
    found: dict[int, Place] = {}
    for first in range(len(frames)):
        if first not in found:
            alone = not placed[first]
            found[first] = Place(
                None if alone else first, np.eye(4), "alone" if alone or first else "reference"
            )
            _spread(first, edges, found)
    return [found[i] for i in range(len(frames))]


def _edges(
    frames: Sequence[str], placed: Sequence[bool], registered: Mapping[tuple[int, int], Any]
) -> dict[int, list[tuple[int, Array, str, str]]]:
    """From each image to others: the matrix between them and how it is known; registrations first."""
    edges: dict[int, list[tuple[int, Array, str, str]]] = {i: [] for i in range(len(frames))}
    for (i, j), found in registered.items():
        matrix, told = np.asarray(found.transform_mm, dtype=float), _told(found)
        edges[i].append((j, matrix, "registered", told))
        edges[j].append((i, np.linalg.inv(matrix), "registered", told))
    for i, one in enumerate(frames):
        for j, other in enumerate(frames):
            if i != j and one and one == other and placed[i] and placed[j]:
                edges[i].append((j, np.eye(4), "frame", "same frame of reference"))
    return edges


def _spread(
    first: int, edges: Mapping[int, Sequence[tuple[int, Array, str, str]]], found: dict[int, Place]
) -> None:
    """Place all that hangs together with one image."""
    waiting = [first]
    while waiting:
        at = waiting.pop(0)
        for other, matrix, how, detail in edges[at]:
            if other not in found:
                by = found[at].how if found[at].how == "registered" else how
                words = found[at].detail if found[at].how == "registered" else detail
                found[other] = Place(found[first].space, matrix @ found[at].matrix, by, words)
                waiting.append(other)


def _told(found: Any) -> str:
    shift = float(np.linalg.norm(found.transform_mm[:3, 3]))
    return f"registered, rigid, {found.rotation_deg:.1f}° and {shift:.0f} mm, overlap {found.overlap:.0%}"
