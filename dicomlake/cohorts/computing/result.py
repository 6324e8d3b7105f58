"""What mapping a function over a cohort gave: a value or a failure for each series."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dicomlake.records import SeriesKey

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Scalar = bool | int | float | str | None
RESERVED = ("SeriesInstanceUID", "StudyInstanceUID", "error", "message")
NOT_COMPUTED = "NotComputed"
_ALLOWED = "return a number, text, a dict of these by name, a DataFrame, a DataArray or a Dataset"
_FEW = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one series.

    value: what the function returned; None, too, where it failed. error: the type of the exception, None
    where there was none; NOT_COMPUTED where it was not begun. message: its text.
    inputs: (number, store_sha256) of the volumes that the series had.
    """

    series: SeriesKey
    value: Any = None
    error: str | None = None
    message: str = ""
    inputs: tuple[tuple[int, str | None], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Result:
    """Outcomes in the order of the series.

    interrupted: some series were not begun. note: where it is kept, and what was taken from there.
    facts: how it was made, for results that are kept: function, arguments, versions, change, who, at.
    """

    outcomes: Sequence[Outcome]
    interrupted: bool = False
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> list[Any]:
        """What the function returned for each series; None where it failed."""
        return [one.value for one in self.outcomes]

    @property
    def failures(self) -> list[Outcome]:
        """The series without a value."""
        return [one for one in self.outcomes if not one.ok]

    def table(self) -> pd.DataFrame:
        """One row a series with SeriesInstanceUID, what was returned, and `error` and `message`.

        A dict gives a column for each of its names, a number or text the column `value`, a DataFrame as many
        rows as it has. Arrays are in `dataset()`.
        """
        import pandas as pd

        rows = [row for one in self.outcomes for row in _rows(one)]
        names = dict.fromkeys(name for row in rows for name in row if name not in RESERVED)
        columns = ["SeriesInstanceUID", *names, "error", "message", "StudyInstanceUID"]
        return pd.DataFrame(rows, columns=columns)

    def dataset(self, join: Literal["exact", "outer", "inner"] = "exact") -> xr.Dataset:
        """What was returned as arrays, along a first dimension `series`; series that failed are not in it.

        join: "outer" where the arrays have unlike coordinates, which leaves NaN; "exact" refuses them.
        Raises ValueError when no array was returned, or they do not fit together.
        """
        from dicomlake.cohorts.computing.combined import joined

        return joined([(one.series.series_uid, one.value) for one in self.outcomes if one.ok], join)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __repr__(self) -> str:
        failed = self.failures
        parts = [f"<Result of {len(self)} series: {len(self) - len(failed)} computed"]
        kinds: dict[str, int] = {}
        for one in failed:
            kinds[str(one.error)] = kinds.get(str(one.error), 0) + 1
        parts += [f"{count} {kind}" for kind, count in kinds.items()]
        return (
            ", ".join(parts)
            + (", interrupted" if self.interrupted else "")
            + f"{self.note and '; '}{self.note}>"
        )

    def _repr_html_(self) -> str:
        title = html.escape(repr(self).strip("<>"))
        return f"<div><strong>{title}</strong>{self.table().head(_FEW).to_html(escape=True)}</div>"


def _rows(one: Outcome) -> list[dict[str, Any]]:
    import pandas as pd

    ends = {"error": one.error, "message": one.message or None, "StudyInstanceUID": one.series.study_uid}
    start = {"SeriesInstanceUID": one.series.series_uid}
    if isinstance(one.value, pd.DataFrame):
        return [start | {str(k): v for k, v in row.items()} | ends for row in one.value.to_dict("records")]
    if isinstance(one.value, Mapping) and not hasattr(one.value, "dims"):
        return [start | dict(one.value) | ends]
    if one.ok and not hasattr(one.value, "dims"):
        return [start | {"value": one.value} | ends]
    return [start | ends]


def plain(value: Any) -> Any:
    """A returned value as a result holds it: numbers as Python's, arrays computed.

    Raises TypeError for what no table or Dataset can hold, and for names that the table needs itself.
    """
    import pandas as pd
    import xarray as xr

    if isinstance(value, xr.DataArray | xr.Dataset):
        from dicomlake.cohorts.computing.combined import computed

        found = computed(value)
        return found.item() if isinstance(found, xr.DataArray) and not found.dims else found
    if isinstance(value, pd.DataFrame):
        _check_names(list(map(str, value.columns)))
        return value
    if isinstance(value, pd.Series):
        value = value.to_dict()
    if isinstance(value, Mapping):
        _check_names(list(map(str, value)))
        return {str(name): _scalar(given) for name, given in value.items()}
    return _scalar(value)


def _check_names(names: Sequence[str]) -> None:
    taken = [name for name in names if name in RESERVED]
    if taken:
        raise TypeError(f"the name {taken[0]!r} is one of the table's own: give the value another name")


def _scalar(value: Any) -> Scalar:
    if hasattr(value, "compute"):
        value = value.compute(scheduler="synchronous")
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the function returned a {type(value).__name__}: {_ALLOWED}")
