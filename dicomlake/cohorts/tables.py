"""Tables of a cohort: one row a series, or a patient, a study, a volume or an instance of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.schema import SERIES_COLUMNS, VOLUME_COLUMNS
from dicomlake.cohorts.source import Source
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

LEVELS = ("patient", "study", "series", "volume", "instance")
_GROUPS = {
    "patient": ("PatientID", "IssuerOfPatientID"),
    "study": ("StudyInstanceUID",),
}
_SHOWN = {
    "patient": ("PatientSex", "Modality", "StudyDate"),
    "study": ("PatientID", "StudyDate", "StudyDescription", "AccessionNumber", "Modality"),
}


def table(
    source: Source, ids: npt.NDArray[np.int64], columns: Sequence[str] = (), level: str = "series"
) -> pd.DataFrame:
    """One row for each thing of a level, in the order of the ids.

    columns: elements and facts; those that are usual for the level unless given. A cell is a tuple where
        several values are held.
    Raises QueryError for a level or a column that there is not.
    """
    if level == "series":
        return _last_uids(_series(source, ids, columns))
    if level in _GROUPS:
        return _last_uids(_grouped(source, ids, columns, level))
    if level == "volume":
        return _last_uids(_volumes(source, ids, columns))
    if level == "instance":
        return _last_uids(_instances(source, ids, columns))
    raise QueryError(f"a level is one of {', '.join(LEVELS)}, not {level!r}")


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Columns as they are; whole numbers stay whole where some are missing."""
    import pandas as pd

    found = pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})
    for name in found.columns:
        kinds = {type(value) for value in found[name] if value is not None}
        if kinds and kinds <= {int}:
            found[name] = found[name].astype("Int64")
        elif kinds and kinds <= {int, float}:
            found[name] = found[name].astype("float64")
    return found


def _last_uids(found: pd.DataFrame) -> pd.DataFrame:
    """UIDs last, as they are long and seldom read."""
    return found[sorted(found.columns, key=lambda name: str(name).endswith("UID"))]


def _series(source: Source, ids: npt.NDArray[np.int64], columns: Sequence[str]) -> pd.DataFrame:
    if not columns:
        return source.series_table(ids, SERIES_COLUMNS)
    wanted = list(dict.fromkeys((*columns, "SeriesInstanceUID")))
    return _frame(source.columns(ids, wanted))


def _grouped(source: Source, ids: npt.NDArray[np.int64], columns: Sequence[str], level: str) -> pd.DataFrame:
    """One row a patient or study: how many of what is below it, and the values that occur in it."""
    by = list(_GROUPS[level])
    counted = (*by, "studies", "series", "instances")
    shown = [name for name in columns or _SHOWN[level] if name not in counted]
    facts = source.series_table(ids, [*by, "StudyInstanceUID", "instances"])
    facts = facts.loc[:, ~facts.columns.duplicated()]
    groups = facts.groupby(by, sort=False, dropna=False)
    found = groups.agg(
        studies=("StudyInstanceUID", "nunique"), series=("instances", "size"), instances=("instances", "sum")
    )
    number = groups.ngroup().to_numpy()
    for name, values in source.columns(ids, shown).items():
        found[name] = _gathered(values, number, len(found))
    if level == "study":
        found = found.drop(columns="studies")
    return found.reset_index()


def _gathered(values: Sequence[Any], number: npt.NDArray[Any], groups: int) -> list[Any]:
    """The distinct values of each group: one, a tuple of several, or None."""
    held: list[dict[Any, None]] = [{} for _ in range(groups)]
    for value, group in zip(values, number.tolist(), strict=True):
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                held[group][one] = None
    return [None if not some else next(iter(some)) if len(some) == 1 else tuple(some) for some in held]


def _volumes(source: Source, ids: npt.NDArray[np.int64], columns: Sequence[str]) -> pd.DataFrame:
    from dataclasses import asdict

    keys = source.keys_of(ids)
    volumes = source.volumes_of(keys)
    rows = [(place, one) for place, key in enumerate(keys) for one in volumes.get(key, ())]
    wanted = [name for name in columns or VOLUME_COLUMNS if name in VOLUME_COLUMNS]
    further = [name for name in columns if name not in VOLUME_COLUMNS]
    facts = [asdict(one) | one.info | {"built": one.built} for _place, one in rows]
    found: dict[str, list[Any]] = {name: [fact.get(name) for fact in facts] for name in wanted}
    of_series = source.columns(ids, further) if further else {}
    found |= {name: [values[place] for place, _one in rows] for name, values in of_series.items()}
    found["number"] = [one.number for _place, one in rows]
    found["StudyInstanceUID"] = [one.series.study_uid for _place, one in rows]
    found["SeriesInstanceUID"] = [one.series.series_uid for _place, one in rows]
    return _frame(found)


def _instances(source: Source, ids: npt.NDArray[np.int64], columns: Sequence[str]) -> pd.DataFrame:
    """One row a stored object, and what its own header says."""
    found: dict[str, list[Any]] = {"SOPInstanceUID": [], "SeriesInstanceUID": []}
    found |= {name: [] for name in columns}
    for series_id, key in zip(ids.tolist(), source.keys_of(ids), strict=True):
        uids, values = source.instance_columns(series_id, columns)
        found["SOPInstanceUID"] += uids
        found["SeriesInstanceUID"] += [key.series_uid] * len(uids)
        for name in columns:
            found[name] += values[name]
    return _frame(found)
