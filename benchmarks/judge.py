"""Whether outputs equal the truth of an edge case. The rules, in words, are on docs/reference/edge-cases.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.edge_resampled import is_resampled
from benchmarks.edge_truth import Plane, Truth
from benchmarks.outputs import Output

Mark = Literal["right", "refused", "warned", "wrong"]
Array = NDArray[Any]

_EXACT = 1e-3
_OF_A_STEP = 0.01
_TROUBLE = re.compile(
    r"warning|error|exception|unable|only able|not able|cannot|missing|inconsisten|varies|varying"
    r"|not stacked|repeated|no valid|not supported|unsupported|skipp|ignor|corrupt|not large enough",
    re.IGNORECASE,
)
_TOPIC = re.compile(
    r"slice|spacing|distance|position|spatial|orient|localizer|geometr|direction|order|gap|sampling|uniform"
    r"|volume|dimension|size|stack|tilt|repeat|duplicat|truncat|large enough|time|echo|phase|bval|bvec|b-val"
    r"|gradient|dti|slope|intercept|scale|rescale|series|patient|study|frame|multi|image|instance",
    re.IGNORECASE,
)
_FAILED = re.compile(r"\berror\b|exception|traceback", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """What a tool made of a case and said about it. status: its exit status."""

    outputs: Sequence[Output]
    said: str = ""
    status: int = 0


@dataclass(frozen=True)
class Verdict:
    """A mark, and what was found: one phrase for people who check the judge."""

    mark: Mark
    why: str


def judge(truth: Truth, run: Run, usual: frozenset[str] = frozenset()) -> Verdict:
    """The mark of a run. usual: lines that the tool says of plain series too, from `lines`."""
    if not run.outputs:
        return Verdict("right" if not truth.complete else "refused", "no output")
    found = [_matched(truth, output) for output in run.outputs]
    copies = [frozenset(is_resampled(truth, output)) for output in run.outputs]
    resampled = frozenset().union(*copies)
    wrong = [
        one
        for one, copy in zip(found, copies, strict=True)
        if isinstance(one, Mismatch) and not copy and not one.drawn_from <= resampled
    ]
    covered = {n for one in found if isinstance(one, Match) for n in one.planes}
    covered |= {n for n, plane in enumerate(truth.planes) if plane.volume in resampled}
    named = named_troubles(run.said, usual)
    if wrong:
        why = "; ".join(dict.fromkeys(one.why for one in wrong))
        return Verdict("warned" if named else "wrong", f"{why} [{' | '.join(named)}]" if named else why)
    lost = len(truth.planes) - len(covered)
    if lost and truth.complete:
        failed = run.status != 0 or _FAILED.search("\n".join(named))
        mark: Mark = "refused" if failed else "warned" if named else "wrong"
        return Verdict(mark, f"{lost} of {len(truth.planes)} planes are in no output")
    return Verdict("right", "resampled" if resampled else "equal")


def lines(said: str) -> frozenset[str]:
    """The lines of a text without their numbers and paths, to be found again in another text."""
    return frozenset(filter(None, (_bare(line) for line in said.splitlines())))


def named_troubles(said: str, usual: frozenset[str]) -> list[str]:
    """Lines that name a trouble with an image and that the tool does not say of plain series."""
    kept = [line.strip() for line in said.splitlines() if _bare(line) not in usual]
    return list(dict.fromkeys(line for line in kept if _TROUBLE.search(line) and _TOPIC.search(line)))


def _bare(line: str) -> str:
    return re.sub(r"\S*/\S*|0x[0-9a-f]+|[-+]?\d[\d.]*", "#", line.strip())


# ---- one output


@dataclass(frozen=True)
class Match:
    """An output that is right, with the planes of the truth that it holds."""

    planes: frozenset[int]


@dataclass(frozen=True)
class Mismatch:
    """An output that is not right; drawn_from: numbers of the volumes whose values it shows."""

    why: str
    drawn_from: frozenset[int]


def _matched(truth: Truth, output: Output) -> Match | Mismatch:
    """Hold an output against all planes of the truth, as stored or rescaled, axes in any order."""
    rows = _planes_by_place(truth, output)
    if rows is None:
        return _mismatch(truth, output)
    planes = [[truth.planes[n] for n in row] for row in rows]
    why = _badly_joined(planes)
    every = [n for row in rows for n in row]
    return Mismatch(why, frozenset(truth.planes[n].volume for n in every)) if why else Match(frozenset(every))


def _badly_joined(planes: Sequence[Sequence[Plane]]) -> str:
    """Why planes that are right one by one are not right together; empty when they are."""
    every = [plane for row in planes for plane in row]
    if len({plane.volume for plane in every}) > 1:
        return "planes of several volumes in one array"
    if every[0].centres is None:
        return "" if _in_order([plane.extra for plane in every]) else "frames out of order"
    if any(len({plane.extra for plane in row}) > 1 for row in planes):
        return "planes of several places along a further axis in one stack"
    if any(len({plane.z for plane in row}) < len(row) for row in planes):
        return "a plane twice in one stack"
    if len({tuple(plane.z for plane in row) for row in planes}) > 1:
        return "stacks of different planes in one array"
    return "" if _in_order([row[0].extra for row in planes]) else "further axis out of order"


def _in_order(indices: Sequence[tuple[int, ...]]) -> bool:
    """Whether indices rise when the axes are nested in some way: (echo, time) or (time, echo)."""
    for axes in permutations(range(len(indices[0]))):
        keys = [tuple(index[axis] for axis in axes) for index in indices]
        if all(one < other for one, other in zip(keys, keys[1:], strict=False)):
            return True
    return len(indices) == 1


def _planes_by_place(truth: Truth, output: Output, *, placed: bool = True) -> list[list[int]] | None:
    """The plane of the truth in each place (t, k) of the output; None when some place has none."""
    for name in ("stored", "rescaled", "colours", "colours of 8 bits"):
        if name == "stored" and truth.rescale_varies and not output.rescales:
            continue
        for values, centres in _turned(output):
            rows = [_row(truth, name, stack, centres, placed) for stack in values]
            if all(row is not None for row in rows):
                return [row for row in rows if row is not None]
    return None


def _turned(output: Output) -> Iterator[tuple[Array, Array | None]]:
    """The output with its axes of space exchanged and, in the plane, reversed."""
    values, centres = output.values, output.centres
    rest = (4,) if values.ndim > 4 else ()
    for axes in permutations(range(3)):
        for down, right in product((1, -1), (1, -1)):
            turned = values.transpose(0, *(1 + a for a in axes), *rest)[:, :, ::down, ::right]
            yield turned, None if centres is None else centres.transpose(*axes, 3)[:, ::down, ::right]


def _row(truth: Truth, name: str, stack: Array, centres: Array | None, placed: bool) -> list[int] | None:
    """For each plane of a stack the one of the truth that equals it at its place."""
    found: list[int] = []
    for k, values in enumerate(stack):
        where = None if centres is None else centres[k]
        n = next(
            (n for n, p in enumerate(truth.planes) if _equal(truth, p, name, values, where, placed)), None
        )
        if n is None:
            return None
        found.append(n)
    return found


def _equal(truth: Truth, plane: Plane, name: str, values: Array, where: Array | None, placed: bool) -> bool:
    wanted = plane.values.get(name)
    if wanted is None or wanted.shape != values.shape:
        return False
    most = _EXACT if name != "rescaled" else _OF_A_STEP * abs(plane.slope)
    if not (np.abs(values - wanted) <= most).all():
        return False
    if plane.centres is None or not placed:
        return True
    return where is not None and bool(
        (np.linalg.norm(where - plane.centres, axis=-1) <= truth.tolerance_mm).all()
    )


def _mismatch(truth: Truth, output: Output) -> Mismatch:
    """Say what is wrong with an output that does not match: its places, or already its values."""
    rows = _planes_by_place(truth, output, placed=False)
    if rows is None:
        return Mismatch("values that no plane has", frozenset(plane.volume for plane in truth.planes))
    planes = [[truth.planes[n] for n in row] for row in rows]
    why = _badly_joined(planes) or ("no place" if output.centres is None else "planes at wrong places")
    return Mismatch(why, frozenset(plane.volume for row in planes for plane in row))
