"""Parts of a table for training and testing, so that no patient is in two of them.

Rows belong together when they name one patient, by PatientID and IssuerOfPatientID, one study or one series,
or where OtherPatientIDs says that two patients are one. Such a group is never divided.
"""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

Codes = npt.NDArray[np.int64]
Columns = str | Sequence[str] | None
_Thing = tuple[str, ...]  # a column and its value; a PatientID with its issuer
_PATIENT = ("PatientID", "IssuerOfPatientID", "OtherPatientIDs")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID")
_FEW = 10  # different numbers of a column that are strata as they are; more are cut at the quartiles


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """A division of the rows of a table.

    names: of the parts. shares: of the patients that each was to have.
    part: for each row the number of its part. group: for each row the number of its group, a patient.
    stratum: for each group the number of its stratum. strata: what they are, values of the table.
    stable: whether a group's part depends on nothing but seed and group.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    part: Codes
    group: Codes
    stratum: Codes
    strata: tuple[str, ...]
    stable: bool
    table: pd.DataFrame

    @cached_property
    def positions(self) -> dict[str, Codes]:
        """The positions of the rows of each part, ascending: `table.iloc[split.positions["train"]]`."""
        return {name: np.flatnonzero(self.part == number) for number, name in enumerate(self.names)}

    def __getitem__(self, name: str) -> Codes:
        """The positions of the rows of a part."""
        return self.positions[name]

    @property
    def of_rows(self) -> npt.NDArray[np.object_]:
        """For each row the name of its part."""
        return np.array(self.names, dtype=object)[self.part]

    def proof(self) -> pd.DataFrame:
        """One row a part: what is in it, and what it shares with other parts, counted anew in the table.

        rows, groups; share_wanted and share, of the groups; for PatientID (with its issuer), StudyInstanceUID
        and SeriesInstanceUID, where the table has them, how many different ones, and `shared_…`, how many of
        these another part has too: all 0, or the split is wrong.
        """
        import pandas as pd

        held = {name: _different(self.table, name) for name in ("PatientID", *_UIDS) if name in self.table}
        rows: list[dict[str, Any]] = []
        for number, name in enumerate(self.names):
            mine = self.part == number
            groups = len(np.unique(self.group[mine]))
            row = {"part": name, "rows": int(mine.sum()), "groups": groups}
            row |= {"share_wanted": self.shares[number], "share": groups / max(len(self.stratum), 1)}
            for column, values in held.items():
                here = {v for v, inside in zip(values, mine, strict=True) if inside and v is not None}
                there = {v for v, inside in zip(values, mine, strict=True) if not inside}
                row |= {column: len(here), f"shared_{column}": len(here & there)}
            rows.append(row)
        return pd.DataFrame(rows).set_index("part")

    def strata_table(self) -> pd.DataFrame:
        """How many groups of each stratum are in each part: one row a stratum."""
        import pandas as pd

        found = np.zeros((len(self.strata), len(self.names)), np.int64)
        of_group = np.zeros(len(self.stratum), np.int64)
        of_group[self.group] = self.part
        np.add.at(found, (self.stratum, of_group), 1)
        return pd.DataFrame(found, index=list(self.strata), columns=list(self.names))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(rows):,} {name}" for name, rows in self.positions.items())
        return f"<Split of {len(self.part):,} rows of {len(self.stratum):,} patients: {sizes}>"

    def _repr_html_(self) -> str:
        return f"<div><strong>{html.escape(repr(self).strip('<>'))}</strong>{self.proof().to_html()}</div>"


def split(
    table: pd.DataFrame,
    *,
    train: float = 0.7,
    val: float = 0.15,
    test: float = 0.15,
    stratify: Columns = None,
    group: Columns = "PatientID",
    seed: int = 0,
    stable: bool = False,
) -> Split:
    """Divide the rows of a table into train, val and test, patient by patient.

    train, val, test: shares of the patients; they add up to 1. A part with share 0 is empty.
    stratify: columns whose values each part is to have in equal shares; numbers of more than 10 values are
        cut at their quartiles; a patient with several values is in a stratum of these.
    group: columns whose values are never divided; PatientID with IssuerOfPatientID, and what links patients
        (OtherPatientIDs, one study, one series), hold beside them where the table has them.
    seed: other seeds give other splits; the same seed gives the same, whatever the order of the rows.
    stable: each patient goes where the hash of seed and patient says, so that none changes its part when
        others are added or leave; then sizes and strata are met only as chance has it. Otherwise sizes are
        exact to one patient within each stratum, over all as nearly as that allows, and an added patient may
        move others. What joins patients, such as a new OtherPatientIDs, may move them in both cases.
    Raises QueryError when a row does not say whose it is; ValueError for shares that do not add up to 1.
    """
    shares = (float(train), float(val), float(test))
    if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise ValueError("train, val and test are shares that add up to 1")
    groups = _groups(table, group)
    draws = _draws(groups.names, seed)
    stratum, strata = _strata(table, groups.of_rows, len(groups.names), stratify)
    parts = _by_draw(draws, shares) if stable else _shared_out(draws, stratum, shares)
    names = ("train", "val", "test")
    return Split(names, shares, parts[groups.of_rows], groups.of_rows, stratum, strata, stable, table)


def needed(stratify: Columns = None, group: Columns = "PatientID") -> list[str]:
    """The columns that `split` wants of a table of series."""
    more = [name for one in (stratify, group) for name in ((one,) if isinstance(one, str) else one or ())]
    return list(dict.fromkeys((*_PATIENT, *_UIDS, *more)))


def folds(
    table: pd.DataFrame,
    k: int = 5,
    *,
    stratify: Columns = None,
    group: Columns = "PatientID",
    seed: int = 0,
    stable: bool = False,
) -> list[Split]:
    """k splits into train and test; each patient is in the test part of exactly one.

    The other arguments are those of `split`. Raises ValueError unless k is from 2 to the number of patients.
    """
    groups = _groups(table, group)
    if not 2 <= k <= len(groups.names):
        raise ValueError(f"k is a number from 2 to that of the patients, {len(groups.names)}")
    draws = _draws(groups.names, seed)
    stratum, strata = _strata(table, groups.of_rows, len(groups.names), stratify)
    equal = (1 / k,) * k
    fold = _by_draw(draws, equal) if stable else _shared_out(draws, stratum, equal)
    found = []
    for number in range(k):
        part = (fold == number).astype(np.int64)[groups.of_rows]
        shares = (1 - 1 / k, 1 / k)
        found.append(Split(("train", "test"), shares, part, groups.of_rows, stratum, strata, stable, table))
    return found


# ---- who belongs together ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """of_rows: for each row the number of its group. names: what tells each from all others."""

    of_rows: Codes
    names: list[str]


class _Links:
    """Things that were said to be one (disjoint sets)."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def top(self, thing: Hashable) -> Hashable:
        path = []
        while (above := self._above.setdefault(thing, thing)) != thing:
            path.append(thing)
            thing = above
        for one in path:
            self._above[one] = thing
        return thing

    def join(self, one: Hashable, other: Hashable) -> None:
        self._above[self.top(one)] = self.top(other)


def _groups(table: pd.DataFrame, group: Columns) -> _Groups:
    columns = (group,) if isinstance(group, str) else tuple(group or ())
    missing = [name for name in columns if name not in table]
    if missing or not columns:
        raise QueryError(
            f"the table has no column {', '.join(missing) or 'to group by'}: take it from"
            " cohort.table('PatientID', 'IssuerOfPatientID', …), or pass group="
        )
    things = _things(table, columns)
    links = _Links()
    for row in things:
        for other in row[1:]:
            links.join(row[0], other)
    tops = [links.top(row[0]) for row in things]
    least: dict[Hashable, str] = {}
    for top, row in zip(tops, things, strict=True):
        name = min(repr(thing) for thing in row if thing[0] in columns)
        least[top] = min(least.get(top, name), name)
    numbers = dict(zip(sorted(least, key=least.__getitem__), count(), strict=False))
    of_rows = np.array([numbers[top] for top in tops], dtype=np.int64)
    return _Groups(of_rows, sorted(least.values()))


def _things(table: pd.DataFrame, columns: Sequence[str]) -> list[list[_Thing]]:
    """For each row what it names: its other group, its patients, its study, its series; one at least."""
    things: list[list[_Thing]] = [[] for _ in range(len(table))]
    patients = _patients(table) if "PatientID" in table else [[] for _ in things]
    for name in columns:
        said: Sequence[Any] = patients if name == "PatientID" else _values(table, name)
        unsaid = sum(not one for one in said)
        if unsaid:
            raise QueryError(
                f"{unsaid} of {len(table)} rows have no {name}, and could be of any patient: leave them out,"
                " fill the column, or pass another group="
            )
        if name != "PatientID":
            for row, value in zip(things, said, strict=True):
                row.append((name, value))
    for row, of_patient in zip(things, patients, strict=True):
        row += of_patient
    for name in _UIDS:
        if name in table and name not in columns:
            for row, value in zip(things, _values(table, name), strict=True):
                row += [(name, value)] if value else []
    return things


def _patients(table: pd.DataFrame) -> list[list[_Thing]]:
    """For each row its PatientIDs with their issuers; an ID without issuer is that of every issuer."""
    ids = _values(table, "PatientID")
    issuers = _values(table, "IssuerOfPatientID") if "IssuerOfPatientID" in table else [""] * len(ids)
    others: list[list[str]] = [[] for _ in ids]
    if "OtherPatientIDs" in table:
        others = [_several(value) for value in table["OtherPatientIDs"]]
    open_ids = {one for one, issuer in zip(ids, issuers, strict=True) if one and not issuer}
    open_ids |= {one for row in others for one in row}
    found: list[list[_Thing]] = []
    for one, issuer, more in zip(ids, issuers, others, strict=True):
        said: list[_Thing] = []
        if one:
            said.append(("PatientID", one, issuer))
        if one in open_ids and issuer:
            said.append(("PatientID", one, ""))
        if one:
            said += [("PatientID", other, "") for other in more]
        found.append(said)
    return found


def _values(table: pd.DataFrame, name: str) -> list[str]:
    """The cells of a column as text, "" where there is nothing."""
    return ["\\".join(_several(value)) for value in table[name]]


def _several(value: Any) -> list[str]:
    """The values of a cell: several in a tuple or list, or with the backslash of PS3.5 6.4 between them."""
    if isinstance(value, tuple | list):
        return [text for one in value for text in _several(one)]
    if value is None or value != value or type(value).__name__ == "NAType":
        return []
    return [text for part in str(value).split("\\") if (text := part.strip())]


def _different(table: pd.DataFrame, name: str) -> list[Hashable]:
    """What a row has of a column, for counting; with its issuer where it is a PatientID, None for nothing."""
    values = _values(table, name)
    if name != "PatientID" or "IssuerOfPatientID" not in table:
        return [value or None for value in values]
    issuers = _values(table, "IssuerOfPatientID")
    return [(v, issuer) if v else None for v, issuer in zip(values, issuers, strict=True)]


# ---- where they go -------------------------------------------------------------------------------------


def _draws(names: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """For each group a number from 0 to 1 that depends on nothing but seed and group."""
    key = str(int(seed)).encode()
    bits = [blake2b(name.encode("utf-8", "surrogatepass"), key=key[:64], digest_size=8) for name in names]
    whole = np.array([int.from_bytes(one.digest(), "big") >> 11 for one in bits], dtype=np.float64)
    return np.asarray(whole / 2.0**53)


def _by_draw(draws: npt.NDArray[np.float64], shares: Sequence[float]) -> Codes:
    """The part in whose stretch of 0 to 1 each draw lies."""
    edges = np.cumsum(shares)
    last = max(number for number, share in enumerate(shares) if share > 0)
    return np.minimum(np.searchsorted(edges, draws, side="right"), last).astype(np.int64)


def _shared_out(draws: npt.NDArray[np.float64], stratum: Codes, shares: Sequence[float]) -> Codes:
    """The groups by stratum and draw, each to the part that lacks most; first within the stratum.

    Whole numbers within a stratum are given first, what is left of all strata after that: in each stratum
    no part has more than one group too many or too few, and over all it is as right as that allows.
    """
    part = np.full(len(draws), -1, dtype=np.int64)
    lacks = np.array(shares) * len(draws)
    left: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []
    for number in np.unique(stratum):
        members = np.flatnonzero(stratum == number)
        members = members[np.argsort(draws[members], kind="stable")]
        wanted = np.array(shares) * len(members)
        whole = np.floor(wanted + 1e-9).astype(np.int64)
        given = np.repeat(np.arange(len(shares)), whole)
        part[members[: len(given)]] = given
        lacks -= whole
        left.append((members[len(given) :], wanted - whole))
    for members, rest in left:
        free = [number for number in range(len(shares)) if rest[number] > 1e-9]
        for member in members.tolist():  # fewer than there are parts with a rest: the rests add up to them
            chosen = max(free, key=lambda number: (lacks[number], rest[number], -number))
            free.remove(chosen)
            part[member] = chosen
            lacks[chosen] -= 1
    return part


def _strata(
    table: pd.DataFrame, of_rows: Codes, groups: int, stratify: Columns
) -> tuple[Codes, tuple[str, ...]]:
    """For each group the number of its stratum, and what the strata are."""
    columns = (stratify,) if isinstance(stratify, str) else tuple(stratify or ())
    missing = [name for name in columns if name not in table]
    if missing:
        raise QueryError(f"the table has no column {', '.join(missing)} to stratify by")
    held: list[list[set[str]]] = [[set() for _ in columns] for _ in range(groups)]
    for place, name in enumerate(columns):
        for number, value in zip(of_rows.tolist(), _levels(table[name]), strict=True):
            held[number][place].add(value)
    told = [", ".join("|".join(sorted(values)) for values in one) or "all" for one in held]
    strata = tuple(sorted(set(told)))
    index: Mapping[str, int] = {name: number for number, name in enumerate(strata)}
    return np.array([index[one] for one in told], dtype=np.int64), strata


def _levels(column: pd.Series[Any]) -> list[str]:
    """The cells as strata: text as it is, many different numbers by quarter, "-" for nothing."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = pd.to_numeric(column).astype("float64").to_numpy()
        known = numbers[~np.isnan(numbers)]
        if len(np.unique(known)) > _FEW:
            edges = np.quantile(known, [0.25, 0.5, 0.75])
            quarters = np.searchsorted(edges, numbers, side="left") + 1
            return ["-" if math.isnan(n) else f"quarter {q}" for n, q in zip(numbers, quarters, strict=True)]
    return ["\\".join(_several(value)) or "-" for value in column]
