"""Results that stay in the lake, with what made them: `derived/<name>/<number>/`.

result.json    the function's code and hash, arguments, options, versions, change, who, when, failures
values.jsonl   a line for each series: its UIDs, the hashes of its volumes, its value or the kind of its error
table.csv      the same for people and other programs
arrays.zarr    arrays, where the function returned any: together along `series`, else a group for each line

A number is claimed before anything is computed, in `derived/<name>/.claims/`, and its folder appears whole.
"""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicomlake.cohorts.computing.fingerprint import Fingerprint, versions
from dicomlake.cohorts.computing.result import Outcome, Result
from dicomlake.errors import DicomlakeError, StorageError, VolumeError
from dicomlake.records import SeriesKey
from dicomlake.storage.objectstore import Storage

_FOLDER = "derived"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_MANIFEST, _VALUES, _TABLE, _ARRAYS = "result.json", "values.jsonl", "table.csv", "arrays.zarr"
_TOGETHER, _EACH = "together", "each"
_FORMAT = 1
Inputs = tuple[tuple[int, str | None], ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """A result that is kept.

    number: 1, 2 … under its name. at: ISO 8601, UTC. function: its name. series, failed: how many.
    complete: whether no series was left out by an interrupt.
    """

    name: str
    number: int
    at: str
    who: str
    function: str
    sha256: str | None
    series: int
    failed: int
    complete: bool

    @property
    def key(self) -> str:
        """Its folder in the lake."""
        return _key(self.name, self.number)


def derived(storage: Storage) -> list[Derived]:
    """The results that the lake keeps, by name and number."""
    found = []
    for key in storage.list(_FOLDER):
        parts = key.split("/")
        if len(parts) == 4 and parts[3] == _MANIFEST and parts[2].isdigit():
            found.append(_listed(_manifest(storage, parts[1], int(parts[2]))))
    return sorted(found, key=lambda one: (one.name, one.number))


def open_derived(storage: Storage, name: str, number: int | None = None) -> Result:
    """A result as it was, the newest of its name unless numbered; `facts` say how it was made.

    Raises VolumeError when there is none.
    """
    _check_name(name)
    numbers = [one.number for one in derived(storage) if one.name == name]
    if not numbers or (number is not None and number not in numbers):
        raise VolumeError(f"the lake keeps no such result under {name!r}: see lake.derived()")
    return _opened(storage, name, max(numbers) if number is None else number)


class Keeping:
    """A result that is going to be kept under a number that is claimed for it."""

    def __init__(
        self,
        storage: Storage,
        name: str,
        code: Fingerprint,
        number: int,
        former: tuple[int, Result] | None,
        facts: Mapping[str, Any],
    ) -> None:
        self._storage, self._name, self._code = storage, name, code
        self._number, self._former, self._facts = number, former, facts

    def found(self, keys: Sequence[SeriesKey], inputs: Sequence[Inputs]) -> dict[int, Outcome]:
        """By position, what the same code made of the same volumes of these series before."""
        outcomes = self._former[1].outcomes if self._former else ()
        known = {(one.series, one.inputs): one for one in outcomes if one.ok and one.inputs}
        pairs = enumerate(zip(keys, inputs, strict=True))
        return {position: known[pair] for position, pair in pairs if pair in known}

    def kept(
        self, result: Result, inputs: Sequence[Inputs], *, reused: int, told: Mapping[str, Any]
    ) -> Result:
        """The result after it is durable; one that says what the former said is not written again.

        inputs: (number, store_sha256) of the volumes of each series, when they were asked for.
        """
        pairs = zip(result.outcomes, inputs, strict=True)
        result = replace(result, outcomes=[replace(one, inputs=given) for one, given in pairs])
        if self._former is not None and _same(self._former[1].outcomes, result.outcomes):
            note = f"all of it was there already: {_key(self._name, self._former[0])}"
            self._storage.delete(_claim(self._name, self._number))
            return replace(self._former[1], note=note)
        resumed = self._former[0] if self._former and reused else None
        manifest = self._manifest(result, told, resumed)
        _write(self._storage, self._name, self._number, result, manifest)
        taken = f", {reused} series were taken from number {resumed}" if resumed else ""
        return replace(result, note=f"kept as {_key(self._name, self._number)}{taken}", facts=manifest)

    def _manifest(self, result: Result, told: Mapping[str, Any], resumed: int | None) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "name": self._name,
            "number": self._number,
            **self._facts,
            "function": {"name": self._code.name, "code": self._code.code, "sha256": self._code.sha256},
            **told,
            "versions": dict(versions()),
            "resumed_from": resumed,
            "complete": not result.interrupted,
            "series": len(result),
            "failures": {one.series.series_uid: _told(one) for one in result.failures},
        }


def keeping(
    storage: Storage, name: str, code: Fingerprint, *, change: int | None = None, who: str | None = None
) -> Keeping:
    """Claim the next number under a name, and look for what the same code made before.

    Raises ValueError for a name that cannot be a folder's, StorageError where nothing can be written.
    """
    _check_name(name)
    listed = [one for one in derived(storage) if one.name == name]
    same = [one.number for one in listed if code.sha256 is not None and one.sha256 == code.sha256]
    former = (max(same), _opened(storage, name, max(same))) if same else None
    number = 1 + max((one.number for one in listed), default=0)
    while not storage.put(_claim(name, number), b""):
        number += 1
    at = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"at": at, "who": who or getpass.getuser(), "change": change}
    return Keeping(storage, name, code, number, former, facts)


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise ValueError(
            "a result's name has up to 64 letters, digits, '_', '.' and '-', no blanks or slashes"
        )


def _key(name: str, number: int) -> str:
    return f"{_FOLDER}/{name}/{number}"


def _claim(name: str, number: int) -> str:
    return f"{_FOLDER}/{name}/.claims/{number}"


def _same(former: Sequence[Outcome], now: Sequence[Outcome]) -> bool:
    """Whether nothing was computed that was not there: the same series, those that failed in the same way."""

    def told(outcomes: Sequence[Outcome]) -> list[Any]:
        return [(one.series, one.inputs, one.error) for one in outcomes]

    return told(former) == told(now)


def _told(one: Outcome) -> str:
    """The kind of an error, and its text where that is ours: other texts may hold anything."""
    return f"{one.error}: {one.message}" if one.error in _OURS else str(one.error)


def _kinds(of: type[BaseException]) -> Iterator[str]:
    yield of.__name__
    for kind in of.__subclasses__():
        yield from _kinds(kind)


_OURS = frozenset(_kinds(DicomlakeError))


# ---- writing -----------------------------------------------------------------------------------------


def _write(storage: Storage, name: str, number: int, result: Result, manifest: dict[str, Any]) -> None:
    tree = storage.stage_tree(_key(name, number))
    folder = storage.local_path(tree)
    if folder is None:
        raise StorageError("derived results are kept in lakes on a file system: leave name= out")
    manifest["arrays"] = _write_arrays(folder / _ARRAYS, result.outcomes)
    lines = [json.dumps(_line(one), ensure_ascii=False) for one in result.outcomes]
    (folder / _VALUES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    table = result.table().drop(columns="message")
    table.to_csv(folder / _TABLE, index=False)
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
    storage.publish_tree(tree, _key(name, number))


def _line(one: Outcome) -> dict[str, Any]:
    found = {
        "SeriesInstanceUID": one.series.series_uid,
        "StudyInstanceUID": one.series.study_uid,
        "volumes": [list(each) for each in one.inputs],
    }
    if not one.ok:
        return found | {"error": one.error, "message": one.message if one.error in _OURS else ""}
    kind = _kind(one.value)
    if kind == "frame":
        return found | {
            "kind": kind,
            "value": json.loads(one.value.to_json(orient="split", double_precision=15)),
        }
    return found | {"kind": kind, "value": None if kind == "array" else one.value}


def _kind(value: Any) -> str:
    import pandas as pd

    if hasattr(value, "dims"):
        return "array"
    return "frame" if isinstance(value, pd.DataFrame) else "value"


def _write_arrays(store: Path, outcomes: Sequence[Outcome]) -> str | None:
    """The arrays together where they fit, else apart; how they are kept."""
    from dicomlake.cohorts.computing.combined import as_dataset, joined

    arrays = [(str(i), one.value) for i, one in enumerate(outcomes) if one.ok and _kind(one.value) == "array"]
    if not arrays:
        return None
    try:
        joined(arrays, "exact").reset_index("series", drop=True).to_zarr(store, consolidated=False)
        return _TOGETHER
    except ValueError:
        for group, value in arrays:
            as_dataset(value).to_zarr(store, group=group, consolidated=False)
        return _EACH


# ---- reading -----------------------------------------------------------------------------------------


def _manifest(storage: Storage, name: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(storage.get(f"{_key(name, number)}/{_MANIFEST}"))
    return found


def _listed(told: Mapping[str, Any]) -> Derived:
    function = told["function"]
    return Derived(
        *(told["name"], told["number"], told["at"], told["who"], function["name"], function["sha256"]),
        *(told["series"], len(told["failures"]), told["complete"]),
    )


def _opened(storage: Storage, name: str, number: int) -> Result:
    told = _manifest(storage, name, number)
    text = storage.get(f"{_key(name, number)}/{_VALUES}").decode("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    arrays = _arrays(storage.local_path(f"{_key(name, number)}/{_ARRAYS}"), told["arrays"], lines)
    outcomes = [_outcome(line, next(arrays) if line.get("kind") == "array" else None) for line in lines]
    return Result(outcomes, not told["complete"], f"kept as {_key(name, number)}", told)


def _outcome(line: Mapping[str, Any], array: Any) -> Outcome:
    key = SeriesKey(line["StudyInstanceUID"], line["SeriesInstanceUID"])
    inputs = tuple((int(number), sha256) for number, sha256 in line["volumes"])
    if "error" in line:
        return Outcome(key, None, line["error"], line["message"], inputs)
    return Outcome(key, array if array is not None else _value(line), inputs=inputs)


def _value(line: Mapping[str, Any]) -> Any:
    if line["kind"] != "frame":
        return line["value"]
    import pandas as pd

    return pd.DataFrame(**line["value"])


def _arrays(store: Path | None, kept: str | None, lines: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The Datasets of the lines that have one, in order, lazily."""
    import xarray as xr

    if kept is None or store is None:
        return
    numbers = [i for i, line in enumerate(lines) if line.get("kind") == "array"]
    if kept == _TOGETHER:
        whole = xr.open_zarr(store, consolidated=False)
        yield from (whole.isel(series=place) for place in range(len(numbers)))
    else:
        yield from (xr.open_zarr(store, group=str(i), consolidated=False) for i in numbers)
